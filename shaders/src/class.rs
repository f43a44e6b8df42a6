//! How one invocation reads its share of a block of an integer class, as WGSL.
//!
//! Sixteen invocations share the block of a tile: invocation `l` has word `j = l & 3` of line
//! `v = l >> 2`, which is rows `4j..4j + 4` of quads `v` and `v + 4`, the first in elements 0..16
//! and the second in 16..32 ([`onebit_plan::layout`]). Everything is a `vec4` over its four rows.
//! Codes of one or two bits fill fewer lines: there invocations share words, and each takes its
//! own quads out of them.

use std::fmt::Write;

use onebit_plan::layout::{Codes, Layout, Levels, ScaleForm};

use crate::activations::declare_bits;
use crate::kernel::Source;

/// Where an invocation finds a 16-byte word.
#[derive(Clone, Copy)]
enum Part {
    /// Behind the first word of the block's codes.
    Codes,
    /// Behind the first word of the block's scales.
    Scales,
    /// Behind the first word of the record.
    Header,
}

/// A word to load: name, part and which word of it; `half` is `j >> 1` and `{b}` the block.
type Load = (&'static str, Part, &'static str);

const fn code_loads(codes: Codes) -> &'static [Load] {
    match codes {
        Codes::Bits => &[("e", Part::Codes, "j")],
        Codes::Pairs => &[("e", Part::Codes, "j"), ("g", Part::Codes, "4u + j")],
        Codes::PairsAndBit => {
            &[("e", Part::Codes, "j"), ("g", Part::Codes, "4u + j"), ("h", Part::Codes, "8u + j")]
        }
        Codes::Nibbles | Codes::Levels(_) => &[("q", Part::Codes, "l")],
        Codes::NibblesAndBit => &[("q", Part::Codes, "l"), ("e", Part::Codes, "16u + j")],
        Codes::NibblesAndPair => {
            &[("q", Part::Codes, "l"), ("e", Part::Codes, "16u + j"), ("g", Part::Codes, "20u + j")]
        }
        Codes::Bytes => &[("q", Part::Codes, "l"), ("e", Part::Codes, "16u + l")],
    }
}

const fn scale_loads(scales: ScaleForm) -> &'static [Load] {
    match scales {
        ScaleForm::Block => &[("d", Part::Scales, "half")],
        ScaleForm::BlockMin => &[("d", Part::Scales, "half"), ("m", Part::Scales, "2u + half")],
        ScaleForm::SuperMin => &[
            ("d", Part::Header, "half"),
            ("m", Part::Header, "2u + half"),
            ("s", Part::Scales, "0u"),
            ("t", Part::Scales, "1u"),
        ],
        ScaleForm::PairMin => &[
            ("d", Part::Header, "half"),
            ("m", Part::Header, "2u + half"),
            ("s", Part::Scales, "0u"),
            ("t", Part::Scales, "1u"),
            ("f", Part::Scales, "2u"),
            ("u", Part::Scales, "3u"),
        ],
        ScaleForm::SuperSub => {
            &[("d", Part::Header, "half"), ("s", Part::Header, "4u + ({b} & 7u)")]
        }
        ScaleForm::Span => &[("d", Part::Header, "(({b} >> 1u) & 2u) + half")],
        ScaleForm::Exponent => &[("s", Part::Header, "({b} & 7u)")],
        ScaleForm::Super => {
            &[("d", Part::Header, "half"), ("s", Part::Scales, "0u"), ("t", Part::Scales, "1u")]
        }
        ScaleForm::Group => &[("d", Part::Scales, "j"), ("s", Part::Scales, "4u + j")],
        ScaleForm::GroupMin => &[
            ("d", Part::Scales, "j"),
            ("s", Part::Scales, "4u + j"),
            ("m", Part::Scales, "8u + j"),
            ("t", Part::Scales, "12u + j"),
        ],
    }
}

/// Packed bytes of quad `v` and of quad `v + 4`: what the code stands for in `Bytes` and `Levels`,
/// the code in the others. `{i}` is the block's suffix.
const fn quads(codes: Codes) -> [&'static str; 2] {
    match codes {
        Codes::Bits => [
            "((e{i} >> vec4<u32>(v)) & vec4<u32>(0x01010101u)) << vec4<u32>(1u)",
            "((e{i} >> vec4<u32>(v + 4u)) & vec4<u32>(0x01010101u)) << vec4<u32>(1u)",
        ],
        Codes::Pairs => [
            "(e{i} >> vec4<u32>(2u * v)) & vec4<u32>(0x03030303u)",
            "(g{i} >> vec4<u32>(2u * v)) & vec4<u32>(0x03030303u)",
        ],
        Codes::PairsAndBit => [
            "((e{i} >> vec4<u32>(2u * v)) & vec4<u32>(0x03030303u)) | \
             (((h{i} >> vec4<u32>(v)) & vec4<u32>(0x01010101u)) << vec4<u32>(2u))",
            "((g{i} >> vec4<u32>(2u * v)) & vec4<u32>(0x03030303u)) | \
             (((h{i} >> vec4<u32>(v + 4u)) & vec4<u32>(0x01010101u)) << vec4<u32>(2u))",
        ],
        Codes::Levels(Levels::Nonlinear) => ["nonlinear(q{i})", "nonlinear(q{i} >> vec4<u32>(4u))"],
        Codes::Levels(Levels::E2m1) => ["e2m1(q{i})", "e2m1(q{i} >> vec4<u32>(4u))"],
        Codes::Nibbles => {
            ["q{i} & vec4<u32>(0x0f0f0f0fu)", "(q{i} >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)"]
        }
        Codes::NibblesAndBit => [
            "(q{i} & vec4<u32>(0x0f0f0f0fu)) | \
             (((e{i} >> vec4<u32>(v)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u))",
            "((q{i} >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | \
             (((e{i} >> vec4<u32>(v + 4u)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u))",
        ],
        Codes::NibblesAndPair => [
            "(q{i} & vec4<u32>(0x0f0f0f0fu)) | \
             (((e{i} >> vec4<u32>(2u * v)) & vec4<u32>(0x03030303u)) << vec4<u32>(4u))",
            "((q{i} >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu)) | \
             (((g{i} >> vec4<u32>(2u * v)) & vec4<u32>(0x03030303u)) << vec4<u32>(4u))",
        ],
        Codes::Bytes => ["q{i} ^ vec4<u32>(0x80808080u)", "e{i} ^ vec4<u32>(0x80808080u)"],
    }
}

/// Names and values of scales (`w`, or `w` and `z` for each half of a block) and minima (`n`, or
/// `n` and `o`).
const fn scales(form: ScaleForm) -> &'static [(&'static str, &'static str)] {
    match form {
        ScaleForm::Block => &[("w", "halves(d{i}, j)")],
        ScaleForm::BlockMin => &[("w", "halves(d{i}, j)"), ("n", "halves(m{i}, j)")],
        ScaleForm::SuperMin => &[
            ("w", "halves(d{i}, j) * signed_bytes(s{i}[j])"),
            ("n", "-(halves(m{i}, j) * unsigned_bytes(t{i}[j]))"),
        ],
        ScaleForm::PairMin => &[
            ("w", "halves(d{i}, j) * signed_bytes(s{i}[j])"),
            ("z", "halves(d{i}, j) * signed_bytes(t{i}[j])"),
            ("n", "-(halves(m{i}, j) * unsigned_bytes(f{i}[j]))"),
            ("o", "-(halves(m{i}, j) * unsigned_bytes(u{i}[j]))"),
        ],
        ScaleForm::SuperSub => &[("w", "halves(d{i}, j) * signed_bytes(s{i}[j])")],
        ScaleForm::Span => &[("w", "halves(d{i}, j)")],
        ScaleForm::Exponent => &[("w", "powers(s{i}[j])")],
        ScaleForm::Super => &[
            ("w", "halves(d{i}, j) * signed_bytes(s{i}[j])"),
            ("z", "halves(d{i}, j) * signed_bytes(t{i}[j])"),
        ],
        ScaleForm::Group => &[("w", "bitcast<vec4<f32>>(d{i})"), ("z", "bitcast<vec4<f32>>(s{i})")],
        ScaleForm::GroupMin => &[
            ("w", "bitcast<vec4<f32>>(d{i})"),
            ("z", "bitcast<vec4<f32>>(s{i})"),
            ("n", "bitcast<vec4<f32>>(m{i})"),
            ("o", "bitcast<vec4<f32>>(t{i})"),
        ],
    }
}

/// Four f16 of a word that has eight: those of rows `4j..4j + 4`.
const HALVES: &str = "fn halves(word: vec4<u32>, j: u32) -> vec4<f32> {
    let pair = select(word.xy, word.zw, (j & 1u) == 1u);
    return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}";

const SIGNED_BYTES: &str = "fn signed_bytes(word: u32) -> vec4<f32> {
    let high = vec4<u32>(word << 24u, word << 16u, word << 8u, word);
    return vec4<f32>(bitcast<vec4<i32>>(high) >> vec4<u32>(24u));
}";

const UNSIGNED_BYTES: &str = "fn unsigned_bytes(word: u32) -> vec4<f32> {
    let low = vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u);
    return vec4<f32>(low & vec4<u32>(255u));
}";

/// `2^(e - 128)` of four bytes, as two normal factors because the lowest two are subnormal.
const POWERS: &str = "fn powers(word: u32) -> vec4<f32> {
    let e = vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u) & vec4<u32>(255u);
    let half = e >> vec4<u32>(1u);
    let first = bitcast<vec4<f32>>((half + vec4<u32>(63u)) << vec4<u32>(23u));
    return first * bitcast<vec4<f32>>((e - half + vec4<u32>(63u)) << vec4<u32>(23u));
}";

/// A function from the low nibbles of bytes to their levels. Bytes are chosen between by the bits
/// of the nibble, from the lowest up, for all bytes at once: no table is read.
fn levels_function(levels: Levels) -> String {
    let splat = |level: i8| {
        let byte = u32::from(level.cast_unsigned());
        format!("vec4<u32>({:#x}u)", byte * 0x0101_0101)
    };
    let mut values: Vec<String> = levels.values().map(splat).to_vec();
    let name = match levels {
        Levels::Nonlinear => "nonlinear",
        Levels::E2m1 => "e2m1",
    };
    let mut out = format!("fn {name}(word: vec4<u32>) -> vec4<u32> {{\n");
    for bit in 0..4 {
        // All ones in the bytes whose nibble has the bit.
        let one = format!("((word >> vec4<u32>({bit}u)) & vec4<u32>(0x01010101u))");
        writeln!(out, "    let b{bit} = {one} * vec4<u32>(255u);").expect("strings take all");
        values = values
            .chunks_exact(2)
            .enumerate()
            .map(|(i, pair)| {
                let name = format!("l{bit}_{i}");
                let [zero, one] = [&pair[0], &pair[1]];
                writeln!(out, "    let {name} = (b{bit} & {one}) | (~b{bit} & {zero});")
                    .expect("strings take all");
                name
            })
            .collect();
    }
    writeln!(out, "    return {};\n}}", values[0]).expect("strings take all");
    out
}

/// Declares the functions that [`unpack`] calls.
pub(crate) fn declare(source: &mut Source, layout: &Layout) {
    if let Codes::Levels(levels) = layout.codes {
        source.declare(levels_function(levels));
    }
    match layout.scales {
        ScaleForm::Block | ScaleForm::BlockMin | ScaleForm::Span => source.declare(HALVES),
        ScaleForm::Exponent => source.declare(POWERS),
        ScaleForm::SuperMin | ScaleForm::PairMin => {
            source.declare(HALVES);
            source.declare(SIGNED_BYTES);
            source.declare(UNSIGNED_BYTES);
        }
        ScaleForm::Super | ScaleForm::SuperSub => {
            source.declare(HALVES);
            source.declare(SIGNED_BYTES);
        }
        ScaleForm::Group | ScaleForm::GroupMin => {}
    }
}

/// Declares `signed_bytes`.
pub(crate) fn declare_signed(source: &mut Source) {
    source.declare(SIGNED_BYTES);
}

/// As [`HALVES`] and the functions behind it, in f16: a scale and a sub-scale have 19 bits together, so
/// that their product is rounded once either way.
const IN_HALVES: &str = "fn halves(own: vec2<u32>, j: u32) -> vec4<f16> {
    return pairs(own.x, own.y);
}
fn unsigned_bytes(word: u32) -> vec4<f16> {
    let even = (word & 0x00ff00ffu) | 0x64006400u;
    let odd = ((word >> 8u) & 0x00ff00ffu) | 0x64006400u;
    return (pairs(even, odd) - vec4<f16>(1024.0h)).xzyw;
}
fn signed_bytes(word: u32) -> vec4<f16> {
    let even = (word & 0x00ff00ffu) ^ 0x64806480u;
    let odd = ((word >> 8u) & 0x00ff00ffu) ^ 0x64806480u;
    return (pairs(even, odd) - vec4<f16>(1152.0h)).xzyw;
}";

/// Declares the functions that [`unpack`] calls so that scales and minima are f16, where
/// [`has_halves`] says so.
pub(crate) fn declare_halves(source: &mut Source, layout: &Layout) {
    declare_bits(source);
    if let Codes::Levels(levels) = layout.codes {
        source.declare(levels_function(levels));
    }
    match layout.scales {
        ScaleForm::Exponent => source.declare(POWERS),
        _ if has_halves(layout) => source.declare(IN_HALVES),
        _ => {}
    }
}

/// Whether a class's scales are f16 with [`declare_halves`], and not f32.
pub(crate) fn has_halves(layout: &Layout) -> bool {
    !matches!(layout.scales, ScaleForm::Exponent | ScaleForm::Group | ScaleForm::GroupMin)
}

/// Names of the scales and minima that [`unpack`] gives.
pub(crate) fn scale_names(layout: &Layout) -> impl Iterator<Item = &'static str> {
    scales(layout.scales).iter().map(|(name, _)| *name)
}

/// Registers that an invocation needs for a block of weights in flight, as words of 16 bytes:
/// those that it loads, and what choosing between levels takes.
pub(crate) const fn words(layout: &Layout) -> usize {
    let levels = matches!(layout.codes, Codes::Levels(_)) as usize;
    code_loads(layout.codes).len() + scale_loads(layout.scales).len() + levels
}

/// Loads all words of block `b{i}` of the tile whose first word is the expression `tile`.
pub(crate) fn load(layout: &Layout, buffer: &str, tile: &str, block: &str, i: &str) -> String {
    let mut out = addresses(layout, tile, block, i);
    for (name, word) in places(layout, block, i) {
        out += &format!("let {name}{i} = {buffer}[{word}];\n");
    }
    out
}

/// Variables for what [`fill`] loads of a block, with their types, and how many registers they
/// take.
pub(crate) fn slot(layout: &Layout, i: &str) -> (String, usize) {
    slot_of(layout, Loaded::Fourths, i)
}

/// As [`slot`], for what [`fill_of`] loads.
pub(crate) fn slot_of(layout: &Layout, loaded: Loaded, i: &str) -> (String, usize) {
    let names = places(layout, "0u", i);
    let declare = |name: &str| match loaded.of(layout, name) {
        Share::Fourth => (format!("var {name}{i}: u32;\n"), 1),
        Share::Half => (format!("var {name}{i}: vec2<u32>;\n"), 2),
        Share::Whole => (format!("var {name}{i}: vec4<u32>;\n"), 4),
    };
    names
        .iter()
        .map(|(name, _)| declare(name))
        .fold((String::new(), 0), |(text, sum), (one, n)| (text + &one, sum + n))
}

/// As [`load`] into the variables of a [`slot`]. Of words of which an invocation uses only its
/// own fourth, only that is loaded.
pub(crate) fn fill(layout: &Layout, buffer: &str, tile: &str, block: &str, i: &str) -> String {
    fill_of(layout, Loaded::Fourths, [buffer, tile, block, i])
}

/// As [`fill`] of `[buffer, tile, block, i]`, with less than whole words as `loaded` says.
pub(crate) fn fill_of(
    layout: &Layout,
    loaded: Loaded,
    [buffer, tile, block, i]: [&str; 4],
) -> String {
    let mut out = addresses(layout, tile, block, i);
    for (name, word) in places(layout, block, i) {
        let word = format!("{buffer}[{word}]");
        let value = match loaded.of(layout, name) {
            Share::Fourth => format!("{word}[j]"),
            Share::Half => {
                out += &format!("let whole_{name}{i} = {word};\n");
                format!("select(whole_{name}{i}.xy, whole_{name}{i}.zw, (j & 1u) == 1u)")
            }
            Share::Whole => word,
        };
        out += &format!("{name}{i} = {value};\n");
    }
    out
}

/// What is loaded, or kept, of words of which an invocation uses a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// Its fourth, of words that it uses no more of.
    Fourths,
    /// That, and of words of eight f16 its four are kept. For [`declare_halves`].
    Halves,
}

/// What of a word is kept.
enum Share {
    Fourth,
    Half,
    Whole,
}

impl Loaded {
    fn of(self, layout: &Layout, name: &str) -> Share {
        let half = format!("halves({name}{{i}}");
        let is_half = || scales(layout.scales).iter().any(|(_, value)| value.contains(&half));
        match self {
            _ if is_own(layout, name) => Share::Fourth,
            Self::Halves if is_half() => Share::Half,
            _ => Share::Whole,
        }
    }
}

/// Whether an invocation uses fourth `j` of a word alone.
fn is_own(layout: &Layout, name: &str) -> bool {
    let fourth = format!("{name}{{i}}[j]");
    scales(layout.scales).iter().any(|(_, value)| value.contains(&fourth))
}

/// Says where block `b{i}` is.
fn addresses(layout: &Layout, tile: &str, block: &str, i: &str) -> String {
    let words = |bytes: usize| bytes / 16;
    let step = words(layout.block_bytes());
    if layout.blocks() == 1 {
        return format!("let at{i} = {tile} + {block} * {step}u;\n");
    }
    let [record, header] = [words(layout.record_bytes()), words(layout.header_bytes())];
    format!(
        "let head{i} = {tile} + ({block} >> 3u) * {record}u;
let at{i} = head{i} + {header}u + ({block} & 7u) * {step}u;
"
    )
}

/// Names and places of the words of a block.
fn places(layout: &Layout, block: &str, i: &str) -> Vec<(&'static str, String)> {
    let codes = layout.code_bytes() / 16;
    let loads = code_loads(layout.codes).iter().chain(scale_loads(layout.scales));
    let place = |&(name, part, word): &Load| {
        let first = match part {
            Part::Codes => format!("at{i}"),
            Part::Scales => format!("at{i} + {codes}u"),
            Part::Header => format!("head{i}"),
        };
        (name, format!("{first} + {}", word.replace("{b}", block)))
    };
    loads.map(place).collect()
}

/// From the loaded words: `a{i}` and `c{i}`, the packed bytes of both quads, and the scales.
pub(crate) fn unpack(layout: &Layout, i: &str) -> String {
    let [low, high] = quads(layout.codes);
    let values = [("a", low), ("c", high)];
    let all = values.iter().chain(scales(layout.scales));
    all.map(|(name, value)| format!("let {name}{i} = {};\n", value.replace("{i}", i))).collect()
}

/// As [`unpack`], from a [`slot`].
pub(crate) fn unpack_slot(layout: &Layout, i: &str) -> String {
    unpack(layout, i).replace("[j]", "")
}

/// What a byte of [`unpack`] is above the value it stands for.
pub(crate) fn bias(layout: &Layout) -> u32 {
    match (layout.codes, layout.bias) {
        (Codes::Bytes | Codes::Levels(_), _) | (_, None) => 0,
        (_, Some(shift)) => 1 << shift,
    }
}
