//! Products of float classes: one element of k at an invocation, by fused multiply-add.
//!
//! A 16-byte word has eight rows of one element in f16 and bf16, and four in f32. Sixteen
//! invocations read 8 elements or 4 of the 16 rows of a tile.

use super::Stream;
use super::shape::{FloatForm, Shape};

impl FloatForm {
    /// The element of a block that an invocation has.
    pub(crate) fn element(self) -> &'static str {
        match self {
            Self::F32 => "l >> 2u",
            Self::F16 | Self::BF16 => "l >> 1u",
        }
    }

    /// The word of an element's words that an invocation has.
    fn word(self) -> &'static str {
        match self {
            Self::F32 => "(l & 3u)",
            Self::F16 | Self::BF16 => "(l & 1u)",
        }
    }

    /// 16-byte words of an element of a tile.
    fn words(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Accumulators of four rows each.
    pub(crate) fn vectors(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Rows `4 * h..` of the loaded word as floats.
    fn values(self, word: &str, h: usize) -> String {
        let [first, second] = [["x", "y"], ["z", "w"]][h];
        match self {
            Self::F32 => format!("bitcast<vec4<f32>>({word})"),
            Self::F16 => format!(
                "vec4<f32>(unpack2x16float({word}.{first}), unpack2x16float({word}.{second}))"
            ),
            Self::BF16 => format!(
                "bitcast<vec4<f32>>(vec4<u32>({word}.{first} << 16u, {word}.{first} & 0xffff0000u, \
                 {word}.{second} << 16u, {word}.{second} & 0xffff0000u))"
            ),
        }
    }
}

/// Loads element `e{i}` of the tile.
pub(crate) fn load(form: FloatForm, stream: &Stream, i: usize) -> String {
    let (words, word) = (form.words(), form.word());
    let (suffix, buffer, tile) = (stream.suffix(i), stream.buffer, &stream.tile);
    format!("let q{suffix} = {buffer}[{tile} + e{i} * {words}u + {word}];\n")
}

/// Loads element `e{i}` into a variable that is there already.
pub(crate) fn reload(form: FloatForm, stream: &Stream, buffer: &str, i: usize) -> String {
    let (words, word) = (form.words(), form.word());
    format!("q{} = {buffer}[{} + e{i} * {words}u + {word}];\n", stream.suffix(i), stream.tile)
}

/// The element that an invocation has of block `b{i}`, in bounds, and in a ragged step whether it
/// is there at all.
pub(crate) fn locate(form: FloatForm, shape: &Shape, i: usize, ragged: bool) -> String {
    let (block, element, last) = (shape.block, form.element(), shape.k - 1);
    if ragged {
        format!(
            "let own{i} = b{i} * {block}u + ({element});
let e{i} = min(own{i}, {last}u);
let valid{i} = select(0.0, 1.0, own{i} <= {last}u);
"
        )
    } else {
        format!("let e{i} = b{i} * {block}u + ({element});\n")
    }
}

/// Loads row m's element.
pub(crate) fn load_input(buffer: &str, i: usize, m: usize, ragged: bool) -> String {
    let at = format!("x_row{m} + e{i}");
    let value = match buffer {
        // What a prologue leaves is vectors of four floats.
        "x_floats" => format!("{buffer}[({at}) >> 2u][({at}) & 3u]"),
        _ => format!("bitcast<f32>({buffer}[{at}])"),
    };
    let value = if ragged { format!("{value} * valid{i}") } else { value };
    format!("let x{i}_{m} = vec4<f32>({value});\n")
}

/// Adds the element of block `i` to the sums of row m.
pub(crate) fn accumulate(form: FloatForm, stream: &Stream, i: usize, m: usize) -> String {
    let word = format!("q{}", stream.suffix(i));
    (0..form.vectors())
        .map(|h| {
            let acc = format!("{}{}", stream.acc(m), ["", "h"][h]);
            format!("{acc} = fma({}, x{i}_{m}, {acc});\n", form.values(&word, h))
        })
        .collect()
}

/// Leaves every invocation with four rows of the tile: `j` and the sum of `acc`, in place of
/// eight. The invocation two further has the other four.
pub(crate) fn halve(stream: &Stream, m: usize) -> String {
    let acc = stream.acc(m);
    format!(
        "{{
    let upper = (lane & 2u) == 2u;
    let mine = select({acc}, {acc}h, upper);
    let other = select({acc}h, {acc}, upper);
    {acc} = mine + subgroupShuffleXor(other, 2u);
}}
"
    )
}
