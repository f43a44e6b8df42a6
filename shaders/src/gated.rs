//! Two products of one input, joined column by column and quantised: gate and up of a
//! feed-forward network.

use std::ops::Range;

use onebit_ir::rows::{ArgId, Expr, ExprId, RowProgram, Store};
use onebit_plan::abi::{BLOCK, StorageClass};
use onebit_plan::gpu::{binding, record};

use crate::class;
use crate::kernel::{Immediate, Kernel, Source};
use crate::product::ring::Ring;
use crate::product::shape::{Form, Shape, tile_words};
use crate::product::walk::{Activations, opaque, prelude, walk};
use crate::product::{
    INTEGER_DOT, Input, PART_BINDINGS, Stream, activations, read_ahead, reduce, rows,
};
use crate::rows::{RowsKind, digest, functions, record as records};

/// `out[row] = records of f(gate[row], up[row])`, with `gate = x * G` and `up = x * U`.
///
/// Weights are at [`PART_BINDINGS`], gate first, from [`Immediate::Weights`] on. Record b of row r
/// is at `(r * n / 32 + b) * 5` 16-byte words from [`Immediate::Out`] 0 on. Dispatch
/// [`Gated::groups`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gated<'a> {
    pub k: usize,
    /// Rows of each matrix, a multiple of 32.
    pub n: usize,
    /// Classes of gate and up, both integer.
    pub classes: [StorageClass; 2],
    pub input: Input<'a>,
    /// Rows of the step that a workgroup does: 1, 4 or 8.
    pub m: usize,
    /// Blocks of 32 results that a workgroup does, one after another.
    pub blocks: usize,
    /// The program that joins columns: see [`Join`].
    pub epilogue: &'a RowProgram,
}

/// The element-wise program of two arguments that joins gate and up. The first argument that its
/// expressions load is the gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Join<'a> {
    program: &'a RowProgram,
    result: ExprId,
    /// Arguments of gate and up.
    loads: [ArgId; 2],
}

impl<'a> Join<'a> {
    /// # Panics
    /// With a program that has not exactly two loads and one result.
    pub fn new(program: &'a RowProgram) -> Self {
        let [Store::Q8 { expr, .. } | Store::F32 { expr, .. }] = program.stores[..] else {
            panic!("a gated product has one result");
        };
        let loads: Vec<ArgId> = program
            .exprs
            .iter()
            .filter_map(|expr| match expr {
                Expr::Load(arg) => Some(*arg),
                _ => None,
            })
            .collect();
        let [gate, up] = loads[..] else { panic!("a gated product joins two products") };
        Self { program, result: expr, loads: [gate, up] }
    }

    /// The result as WGSL over `vec4<f32>`s of the names `gate` and `up`.
    pub fn value(&self, source: &mut Source) -> String {
        self.text(source, self.result)
    }

    fn text(&self, source: &mut Source, expr: ExprId) -> String {
        let mut of = |expr| self.text(source, expr);
        match self.program.exprs[expr] {
            Expr::Load(arg) if arg == self.loads[0] => "gate".into(),
            Expr::Load(_) => "up".into(),
            Expr::Add(x, y) => format!("({} + {})", of(x), of(y)),
            Expr::Mul(x, y) => format!("({} * {})", of(x), of(y)),
            Expr::Scale(x, factor) => format!("({} * {})", of(x), functions::float(factor)),
            Expr::Gated(function, gate, up) => {
                let (gate, up) = (of(gate), of(up));
                format!("({}({gate}) * {up})", functions::name(source, function))
            }
            Expr::Unary(function, x) => {
                let x = of(x);
                format!("{}({x})", functions::name(source, function))
            }
            Expr::SoftCap(x, cap) => {
                let x = of(x);
                format!("({})", functions::softcap(source, &x, cap))
            }
            Expr::Vector(_) | Expr::RmsNorm { .. } => {
                panic!("a gated product joins columns by themselves")
            }
        }
    }
}

/// Blocks of 32 results of which each has a large workgroup of its own at once.
const FEW_BLOCKS: usize = 128;
/// Bytes of a tile's codes for 32 elements from which on workgroups are large. With fewer, they wait
/// longer for each other than for memory.
const LARGE_CODES: usize = 256;

/// Tiles of gate and up that a workgroup of one row does side by side.
fn row_teams(form: Form, n: usize) -> usize {
    let large = matches!(form, Form::Integer(layout) if layout.code_bytes() >= LARGE_CODES);
    if n / BLOCK <= FEW_BLOCKS || large { 4 } else { 2 }
}

fn stream_place(shape: &Shape, stream: &Stream) -> String {
    reduce::place(shape, &format!("{}u", stream.index))
}

impl Gated<'_> {
    /// Workgroups for a step of up to `rows` rows.
    pub fn groups(&self, rows: usize) -> [u32; 3] {
        let x = (self.n / BLOCK).div_ceil(self.blocks);
        [x as u32, rows.div_ceil(self.m) as u32, 1]
    }

    /// Invocations of a workgroup for one row of one class.
    pub fn row_invocations(&self) -> u32 {
        self.row_shape().workgroup()
    }

    fn row_shape(&self) -> Shape {
        let form = Form::of(self.classes[0]);
        Shape::teams(form, self.k, row_teams(form, self.n))
    }

    /// The kernel.
    ///
    /// # Panics
    /// With float classes or float input, n that is no multiple of 32, and an epilogue of another
    /// form than `gated(f)` of two products, see [`Gated::epilogue`].
    pub fn kernel(&self) -> Kernel {
        assert!(self.n.is_multiple_of(BLOCK), "results are quantised in blocks of 32");
        assert!(self.input.is_quantised(), "gated products read records");
        if self.m == 1 && self.classes[0] == self.classes[1] {
            return self.row_kernel();
        }
        let forms = self.classes.map(Form::of);
        let shape = Shape::new(forms[0], 2, self.k, self.m);
        let mut source = Source::default();
        source.require(INTEGER_DOT);
        source.declare(reduce::declaration(&shape, 2));
        records::declare(&mut source);
        rows(&mut source, RowsKind::All, self.m);
        read_ahead(&mut source, &shape, self.input, RowsKind::All);
        let x = activations(&mut source, &shape, self.input, RowsKind::All);
        source.line(prelude(forms[0], &shape));
        source.line("let e = lane & 7u;");
        let streams = [0, 1].map(|index| self.stream(&mut source, index));
        let tile = Self::tile(&shape, &streams, &x);
        let epilogue = self.epilogue(&mut source, &shape);
        let totals: String = (0..reduce::groups(&shape).len())
            .map(|g| format!("var gate{g}: vec4<f32>;\nvar up{g}: vec4<f32>;\n"))
            .collect();
        source.line(format!(
            "for (var turn_block = 0u; turn_block < {}u; turn_block += 1u) {{
let block = group.x * {}u + turn_block;
if (block >= {}u) {{ break; }}
{totals}for (var q = 0u; q < {}; q += 1u) {{
{tile}}}
{epilogue}}}",
            self.blocks,
            self.blocks,
            self.n / BLOCK,
            opaque(2)
        ));
        source.finish(self.name(), shape.workgroup())
    }

    /// The kernel for one row and one class: gate and up side by side, one for each team, weights
    /// first; both tiles of a block, too, where workgroups are large.
    fn row_kernel(&self) -> Kernel {
        let (form, shape) = (Form::of(self.classes[0]), self.row_shape());
        let mut source = Source::default();
        source.require(INTEGER_DOT);
        source.declare(reduce::declaration(&shape, 4));
        records::declare(&mut source);
        source.line(prelude(form, &shape));
        let streams = [0, 1].map(|index| self.stream(&mut source, index));
        let buffers = streams.map(|stream| stream.buffer);
        let [gate, up] =
            PART_BINDINGS.map(|it| source.immediate(Immediate::Weights { binding: it }));
        let ring = Ring::new(&shape, form, &buffers);
        let (each, words) = (self.blocks, tile_words(self.classes[0], self.k));
        read_ahead(&mut source, &shape, self.input, RowsKind::All);
        source.line(format!(
            "let nought = {gate} >> 16u;
let side = team & 1u;
let base = select({gate}, {up}, side == 1u) + (team >> 1u) * {words}u;
let first_block = group.x * {each}u;
let last_block = min(first_block + {each}u, {}u) - 1u;
var tile_at = base + first_block * {}u;
{}let first = group.y;
let e = lane & 7u;",
            self.n / BLOCK,
            2 * words,
            ring.open()
        ));
        let x = activations(&mut source, &shape, self.input, RowsKind::All);
        let body = self.row_block(&mut source, &ring, &x);
        if each > 1 {
            source.line(format!(
                "for (var block = first_block; block <= last_block; block += 1u) {{
{body}workgroupBarrier();\n}}"
            ));
        } else {
            source.line(format!("let block = first_block;\n{body}"));
        }
        source.finish(self.name(), shape.workgroup())
    }

    /// Block `block` of one row. The parts of gate and up of tile q are at the places `2 * q` and
    /// `2 * q + 1`.
    fn row_block(&self, source: &mut Source, ring: &Ring<'_>, x: &Activations) -> String {
        let (shape, words) = (ring.shape(), tile_words(self.classes[0], self.k));
        let next_block = format!("base + min(block + 1u, last_block) * {}u", 2 * words);
        let next_block = (self.blocks > 1).then_some(next_block);
        let turns = match shape.teams {
            4 => vec![("team", next_block)],
            _ => vec![("team", Some(format!("tile_at + {words}u"))), ("(team + 2u)", next_block)],
        };
        let mut out = String::new();
        for (place, next) in turns {
            out += &format!("{{\n{}", ring.tile(x, next.as_deref()));
            out += &reduce::fold(shape, ring.stream());
            out += &reduce::spread(shape, ring.stream(), &reduce::place(shape, place), &(0..1));
            out += if next.is_some() { "tile_at = next_at;\n}\n" } else { "}\n" };
        }
        out +=
            "workgroupBarrier();\nvar gate0: vec4<f32>;\nvar up0: vec4<f32>;\nif (lane < 8u) {\n";
        for (name, team) in [("gate", "((e >> 2u) * 2u)"), ("up", "((e >> 2u) * 2u + 1u)")] {
            out += &reduce::total(shape, &reduce::place(shape, team), name, "(e & 3u)");
            out += &format!("{name}0 = {name};\n");
        }
        out + "}\n" + &self.epilogue(source, shape)
    }

    fn name(&self) -> String {
        let [gate, up] = self.classes.map(|class| format!("{class:?}").to_lowercase());
        let (n, k, input) = (self.n, self.k, self.input.name());
        let epilogue = digest(self.epilogue, None);
        format!("gated-{gate}-{up}-{n}x{k}{input}-{epilogue:016x}-m{}-b{}", self.m, self.blocks)
    }

    fn stream(&self, source: &mut Source, index: usize) -> Stream {
        let class = self.classes[index];
        let form = Form::of(class);
        let Form::Integer(layout) = form else { panic!("gated products are of integer classes") };
        class::declare(source, &layout);
        let weights = PART_BINDINGS[index];
        let buffer = source.read(weights);
        let base = source.immediate(Immediate::Weights { binding: weights });
        let tile = format!("({base} + tile * {}u)", tile_words(class, self.k));
        Stream { index, form, buffer, tile }
    }

    /// Tile `q` of the block: its sums go to the invocations that have its columns.
    fn tile(shape: &Shape, streams: &[Stream; 2], x: &Activations) -> String {
        let mut out = format!("let tile = block * 2u + q;\n{}", walk(shape, streams, x));
        for stream in streams {
            out += &reduce::fold(shape, stream);
        }
        for (g, rows) in reduce::groups(shape).iter().enumerate() {
            out += &Self::collect(shape, streams, g, rows);
        }
        out
    }

    /// Adds up the parts of group `g` of the rows.
    fn collect(shape: &Shape, streams: &[Stream], g: usize, rows: &Range<usize>) -> String {
        // The parts of what came before have been read.
        let mut out = "workgroupBarrier();\n".to_owned();
        for stream in streams {
            out += &reduce::spread(shape, stream, &stream_place(shape, stream), rows);
        }
        out +=
            &format!("workgroupBarrier();\nif (lane < {}u && (e >> 2u) == q) {{\n", 8 * rows.len());
        for stream in streams {
            let name = ["gate", "up"][stream.index];
            let word = "((lane >> 3u) * 4u + (e & 3u))";
            out += &reduce::total(shape, &stream_place(shape, stream), name, word);
            out += &format!("{name}{g} = {name};\n");
        }
        out + "}\n"
    }

    /// Joins and quantises the block's columns: eight invocations have a row's.
    fn epilogue(&self, source: &mut Source, shape: &Shape) -> String {
        let join = Join::new(self.epilogue);
        let value = join.value(source);
        let buffer = source.write(binding::RECORDS);
        let out = source.immediate(Immediate::Out { index: 0 });
        let (blocks, words) = (self.n / BLOCK, record::WORDS);
        let groups = reduce::groups(shape);
        // One row is there.
        let exists = if shape.teams == 1 { "row < rows && " } else { "" };
        let each = groups.iter().enumerate().map(|(g, rows)| {
            format!(
                "if (lane < {}u) {{
let gate = gate{g};
let up = up{g};
let word = record_word({value}, e);
let row = first + {}u + (lane >> 3u);
if ({exists}e < {words}u) {{
{buffer}[{out} + (row * {blocks}u + block) * {words}u + e] = word;
}}
}}
",
                8 * rows.len(),
                rows.start
            )
        });
        each.collect()
    }
}
