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
        let each = self.columns / TILE_ROWS / classes.len();
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

    /// Blocks of a tile that an invocation has a sixteenth of, in each turn.
    fn blocks_each(&self) -> usize {
        (self.columns * self.step() / (BLOCK * TILE_ROWS) * 16).div_ceil(self.workgroup())
    }

    /// 16-byte words of activations that a workgroup brings in each turn.
    fn row_words(&self) -> usize {
        self.m * half_words(self.step())
    }

    fn row_words_each(&self) -> usize {
        self.row_words().div_ceil(self.workgroup())
    }

    /// Which weights an invocation brings: sixteen do a block of a tile, as in a product. All that
    /// a turn changes is the block. Names end in the number of the block in the turn.
    pub(super) fn places(&self, matrices: &[Tiles]) -> String {
        let tiles = self.columns / TILE_ROWS;
        let mut out =
            "let l = lane & 15u;\nlet j = l & 3u;\nlet v = l >> 2u;\nlet half = j >> 1u;\n"
                .to_owned();
        for i in 0..self.blocks_each() {
            out += &format!(
                "let unit_{i} = (lane + {}u) >> 4u;
let tile_{i} = unit_{i} & {}u;
let part_{i} = unit_{i} / {tiles}u;
let to_{i} = (tile_{i} * 16u + j * 2u) * {}u + part_{i} * {}u + v;
var from_{i} = 0u;
",
                i * self.workgroup(),
                tiles - 1,
                self.pitch(),
                half_words(BLOCK)
            );
            let from = |Tiles { base, class, count, of, .. }: &Tiles| {
                let (each, words) = (of.len(), tile_words(*class, self.k));
                format!(
                    "from_{i} = {base} + min(group.x * {each}u + tile_{i} - {}u, {}u) * {words}u;\n",
                    of.start,
                    count - 1
                )
            };
            out += &by_matrix(matrices, i, from);
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
        let words = half_words(self.step());
        let each = (0..self.row_words_each()).map(|i| {
            let word = i * self.workgroup();
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
        for i in 0..self.blocks_each() {
            let block = format!("{turn} * {}u + part_{i}", self.step() / BLOCK);
            out += &match self.is_ragged() {
                true => format!("{{\nlet block = min({block}, {}u);\n", blocks - 1),
                false => format!("{{\nlet block = {block};\n"),
            };
            let load = |matrix: &Tiles| {
                let (from, suffix) = (format!("from_{i}"), matrix.suffix(set, i));
                class::fill_of(
                    &matrix.layout,
                    Loaded::Halves,
                    [matrix.buffer, &from, "block", &suffix],
                )
            };
            out += &by_matrix(matrices, i, load);
            out += "}\n";
        }
        out
    }

    /// Asks for an invocation's activations of a turn.
    pub(super) fn load_rows(&self, input: &str, turn: &str) -> String {
        let last = half_words(self.k) - 1;
        let each = (0..self.row_words_each()).map(|i| {
            let word = format!("{turn} * {}u + x_word_{i}", half_words(self.step()));
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
        let each = (0..self.blocks_each())
            .map(|i| by_matrix(distinct, i, |matrix| self.dequantise(matrix, set, i)));
        each.collect()
    }

    /// Writes the f16 values of quads `v` and `v + 4` of four rows, in the order of
    /// [`ActivationForm::Halves`](crate::ActivationForm).
    ///
    /// A code becomes f16 as the low bits of 1024: below 2048 f16 has all integers.
    fn dequantise(&self, matrix: &Tiles, set: &str, i: usize) -> String {
        let (layout, tag) = (&matrix.layout, matrix.suffix(set, i));
        let mut out = "{\n".to_owned();
        out += &class::unpack_slot(layout, &tag);
        out += &self.scales(layout, &tag, i);
        let names: Vec<&str> = class::scale_names(layout).collect();
        // What is no code but a value has a sign, which is flipped to make it a code.
        let (flip, zero) = match layout.codes {
            Codes::Bytes | Codes::Levels(_) => (" ^ vec4<u32>(0x80808080u)", 1024 + 128),
            _ => ("", 1024 + class::bias(layout)),
        };
        for codes in ["a", "c"] {
            out += &format!(
                "let {codes}_codes = {codes}{tag}{flip};
let {codes}_even = ({codes}_codes & vec4<u32>(0x00ff00ffu)) | vec4<u32>(0x64006400u);
let {codes}_odd = (({codes}_codes >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu)) | vec4<u32>(0x64006400u);
"
            );
        }
        for (row, c) in ROWS.into_iter().zip(['x', 'y', 'z', 'w']) {
            out += "{\n";
            for (codes, [scale, min]) in [("a", ["w", "n"]), ("c", ["z", "o"])] {
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
                "w_tile[to_{i} + {}u] = bitcast<vec4<f32>>(\
                 vec4<u32>(bits(a.xy), bits(a.zw), bits(c.xy), bits(c.zw)));\n}}\n",
                row * self.pitch()
            );
        }
        out + "}\n"
    }

    /// Scales and minima of block `i` in f16, with an `h` behind their names: zeros behind the end of
    /// k, where codes are those of another block.
    fn scales(&self, layout: &Layout, tag: &str, i: usize) -> String {
        let inside = format!("now * {}u + part_{i} < {}u", self.step() / BLOCK, self.k / BLOCK);
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
        let is_whole = self.row_words().is_multiple_of(self.workgroup());
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

/// Those whose words have names of their own.
fn distinct(matrices: &[Tiles]) -> &[Tiles] {
    let alike = matrices.iter().all(|matrix| matrix.mark.is_empty());
    if alike { &matrices[..1] } else { matrices }
}

/// Chooses between gate and up by the tile of block `i`.
fn by_matrix(matrices: &[Tiles], i: usize, text: impl Fn(&Tiles) -> String) -> String {
    match matrices {
        [gate, up] => {
            let end = gate.of.end;
            format!("if (tile_{i} < {end}u) {{\n{}}} else {{\n{}}}\n", text(gate), text(up))
        }
        _ => matrices.iter().map(text).collect(),
    }
}
