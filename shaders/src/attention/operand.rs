//! Queries, keys and values of a workgroup's heads, brought to workgroup memory.

use onebit_ir::rows::{Arg, Expr, RowProgram, Store};

use super::{AttentionError, Operand, Shape};
use crate::kernel::Source;
use crate::rows::{Job, Parts, Reads, RowSet, Target, check};

/// Some heads of an operand, and the workgroup memory they go to: `local_q` and the like, an
/// array of `vec4<f32>` with heads without gaps.
pub struct Local {
    /// Of the kernel's programs.
    index: usize,
    name: &'static str,
    heads: usize,
    dim: usize,
    /// The first head wanted, in WGSL, and how many.
    wanted: (String, usize),
}

/// `count` query heads from `first` on.
pub fn queries(shape: &Shape, first: String, count: u32) -> Local {
    let (heads, dim) = (shape.heads as usize, shape.key_dim as usize);
    Local { index: 0, name: "q", heads, dim, wanted: (first, count as usize) }
}

/// The key of head `kv`.
pub fn keys(shape: &Shape) -> Local {
    let (heads, dim) = (shape.kv_heads as usize, shape.key_dim as usize);
    Local { index: 1, name: "k", heads, dim, wanted: ("kv".into(), 1) }
}

/// The value of head `kv`.
pub fn values(shape: &Shape) -> Local {
    let (heads, dim) = (shape.kv_heads as usize, shape.value_dim as usize);
    Local { index: 2, name: "v", heads, dim, wanted: ("kv".into(), 1) }
}

/// An operand on its way.
pub struct Bringing<'a> {
    local: Local,
    program: RowProgram,
    parts: &'a [Parts],
    workgroup: u32,
}

impl Bringing<'_> {
    fn job(&self) -> Job<'_> {
        let name = format!("local_{}", self.local.name);
        let mut job = Job {
            index: self.local.index,
            program: &self.program,
            workgroup: self.workgroup,
            rows: RowSet::One { row: "row".into(), kind: None },
            first_head: Some(self.local.wanted.clone()),
            targets: vec![Target::Workgroup { name }],
            reads: Reads::There,
            parts: self.parts,
        };
        if job.kept() {
            job.reads = Reads::Ahead;
        }
        job
    }

    /// Asks for what stands in memory; `row` must be known.
    pub fn read(&self, source: &mut Source) {
        let job = self.job();
        if job.reads == Reads::Ahead {
            job.read_ahead(source);
        }
    }

    /// Asks for the rotation's angles; `position` must be known.
    pub fn read_rotation(&self, source: &mut Source) {
        let job = self.job();
        if job.reads == Reads::Ahead {
            job.read_rotation(source);
        }
    }

    /// Computes it, ending in a barrier.
    pub fn emit(&self, source: &mut Source) {
        let name = format!("local_{}", self.local.name);
        let fours = self.local.wanted.1 * self.local.dim / 4;
        source.declare(format!("var<workgroup> {name}: array<vec4<f32>, {fours}>;"));
        self.job().emit(source);
    }
}

impl Local {
    /// Brings row `row` of `operand`.
    pub fn bring(
        self,
        operand: Operand<'_>,
        workgroup: u32,
    ) -> Result<Bringing<'_>, AttentionError> {
        let (program, parts) = match operand {
            Operand::Floats { stride, parts } => (self.copy(stride as usize), parts),
            Operand::Program { program, parts } => (self.by_heads(program)?, parts),
        };
        check(&program)?;
        Ok(Bringing { local: self, program, parts, workgroup })
    }

    /// A program that only loads.
    fn copy(&self, stride: usize) -> RowProgram {
        let rows = Arg::Rows { row_stride: stride, head_stride: self.dim, gathered: false };
        RowProgram {
            heads: self.heads,
            width: self.dim,
            args: vec![rows, rows],
            exprs: vec![Expr::Load(0)],
            stores: vec![Store::F32 { expr: 0, arg: 1 }],
            rotate: None,
            column_range: false,
        }
    }

    /// `program` with a mini-row for each head.
    fn by_heads(&self, program: &RowProgram) -> Result<RowProgram, AttentionError> {
        let operand = self.name;
        let [Store::F32 { .. }] = program.stores[..] else {
            return Err(AttentionError::Results { operand, found: program.stores.len() });
        };
        let (heads, width) = (program.heads, program.width);
        if (heads, width) == (self.heads, self.dim) {
            return Ok(program.clone());
        }
        let norm = |expr: &Expr| matches!(expr, Expr::RmsNorm { .. });
        let whole = program.exprs.iter().any(norm) || program.rotate.is_some();
        if heads != 1 || width != self.heads * self.dim || whole {
            let (want_heads, want_width) = (self.heads, self.dim);
            return Err(AttentionError::Operand { operand, heads, width, want_heads, want_width });
        }
        let head_stride = self.dim;
        let args = program.args.iter().map(|arg| match *arg {
            Arg::Rows { row_stride, gathered, .. } => {
                Arg::Rows { row_stride, head_stride, gathered }
            }
            Arg::Vector { .. } => Arg::Vector { head_stride },
            Arg::Q8 { width } => Arg::Q8 { width },
        });
        let args = args.collect();
        Ok(RowProgram { heads: self.heads, width: self.dim, args, ..program.clone() })
    }
}
