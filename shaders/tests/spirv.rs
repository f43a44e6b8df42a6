//! Every kernel compiles, asks for features that the runtime knows, and passes `spirv-val`.

#[path = "common/catalogue.rs"]
#[allow(dead_code, reason = "the other checks use the rest")]
mod catalogue;

use std::io::ErrorKind;
use std::process::Command;

use onebit_plan::gpu::{GpuFeature, binding};
use onebit_shaders::{Kernel, Module, Pass, Source, compile, compile_with};

#[test]
fn kernels_compile_and_are_valid() {
    let kernels = catalogue::kernels();
    let folder = tempfile::tempdir().expect("a folder");
    let mut findings = Vec::new();
    for kernel in &kernels {
        let module = match compile(kernel) {
            Ok(module) => module,
            Err(e) => {
                findings.push(format!("{e}\n{}", numbered(&kernel.wgsl)));
                continue;
            }
        };
        match validate(folder.path(), kernel, &module) {
            Verdict::Valid => {}
            Verdict::Invalid(text) => findings.push(format!("{}: {text}", kernel.name)),
            Verdict::Skipped => {
                println!("skipped: there is no spirv-val in the path");
                break;
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn names_tell_kernels_apart() {
    let kernels = catalogue::kernels();
    for (i, kernel) in kernels.iter().enumerate() {
        for other in &kernels[i + 1..] {
            assert_ne!(kernel.name, other.name);
        }
    }
}

/// Matrices of bytes: the module is written with f16 and f32, and retyped.
#[test]
fn cooperative_matrices_become_integer_ones() {
    let mut source = Source::default();
    source.require("enable f16;");
    source.require("enable wgpu_cooperative_matrix;");
    let logits = source.write(binding::LOGITS);
    source.declare("var<workgroup> a_tile: array<f16, 256>;");
    source.declare("var<workgroup> sums: array<f32, 256>;");
    source.line(format!(
        "for (var i = lane; i < 256u; i += 32u) {{ a_tile[i] = f16(i); }}
workgroupBarrier();
let a = coopLoadT<coop_mat16x16<f16, A>>(&a_tile[0], 16u);
let b = coopLoad<coop_mat16x16<f16, B>>(&a_tile[0], 16u);
var c = coop_mat16x16<f32, C>();
c = coopMultiplyAdd(a, b, c);
coopStoreT(c, &sums[0], 16u);
workgroupBarrier();
{logits}[lane] = sums[lane];"
    ));
    let kernel = source.finish("i8".into(), 32);
    let floats = compile(&kernel).unwrap_or_else(|e| panic!("{e}"));
    assert!(floats.features.contains(&GpuFeature::CooperativeF16));
    let bytes = compile_with(&kernel, &[Pass::CoopToI8]).unwrap_or_else(|e| panic!("{e}"));
    assert!(bytes.features.contains(&GpuFeature::CooperativeI8), "{:?}", bytes.features);
    assert!(bytes.features.contains(&GpuFeature::Int8), "{:?}", bytes.features);
    assert!(!bytes.features.contains(&GpuFeature::CooperativeF16), "{:?}", bytes.features);
    let folder = tempfile::tempdir().expect("a folder");
    for module in [&floats, &bytes] {
        match validate(folder.path(), &kernel, module) {
            Verdict::Valid => {}
            Verdict::Invalid(text) => panic!("{text}\n{}", module.disassemble().expect("text")),
            Verdict::Skipped => println!("skipped: there is no spirv-val in the path"),
        }
    }
}

/// A pass that does not fit says so, and what no device feature is known for is refused.
#[test]
fn what_does_not_fit_is_refused() {
    let mut plain = Source::default();
    let logits = plain.write(binding::LOGITS);
    plain.line(format!("{logits}[lane] = 1.0;"));
    let plain = plain.finish("plain".into(), 32);
    let error = compile_with(&plain, &[Pass::CoopToI8]).expect_err("there are no matrices");
    assert_eq!((error.stage, error.kernel.as_str()), ("edit", "plain"));
    let mut crooked = Source::default();
    crooked.require("enable f16;");
    crooked.require("enable wgpu_cooperative_matrix;");
    crooked.declare("var<workgroup> sums: array<f32, 257>;");
    crooked.line("var c = coop_mat16x16<f32, C>();\ncoopStoreT(c, &sums[0], 16u);");
    let error = compile(&crooked.finish("crooked".into(), 32)).expect_err("257 times 4 bytes");
    assert_eq!(error.stage, "validate");
    assert!(error.message.contains("sums"), "{error}");
    let mut wide = Source::default();
    let logits = wide.write(binding::LOGITS);
    wide.line(format!("{logits}[lane] = f32(u64(lane) << 3u);"));
    let error = compile(&wide.finish("wide".into(), 32)).expect_err("64-bit integers");
    assert_eq!(error.stage, "audit");
    assert!(error.message.contains("Int64"), "{error}");
}

enum Verdict {
    Valid,
    Invalid(String),
    Skipped,
}

fn validate(folder: &std::path::Path, kernel: &Kernel, module: &Module) -> Verdict {
    let path = folder.join(format!("{}.spv", kernel.name));
    let bytes: Vec<u8> = module.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&path, bytes).expect("a file");
    match Command::new("spirv-val").args(["--target-env", "vulkan1.3"]).arg(&path).output() {
        Ok(output) if output.status.success() => Verdict::Valid,
        Ok(output) => Verdict::Invalid(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => Verdict::Skipped,
        Err(e) => Verdict::Invalid(e.to_string()),
    }
}

fn numbered(text: &str) -> String {
    text.lines().enumerate().map(|(i, line)| format!("{:4} {line}\n", i + 1)).collect()
}
