//! `onebit-rt tokenize`.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use onebit_plan::PlanFile;
use onebit_tokenizer::EncodeOptions;

use super::args::Tokenize;
use super::failure::Failure;
use super::load;

/// Prints the ids of standard input's text, separated by spaces, on one line.
pub fn run(options: &Tokenize) -> Result<ExitCode, Failure> {
    let plan = PlanFile::open(&options.plan)?;
    let tokenizer = load::tokenizer(&plan)?;
    let encode = EncodeOptions { add_special: !options.no_bos, parse_special: !options.no_special };
    let ids = tokenizer.encode(&standard_input()?, encode);
    let line: Vec<String> = ids.iter().map(u32::to_string).collect();
    writeln!(io::stdout(), "{}", line.join(" ")).map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// All of standard input, which must be UTF-8.
pub fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(Failure::io("read", Path::new("standard input")))?;
    Ok(text)
}
