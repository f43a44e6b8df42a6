//! Turns tokens into text as they come.

use crate::Tokenizer;

/// Where the tokens stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the beginning of a text: the space that encoding puts in front is taken away again.
    Start,
    /// After other text, such as a prompt: every token prints all of its bytes.
    Continuation,
}

/// Decodes a stream of tokens. Characters may be spread over several tokens, so text comes out only once it is whole.
#[derive(Debug, Clone)]
pub struct Detokenizer<'a> {
    tokenizer: Tokenizer<'a>,
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
    strip_space: bool,
    show_markers: bool,
}

impl<'a> Detokenizer<'a> {
    /// A decoder that leaves markers out.
    pub fn new(tokenizer: Tokenizer<'a>, position: Position) -> Self {
        let strip_space = position == Position::Start && tokenizer.table.flags.space_prefix;
        Self { tokenizer, pending: Vec::new(), strip_space, show_markers: false }
    }

    /// The same, but markers such as `<|im_end|>` are printed.
    #[must_use]
    pub fn with_markers(mut self) -> Self {
        self.show_markers = true;
        self
    }

    /// Takes the next token and returns the text that is certain now. Bytes that cannot be UTF-8 become U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        let mut bytes = match self.show_markers {
            true => self.tokenizer.token_bytes_with_markers(id),
            false => self.tokenizer.token_bytes(id),
        };
        // The space belongs to the first piece of text; markers before it do not use it up.
        if self.strip_space && !self.tokenizer.is_marker(id) {
            self.strip_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() - unfinished(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..whole]).into_owned();
        self.pending.drain(..whole);
        text
    }

    /// Ends the stream: U+FFFD for a character that never became whole, otherwise nothing.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character that is not whole yet.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) if !last.invalid().is_empty() && is_prefix(last.invalid()) => {
            last.invalid().len()
        }
        _ => 0,
    }
}

/// Whether more bytes could make `invalid`, the end of the input, a character.
fn is_prefix(invalid: &[u8]) -> bool {
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}
