//! `onebitc compile`.

use std::io;
use std::path::Path;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use onebit_models::Model;
use onebitc::{Options, Stage};

use super::args::Compile;
use super::failure::Failure;
use super::{keys, open_model, print, verify};

/// Compiles a model to a plan and prints the report.
pub fn run(args: &Compile) -> Result<(), Failure> {
    if let Some(jobs) = args.jobs {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build_global();
        pool.map_err(|error| Failure::new(format!("--jobs {jobs}: {error}")))?;
    }
    let model = open_model(&args.model)?;
    let mut options = args.shape.options()?;
    if !args.no_sign {
        // Before the work, so that a key that cannot be used does not cost it.
        options.signer = Some(keys::secret_key(&args.keys, args.sign.as_deref())?);
    }
    if let Some(folder) = &args.emit {
        emit_stages(&model, &options, folder)?;
    }
    let bar = progress_bar();
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let compiled = onebitc::prepare(&model, &args.model, &args.output, &options, &mut progress)?;
    bar.finish_and_clear();
    let verdict = if args.no_verify {
        "not verified, as --no-verify says\n".into()
    } else {
        verify::run(compiled.path(), &options.architecture)?
    };
    let report = compiled.publish()?;
    let size = std::fs::metadata(&args.output).map_or(0, |meta| meta.len());
    let signed = match &options.signer {
        Some(key) => format!("signed with key {}", key.public_key().id()),
        None => "not signed".into(),
    };
    let plan = args.output.display();
    print(&format!("{report}{verdict}wrote {plan} ({}), {signed}\n", HumanBytes(size)))
}

/// Shows how far the weights are.
pub(super) fn progress_bar() -> ProgressBar {
    ProgressBar::new(0).with_style(
        ProgressStyle::with_template("packing weights {wide_bar} {bytes}/{total_bytes}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

fn emit_stages(model: &Model, options: &Options, folder: &Path) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(format!("cannot write to {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    for (stage, file) in [
        (Stage::Graph, "graph.oir"),
        (Stage::Fused, "fused.oir"),
        (Stage::Schedule, "schedule.txt"),
    ] {
        let text = onebitc::dump(model, options, stage)?;
        std::fs::write(folder.join(file), text).map_err(failed)?;
    }
    Ok(())
}
