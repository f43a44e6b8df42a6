//! Reads the tokenizer's metadata into the record that `onebit-tokenizer` builds from.

use onebit_tokenizer::{RoleIds, TokenizerSpec};

use crate::gguf::{FromValue, GgufError, GgufFile};

/// What `file` says about its tokenizer; a vocabulary-only file will do. Token strings are kept
/// as the bytes they are.
///
/// # Errors
/// If the file has no tokenizer, or a key of it is of the wrong type.
pub fn tokenizer_spec(file: &GgufFile) -> Result<TokenizerSpec, GgufError> {
    let id = |name: &str| file.get::<u32>(&format!("tokenizer.ggml.{name}_token_id"));
    Ok(TokenizerSpec {
        model: file.require::<&str>("tokenizer.ggml.model")?.to_owned(),
        pre: text(file, "tokenizer.ggml.pre")?,
        model_name: text(file, "general.name")?,
        tokens: strings(file.require("tokenizer.ggml.tokens")?),
        scores: list(file, "tokenizer.ggml.scores")?,
        types: list(file, "tokenizer.ggml.token_type")?,
        merges: strings(list(file, "tokenizer.ggml.merges")?),
        roles: RoleIds {
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?,
            // The format's own spelling.
            separator: id("seperator")?,
            padding: id("padding")?,
            fim_pad: id("fim_pad")?,
            fim_rep: id("fim_rep")?,
            fim_sep: id("fim_sep")?,
        },
        add_bos: file.get("tokenizer.ggml.add_bos_token")?,
        add_eos: file.get("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: file.get("tokenizer.ggml.add_space_prefix")?,
        remove_extra_whitespaces: file.get("tokenizer.ggml.remove_extra_whitespaces")?,
        chat_template: text(file, "tokenizer.chat_template")?,
    })
}

fn text(file: &GgufFile, key: &str) -> Result<Option<String>, GgufError> {
    Ok(file.get::<&str>(key)?.map(str::to_owned))
}

/// An array of `T`, empty when the key is absent.
fn list<'a, T: FromValue<'a>>(file: &'a GgufFile, key: &str) -> Result<Vec<T>, GgufError> {
    Ok(file.get(key)?.unwrap_or_default())
}

fn strings(strings: Vec<&[u8]>) -> Vec<Vec<u8>> {
    strings.into_iter().map(<[u8]>::to_vec).collect()
}
