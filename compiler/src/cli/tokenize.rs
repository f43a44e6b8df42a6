//! `onebitc tokenize`.

use std::io::Read;

use onebit_models::gguf::GgufFile;
use onebit_tokenizer::{EncodeOptions, Tokenizer};
use onebitc::CompileError;

use super::args::Tokenize;
use super::failure::Failure;
use super::print;

/// Prints the ids of standard input's text, separated by spaces, on one line.
pub fn run(args: &Tokenize) -> Result<(), Failure> {
    let file = GgufFile::open(&args.model).map_err(Failure::new)?;
    let spec = onebit_models::tokenizer_spec(&file).map_err(Failure::new)?;
    let table = onebit_tokenizer::build(&spec).map_err(CompileError::from)?;
    let tokenizer = Tokenizer::from_bytes(&table).map_err(Failure::new)?;
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(format!("standard input is not UTF-8 at byte {at}; convert it first"))
    })?;
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: !args.no_special };
    let ids: Vec<String> =
        tokenizer.encode(&text, options).iter().map(ToString::to_string).collect();
    print(&format!("{}\n", ids.join(" ")))
}
