//! The text form of a graph, `.oir`: for people, tests and error messages.
//!
//! ```text
//! graph @name {
//!   %0 = tokens : i32[T]
//!   %1 = weight "token_embd.weight" : q4_1[49152, 576]
//!   %2 = embed %1, %0 : f32[T, 576]
//!   output %2
//! }
//! ```
//!
//! Printing is [`Display`](std::fmt::Display) of [`Graph`](crate::Graph); `parse(&graph.to_string())`
//! gives a graph of the same structure, its ids dense in the order of the lines. The grammar and
//! every op's attributes stand in `docs/ir.md`.

mod lex;
mod ops;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use lex::Position;
pub use ops::op_names;
pub use parse::{ParseError, Problem, parse, parse_located};
