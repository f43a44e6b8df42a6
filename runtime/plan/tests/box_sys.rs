//! Descriptions of machines: what is written is read, and nothing else is.

use onebit_plan::box_sys::{BOX_LIMIT, BoxDescription, BoxError};
use onebit_test_support::strix_halo;

#[test]
fn what_is_written_is_read() {
    let text = strix_halo().to_text().unwrap();
    assert!(text.starts_with("{\n  \"onebit_box\": 1,\n"), "{text}");
    assert_eq!(BoxDescription::parse(&text).unwrap(), strix_halo());
    // The hash is of the machine, not of the spaces between.
    let dense = text.replace("\n", "").replace("  ", "");
    let dense = BoxDescription::parse(&dense).unwrap();
    assert_eq!(dense.hash().unwrap(), strix_halo().hash().unwrap());
    let mut other = strix_halo();
    other.memory.bytes += 1;
    assert_ne!(other.hash().unwrap(), strix_halo().hash().unwrap());
}

#[test]
fn what_is_not_known_is_refused() {
    let text = strix_halo().to_text().unwrap();
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
        ("\"x86_64\"", "\"pdp11\"", "processor.architecture: expected x86_64 or aarch64"),
        ("\"avx512\"", "\"avx1024\"", "processor.kernels"),
        ("\"data\"", "\"date\"", "processor.caches.kind"),
        ("\"checked\": true", "\"checked\": false", "memory.read.checked"),
        ("\"bytes_per_second\": 100000000000", "\"bytes_per_second\": 0", "1 to"),
        ("99000000000", "100000000001", "median"),
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
    let text = strix_halo().to_text().unwrap();
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
