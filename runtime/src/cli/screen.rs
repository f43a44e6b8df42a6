//! What people see: continuations on standard output, notes on standard error.

use std::fmt;
use std::io::{self, Stdout, Write};
use std::ops::ControlFlow;

use onebit_rt::generate::{Finish, Observer};
use onebit_tokenizer::{Detokenizer, Position, Tokenizer};

use super::failure::Failure;
use super::interrupt;

/// Writes to standard error. A closed one is no reason to stop.
pub fn note(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// Writes what a command found to standard output. Its exit code tells the verdict, and does so too
/// when whoever read the text has gone before its end.
pub fn found(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written.map_err(Failure::output) {
        Err(Failure::ClosedPipe) => Ok(()),
        result => result,
    }
}

struct Stream<'a> {
    detokenizer: Detokenizer<'a>,
    text: String,
    finish: Option<Finish>,
}

/// Prints a single continuation token by token, and several one after the other, each as soon as
/// it and those before it are complete.
pub struct Screen<'a> {
    out: Stdout,
    streams: Vec<Stream<'a>>,
    /// Streams printed to their end.
    printed: usize,
    failure: Option<io::Error>,
}

impl<'a> Screen<'a> {
    /// A screen for `count` continuations.
    pub fn new(tokenizer: Tokenizer<'a>, count: usize) -> Self {
        let stream = || Stream {
            detokenizer: Detokenizer::new(tokenizer, Position::Continuation),
            text: String::new(),
            finish: None,
        };
        let streams = (0..count).map(|_| stream()).collect();
        Self { out: io::stdout(), streams, printed: 0, failure: None }
    }

    /// Whether a continuation ended because the context was full.
    pub fn context_full(&self) -> bool {
        self.streams.iter().any(|stream| stream.finish == Some(Finish::ContextFull))
    }

    /// The error that stopped the printing, if one did.
    pub fn result(self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), |error| Err(Failure::output(error)))
    }

    fn print(&mut self, text: &str) -> ControlFlow<()> {
        if self.failure.is_some() {
            return ControlFlow::Break(());
        }
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Prints what is complete and next in turn, under a heading as `head` and `tail` write it.
    fn print_complete(&mut self) {
        while let Some(stream) = self.streams.get_mut(self.printed)
            && stream.finish.is_some()
        {
            let gap = if self.printed == 0 { "" } else { "\n" };
            let text = std::mem::take(&mut stream.text);
            self.printed += 1;
            let text = format!("{gap}==> prompt {} <==\n{text}\n", self.printed);
            if self.print(&text).is_break() {
                return;
            }
        }
    }
}

impl Observer for Screen<'_> {
    fn token(&mut self, index: usize, token: u32) -> ControlFlow<()> {
        let stream = &mut self.streams[index];
        let piece = stream.detokenizer.push(token);
        if self.streams.len() == 1 {
            return self.print(&piece);
        }
        self.streams[index].text.push_str(&piece);
        ControlFlow::Continue(())
    }

    fn finished(&mut self, index: usize, why: Finish) {
        let single = self.streams.len() == 1;
        let stream = &mut self.streams[index];
        let rest = stream.detokenizer.clone().finish();
        stream.finish = Some(why);
        if single {
            // A failure is kept and reported by `result`.
            let _ = self.print(&format!("{rest}\n"));
            return;
        }
        stream.text.push_str(&rest);
        self.print_complete();
    }

    fn proceed(&mut self) -> ControlFlow<()> {
        if interrupt::requested() || self.failure.is_some() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
