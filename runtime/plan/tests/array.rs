//! A plan's part for a neural processor: written, read, and refused where it does not fit itself.

use onebit_plan::abi::ArrayRole;
use onebit_plan::manifest::{
    ArrayCall, ArrayGroup, ArrayPlan, ArrayWeights, Entry, Manifest, SegmentKind,
};
use onebit_plan::{PlanError, PlanFile, PlanWriter};
use onebit_test_support::bare_manifest;

const SEGMENTS: [(SegmentKind, usize); 5] = [
    (SegmentKind::CpuCode, 100),
    (SegmentKind::Tokenizer, 10),
    (SegmentKind::ArrayConfiguration, 50),
    (SegmentKind::ArrayCalls, 80),
    (SegmentKind::Weights, 64 * 64 + 4 * 64),
];

fn manifest() -> Manifest {
    let entry = Entry { name: "step".into(), offset: 0, max_rows: 32, ..Entry::default() };
    Manifest {
        entries: vec![entry],
        array: Some(ArrayPlan {
            calls: vec![ArrayCall {
                offset: 16,
                length: 64,
                activations: 2 * 32 * 64,
                weights: 64 * 64,
                results: 4 * 32 * 64,
                modelled_seconds: 1e-4,
                modelled_bound: 1e-5,
            }],
            products: vec![ArrayWeights {
                tensors: vec!["output.weight".into()],
                format: "q4_0".into(),
                first_row: 0,
                rows: 64,
                columns: 64,
                group: 64,
                role: ArrayRole::Plain,
                call: 0,
                offset: 0,
                bytes: 64 * 64,
                rounding: 0.01,
                expected_error: 0.05,
            }],
            groups: vec![ArrayGroup { first: 0, count: 1 }],
            group_seconds: 0.25,
        }),
        ..bare_manifest()
    }
}

/// Writes a plan with these segments. Writer and reader run the same checks.
fn write(segments: &[(SegmentKind, usize)], manifest: Manifest) -> Result<(), PlanError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.plan");
    let mut writer = PlanWriter::create(&path)?;
    for &(kind, bytes) in segments {
        writer.begin_segment(kind)?;
        writer.write(&vec![1; bytes])?;
        writer.end_segment()?;
    }
    let written = writer.finish(manifest)?;
    let plan = PlanFile::open(&path)?;
    assert_eq!(plan.manifest(), &written);
    assert!(plan.dump().contains("modelled 100.0 us"), "{}", plan.dump());
    Ok(())
}

#[test]
fn a_part_that_fits_is_read() {
    write(&SEGMENTS, manifest()).unwrap();
}

#[test]
fn a_part_that_does_not_fit_is_refused() {
    type Change = fn(&mut ArrayCall, &mut ArrayWeights);
    let changes: [(&str, Change); 14] = [
        ("no group", |_, product| product.group = 0),
        ("a group whose sums overflow", |_, product| product.group = 2048),
        ("groups that are no bricks", |_, product| product.group = 48),
        ("groups without end", |_, product| (product.columns, product.group) = (u32::MAX, 1)),
        ("no rows", |_, product| product.rows = 0),
        ("more rows than bytes", |_, product| product.rows = 65),
        ("no such call", |_, product| product.call = 1),
        ("an odd offset", |_, product| product.offset = 4),
        ("scales behind the segment", |_, product| product.offset = 64),
        ("bytes beyond counting", |_, product| product.bytes = u64::MAX),
        ("few activations", |call, _| call.activations -= 1),
        ("few results", |call, _| call.results -= 1),
        ("other weights", |call, _| call.weights += 1),
        ("a stream behind its segment", |call, _| call.length = 68),
    ];
    for (what, change) in changes {
        let mut manifest = manifest();
        let part = manifest.array.as_mut().unwrap();
        change(&mut part.calls[0], &mut part.products[0]);
        let error = write(&SEGMENTS, manifest).expect_err(what);
        assert!(matches!(error, PlanError::Malformed { .. }), "{what}: {error}");
    }
}

/// Two products of half the rows each, one behind the other.
fn manifest_of_two() -> Manifest {
    let mut manifest = manifest();
    let part = manifest.array.as_mut().unwrap();
    (part.calls[0].weights, part.products[0].bytes) = (32 * 64, 32 * 64);
    part.products[0].rows = 32;
    let second = ArrayWeights { first_row: 32, offset: 32 * 64 + 128, ..part.products[0].clone() };
    part.products.push(second);
    part.groups[0].count = 2;
    manifest
}

#[test]
fn groups_hold_each_product_once_and_keep_to_their_time() {
    write(&SEGMENTS, manifest_of_two()).unwrap();
    let group = |first, count| ArrayGroup { first, count };
    let mut apart = manifest_of_two();
    apart.array.as_mut().unwrap().groups = vec![group(0, 1), group(1, 1)];
    apart.array.as_mut().unwrap().group_seconds = 1e-9;
    write(&SEGMENTS, apart).unwrap();
    for groups in [
        vec![],
        vec![group(0, 0)],
        vec![group(0, 1)],
        vec![group(1, 1)],
        vec![group(0, 3)],
        vec![group(0, 1), group(0, 1)],
        vec![group(0, 2), group(1, 1)],
        vec![group(1, u32::MAX)],
    ] {
        let mut manifest = manifest_of_two();
        let text = format!("{groups:?}");
        manifest.array.as_mut().unwrap().groups = groups;
        let error = write(&SEGMENTS, manifest).expect_err(&text);
        assert!(matches!(error, PlanError::Malformed { .. }), "{text}: {error}");
    }
    // Each of the two calls takes 1e-4 seconds.
    for seconds in [1.9e-4, f64::NAN] {
        let mut manifest = manifest_of_two();
        manifest.array.as_mut().unwrap().group_seconds = seconds;
        assert!(write(&SEGMENTS, manifest).is_err(), "{seconds}");
    }
    let mut other = manifest_of_two();
    other.array.as_mut().unwrap().products[1].columns = 63;
    assert!(write(&SEGMENTS, other).is_err(), "another k");
}

/// A gate of 512 and what reads it: one submission.
fn manifest_of_a_gate() -> Manifest {
    let mut manifest = manifest();
    let part = manifest.array.as_mut().unwrap();
    let (codes, shifts) = (2 * 32 * 512, 8 * 4 * 256);
    part.calls = vec![
        ArrayCall {
            activations: 2 * 32 * (64 + 64),
            weights: 1024 * 64 + 8 * 2048,
            results: codes + shifts,
            ..part.calls[0].clone()
        },
        ArrayCall {
            activations: codes + shifts,
            weights: 64 * 512,
            results: 4 * 32 * 64 * 8,
            ..part.calls[0].clone()
        },
    ];
    let gate = ArrayWeights {
        rows: 1024,
        role: ArrayRole::Silu,
        bytes: part.calls[0].weights,
        ..part.products[0].clone()
    };
    let reader = ArrayWeights {
        columns: 512,
        group: 64,
        role: ArrayRole::Gated,
        call: 1,
        offset: gate.bytes + 64,
        bytes: 64 * 512,
        ..part.products[0].clone()
    };
    part.products = vec![gate, reader];
    part.groups = vec![ArrayGroup { first: 0, count: 2 }];
    manifest
}

#[test]
fn a_gate_stands_with_what_reads_it() {
    let segments = SEGMENTS.map(|(kind, bytes)| match kind {
        SegmentKind::Weights => (kind, 200_000),
        _ => (kind, bytes),
    });
    write(&segments, manifest_of_a_gate()).unwrap();
    type Change = fn(&mut ArrayPlan);
    let changes: [(&str, Change); 10] = [
        ("a gate alone", |part| part.products.truncate(1)),
        ("two submissions", |part| {
            part.groups = [0, 1].map(|first| ArrayGroup { first, count: 1 }).into();
        }),
        ("a reader without a gate", |part| part.products[0].role = ArrayRole::Plain),
        ("a gate that is not read", |part| part.products[1].role = ArrayRole::Plain),
        ("two gates", |part| part.products[1].role = ArrayRole::GeluTanh),
        ("other groups", |part| part.products[1].group = 128),
        ("another k", |part| part.products[1].columns = 448),
        ("columns without whole bricks", |part| part.products[0].rows = 512),
        ("no room for a row's constants", |part| part.calls[0].activations -= 1),
        ("no room for shifts", |part| part.calls[0].results -= 1),
    ];
    for (what, change) in changes {
        let mut manifest = manifest_of_a_gate();
        let part = manifest.array.as_mut().unwrap();
        change(part);
        part.groups.iter_mut().for_each(|group| {
            group.count = group.count.min(part.products.len() as u32);
        });
        let error = write(&segments, manifest).expect_err(what);
        assert!(matches!(error, PlanError::Malformed { .. }), "{what}: {error}");
    }
}

#[test]
fn a_plan_has_the_whole_part_or_none() {
    for kind in [SegmentKind::ArrayConfiguration, SegmentKind::ArrayCalls] {
        let rest: Vec<_> = SEGMENTS.into_iter().filter(|segment| segment.0 != kind).collect();
        assert!(write(&rest, manifest()).is_err(), "without {kind:?}");
    }
    assert!(write(&SEGMENTS, Manifest { array: None, ..manifest() }).is_err());
}
