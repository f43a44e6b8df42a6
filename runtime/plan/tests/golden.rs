//! The segment of golden vectors: read as it was written, and refused where it says what the
//! manifest does not hold.

use onebit_plan::abi::StorageClass;
use onebit_plan::golden::{
    Distance, Golden, GoldenSum, GoldenSums, GoldenValue, SKETCH_GROUP, Sketch, TopLogit,
};
use onebit_plan::manifest::{Manifest, ModelInfo, SegmentKind, WeightRecord};
use onebit_plan::{PlanError, PlanFile, PlanWriter};
use onebit_test_support::bare_manifest;

const VOCABULARY: u32 = 64;

fn manifest() -> Manifest {
    let bare = bare_manifest();
    Manifest {
        model: ModelInfo { vocabulary: VOCABULARY, context: 16, trained_context: 16, ..bare.model },
        weights: vec![WeightRecord {
            tensors: vec!["output.weight".into()],
            format: "q4_0".into(),
            class: StorageClass::Q4D,
            rows: 18,
            columns: 32,
            offset: 0,
            bytes: 640,
        }],
        ..bare
    }
}

fn value(name: &str, columns: u32) -> GoldenValue {
    let row: Vec<f32> = (0..columns).map(|i| i as f32).collect();
    let (sketch, noise) = (Sketch::of(&row), Distance::default());
    GoldenValue { value: name.into(), node: "linear".into(), columns, sketch, noise }
}

fn golden() -> Golden {
    let sum = GoldenSum { sum: -5, scale: 0.5, min: -0.0 };
    Golden {
        tokens: vec![1, 63],
        top: vec![TopLogit { token: 63, logit: 2.0 }, TopLogit { token: 5, logit: 1.0 }],
        values: vec![value("%3", 10), value("%9", VOCABULARY)],
        // The second tile has two rows.
        sums: vec![GoldenSums {
            weight: 0,
            tile: 1,
            seed: 9,
            groups: vec![0, 1],
            sums: vec![sum; 4],
        }],
    }
}

fn read(golden: &Golden) -> Result<Option<Golden>, PlanError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.plan");
    let mut writer = PlanWriter::create(&path)?;
    for (kind, bytes) in [(SegmentKind::CpuCode, 16), (SegmentKind::Weights, 640)] {
        writer.begin_segment(kind)?;
        writer.write(&vec![0; bytes])?;
        writer.end_segment()?;
    }
    writer.write_golden(golden)?;
    writer.finish(manifest())?;
    PlanFile::open(&path)?.golden()
}

#[test]
fn they_are_read_as_they_were_written() {
    assert_eq!(read(&golden()).unwrap(), Some(golden()));
    assert_eq!(value("%3", 10).sketch.sums.len(), 10usize.div_ceil(SKETCH_GROUP));
}

#[test]
fn what_the_manifest_does_not_hold_is_refused() {
    type Damage = fn(&mut Golden);
    let cases: [(&str, Damage); 14] = [
        ("no tokens", |it| it.tokens.clear()),
        ("more tokens than the context", |it| it.tokens = vec![0; 17]),
        ("a token outside", |it| it.tokens[0] = VOCABULARY),
        ("no logits", |it| it.top.clear()),
        ("too many logits", |it| it.top = vec![it.top[0]; 65]),
        ("a logit outside", |it| it.top[0].token = VOCABULARY),
        ("no values", |it| it.values.clear()),
        ("logits of another width", |it| it.values.truncate(1)),
        ("a sketch too short", |it| it.values[0].sketch.sums.truncate(1)),
        ("a weight outside", |it| it.sums[0].weight = 1),
        ("a tile outside", |it| it.sums[0].tile = 2),
        ("no groups", |it| it.sums[0].groups.clear()),
        ("a group outside", |it| it.sums[0].groups[0] = 2),
        ("too few sums", |it| it.sums[0].sums.truncate(3)),
    ];
    for (name, damage) in cases {
        let mut golden = golden();
        damage(&mut golden);
        let error = read(&golden).expect_err(name);
        assert!(matches!(error, PlanError::Malformed { .. }), "{name}: {error}");
        assert!(error.to_string().contains("golden"), "{name}: {error}");
    }
}
