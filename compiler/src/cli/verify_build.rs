//! `onebitc verify-build`.

use std::path::Path;
use std::process::ExitCode;

use onebit_plan::PlanFile;
use onebitc::target::machine::Machine;
use onebitc::{Verdict, VerifyError};

use super::args::VerifyBuild;
use super::failure::Failure;
use super::{compared, compile, open_model, print_found};

/// Compiles a plan again and says whether it is the same.
pub fn run(args: &VerifyBuild) -> ExitCode {
    compared(verify(args))
}

fn verify(args: &VerifyBuild) -> Result<ExitCode, Failure> {
    let plan = PlanFile::open(&args.plan)?;
    let model = open_model(&args.model)?;
    let folder = args.plan.parent().filter(|folder| !folder.as_os_str().is_empty());
    let scratch = args.scratch.as_deref().or(folder).unwrap_or(Path::new("."));
    let machine = args.machine.as_deref().map(Machine::read).transpose()?;
    let bar = compile::progress_bar();
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let verdict = onebitc::verify_build(&plan, &model, machine, scratch, &mut progress);
    bar.finish_and_clear();
    match verdict? {
        Verdict::Same { unsigned, signature } => {
            let rest = match signature {
                0 => String::new(),
                bytes => format!("; {bytes} bytes of signature were not compared"),
            };
            print_found(&format!(
                "the same: {unsigned} bytes, compiled again with {}{rest}\n",
                options(&plan)
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Verdict::Differs { place } => {
            print_found(&format!("not the same: the first difference is {place}\n"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn options(plan: &PlanFile) -> String {
    plan.manifest().provenance.options.join(" ")
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Compile(error) => error.into(),
            error => Self::Error { message: error.to_string(), help: error.help() },
        }
    }
}
