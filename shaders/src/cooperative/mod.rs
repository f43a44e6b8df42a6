//! Products for many rows of the step, by cooperative matrices in f16 with sums in f32.
//!
//! A workgroup has some columns (outputs) and all rows up to m. It walks along k: a turn's weights
//! become f16 in workgroup memory, and activations are brought there as they are
//! ([`ActivationForm::Halves`](crate::ActivationForm)); then each subgroup multiplies a band of 32
//! columns with all rows, over its slice of the turn. So few workgroups run that what they wait for
//! is the memory's answer: weights are loaded two turns ahead, and activations one. At the end
//! slices are added in order.
//!
//! The bits differ from those of [`crate::product`]. They do not depend on m, nor on the row's
//! place.

mod epilogue;
mod fill;

use onebit_ir::rows::RowProgram;
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use onebit_plan::gpu::binding;

use crate::activations;
use crate::kernel::{Immediate, Kernel, Source};
use crate::product::{Output, rows};
use crate::rows::{RowsKind, digest};
use fill::Tiles;

/// Invocations that share a block of a tile.
const SHARERS: usize = 16;
/// Rows and columns of a matrix, as [`onebit_plan::gpu::GpuFeature::CooperativeF16`] says.
pub const MATRIX: usize = 16;
/// Invocations of the subgroup that has a matrix; the module must be asked for with this size.
pub const SUBGROUP: usize = 32;
/// Columns of a subgroup.
const BAND: usize = 32;
/// Elements behind a row in workgroup memory, which spread rows over the memory's banks. Devices
/// want rows at multiples of 16 bytes.
const PAD: usize = 8;

/// The weights that a workgroup brings to its memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    /// Outputs of the workgroup, or of gate and up together: 32, 64, 96 or 128. The fewer they are, the
    /// more workgroups there are, and the more often activations are read.
    pub columns: usize,
    /// Blocks that an invocation has a sixteenth of: 1 or 2.
    pub depth: usize,
}

impl Turn {
    /// Those that were the fastest for some product.
    pub const ALL: [Self; 5] = [
        Self { columns: 32, depth: 1 },
        Self { columns: 64, depth: 1 },
        Self { columns: 96, depth: 1 },
        Self { columns: 128, depth: 1 },
        Self { columns: 128, depth: 2 },
    ];

    /// Elements along k.
    pub fn step(self) -> usize {
        self.blocks_at_once() * self.depth * BLOCK
    }

    /// Turns along `k` elements: behind their end there are zeros.
    pub fn turns(self, k: usize) -> usize {
        k.div_ceil(self.step())
    }

    /// Subgroups that have the same columns, each with its slice of the elements.
    fn slices(self) -> usize {
        256 / self.columns
    }

    fn bands(self) -> usize {
        self.columns / BAND
    }

    /// Blocks of each tile that the workgroup's invocations have a sixteenth of.
    fn blocks_at_once(self) -> usize {
        self.invocations() / SHARERS * TILE_ROWS / self.columns
    }

    /// A subgroup for each slice of each band.
    fn invocations(self) -> usize {
        self.bands() * self.slices() * SUBGROUP
    }
}

/// What is multiplied, and where it goes. All classes are integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work<'a> {
    /// Weights at [`binding::WEIGHTS`]; [`Immediate::Out`] 0.
    Product { class: StorageClass, n: usize, output: Output },
    /// Gate and up at [`crate::product::PART_BINDINGS`], each of n rows, a multiple of 32, joined by
    /// the epilogue as in [`crate::gated::Gated`] and left as halves in the arena from
    /// [`Immediate::Out`] 0 on, in 16-byte words.
    Gated { classes: [StorageClass; 2], n: usize, epilogue: &'a RowProgram },
}

/// A product of many rows. Its activations are halves in the arena, from [`Immediate::Records`] on.
/// Dispatch [`Cooperative::groups`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cooperative<'a> {
    pub k: usize,
    pub work: Work<'a>,
    pub rows: RowsKind,
    /// Rows of the step that a workgroup does: 16 or 32.
    pub m: usize,
    pub turn: Turn,
    /// Workgroups that share a product's k, as many as [`Turn::turns`] can be divided by. Each leaves the
    /// sums of its part, of m rows: part p of row r is row `p * m + r` of the output. A gated product
    /// has one part.
    pub parts: usize,
}

impl Cooperative<'_> {
    /// Workgroups for a step of up to `rows` rows.
    pub fn groups(&self, rows: usize) -> [u32; 3] {
        let columns = match self.work {
            Work::Product { n, .. } => n.div_ceil(self.turn.columns),
            Work::Gated { n, .. } => n.div_ceil(self.turn.columns / 2),
        };
        [columns as u32, rows.div_ceil(self.m) as u32, self.parts as u32]
    }

    /// The kernel.
    ///
    /// # Panics
    /// With float classes, k or the gated n that are no multiples of 32, m that is no multiple of
    /// [`MATRIX`], a turn that is not in [`Turn::ALL`], and what [`crate::gated::Gated`] panics with.
    pub fn kernel(&self) -> Kernel {
        assert!(self.k.is_multiple_of(BLOCK), "weights come in blocks of 32");
        assert!(self.m.is_multiple_of(MATRIX), "rows come in whole matrices");
        assert!(Turn::ALL.contains(&self.turn), "another turn");
        assert!(self.turn.turns(self.k).is_multiple_of(self.parts), "parts have as many turns");
        let mut source = Source::default();
        source.require("enable wgpu_cooperative_matrix;");
        activations::declare_bits(&mut source);
        let (m, pitch, columns) = (self.m, self.pitch(), self.turn.columns);
        // Words of eight f16: see `post::matrices_of_halves`.
        source.declare(format!("var<workgroup> w_tile: array<vec4<f32>, {}>;", columns * pitch));
        // Another length than w_tile's even where both have as many rows.
        source.declare(format!("var<workgroup> x_tile: array<vec4<f32>, {}>;", m * pitch + 1));
        rows(&mut source, self.rows, m);
        let matrices = self.matrices(&mut source);
        let input = source.read(binding::RECORDS);
        let base = source.immediate(Immediate::Records);
        let bands = self.turn.bands();
        if self.parts > 1 {
            source.line(format!("let start = group.z * {}u;", self.turns_each()));
        } else {
            source.line("let start = 0u;");
        }
        source.line(fill::BASES);
        source.line(format!("let band = sub % {bands}u;\nlet slice = sub / {bands}u;"));
        source.line(self.places(&matrices));
        source.line(self.places_of_rows(&base));
        let ty = matrix_type("f32", 'C');
        for row in 0..self.row_matrices() {
            for column in 0..self.band_matrices() {
                source.line(format!("var {} = {ty}();", accumulator(row, column)));
            }
        }
        source.line(self.walk(&matrices, input));
        let epilogue = self.epilogue(&mut source);
        source.line(epilogue);
        source.finish(self.name(), self.turn.invocations() as u32)
    }

    /// Elements along k of a turn that one subgroup multiplies.
    fn slice(&self) -> usize {
        self.turn.step() / self.turn.slices()
    }

    /// 16-byte words from row to row in workgroup memory.
    fn pitch(&self) -> usize {
        (self.turn.step() + PAD) / 8
    }

    /// Turns of a part.
    fn turns_each(&self) -> usize {
        self.turn.turns(self.k) / self.parts
    }

    fn is_ragged(&self) -> bool {
        self.turn.turns(self.k) * self.turn.step() != self.k
    }

    /// Matrices that the rows are.
    fn row_matrices(&self) -> usize {
        self.m / MATRIX
    }

    /// Matrices that the columns of a subgroup are.
    fn band_matrices(&self) -> usize {
        BAND / MATRIX
    }

    fn name(&self) -> String {
        let lower = |class: StorageClass| format!("{class:?}").to_lowercase();
        let work = match self.work {
            Work::Product { class, n, output } => {
                let output = match output {
                    Output::Arena { stride } => format!("a{stride}"),
                    Output::Logits { stride } => format!("l{stride}"),
                };
                format!("product-{}-{n}x{}-{output}", lower(class), self.k)
            }
            Work::Gated { classes: [gate, up], n, epilogue } => format!(
                "gated-{}-{}-{n}x{}-{:016x}",
                lower(gate),
                lower(up),
                self.k,
                digest(epilogue, None)
            ),
        };
        let (rows, Turn { columns, depth }) = (self.rows.name(), self.turn);
        let parts = if self.parts > 1 { format!("-p{}", self.parts) } else { String::new() };
        format!("coop-{work}-{rows}-m{}-c{columns}x{depth}{parts}-{MATRIX}w{SUBGROUP}", self.m)
    }

    /// All turns: what the turn needs goes to workgroup memory, what later ones need is asked for,
    /// and what stands in workgroup memory is multiplied.
    fn walk(&self, matrices: &[Tiles], input: &str) -> String {
        let (turns, last) = (self.turns_each(), self.turns_each() - 1);
        let [first, second] = SETS;
        let mut out = self.load(matrices, first, "start");
        out += &self.load(matrices, second, &format!("(start + {}u)", last.min(1)));
        out += &self.load_rows(input, "start");
        let pairs = turns / 2 * 2;
        out += &format!("for (var turn = 0u; turn < {pairs}u; turn += 2u) {{\n");
        for (ahead, set) in SETS.into_iter().enumerate() {
            out += &format!("{{\nlet now = start + turn + {ahead}u;\n");
            out += &self.fill(matrices, set);
            out += &self.fill_rows();
            out += "workgroupBarrier();\n";
            // The last turns ask for the last of k again.
            out += &self.load_rows(input, &format!("min(now + 1u, start + {last}u)"));
            out += &self.load(matrices, set, &format!("min(now + 2u, start + {last}u)"));
            out += &self.multiply();
            out += "workgroupBarrier();\n}\n";
        }
        out += "}\n";
        if turns > pairs {
            out += &format!("{{\nlet now = start + {last}u;\n");
            out += &self.fill(matrices, first);
            out += &self.fill_rows();
            out += "workgroupBarrier();\n";
            out += &self.multiply();
            out += "workgroupBarrier();\n}\n";
        }
        out
    }

    /// Multiplies a subgroup's slice of what is in workgroup memory.
    fn multiply(&self) -> String {
        let pitch = self.pitch();
        let (a, b) = (matrix_type("f32", 'A'), matrix_type("f32", 'B'));
        let mut out = format!("let along = slice * {}u;\n", self.slice() / 8);
        for k in 0..self.slice() / MATRIX {
            let element = k * MATRIX / 8;
            for column in 0..self.band_matrices() {
                // Columns of B follow each other in w_tile.
                let at = format!(
                    "(band * {BAND}u + {}u) * {pitch}u + along + {element}u",
                    column * MATRIX
                );
                out += &format!("let b{k}_{column} = coopLoad<{b}>(&w_tile[{at}], {pitch}u);\n");
            }
            for row in 0..self.row_matrices() {
                let at = row * MATRIX * pitch + element;
                out += &format!(
                    "let a{k}_{row} = coopLoadT<{a}>(&x_tile[along + {at}u], {pitch}u);\n"
                );
                for column in 0..self.band_matrices() {
                    let acc = accumulator(row, column);
                    out += &format!("{acc} = coopMultiplyAdd(a{k}_{row}, b{k}_{column}, {acc});\n");
                }
            }
        }
        out
    }
}

fn matrix_type(element: &str, role: char) -> String {
    format!("coop_mat{MATRIX}x{MATRIX}<{element}, {role}>")
}

/// The sums of a matrix of rows and one of a subgroup's columns.
fn accumulator(row: usize, column: usize) -> String {
    format!("acc{row}_{column}")
}

/// Where the four rows of a quad j of a tile stand among the tile's columns in workgroup memory, from
/// column 2j on: so invocations that store at once do so to different banks.
const ROWS: [usize; 4] = [0, 1, 8, 9];

/// Suffixes of the words of weights in flight: of even turns and of odd ones.
const SETS: [&str; 2] = ["_p", "_q"];
