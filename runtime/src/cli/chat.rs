//! `--chat`: a prompt as a user's message.

use onebit_tokenizer::{ChatOptions, EncodeOptions, Message, Tokenizer, render};

use super::failure::Failure;

/// The tokens of a conversation in which it is the assistant's turn: perhaps a system message, and
/// a user's message. The template is not told the date, so that equal input gives equal tokens.
pub fn encode(
    tokenizer: &Tokenizer<'_>,
    system: Option<&str>,
    user: &str,
) -> Result<Vec<u32>, Failure> {
    let marker = |id: Option<u32>| {
        let bytes = id.map_or(&[][..], |id| tokenizer.token_bytes_with_markers(id));
        String::from_utf8_lossy(bytes)
    };
    let (bos, eos) = (marker(tokenizer.bos()), marker(tokenizer.eos()));
    let message =
        |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let messages: Vec<Message> = system
        .map(|text| message("system", text))
        .into_iter()
        .chain([message("user", user)])
        .collect();
    let options =
        ChatOptions { bos_token: &bos, eos_token: &eos, add_generation_prompt: true, now: None };
    let text = render(tokenizer.chat_template(), &messages, options).map_err(|error| {
        Failure::other(
            error.to_string(),
            "leave `--chat` out and write the prompt's markers yourself",
        )
    })?;
    Ok(tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true }))
}
