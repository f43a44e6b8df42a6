//! `onebit-rt logits`.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use onebit_rt::sampler::Sampling;
use onebit_rt::session::{Outputs, Session};
use tempfile::NamedTempFile;

use super::args::Logits;
use super::failure::Failure;
use super::{load, npy};

/// Writes one row of logits for each token. The file appears under its name when it is complete.
pub fn run(options: &Logits) -> Result<ExitCode, Failure> {
    let plan = load::open(&options.machine)?;
    let mut loaded = load::load(&plan, &options.machine, 1)?;
    let path = &options.output;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .map_err(Failure::io("create a temporary file beside", path))?;
    let mut out = BufWriter::new(file);
    write(&mut loaded.session, &options.tokens, &mut out, path)?;
    let file = out.into_inner().map_err(|error| Failure::io("write", path)(error.into_error()))?;
    file.persist(path).map_err(|error| Failure::io("rename to", path)(error.error))?;
    Ok(ExitCode::SUCCESS)
}

fn write(
    session: &mut Session,
    tokens: &[u32],
    out: &mut impl Write,
    path: &Path,
) -> Result<(), Failure> {
    let slot = session.open(Sampling::GREEDY)?;
    session.push(slot, tokens, Outputs::All)?;
    let columns = session.limits().vocabulary as usize;
    npy::write_header(out, tokens.len(), columns).map_err(Failure::io("write", path))?;
    while session.waiting(slot) > 0 {
        session.step()?;
        for index in 0..session.outputs().len() {
            npy::write_values(out, session.logits(index)).map_err(Failure::io("write", path))?;
        }
    }
    Ok(())
}
