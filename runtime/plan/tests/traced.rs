//! Traced entries as the manifest describes them: twins of the entries, values inside memory.

use onebit_plan::manifest::{
    Entry, Manifest, Memory, Region, Scratch, SegmentKind, Tap, TapRows, TracedEntry, TracedStep,
};
use onebit_plan::{PlanError, PlanFile, PlanWriter};
use onebit_test_support::bare_manifest;

const ROWS: u32 = 4;

fn manifest() -> Manifest {
    let tap = |value: &str, scratch, offset| Tap {
        value: value.into(),
        op: "linear".into(),
        scratch,
        offset,
        columns: 16,
        rows: TapRows::All,
    };
    let region = |name: &str| Region {
        name: name.into(),
        target: "cpu".into(),
        ops: vec!["linear".into()],
        weight_bytes: 0,
        macs: 0,
        reads: Vec::new(),
    };
    let taps = vec![tap("%1", Scratch::Arena, 64), tap("%2", Scratch::Private, 0)];
    let bare = bare_manifest();
    Manifest {
        memory: Memory { arena: 320, private: 256, ..bare.memory },
        entries: vec![Entry { name: "step".into(), offset: 0, max_rows: ROWS, ..Entry::default() }],
        traced: vec![TracedEntry {
            name: "step".into(),
            offset: 8,
            max_rows: ROWS,
            steps: vec![TracedStep { region: 0, taps }, TracedStep { region: 1, taps: Vec::new() }],
        }],
        regions: vec![region("@first"), region("@second")],
        ..bare
    }
}

fn write(manifest: Manifest) -> Result<Manifest, PlanError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.plan");
    let mut writer = PlanWriter::create(&path)?;
    writer.begin_segment(SegmentKind::CpuCode)?;
    writer.write(&[0; 16])?;
    writer.end_segment()?;
    let written = writer.finish(manifest)?;
    assert_eq!(PlanFile::open(&path)?.manifest(), &written);
    Ok(written)
}

#[test]
fn twins_are_read_as_written() {
    let written = write(manifest()).unwrap();
    assert_eq!(written.traced, manifest().traced);
    assert!(write(Manifest { traced: Vec::new(), ..manifest() }).is_ok(), "none is fine");
}

#[test]
fn what_is_no_twin_or_lies_outside_is_refused() {
    type Damage = fn(&mut Manifest);
    let cases: [(&str, Damage); 10] = [
        ("a second twin", |it| it.traced.push(it.traced[0].clone())),
        ("another name", |it| it.traced[0].name = "leap".into()),
        ("other rows", |it| it.traced[0].max_rows = ROWS + 1),
        ("code outside", |it| it.traced[0].offset = 16),
        ("a region outside", |it| it.traced[0].steps[1].region = 2),
        ("no columns", |it| it.traced[0].steps[0].taps[0].columns = 0),
        ("more than the arena", |it| it.traced[0].steps[0].taps[0].columns = 17),
        ("behind the arena", |it| it.traced[0].steps[0].taps[0].offset = 128),
        ("behind private memory", |it| it.traced[0].steps[0].taps[1].offset = 64),
        ("an offset that wraps", |it| it.traced[0].steps[0].taps[1].offset = u64::MAX - 63),
    ];
    for (name, damage) in cases {
        let mut manifest = manifest();
        damage(&mut manifest);
        let error = write(manifest).map(|_| ()).expect_err(name);
        assert!(matches!(error, PlanError::Malformed { .. }), "{name}: {error}");
        assert!(error.to_string().contains("traced entr"), "{name}: {error}");
    }
}
