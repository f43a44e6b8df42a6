//! A plan's part for a Vulkan device: written, read, and refused where it does not fit itself.

use onebit_plan::fit::GpuCapabilities;
use onebit_plan::gpu::{
    GpuDispatch, GpuEntry, GpuFeature, GpuKernel, GpuModule, GpuPlan, GpuRopeTable, GpuSlot,
    GpuWindow, binding,
};
use onebit_plan::manifest::{Entry, Manifest, SegmentKind};
use onebit_plan::{PlanError, PlanFile, PlanWriter};
use onebit_test_support::bare_manifest;

const WEIGHTS: usize = 1000;

/// A module that does nothing, with workgroups of `[64, 1, 1]`.
fn module() -> Vec<u32> {
    let instruction = |code: u32, operands: &[u32]| {
        let first = ((operands.len() as u32 + 1) << 16) | code;
        [&[first], operands].concat()
    };
    let main = u32::from_le_bytes(*b"main");
    [
        vec![0x0723_0203, 0x0001_0600, 0, 5, 0],
        instruction(17, &[1]),               // OpCapability Shader
        instruction(14, &[0, 1]),            // OpMemoryModel Logical GLSL450
        instruction(15, &[5, 3, main, 0]),   // OpEntryPoint GLCompute %3 "main"
        instruction(16, &[3, 17, 64, 1, 1]), // OpExecutionMode %3 LocalSize
        instruction(19, &[1]),               // OpTypeVoid
        instruction(33, &[2, 1]),            // OpTypeFunction
        instruction(54, &[1, 3, 0, 2]),      // OpFunction
        instruction(248, &[4]),              // OpLabel
        instruction(253, &[]),               // OpReturn
        instruction(56, &[]),                // OpFunctionEnd
    ]
    .concat()
}

fn gpu() -> GpuPlan {
    let slot = |binding, writes| GpuSlot { binding, writes };
    GpuPlan {
        kernels: vec![GpuKernel {
            name: "all".into(),
            modules: vec![GpuModule {
                offset: 4,
                length: 4 * module().len() as u64,
                subgroup: Some(32),
                shared: 256,
                features: vec![GpuFeature::IntegerDot, GpuFeature::Float16],
            }],
            bindings: vec![
                slot(binding::WEIGHTS, false),
                slot(binding::ARENA, true),
                slot(binding::CACHE, true),
                slot(binding::STEP, false),
                slot(binding::LOGITS, true),
                slot(binding::ROPE, false),
            ],
            immediates: 8,
            workgroup: 64,
        }],
        entries: vec![entry("one", 1), entry("many", 32)],
        arena: 1024,
        slot: 512,
        tables: vec![GpuRopeTable { frequencies: vec![1.0, 0.5], magnitude: 1.0 }],
    }
}

fn entry(name: &str, max_rows: u32) -> GpuEntry {
    let dispatch = GpuDispatch {
        taps: Vec::new(),
        kernel: 0,
        region: "@all".into(),
        regions: Vec::new(),
        wait: true,
        groups: [2, 1, 1],
        windows: vec![
            GpuWindow::Weights { offset: 768, length: 256 },
            GpuWindow::Arena { offset: 256, length: 768 },
            GpuWindow::Cache { offset: 256, length: 256 },
            GpuWindow::Step,
            GpuWindow::Logits,
            GpuWindow::Rope { table: 0 },
        ],
        immediates: vec![1, 2],
        weight_bytes: WEIGHTS as u64,
    };
    GpuEntry { name: name.into(), max_rows, dispatches: vec![dispatch] }
}

fn manifest(gpu: Option<GpuPlan>) -> Manifest {
    let entry = Entry { name: "step".into(), offset: 0, max_rows: 32, ..Entry::default() };
    Manifest { entries: vec![entry], gpu, ..bare_manifest() }
}

/// Writes a plan with these shaders and reads it. Writer and reader run the same checks.
fn write(gpu: Option<GpuPlan>, shaders: Option<&[u32]>) -> Result<String, PlanError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpu.plan");
    let mut writer = PlanWriter::create(&path)?;
    let shaders = shaders.map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect());
    for (kind, bytes) in [
        (SegmentKind::CpuCode, Some(vec![0xc3; 10])),
        (SegmentKind::Tokenizer, Some(vec![1; 10])),
        (SegmentKind::Shaders, shaders),
        (SegmentKind::Weights, Some(vec![1; WEIGHTS])),
    ] {
        let Some(bytes) = bytes else { continue };
        writer.begin_segment(kind)?;
        writer.write(&bytes)?;
        writer.end_segment()?;
    }
    let written = writer.finish(manifest(gpu))?;
    let plan = PlanFile::open(&path)?;
    assert_eq!(plan.manifest(), &written);
    Ok(plan.dump())
}

/// A word of padding, and the module.
fn shaders() -> Vec<u32> {
    [vec![0], module()].concat()
}

#[test]
fn a_part_that_fits_is_read_and_dumped() {
    let dump = write(Some(gpu()), Some(&shaders())).unwrap();
    for line in [
        "gpu memory   arena 1024 + 512 a slot",
        "gpu rotation 0: 2 frequencies, magnitude 1",
        "  all workgroup 64 bindings 0 3w 5w 6 7w 8 immediates 2",
        "needs [IntegerDot, Float16]",
        "gpu entry many max rows 32: 1 dispatches, 1 barriers, 1000 weight bytes",
        "weights 768+256 arena 256+768 cache 256+256 step logits rope 0 [1, 2]",
    ] {
        assert!(dump.contains(line), "{line} in\n{dump}");
    }
}

#[test]
fn a_part_that_does_not_fit_is_refused() {
    type Change = fn(&mut GpuPlan);
    fn first(plan: &mut GpuPlan) -> &mut GpuDispatch {
        &mut plan.entries[0].dispatches[0]
    }
    let changes: [(&str, Change); 45] = [
        ("an odd arena", |plan| plan.arena += 1),
        ("an arena beyond all memory", |plan| plan.arena = 1 << 60),
        ("an odd slot", |plan| plan.slot += 128),
        ("a slot beyond all memory", |plan| plan.slot = 1 << 60),
        ("too many tables", |plan| plan.tables = vec![plan.tables[0].clone(); 65]),
        ("an empty table", |plan| plan.tables[0].frequencies.clear()),
        ("a long table", |plan| plan.tables[0].frequencies = vec![0.0; 4097]),
        ("no number", |plan| plan.tables[0].frequencies[1] = f32::NAN),
        ("no magnitude", |plan| plan.tables[0].magnitude = f32::INFINITY),
        ("one name twice", |plan| plan.kernels.push(plan.kernels[0].clone())),
        ("no workgroup", |plan| plan.kernels[0].workgroup = 0),
        ("a large workgroup", |plan| plan.kernels[0].workgroup = 1025),
        ("another workgroup", |plan| plan.kernels[0].workgroup = 32),
        ("odd immediates", |plan| plan.kernels[0].immediates = 7),
        ("many immediates", |plan| plan.kernels[0].immediates = 132),
        ("weights that are written", |plan| plan.kernels[0].bindings[0].writes = true),
        ("bindings in disorder", |plan| plan.kernels[0].bindings.swap(0, 1)),
        ("an unknown binding", |plan| plan.kernels[0].bindings[5].binding = binding::COUNT),
        ("no module", |plan| plan.kernels[0].modules.clear()),
        ("a module at an odd place", |plan| plan.kernels[0].modules[0].offset = 2),
        ("a module behind the end", |plan| plan.kernels[0].modules[0].offset = 8),
        ("a module beyond counting", |plan| plan.kernels[0].modules[0].offset = u64::MAX - 3),
        ("a module cut short", |plan| plan.kernels[0].modules[0].length -= 4),
        ("no bytes", |plan| plan.kernels[0].modules[0].length = 0),
        ("half a word", |plan| plan.kernels[0].modules[0].length -= 2),
        ("an odd subgroup", |plan| plan.kernels[0].modules[0].subgroup = Some(24)),
        ("a large subgroup", |plan| plan.kernels[0].modules[0].subgroup = Some(256)),
        ("features in disorder", |plan| plan.kernels[0].modules[0].features.reverse()),
        ("no entry", |plan| plan.entries.clear()),
        ("entries in disorder", |plan| plan.entries.reverse()),
        ("no rows", |plan| plan.entries[0].max_rows = 0),
        ("many rows", |plan| plan.entries[1].max_rows = 33),
        ("no dispatch", |plan| plan.entries[1].dispatches.clear()),
        ("no such kernel", |plan| first(plan).kernel = 1),
        ("no groups", |plan| first(plan).groups[1] = 0),
        ("many groups", |plan| first(plan).groups[0] = 65536),
        ("few windows", |plan| first(plan).windows.truncate(5)),
        ("few immediates", |plan| first(plan).immediates.truncate(1)),
        ("more weights than there are", |plan| first(plan).weight_bytes += 1),
        ("windows in disorder", |plan| first(plan).windows.swap(0, 1)),
        ("the wrong buffer", |plan| first(plan).windows.swap(3, 4)),
        ("no such table", |plan| first(plan).windows[5] = GpuWindow::Rope { table: 1 }),
        ("much immediate data", |plan| first(plan).immediates.push(0)),
        ("no such region", |plan| first(plan).regions = vec![0]),
        ("one window too many", |plan| first(plan).windows.push(GpuWindow::Step)),
    ];
    for (what, change) in changes {
        let mut plan = gpu();
        change(&mut plan);
        let error = write(Some(plan), Some(&shaders())).expect_err(what);
        assert!(matches!(error, PlanError::Malformed { .. }), "{what}: {error}");
    }
}

#[test]
fn windows_stay_inside_their_buffers() {
    type Window = fn(u64, u64) -> GpuWindow;
    let kinds: [(usize, u64, Window); 3] = [
        (0, WEIGHTS as u64 + 256, |offset, length| GpuWindow::Weights { offset, length }),
        (1, 1024, |offset, length| GpuWindow::Arena { offset, length }),
        (2, 512, |offset, length| GpuWindow::Cache { offset, length }),
    ];
    for (place, end, window) in kinds {
        let with = |offset, length| {
            let mut plan = gpu();
            plan.entries[0].dispatches[0].windows[place] = window(offset, length);
            write(Some(plan), Some(&shaders()))
        };
        with(0, end / 16 * 16).unwrap();
        let wrong = [
            (0, end / 16 * 16 + 16),
            (0, 0),
            (0, 8),
            (16, 16),
            (end.next_multiple_of(256), 16),
            (u64::MAX - 255, 256),
            (256, u64::MAX - 15),
        ];
        for (offset, length) in wrong {
            let error = with(offset, length).expect_err("a window outside");
            assert!(matches!(error, PlanError::Malformed { .. }), "{offset} + {length}: {error}");
        }
    }
}

#[test]
fn a_module_is_one_compute_kernel_of_a_known_version() {
    // Words of the segment: one of padding, five of the header, two and three before OpEntryPoint.
    let changes: [(&str, usize, u32); 12] = [
        ("magic", 1, 0),
        ("version 1.7", 2, 0x0001_0700),
        ("version 2.0", 2, 0x0002_0000),
        ("version 0", 2, 0),
        ("bits around the version", 2, 0x0101_0600),
        ("no ids", 4, 0),
        ("ids beyond the limit", 4, u32::MAX),
        ("schema", 5, 1),
        ("an instruction of no words", 6, 17),
        ("an instruction without end", 6, u32::MAX),
        ("a vertex shader", 12, 0),
        ("another name", 14, u32::from_le_bytes(*b"mine")),
    ];
    for (what, at, word) in changes {
        let mut shaders = shaders();
        shaders[at] = word;
        let error = write(Some(gpu()), Some(&shaders)).expect_err(what);
        assert!(matches!(error, PlanError::Malformed { .. }), "{what}: {error}");
    }
    let mut second = shaders();
    second.extend([(5 << 16) | 15, 5, 3, u32::from_le_bytes(*b"main"), 0]);
    let mut plan = gpu();
    plan.kernels[0].modules[0].length += 20;
    assert!(write(Some(plan), Some(&second)).is_err(), "two entry points");
    let mut other = shaders();
    other[18] = 32;
    assert!(write(Some(gpu()), Some(&other)).is_err(), "another local size: {other:?}");
}

#[test]
fn a_plan_has_the_whole_part_or_none() {
    assert!(write(Some(gpu()), None).is_err());
    assert!(write(None, Some(&shaders())).is_err());
    write(None, None).unwrap();
}

/// Everything a device may lack is named with both values, and a device that has it all takes the
/// module.
#[test]
fn what_a_device_lacks_is_named() {
    let plan = gpu();
    let (kernel, module) = (&plan.kernels[0], &plan.kernels[0].modules[0]);
    let able = GpuCapabilities {
        features: module.features.clone(),
        subgroup_sizes: (32, 64),
        subgroups: 32,
        invocations: 1024,
        immediates: 128,
        shared: 16384,
    };
    assert_eq!(able.lacks(kernel, module), []);
    let lacks = |change: &dyn Fn(&mut GpuCapabilities)| {
        let mut device = able.clone();
        change(&mut device);
        let lacks = device.lacks(kernel, module);
        assert_eq!(lacks.len(), 1, "{lacks:?}");
        (lacks[0].to_string(), lacks[0].found())
    };
    let text = |needed: &str, found: &str| (needed.to_owned(), found.to_owned());
    let lost = |it: &mut GpuCapabilities| it.features.retain(|it| *it != GpuFeature::Float16);
    assert_eq!(lacks(&lost), text("Float16", "no Float16"));
    assert_eq!(lacks(&|it| it.subgroup_sizes = (8, 8)), text("subgroups of 32", "subgroups of 8"));
    assert_eq!(
        lacks(&|it| it.shared = 128),
        text("256 bytes of shared memory", "up to 128 bytes of shared memory")
    );
    let workgroup = format!("workgroups of {}", kernel.workgroup);
    assert_eq!(lacks(&|it| it.invocations = 1).0, workgroup);
    assert_eq!(lacks(&|it| it.subgroups = 1).1, "workgroups of up to 32");
    assert_eq!(lacks(&|it| it.immediates = 0).1, "up to 0 bytes of immediates");
}
