//! Runs every file under `cases/`. `BLESS=1` rewrites the `; check:` lines of the stages that
//! print something.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use onebit_filetests::{Bless, trials};

#[allow(clippy::disallowed_methods, reason = "BLESS=1 is how golden tests are rewritten")]
fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let bless = if std::env::var_os("BLESS").is_some() { Bless::Rewrite } else { Bless::Compare };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    match trials(&cases, bless) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{}: {error}", cases.display());
            ExitCode::FAILURE
        }
    }
}
