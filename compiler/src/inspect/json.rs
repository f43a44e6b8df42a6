//! A plan as JSON: all of its manifest, and what the compiler predicts of it.
//!
//! The names are documented in docs/inspect-json.md and are an interface: a name goes away or
//! changes its meaning only with a new number of the schema.

use onebit_plan::{FORMAT_VERSION, PlanFile};
use serde_json::{Value, json};

use super::predict;

/// Number of the schema.
pub const SCHEMA: u32 = 1;

/// Everything that a plan says, hashes as hexadecimal digits.
///
/// # Errors
/// When the manifest has no form in JSON: a bug of ours.
pub fn plan(plan: &PlanFile) -> Result<Value, serde_json::Error> {
    let manifest = plan.manifest();
    let mut value = serde_json::to_value(manifest)?;
    hexadecimal(&mut value);
    let entry = |entry: &onebit_plan::gpu::GpuEntry| {
        let work = predict::gpu(manifest, entry);
        json!({
            "name": entry.name,
            "max_rows": entry.max_rows,
            "dispatches": entry.dispatches.len(),
            "waits": entry.dispatches.iter().filter(|dispatch| dispatch.wait).count(),
            "weight_bytes": work.iter().map(|work| work.bytes).sum::<u64>(),
            "seconds": work.iter().map(|work| work.seconds).sum::<f64>(),
            "work": work.iter().map(piece).collect::<Vec<_>>(),
        })
    };
    let gpu: Option<Vec<Value>> =
        manifest.gpu.as_ref().map(|gpu| gpu.entries.iter().map(entry).collect());
    let array = manifest.array.as_ref().map(|_| {
        let work = predict::array(manifest);
        json!({
            "seconds": work.iter().map(|work| work.seconds).sum::<f64>(),
            "work": work.iter().map(piece).collect::<Vec<_>>(),
        })
    });
    Ok(json!({
        "schema": SCHEMA,
        "format": FORMAT_VERSION,
        "file": { "bytes": plan.file_length() },
        "signature": plan.signature().map(|block| json!({ "key": block.key_id.to_string() })),
        "manifest": value,
        "predicted": { "machine": "Strix Halo", "gpu": gpu, "array": array },
    }))
}

fn piece(work: &predict::Work) -> Value {
    json!({
        "region": work.region,
        "weight_bytes": work.bytes,
        "macs": work.macs,
        "seconds": work.seconds,
    })
}

/// Turns lists of 32 bytes under a name that ends in `hash` to text.
fn hexadecimal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let bytes = field.as_array().and_then(|items| bytes_of(items));
                match bytes.filter(|_| name.ends_with("hash")) {
                    Some(bytes) => {
                        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                        *field = Value::String(digits.collect());
                    }
                    None => hexadecimal(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hexadecimal),
        _ => {}
    }
}

fn bytes_of(items: &[Value]) -> Option<Vec<u8>> {
    if items.len() != 32 {
        return None;
    }
    items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect()
}
