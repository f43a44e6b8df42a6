//! Parses the part of a GGUF before the tensor data: header, metadata entries, tensor records.
//!
//! Layout (ggml's `gguf.h`): `GGUF`, version u32, tensor count u64, entry count u64; entries of
//! key, type, value; records of name, dimension count u32, dimensions u64 (innermost first), type
//! u32, offset u64 from the start of the data; padding to the alignment; data.

use std::collections::BTreeMap;
use std::ops::Range;

use onebit_ir::quant::Format;

use super::reader::Cursor;
use super::value::{FromValue, Value, ValueType, read_entry};
use super::{GgufError, TensorInfo};

const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of tensor data when the file does not name one (`GGUF_DEFAULT_ALIGNMENT`).
const DEFAULT_ALIGNMENT: u64 = 32;
/// Dimensions of a tensor (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;

/// Everything but the tensor data. Ranges lie inside the file they were parsed from.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) version: u32,
    pub(super) entries: BTreeMap<String, Entry>,
    /// In file order.
    pub(super) tensors: Vec<TensorInfo>,
    /// Index in `tensors` by name.
    pub(super) names: BTreeMap<String, usize>,
}

/// Where a metadata value lies.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) ty: ValueType,
    pub(super) body: Range<usize>,
}

/// A tensor record before its data offset is known to be good.
struct Record {
    info: TensorInfo,
    /// From the start of the data.
    offset: u64,
    bytes: u64,
    /// Of the record, for errors.
    at: usize,
}

impl Directory {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(bytes);
        let version = read_version(&mut cursor)?;
        let tensor_count = cursor.u64("tensor count")?;
        let entry_count = cursor.u64("metadata entry count")?;
        let mut entries = BTreeMap::new();
        for _ in 0..entry_count {
            let at = cursor.offset();
            let (key, entry) = read_metadata(&mut cursor)?;
            if entries.contains_key(&key) {
                return Err(GgufError::DuplicateKey { key, offset: at });
            }
            entries.insert(key, entry);
        }
        refuse_split(bytes, &entries)?;
        let alignment = alignment(bytes, &entries)?;
        let mut records = Vec::new();
        let mut names = BTreeMap::new();
        for _ in 0..tensor_count {
            let record = read_record(&mut cursor)?;
            let name = record.info.name.clone();
            if names.contains_key(&name) {
                return Err(GgufError::DuplicateTensor { tensor: name, offset: record.at });
            }
            names.insert(name, records.len());
            records.push(record);
        }
        let tensors = place_data(records, cursor.offset(), alignment, bytes.len())?;
        refuse_overlap(&tensors)?;
        Ok(Self { version, entries, tensors, names })
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let start = cursor.rest();
    if start.get(..4) != Some(&MAGIC) {
        return Err(GgufError::Magic { found: start[..start.len().min(4)].to_vec() });
    }
    cursor.array::<4>("magic")?;
    match cursor.u32("version")? {
        version @ 2..=3 => Ok(version),
        // A small number with its bytes swapped.
        version if version.swap_bytes() <= 0xffff && version != 0 => Err(GgufError::BigEndian),
        found => Err(GgufError::Version { found }),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>) -> Result<(String, Entry), GgufError> {
    let key = cursor.text("metadata key")?.to_owned();
    let body = ValueType::read(cursor).and_then(|ty| {
        let start = cursor.offset();
        read_entry(cursor, ty)?;
        Ok(Entry { ty, body: start..cursor.offset() })
    });
    match body {
        Ok(entry) => Ok((key, entry)),
        Err(source) => Err(GgufError::InKey { key, source: Box::new(source) }),
    }
}

fn integer(bytes: &[u8], entries: &BTreeMap<String, Entry>, key: &str) -> Option<u64> {
    let entry = entries.get(key)?;
    let value = Value::of_entry(entry.ty, &bytes[entry.body.clone()]).ok()?;
    u64::from_value(value)
}

fn refuse_split(bytes: &[u8], entries: &BTreeMap<String, Entry>) -> Result<(), GgufError> {
    match integer(bytes, entries, "split.count") {
        Some(count) if count > 1 => Err(GgufError::Split { count }),
        _ => Ok(()),
    }
}

fn alignment(bytes: &[u8], entries: &BTreeMap<String, Entry>) -> Result<u64, GgufError> {
    const KEY: &str = "general.alignment";
    let Some(entry) = entries.get(KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    match integer(bytes, entries, KEY) {
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 30 => Ok(alignment),
        _ => Err(GgufError::WrongType {
            key: KEY.into(),
            found: Value::of_entry(entry.ty, &bytes[entry.body.clone()])?.describe(),
            expected: "a power of two of at most 2^30",
        }),
    }
}

fn read_record(cursor: &mut Cursor<'_>) -> Result<Record, GgufError> {
    let at = cursor.offset();
    let name = cursor.text("tensor name")?.to_owned();
    match read_layout(cursor) {
        Ok((format, shape, bytes, offset)) => {
            let info = TensorInfo { name, format, shape, data: 0..0 };
            Ok(Record { info, offset, bytes, at })
        }
        Err(source) => Err(GgufError::InTensor { tensor: name, source: Box::new(source) }),
    }
}

/// Format, shape (outermost first), bytes and data offset.
fn read_layout(cursor: &mut Cursor<'_>) -> Result<(Format, Vec<usize>, u64, u64), GgufError> {
    let start = cursor.offset();
    let count = cursor.u32("dimension count")?;
    if count > MAX_DIMENSIONS {
        let found = count.to_string();
        return Err(malformed("dimension count", start, found, "at most 4"));
    }
    let mut shape = Vec::new();
    for _ in 0..count {
        let at = cursor.offset();
        let size = cursor.u64("dimension")?;
        let valid = usize::try_from(size).ok().filter(|&size| size > 0);
        let Some(size) = valid else {
            return Err(malformed("dimension", at, size.to_string(), "a size that is not 0"));
        };
        shape.push(size);
    }
    if shape.is_empty() {
        shape.push(1);
    }
    let at = cursor.offset();
    let id = cursor.u32("tensor type")?;
    let format = Format::from_ggml_type(id).ok_or(GgufError::TensorType { id, offset: at })?;
    let bytes = shape[1..].iter().try_fold(format.row_bytes(shape[0]), |bytes, &size| {
        Some(bytes.and_then(|bytes| bytes.checked_mul(size)))
    });
    let Some(bytes) = bytes.flatten() else {
        let found = format!("{shape:?} elements of {format}");
        return Err(malformed(
            "shape",
            start,
            found,
            "rows of whole blocks, fewer than 2^64 bytes",
        ));
    };
    shape.reverse();
    let offset = cursor.u64("tensor data offset")?;
    Ok((format, shape, bytes as u64, offset))
}

fn malformed(
    what: &'static str,
    offset: usize,
    found: String,
    expected: &'static str,
) -> GgufError {
    GgufError::Malformed { what, offset, found, expected }
}

/// Turns offsets from the data's start, which follows `directory_end`, into ranges of the file.
fn place_data(
    records: Vec<Record>,
    directory_end: usize,
    alignment: u64,
    length: usize,
) -> Result<Vec<TensorInfo>, GgufError> {
    let data_start = (directory_end as u64).next_multiple_of(alignment);
    let place = |record: Record| {
        let Record { mut info, offset, bytes, at } = record;
        let source = if offset % alignment == 0 {
            let start = data_start.checked_add(offset);
            let end = start.and_then(|start| start.checked_add(bytes));
            match (file_offset(start, length), file_offset(end, length)) {
                (Some(start), Some(end)) => {
                    info.data = start..end;
                    return Ok(info);
                }
                _ => {
                    let (start, end) = (start.unwrap_or(u64::MAX), end.unwrap_or(u64::MAX));
                    GgufError::TensorData { start, end, length }
                }
            }
        } else {
            malformed(
                "data offset of the record",
                at,
                offset.to_string(),
                "a multiple of the alignment",
            )
        };
        Err(GgufError::InTensor { tensor: info.name, source: Box::new(source) })
    };
    records.into_iter().map(place).collect()
}

fn file_offset(offset: Option<u64>, length: usize) -> Option<usize> {
    offset.and_then(|o| usize::try_from(o).ok()).filter(|&o| o <= length)
}

fn refuse_overlap(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut sorted: Vec<&TensorInfo> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| (tensor.data.start, tensor.data.end));
    for pair in sorted.windows(2) {
        if pair[1].data.start < pair[0].data.end {
            let [first, second] = [pair[0].name.clone(), pair[1].name.clone()];
            return Err(GgufError::Overlap { first, second });
        }
    }
    Ok(())
}
