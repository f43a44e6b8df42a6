//! Descriptions of machines: what is written is read, and nothing else is.

use onebit_plan::box_sys::{
    BOX_LIMIT, BOX_VERSION, BoxCache, BoxDescription, BoxError, BoxGpu, BoxGpuKind, BoxMemory,
    BoxNpu, BoxOrigin, BoxProcessor, BoxRate, BoxSoftware,
};
use onebit_plan::gpu::GpuFeature;

fn description() -> BoxDescription {
    BoxDescription {
        onebit_box: BOX_VERSION,
        tool: "0.1.0".into(),
        processor: BoxProcessor {
            architecture: "x86_64".into(),
            model: Some("Fast 9000".into()),
            features: vec!["avx2".into(), "fma".into()],
            kernels: "avx2".into(),
            cores: 16,
            threads: 32,
            caches: vec![BoxCache { level: 1, kind: "data".into(), bytes: 49152, threads: 2 }],
        },
        memory: BoxMemory {
            bytes: 128 << 30,
            read: Some(BoxRate {
                origin: BoxOrigin::Measured,
                bytes_per_second: 200_000_000_000,
                median_bytes_per_second: 199_000_000_000,
                threads: 16,
                bytes: 4 << 30,
                passes: 5,
                checked: true,
            }),
        },
        gpus: vec![BoxGpu {
            name: "Radeon".into(),
            kind: BoxGpuKind::Integrated,
            vendor: 0x1002,
            device: 0x1586,
            vulkan: "1.4.305".into(),
            driver: "radv Mesa 25.0.7".into(),
            features: vec![GpuFeature::IntegerDot, GpuFeature::Float16],
            subgroup_sizes: (32, 64),
            subgroups: 32,
            invocations: 1024,
            immediates: 256,
            shared: 65536,
            window: (4 << 30) - 1,
            buffer: 4 << 30,
            heap: 64 << 30,
            memory: 96 << 30,
        }],
        npu: Some(BoxNpu {
            driver: "amdxdna_accel_driver 0.6.0".into(),
            firmware: None,
            columns: 8,
            rows: 6,
            compute_rows: 4,
        }),
        software: BoxSoftware { system: "linux".into(), kernel: Some("6.17.0".into()) },
    }
}

#[test]
fn what_is_written_is_read() {
    let text = description().to_text().unwrap();
    assert!(text.starts_with("{\n  \"onebit_box\": 1,\n"), "{text}");
    assert_eq!(BoxDescription::parse(&text).unwrap(), description());
    // The hash is of the machine, not of the spaces between.
    let dense = text.replace("\n", "").replace("  ", "");
    let dense = BoxDescription::parse(&dense).unwrap();
    assert_eq!(dense.hash().unwrap(), description().hash().unwrap());
    let mut other = description();
    other.memory.bytes += 1;
    assert_ne!(other.hash().unwrap(), description().hash().unwrap());
}

#[test]
fn what_is_not_known_is_refused() {
    let text = description().to_text().unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        BoxDescription::parse(&text.replacen(from, to, 1)).unwrap_err()
    };
    assert_eq!(with("\"onebit_box\": 1", "\"onebit_box\": 2"), BoxError::Version { found: 2 });
    for (from, to, says) in [
        ("\"tool\"", "\"tools\"", "unknown field `tools`"),
        ("\"Float16\"", "\"Float17\"", "unknown variant `Float17`"),
        ("\"measured\"", "\"guessed\"", "unknown variant `guessed`"),
        ("\"columns\": 8", "\"columns\": -8", "line"),
        ("\"npu\": {", "\"npu\": [", "line"),
        ("\"x86_64\"", "\"pdp11\"", "processor.architecture"),
        ("\"checked\": true", "\"checked\": false", "memory.read.checked"),
        ("\"bytes_per_second\": 200000000000", "\"bytes_per_second\": 0", "1 to"),
        ("199000000000", "200000000001", "median"),
        ("\"cores\": 16", "\"cores\": 33", "processor.cores"),
        ("\"avx2\",\n", "\"sse2\",\n", "processor.features"),
        ("32,\n        64", "64,\n        32", "gpus[0].subgroup_sizes"),
        ("\"compute_rows\": 4", "\"compute_rows\": 7", "npu.compute_rows"),
    ] {
        let error = with(from, to).to_string();
        assert!(error.contains(says), "{from} -> {to}: {error}");
    }
    for text in ["", "{}", "null", "[]", "box", "{\"onebit_box\": \"1\"}", "{\"onebit_box\": 1}"] {
        let error = BoxDescription::parse(text).unwrap_err();
        assert!(matches!(error, BoxError::Syntax { .. }), "{text}: {error}");
        assert!(error.help().contains("onebit-rt probe"));
    }
    let long = " ".repeat(BOX_LIMIT + 1);
    assert_eq!(BoxDescription::parse(&long), Err(BoxError::Length { found: BOX_LIMIT + 1 }));
}

/// Cut and mutated texts give an error or a description, never a panic.
#[test]
fn damaged_texts_are_errors() {
    let text = description().to_text().unwrap();
    for end in 0..text.len() - 2 {
        assert!(BoxDescription::parse(&text[..end]).is_err(), "{end}");
    }
    for at in 0..text.len() {
        for byte in [b'0', b'9', b'"', b'{', b'-'] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(description) = BoxDescription::parse(&text) {
                assert!(description.to_text().is_ok(), "{text}");
            }
        }
    }
}
