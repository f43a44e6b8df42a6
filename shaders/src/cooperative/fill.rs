//! A turn's weights and activations on their way to workgroup memory.

use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use onebit_plan::layout::{Codes, Layout};

use super::{Cooperative, ROWS, SETS, Work};
use crate::activations::half_words;
use crate::class::{self, Loaded};
use crate::kernel::{Immediate, Source};
use crate::product::PART_BINDINGS;
use crate::product::shape::tile_words;

/// Tiles of a workgroup that are of one matrix.
pub(super) struct Tiles {
    buffer: &'static str,
    layout: Layout,
    class: StorageClass,
    base: String,
    /// Tiles of the matrix.
    count: usize,
    /// Those of the workgroup.
    of: std::ops::Range<usize>,
    /// What the names of its words end in: matrices of one class share them.
    mark: &'static str,
}

impl Cooperative<'_> {
    /// The matrices with their tiles of a workgroup: gate and up have half of them each.
    pub(super) fn matrices(&self, source: &mut Source) -> Vec<Tiles> {
        let (classes, n) = match self.work {
            Work::Product { class, n, .. } => (vec![class], n),
            Work::Gated { classes, n, .. } => (classes.to_vec(), n),
        };
        let each = self.turn.columns / TILE_ROWS / classes.len();
        let first = classes[0];
        let matrices = classes.into_iter().enumerate().map(|(i, class)| {
            let layout = Layout::of(class).expect("cooperative products are of integer classes");
            class::declare_halves(source, &layout);
            let base = source.immediate(Immediate::Weights { binding: PART_BINDINGS[i] });
            Tiles {
                buffer: source.read(PART_BINDINGS[i]),
                layout,
                class,
                base,
                count: n.div_ceil(TILE_ROWS),
                of: each * i..each * (i + 1),
                mark: if class == first { "" } else { "u" },
            }
        });
        matrices.collect()
    }

    /// 16-byte words of activations that a workgroup brings in each turn.
    fn row_words(&self) -> usize {
        self.m * half_words(self.turn.step())
    }

    fn row_words_each(&self) -> usize {
        self.row_words().div_ceil(self.turn.invocations())
    }

    /// Which weights an invocation brings: sixteen do a block of a tile, as in a product, and a
    /// subgroup has blocks of one tile. All that a turn changes is the block. Names end in the number
    /// of the block in the turn.
    pub(super) fn places(&self, matrices: &[Tiles]) -> String {
        let parts = self.turn.blocks_at_once();
        let mut out = format!(
            "let l = lane & 15u;
let j = l & 3u;
let v = l >> 2u;
let half = j >> 1u;
let unit = lane >> 4u;
let tile = unit / {parts}u;
let part = unit % {parts}u;
let to = (tile * 16u + j * 2u) * {}u + part * {}u + v;
var tile_at = 0u;
",
            self.pitch(),
            half_words(BLOCK)
        );
        let place = |Tiles { base, class, count, of, .. }: &Tiles| {
            let (each, words) = (of.len(), tile_words(*class, self.k));
            format!(
                "tile_at = {base} + min(group.x * {each}u + tile - {}u, {}u) * {words}u;\n",
                of.start,
                count - 1
            )
        };
        out += &by_matrix(matrices, place);
        for i in 0..self.turn.depth {
            for set in SETS {
                for matrix in distinct(matrices) {
                    let suffix = matrix.suffix(set, i);
                    out += &class::slot_of(&matrix.layout, Loaded::Halves, &suffix).0;
                }
            }
        }
        out
    }

    /// Which activations an invocation brings, eight elements at a time.
    pub(super) fn places_of_rows(&self, base: &str) -> String {
        let words = half_words(self.turn.step());
        let each = (0..self.row_words_each()).map(|i| {
            let word = i * self.turn.invocations();
            format!(
                "let x_row_{i} = (lane + {word}u) / {words}u;
let x_word_{i} = (lane + {word}u) % {words}u;
let x_from_{i} = {base} + min(first + x_row_{i}, rows - 1u) * {}u;
var x_{i}: vec4<u32>;
",
                half_words(self.k)
            )
        });
        each.collect()
    }

    /// Asks for an invocation's weights of a turn.
    pub(super) fn load(&self, matrices: &[Tiles], set: &str, turn: &str) -> String {
        let blocks = self.k / BLOCK;
        let mut out = String::new();
        for i in 0..self.turn.depth {
            let block = format!(
                "{turn} * {}u + part + {}u",
                self.turn.step() / BLOCK,
                i * self.turn.blocks_at_once()
            );
            out += &match self.is_ragged() {
                true => format!("{{\nlet block = min({block}, {}u);\n", blocks - 1),
                false => format!("{{\nlet block = {block};\n"),
            };
            let load = |matrix: &Tiles| {
                let suffix = matrix.suffix(set, i);
                class::fill_of(
                    &matrix.layout,
                    Loaded::Halves,
                    [matrix.buffer, "tile_at", "block", &suffix],
                )
            };
            out += &by_matrix(matrices, load);
            out += "}\n";
        }
        out
    }

    /// Asks for an invocation's activations of a turn.
    pub(super) fn load_rows(&self, input: &str, turn: &str) -> String {
        let last = half_words(self.k) - 1;
        let each = (0..self.row_words_each()).map(|i| {
            let word = format!("{turn} * {}u + x_word_{i}", half_words(self.turn.step()));
            let word = match self.is_ragged() {
                true => format!("min({word}, {last}u)"),
                false => word,
            };
            format!("x_{i} = {input}[x_from_{i} + {word}];\n")
        });
        each.collect()
    }

    /// Brings a turn's weights to workgroup memory.
    pub(super) fn fill(&self, matrices: &[Tiles], set: &str) -> String {
        let distinct = distinct(matrices);
        let each = (0..self.turn.depth)
            .map(|i| by_matrix(distinct, |matrix| self.dequantise(matrix, set, i)));
        each.collect()
    }

    /// Writes the f16 values of quads `v` and `v + 4` of four rows, in the order of
    /// [`ActivationForm::Halves`](crate::ActivationForm).
    fn dequantise(&self, matrix: &Tiles, set: &str, i: usize) -> String {
        let (layout, tag) = (&matrix.layout, matrix.suffix(set, i));
        let mut out = "{\n".to_owned();
        out += &class::unpack_slot(layout, &tag);
        out += &self.scales(layout, &tag, i);
        let names: Vec<&str> = class::scale_names(layout).collect();
        let (codes, zeros) = codes_in_halves(layout, &tag);
        out += &codes;
        for (row, c) in ROWS.into_iter().zip(['x', 'y', 'z', 'w']) {
            out += "{\n";
            let quads = [("a", ["w", "n"]), ("c", ["z", "o"])];
            for ((codes, [scale, min]), zero) in quads.into_iter().zip(zeros) {
                let scale = if names.contains(&scale) { scale } else { "w" };
                let min = [min, "n"].into_iter().find(|name| names.contains(name));
                let code =
                    format!("(pairs({codes}_even.{c}, {codes}_odd.{c}) - vec4<f16>({zero}.0h))");
                let scale = format!("vec4<f16>({scale}h.{c})");
                let value = match min {
                    Some(min) => format!("fma({code}, {scale}, vec4<f16>({min}h.{c}))"),
                    None => format!("{code} * {scale}"),
                };
                out += &format!("let {codes} = {value};\n");
            }
            out += &format!(
                "w_tile[to + {}u] = bitcast<vec4<f32>>(\
                 vec4<u32>(bits(a.xy), bits(a.zw), bits(c.xy), bits(c.zw)));\n}}\n",
                row * self.pitch() + i * self.turn.blocks_at_once() * half_words(BLOCK)
            );
        }
        out + "}\n"
    }

    /// Scales and minima of block `i` in f16, with an `h` behind their names: zeros behind the end of
    /// k, where codes are those of another block.
    fn scales(&self, layout: &Layout, tag: &str, i: usize) -> String {
        let inside = format!(
            "now * {}u + part + {}u < {}u",
            self.turn.step() / BLOCK,
            i * self.turn.blocks_at_once(),
            self.k / BLOCK
        );
        let one = |name| {
            let value = match class::has_halves(layout) {
                true => format!("{name}{tag}"),
                false => format!("vec4<f16>({name}{tag})"),
            };
            match self.is_ragged() {
                true => format!("let {name}h = select(vec4<f16>(), {value}, {inside});\n"),
                false => format!("let {name}h = {value};\n"),
            }
        };
        class::scale_names(layout).map(one).collect()
    }

    /// Brings a turn's activations to workgroup memory.
    pub(super) fn fill_rows(&self) -> String {
        let is_whole = self.row_words().is_multiple_of(self.turn.invocations());
        let each = (0..self.row_words_each()).map(|i| {
            let guard = match is_whole {
                true => String::new(),
                false => format!("if (x_row_{i} < {}u) ", self.m),
            };
            format!(
                "{guard}{{ x_tile[x_row_{i} * {}u + x_word_{i}] = bitcast<vec4<f32>>(x_{i}); }}\n",
                self.pitch()
            )
        });
        each.collect()
    }
}

impl Tiles {
    /// What the names of block `i`'s words end in.
    fn suffix(&self, set: &str, i: usize) -> String {
        format!("{set}{i}{}", self.mark)
    }
}

/// Declares numbers whose f16 halves are 1024 and 64. Drivers that know them as constants mask and add
/// a code in two operations, which are one where only the mask is constant.
pub(super) const BASES: &str =
    "let base_1024 = 0x64006400u + nought;\nlet base_64 = 0x54005400u + nought;";

/// Names f16 numbers for the codes of quads `v` (`a`) and `v + 4` (`c`), those of even bytes and those
/// of odd ones, and how much each of the two quads is above its values.
///
/// A code becomes f16 as the low bits of 1024: below 2048 f16 has all integers. High nibbles are where
/// 64 has its integers.
fn codes_in_halves(layout: &Layout, tag: &str) -> (String, [u32; 2]) {
    let bias = class::bias(layout);
    if layout.codes == Codes::Nibbles {
        let text = format!(
            "let shifted = q{tag} >> vec4<u32>(8u);
let a_even = (q{tag} & vec4<u32>(0x000f000fu)) | vec4<u32>(base_1024);
let a_odd = (shifted & vec4<u32>(0x000f000fu)) | vec4<u32>(base_1024);
let c_even = (q{tag} & vec4<u32>(0x00f000f0u)) | vec4<u32>(base_64);
let c_odd = (shifted & vec4<u32>(0x00f000f0u)) | vec4<u32>(base_64);
"
        );
        return (text, [1024 + bias, 64 + bias]);
    }
    // What is no code but a value has a sign, which is flipped to make it a code.
    let (flip, zero) = match layout.codes {
        Codes::Bytes | Codes::Levels(_) => (" ^ vec4<u32>(0x80808080u)", 1024 + 128),
        _ => ("", 1024 + bias),
    };
    let quad = |quad: &str| {
        format!(
            "let {quad}_codes = {quad}{tag}{flip};
let {quad}_even = ({quad}_codes & vec4<u32>(0x00ff00ffu)) | vec4<u32>(base_1024);
let {quad}_odd = (({quad}_codes >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu)) | vec4<u32>(base_1024);
"
        )
    };
    (["a", "c"].map(quad).concat(), [zero; 2])
}

/// Those whose words have names of their own.
fn distinct(matrices: &[Tiles]) -> &[Tiles] {
    let alike = matrices.iter().all(|matrix| matrix.mark.is_empty());
    if alike { &matrices[..1] } else { matrices }
}

/// Chooses between gate and up by the tile.
fn by_matrix(matrices: &[Tiles], text: impl Fn(&Tiles) -> String) -> String {
    match matrices {
        [gate, up] => {
            let end = gate.of.end;
            format!("if (tile < {end}u) {{\n{}}} else {{\n{}}}\n", text(gate), text(up))
        }
        _ => matrices.iter().map(text).collect(),
    }
}
