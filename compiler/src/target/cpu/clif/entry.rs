//! The step program of an entry: straight-line code with every shape and offset folded in.
//!
//! All threads run it; the program computes this thread's share of rows and columns, calls row
//! loops and microkernels, and waits where [`barriers`](crate::target::cpu::barriers) says so.

use std::collections::HashMap;
use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, SigRef, Signature, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use onebit_plan::abi::{KernelId, StepContext, TRACE_START};

use super::build::{Code, Machine, for_range, int, mark, memory, offset};
use crate::error::CompileError;
use crate::schedule::repack::WeightStore;
use crate::schedule::steps::{
    Binding, Product, RowStep, Rows, Schedule, Scope, Sharing, Step, View,
};
use crate::target::cpu::arena::Arena;
use crate::target::cpu::barriers::{GATED_UNIT, PRODUCT_UNIT};

/// Everything the step program is made from.
pub struct EntryInput<'a> {
    pub schedule: &'a Schedule,
    pub arena: &'a Arena,
    pub barriers: &'a [bool],
    pub store: &'a WeightStore<'a>,
    /// Code-segment offset of the row function of a step's program, by step.
    pub row_functions: &'a HashMap<usize, u64>,
    /// Code-segment offset of each attention shape.
    pub shapes: &'a [u64],
    /// Code-segment offset and count of the array products of each step.
    pub array_products: &'a HashMap<usize, (u64, usize)>,
    /// Code-segment offset of each rope table's frequencies.
    pub tables: &'a [u64],
    pub tracing: Tracing,
}

/// Whether an entry tells the runtime of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    Off,
    /// The team waits after every step, and calls [`KernelId::Trace`].
    EachStep,
}

/// Compiles the entry. Its only parameter is the address of the [`StepContext`].
pub fn entry_function(machine: &mut Machine, input: &EntryInput<'_>) -> Result<Code, CompileError> {
    let mut signature = Signature::new(machine.call_conv());
    signature.params.push(AbiParam::new(types::I64));
    let name = input.schedule.name;
    machine.compile(name, signature, |b, params| {
        let mut program = Program::new(b, input, params[0]);
        program.trace(b, TRACE_START);
        for (index, scheduled) in input.schedule.steps.iter().enumerate() {
            mark(b, u32::try_from(index).expect("steps fit u32"));
            program.step(b, index, &scheduled.step);
            program.trace(b, u32::try_from(index).expect("steps fit u32"));
        }
    })
}

/// Rows up to which a product is bound by memory, where long runs of tiles serve it best.
const FEW_ROWS: usize = 4;

/// Columns of a gated product that are made and used before the next are made: the two products
/// of so many columns and 32 rows are still in the second-level cache when the loop reads them.
const GATED_COLUMNS: usize = 8 * GATED_UNIT;

/// Microkernel parameter lists: `p` pointer, `i` 32-bit integer, `f` float.
fn kernel_parameters(kernel: KernelId) -> &'static str {
    match kernel {
        KernelId::Barrier => "p",
        KernelId::RopeTable => "pppiiif",
        KernelId::KvWrite => "ppppii",
        KernelId::Attention => "pppp",
        KernelId::Matmul(_) => "pppiiiii",
        KernelId::Gather(_) => "pppiiii",
        KernelId::Array => "ppippi",
        KernelId::Trace => "pi",
    }
}

struct Program<'a> {
    input: &'a EntryInput<'a>,
    context: Value,
    code: Value,
    weights: Value,
    arena: Value,
    private: Value,
    logits: Value,
    outputs: Value,
    thread: Value,
    threads: Value,
    rows: Counts,
    output_rows: Counts,
    /// This thread's columns of products, by (columns, unit).
    columns: HashMap<(usize, usize), (Value, Value)>,
    /// The rest of the program runs for output rows only.
    at_outputs: bool,
}

/// A row count and what follows from it.
#[derive(Clone, Copy)]
struct Counts {
    count: Value,
    /// This thread's share.
    first: Value,
    end: Value,
    /// log2 of the rows of an activation panel.
    log2: Value,
}

impl<'a> Program<'a> {
    fn new(b: &mut FunctionBuilder<'_>, input: &'a EntryInput<'a>, context: Value) -> Self {
        let field = |b: &mut FunctionBuilder<'_>, at: usize, ty: Type| {
            let at = i32::try_from(at).expect("the context is small");
            match ty {
                types::I32 => b.ins().uload32(memory(), context, at),
                _ => b.ins().load(types::I64, memory(), context, at),
            }
        };
        let pointer = |b: &mut FunctionBuilder<'_>, at| field(b, at, types::I64);
        let count = |b: &mut FunctionBuilder<'_>, at| field(b, at, types::I32);
        let thread = count(b, offset_of!(StepContext, thread));
        let threads = count(b, offset_of!(StepContext, threads));
        let rows = count(b, offset_of!(StepContext, rows));
        let output_rows = count(b, offset_of!(StepContext, output_rows));
        Self {
            input,
            context,
            code: pointer(b, offset_of!(StepContext, code)),
            weights: pointer(b, offset_of!(StepContext, weights)),
            arena: pointer(b, offset_of!(StepContext, arena)),
            private: pointer(b, offset_of!(StepContext, private)),
            logits: pointer(b, offset_of!(StepContext, logits)),
            outputs: pointer(b, offset_of!(StepContext, outputs)),
            thread,
            threads,
            rows: Counts::new(b, rows, thread, threads),
            output_rows: Counts::new(b, output_rows, thread, threads),
            columns: HashMap::new(),
            at_outputs: false,
        }
    }

    fn step(&mut self, b: &mut FunctionBuilder<'_>, index: usize, step: &Step) {
        if step.rows() == Rows::Outputs && !self.at_outputs {
            self.return_without_outputs(b);
        }
        // A traced entry has waited after the step before.
        if self.input.barriers[index] && self.input.tracing == Tracing::Off {
            self.call(b, KernelId::Barrier, &[self.context]);
        }
        match step {
            Step::Gather { weight, out, sharing } => {
                let matrix = self.input.store.matrix_at(*weight);
                let (first, end) = self.share(b, Rows::All, *sharing);
                let ids = self.field(b, offset_of!(StepContext, tokens));
                let weights = offset(b, self.weights, narrow(matrix.offset));
                let target = self.address(b, out);
                let (k, stride) = (int(b, matrix.columns), int(b, out.stride));
                let args = [weights, ids, target, k, first, end, stride];
                self.call(b, KernelId::Gather(matrix.class), &args);
            }
            Step::RopeTable { table, out, sharing } => self.rope_table(b, *table, out, *sharing),
            Step::Rows(rows) => {
                let (first, end) = self.share(b, rows.rows, rows.sharing);
                let zero = int(b, 0);
                self.row_loop(b, index, rows, (first, end), (zero, zero));
            }
            Step::Matmul { product, rows } => {
                let matrix = self.input.store.matrix_at(product.weight);
                let range = self.column_range(b, matrix.rows, PRODUCT_UNIT);
                self.product(b, product, *rows, range);
            }
            Step::Gated { gate, up, epilogue } => {
                let matrix = self.input.store.matrix_at(gate.weight);
                let (first, end) = self.column_range(b, matrix.rows, GATED_UNIT);
                if self.input.schedule.max_rows <= FEW_ROWS {
                    self.gated(b, index, (gate, up), epilogue, (first, end));
                    return;
                }
                for_range(b, (first, end), GATED_COLUMNS as i64, |b, start| {
                    let size = int(b, GATED_COLUMNS);
                    let stop = b.ins().iadd(start, size);
                    let stop = b.ins().umin(stop, end);
                    self.gated(b, index, (gate, up), epilogue, (start, stop));
                });
            }
            Step::Array { activation, out, .. } | Step::ArrayGate { activation, out, .. } => {
                let rows = step.rows();
                let (products, count) = self.input.array_products[&index];
                let products = offset(b, self.code, narrow(products));
                let count = int(b, count);
                let x = View { buffer: *activation, column: 0, stride: 0 };
                let (x, out) = (self.address(b, &x), self.address(b, out));
                let args = [self.context, products, count, x, out, self.counts(rows).count];
                self.call(b, KernelId::Array, &args);
            }
            Step::KvWrite { shape, k, v } => {
                let shape = offset(b, self.code, narrow(self.input.shapes[*shape]));
                let (k, v) = (self.address(b, k), self.address(b, v));
                let args = [self.context, shape, k, v, self.rows.first, self.rows.end];
                self.call(b, KernelId::KvWrite, &args);
            }
            Step::Attention { shape, q, out } => {
                let shape = offset(b, self.code, narrow(self.input.shapes[*shape]));
                let (q, out) = (self.address(b, q), self.address(b, out));
                self.call(b, KernelId::Attention, &[self.context, shape, q, out]);
            }
        }
    }

    /// Tells the runtime, where it wants to know, that the team has done a step.
    fn trace(&mut self, b: &mut FunctionBuilder<'_>, step: u32) {
        match self.input.tracing {
            Tracing::Off => {}
            Tracing::EachStep => {
                self.call(b, KernelId::Barrier, &[self.context]);
                let step = b.ins().iconst(types::I64, i64::from(step));
                self.call(b, KernelId::Trace, &[self.context, step]);
            }
        }
    }

    /// Both products and the loop over them, for some columns.
    fn gated(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        index: usize,
        (gate, up): (&Product, &Product),
        epilogue: &RowStep,
        columns: (Value, Value),
    ) {
        self.product(b, gate, epilogue.rows, columns);
        self.product(b, up, epilogue.rows, columns);
        let zero = int(b, 0);
        let count = self.counts(epilogue.rows).count;
        self.row_loop(b, index, epilogue, (zero, count), columns);
    }

    /// Steps for output rows come last: a step that wants no logits ends before them.
    fn return_without_outputs(&mut self, b: &mut FunctionBuilder<'_>) {
        self.at_outputs = true;
        let (stop, go_on) = (b.create_block(), b.create_block());
        let none = b.ins().icmp_imm_s(IntCC::Equal, self.output_rows.count, 0);
        b.ins().brif(none, stop, &[], go_on, &[]);
        b.switch_to_block(stop);
        b.ins().return_(&[]);
        b.switch_to_block(go_on);
    }

    fn rope_table(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        table: usize,
        out: &View,
        sharing: Sharing,
    ) {
        let (first, end) = self.share(b, Rows::All, sharing);
        let positions = self.field(b, offset_of!(StepContext, positions));
        let source = &self.input.schedule.tables[table];
        let frequencies = offset(b, self.code, narrow(self.input.tables[table]));
        let target = self.address(b, out);
        let half = int(b, source.frequencies.len());
        let magnitude = b.ins().f32const(source.magnitude);
        let args = [positions, frequencies, target, half, first, end, magnitude];
        self.call(b, KernelId::RopeTable, &args);
    }

    fn product(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        product: &Product,
        rows: Rows,
        (first, end): (Value, Value),
    ) {
        let matrix = self.input.store.matrix_at(product.weight);
        let weights = offset(b, self.weights, narrow(matrix.offset));
        let activation = View { buffer: product.activation, column: 0, stride: 0 };
        let activation = self.address(b, &activation);
        let out = self.address(b, &product.out);
        let (k, stride) = (int(b, matrix.columns), int(b, product.out.stride));
        let count = self.counts(rows).count;
        let args = [weights, activation, out, k, first, end, count, stride];
        self.call(b, KernelId::Matmul(matrix.class), &args);
    }

    fn row_loop(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        index: usize,
        step: &RowStep,
        (first, end): (Value, Value),
        (c0, c1): (Value, Value),
    ) {
        let mut args: Vec<Value> = Vec::with_capacity(step.bindings.len() + 6);
        for binding in &step.bindings {
            args.push(match binding {
                Binding::Read(view) | Binding::Write(view) => self.address(b, view),
                Binding::Vector(id) => {
                    let vector = self.input.store.vector_at(*id);
                    offset(b, self.weights, narrow(vector.offset))
                }
            });
        }
        args.extend([first, end, c0, c1, self.outputs, self.counts(step.rows).log2]);
        let address = offset(b, self.code, narrow(self.input.row_functions[&index]));
        let mut signature = Signature::new(b.func.signature.call_conv);
        signature.params = vec![AbiParam::new(types::I64); args.len()];
        let signature = b.import_signature(signature);
        b.ins().call_indirect(signature, address, &args);
    }

    /// Calls a microkernel; integer arguments are given as i64 and narrowed here.
    fn call(&mut self, b: &mut FunctionBuilder<'_>, kernel: KernelId, args: &[Value]) {
        let table = self.field(b, offset_of!(StepContext, kernels));
        let slot = i32::try_from(kernel.slot() * 8).expect("the kernel table is small");
        let address = b.ins().load(types::I64, memory(), table, slot);
        let letters = kernel_parameters(kernel);
        let signature = self.signature(b, letters);
        let args: Vec<Value> = letters
            .chars()
            .zip(args)
            .map(
                |(letter, &arg)| if letter == 'i' { b.ins().ireduce(types::I32, arg) } else { arg },
            )
            .collect();
        b.ins().call_indirect(signature, address, &args);
    }

    fn signature(&self, b: &mut FunctionBuilder<'_>, letters: &str) -> SigRef {
        let mut signature = Signature::new(b.func.signature.call_conv);
        signature.params = letters
            .chars()
            .map(|letter| match letter {
                'i' => AbiParam::new(types::I32),
                'f' => AbiParam::new(types::F32),
                _ => AbiParam::new(types::I64),
            })
            .collect();
        b.import_signature(signature)
    }

    fn field(&self, b: &mut FunctionBuilder<'_>, at: usize) -> Value {
        let at = i32::try_from(at).expect("the context is small");
        b.ins().load(types::I64, memory(), self.context, at)
    }

    /// This thread's columns of a product: `columns` in units, shared evenly.
    fn column_range(
        &mut self,
        b: &mut FunctionBuilder<'_>,
        columns: usize,
        unit: usize,
    ) -> (Value, Value) {
        if let Some(range) = self.columns.get(&(columns, unit)) {
            return *range;
        }
        let units = int(b, columns.div_ceil(unit));
        let (first, end) = split(b, units, self.thread, self.threads);
        let size = int(b, unit);
        let first = b.ins().imul(first, size);
        let end = b.ins().imul(end, size);
        let limit = int(b, columns);
        let range = (first, b.ins().umin(end, limit));
        self.columns.insert((columns, unit), range);
        range
    }

    fn share(&self, b: &mut FunctionBuilder<'_>, rows: Rows, sharing: Sharing) -> (Value, Value) {
        let counts = self.counts(rows);
        match sharing {
            Sharing::Split => (counts.first, counts.end),
            Sharing::Repeat => (int(b, 0), counts.count),
        }
    }

    fn counts(&self, rows: Rows) -> Counts {
        match rows {
            Rows::All => self.rows,
            Rows::Outputs => self.output_rows,
        }
    }

    fn address(&self, b: &mut FunctionBuilder<'_>, view: &View) -> Value {
        let buffer = &self.input.schedule.buffers[view.buffer.0];
        let base = match buffer.scope {
            Scope::Shared => self.arena,
            Scope::Private => self.private,
            Scope::Logits => self.logits,
        };
        offset(b, base, self.input.arena.offset(view.buffer) + view.column * 4)
    }
}

impl Counts {
    fn new(b: &mut FunctionBuilder<'_>, count: Value, thread: Value, threads: Value) -> Self {
        let (first, end) = split(b, count, thread, threads);
        // Panels have 1, 2, 4 or 8 rows: see `onebit_plan::abi::panel_rows`.
        let mut log2 = int(b, 0);
        for (rows, value) in [(1, 1), (2, 2), (4, 3)] {
            let more = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, count, rows);
            let value = int(b, value);
            log2 = b.ins().select(more, value, log2);
        }
        Self { count, first, end, log2 }
    }
}

/// The part of `0..count` that belongs to `thread`.
fn split(
    b: &mut FunctionBuilder<'_>,
    count: Value,
    thread: Value,
    threads: Value,
) -> (Value, Value) {
    let before = b.ins().imul(count, thread);
    let first = b.ins().udiv(before, threads);
    let through = b.ins().iadd(before, count);
    (first, b.ins().udiv(through, threads))
}

fn narrow(offset: u64) -> usize {
    usize::try_from(offset).expect("the compiler runs on 64 bits")
}
