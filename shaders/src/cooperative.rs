//! Products for many rows of the step, by cooperative matrices in f16 with sums in f32.
//!
//! A workgroup has 64 columns (outputs) and all rows up to m. It walks along k in steps of 64: the
//! weights become f16 in workgroup memory, and the activations, which are floats here; then each
//! subgroup multiplies its column of matrices with all rows. Activations beyond the range of f16
//! become infinite. The bits differ from those of [`crate::product`].

use onebit_ir::rows::RowProgram;
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use onebit_plan::gpu::binding;
use onebit_plan::layout::Layout;

use crate::class;
use crate::gated::Join;
use crate::kernel::{Immediate, Kernel, Source};
use crate::product::shape::tile_words;
use crate::product::{Output, PART_BINDINGS, rows};
use crate::rows::{RowsKind, digest};

/// Columns of a workgroup.
const COLUMNS: usize = 64;
/// Tiles of weights that are those columns.
const TILES: usize = COLUMNS / TILE_ROWS;
/// Elements along k of a step, and blocks.
const STEP: usize = 64;
const STEP_BLOCKS: usize = STEP / BLOCK;
/// `vec4<f16>`s of a row in workgroup memory: eight elements more than a step has, which spreads
/// rows over the memory's banks.
const PITCH: usize = (STEP + 8) / 4;

/// Matrices that a device multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixShape {
    /// Rows and columns of each: 16 or 8.
    pub size: usize,
    /// Invocations of the subgroup that has one; the module must be asked for with this size.
    pub subgroup: usize,
}

impl MatrixShape {
    /// What [`onebit_plan::gpu::GpuFeature::CooperativeF16`] says, in subgroups of 32.
    pub const SIXTEEN: Self = Self { size: 16, subgroup: 32 };
    /// Lavapipe's, from Mesa 26 on. For tests.
    pub const EIGHT: Self = Self { size: 8, subgroup: 8 };
}

/// What is multiplied, and where it goes. All classes are integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work<'a> {
    /// Weights at [`binding::WEIGHTS`]; [`Immediate::Out`] 0.
    Product { class: StorageClass, n: usize, output: Output },
    /// Gate and up at [`PART_BINDINGS`], each of n rows, a multiple of 32, joined by the epilogue as
    /// in [`crate::gated::Gated`] and left as floats in the arena from [`Immediate::Out`] 0 on,
    /// `stride` floats from row to row.
    Gated { classes: [StorageClass; 2], n: usize, stride: usize, epilogue: &'a RowProgram },
}

/// A product of many rows. Dispatch [`Cooperative::groups`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cooperative<'a> {
    pub k: usize,
    pub work: Work<'a>,
    /// Floats from row to row of the input, in the arena from [`Immediate::Floats`] on.
    pub stride: usize,
    pub rows: RowsKind,
    /// Rows of the step that a workgroup does: 16 or 32.
    pub m: usize,
    pub matrix: MatrixShape,
}

/// Tiles of a workgroup that are of one matrix.
struct Tiles {
    buffer: &'static str,
    layout: Layout,
    class: StorageClass,
    base: String,
    /// Tiles of the matrix.
    count: usize,
    /// Those of the workgroup.
    of: std::ops::Range<usize>,
}

impl Cooperative<'_> {
    /// Workgroups for a step of up to `rows` rows.
    pub fn groups(&self, rows: usize) -> [u32; 3] {
        let columns = match self.work {
            Work::Product { n, .. } => n.div_ceil(COLUMNS),
            Work::Gated { n, .. } => n.div_ceil(COLUMNS / 2),
        };
        [columns as u32, rows.div_ceil(self.m) as u32, 1]
    }

    /// The kernel.
    ///
    /// # Panics
    /// With float classes, k or the gated n that are no multiples of 32, m that is no multiple of
    /// the matrices' size, and what [`crate::gated::Gated`] panics with.
    pub fn kernel(&self) -> Kernel {
        assert!(self.k.is_multiple_of(BLOCK), "weights come in blocks of 32");
        assert!(self.m.is_multiple_of(self.matrix.size), "rows come in whole matrices");
        let mut source = Source::default();
        source.require("enable f16;");
        source.require("enable wgpu_cooperative_matrix;");
        let (m, workgroup) = (self.m, self.workgroup());
        source.declare(format!("var<workgroup> w_tile: array<vec4<f16>, {}>;", COLUMNS * PITCH));
        // Another length than w_tile's even where both have as many rows.
        source.declare(format!("var<workgroup> x_tile: array<vec4<f16>, {}>;", m * PITCH + 1));
        source.declare(format!("var<workgroup> sums: array<f32, {}>;", m * COLUMNS));
        rows(&mut source, self.rows, m);
        let matrices = self.matrices(&mut source);
        let input = source.read(binding::ARENA);
        let base = source.immediate(Immediate::Floats);
        source.line(format!("let x_at = {base};"));
        let fill = self.fill(&matrices) + &self.fill_rows(input);
        let accumulators = self.accumulators();
        let ty = self.matrix_type("f32", 'C');
        for acc in &accumulators {
            source.line(format!("var {acc} = {ty}();"));
        }
        source.line(format!(
            "for (var turn = 0u; turn < {}u; turn += 1u) {{
{fill}workgroupBarrier();
{}workgroupBarrier();
}}",
            self.k.div_ceil(STEP),
            self.multiply()
        ));
        let size = self.matrix.size;
        for (r, acc) in accumulators.iter().enumerate() {
            let at = format!("{}u + sub * {size}u", r * size * COLUMNS);
            source.line(format!("coopStoreT({acc}, &sums[{at}], {COLUMNS}u);"));
        }
        source.line("workgroupBarrier();");
        let epilogue = self.epilogue(&mut source);
        source.line(epilogue);
        source.finish(self.name(), workgroup as u32)
    }

    /// One subgroup for each column of matrices.
    fn workgroup(&self) -> usize {
        COLUMNS / self.matrix.size * self.matrix.subgroup
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
            Work::Gated { classes: [gate, up], n, stride, epilogue } => format!(
                "gated-{}-{}-{n}x{}-a{stride}-{:016x}",
                lower(gate),
                lower(up),
                self.k,
                digest(epilogue, None)
            ),
        };
        let MatrixShape { size, subgroup } = self.matrix;
        let rows = self.rows.name();
        format!("coop-{work}-f{}-{rows}-m{}-{size}w{subgroup}", self.stride, self.m)
    }

    /// The matrices with their tiles of a workgroup: gate and up have half of them each.
    fn matrices(&self, source: &mut Source) -> Vec<Tiles> {
        let (classes, n) = match self.work {
            Work::Product { class, n, .. } => (vec![class], n),
            Work::Gated { classes, n, .. } => (classes.to_vec(), n),
        };
        let each = TILES / classes.len();
        let matrices = classes.into_iter().enumerate().map(|(i, class)| {
            let layout = Layout::of(class).expect("cooperative products are of integer classes");
            class::declare(source, &layout);
            class::declare_signed(source);
            let base = source.immediate(Immediate::Weights { binding: PART_BINDINGS[i] });
            Tiles {
                buffer: source.read(PART_BINDINGS[i]),
                layout,
                class,
                base,
                count: n.div_ceil(TILE_ROWS),
                of: each * i..each * (i + 1),
            }
        });
        matrices.collect()
    }

    /// Brings a step's weights to workgroup memory. Sixteen invocations do a block of a tile, as in
    /// a product.
    fn fill(&self, matrices: &[Tiles]) -> String {
        let (units, workgroup) = (TILES * STEP_BLOCKS * 16, self.workgroup());
        let mut out = String::new();
        for first in (0..units).step_by(workgroup) {
            out += &format!(
                "{{
let unit = lane + {first}u;
let l = unit & 15u;
let j = l & 3u;
let v = l >> 2u;
let half = j >> 1u;
let tile = (unit >> 4u) & {}u;
let block = turn * {STEP_BLOCKS}u + unit / {}u;
let column = (tile * 16u + j * 4u) * {PITCH}u + unit / {}u * {}u + v;
",
                TILES - 1,
                16 * TILES,
                16 * TILES,
                BLOCK / 4
            );
            for (i, matrix) in matrices.iter().enumerate() {
                let body = self.dequantise(matrix);
                out += &match (matrices.len(), i) {
                    (1, _) => body,
                    (_, 0) => format!("if (tile < {}u) {{\n{body}}}", matrix.of.end),
                    _ => format!(" else {{\n{body}}}\n"),
                };
            }
            out += "}\n";
        }
        out
    }

    /// Writes the f16 values of quads `v` and `v + 4` of four rows.
    fn dequantise(&self, matrix: &Tiles) -> String {
        let Tiles { buffer, layout, class, base, count, of } = matrix;
        let blocks = self.k / BLOCK;
        let is_ragged = !blocks.is_multiple_of(STEP_BLOCKS);
        let mut out = format!(
            "let own = min(group.x * {}u + tile - {}u, {}u);
let tile_at = {base} + own * {}u;
let b = min(block, {}u);
",
            of.len(),
            of.start,
            count - 1,
            tile_words(*class, self.k),
            blocks - 1
        );
        out += &class::load(layout, buffer, "tile_at", "b", "_");
        out += &class::unpack(layout, "_");
        let names: Vec<&str> = class::scale_names(layout).collect();
        let bias = class::bias(layout);
        for (codes, [scale, min], quad) in [("a", ["w", "n"], 0), ("c", ["z", "o"], 4)] {
            let scale = if names.contains(&scale) { scale } else { "w" };
            let min = [min, "n"].into_iter().find(|name| names.contains(name));
            for (row, c) in ['x', 'y', 'z', 'w'].into_iter().enumerate() {
                let code = format!("(signed_bytes({codes}_.{c}) - {bias}.0)");
                let value = match min {
                    Some(min) => {
                        format!("fma({code}, vec4<f32>({scale}_.{c}), vec4<f32>({min}_.{c}))")
                    }
                    None => format!("{code} * {scale}_.{c}"),
                };
                let value = match is_ragged {
                    true => format!("select(vec4<f32>(), {value}, block < {blocks}u)"),
                    false => value,
                };
                let at = row * PITCH + quad;
                out += &format!("w_tile[column + {at}u] = vec4<f16>({value});\n");
            }
        }
        out
    }

    /// Brings a step's activations to workgroup memory, four elements at a time.
    fn fill_rows(&self, input: &str) -> String {
        let (quads, workgroup) = (self.m * STEP / 4, self.workgroup());
        let last = self.k / 4 - 1;
        let is_ragged = !self.k.is_multiple_of(STEP);
        let mut out = String::new();
        for first in (0..quads).step_by(workgroup) {
            let each = ['x', 'y', 'z', 'w'].iter().enumerate();
            let values: Vec<String> =
                each.map(|(i, _)| format!("bitcast<f32>({input}[at + {i}u])")).collect();
            let value = format!("vec4<f32>({})", values.join(", "));
            let value = match is_ragged {
                true => format!("select(vec4<f32>(), {value}, quad <= {last}u)"),
                false => value,
            };
            out += &format!(
                "{{
let unit = lane + {first}u;
let r = unit / {}u;
let quad = turn * {}u + unit % {}u;
let at = x_at + min(first + r, rows - 1u) * {}u + min(quad, {last}u) * 4u;
x_tile[r * {PITCH}u + unit % {}u] = vec4<f16>({value});
}}
",
                STEP / 4,
                STEP / 4,
                STEP / 4,
                self.stride,
                STEP / 4
            );
        }
        out
    }

    fn accumulators(&self) -> Vec<String> {
        (0..self.m / self.matrix.size).map(|r| format!("acc{r}")).collect()
    }

    fn matrix_type(&self, element: &str, role: char) -> String {
        let size = self.matrix.size;
        format!("coop_mat{size}x{size}<{element}, {role}>")
    }

    /// Multiplies what is in workgroup memory.
    fn multiply(&self) -> String {
        let size = self.matrix.size;
        let (a, b) = (self.matrix_type("f16", 'A'), self.matrix_type("f16", 'B'));
        let mut out = String::new();
        for k in 0..STEP / size {
            let element = k * size / 4;
            // Columns of B follow each other in w_tile.
            let at = format!("sub * {}u + {element}u", size * PITCH);
            out += &format!("let b{k} = coopLoad<{b}>(&w_tile[{at}], {PITCH}u);\n");
            for (r, acc) in self.accumulators().iter().enumerate() {
                let at = r * size * PITCH + element;
                out += &format!(
                    "let a{k}_{r} = coopLoadT<{a}>(&x_tile[{at}u], {PITCH}u);
{acc} = coopMultiplyAdd(a{k}_{r}, b{k}, {acc});
"
                );
            }
        }
        out
    }

    /// Writes the sums, or what gate and up make together, four columns at a time.
    fn epilogue(&self, source: &mut Source) -> String {
        let out = source.immediate(Immediate::Out { index: 0 });
        let four = |at: &str| {
            let each: Vec<String> = (0..4).map(|i| format!("sums[{at} + {i}u]")).collect();
            format!("vec4<f32>({})", each.join(", "))
        };
        let (columns, n, stride, value, target) = match self.work {
            Work::Product { n, output, .. } => {
                let (stride, target) = match output {
                    Output::Arena { stride } => (stride, source.write(binding::ARENA)),
                    Output::Logits { stride } => (stride, source.write(binding::LOGITS)),
                };
                (COLUMNS, n, stride, format!("let y = {};\n", four("own")), target)
            }
            Work::Gated { n, stride, epilogue, .. } => {
                let join = Join::new(epilogue).value(source);
                let up = format!("own + {}u", COLUMNS / 2);
                let value = format!(
                    "let gate = {};\nlet up = {};\nlet y = {join};\n",
                    four("own"),
                    four(&up)
                );
                (COLUMNS / 2, n, stride, value, source.write(binding::ARENA))
            }
        };
        let is_logits = target == "logits";
        let write = |(i, c): (usize, char)| {
            let y = if is_logits { format!("y.{c}") } else { format!("bitcast<u32>(y.{c})") };
            let write = format!("{target}[at + {i}u] = {y};");
            match n % columns {
                0 => format!("{write}\n"),
                _ => format!("if (column + {i}u < {n}u) {{ {write} }}\n"),
            }
        };
        let writes: String = "xyzw".chars().enumerate().map(write).collect();
        let (fours, workgroup) = (columns / 4, self.workgroup());
        format!(
            "for (var unit = lane; unit < {}u; unit += {workgroup}u) {{
let r = unit / {fours}u;
let own = r * {COLUMNS}u + unit % {fours}u * 4u;
let column = group.x * {columns}u + unit % {fours}u * 4u;
if (first + r < rows) {{
let at = {out} + (first + r) * {stride}u + column;
{value}{writes}}}
}}",
            self.m * fours
        )
    }
}
