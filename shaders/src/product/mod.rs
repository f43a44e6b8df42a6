//! Matrix products: `out[row, i] = sum over k of weights[i, k] * x[row, k]`.
//!
//! A workgroup does some tiles of 16 outputs, one after another, for some rows of the step. A
//! product of an integer class reads quantised activations ([`onebit_plan::gpu::record`]), one
//! of a float class reads floats. The bits of an output depend on its weights and its row's
//! activations alone: not on the number of rows, of tiles, or of other outputs.

pub(crate) mod float;
pub(crate) mod integer;
pub(crate) mod reduce;
pub(crate) mod ring;
pub(crate) mod shape;
pub(crate) mod walk;

use std::ops::Range;

use onebit_ir::rows::{RowProgram, Store};
use onebit_plan::abi::{StorageClass, TILE_ROWS};
use onebit_plan::gpu::{binding, record};

use crate::kernel::{Immediate, Kernel, Source};
use crate::rows::{Prologue, RowsKind, digest, fingerprint};
use crate::{attention, class};
use shape::{Form, Shape, tile_words, tiles};
use walk::Activations;

/// Where a product's results go; both strides in floats, from row to row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// The arena, from [`Immediate::Out`] on.
    Arena { stride: usize },
    /// The logits, from [`Immediate::Out`] on.
    Logits { stride: usize },
}

/// Where a product's activations are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// Records in the arena, from [`Immediate::Records`] on.
    Records,
    /// Floats in the arena, from [`Immediate::Floats`] on; the stride in floats from row to row.
    Floats { stride: usize },
    /// Computed by every workgroup, as program 0 of the kernel: records for integer classes,
    /// floats for float classes. For steps of up to m rows.
    Prologue(&'a RowProgram),
    /// Merged by every workgroup from the partial results of an attention, whose heads together
    /// are a row: records. For steps of up to m rows.
    Merge { shape: attention::Shape, splits: u32 },
}

impl Input<'_> {
    /// Whether it is records.
    pub(crate) fn is_quantised(&self) -> bool {
        match self {
            Self::Records | Self::Merge { .. } => true,
            Self::Floats { .. } => false,
            Self::Prologue(program) => {
                program.stores.iter().any(|store| matches!(store, Store::Q8 { .. }))
            }
        }
    }

    /// What kernels' names say of it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Records => String::new(),
            Self::Floats { stride } => format!("-f{stride}"),
            Self::Prologue(program) => format!("-rows{:016x}", digest(program, None)),
            Self::Merge { shape, splits } => {
                format!("-merge{:016x}", fingerprint(&format!("{shape:?} {splits}")))
            }
        }
    }
}

/// A weight matrix `[n, k]`, and where its product goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    pub class: StorageClass,
    pub n: usize,
    pub output: Output,
}

/// A matrix product, or two of the same input.
///
/// Part i reads [`PART_BINDINGS`]`[i]` from [`Immediate::Weights`] on and writes result i. Dispatch
/// [`Product::groups`].
#[derive(Clone, Debug, PartialEq)]
pub struct Product<'a> {
    pub k: usize,
    /// One or two, either all of integer classes or all of one float class.
    pub parts: Vec<Part>,
    pub input: Input<'a>,
    pub rows: RowsKind,
    /// Rows of the step that a workgroup does: 1, 4 or 8.
    pub m: usize,
    /// Tiles of 16 outputs that a workgroup does.
    pub tiles: usize,
}

/// Bindings of the weights of a product's parts, and of gate and up.
pub const PART_BINDINGS: [u32; 2] = [binding::WEIGHTS, binding::SECOND];

/// A matrix that a workgroup reads a tile of.
pub(crate) struct Stream {
    /// Counts the streams of a kernel that are walked together.
    pub index: usize,
    pub form: Form,
    pub buffer: &'static str,
    /// WGSL expression of the tile's first 16-byte word.
    pub tile: String,
}

impl Stream {
    /// What the names of block `i` end in.
    pub fn suffix(&self, i: usize) -> String {
        format!("{i}_{}", ["s", "t"][self.index])
    }

    /// The sums of row `m` of the step.
    pub fn acc(&self, m: usize) -> String {
        format!("acc{}_{m}", self.index)
    }
}

impl Product<'_> {
    /// Workgroups for a step of up to `rows` rows.
    pub fn groups(&self, rows: usize) -> [u32; 3] {
        let x: usize = self.parts.iter().map(|part| self.part_groups(part)).sum();
        [x as u32, rows.div_ceil(self.m) as u32, 1]
    }

    /// The kernel.
    ///
    /// # Panics
    /// With other than one or two parts, or classes and input that do not go together.
    pub fn kernel(&self) -> Kernel {
        assert!(matches!(self.parts.len(), 1 | 2), "a product has one part or two");
        let form = Form::of(self.parts[0].class);
        let integer = matches!(form, Form::Integer(_));
        let fits = |part: &Part| match Form::of(part.class) {
            Form::Integer(_) => integer,
            Form::Float(_) => part.class == self.parts[0].class,
        };
        assert!(self.parts.iter().all(fits), "parts of different kinds");
        assert_eq!(integer, self.input.is_quantised(), "input for another kind of class");
        if self.m == 1 {
            return self.row_kernel();
        }
        let shape = Shape::new(form, 1, self.k, self.m);
        let mut source = Source::default();
        source.declare(reduce::declaration(&shape, 1));
        rows(&mut source, self.rows, self.m);
        read_ahead(&mut source, &shape, self.input, self.rows);
        let x = activations(&mut source, &shape, self.input, self.rows);
        source.line(walk::prelude(form, &shape));
        let bodies: Vec<String> =
            (0..self.parts.len()).map(|i| self.part(&mut source, &shape, i, &x)).collect();
        match &bodies[..] {
            [only] => source.line(only),
            _ => {
                let first = self.part_groups(&self.parts[0]);
                source.line(format!("if (group.x < {first}u) {{"));
                source.line(&bodies[0]);
                source.line("} else {");
                source.line(&bodies[1]);
                source.line("}");
            }
        }
        source.finish(self.name(), shape.workgroup())
    }

    /// `product-q4d-576x576-m1`, with everything else that tells kernels apart.
    fn name(&self) -> String {
        let mut name = "product".to_owned();
        for Part { class, n, output } in &self.parts {
            let class = format!("{class:?}").to_lowercase();
            let output = match output {
                Output::Arena { stride } => format!("a{stride}"),
                Output::Logits { stride } => format!("l{stride}"),
            };
            name += &format!("-{class}-{n}x{}-{output}", self.k);
        }
        name += &self.input.name();
        if self.rows == RowsKind::Outputs {
            name += "-outputs";
        }
        name + &format!("-m{}-t{}", self.m, self.tiles)
    }

    /// The kernel for one row: a workgroup's tiles side by side, weights first.
    fn row_kernel(&self) -> Kernel {
        let form = Form::of(self.parts[0].class);
        let shapes: Vec<Shape> = self
            .parts
            .iter()
            .map(|part| Shape::teams(Form::of(part.class), self.k, side_by_side(self.tiles)))
            .collect();
        let mut source = Source::default();
        source.declare(reduce::declaration(&shapes[0], shapes[0].teams));
        source.line(walk::prelude(form, &shapes[0]));
        match &shapes[..] {
            [only] => self.row_part(&mut source, only, 0),
            _ => {
                let first = self.part_groups(&self.parts[0]);
                source.line(format!("if (group.x < {first}u) {{"));
                self.row_part(&mut source, &shapes[0], 0);
                source.line("} else {");
                self.row_part(&mut source, &shapes[1], 1);
                source.line("}");
            }
        }
        source.finish(self.name(), shapes[0].workgroup())
    }

    /// A workgroup of part `index`, prologue and all.
    fn row_part(&self, source: &mut Source, shape: &Shape, index: usize) {
        let part = &self.parts[index];
        let (form, buffer, base) = self.weights(source, index);
        let (words, all) = (tile_words(part.class, self.k), tiles(part.n));
        let before = if index == 0 { 0 } else { self.part_groups(&self.parts[0]) };
        let buffers = [buffer];
        let (each, teams) = (self.tiles, shape.teams);
        let loops = each > teams;
        let ring = match loops {
            true => ring::Ring::new(shape, form, &buffers),
            false => ring::Ring::once(shape, form, &buffers),
        };
        // Some devices' loads come back in order: first what is needed first.
        read_ahead(source, shape, self.input, self.rows);
        source.line(format!(
            "let nought = {base} >> 16u;
let first_tile = (group.x - {before}u) * {each}u;
let last_tile = min(first_tile + {each}u, {all}u) - 1u;
var tile = first_tile + team;
var tile_at = {base} + min(tile, last_tile) * {words}u;
{}let first = group.y;",
            ring.open()
        ));
        if self.rows == RowsKind::Outputs {
            let steps = source.read(binding::STEP);
            source.line(format!("let rows = {steps}[{}u];", self.rows.count_word()));
        }
        let x = activations(source, shape, self.input, self.rows);
        if self.rows == RowsKind::Outputs {
            source.line("if (first >= rows) { return; }");
        }
        let next = format!("{base} + min(tile + {teams}u, last_tile) * {words}u");
        let rows = 0..1;
        let place = if teams == 1 { "0u".into() } else { reduce::place(shape, "team") };
        let mut body = ring.tile(&x, loops.then_some(&next));
        body += &reduce::fold(shape, ring.stream());
        if loops {
            // The parts of the tile before have been read.
            body += "workgroupBarrier();\n";
        }
        body += &reduce::spread(shape, ring.stream(), &place, &rows);
        body += "workgroupBarrier();\n";
        body += &self.store(source, shape, (&place, "tile <= last_tile"), index, &rows);
        if loops {
            source.line(format!(
                "for (var start = first_tile; start <= last_tile; start += {teams}u) {{
{body}tile += {teams}u;\ntile_at = next_at;\n}}"
            ));
        } else {
            source.line(body);
        }
    }

    /// Form, buffer and first word of the weights of part `index`.
    fn weights(&self, source: &mut Source, index: usize) -> (Form, &'static str, String) {
        let weights = PART_BINDINGS[index];
        let buffer = source.read(weights);
        let base = source.immediate(Immediate::Weights { binding: weights });
        let form = Form::of(self.parts[index].class);
        if let Form::Integer(layout) = form {
            source.require(INTEGER_DOT);
            class::declare(source, &layout);
        }
        (form, buffer, base)
    }

    fn part_groups(&self, part: &Part) -> usize {
        tiles(part.n).div_ceil(self.tiles)
    }

    /// The tiles of a workgroup of part `index`.
    fn part(&self, source: &mut Source, shape: &Shape, index: usize, x: &Activations) -> String {
        let part = &self.parts[index];
        let (form, buffer, base) = self.weights(source, index);
        let words = tile_words(part.class, self.k);
        let tile = format!("{base} + tile * {words}u");
        let stream = Stream { index: 0, form, buffer, tile: "tile_at".into() };
        let before = if index == 0 { 0 } else { self.part_groups(&self.parts[0]) };
        let mut body = format!("let tile_at = {tile};\n");
        body += &walk::walk(shape, std::slice::from_ref(&stream), x);
        body += &reduce::fold(shape, &stream);
        for rows in reduce::groups(shape) {
            // The parts of the rows and the tile before have been read.
            if self.tiles > 1 || rows.start > 0 {
                body += "workgroupBarrier();\n";
            }
            body += &reduce::spread(shape, &stream, "0u", &rows);
            body += "workgroupBarrier();\n";
            let guard = format!("first + {}u + (lane >> 2u) < rows", rows.start);
            body += &self.store(source, shape, ("0u", &guard), index, &rows);
        }
        let first = format!("(group.x - {before}u) * {}u", self.tiles);
        if self.tiles == 1 {
            return format!("let tile = {first};\n{body}");
        }
        format!(
            "for (var turn_tile = 0u; turn_tile < {}; turn_tile += 1u) {{
let tile = {first} + turn_tile;
if (tile >= {}u) {{ break; }}
{body}}}",
            walk::bound(shape, 1, self.tiles),
            tiles(part.n)
        )
    }

    /// Writes the outputs of tile `tile` for a group of rows, where the condition `guard` holds;
    /// an invocation has four of them. The parts of the sums are at the place `parts`.
    fn store(
        &self,
        source: &mut Source,
        shape: &Shape,
        (parts, guard): (&str, &str),
        index: usize,
        rows: &Range<usize>,
    ) -> String {
        let part = &self.parts[index];
        let out = source.immediate(Immediate::Out { index });
        let (buffer, stride, bits) = match part.output {
            Output::Arena { stride } => (source.write(binding::ARENA), stride, true),
            Output::Logits { stride } => (source.write(binding::LOGITS), stride, false),
        };
        let value =
            |c: char| if bits { format!("bitcast<u32>(sum.{c})") } else { format!("sum.{c}") };
        let writes: String = (0..4)
            .zip(['x', 'y', 'z', 'w'])
            .map(|(i, c)| {
                let write = format!("{buffer}[at + {i}u] = {};\n", value(c));
                // Only in the last tile of a matrix that does not fill it.
                match part.n % TILE_ROWS {
                    0 => write,
                    _ => format!("if (column + {i}u < {}u) {{ {write}}}\n", part.n),
                }
            })
            .collect();
        format!(
            "if (member < {}u && {guard}) {{
{}let column = tile * 16u + (member & 3u) * 4u;
let at = {out} + (first + {}u + (member >> 2u)) * {stride}u + column;
{writes}}}
",
            4 * rows.len(),
            reduce::total(shape, parts, "sum", "member"),
            rows.start,
        )
    }
}

/// Tiles of one row that a workgroup of so many does at once. Where there are turns, smaller
/// workgroups leave registers for more weights in flight.
fn side_by_side(tiles: usize) -> usize {
    if tiles <= 4 { tiles } else { 2 }
}

/// The extension of WGSL that has `dot4I8Packed`.
pub(crate) const INTEGER_DOT: &str = "requires packed_4x8_integer_dot_product;";

/// Declares `rows` and `first`, the workgroup's first row; a workgroup without rows ends here.
pub(crate) fn rows(source: &mut Source, kind: RowsKind, m: usize) {
    let steps = source.read(binding::STEP);
    source.line(format!(
        "let rows = {steps}[{}u];\nlet first = group.y * {m}u;\nif (first >= rows) {{ return; }}
let nought = rows >> 16u;",
        kind.count_word()
    ));
}

/// Asks for what a prologue reads, before [`activations`] runs it.
pub(crate) fn read_ahead(source: &mut Source, shape: &Shape, input: Input<'_>, kind: RowsKind) {
    if let Input::Prologue(program) = input {
        Prologue::new(program, shape.m as u32, kind, shape.workgroup()).read(source);
    }
}

/// Declares `x_row{m}`: where each row's activations start. Runs the prologue, if there is one;
/// [`read_ahead`] has to stand before.
pub(crate) fn activations(
    source: &mut Source,
    shape: &Shape,
    input: Input<'_>,
    kind: RowsKind,
) -> Activations {
    let record_words = shape.blocks * record::WORDS;
    let (buffer, base, stride) = match input {
        Input::Records => {
            (source.read(binding::RECORDS), source.immediate(Immediate::Records), record_words)
        }
        Input::Floats { stride } => {
            (source.read(binding::ARENA), source.immediate(Immediate::Floats), stride)
        }
        Input::Prologue(program) => {
            let (rows, workgroup) = (shape.m as u32, shape.workgroup());
            Prologue::new(program, rows, kind, workgroup).emit(source);
            let (buffer, stride) = match input.is_quantised() {
                true => ("x_records", record_words),
                false => ("x_floats", shape.k),
            };
            (buffer, "0u".into(), stride)
        }
        Input::Merge { shape: heads, splits } => {
            let (rows, workgroup) = (shape.m as u32, shape.workgroup());
            attention::emit_merge(source, &heads, splits, rows, workgroup)
                .expect("the attention has a kernel, and a product has whole blocks");
            ("x_records", "0u".into(), record_words)
        }
    };
    for m in 0..shape.m {
        // Rows that the step lacks are computed from its last one, and not written.
        let row = if m == 0 { "first".into() } else { format!("min(first + {m}u, rows - 1u)") };
        source.line(format!("let x_row{m} = {base} + {row} * {stride}u;"));
    }
    Activations { buffer }
}
