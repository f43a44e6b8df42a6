//! `onebit-e2e`: the long forms of two tests, for `cargo xtask flip-bits` and `kill-compiles`, and
//! what fuzzing begins with.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use onebit_e2e::{flips, kill};
use onebit_plan::manifest::SegmentKind;
use onebit_plan::{PlanFile, PlanWriter};
use onebit_test_support::{TinyOptions, tiny_model};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Flips bits of a plan, or of two tiny ones, and tells what notices
    FlipBits {
        #[arg(long)]
        plan: Option<PathBuf>,
        #[arg(long)]
        flips: u64,
    },
    /// Writes what the fuzz targets begin well with to a folder for each
    Seeds { folder: PathBuf },
    /// Kills compiles and looks at what they leave
    KillCompiles {
        #[arg(long)]
        onebitc: PathBuf,
        #[arg(long)]
        times: u32,
    },
}

fn main() {
    match Cli::parse().command {
        Command::FlipBits { plan: Some(plan), flips } => flip(&plan, flips),
        Command::FlipBits { plan: None, flips } => {
            // No plan has all kinds of segments: weights for an array are not for a GPU.
            for plan in onebit_e2e::tiny_plans() {
                flip(plan.plan.path(), flips.div_ceil(2));
            }
        }
        Command::Seeds { folder } => seeds(&folder).expect("the folder can be written"),
        Command::KillCompiles { onebitc, times } => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let kills = kill::kill_compiles(&onebitc, folder.path(), times);
            println!("{:?}", kills.expect("the system lets us write and kill"));
        }
    }
}

fn seeds(folder: &Path) -> std::io::Result<()> {
    let write = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(folder.join(target))?;
        std::fs::write(folder.join(target).join(name), bytes)
    };
    write("gguf", "tiny", &tiny_model("llama", &TinyOptions::default()))?;
    for (name, compiled) in ["gpu", "npu"].into_iter().zip(onebit_e2e::tiny_plans()) {
        let plan = &compiled.plan;
        write("plan", name, &small_plan(plan))?;
        write(
            "signature",
            name,
            plan.signature().map_or(String::new(), |it| it.to_text()).as_bytes(),
        )?;
        write("signature", "key", onebit_e2e::test_key().public_key().to_text().as_bytes())?;
        let Some(array) = &plan.manifest().array else { continue };
        write("xclbin", name, plan.segment(SegmentKind::ArrayConfiguration))?;
        let streams = plan.segment(SegmentKind::ArrayCalls);
        for (index, call) in array.calls.iter().enumerate() {
            let bytes = &streams[call.offset as usize..(call.offset + call.length) as usize];
            write("txn", &index.to_string(), bytes)?;
        }
    }
    Ok(())
}

/// A signed plan with the manifest of another, but for what points into its large segments: a
/// fuzzer needs small inputs.
fn small_plan(plan: &PlanFile) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("small.plan");
    let mut writer = PlanWriter::create(&path).expect("a plan can be begun");
    for kind in [SegmentKind::CpuCode, SegmentKind::Tokenizer, SegmentKind::Weights] {
        writer.begin_segment(kind).expect("a segment can be begun");
        let bytes = plan.segment(kind);
        let bytes = if kind == SegmentKind::Weights { &bytes[..64] } else { bytes };
        writer.write(bytes).expect("a segment can be written");
        writer.end_segment().expect("a segment can be ended");
    }
    let mut manifest = plan.manifest().clone();
    (manifest.weights, manifest.array, manifest.gpu) = (Vec::new(), None, None);
    writer.finish_signed(manifest, Some(&*onebit_e2e::test_key())).expect("a plan can be ended");
    std::fs::read(&path).expect("a plan can be read")
}

fn flip(plan: &Path, flips: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("flipped.plan");
    let keys = flips::signed_copy(plan, &copy).expect("the plan can be signed");
    let tallies = flips::flip(&copy, &keys, flips).expect("the file can be changed");
    print!("{}", flips::report(&tallies));
    assert!(tallies.iter().all(|tally| tally.missed.is_empty()), "flips went unnoticed");
}
