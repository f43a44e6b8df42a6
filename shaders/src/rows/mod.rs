//! Row programs as WGSL: the row-wise work between products.
//!
//! All mini-rows of a row are computed together. An invocation has four consecutive elements of a
//! mini-row; eight neighbours have a block of 32. Elements pass in phases, as on the CPU: a phase
//! ends where a normalisation needs the sum over a mini-row, and inner values are computed again
//! in the next one, or stay in registers where the row is short and alone.
//!
//! The result has the same bits for every size of workgroup and subgroup and for every number of
//! rows: a sum of squares is one fixed tree over blocks of 32, and what could be contracted to a
//! fused multiply-add is one already.
//!
//! Every [`Arg::Rows`](onebit_ir::rows::Arg) starts at a multiple of four words and has strides
//! that are multiples of four. No buffer that a prologue stores to may overlap one that any
//! prologue of the same dispatch reads: other workgroups may be late.

mod check;
mod emit;
pub(crate) mod functions;
pub(crate) mod layout;
pub mod record;
mod store;
mod sums;
mod value;

use onebit_ir::rows::{ArgId, RowProgram};
use onebit_plan::gpu::step;

pub use check::{Unfit, check};
pub(crate) use emit::{Job, Reads, RowSet, Target};

use crate::activations::ActivationForm;
use crate::kernel::{Kernel, Source};

/// Which rows a program or product covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowsKind {
    /// The rows of the step.
    All,
    /// The rows whose logits are wanted.
    Outputs,
}

impl RowsKind {
    /// The word of the step buffer that counts them.
    pub fn count_word(self) -> usize {
        match self {
            Self::All => step::ROWS,
            Self::Outputs => step::OUTPUT_ROWS,
        }
    }

    /// `all` or `outputs`, for kernel names.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Outputs => "outputs",
        }
    }
}

/// Where a program runs and where its results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In every workgroup, before what reads the results: all rows up to `rows`.
    ///
    /// The Q8 store's records are left in `var<workgroup> x_records: array<vec4<u32>, rows *
    /// width / 32 * 5>`, those of row r at `r * width / 32 * 5`; without a Q8 store the last
    /// float store's values in `var<workgroup> x_floats: array<vec4<f32>, rows * width / 4>`.
    /// Records of rows that the step lacks are left undefined. Float stores, that last one
    /// included, go to the arena from workgroup (0, 0, 0) alone.
    Prologue { rows: u32, kind: RowsKind, workgroup: u32 },
    /// Row `group.x` in a workgroup of its own; results go to the arena. The store to `logits`
    /// goes to the logits instead.
    Grid { kind: RowsKind, workgroup: u32, ends: Ends<'a> },
}

/// Where a program of its own reads and stores otherwise than it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends<'a> {
    /// The argument that stands for the logits.
    pub logits: Option<ArgId>,
    /// What a quantised result becomes.
    pub form: ActivationForm,
    /// Arguments that are sums.
    pub parts: &'a [Parts],
}

/// An argument of floats that is the sum of several, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub arg: ArgId,
    pub count: usize,
    /// Floats from one to the next, a multiple of 4.
    pub pitch: usize,
}

/// Appends `program` to the kernel's body, ending in a barrier that makes the prologue's results
/// visible to the workgroup. `index` counts the kernel's programs. All names it declares but
/// those of [`Place`] carry the index or live in a block of their own.
///
/// # Panics
/// With a program that [`check`] refuses.
pub fn emit(source: &mut Source, index: usize, program: &RowProgram, place: Place<'_>) {
    check(program).expect("a program for the GPU has been checked");
    let job = match place {
        Place::Prologue { rows, kind, workgroup } => {
            let targets = emit::prologue_targets(source, program, rows);
            let rows = RowSet::Loop { limit: rows, kind };
            let reads = Reads::There;
            Job { index, program, workgroup, rows, first_head: None, targets, reads, parts: &[] }
        }
        Place::Grid { kind, workgroup, ends } => {
            let targets = emit::grid_targets(program, ends.logits, ends.form);
            let rows = RowSet::One { row: "group.x".into(), kind: Some(kind) };
            let (reads, parts) = (Reads::There, ends.parts);
            Job { index, program, workgroup, rows, first_head: None, targets, reads, parts }
        }
    };
    job.emit(source);
}

/// A program as [`Place::Prologue`], in two steps: what it reads can be asked for before other
/// loads that take longer.
pub(crate) struct Prologue<'a> {
    program: &'a RowProgram,
    rows: u32,
    kind: RowsKind,
    workgroup: u32,
}

impl<'a> Prologue<'a> {
    /// # Panics
    /// With a program that [`check`] refuses.
    pub fn new(program: &'a RowProgram, rows: u32, kind: RowsKind, workgroup: u32) -> Self {
        check(program).expect("a program for the GPU has been checked");
        Self { program, rows, kind, workgroup }
    }

    /// Asks for what it reads, where that fits in registers.
    pub fn read(&self, source: &mut Source) {
        let job = self.job(source);
        if job.reads == Reads::Ahead {
            job.read_ahead(source);
        }
    }

    /// Appends the program, as [`emit`] does.
    pub fn emit(&self, source: &mut Source) {
        self.job(source).emit(source);
    }

    fn job(&self, source: &mut Source) -> Job<'a> {
        let &Self { program, rows, kind, workgroup } = self;
        let targets = emit::prologue_targets(source, program, rows);
        let rows = RowSet::Loop { limit: rows, kind };
        let reads = Reads::There;
        let job = Job {
            index: 0,
            program,
            workgroup,
            rows,
            first_head: None,
            targets,
            reads,
            parts: &[],
        };
        let ahead = job.kept() && program.rotate.is_none();
        Job { reads: if ahead { Reads::Ahead } else { Reads::There }, ..job }
    }
}

/// A program as a kernel of its own, with quantised results as records: dispatch one workgroup for
/// each row.
///
/// Bindings and immediates as the program needs them; see [`Place::Grid`].
///
/// # Errors
/// A program that [`check`] refuses.
pub fn kernel(
    program: &RowProgram,
    kind: RowsKind,
    logits: Option<ArgId>,
) -> Result<Kernel, Unfit> {
    kernel_with(program, kind, Ends { logits, ..Ends::default() })
}

/// As [`kernel`], with other ends.
///
/// # Errors
/// A program that [`check`] refuses.
pub fn kernel_with(program: &RowProgram, kind: RowsKind, ends: Ends<'_>) -> Result<Kernel, Unfit> {
    check(program)?;
    let workgroup = workgroup(program);
    let mut source = Source::default();
    emit(&mut source, 0, program, Place::Grid { kind, workgroup, ends });
    let (heads, width) = (program.heads, program.width);
    let digest = digest(program, ends.logits);
    let mut name = format!("rows-{}-{heads}x{width}-{digest:016x}", kind.name());
    if ends.form == ActivationForm::Halves {
        name += "-halves";
    }
    for Parts { arg, count, pitch } in ends.parts {
        name += &format!("-p{arg}x{count}x{pitch}");
    }
    Ok(source.finish(name, workgroup))
}

/// Invocations for a program alone in its kernel: one for four elements, from 64 to 1024.
fn workgroup(program: &RowProgram) -> u32 {
    let fours = program.heads * program.width / 4;
    fours.next_power_of_two().clamp(64, 1024) as u32
}

/// FNV-1a of all that a program says, so that equal names stand for equal kernels.
pub(crate) fn digest(program: &RowProgram, logits: Option<ArgId>) -> u64 {
    fingerprint(&format!("{program:?} {logits:?}"))
}

/// FNV-1a of a text.
pub(crate) fn fingerprint(text: &str) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}
