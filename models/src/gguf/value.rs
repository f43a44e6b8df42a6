//! Metadata values, decoded where they lie: an array of 250 000 strings costs no memory.

use super::GgufError;
use super::reader::Cursor;

/// Arrays inside arrays that are accepted; published models use one level.
const MAX_DEPTH: u32 = 4;

/// The type of a metadata value. Ids: `gguf_type` of ggml's `gguf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// In the order of their ids.
    const ALL: [(Self, &'static str); 13] = [
        (Self::U8, "u8"),
        (Self::I8, "i8"),
        (Self::U16, "u16"),
        (Self::I16, "i16"),
        (Self::U32, "u32"),
        (Self::I32, "i32"),
        (Self::F32, "f32"),
        (Self::Bool, "bool"),
        (Self::String, "string"),
        (Self::Array, "array"),
        (Self::U64, "u64"),
        (Self::I64, "i64"),
        (Self::F64, "f64"),
    ];

    /// Its name for messages.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Bytes of a value when all have the same number of them.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, GgufError> {
        let offset = cursor.offset();
        let id = cursor.u32("value type")?;
        let found = usize::try_from(id).ok().and_then(|id| Self::ALL.get(id));
        found.map(|&(ty, _)| ty).ok_or_else(|| GgufError::Malformed {
            what: "value type",
            offset,
            found: id.to_string(),
            expected: "an id of 0 to 12",
        })
    }
}

/// A metadata value that borrows from the file. Strings are bytes: tokens need not be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    /// Encoded elements. All of them were walked when the file was parsed.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Type of every element.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut cursor, element) = (Cursor::new(self.bytes), self.element);
        (0..self.len).map_while(move |_| read_value(&mut cursor, element, MAX_DEPTH).ok())
    }
}

impl<'a> Value<'a> {
    /// Decodes an entry's bytes, which [`read_value`] has accepted before.
    pub(super) fn of_entry(ty: ValueType, body: &'a [u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(body);
        if ty != ValueType::Array {
            return read_value(&mut cursor, ty, MAX_DEPTH);
        }
        let (element, len) = array_header(&mut cursor)?;
        Ok(Self::Array(Array { element, len, bytes: cursor.rest() }))
    }

    /// What it is, for messages: `u32 7`, `string "llama"`, `array of 12 i32`.
    pub fn describe(&self) -> String {
        match self {
            Self::U8(v) => format!("u8 {v}"),
            Self::I8(v) => format!("i8 {v}"),
            Self::U16(v) => format!("u16 {v}"),
            Self::I16(v) => format!("i16 {v}"),
            Self::U32(v) => format!("u32 {v}"),
            Self::I32(v) => format!("i32 {v}"),
            Self::F32(v) => format!("f32 {v}"),
            Self::Bool(v) => format!("bool {v}"),
            Self::String(v) => {
                let shown = &v[..v.len().min(60)];
                let more = if shown.len() < v.len() { ".." } else { "" };
                format!("string \"{}{more}\"", shown.escape_ascii())
            }
            Self::Array(v) => format!("array of {} {}", v.len, v.element.name()),
            Self::U64(v) => format!("u64 {v}"),
            Self::I64(v) => format!("i64 {v}"),
            Self::F64(v) => format!("f64 {v}"),
        }
    }

    /// The value when it is an integer of any width.
    fn integer(self) -> Option<i128> {
        match self {
            Self::U8(v) => Some(v.into()),
            Self::I8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::U64(v) => Some(v.into()),
            Self::I64(v) => Some(v.into()),
            _ => None,
        }
    }
}

/// Reads one value of type `ty`, walking all of it; `depth` more levels of arrays may follow.
pub(super) fn read_value<'a>(
    cursor: &mut Cursor<'a>,
    ty: ValueType,
    depth: u32,
) -> Result<Value<'a>, GgufError> {
    const WHAT: &str = "value";
    Ok(match ty {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::U32 => Value::U32(cursor.u32(WHAT)?),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::Bool => Value::Bool(cursor.array::<1>(WHAT)? != [0]),
        ValueType::String => Value::String(cursor.string(WHAT)?),
        ValueType::Array => Value::Array(read_array(cursor, depth)?),
        ValueType::U64 => Value::U64(cursor.u64(WHAT)?),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(WHAT)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(WHAT)?)),
    })
}

/// Reads a top-level value of an entry.
pub(super) fn read_entry(cursor: &mut Cursor<'_>, ty: ValueType) -> Result<(), GgufError> {
    read_value(cursor, ty, MAX_DEPTH).map(|_| ())
}

fn array_header(cursor: &mut Cursor<'_>) -> Result<(ValueType, usize), GgufError> {
    let element = ValueType::read(cursor)?;
    let offset = cursor.offset();
    let count = cursor.u64("array length")?;
    let len = usize::try_from(count).map_err(|_| GgufError::Truncated {
        what: "array",
        offset,
        needed: count,
        left: cursor.rest().len(),
    })?;
    Ok((element, len))
}

fn read_array<'a>(cursor: &mut Cursor<'a>, depth: u32) -> Result<Array<'a>, GgufError> {
    let offset = cursor.offset();
    let Some(depth) = depth.checked_sub(1) else {
        return Err(GgufError::Malformed {
            what: "array",
            offset,
            found: "nested too deeply".into(),
            expected: "at most 4 levels",
        });
    };
    let (element, len) = array_header(cursor)?;
    let start = cursor.rest();
    let before = cursor.offset();
    match element.size() {
        Some(size) => {
            // A saturated length is longer than any file, so `take` refuses it.
            cursor.take((len as u64).saturating_mul(size), "array")?;
        }
        None => {
            for _ in 0..len {
                read_value(cursor, element, depth)?;
            }
        }
    }
    Ok(Array { element, len, bytes: &start[..cursor.offset() - before] })
}

/// A Rust type that a metadata value converts to without loss.
pub trait FromValue<'a>: Sized {
    /// What is expected, for messages.
    const EXPECTED: &'static str;
    /// The conversion; `None` when the value is of another type or out of range.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

macro_rules! integers_from_value {
    ($($ty:ident: $expected:literal),*) => {$(
        impl FromValue<'_> for $ty {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: Value<'_>) -> Option<Self> {
                value.integer().and_then(|v| v.try_into().ok())
            }
        }
    )*};
}

integers_from_value! {
    u32: "an integer of 0 to 2^32 - 1",
    u64: "an integer of 0 to 2^64 - 1",
    i32: "an integer of -2^31 to 2^31 - 1",
    usize: "an integer that is not negative"
}

impl FromValue<'_> for f32 {
    const EXPECTED: &'static str = "a float";
    #[expect(clippy::cast_possible_truncation, reason = "rounding an f64 is what is asked for")]
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "a bool";
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    const EXPECTED: &'static str = "a string";
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::String(v) => Some(v),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a UTF-8 string";
    fn from_value(value: Value<'a>) -> Option<Self> {
        <&[u8]>::from_value(value).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

impl<'a> FromValue<'a> for Array<'a> {
    const EXPECTED: &'static str = "an array";
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }
}

/// Every element converted; of the wrong type as soon as one element is.
impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    const EXPECTED: &'static str = "an array whose elements all fit";
    fn from_value(value: Value<'a>) -> Option<Self> {
        Array::from_value(value)?.values().map(T::from_value).collect()
    }
}
