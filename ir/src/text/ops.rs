//! Which attributes each op takes: the reading side of [`super::print`].

use std::str::FromStr;

use super::lex::Position;
use super::parse::{ParseError, Problem};
use crate::op::{AttentionSpec, Function, Op, RopeScaling, RopeSpec, RopeStyle};

/// Reads an op from its attributes; leaves none unread.
type Reader = fn(&mut Attributes<'_>) -> Result<Op, ParseError>;

/// Every op but `weight`, which has a name in place of attributes, by [`Op::name`].
const OPS: &[(&str, Reader)] = &[
    ("tokens", |_| Ok(Op::Tokens)),
    ("positions", |_| Ok(Op::Positions)),
    ("embed", |_| Ok(Op::Embed)),
    ("linear", |_| Ok(Op::Linear)),
    ("stacked_linear", |_| Ok(Op::StackedLinear)),
    ("add_bias", |_| Ok(Op::AddBias)),
    ("rms_norm", |a| Ok(Op::RmsNorm { eps: a.number("eps")? })),
    ("add", |_| Ok(Op::Add)),
    ("mul", |_| Ok(Op::Mul)),
    ("scale", |a| Ok(Op::Scale { factor: a.number("factor")? })),
    ("silu", |_| Ok(Op::Unary(Function::Silu))),
    ("gelu_tanh", |_| Ok(Op::Unary(Function::GeluTanh))),
    ("relu_squared", |_| Ok(Op::Unary(Function::ReluSquared))),
    ("gated", |a| Ok(Op::Gated(a.choice(&Function::ALL.map(|f| (f.name(), f)))?))),
    ("softcap", |a| Ok(Op::SoftCap { cap: a.number("cap")? })),
    ("split_heads", |a| Ok(Op::SplitHeads { heads: a.number("heads")? })),
    ("merge_heads", |_| Ok(Op::MergeHeads)),
    ("slice", |a| Ok(Op::Slice { start: a.number("start")?, len: a.number("len")? })),
    ("rope", |a| Ok(Op::Rope(rope(a)?))),
    ("attention", |a| Ok(Op::Attention(attention(a)?))),
    ("select_outputs", |_| Ok(Op::SelectOutputs)),
];

/// The name of every op of the text form but `weight`, for tests that must cover them all.
pub fn op_names() -> impl Iterator<Item = &'static str> {
    OPS.iter().map(|(name, _)| *name)
}

pub(super) fn reader(name: &str) -> Option<Reader> {
    OPS.iter().find(|(op, _)| *op == name).map(|(_, reader)| *reader)
}

fn rope(a: &mut Attributes<'_>) -> Result<RopeSpec, ParseError> {
    let style = a.choice(&RopeStyle::ALL.map(|s| (s.name(), s)))?;
    let (dims, base) = (a.number("dims")?, a.number("base")?);
    let scaling = if a.flag("linear") {
        RopeScaling::Linear { factor: a.number("factor")? }
    } else if a.flag("yarn") {
        RopeScaling::Yarn {
            factor: a.number("factor")?,
            original_context: a.number("original_context")?,
            ext_factor: a.number("ext_factor")?,
            attn_factor: a.number("attn_factor")?,
            beta_fast: a.number("beta_fast")?,
            beta_slow: a.number("beta_slow")?,
        }
    } else {
        RopeScaling::None
    };
    Ok(RopeSpec { style, dims, base, scaling })
}

fn attention(a: &mut Attributes<'_>) -> Result<AttentionSpec, ParseError> {
    Ok(AttentionSpec {
        layer: a.number("layer")?,
        scale: a.number("scale")?,
        window: a.optional("window")?,
        softcap: a.optional("softcap")?,
    })
}

/// `key=value` or a bare `key`.
pub(super) struct Attribute<'a> {
    pub(super) key: &'a str,
    pub(super) value: Option<(&'a str, Position)>,
    pub(super) at: Position,
}

/// The attributes of one op that are still unread.
pub(super) struct Attributes<'a> {
    op: &'a str,
    at: Position,
    unread: Vec<Attribute<'a>>,
}

impl<'a> Attributes<'a> {
    /// Of the op named `op` at `at`.
    pub(super) fn new(op: &'a str, at: Position, unread: Vec<Attribute<'a>>) -> Self {
        Self { op, at, unread }
    }

    /// Fails on an attribute that nobody read.
    pub(super) fn finish(self) -> Result<(), ParseError> {
        match self.unread.first() {
            None => Ok(()),
            Some(Attribute { key, at, .. }) => {
                let problem = Problem::UnknownAttribute { op: self.op.into(), key: (*key).into() };
                Err(ParseError::new(*at, problem))
            }
        }
    }

    fn take(&mut self, wanted: impl Fn(&Attribute<'a>) -> bool) -> Option<Attribute<'a>> {
        let place = self.unread.iter().position(wanted)?;
        Some(self.unread.remove(place))
    }

    fn missing(&self, expected: String) -> ParseError {
        ParseError::new(self.at, Problem::MissingAttribute { op: self.op.into(), expected })
    }

    /// `key=value`, if it stands there.
    fn optional<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, ParseError> {
        let Some(attribute) = self.take(|a| a.key == key) else { return Ok(None) };
        let (text, at) = attribute.value.unwrap_or(("", attribute.at));
        let kind = std::any::type_name::<T>();
        let invalid = || Problem::Number { key: key.into(), kind, text: text.into() };
        text.parse().map(Some).map_err(|_| ParseError::new(at, invalid()))
    }

    fn number<T: FromStr>(&mut self, key: &str) -> Result<T, ParseError> {
        self.optional(key)?.ok_or_else(|| self.missing(format!("{key}=..")))
    }

    fn flag(&mut self, key: &str) -> bool {
        self.take(|a| a.key == key && a.value.is_none()).is_some()
    }

    /// The bare word that is one of `choices`.
    fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, ParseError> {
        for (name, choice) in choices {
            if self.flag(name) {
                return Ok(*choice);
            }
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Err(self.missing(names.join(" or ")))
    }
}
