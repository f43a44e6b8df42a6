//! Parsing: one pass, no recursion; stops at the first error.

use std::collections::HashMap;

use super::lex::{Lexer, Position, Token};
use super::ops::{self, Attribute, Attributes};
use crate::graph::{Graph, ValueId};
use crate::infer::{TypeError, result_type};
use crate::op::Op;
use crate::quant::Format;
use crate::types::{Dim, Elem, TensorType};

/// Why and where a text is no graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct ParseError {
    /// The first character that does not fit.
    pub at: Position,
    /// What does not fit.
    pub problem: Problem,
}

impl ParseError {
    pub(super) fn new(at: Position, problem: Problem) -> Self {
        Self { at, problem }
    }
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Another token was due.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// The tokens that could stand here.
        expected: &'static str,
        /// The one that does.
        found: String,
    },
    /// A character that starts no token.
    #[error("no token starts with {0:?}")]
    Character(char),
    /// `%` or `@` alone.
    #[error("expected a name after the sigil")]
    EmptyName,
    /// A text without its closing quote.
    #[error("the text is not closed on its line; expected `\"`")]
    OpenQuote,
    /// An escape other than those the printer writes.
    #[error("expected one of the escapes \\\", \\\\ and \\u{{hex}}")]
    Escape,
    /// A value that no line above defines.
    #[error("%{0} is not defined above")]
    UnknownValue(String),
    /// A value defined twice.
    #[error("%{0} is defined twice")]
    Redefined(String),
    /// No op of that name.
    #[error("no op is called `{0}`")]
    UnknownOp(String),
    /// No element kind of that name where one was due.
    #[error("expected {expected}, found `{found}`")]
    UnknownElement {
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// An attribute the op does not take.
    #[error("{op} takes no attribute `{key}`")]
    UnknownAttribute {
        /// The op's name.
        op: String,
        /// The attribute's.
        key: String,
    },
    /// An attribute the op needs.
    #[error("{op} needs the attribute {expected}")]
    MissingAttribute {
        /// The op's name.
        op: String,
        /// How the attribute is written.
        expected: String,
    },
    /// An attribute's value that is no number of the right kind.
    #[error("{key} is a {kind}, found `{text}`")]
    Number {
        /// The attribute.
        key: String,
        /// The Rust type.
        kind: &'static str,
        /// What stands there.
        text: String,
    },
    /// A weight without a type.
    #[error("a weight needs its type: `weight \"name\" : f16[N, K]`")]
    UntypedWeight,
    /// Arguments that do not fit the op.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A written type other than the one that follows from the arguments.
    #[error("the result is {inferred}, but {written} is written")]
    TypeDiffers {
        /// As written.
        written: TensorType,
        /// As inferred.
        inferred: TensorType,
    },
}

/// Reads one graph; its ids are dense, in the order of the lines.
///
/// # Errors
/// At the first thing that is not the text form or has no type. What needs the whole graph
/// ([`crate::verify`]) is not checked.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    parse_located(text).map(|(graph, _)| graph)
}

/// As [`parse`], with where each value is defined, by [`ValueId::index`].
pub fn parse_located(text: &str) -> Result<(Graph, Vec<Position>), ParseError> {
    let mut parser = Parser::new(text)?;
    parser.graph()?;
    Ok((parser.graph, parser.positions))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    at: Position,
    graph: Graph,
    values: HashMap<&'a str, ValueId>,
    positions: Vec<Position>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text);
        let (token, at) = lexer.next()?;
        let graph = Graph::new("");
        Ok(Self { lexer, token, at, graph, values: HashMap::new(), positions: Vec::new() })
    }

    /// Steps on; gives the token that was current and its place.
    fn advance(&mut self) -> Result<(Token<'a>, Position), ParseError> {
        let (token, at) = self.lexer.next()?;
        Ok((std::mem::replace(&mut self.token, token), std::mem::replace(&mut self.at, at)))
    }

    fn unexpected(&self, expected: &'static str) -> ParseError {
        ParseError::new(self.at, Problem::Expected { expected, found: self.token.to_string() })
    }

    fn accept(&mut self, wanted: char) -> Result<bool, ParseError> {
        let found = self.token == Token::Punctuation(wanted);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), ParseError> {
        if self.accept(wanted)? { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn word(&mut self, expected: &'static str) -> Result<(&'a str, Position), ParseError> {
        match self.token {
            Token::Word(word) => Ok((word, self.advance()?.1)),
            _ => Err(self.unexpected(expected)),
        }
    }

    fn end_line(&mut self, expected: &'static str) -> Result<(), ParseError> {
        if self.token != Token::Newline {
            return Err(self.unexpected(expected));
        }
        self.skip_lines()
    }

    fn skip_lines(&mut self) -> Result<(), ParseError> {
        while self.token == Token::Newline {
            self.advance()?;
        }
        Ok(())
    }

    /// `graph @name { .. }`
    fn graph(&mut self) -> Result<(), ParseError> {
        self.skip_lines()?;
        if self.token != Token::Word("graph") {
            return Err(self.unexpected("`graph`"));
        }
        self.advance()?;
        let Token::Name(name) = self.token.clone() else {
            return Err(self.unexpected("the graph's `@name`"));
        };
        self.graph = Graph::new(name);
        self.advance()?;
        self.expect('{', "`{`")?;
        self.end_line("a new line after `{`")?;
        while let Token::Value(name) = self.token {
            self.definition(name)?;
        }
        if self.token == Token::Word("output") {
            self.advance()?;
            let outputs = self.arguments()?;
            self.graph.set_outputs(outputs);
            self.end_line("`,` or a new line after the outputs")?;
        }
        self.expect('}', "`%value = op`, one `output` line, or `}`")?;
        self.skip_lines()?;
        if self.token == Token::End { Ok(()) } else { Err(self.unexpected("nothing after `}`")) }
    }

    /// `%name = op(attributes) %argument, .. : type`
    fn definition(&mut self, name: &'a str) -> Result<(), ParseError> {
        let (_, at) = self.advance()?;
        if self.values.contains_key(name) {
            return Err(ParseError::new(at, Problem::Redefined(name.into())));
        }
        self.expect('=', "`=`")?;
        let value = match self.word("the name of an op")? {
            ("weight", at) => self.weight(at)?,
            (op, at) => self.operation(op, at)?,
        };
        self.end_line("`,`, `: type` or a new line")?;
        self.values.insert(name, value);
        self.positions.push(at);
        Ok(())
    }

    /// `"name" : type`
    fn weight(&mut self, at: Position) -> Result<ValueId, ParseError> {
        let Token::Text(name) = self.token.clone() else {
            return Err(self.unexpected("the weight's \"name\""));
        };
        self.advance()?;
        if !self.accept(':')? {
            return Err(ParseError::new(at, Problem::UntypedWeight));
        }
        let (word, at) = self.word("a block format")?;
        let Some(format) = Format::from_name(word) else {
            let expected = "a block format such as `f16` or `q4_k`";
            return Err(ParseError::new(
                at,
                Problem::UnknownElement { expected, found: word.into() },
            ));
        };
        let shape = self.shape()?;
        Ok(self.graph.weight(name, TensorType::new(Elem::Block(format), shape)))
    }

    fn operation(&mut self, op: &'a str, at: Position) -> Result<ValueId, ParseError> {
        let Some(read) = ops::reader(op) else {
            return Err(ParseError::new(at, Problem::UnknownOp(op.into())));
        };
        let mut attributes = Attributes::new(op, at, self.attributes()?);
        let op = read(&mut attributes)?;
        attributes.finish()?;
        let arguments = match self.token {
            Token::Value(_) => self.arguments()?,
            _ => Vec::new(),
        };
        self.check_type(&op, &arguments, at)?;
        self.graph.add(op, &arguments).map_err(|e| ParseError::new(at, e.into()))
    }

    /// Checks the written type, if there is one, against the inferred.
    fn check_type(&mut self, op: &Op, inputs: &[ValueId], at: Position) -> Result<(), ParseError> {
        let types: Vec<&TensorType> = inputs.iter().map(|&v| self.graph.ty(v)).collect();
        let inferred = result_type(op, &types).map_err(|e| ParseError::new(at, e.into()))?;
        if !self.accept(':')? {
            return Ok(());
        }
        let (word, at) = self.word("`f32` or `i32`")?;
        let elem = match word {
            "f32" => Elem::F32,
            "i32" => Elem::I32,
            _ => {
                let expected = "`f32` or `i32`";
                let found = word.into();
                return Err(ParseError::new(at, Problem::UnknownElement { expected, found }));
            }
        };
        let written = TensorType::new(elem, self.shape()?);
        if written == inferred {
            return Ok(());
        }
        Err(ParseError::new(at, Problem::TypeDiffers { written, inferred }))
    }

    /// `(key=value, key, ..)`, or nothing.
    fn attributes(&mut self) -> Result<Vec<Attribute<'a>>, ParseError> {
        let mut list = Vec::new();
        if !self.accept('(')? {
            return Ok(list);
        }
        loop {
            let (key, at) = self.word("an attribute")?;
            let mut value = None;
            if self.accept('=')? {
                let (Token::Number(text) | Token::Word(text)) = self.token else {
                    return Err(self.unexpected("a number"));
                };
                value = Some((text, self.advance()?.1));
            }
            list.push(Attribute { key, value, at });
            if !self.accept(',')? {
                break;
            }
        }
        self.expect(')', "`,` or `)`")?;
        Ok(list)
    }

    /// `%a, %b, ..`, at least one.
    fn arguments(&mut self) -> Result<Vec<ValueId>, ParseError> {
        let mut list = Vec::new();
        loop {
            let Token::Value(name) = self.token else {
                return Err(self.unexpected("a `%value`"));
            };
            let Some(&value) = self.values.get(name) else {
                return Err(ParseError::new(self.at, Problem::UnknownValue(name.into())));
            };
            self.advance()?;
            list.push(value);
            if !self.accept(',')? {
                return Ok(list);
            }
        }
    }

    /// `[T, 576]`
    fn shape(&mut self) -> Result<Vec<Dim>, ParseError> {
        self.expect('[', "`[`")?;
        let mut shape = Vec::new();
        loop {
            let size = match self.token {
                Token::Number(text) => text.parse().ok().map(Dim::Size),
                Token::Word("T") => Some(Dim::Rows),
                Token::Word("R") => Some(Dim::Outputs),
                _ => None,
            };
            shape.push(size.ok_or_else(|| self.unexpected("a dimension: a size, `T` or `R`"))?);
            self.advance()?;
            if !self.accept(',')? {
                break;
            }
        }
        self.expect(']', "`,` or `]`")?;
        Ok(shape)
    }
}
