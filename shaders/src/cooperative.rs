//! Products for many rows of the step, by cooperative matrices in f16 with sums in f32.
//!
//! A workgroup has some columns (outputs) and all rows up to m. It walks along k: a turn's weights
//! become f16 in workgroup memory, and the activations, which are floats here; then each subgroup
//! multiplies its column of matrices with all rows, over its part of the turn. So few workgroups
//! run that what they wait for is the memory's answer: weights are loaded two turns ahead, and
//! activations one. At the end the parts of k are added in order.
//!
//! The bits differ from those of [`crate::product`]. They do not depend on m, nor on the row's
//! place. Activations beyond the range of f16 become its largest number.

use onebit_ir::rows::RowProgram;
use onebit_plan::abi::{BLOCK, StorageClass, TILE_ROWS};
use onebit_plan::gpu::binding;
use onebit_plan::layout::{Codes, Layout};

use crate::class;
use crate::gated::Join;
use crate::kernel::{Immediate, Kernel, Source};
use crate::product::shape::tile_words;
use crate::product::{Output, PART_BINDINGS, rows};
use crate::rows::{RowsKind, digest};

/// Weights that a workgroup brings to its memory in a turn: a block of a tile for each sixteen of
/// 256 invocations.
const WEIGHTS: usize = 256 / 16 * BLOCK * TILE_ROWS;
/// Elements along k of a turn that one subgroup multiplies.
const SLICE: usize = 64;
/// Elements behind a row in workgroup memory, which spread rows over the memory's banks. Devices
/// want rows at multiples of 16 bytes.
const PAD: usize = 8;
/// The largest f16.
const LARGEST: &str = "65504.0";
/// The bytes of a word of codes, none of which is negative.
const CODES: &str = "fn code_bytes(word: u32) -> vec4<f32> {
    let low = vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u);
    return vec4<f32>(low & vec4<u32>(255u));
}";

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
    /// Floats from row to row of the input, in the arena from [`Immediate::Records`] on; a multiple
    /// of 4.
    pub stride: usize,
    pub rows: RowsKind,
    /// Rows of the step that a workgroup does: 16 or 32.
    pub m: usize,
    /// Outputs of a workgroup, or of gate and up together: 64, or 32 where the 64 would leave
    /// processors idle. Sums along k are split with them.
    pub columns: usize,
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
            Work::Product { n, .. } => n.div_ceil(self.columns),
            Work::Gated { n, .. } => n.div_ceil(self.columns / 2),
        };
        [columns as u32, rows.div_ceil(self.m) as u32, 1]
    }

    /// The kernel.
    ///
    /// # Panics
    /// With float classes, k or the gated n that are no multiples of 32, a stride that is none of
    /// 4, m that is no multiple of the matrices' size, other columns than documented, and what
    /// [`crate::gated::Gated`] panics with.
    pub fn kernel(&self) -> Kernel {
        assert!(self.k.is_multiple_of(BLOCK), "weights come in blocks of 32");
        assert!(self.stride.is_multiple_of(4), "activations come in words of 16 bytes");
        assert!(self.m.is_multiple_of(self.matrix.size), "rows come in whole matrices");
        assert!(matches!(self.columns, 32 | 64), "workgroups have 32 or 64 columns");
        let mut source = Source::default();
        source.require("enable f16;");
        source.require("enable wgpu_cooperative_matrix;");
        source.declare(CODES);
        let (m, pitch, columns) = (self.m, self.pitch(), self.columns);
        source.declare(format!("var<workgroup> w_tile: array<vec4<f16>, {}>;", columns * pitch));
        // Another length than w_tile's even where both have as many rows, in whole words of 16 bytes.
        source.declare(format!("var<workgroup> x_tile: array<vec4<f16>, {}>;", m * pitch + 2));
        let sums = self.matrix.size * columns;
        source.declare(format!("var<workgroup> sums: array<f32, {sums}>;"));
        rows(&mut source, self.rows, m);
        let matrices = self.matrices(&mut source);
        let input = source.read(binding::RECORDS);
        let base = source.immediate(Immediate::Records);
        let subgroups = columns / self.matrix.size;
        source
            .line(format!("let own_column = sub % {subgroups}u;\nlet slice = sub / {subgroups}u;"));
        source.line(self.places(&matrices));
        source.line(self.places_of_rows(&base));
        let ty = self.matrix_type("f32", 'C');
        self.accumulators().iter().for_each(|acc| source.line(format!("var {acc} = {ty}();")));
        source.line(self.walk(&matrices, input));
        let epilogue = self.epilogue(&mut source);
        source.line(epilogue);
        source.finish(self.name(), self.workgroup() as u32)
    }

    /// Elements along k of a turn.
    fn step(&self) -> usize {
        WEIGHTS / self.columns
    }

    /// Parts of a turn, each of other subgroups.
    fn slices(&self) -> usize {
        self.step() / SLICE
    }

    /// `vec4<f16>`s from row to row in workgroup memory.
    fn pitch(&self) -> usize {
        (self.step() + PAD) / 4
    }

    /// Turns along k, an even number: behind the end of k there are zeros.
    fn turns(&self) -> usize {
        self.k.div_ceil(self.step()).next_multiple_of(2)
    }

    fn is_ragged(&self) -> bool {
        self.turns() * self.step() != self.k
    }

    /// For each part of a turn, one subgroup for each column of matrices.
    fn workgroup(&self) -> usize {
        self.columns / self.matrix.size * self.slices() * self.matrix.subgroup
    }

    /// Blocks of a tile that an invocation has a sixteenth of, in each turn.
    fn blocks_each(&self) -> usize {
        (WEIGHTS / (BLOCK * TILE_ROWS) * 16).div_ceil(self.workgroup())
    }

    /// Four elements of a row that an invocation brings, in each turn.
    fn quads_each(&self) -> usize {
        (self.m * self.step() / 4).div_ceil(self.workgroup())
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
        let (rows, columns) = (self.rows.name(), self.columns);
        format!("coop-{work}-f{}-{rows}-m{}-c{columns}-{size}w{subgroup}", self.stride, self.m)
    }

    /// The matrices with their tiles of a workgroup: gate and up have half of them each.
    fn matrices(&self, source: &mut Source) -> Vec<Tiles> {
        let (classes, n) = match self.work {
            Work::Product { class, n, .. } => (vec![class], n),
            Work::Gated { classes, n, .. } => (classes.to_vec(), n),
        };
        let each = self.columns / TILE_ROWS / classes.len();
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

    /// Which weights an invocation brings: sixteen do a block of a tile, as in a product. All that
    /// a turn changes is the block. Names end in the number of the block in the turn.
    fn places(&self, matrices: &[Tiles]) -> String {
        let tiles = self.columns / TILE_ROWS;
        let mut out =
            "let l = lane & 15u;\nlet j = l & 3u;\nlet v = l >> 2u;\nlet half = j >> 1u;\n"
                .to_owned();
        for i in 0..self.blocks_each() {
            out += &format!(
                "let unit_{i} = (lane + {}u) >> 4u;
let tile_{i} = unit_{i} & {}u;
let part_{i} = unit_{i} / {tiles}u;
let to_{i} = (tile_{i} * 16u + j * 4u) * {}u + part_{i} * {}u + v;
var from_{i} = 0u;
",
                i * self.workgroup(),
                tiles - 1,
                self.pitch(),
                BLOCK / 4
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
            for name in names(matrices) {
                let each = SETS.iter().map(|set| format!("var {name}{set}{i}: vec4<u32>;\n"));
                out.extend(each);
            }
        }
        out
    }

    /// Which activations an invocation brings, four elements at a time.
    fn places_of_rows(&self, base: &str) -> String {
        let quads = self.step() / 4;
        let each = (0..self.quads_each()).map(|i| {
            format!(
                "let x_row_{i} = (lane + {}u) / {quads}u;
let x_quad_{i} = (lane + {}u) % {quads}u;
let x_from_{i} = {base} + min(first + x_row_{i}, rows - 1u) * {}u;
var x_{i}: vec4<f32>;
",
                i * self.workgroup(),
                i * self.workgroup(),
                self.stride / 4
            )
        });
        each.collect()
    }

    /// All turns: what the turn needs goes to workgroup memory, what later ones need is asked for,
    /// and what stands in workgroup memory is multiplied.
    fn walk(&self, matrices: &[Tiles], input: &str) -> String {
        let turns = self.turns();
        let [first, second] = SETS;
        let mut out = self.load(matrices, first, "0u");
        out += &self.load(matrices, second, "1u");
        out += &self.load_rows(input, "0u");
        out += &format!("for (var turn = 0u; turn < {turns}u; turn += 2u) {{\n");
        for (ahead, set) in SETS.into_iter().enumerate() {
            out += &format!("{{\nlet now = turn + {ahead}u;\n");
            out += &self.fill(matrices, set);
            out += &self.fill_rows();
            out += "workgroupBarrier();\n";
            // The last turns ask for the last of k again.
            let last = turns - 1;
            out += &self.load_rows(input, &format!("min(now + 1u, {last}u)"));
            out += &self.load(matrices, set, &format!("min(now + 2u, {last}u)"));
            out += &self.multiply();
            out += "workgroupBarrier();\n}\n";
        }
        out + "}\n"
    }

    /// Asks for an invocation's weights of a turn.
    fn load(&self, matrices: &[Tiles], set: &str, turn: &str) -> String {
        let blocks = self.k / BLOCK;
        let mut out = String::new();
        for i in 0..self.blocks_each() {
            let block = format!("{turn} * {}u + part_{i}", self.step() / BLOCK);
            out += &match self.is_ragged() {
                true => format!("{{\nlet block = min({block}, {}u);\n", blocks - 1),
                false => format!("{{\nlet block = {block};\n"),
            };
            let load = |Tiles { layout, buffer, .. }: &Tiles| {
                let from = format!("from_{i}");
                let text = class::load(layout, buffer, &from, "block", &format!("{set}{i}"));
                // The words outlive the turn: they are variables.
                let loads = text.lines().map(|line| match loaded(line, buffer) {
                    Some(_) => format!("{}\n", line.trim_start_matches("let ")),
                    None => format!("{line}\n"),
                });
                loads.collect()
            };
            out += &by_matrix(matrices, i, load);
            out += "}\n";
        }
        out
    }

    /// Asks for an invocation's activations of a turn.
    fn load_rows(&self, input: &str, turn: &str) -> String {
        let last = self.k / 4 - 1;
        let each = (0..self.quads_each()).map(|i| {
            let quad = format!("{turn} * {}u + x_quad_{i}", self.step() / 4);
            let quad = match self.is_ragged() {
                true => format!("min({quad}, {last}u)"),
                false => quad,
            };
            format!("x_{i} = bitcast<vec4<f32>>({input}[x_from_{i} + {quad}]);\n")
        });
        each.collect()
    }

    /// Brings a turn's weights to workgroup memory.
    fn fill(&self, matrices: &[Tiles], set: &str) -> String {
        let alike = matrices.iter().all(|matrix| matrix.class == matrices[0].class);
        let distinct = if alike { &matrices[..1] } else { matrices };
        let each = (0..self.blocks_each())
            .map(|i| by_matrix(distinct, i, |matrix| self.dequantise(&matrix.layout, set, i)));
        each.collect()
    }

    /// Writes the f16 values of quads `v` and `v + 4` of four rows.
    fn dequantise(&self, layout: &Layout, set: &str, i: usize) -> String {
        let tag = format!("{set}{i}");
        let mut out = "{\n".to_owned();
        out += &class::unpack(layout, &tag);
        let names: Vec<&str> = class::scale_names(layout).collect();
        let bias = class::bias(layout);
        // What is no code but a value has a sign.
        let bytes = match layout.codes {
            Codes::Bytes | Codes::Levels(_) => "signed_bytes",
            _ => "code_bytes",
        };
        let blocks = self.k / BLOCK;
        out += &format!("let is_inside = now * {}u + part_{i} < {blocks}u;\n", self.step() / BLOCK);
        for (codes, [scale, min], quad) in [("a", ["w", "n"], 0), ("c", ["z", "o"], 4)] {
            let scale = if names.contains(&scale) { scale } else { "w" };
            let min = [min, "n"].into_iter().find(|name| names.contains(name));
            for (row, c) in ['x', 'y', 'z', 'w'].into_iter().enumerate() {
                let code = match bias {
                    0 => format!("{bytes}({codes}{tag}.{c})"),
                    _ => format!("({bytes}({codes}{tag}.{c}) - {bias}.0)"),
                };
                let scale = format!("{scale}{tag}.{c}");
                let value = match min {
                    Some(min) => {
                        format!("fma({code}, vec4<f32>({scale}), vec4<f32>({min}{tag}.{c}))")
                    }
                    None => format!("{code} * {scale}"),
                };
                let value = match self.is_ragged() {
                    true => format!("select(vec4<f32>(), {value}, is_inside)"),
                    false => value,
                };
                let at = row * self.pitch() + quad;
                out += &format!("w_tile[to_{i} + {at}u] = vec4<f16>({value});\n");
            }
        }
        out + "}\n"
    }

    /// Brings a turn's activations to workgroup memory. What is infinite or no number stays so.
    fn fill_rows(&self) -> String {
        let (quads, last) = (self.step() / 4, self.k / 4 - 1);
        let each = (0..self.quads_each()).map(|i| {
            let value = format!(
                "select(x_{i}, clamp(x_{i}, vec4<f32>(-{LARGEST}), vec4<f32>({LARGEST})), \
                 abs(x_{i}) < vec4<f32>(3.4e38))"
            );
            let value = match self.is_ragged() {
                true => {
                    format!("select(vec4<f32>(), {value}, now * {quads}u + x_quad_{i} <= {last}u)")
                }
                false => value,
            };
            let pitch = self.pitch();
            format!("x_tile[x_row_{i} * {pitch}u + x_quad_{i}] = vec4<f16>({value});\n")
        });
        each.collect()
    }

    fn accumulators(&self) -> Vec<String> {
        (0..self.m / self.matrix.size).map(|r| format!("acc{r}")).collect()
    }

    fn matrix_type(&self, element: &str, role: char) -> String {
        let size = self.matrix.size;
        format!("coop_mat{size}x{size}<{element}, {role}>")
    }

    /// Multiplies a subgroup's part of what is in workgroup memory.
    fn multiply(&self) -> String {
        let (size, pitch) = (self.matrix.size, self.pitch());
        let (a, b) = (self.matrix_type("f16", 'A'), self.matrix_type("f16", 'B'));
        let mut out = format!("let along = slice * {}u;\n", SLICE / 4);
        for k in 0..SLICE / size {
            let element = k * size / 4;
            // Columns of B follow each other in w_tile.
            let at = format!("own_column * {}u + along + {element}u", size * pitch);
            out += &format!("let b{k} = coopLoad<{b}>(&w_tile[{at}], {pitch}u);\n");
            for (r, acc) in self.accumulators().iter().enumerate() {
                let at = r * size * pitch + element;
                out += &format!(
                    "let a{k}_{r} = coopLoadT<{a}>(&x_tile[along + {at}u], {pitch}u);
{acc} = coopMultiplyAdd(a{k}_{r}, b{k}, {acc});
"
                );
            }
        }
        out
    }

    /// Adds the parts of k and writes the sums, or what gate and up make together. Workgroup memory
    /// has the rows of one matrix at a time, and each invocation four columns of a row.
    fn epilogue(&self, source: &mut Source) -> String {
        let (fours, width) = match self.work {
            Work::Product { .. } => (vec!["y"], self.columns),
            Work::Gated { .. } => (vec!["gate", "up"], self.columns / 2),
        };
        let (size, columns, quads) = (self.matrix.size, self.columns, width / 4);
        assert!(size * quads <= self.workgroup(), "an invocation writes four columns");
        let mut out = format!(
            "let is_writer = lane < {}u;
let own_row = min(lane / {quads}u, {}u);
let own_quad = lane % {quads}u * 4u;
let own = own_row * {columns}u + own_quad;
let column = group.x * {width}u + own_quad;
",
            size * quads,
            size - 1
        );
        let write = self.write(source);
        for (r, acc) in self.accumulators().iter().enumerate() {
            out += "{\n";
            fours.iter().for_each(|four| out += &format!("var {four}: vec4<f32>;\n"));
            for slice in 0..self.slices() {
                out += &format!(
                    "if (slice == {slice}u) {{
coopStoreT({acc}, &sums[own_column * {size}u], {columns}u);
}}
workgroupBarrier();
"
                );
                for (i, four) in fours.iter().enumerate() {
                    let each: Vec<String> =
                        (0..4).map(|c| format!("sums[own + {}u]", i * width + c)).collect();
                    out += &format!("{four} += vec4<f32>({});\n", each.join(", "));
                }
                out += "workgroupBarrier();\n";
            }
            out += &format!(
                "let row = first + {}u + own_row;\nif (is_writer && row < rows) {{\n{write}}}\n}}\n",
                r * size
            );
        }
        out
    }

    /// Writes the four results from `column` on of `row`.
    fn write(&self, source: &mut Source) -> String {
        let out = source.immediate(Immediate::Out { index: 0 });
        let arena = |source: &mut Source| source.write(binding::ARENA);
        let (width, n, stride, value, target) = match self.work {
            Work::Product { n, output: Output::Arena { stride }, .. } => {
                (self.columns, n, stride, String::new(), arena(source))
            }
            Work::Product { n, output: Output::Logits { stride }, .. } => {
                (self.columns, n, stride, String::new(), source.write(binding::LOGITS))
            }
            Work::Gated { n, stride, epilogue, .. } => {
                let join = Join::new(epilogue).value(source);
                (self.columns / 2, n, stride, format!("let y = {join};\n"), arena(source))
            }
        };
        let is_logits = target == "logits";
        let write = |(i, c): (usize, char)| {
            let y = if is_logits { format!("y.{c}") } else { format!("bitcast<u32>(y.{c})") };
            let write = format!("{target}[at + {i}u] = {y};");
            match n % width {
                0 => format!("{write}\n"),
                _ => format!("if (column + {i}u < {n}u) {{ {write} }}\n"),
            }
        };
        let writes: String = "xyzw".chars().enumerate().map(write).collect();
        format!("let at = {out} + row * {stride}u + column;\n{value}{writes}")
    }
}

/// Suffixes of the words of weights in flight: of even turns and of odd ones.
const SETS: [&str; 2] = ["_p", "_q"];

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

/// The name that `line` of [`class::load`] gives to a word of `buffer`, with its suffix.
fn loaded<'l>(line: &'l str, buffer: &str) -> Option<&'l str> {
    let (name, value) = line.strip_prefix("let ")?.split_once(" = ")?;
    value.strip_prefix(buffer)?.starts_with('[').then_some(name)
}

/// Names of the words that blocks of the matrices are loaded as, each once.
fn names(matrices: &[Tiles]) -> Vec<String> {
    let mut names = Vec::new();
    for Tiles { layout, buffer, .. } in matrices {
        let text = class::load(layout, buffer, "", "", "");
        for name in text.lines().filter_map(|line| loaded(line, buffer)) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}
