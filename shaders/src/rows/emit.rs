//! A row program in the body of a kernel: phases, sums, stores and the rotation.

use onebit_ir::RopeStyle;
use onebit_ir::rows::{Arg, ArgId, Expr, ExprId, Rotate, RowProgram, Store};
use onebit_plan::gpu::{binding, record, step};

use super::functions::float;
use super::layout::{BLOCK, Layout};
use super::value::{Spot, Values, phase};
use super::{RowsKind, record as records};
use crate::kernel::{Immediate, Source};

/// The rows a workgroup computes.
#[derive(Clone, Debug)]
pub enum RowSet {
    /// All of the step, up to a limit.
    Loop { limit: u32, kind: RowsKind },
    /// One, by a WGSL expression that is the same in the whole workgroup. With a kind the
    /// workgroup ends where the step lacks the row.
    One { row: String, kind: Option<RowsKind> },
}

/// Where a store's values go.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Records in the arena.
    Records,
    /// Records in `x_records`.
    LocalRecords,
    /// Floats in the arena.
    Floats,
    /// Floats in the arena, from workgroup (0, 0, 0).
    FirstFloats,
    /// As [`Target::FirstFloats`], and in `x_floats`.
    LocalFloats,
    /// Floats in the logits.
    Logits,
    /// Floats in a `var<workgroup>` of `vec4<f32>`, mini-rows without gaps.
    Workgroup { name: String },
}

/// A program with all that decides its WGSL.
pub struct Job<'a> {
    /// Counts the programs of the kernel.
    pub index: usize,
    pub program: &'a RowProgram,
    pub workgroup: u32,
    pub rows: RowSet,
    /// The first mini-row and how many of them, where a workgroup computes some only. Those
    /// behind the program's last are copies of it.
    pub first_head: Option<(String, usize)>,
    /// One for each store.
    pub targets: Vec<Target>,
}

/// Declares what a prologue leaves behind.
pub fn prologue_targets(source: &mut Source, program: &RowProgram, rows: u32) -> Vec<Target> {
    let width = program.heads * program.width;
    let quantised = program.stores.iter().any(|store| matches!(store, Store::Q8 { .. }));
    if quantised {
        let words = rows as usize * width / BLOCK * record::WORDS;
        source.declare(format!("var<workgroup> x_records: array<vec4<u32>, {words}>;"));
    } else {
        let fours = rows as usize * width / 4;
        source.declare(format!("var<workgroup> x_floats: array<vec4<f32>, {fours}>;"));
    }
    let last = program.stores.len() - 1;
    let target = |(i, store): (usize, &Store)| match store {
        Store::Q8 { .. } => Target::LocalRecords,
        Store::F32 { .. } if i == last && !quantised => Target::LocalFloats,
        Store::F32 { .. } => Target::FirstFloats,
    };
    program.stores.iter().enumerate().map(target).collect()
}

/// Stores of a program that has its rows to itself.
pub fn grid_targets(program: &RowProgram, logits: Option<ArgId>) -> Vec<Target> {
    let target = |store: &Store| match store {
        Store::Q8 { .. } => Target::Records,
        Store::F32 { arg, .. } if Some(*arg) == logits => Target::Logits,
        Store::F32 { .. } => Target::Floats,
    };
    program.stores.iter().map(target).collect()
}

impl Job<'_> {
    /// Appends the program, ending in a barrier.
    pub fn emit(&self, source: &mut Source) {
        source.line(format!("{{ // program {}", self.index));
        match &self.rows {
            RowSet::Loop { limit: 1, .. } => source.line("let row = 0u;"),
            RowSet::Loop { .. } => {}
            RowSet::One { row, kind } => {
                source.line(format!("let row = {row};"));
                if let Some(kind) = kind {
                    let step = source.read(binding::STEP);
                    source.line(format!("if row >= {step}[{}] {{ return; }}", kind.count_word()));
                }
            }
        }
        let mut values = Values::new(self.index, self.program);
        let last = self.program.stores.iter().map(|s| phase(self.program, expr_of(s))).max();
        for phase in 0..=last.unwrap_or(0) {
            self.phase(source, &mut values, phase);
        }
        source.line("workgroupBarrier();\n}");
    }

    fn layout(&self) -> Layout {
        let heads = self.first_head.as_ref().map_or(self.program.heads, |(_, count)| *count);
        Layout { heads, width: self.program.width, workgroup: self.workgroup as usize }
    }

    /// Rows that share the workgroup's memory.
    fn limit(&self) -> u32 {
        match self.rows {
            RowSet::Loop { limit, .. } => limit,
            RowSet::One { .. } => 1,
        }
    }

    /// Whether names of one phase still stand in the next.
    fn kept(&self) -> bool {
        self.limit() == 1 && self.layout().unrolled()
    }

    fn phase(&self, source: &mut Source, values: &mut Values<'_>, at: usize) {
        let program = self.program;
        let norms: Vec<ExprId> = needed(program)
            .into_iter()
            .filter(|&id| match program.exprs[id] {
                Expr::RmsNorm { x, .. } => phase(program, x) == at,
                _ => false,
            })
            .collect();
        let stores: Vec<usize> = (0..program.stores.len())
            .filter(|&i| phase(program, expr_of(&program.stores[i])) == at)
            .collect();
        self.open_rows(source, at);
        self.scales(source, at, "");
        let layout = self.layout();
        let chunks = layout.chunks();
        if layout.unrolled() {
            for chunk in 0..chunks {
                let tag = format!("_{chunk}");
                if at == 0 || !self.kept() {
                    let last = chunk + 1 == chunks;
                    source.line(layout.locate(&tag, &format!("{chunk}u"), last));
                    self.locate_partner(source, &tag);
                }
            }
            if at == 0 && self.kept() {
                (0..chunks).for_each(|c| self.prefetch(source, values, &format!("_{c}")));
            }
            for chunk in 0..chunks {
                self.chunk(source, values, at, &format!("_{chunk}"), (&norms, &stores));
            }
        } else {
            source.line(format!("for (var c = 0u; c < {chunks}u; c += 1u) {{"));
            source.line(layout.locate("_c", "c", true));
            self.locate_partner(source, "_c");
            self.chunk(source, values, at, "_c", (&norms, &stores));
            source.line("}");
        }
        if !self.kept() {
            values.forget();
        }
        self.close_rows(source);
        if !norms.is_empty() {
            source.line("workgroupBarrier();");
        }
    }

    /// Names all that is read, so that every load is on its way before the first barrier.
    fn prefetch(&self, source: &mut Source, values: &mut Values<'_>, tag: &str) {
        let leaf = |id: &ExprId| matches!(self.program.exprs[*id], Expr::Load(_) | Expr::Vector(_));
        for id in needed(self.program).into_iter().filter(leaf) {
            values.value(source, id, &self.spot(tag));
        }
        for id in self.rotated().into_iter().filter(leaf) {
            values.value(source, id, &self.partner(tag));
        }
    }

    /// Expressions behind the store that is rotated against its other half.
    fn rotated(&self) -> Vec<ExprId> {
        let mut all = Vec::new();
        if let Some(Rotate { arg, style: RopeStyle::Neox, .. }) = self.program.rotate {
            let stores = self.program.stores.iter().filter(|store| arg_of(store) == arg);
            stores.for_each(|store| collect(self.program, expr_of(store), &mut all));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Says which element is the partner of a chunk's in the rotation.
    fn locate_partner(&self, source: &mut Source, tag: &str) {
        if let Some(Rotate { dims, style: RopeStyle::Neox, .. }) = self.program.rotate {
            let (e, half) = (format!("e{tag}"), dims / 2);
            source.line(format!(
                "let partner{tag} = select(select({e}, {e} - {half}u, {e} < {dims}u), {e} + {half}u, {e} < {half}u);"
            ));
        }
    }

    fn partner(&self, tag: &str) -> Spot {
        let element = format!("partner{tag}");
        Spot { tag: format!("{tag}p"), element, ..self.spot(tag) }
    }

    /// Opens the loop over rows, where there is one, and says where their arguments are.
    fn open_rows(&self, source: &mut Source, at: usize) {
        if at > 0 && self.kept() {
            return;
        }
        match self.rows {
            RowSet::Loop { limit, kind } if limit > 1 => {
                let step = source.read(binding::STEP);
                let count = format!("min({step}[{}], {limit}u)", kind.count_word());
                source.line(format!("for (var row = 0u; row < {count}; row += 1u) {{"));
            }
            _ if self.kept() => {}
            _ => source.line("{"),
        }
        self.addresses(source);
    }

    fn close_rows(&self, source: &mut Source) {
        if !self.kept() {
            source.line("}");
        }
    }

    /// `at{arg}`: word of the row in each argument that is read or stored to in global memory.
    fn addresses(&self, source: &mut Source) {
        let program = self.program;
        let mut used = Vec::new();
        for (store, target) in program.stores.iter().zip(&self.targets) {
            Values::loads(program, expr_of(store), &mut used);
            let global = !matches!(target, Target::LocalRecords | Target::Workgroup { .. });
            used.extend(global.then_some(arg_of(store)));
        }
        used.sort_unstable();
        used.dedup();
        let gathers = |arg: &ArgId| matches!(program.args[*arg], Arg::Rows { gathered: true, .. });
        if used.iter().any(gathers) {
            let step = source.read(binding::STEP);
            source.line(format!("let gathered = {step}[{}u + row];", step::OUTPUTS));
        }
        for arg in used {
            let base = source.immediate(Immediate::Arg { program: self.index, arg });
            let (row, stride) = match program.args[arg] {
                Arg::Rows { row_stride, gathered: true, .. } => ("gathered", row_stride),
                Arg::Rows { row_stride, .. } => ("row", row_stride),
                Arg::Q8 { width } => ("row", width / BLOCK * record::WORDS),
                Arg::Vector { .. } => continue,
            };
            source.line(format!("let at{arg} = {base} + {row} * {stride}u;"));
        }
        if program.rotate.is_some() {
            let step = source.read(binding::STEP);
            source.line(format!("let position = {step}[{}u + row];", step::POSITIONS));
        }
    }

    /// Scales of the normalisations that phase `at` is the first to have, or of all it can have
    /// where nothing is kept. With one mini-row they are the row's.
    fn scales(&self, source: &mut Source, at: usize, tag: &str) {
        let one = self.layout().heads == 1;
        if at == 0 || one != tag.is_empty() {
            return;
        }
        for id in needed(self.program) {
            let Expr::RmsNorm { x, eps, .. } = self.program.exprs[id] else {
                continue;
            };
            let ready = phase(self.program, x) + 1;
            if ready == at || (ready < at && !self.kept()) {
                let function = self.declare_scale(source, id, eps);
                let head = if one { "0u".to_owned() } else { format!("head{tag}") };
                source.line(format!("let scale{id}{tag} = {function}(row, {head}, lane & 7u);"));
            }
        }
    }

    /// Declares the function that adds up a mini-row's sums of blocks: eight strided sums, then
    /// a tree over eight neighbours.
    fn declare_scale(&self, source: &mut Source, id: ExprId, eps: f32) -> String {
        let Layout { heads, .. } = self.layout();
        let blocks = self.layout().blocks();
        let index = self.index;
        let name = format!("scale{index}_{id}");
        let sums = self.sums(source, id);
        let row = if let RowSet::One { .. } = self.rows { "0u" } else { "row" };
        let mut body = format!("let at = ({row} * {heads}u + head) * {blocks}u;\nvar sum = 0.0;\n");
        for first in (0..blocks).step_by(8) {
            if first + 8 <= blocks {
                body += &format!("sum += {sums}[at + {first}u + j];\n");
            } else {
                let last = blocks - 1;
                body += &format!(
                    "sum += select(0.0, {sums}[at + min({first}u + j, {last}u)], {first}u + j < {blocks}u);\n"
                );
            }
        }
        for distance in [1, 2, 4] {
            body += &format!("sum += subgroupShuffleXor(sum, {distance}u);\n");
        }
        let share = float(1.0 / self.program.width as f32);
        let eps = float(eps);
        source.declare(format!(
            "fn {name}(row: u32, head: u32, j: u32) -> f32 {{\n{body}return inverseSqrt(fma(sum, {share}, {eps}));\n}}"
        ));
        name
    }

    /// The array of a normalisation's sums: `[rows][heads][blocks]`.
    fn sums(&self, source: &mut Source, id: ExprId) -> String {
        let layout = self.layout();
        let name = format!("sums{}_{id}", self.index);
        let count = self.limit() as usize * layout.heads * layout.blocks();
        source.declare(format!("var<workgroup> {name}: array<f32, {count}>;"));
        name
    }

    fn spot(&self, tag: &str) -> Spot {
        let head = match &self.first_head {
            Some((first, _)) => {
                format!("min({first} + head{tag}, {}u)", self.program.heads - 1)
            }
            None => format!("head{tag}"),
        };
        Spot { tag: tag.to_owned(), head, element: format!("e{tag}") }
    }

    fn chunk(
        &self,
        source: &mut Source,
        values: &mut Values<'_>,
        at: usize,
        tag: &str,
        (norms, stores): (&[ExprId], &[usize]),
    ) {
        self.scales(source, at, tag);
        if self.layout().heads == 1 {
            self.alias_scales(source, at, tag);
        }
        let spot = self.spot(tag);
        for &id in norms {
            let Expr::RmsNorm { x, .. } = self.program.exprs[id] else {
                unreachable!("the list has normalisations only");
            };
            let x = values.value(source, x, &spot);
            self.sum_block(source, id, &x, tag);
        }
        for &store in stores {
            self.store(source, values, store, &spot);
        }
    }

    /// The row's scales by the names that values use.
    fn alias_scales(&self, source: &mut Source, at: usize, tag: &str) {
        for id in needed(self.program) {
            if let Expr::RmsNorm { x, .. } = self.program.exprs[id] {
                let ready = phase(self.program, x) + 1;
                if ready == at || (ready < at && !self.kept()) {
                    source.line(format!("let scale{id}{tag} = scale{id};"));
                }
            }
        }
    }

    /// Leaves the sum of squares of a block in workgroup memory.
    fn sum_block(&self, source: &mut Source, id: ExprId, x: &str, tag: &str) {
        let sums = self.sums(source, id);
        let layout = self.layout();
        let of_row = layout.heads * layout.blocks();
        let row = if self.limit() == 1 { "0u" } else { "row" };
        source.line(format!(
            "var s{id}{tag} = fma({x}.x, {x}.x, fma({x}.y, {x}.y, fma({x}.z, {x}.z, {x}.w * {x}.w)));"
        ));
        source.line(format!("s{id}{tag} = select(0.0, s{id}{tag}, live{tag});"));
        for distance in [1, 2, 4] {
            source.line(format!("s{id}{tag} += subgroupShuffleXor(s{id}{tag}, {distance}u);"));
        }
        let mine = format!("(t{tag} & 7u) == 0u && live{tag}");
        source
            .line(format!("if {mine} {{ {sums}[{row} * {of_row}u + block{tag}] = s{id}{tag}; }}"));
    }

    fn store(&self, source: &mut Source, values: &mut Values<'_>, store: usize, spot: &Spot) {
        let (Store::F32 { expr, arg } | Store::Q8 { expr, arg }) = self.program.stores[store];
        let mut x = values.value(source, expr, spot);
        if let Some(rotate) = self.program.rotate.filter(|rotate| rotate.arg == arg) {
            x = self.rotate(source, values, expr, &rotate, spot);
        }
        let tag = &spot.tag;
        let (all, record_words) = (self.program.heads * self.program.width, record::WORDS);
        let word = format!("t{tag} & 7u");
        match &self.targets[store] {
            Target::Records | Target::LocalRecords => {
                records::declare(source);
                source.line(format!("let word{tag} = record_word({x}, {word});"));
                let (array, first) = if self.targets[store] == Target::Records {
                    (source.write(binding::RECORDS), format!("at{arg}"))
                } else {
                    ("x_records", format!("row * {}u", all / BLOCK * record_words))
                };
                source.line(format!(
                    "if live{tag} && ({word}) < {record_words}u {{ {array}[{first} + block{tag} * {record_words}u + ({word})] = word{tag}; }}"
                ));
            }
            Target::Floats | Target::FirstFloats => {
                self.store_floats(source, values, store, &x, spot);
            }
            Target::LocalFloats => {
                self.store_floats(source, values, store, &x, spot);
                let index = self.local(spot, &format!("row * {all}u"));
                source.line(format!("if live{tag} {{ x_floats[{index}] = {x}; }}"));
            }
            Target::Logits => {
                let logits = source.write(binding::LOGITS);
                let at = values.place(arg, spot);
                let lanes = ["x", "y", "z", "w"].iter().enumerate();
                let each: Vec<String> =
                    lanes.map(|(i, lane)| format!("{logits}[{at} + {i}u] = {x}.{lane};")).collect();
                source.line(format!("if live{tag} {{ {} }}", each.join(" ")));
            }
            Target::Workgroup { name } => {
                let index = self.local(spot, "0u");
                source.line(format!("if live{tag} {{ {name}[{index}] = {x}; }}"));
            }
        }
    }

    /// Index of a `vec4` in workgroup memory that holds mini-rows without gaps from float
    /// `first` on.
    fn local(&self, spot: &Spot, first: &str) -> String {
        let (tag, width) = (&spot.tag, self.program.width);
        format!("({first} + head{tag} * {width}u + e{tag}) / 4u")
    }

    fn store_floats(
        &self,
        source: &mut Source,
        values: &Values<'_>,
        store: usize,
        x: &str,
        spot: &Spot,
    ) {
        let records = source.write(binding::RECORDS);
        let at = values.place(arg_of(&self.program.stores[store]), spot);
        let tag = &spot.tag;
        let first = match self.targets[store] {
            Target::Floats => "",
            _ => " && all(group == vec3<u32>(0u))",
        };
        source.line(format!(
            "if live{tag}{first} {{ {records}[({at}) / 4u] = bitcast<vec4<u32>>({x}); }}"
        ));
    }

    /// The value of `expr` at `spot`, rotated by the row's position.
    ///
    /// Its partner in the other half is computed again rather than fetched from the invocation
    /// that has it.
    fn rotate(
        &self,
        source: &mut Source,
        values: &mut Values<'_>,
        expr: ExprId,
        rotate: &Rotate,
        spot: &Spot,
    ) -> String {
        let table = source.read(binding::ROPE);
        let x = values.value(source, expr, spot);
        let (tag, dims) = (&spot.tag, rotate.dims);
        let half = dims / 2;
        let e = &spot.element;
        let rotated = format!("rotated{expr}{tag}");
        source.line(format!("var {rotated} = {x};"));
        match rotate.style {
            RopeStyle::Neox => {
                self.alias_partner_scales(source, tag);
                let other = self.partner(tag);
                let y = values.value(source, expr, &other);
                source.line(format!(
                    "if {e} < {dims}u {{
    let i = position * {dims}u + min({e}, partner{tag});
    let cos = {};
    let sin = {};
    {rotated} = fma({x}, cos, select({y}, -{y}, {e} < {half}u) * sin);
}}",
                    four(table, "i", 4),
                    four(table, &format!("i + {half}u"), 4),
                ));
            }
            RopeStyle::Norm => source.line(format!(
                "if {e} < {dims}u {{
    let i = position * {dims}u + {e} / 2u;
    let cos = {};
    let sin = {};
    let even = fma({x}.xz, cos, -({x}.yw * sin));
    let odd = fma({x}.yw, cos, {x}.xz * sin);
    {rotated} = vec4<f32>(even.x, odd.x, even.y, odd.y);
}}",
                four(table, "i", 2),
                four(table, &format!("i + {half}u"), 2),
            )),
        }
        rotated
    }

    /// The scales of `tag` for the partner's values: both are of one mini-row.
    fn alias_partner_scales(&self, source: &mut Source, tag: &str) {
        for id in self.rotated() {
            if let Expr::RmsNorm { .. } = self.program.exprs[id] {
                source.line(format!("let scale{id}{tag}p = scale{id}{tag};"));
            }
        }
    }
}

/// `count` consecutive floats of an array.
fn four(array: &str, at: &str, count: usize) -> String {
    let lanes: Vec<String> = (0..count).map(|i| format!("{array}[{at} + {i}u]")).collect();
    format!("vec{count}<f32>({})", lanes.join(", "))
}

fn expr_of(store: &Store) -> ExprId {
    match *store {
        Store::F32 { expr, .. } | Store::Q8 { expr, .. } => expr,
    }
}

fn arg_of(store: &Store) -> ArgId {
    match *store {
        Store::F32 { arg, .. } | Store::Q8 { arg, .. } => arg,
    }
}

/// Expressions that some store needs, ascending.
fn needed(program: &RowProgram) -> Vec<ExprId> {
    let mut all = Vec::new();
    for store in &program.stores {
        collect(program, expr_of(store), &mut all);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Adds `expr` and all that it needs.
fn collect(program: &RowProgram, expr: ExprId, into: &mut Vec<ExprId>) {
    into.push(expr);
    match program.exprs[expr] {
        Expr::Load(_) | Expr::Vector(_) => {}
        Expr::Add(x, y) | Expr::Mul(x, y) | Expr::Gated(_, x, y) => {
            collect(program, x, into);
            collect(program, y, into);
        }
        Expr::Scale(x, _) | Expr::Unary(_, x) | Expr::SoftCap(x, _) => collect(program, x, into),
        Expr::RmsNorm { x, weight, .. } => {
            collect(program, x, into);
            collect(program, weight, into);
        }
    }
}
