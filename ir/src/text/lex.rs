//! Tokens of the text form, with their places. A newline is a token: one statement a line.

use std::fmt;

use super::parse::{ParseError, Problem};

/// A place in a text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// `graph`, `rms_norm`, `f32`
    Word(&'a str),
    /// `12`, `-1e-5`
    Number(&'a str),
    /// `%7`, `%gate`, without the `%`
    Value(&'a str),
    /// `@name` or `@"any name"`
    Name(String),
    /// `"token_embd.weight"`, unescaped
    Text(String),
    Punctuation(char),
    Newline,
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "`{text}`"),
            Self::Value(name) => write!(f, "`%{name}`"),
            Self::Name(name) => write!(f, "`@{name}`"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Punctuation(c) => write!(f, "`{c}`"),
            Self::Newline => f.write_str("the end of the line"),
            Self::End => f.write_str("the end of the text"),
        }
    }
}

/// Whether `text` can stand without quotes as a name: letters, digits, `_`, `.` and `-`, a letter
/// or `_` first.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(starts_word) && text.chars().all(continues_word)
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
    at: Position,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, at: Position { line: 1, column: 1 } }
    }

    /// The next token and where it starts; [`Token::End`] for ever after the last.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Position), ParseError> {
        self.take(|c| c.is_whitespace() && c != '\n');
        if self.rest.starts_with(';') {
            self.take(|c| c != '\n');
        }
        let at = self.at;
        let Some(first) = self.rest.chars().next() else { return Ok((Token::End, at)) };
        let token = match first {
            '\n' => {
                self.bump();
                self.at = Position { line: at.line.saturating_add(1), column: 1 };
                Token::Newline
            }
            '%' => {
                self.bump();
                Token::Value(self.name(at)?)
            }
            '@' => {
                self.bump();
                if self.rest.starts_with('"') {
                    Token::Name(self.quoted(at)?)
                } else {
                    Token::Name(self.name(at)?.to_owned())
                }
            }
            '"' => Token::Text(self.quoted(at)?),
            c if starts_word(c) => Token::Word(self.take(continues_word)),
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => Token::Number(self.number()),
            '{' | '}' | '(' | ')' | '[' | ']' | ',' | ':' | '=' => {
                self.bump();
                Token::Punctuation(first)
            }
            _ => return Err(ParseError::new(at, Problem::Character(first))),
        };
        Ok((token, at))
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        self.at.column = self.at.column.saturating_add(1);
        Some(c)
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let whole = self.rest;
        while self.rest.starts_with(&wanted) {
            self.bump();
        }
        &whole[..whole.len() - self.rest.len()]
    }

    /// What follows a sigil.
    fn name(&mut self, at: Position) -> Result<&'a str, ParseError> {
        match self.take(continues_word) {
            "" => Err(ParseError::new(at, Problem::EmptyName)),
            name => Ok(name),
        }
    }

    /// A sign belongs to the number at its start and after an exponent's `e`.
    fn number(&mut self) -> &'a str {
        let whole = self.rest;
        let mut previous = self.bump();
        while let Some(c) = self.rest.chars().next() {
            let sign = matches!(c, '+' | '-') && matches!(previous, Some('e' | 'E'));
            if !(c.is_ascii_alphanumeric() || c == '.' || sign) {
                break;
            }
            previous = self.bump();
        }
        &whole[..whole.len() - self.rest.len()]
    }

    fn quoted(&mut self, at: Position) -> Result<String, ParseError> {
        self.bump();
        let mut text = String::new();
        loop {
            let here = self.at;
            match self.bump() {
                None | Some('\n') => return Err(ParseError::new(at, Problem::OpenQuote)),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape(here)?),
                Some(c) => text.push(c),
            }
        }
    }

    /// `\"`, `\\` or `\u{hex}`, after its backslash.
    fn escape(&mut self, at: Position) -> Result<char, ParseError> {
        let error = || ParseError::new(at, Problem::Escape);
        match self.bump() {
            Some(c @ ('"' | '\\')) => Ok(c),
            Some('u') => {
                if self.bump() != Some('{') {
                    return Err(error());
                }
                let digits = self.take(|c| c.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                if self.bump() != Some('}') {
                    return Err(error());
                }
                code.ok_or_else(error)
            }
            _ => Err(error()),
        }
    }
}
