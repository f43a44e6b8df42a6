//! Packing: exact codes and scales of up to 16 rows into one tile of a storage class.
//!
//! Nothing here rounds, except a float class that is narrower than the values it is given
//! (to nearest, ties to even). [`pack_tile`] is pure, so tiles can be packed in parallel.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use thiserror::Error;

use crate::layout::{Codes, Layout, SPAN, ScaleForm, supports, tile_bytes};

/// One matrix row of k elements.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// For integer classes. A code is the value the scale multiplies: `Q4D` takes -8..=7,
    /// `Q5D` -16..=15, `Q6K` -32..=31, the `DM`, `Q2K`, `Q4K` and `Q5K` classes the unsigned code,
    /// `Q8D` and the group classes any i8; `B1D` takes -1 and 1, `T2D` -1..=2, `Q3K` -4..=3, and the others
    /// their [levels](onebit_plan::layout::Levels).
    Codes { codes: &'a [i8], scales: Scales<'a> },
    /// For float classes.
    Float(&'a [f32]),
}

/// Scales of one row, in the form its class stores.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// `d * code + m`, one of each per 32 elements: `N4D`, `Q4D`, `Q5D`, `Q8D` (no `m`), `Q4DM`,
    /// `Q5DM` (with `m`).
    Block32 { d: &'a [f16], m: Option<&'a [f16]> },
    /// `(d * sub) * code - dmin * sub_min`; `d` and `dmin` one per 256 elements. `Q4K`, `Q5K`:
    /// `sub` and `sub_min` one per 32. `Q2K`: both one per 16. `N4K`: `sub` one per 32, `Q3K` and
    /// `Q6K`: one per 16; these do not read `dmin` and `sub_min`.
    Super { d: &'a [f16], dmin: &'a [f16], sub: &'a [i8], sub_min: &'a [u8] },
    /// `scale * code + min`, one of each per 16 elements: `I8G16` (no `min`), `I8G16M`.
    Group16 { scale: &'a [f32], min: Option<&'a [f32]> },
    /// `d * code`, one per 128 elements: `B1D`, `T2D`.
    Span128 { d: &'a [f16] },
    /// `2^(e - 128) * code`, one per 32 elements: `M4E`.
    Exponent32 { e: &'a [u8] },
}

/// Why a tile cannot be packed. `row` counts within the tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PackError {
    #[error("{class:?} cannot hold rows of {k} elements; see onebit_cpu::supports")]
    Unsupported { class: StorageClass, k: usize },
    #[error("a tile takes at most 16 rows, found {found}")]
    Rows { found: usize },
    #[error("a tile of {class:?} takes {expected} bytes, the output has {found}")]
    Output { class: StorageClass, expected: usize, found: usize },
    #[error("row {row}: {class:?} needs {expected} {what}, found {found}")]
    Length { row: usize, class: StorageClass, what: &'static str, expected: usize, found: usize },
    #[error("row {row}: {class:?} needs {expected}, found another form of row or scales")]
    Form { row: usize, class: StorageClass, expected: &'static str },
    #[error("row {row}: {class:?} holds codes {least}..={greatest}, found {found}")]
    Code { row: usize, class: StorageClass, least: i32, greatest: i32, found: i8 },
    #[error("row {row}: {class:?} has no code for {found}")]
    Level { row: usize, class: StorageClass, found: i8 },
}

/// Packs `rows` (1 to 16 of them; missing ones become zero rows) of `k` elements into `out`,
/// which has [`tile_bytes`]`(class, k)` bytes.
///
/// # Errors
/// [`PackError`] says which row does not fit the class, and how. `out` is then unspecified.
pub fn pack_tile(
    class: StorageClass,
    k: usize,
    rows: &[Row<'_>],
    out: &mut [u8],
) -> Result<(), PackError> {
    if !supports(class, k) {
        return Err(PackError::Unsupported { class, k });
    }
    if rows.len() > TILE_ROWS {
        return Err(PackError::Rows { found: rows.len() });
    }
    let expected = tile_bytes(class, k);
    if out.len() != expected {
        return Err(PackError::Output { class, expected, found: out.len() });
    }
    for (row, source) in rows.iter().enumerate() {
        check_row(class, k, row, source)?;
    }
    out.fill(0);
    match Layout::of(class) {
        Some(layout) => pack_integer(layout, k, rows, out),
        None => pack_float(class, k, rows, out),
    }
    Ok(())
}

fn check_row(class: StorageClass, k: usize, row: usize, source: &Row<'_>) -> Result<(), PackError> {
    let length = |what, expected, found| {
        if expected == found {
            return Ok(());
        }
        Err(PackError::Length { row, class, what, expected, found })
    };
    let (layout, codes, scales) = match (Layout::of(class), source) {
        (None, Row::Float(values)) => return length("values", k, values.len()),
        (Some(layout), Row::Codes { codes, scales }) => (layout, codes, scales),
        (None, _) => return Err(PackError::Form { row, class, expected: "Row::Float" }),
        (Some(_), _) => return Err(PackError::Form { row, class, expected: "Row::Codes" }),
    };
    length("codes", k, codes.len())?;
    match (layout.scales, scales) {
        (ScaleForm::Block, Scales::Block32 { d, m: None }) => length("d", k / BLOCK, d.len())?,
        (ScaleForm::BlockMin, Scales::Block32 { d, m: Some(m) }) => {
            length("d", k / BLOCK, d.len())?;
            length("m", k / BLOCK, m.len())?;
        }
        (ScaleForm::SuperMin, Scales::Super { d, dmin, sub, sub_min }) => {
            length("d", k / 256, d.len())?;
            length("dmin", k / 256, dmin.len())?;
            length("sub", k / BLOCK, sub.len())?;
            length("sub_min", k / BLOCK, sub_min.len())?;
        }
        (ScaleForm::PairMin, Scales::Super { d, dmin, sub, sub_min }) => {
            length("d", k / 256, d.len())?;
            length("dmin", k / 256, dmin.len())?;
            length("sub", k / 16, sub.len())?;
            length("sub_min", k / 16, sub_min.len())?;
        }
        (ScaleForm::Super, Scales::Super { d, sub, .. }) => {
            length("d", k / 256, d.len())?;
            length("sub", k / 16, sub.len())?;
        }
        (ScaleForm::SuperSub, Scales::Super { d, sub, .. }) => {
            length("d", k / 256, d.len())?;
            length("sub", k / BLOCK, sub.len())?;
        }
        (ScaleForm::Span, Scales::Span128 { d }) => length("d", k / SPAN, d.len())?,
        (ScaleForm::Exponent, Scales::Exponent32 { e }) => length("e", k / BLOCK, e.len())?,
        (ScaleForm::Group, Scales::Group16 { scale, min: None }) => {
            length("scale", k / 16, scale.len())?;
        }
        (ScaleForm::GroupMin, Scales::Group16 { scale, min: Some(min) }) => {
            length("scale", k / 16, scale.len())?;
            length("min", k / 16, min.len())?;
        }
        (form, _) => return Err(PackError::Form { row, class, expected: source_of(form) }),
    }
    check_codes(class, &layout, row, codes)
}

fn check_codes(
    class: StorageClass,
    layout: &Layout,
    row: usize,
    codes: &[i8],
) -> Result<(), PackError> {
    let (least, greatest) = layout.value_range();
    let (low, high) =
        codes.iter().fold((0i8, 0i8), |(low, high), &code| (low.min(code), high.max(code)));
    for found in [low, high] {
        if !(least..=greatest).contains(&i32::from(found)) {
            return Err(PackError::Code { row, class, least, greatest, found });
        }
    }
    let missing = match layout.codes {
        // The one value of the range without a code is 0.
        Codes::Bits if codes.iter().fold(1, |odd, code| odd & code) == 1 => None,
        Codes::Bits | Codes::Levels(_) => codes.iter().find(|&&code| !layout.has_value(code)),
        // Every value of the range has a code.
        Codes::Pairs
        | Codes::PairsAndBit
        | Codes::Nibbles
        | Codes::NibblesAndBit
        | Codes::NibblesAndPair
        | Codes::Bytes => None,
    };
    missing.map_or(Ok(()), |&found| Err(PackError::Level { row, class, found }))
}

/// The [`Scales`] that fill `form`.
fn source_of(form: ScaleForm) -> &'static str {
    match form {
        ScaleForm::Block => "Scales::Block32 without m",
        ScaleForm::BlockMin => "Scales::Block32 with m",
        ScaleForm::SuperMin | ScaleForm::PairMin | ScaleForm::Super | ScaleForm::SuperSub => {
            "Scales::Super"
        }
        ScaleForm::Span => "Scales::Span128",
        ScaleForm::Exponent => "Scales::Exponent32",
        ScaleForm::Group => "Scales::Group16 without min",
        ScaleForm::GroupMin => "Scales::Group16 with min",
    }
}

fn pack_integer(layout: Layout, k: usize, rows: &[Row<'_>], out: &mut [u8]) {
    for b in 0..k / BLOCK {
        let (header, block) = layout.block_at(b);
        let (codes, scales) =
            out[block..block + layout.block_bytes()].split_at_mut(layout.code_bytes());
        write_codes(layout, &interleave(layout, b, rows), codes);
        for (lane, row) in rows.iter().enumerate() {
            if let Row::Codes { scales: source, .. } = row {
                write_scales(layout, b, lane, source, scales);
            }
        }
        if layout.header_bytes() > 0 {
            write_header(layout, b, rows, &mut out[header..header + layout.header_bytes()]);
        }
    }
}

/// Codes of one block, `[quad][lane * 4 + i]`; with levels, the nibbles that stand for them.
fn interleave(layout: Layout, block: usize, rows: &[Row<'_>]) -> [[u8; 64]; 8] {
    let bias = layout.offset() as u8;
    let mut quads = [[0; 64]; 8];
    for (lane, row) in rows.iter().enumerate() {
        let Row::Codes { codes, .. } = row else { continue };
        let mut stored = [0; BLOCK];
        for (stored, code) in stored.iter_mut().zip(&codes[block * BLOCK..]) {
            *stored = match layout.codes {
                Codes::Levels(levels) => levels.index_of(*code).unwrap_or(0),
                _ => code.cast_unsigned().wrapping_add(bias),
            };
        }
        for (quad, four) in quads.iter_mut().zip(stored.chunks_exact(4)) {
            quad[lane * 4..lane * 4 + 4].copy_from_slice(four);
        }
    }
    quads
}

fn write_codes(layout: Layout, quads: &[[u8; 64]; 8], out: &mut [u8]) {
    match layout.codes {
        Codes::Bits => write_fields(quads, Fields { shift: 1, width: 1 }, out),
        Codes::Pairs => write_fields(quads, Fields { shift: 0, width: 2 }, out),
        Codes::PairsAndBit => {
            let (pairs, high) = out.split_at_mut(128);
            write_fields(quads, Fields { shift: 0, width: 2 }, pairs);
            write_fields(quads, Fields { shift: 2, width: 1 }, high);
        }
        Codes::Nibbles | Codes::Levels(_) => write_nibbles(quads, out),
        Codes::NibblesAndBit | Codes::NibblesAndPair => {
            let (nibbles, high) = out.split_at_mut(256);
            write_nibbles(quads, nibbles);
            write_fields(quads, Fields { shift: 4, width: layout.bits() - 4 }, high);
        }
        Codes::Bytes => {
            for (line, quad) in out.chunks_exact_mut(64).zip(quads) {
                line.copy_from_slice(quad);
            }
        }
    }
}

fn write_nibbles(quads: &[[u8; 64]; 8], out: &mut [u8]) {
    for (j, line) in out.chunks_exact_mut(64).enumerate() {
        for (byte, (low, top)) in line.iter_mut().zip(quads[j].iter().zip(&quads[j + 4])) {
            *byte = (low & 15) | (top << 4);
        }
    }
}

/// Bits `shift..shift + width` of codes.
#[derive(Clone, Copy)]
struct Fields {
    shift: u32,
    width: u32,
}

/// Packs a field of the codes, quad after quad from bit 0 up, as many quads a line as fit.
fn write_fields(quads: &[[u8; 64]; 8], Fields { shift, width }: Fields, out: &mut [u8]) {
    let mask = (1 << width) - 1;
    let per_line = 8 / width as usize;
    for (line, group) in out.chunks_exact_mut(64).zip(quads.chunks_exact(per_line)) {
        for (c, quad) in (0u32..).zip(group) {
            for (byte, code) in line.iter_mut().zip(quad) {
                *byte |= (code >> shift & mask) << (width * c);
            }
        }
    }
}

/// Scales of block `b` of one row.
fn write_scales(layout: Layout, b: usize, lane: usize, source: &Scales<'_>, out: &mut [u8]) {
    let pair = 2 * b..2 * b + 2;
    match *source {
        Scales::Block32 { d, m } => {
            put(out, lane, [d[b].to_le_bytes()]);
            if let Some(m) = m {
                put(&mut out[32..], lane, [m[b].to_le_bytes()]);
            }
        }
        // All in the header.
        Scales::Span128 { .. } | Scales::Exponent32 { .. } => {}
        Scales::Super { .. } if layout.scales == ScaleForm::SuperSub => {}
        Scales::Super { sub, sub_min, .. } if layout.has_groups() => {
            put(out, lane, sub[pair.clone()].iter().map(|sub| sub.to_le_bytes()));
            if layout.has_min() {
                put(&mut out[32..], lane, sub_min[pair].iter().map(|sub| [*sub]));
            }
        }
        Scales::Super { sub, sub_min, .. } => {
            put(out, lane, [sub[b].to_le_bytes()]);
            put(&mut out[16..], lane, [[sub_min[b]]]);
        }
        Scales::Group16 { scale, min } => {
            put(out, lane, scale[pair.clone()].iter().map(|scale| scale.to_le_bytes()));
            if let Some(min) = min {
                put(&mut out[128..], lane, min[pair].iter().map(|min| min.to_le_bytes()));
            }
        }
    }
}

/// What the header of its record says of block `b`.
fn write_header(layout: Layout, b: usize, rows: &[Row<'_>], out: &mut [u8]) {
    let (index, within) = (b / layout.blocks(), b % layout.blocks());
    for (lane, row) in rows.iter().enumerate() {
        let Row::Codes { scales, .. } = row else { continue };
        match *scales {
            Scales::Super { d, dmin, sub, .. } => {
                put(out, lane, [d[index].to_le_bytes()]);
                if layout.has_min() {
                    put(&mut out[32..], lane, [dmin[index].to_le_bytes()]);
                }
                if layout.scales == ScaleForm::SuperSub {
                    put(&mut out[64 + TILE_ROWS * within..], lane, [sub[b].to_le_bytes()]);
                }
            }
            Scales::Span128 { d } => {
                let span = b * BLOCK / SPAN;
                let array = within * BLOCK / SPAN;
                put(&mut out[32 * array..], lane, [d[span].to_le_bytes()]);
            }
            Scales::Exponent32 { e } => put(&mut out[TILE_ROWS * within..], lane, [[e[b]]]),
            Scales::Block32 { .. } | Scales::Group16 { .. } => {}
        }
    }
}

/// Writes lane `lane` of consecutive `[16]` arrays of N-byte values.
fn put<const N: usize>(out: &mut [u8], lane: usize, values: impl IntoIterator<Item = [u8; N]>) {
    for (array, value) in out.chunks_exact_mut(TILE_ROWS * N).zip(values) {
        array[lane * N..lane * N + N].copy_from_slice(&value);
    }
}

fn pack_float(class: StorageClass, k: usize, rows: &[Row<'_>], out: &mut [u8]) {
    let mut halves = vec![f16::ZERO; k];
    let mut brains = vec![bf16::ZERO; k];
    for (lane, row) in rows.iter().enumerate() {
        let Row::Float(values) = row else { continue };
        match class {
            StorageClass::F16 => {
                halves.convert_from_f32_slice(values);
                put(out, lane, halves.iter().map(|x| x.to_le_bytes()));
            }
            StorageClass::BF16 => {
                brains.convert_from_f32_slice(values);
                put(out, lane, brains.iter().map(|x| x.to_le_bytes()));
            }
            _ => put(out, lane, values.iter().map(|x| x.to_le_bytes())),
        }
    }
}
