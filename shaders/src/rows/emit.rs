//! A row program in the body of a kernel: phases, sums, stores and the rotation.

use onebit_ir::RopeStyle;
use onebit_ir::rows::{Arg, ArgId, Expr, ExprId, Rotate, RowProgram, Store};
use onebit_plan::gpu::{binding, record, step};

use super::layout::{BLOCK, Layout};
use super::value::{Spot, Values, is_leaf, loaded, phase};
use super::{Parts, RowsKind};
use crate::activations::{ActivationForm, half_words};
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
    /// f16 in the arena.
    Halves,
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
    pub reads: Reads,
    pub parts: &'a [Parts],
}

/// When a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Where it is emitted.
    There,
    /// Before, by [`Job::read_ahead`] and [`Job::read_rotation`]. For one row whose chunks are
    /// all written out ([`Job::kept`]), whose `position` is in scope.
    Ahead,
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
pub fn grid_targets(
    program: &RowProgram,
    logits: Option<ArgId>,
    form: ActivationForm,
) -> Vec<Target> {
    let target = |store: &Store| match store {
        Store::Q8 { .. } => match form {
            ActivationForm::Records => Target::Records,
            ActivationForm::Halves => Target::Halves,
        },
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
        let mut values = match self.reads {
            Reads::There => Values::new(self.index, self.program, self.parts),
            Reads::Ahead => Values::preloaded(self.index, self.program),
        };
        let last = self.program.stores.iter().map(|s| phase(self.program, expr_of(s))).max();
        for phase in 0..=last.unwrap_or(0) {
            self.phase(source, &mut values, phase);
        }
        source.line("workgroupBarrier();\n}");
    }

    pub(super) fn layout(&self) -> Layout {
        let heads = self.first_head.as_ref().map_or(self.program.heads, |(_, count)| *count);
        Layout { heads, width: self.program.width, workgroup: self.workgroup as usize }
    }

    /// Rows that share the workgroup's memory.
    pub(super) fn limit(&self) -> u32 {
        match self.rows {
            RowSet::Loop { limit, .. } => limit,
            RowSet::One { .. } => 1,
        }
    }

    /// Whether names of one phase still stand in the next.
    pub(crate) fn kept(&self) -> bool {
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

    /// Reads what [`Job::emit`] takes, so that it is under way while other programs run.
    pub fn read_ahead(&self, source: &mut Source) {
        let index = self.index;
        let leaf = |id: &ExprId| is_leaf(self.program, *id);
        let leaves: Vec<ExprId> = needed(self.program).into_iter().filter(leaf).collect();
        let rotated: Vec<ExprId> = self.rotated().into_iter().filter(leaf).collect();
        let mut values = Values::new(index, self.program, self.parts);
        self.ahead(
            source,
            "vec4<f32>",
            |tag| {
                let own = leaves.iter().map(|&id| (id, self.spot(tag)));
                let other = rotated.iter().map(|&id| (id, self.partner(tag)));
                own.chain(other)
                    .map(|(id, spot)| (loaded(index, id, &spot.tag), (id, spot)))
                    .collect()
            },
            |source, (id, spot)| values.read(source, *id, spot),
        );
    }

    /// Declares variables of the type `ty` for each chunk and gives them values. `of` tells their
    /// names and what `read` makes the values from, by the chunk's tag.
    pub(super) fn ahead<T>(
        &self,
        source: &mut Source,
        ty: &str,
        of: impl Fn(&str) -> Vec<(String, T)>,
        mut read: impl FnMut(&mut Source, &T) -> String,
    ) {
        let layout = self.layout();
        let tags: Vec<String> = (0..layout.chunks()).map(|chunk| format!("_{chunk}")).collect();
        let all: Vec<(String, T)> = tags.iter().flat_map(|tag| of(tag)).collect();
        all.iter().for_each(|(name, _)| source.line(format!("var {name}: {ty};")));
        source.line("{");
        match &self.rows {
            RowSet::Loop { .. } => source.line("let row = 0u;"),
            RowSet::One { row, .. } => source.line(format!("let row = {row};")),
        }
        self.addresses(source);
        for (chunk, tag) in tags.iter().enumerate() {
            source.line(layout.locate(tag, &format!("{chunk}u"), chunk + 1 == tags.len()));
            self.locate_partner(source, tag);
        }
        for (name, what) in &all {
            let value = read(source, what);
            source.line(format!("{name} = {value};"));
        }
        source.line("}");
    }

    /// Names all that is read, so that every load is on its way before the first barrier.
    fn prefetch(&self, source: &mut Source, values: &mut Values<'_>, tag: &str) {
        let leaf = |id: &ExprId| is_leaf(self.program, *id);
        for id in needed(self.program).into_iter().filter(leaf) {
            values.value(source, id, &self.spot(tag));
        }
        for id in self.rotated().into_iter().filter(leaf) {
            values.value(source, id, &self.partner(tag));
        }
    }

    /// Expressions behind the store that is rotated against its other half.
    pub(super) fn rotated(&self) -> Vec<ExprId> {
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

    pub(super) fn partner(&self, tag: &str) -> Spot {
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
        self.position(source);
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
            // The only row of a step is the only one that can be wanted.
            let gathered = match self.rows {
                RowSet::Loop { limit: 1, .. } => "row".to_owned(),
                _ => format!("{}[{}u + row]", source.read(binding::STEP), step::OUTPUTS),
            };
            source.line(format!("let gathered = {gathered};"));
        }
        for arg in used {
            let base = source.immediate(Immediate::Arg { program: self.index, arg });
            let (row, stride) = match program.args[arg] {
                Arg::Rows { row_stride, gathered: true, .. } => ("gathered", row_stride),
                Arg::Rows { row_stride, .. } => ("row", row_stride),
                Arg::Q8 { width } if self.targets.contains(&Target::Halves) => {
                    ("row", half_words(width))
                }
                Arg::Q8 { width } => ("row", width / BLOCK * record::WORDS),
                Arg::Vector { .. } => continue,
            };
            source.line(format!("let at{arg} = {base} + {row} * {stride}u;"));
        }
    }

    /// Says where the row stands, for the rotation.
    fn position(&self, source: &mut Source) {
        if self.program.rotate.is_some() && self.reads == Reads::There {
            let step = source.read(binding::STEP);
            source.line(format!("let position = {step}[{}u + row];", step::POSITIONS));
        }
    }

    pub(super) fn spot(&self, tag: &str) -> Spot {
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
}

pub(super) fn expr_of(store: &Store) -> ExprId {
    match *store {
        Store::F32 { expr, .. } | Store::Q8 { expr, .. } => expr,
    }
}

pub(super) fn arg_of(store: &Store) -> ArgId {
    match *store {
        Store::F32 { arg, .. } | Store::Q8 { arg, .. } => arg,
    }
}

/// Expressions that some store needs, ascending.
pub(super) fn needed(program: &RowProgram) -> Vec<ExprId> {
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
