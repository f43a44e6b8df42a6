//! A profile in the JSON form of Chrome's traces, which Perfetto and chrome://tracing open.
//!
//! Complete events (`X`) with begin and length in microseconds: a step holds its layers, and a layer
//! its pieces, which nest because each lies within the other on the same track. Pieces of a neural
//! processor have a track of their own. The format: "Trace Event Format", Chromium project.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Origin, Piece, Place, StepProfile};

/// A whole trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub trace_events: Vec<Event>,
    pub display_time_unit: &'static str,
    /// What was run, for people.
    pub other_data: Map<String, Value>,
}

/// An event: `M` names a track, `X` is a stretch of time on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cat: Option<&'static str>,
    pub ph: &'static str,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dur: Option<f64>,
    pub pid: u32,
    /// Each process has one thread, of its own number: readers may take threads of one number for one.
    pub tid: u32,
    pub args: Map<String, Value>,
}

/// The device that runs the steps.
const DEVICE: u32 = 1;
/// A neural processor.
const ARRAY: u32 = 2;

/// The trace of a profile's run of median length on a device of this name.
pub fn trace(profile: &StepProfile, device: &str, model: &str) -> Trace {
    let on_vulkan = profile.pieces.iter().any(|piece| piece.place == Place::Vulkan);
    let mut events = vec![
        named("process_name", DEVICE, device.into()),
        named("thread_name", DEVICE, if on_vulkan { "queue" } else { "team" }.into()),
    ];
    let modelled = |piece: &&Piece| piece.origin == Origin::Modelled;
    if profile.pieces.iter().any(|piece| piece.place == Place::Npu) {
        let name = match profile.pieces.iter().find(modelled) {
            Some(_) => "NPU (modelled, never measured)",
            None => "NPU",
        };
        events.push(named("process_name", ARRAY, name.into()));
        events.push(named("thread_name", ARRAY, "array".into()));
    }
    if let (Some(first), Some(last)) = (profile.pieces.first(), profile.pieces.last()) {
        let args = json!({ "rows": profile.rows, "pieces": profile.pieces.len() });
        let name = format!("step {}", profile.entry);
        events.push(stretch((name, "step"), DEVICE, (first.begin, last.end), args));
    }
    for layer in profile.pieces.chunk_by(|a, b| a.layer == b.layer) {
        if let ([first, ..], [.., last], Some(number)) = (layer, layer, layer[0].layer) {
            let args = json!({ "layer": number });
            let name = format!("layer {number}");
            events.push(stretch((name, "layer"), DEVICE, (first.begin, last.end), args));
        }
        events.extend(layer.iter().map(|piece| event(piece, profile.rows)));
    }
    let data = json!({
        "model": model,
        "device": device,
        "entry": profile.entry,
        "rows": profile.rows,
        "run": "the one of median length",
        "roof": profile.roof,
    });
    Trace { trace_events: events, display_time_unit: "ns", other_data: object(data) }
}

fn event(piece: &Piece, rows: u32) -> Event {
    let args = json!({
        "node": piece.region,
        "regions": piece.regions,
        "ops": piece.ops,
        "kernel": piece.kernel,
        "layer": piece.layer,
        "bytes": piece.weight_bytes,
        "macs": piece.macs,
        "rows": rows,
        "origin": piece.origin,
        "median_us": piece.seconds * 1e6,
        "predicted_us": piece.predicted.map(|seconds| seconds * 1e6),
    });
    let track = if piece.place == Place::Npu { ARRAY } else { DEVICE };
    let category = match piece.place {
        Place::Vulkan => "dispatch",
        Place::Cpu | Place::Npu => "region",
    };
    stretch((piece.region.clone(), category), track, (piece.begin, piece.end), args)
}

/// Begin and end are rounded alike, so that what lies within another does so in the text, too.
fn stretch(
    (name, category): (String, &'static str),
    pid: u32,
    (begin, end): (f64, f64),
    args: Value,
) -> Event {
    let (begin, end) = ((begin * 1e9).round(), (end * 1e9).round());
    Event {
        name,
        cat: Some(category),
        ph: "X",
        ts: Some(begin / 1e3),
        dur: Some((end - begin) / 1e3),
        pid,
        tid: pid,
        args: object(args),
    }
}

/// Names a process or a thread.
fn named(what: &str, pid: u32, name: String) -> Event {
    let args = object(json!({ "name": name }));
    Event { name: what.into(), cat: None, ph: "M", ts: None, dur: None, pid, tid: pid, args }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
