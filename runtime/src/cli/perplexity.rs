//! `onebit-rt perplexity`.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use onebit_rt::perplexity::{Score, score};
use onebit_tokenizer::EncodeOptions;

use super::args::Perplexity;
use super::failure::Failure;
use super::{interrupt, load, screen};

/// Prints the running perplexity on standard error and the final estimate on standard output.
pub fn run(options: &Perplexity) -> Result<ExitCode, Failure> {
    let plan = load::open(&options.machine)?;
    let tokenizer = load::tokenizer(&plan)?;
    let text = fs::read_to_string(&options.file).map_err(Failure::io("read", &options.file))?;
    // The peer's `-f` drops one final line break, too.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let tokens = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
    if tokens.len() < 2 * options.ctx {
        let (file, found, needed) = (options.file.display(), tokens.len(), 2 * options.ctx);
        let message = format!("{file} has {found} tokens, two chunks need {needed}");
        return Err(Failure::other(message, "give a longer text or a smaller `--ctx`"));
    }
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos_by_default());
    let mut loaded = load::load(&plan, &options.machine, 1)?;
    interrupt::watch()?;
    let chunks = tokens.len() / options.ctx;
    screen::note(format_args!("{chunks} chunks of {} tokens, {}\n", options.ctx, loaded.device));
    let mut progress = |index: usize, score: &Score| {
        screen::note(format_args!("[{}]{:.4},", index + 1, score.perplexity()));
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let score = score(&mut loaded.session, &tokens, options.ctx, bos, &mut progress)?;
    screen::note(format_args!("\n"));
    if interrupt::requested() {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    let (value, error) = (score.perplexity(), score.error().unwrap_or(f64::NAN));
    writeln!(io::stdout(), "Final estimate: PPL = {value:.4} +/- {error:.5}")
        .map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}
