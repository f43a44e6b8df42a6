//! Fused row loops: a [`RowProgram`] as one function.
//!
//! For each row and head the elements pass in phases; a phase ends where a normalisation needs
//! the sum over all elements. Within a phase, chunks of up to 32 elements are computed in
//! registers from loads to stores. Expressions of an earlier phase are computed again rather
//! than kept: they are loads and a few operations.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};
use onebit_ir::RopeStyle;
use onebit_ir::rows::{Arg, ArgId, Expr, ExprId, Rotate, RowProgram, Store};
use onebit_plan::abi::{
    BLOCK, RECORD_ROW_BYTES, REFINEMENT_BLOCK_AT, REFINEMENT_BYTES, panel_bytes, refinement_bytes,
    refinement_limit,
};

use super::build::{Code, Machine, for_range, indexed, int, memory, offset, splat};
use super::math::{function, softcap, sum_lanes};
use super::quantise::{self, RecordRow};
use crate::error::CompileError;

/// Floats in a vector.
const LANES: usize = 4;

/// Compiles `program`. Parameters of the function, all i64: one pointer per argument, first and
/// end row, first and end column, pointer to the output row list, log2 of the panel's rows.
pub fn row_function(
    machine: &mut Machine,
    name: &str,
    program: &RowProgram,
) -> Result<Code, CompileError> {
    if !program.width.is_multiple_of(LANES) {
        return Err(CompileError::RowWidth { width: program.width });
    }
    let mut signature = Signature::new(machine.call_conv());
    signature.params = vec![AbiParam::new(types::I64); program.args.len() + 6];
    machine.compile(name, signature, |b, params| {
        let (pointers, rest) = params.split_at(program.args.len());
        let &[r0, r1, c0, c1, outputs, log2] = rest else {
            unreachable!("the signature has six parameters after the pointers");
        };
        let frame = Frame { program, pointers, c0, c1, outputs, log2 };
        for_range(b, (r0, r1), 1, |b, row| frame.row(b, row));
    })
}

/// What is fixed in a function.
struct Frame<'a> {
    program: &'a RowProgram,
    pointers: &'a [Value],
    c0: Value,
    c1: Value,
    outputs: Value,
    log2: Value,
}

/// What is fixed while one mini-row passes.
struct MiniRow<'a> {
    frame: &'a Frame<'a>,
    /// Address of the mini-row, by argument; record base for quantised ones.
    bases: Vec<Value>,
    /// Row within its panel, for quantised stores.
    panel_row: Value,
    /// `1 / sqrt(mean(x^2) + eps)` of each normalisation done so far.
    norms: HashMap<ExprId, Value>,
}

impl Frame<'_> {
    fn row(&self, b: &mut FunctionBuilder<'_>, row: Value) {
        let heads = self.program.heads;
        if heads == 1 {
            let zero = int(b, 0);
            self.mini_row(b, row, zero);
        } else {
            let range = (int(b, 0), int(b, heads));
            for_range(b, range, 1, |b, head| self.mini_row(b, row, head));
        }
    }

    fn mini_row(&self, b: &mut FunctionBuilder<'_>, row: Value, head: Value) {
        let one = int(b, 1);
        let panel = b.ins().ishl(one, self.log2);
        let mask = b.ins().iadd_imm_s(panel, -1);
        let panel_row = b.ins().band(row, mask);
        let bases = (0..self.pointers.len()).map(|arg| self.base(b, arg, row, head)).collect();
        let mut mini = MiniRow { frame: self, bases, panel_row, norms: HashMap::new() };
        let last = self.program.exprs.len().checked_sub(1);
        let phases = last.map_or(0, |last| (0..=last).map(|e| self.phase(e)).max().unwrap_or(0));
        for phase in 0..=phases {
            mini.phase(b, phase);
        }
        if let Some(rotate) = &self.program.rotate {
            mini.rotate(b, rotate);
        }
    }

    /// Address of an argument's mini-row.
    fn base(&self, b: &mut FunctionBuilder<'_>, arg: ArgId, row: Value, head: Value) -> Value {
        let pointer = self.pointers[arg];
        match self.program.args[arg] {
            Arg::Rows { row_stride, head_stride, gathered } => {
                let row = if gathered { self.gathered(b, row) } else { row };
                let start = indexed(b, pointer, row, row_stride * 4);
                if self.program.heads == 1 || head_stride == 0 {
                    start
                } else {
                    indexed(b, start, head, head_stride * 4)
                }
            }
            Arg::Vector { head_stride: 0 } => pointer,
            Arg::Vector { head_stride } => indexed(b, pointer, head, head_stride * 4),
            Arg::Q8 { width } => {
                let panel = b.ins().ushr(row, self.log2);
                let panel_bytes = int(b, panel_bytes(1, width));
                let panel_bytes = b.ins().ishl(panel_bytes, self.log2);
                let start = b.ins().imul(panel, panel_bytes);
                b.ins().iadd(pointer, start)
            }
        }
    }

    fn gathered(&self, b: &mut FunctionBuilder<'_>, row: Value) -> Value {
        let entry = indexed(b, self.outputs, row, 4);
        b.ins().sload32(memory(), entry, 0)
    }

    /// The first phase in which the value of `expr` can be had.
    fn phase(&self, expr: ExprId) -> usize {
        match self.program.exprs[expr] {
            Expr::Load(_) | Expr::Vector(_) => 0,
            Expr::Add(x, y) | Expr::Mul(x, y) | Expr::Gated(_, x, y) => {
                self.phase(x).max(self.phase(y))
            }
            Expr::Scale(x, _) | Expr::Unary(_, x) | Expr::SoftCap(x, _) => self.phase(x),
            Expr::RmsNorm { x, .. } => self.phase(x) + 1,
        }
    }

    /// Elements computed together: as many as divide the width.
    fn chunk(&self) -> usize {
        [32, 16, 8, 4].into_iter().find(|c| self.program.width.is_multiple_of(*c)).unwrap_or(4)
    }
}

impl MiniRow<'_> {
    fn program(&self) -> &RowProgram {
        self.frame.program
    }

    fn phase(&mut self, b: &mut FunctionBuilder<'_>, phase: usize) {
        let program = self.frame.program;
        let stores: Vec<Store> = program
            .stores
            .iter()
            .copied()
            .filter(|store| match store {
                Store::F32 { expr, .. } | Store::Q8 { expr, .. } => {
                    self.frame.phase(*expr) == phase
                }
            })
            .collect();
        // Normalisations whose argument is complete in this phase.
        let norms: Vec<(ExprId, ExprId, f32)> = (0..program.exprs.len())
            .filter_map(|id| match program.exprs[id] {
                Expr::RmsNorm { x, eps, .. } if self.frame.phase(x) == phase => Some((id, x, eps)),
                _ => None,
            })
            .collect();
        let refined: Vec<(ExprId, ArgId)> = stores
            .iter()
            .filter_map(|store| match *store {
                Store::Q8 { expr, arg } => Some((expr, arg)),
                Store::F32 { .. } => None,
            })
            .collect();
        // A thread that has some columns of a row cannot judge the row.
        let judged = if program.column_range { &[][..] } else { &refined[..] };
        // Values whose squares are summed: arguments of norms, then rows to be refined.
        let squared: Vec<ExprId> =
            norms.iter().map(|&(_, x, _)| x).chain(judged.iter().map(|&(e, _)| e)).collect();
        let zero = splat(b, 0.0);
        let sums: Vec<[Variable; 2]> = squared
            .iter()
            .map(|_| {
                [0, 1].map(|_| {
                    let sum = b.declare_var(types::F32X4);
                    b.def_var(sum, zero);
                    sum
                })
            })
            .collect();
        let chunk = self.frame.chunk();
        let range = if program.column_range {
            (self.frame.c0, self.frame.c1)
        } else {
            (int(b, 0), int(b, program.width))
        };
        for_range(b, range, chunk as i64, |b, column| {
            let mut values = Chunk { row: self, column, memo: HashMap::new() };
            for (&x, sums) in squared.iter().zip(&sums) {
                for vector in 0..chunk / LANES {
                    let x = values.value(b, x, vector);
                    let sum = b.use_var(sums[vector % 2]);
                    let sum = b.ins().fma(x, x, sum);
                    b.def_var(sums[vector % 2], sum);
                }
            }
            for store in &stores {
                values.store(b, *store, chunk);
            }
        });
        for (&(id, _, eps), sums) in norms.iter().zip(&sums) {
            let scale = self.norm_scale(b, sums, eps);
            self.norms.insert(id, scale);
        }
        for (&(expr, arg), sums) in judged.iter().zip(&sums[norms.len()..]) {
            let sum = total(b, sums);
            self.refine(b, expr, arg, sum);
        }
        if program.column_range {
            refined.iter().for_each(|&(_, arg)| self.refine_nothing(b, arg));
        }
    }

    /// Address of the refinements of this row.
    fn refinements(&self, b: &mut FunctionBuilder<'_>, arg: ArgId) -> Value {
        let width = self.program().width;
        let records = int(b, width / BLOCK * RECORD_ROW_BYTES);
        let records = b.ins().ishl(records, self.frame.log2);
        let start = b.ins().iadd(self.bases[arg], records);
        indexed(b, start, self.panel_row, refinement_bytes(width))
    }

    /// Adds a second record for each block that is coarse beside the row, whose squares sum up
    /// to `sum`.
    fn refine(&self, b: &mut FunctionBuilder<'_>, expr: ExprId, arg: ArgId, sum: Value) {
        let width = self.program().width;
        let factor = b.ins().f32const(refinement_limit(width));
        let limit = b.ins().fmul(sum, factor);
        let header = self.refinements(b, arg);
        let entry = b.declare_var(types::I64);
        let first = offset(b, header, REFINEMENT_BYTES);
        b.def_var(entry, first);
        let range = (int(b, 0), int(b, width));
        for_range(b, range, BLOCK as i64, |b, column| {
            let mut values = Chunk { row: self, column, memo: HashMap::new() };
            let d = values.record(b, arg).d;
            let d = b.ins().load(types::F32, memory(), d, 0);
            let square = b.ins().fmul(d, d);
            let coarse = b.ins().fcmp(FloatCC::GreaterThan, square, limit);
            let (inner, next) = (b.create_block(), b.create_block());
            b.ins().brif(coarse, inner, &[], next, &[]);
            b.switch_to_block(inner);
            let x = values.block(b, expr);
            let rest = quantise::rest(b, &x);
            let record = b.use_var(entry);
            let out = quantise::single_row(b, record);
            quantise::store(b, &rest, &out);
            let block = b.ins().ushr_imm_s(column, 5);
            let block = b.ins().ireduce(types::I32, block);
            let at = i32::try_from(REFINEMENT_BLOCK_AT).expect("an entry is small");
            b.ins().store(memory(), block, record, at);
            let following = offset(b, record, REFINEMENT_BYTES);
            b.def_var(entry, following);
            b.ins().jump(next, &[]);
            b.switch_to_block(next);
        });
        let end = b.use_var(entry);
        let bytes = b.ins().isub(end, first);
        let shift = i64::from(REFINEMENT_BYTES.trailing_zeros());
        let count = b.ins().ushr_imm_s(bytes, shift);
        let count = b.ins().ireduce(types::I32, count);
        b.ins().store(memory(), count, header, 0);
    }

    /// Sets the row's count of refinements to 0, on the thread that has its first columns.
    fn refine_nothing(&self, b: &mut FunctionBuilder<'_>, arg: ArgId) {
        let Frame { c0, c1, .. } = *self.frame;
        let starts = b.ins().icmp_imm_s(IntCC::Equal, c0, 0);
        let some = b.ins().icmp_imm_s(IntCC::NotEqual, c1, 0);
        let mine = b.ins().band(starts, some);
        let (inner, next) = (b.create_block(), b.create_block());
        b.ins().brif(mine, inner, &[], next, &[]);
        b.switch_to_block(inner);
        let header = self.refinements(b, arg);
        let zero = b.ins().iconst(types::I32, 0);
        b.ins().store(memory(), zero, header, 0);
        b.ins().jump(next, &[]);
        b.switch_to_block(next);
    }

    fn norm_scale(&self, b: &mut FunctionBuilder<'_>, sums: &[Variable; 2], eps: f32) -> Value {
        let sum = total(b, sums);
        let width = b.ins().f32const(self.program().width as f32);
        let mean = b.ins().fdiv(sum, width);
        let eps = b.ins().f32const(eps);
        let shifted = b.ins().fadd(mean, eps);
        let root = b.ins().sqrt(shifted);
        let one = b.ins().f32const(1.0);
        let scale = b.ins().fdiv(one, root);
        b.ins().splat(types::F32X4, scale)
    }

    /// Rotates the floats just stored.
    fn rotate(&self, b: &mut FunctionBuilder<'_>, rotate: &Rotate) {
        let base = self.bases[rotate.arg];
        let table = self.bases[rotate.table];
        let half_bytes = rotate.dims / 2 * 4;
        let range = (int(b, 0), int(b, half_bytes));
        let step = (LANES * 4) as i64;
        for_range(b, range, step, |b, i| {
            let entry = b.ins().iadd(table, i);
            let cos = load(b, entry, 0);
            let sin_entry = offset(b, entry, half_bytes);
            let sin = load(b, sin_entry, 0);
            match rotate.style {
                RopeStyle::Neox => {
                    let low = b.ins().iadd(base, i);
                    let high = offset(b, low, half_bytes);
                    let (x, y) = (load(b, low, 0), load(b, high, 0));
                    let (x, y) = turn(b, (x, y), cos, sin);
                    b.ins().store(memory(), x, low, 0);
                    b.ins().store(memory(), y, high, 0);
                }
                RopeStyle::Norm => {
                    let twice = b.ins().iadd(i, i);
                    let start = b.ins().iadd(base, twice);
                    let (first, second) = (load(b, start, 0), load(b, start, 16));
                    let x = shuffle(b, first, second, [0, 2, 4, 6]);
                    let y = shuffle(b, first, second, [1, 3, 5, 7]);
                    let (x, y) = turn(b, (x, y), cos, sin);
                    let first = shuffle(b, x, y, [0, 4, 1, 5]);
                    let second = shuffle(b, x, y, [2, 6, 3, 7]);
                    b.ins().store(memory(), first, start, 0);
                    b.ins().store(memory(), second, start, 16);
                }
            }
        });
    }
}

/// The values of one chunk of elements.
struct Chunk<'a> {
    row: &'a MiniRow<'a>,
    /// First element.
    column: Value,
    memo: HashMap<(ExprId, usize), Value>,
}

impl Chunk<'_> {
    /// Vector `vector` of the chunk of expression `expr`.
    fn value(&mut self, b: &mut FunctionBuilder<'_>, expr: ExprId, vector: usize) -> Value {
        if let Some(value) = self.memo.get(&(expr, vector)) {
            return *value;
        }
        let value = match self.row.program().exprs[expr] {
            Expr::Load(arg) | Expr::Vector(arg) => {
                let address = self.address(b, arg);
                load(b, address, i32::try_from(vector * LANES * 4).expect("a chunk is small"))
            }
            Expr::Add(x, y) => {
                let (x, y) = (self.value(b, x, vector), self.value(b, y, vector));
                b.ins().fadd(x, y)
            }
            Expr::Mul(x, y) => {
                let (x, y) = (self.value(b, x, vector), self.value(b, y, vector));
                b.ins().fmul(x, y)
            }
            Expr::Scale(x, factor) => {
                let x = self.value(b, x, vector);
                let factor = splat(b, factor);
                b.ins().fmul(x, factor)
            }
            Expr::Unary(f, x) => {
                let x = self.value(b, x, vector);
                function(b, f, x)
            }
            Expr::Gated(f, gate, up) => {
                let gate = self.value(b, gate, vector);
                let active = function(b, f, gate);
                let up = self.value(b, up, vector);
                b.ins().fmul(active, up)
            }
            Expr::SoftCap(x, cap) => {
                let x = self.value(b, x, vector);
                softcap(b, x, cap)
            }
            Expr::RmsNorm { x, weight, .. } => {
                let scale = self.row.norms[&expr];
                let x = self.value(b, x, vector);
                let normal = b.ins().fmul(x, scale);
                let weight = self.value(b, weight, vector);
                b.ins().fmul(normal, weight)
            }
        };
        self.memo.insert((expr, vector), value);
        value
    }

    fn store(&mut self, b: &mut FunctionBuilder<'_>, store: Store, chunk: usize) {
        match store {
            Store::F32 { expr, arg } => {
                let address = self.address(b, arg);
                for vector in 0..chunk / LANES {
                    let value = self.value(b, expr, vector);
                    let at = i32::try_from(vector * LANES * 4).expect("a chunk is small");
                    b.ins().store(memory(), value, address, at);
                }
            }
            Store::Q8 { expr, arg } => {
                let x = self.block(b, expr);
                let out = self.record(b, arg);
                quantise::store(b, &x, &out);
            }
        }
    }

    /// The 32 elements of a chunk that is a block.
    fn block(&mut self, b: &mut FunctionBuilder<'_>, expr: ExprId) -> [Value; 8] {
        std::array::from_fn(|vector| self.value(b, expr, vector))
    }

    /// This row's part of the chunk's block record.
    fn record(&self, b: &mut FunctionBuilder<'_>, arg: ArgId) -> RecordRow {
        let block = b.ins().ushr_imm_s(self.column, 5);
        let record_bytes = int(b, RECORD_ROW_BYTES);
        let log2 = self.row.frame.log2;
        let record_bytes = b.ins().ishl(record_bytes, log2);
        let at = b.ins().imul(block, record_bytes);
        let record = b.ins().iadd(self.row.bases[arg], at);
        quantise::record_row(b, record, self.row.panel_row, log2)
    }

    fn address(&self, b: &mut FunctionBuilder<'_>, arg: ArgId) -> Value {
        indexed(b, self.row.bases[arg], self.column, 4)
    }
}

/// The sum of two vector accumulators.
fn total(b: &mut FunctionBuilder<'_>, sums: &[Variable; 2]) -> Value {
    let [even, odd] = sums.map(|sum| b.use_var(sum));
    let sum = b.ins().fadd(even, odd);
    sum_lanes(b, sum)
}

fn load(b: &mut FunctionBuilder<'_>, address: Value, at: i32) -> Value {
    b.ins().load(types::F32X4, memory(), address, at)
}

/// `(x cos - y sin, x sin + y cos)`
fn turn(
    b: &mut FunctionBuilder<'_>,
    (x, y): (Value, Value),
    cos: Value,
    sin: Value,
) -> (Value, Value) {
    let x_cos = b.ins().fmul(x, cos);
    let y_sin = b.ins().fmul(y, sin);
    let x_sin = b.ins().fmul(x, sin);
    let y_cos = b.ins().fmul(y, cos);
    (b.ins().fsub(x_cos, y_sin), b.ins().fadd(x_sin, y_cos))
}

/// Four floats picked from the eight of `x` and `y`.
fn shuffle(b: &mut FunctionBuilder<'_>, x: Value, y: Value, lanes: [u8; 4]) -> Value {
    use super::build::cast;
    let mask: Vec<u8> = lanes.iter().flat_map(|lane| (0..4).map(move |i| lane * 4 + i)).collect();
    let mask = b.func.dfg.immediates.push(mask.into());
    let (x, y) = (cast(b, types::I8X16, x), cast(b, types::I8X16, y));
    let picked = b.ins().shuffle(x, y, mask);
    cast(b, types::F32X4, picked)
}
