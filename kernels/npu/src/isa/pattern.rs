//! Patterns: the layout of an operation's bits and its text, compiled from the table's notation.

use super::register::Class;
use super::{Operand, Slot};

/// Bits of a field and of the slot: `width` bits from `field` up lie at `slot` up.
#[derive(Debug)]
struct Part {
    slot: u32,
    field: u32,
    width: u32,
}

/// How a field's number becomes an operand.
#[derive(Debug)]
enum Kind {
    Register(&'static Class),
    /// Two's complement, times a step.
    Signed {
        width: u32,
        step: i64,
    },
    Unsigned {
        width: u32,
    },
    /// An offset below the stack pointer: (number - 2^width) times a step.
    Below {
        width: u32,
        step: i64,
    },
}

/// A field of a pattern.
#[derive(Debug)]
pub(super) struct Field {
    /// What the text calls it.
    pub name: String,
    kind: Kind,
    parts: Vec<Part>,
}

/// A piece of a pattern's text.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    /// The operand of the field with this index.
    Operand(usize),
}

/// One form of one operation.
#[derive(Debug)]
pub(super) struct Pattern {
    pub slot: Slot,
    /// The text with `$` before the names of fields.
    pub syntax: String,
    pub pieces: Vec<Piece>,
    pub fields: Vec<Field>,
    /// Bits that are fixed, unused ones included: those are zero.
    pub mask: u64,
    pub value: u64,
}

impl Pattern {
    /// Compiles a row of the table.
    ///
    /// `layout` lists bits from the most significant down: binary digits are fixed, `?3` is three
    /// unused bits, `kind.name` is the field `$name` of `syntax`, `kind.name[hi:lo]` bits of it.
    ///
    /// # Panics
    /// When the row is not well formed. The table is constant, and any use compiles all of it.
    pub fn new(slot: Slot, syntax: &str, layout: &str) -> Self {
        let mut pattern = Pattern {
            slot,
            syntax: syntax.to_owned(),
            pieces: Vec::new(),
            fields: Vec::new(),
            mask: 0,
            value: 0,
        };
        let mut at = slot.width();
        for token in layout.split_whitespace() {
            at = pattern
                .place(token, at)
                .unwrap_or_else(|| panic!("pattern `{syntax}`: `{token}` of `{layout}`"));
        }
        assert!(at == 0, "pattern `{syntax}`: `{layout}` lacks {at} bits");
        pattern.pieces = pieces(syntax, &pattern.fields);
        pattern
    }

    /// Places one token below bit `top`; returns its lowest bit.
    fn place(&mut self, token: &str, top: u32) -> Option<u32> {
        if let Some(count) = token.strip_prefix('?') {
            let at = top.checked_sub(count.parse().ok()?)?;
            self.mask |= ((1 << (top - at)) - 1) << at;
            return Some(at);
        }
        if let Ok(bits) = u64::from_str_radix(token, 2) {
            let at = top.checked_sub(token.len() as u32)?;
            self.mask |= ((1 << token.len()) - 1) << at;
            self.value |= bits << at;
            return Some(at);
        }
        let (kind, name) = token.split_once('.')?;
        let kind = Kind::named(kind)?;
        let (name, range) = match name.split_once('[') {
            None => (name, None),
            Some((name, range)) => (name, Some(range.strip_suffix(']')?.split_once(':')?)),
        };
        let (high, low) = match range {
            None => (kind.width() - 1, 0),
            Some((high, low)) => (high.parse().ok()?, low.parse().ok()?),
        };
        let at = top.checked_sub(high + 1 - low)?;
        let part = Part { slot: at, field: low, width: high + 1 - low };
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.parts.push(part),
            None => self.fields.push(Field { name: name.to_owned(), kind, parts: vec![part] }),
        }
        Some(at)
    }

    /// The operands of the operation `bits`, in the order of the fields; None when it is not of
    /// this pattern.
    pub fn decode(&self, bits: u64) -> Option<Vec<Operand>> {
        if bits & self.mask != self.value {
            return None;
        }
        self.fields.iter().map(|field| field.kind.decode(field.get(bits))).collect()
    }

    /// The bits of this operation with `operands`; None when one does not fit its field.
    pub fn encode(&self, operands: &[Operand]) -> Option<u64> {
        if operands.len() != self.fields.len() {
            return None;
        }
        let mut bits = self.value;
        for (field, operand) in self.fields.iter().zip(operands) {
            let number = field.kind.encode(*operand)?;
            for part in &field.parts {
                bits |= (number >> part.field & ((1 << part.width) - 1)) << part.slot;
            }
        }
        Some(bits)
    }

    /// The operands of `text`, in the order of the fields; None when it is not of this pattern.
    /// Spaces between tokens do not matter.
    pub fn parse(&self, text: &str) -> Option<Vec<Operand>> {
        let mut operands = vec![None; self.fields.len()];
        let mut rest = text;
        for piece in &self.pieces {
            rest = rest.trim_start();
            match piece {
                Piece::Text(wanted) => {
                    for word in wanted.split_whitespace() {
                        rest = rest.trim_start().strip_prefix(word)?;
                    }
                    // The mnemonic must end where the pattern's does.
                    if wanted.ends_with(' ') && rest.starts_with(|c: char| c.is_alphanumeric()) {
                        return None;
                    }
                }
                Piece::Operand(index) => {
                    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
                    let operand = self.fields[*index].kind.parse(&rest[..end])?;
                    if operands[*index].replace(operand).is_some_and(|other| other != operand) {
                        return None;
                    }
                    rest = &rest[end..];
                }
            }
        }
        if !rest.trim().is_empty() {
            return None;
        }
        operands.into_iter().collect()
    }
}

/// Cuts a syntax at its `$name`s.
fn pieces(syntax: &str, fields: &[Field]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut parts = syntax.split('$');
    pieces.extend(parts.next().map(|text| Piece::Text(text.to_owned())));
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        let index = fields.iter().position(|field| field.name == part[..end]);
        let index = index.unwrap_or_else(|| panic!("`{syntax}` has no field {}", &part[..end]));
        pieces.push(Piece::Operand(index));
        if end < part.len() {
            pieces.push(Piece::Text(part[end..].to_owned()));
        }
    }
    let is_used =
        |index| pieces.iter().any(|piece| matches!(piece, Piece::Operand(i) if *i == index));
    assert!((0..fields.len()).all(is_used), "`{syntax}` does not name each field");
    pieces
}

impl Field {
    fn get(&self, bits: u64) -> u64 {
        let part = |part: &Part| (bits >> part.slot & ((1 << part.width) - 1)) << part.field;
        self.parts.iter().map(part).sum()
    }
}

impl Kind {
    /// `i11` signed, `u6` unsigned, `i4x64` signed in steps of 64, `b9x4` below the stack pointer,
    /// else the name of a register class.
    fn named(name: &str) -> Option<Kind> {
        if let Some(class) = Class::named(name) {
            return Some(Kind::Register(class));
        }
        let (sign, size) = name.split_at_checked(1)?;
        let (width, step) = size.split_once('x').unwrap_or((size, "1"));
        let (width, step) = (width.parse().ok()?, step.parse().ok()?);
        match sign {
            "i" => Some(Kind::Signed { width, step }),
            "u" => Some(Kind::Unsigned { width }),
            "b" => Some(Kind::Below { width, step }),
            _ => None,
        }
    }

    fn width(&self) -> u32 {
        match *self {
            Kind::Register(class) => class.width,
            Kind::Signed { width, .. } | Kind::Unsigned { width } | Kind::Below { width, .. } => {
                width
            }
        }
    }

    fn decode(&self, number: u64) -> Option<Operand> {
        let value = number as i64;
        Some(match *self {
            Kind::Register(class) => Operand::Register(class.decode(number as u32)?),
            Kind::Signed { width, step } => {
                let shift = 64 - width;
                Operand::Immediate((value << shift >> shift) * step)
            }
            Kind::Unsigned { .. } => Operand::Immediate(value),
            Kind::Below { width, step } => Operand::Immediate((value - (1 << width)) * step),
        })
    }

    fn encode(&self, operand: Operand) -> Option<u64> {
        match (self, operand) {
            (Kind::Register(class), Operand::Register(register)) => {
                class.encode(register).map(u64::from)
            }
            (Kind::Signed { width, step }, Operand::Immediate(value)) => {
                let half = 1 << (width - 1);
                let steps = value / step;
                let fits = value % step == 0 && (-half..half).contains(&steps);
                fits.then_some(steps as u64 & ((1 << width) - 1))
            }
            (Kind::Unsigned { width }, Operand::Immediate(value)) => {
                (0..1 << width).contains(&value).then_some(value as u64)
            }
            (Kind::Below { width, step }, Operand::Immediate(value)) => {
                let steps = value / step;
                let fits = value % step == 0 && (-(1 << width)..0).contains(&steps);
                fits.then_some((steps + (1 << width)) as u64)
            }
            _ => None,
        }
    }

    fn parse(&self, text: &str) -> Option<Operand> {
        let operand = match self {
            Kind::Register(class) => Operand::Register(class.parse(text)?),
            _ => Operand::Immediate(text.parse().ok()?),
        };
        self.encode(operand).map(|_| operand)
    }
}
