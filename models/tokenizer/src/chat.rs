//! Chat templates: the Jinja programs with which model files say how a conversation is spelt.
//!
//! Templates are written for Python's Jinja in the setting Hugging Face's `apply_chat_template` gives them: blocks are
//! trimmed, strings and maps have Python's methods, `raise_exception` rejects a conversation, `tojson` does not escape
//! HTML. They come with the model and are not trusted: a budget of steps bounds their time.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error as ThisError;

/// Steps a template may take; ten thousand messages take about a million.
const FUEL: u64 = 10_000_000;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What a template is told beside the messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChatOptions<'a> {
    /// The text of the token that begins texts.
    pub bos_token: &'a str,
    /// The text of the token that ends texts.
    pub eos_token: &'a str,
    /// Open the assistant's turn at the end, so that the model continues with its reply.
    pub add_generation_prompt: bool,
    /// The time for templates that tell the model the date. Without it `strftime_now` is not defined, and templates fall
    /// back to a fixed date or none: the result then depends on the messages alone.
    pub now: Option<SystemTime>,
}

/// Why a conversation cannot be spelt.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum ChatError {
    /// The model file has no template.
    #[error(
        "the model has no chat template (tokenizer.chat_template); prompt it with plain text instead"
    )]
    NoTemplate,
    /// The template rejects the conversation.
    #[error("the model's chat template rejects the conversation: {message}")]
    Rejected {
        /// The template's own words.
        message: String,
    },
    /// The template ran out of its budget of steps.
    #[error(
        "the model's chat template took more than {FUEL} steps; it does not end, or the conversation is too long"
    )]
    Endless,
    /// The template is wrong, or uses something this crate lacks.
    #[error("the model's chat template cannot be rendered: {message}")]
    Template {
        /// What is wrong, with the line.
        message: String,
    },
}

/// Spells a conversation by a model's template (see [`crate::Tokenizer::chat_template`]).
///
/// The result names special tokens by their texts: encode it with `parse_special` and without `add_special`.
pub fn render(
    template: Option<&str>,
    messages: &[Message],
    options: ChatOptions<'_>,
) -> Result<String, ChatError> {
    let template = template.ok_or(ChatError::NoTemplate)?;
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| chat_error(&error))?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised by the template")
            .with_source(Raised { message }))
    });
    if let Some(now) = options.now {
        environment.add_function("strftime_now", move |format: &str| strftime(now, format));
    }
    let message = |m: &Message| context! { role => m.role.as_str(), content => m.content.as_str() };
    let messages: Vec<Value> = messages.iter().map(message).collect();
    environment
        .render_str(
            template,
            context! {
                messages,
                bos_token => options.bos_token,
                eos_token => options.eos_token,
                add_generation_prompt => options.add_generation_prompt,
            },
        )
        .map_err(|error| chat_error(&error))
}

/// What `raise_exception` was called with, carried through the template engine.
#[derive(Debug, ThisError)]
#[error("{message}")]
struct Raised {
    message: String,
}

fn chat_error(error: &Error) -> ChatError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return ChatError::Rejected { message: raised.message.clone() };
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => ChatError::Endless,
        _ => ChatError::Template { message: error.to_string() },
    }
}

/// Python's `json.dumps(value, ensure_ascii=False)`, with `indent` as an option.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut json = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let style = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, style))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, OneLine)),
    };
    let failed = |error| Error::new(ErrorKind::BadSerialization, "tojson").with_source(error);
    written.map_err(failed)?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&json).into_owned()))
}

/// JSON on one line with a space after commas and colons, as Python writes it.
struct OneLine;

impl OneLine {
    fn separate<W: std::io::Write + ?Sized>(writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl serde_json::ser::Formatter for OneLine {
    fn begin_array_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_key<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        Self::separate(writer, first)
    }

    fn begin_object_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats a time in UTC by the directives that templates use.
fn strftime(now: SystemTime, format: &str) -> Result<String, Error> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let month_name = MONTHS[month as usize - 1];
    let weekday = WEEKDAYS[(days % 7 + 4) as usize % 7];
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match characters.next() {
            Some('Y') => text += &year.to_string(),
            Some('y') => text += &format!("{:02}", year % 100),
            Some('m') => text += &format!("{month:02}"),
            Some('d') => text += &format!("{day:02}"),
            Some('B') => text += month_name,
            Some('b') => text += &month_name[..3],
            Some('A') => text += weekday,
            Some('a') => text += &weekday[..3],
            Some('H') => text += &format!("{:02}", clock / 3600),
            Some('M') => text += &format!("{:02}", clock / 60 % 60),
            Some('S') => text += &format!("{:02}", clock % 60),
            Some('%') => text.push('%'),
            directive => {
                let detail = format!("strftime_now: directive {directive:?} is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        }
    }
    Ok(text)
}

/// Year, month (1 to 12) and day of a number of days since 1970-01-01.
///
/// Counts in eras of 400 years that begin in March, so that leap days come last (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
