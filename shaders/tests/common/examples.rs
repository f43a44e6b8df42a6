//! Row programs as schedules have them, and a kernel of every builder of row-wise work,
//! attention and picks.
#![allow(dead_code, reason = "each test binary uses a part")]

use onebit_ir::rows::{Arg, Expr, Rotate, RowProgram, Store};
use onebit_ir::{Function, RopeStyle};
use onebit_plan::abi::CacheForm;
use onebit_shaders::attention::{self, KeyValue, MergeOut, Operand, Shape};
use onebit_shaders::rows::{self, Place, RowsKind};
use onebit_shaders::{Kernel, Source, pick};

pub fn rows_arg(row_stride: usize, head_stride: usize, gathered: bool) -> Arg {
    Arg::Rows { row_stride, head_stride, gathered }
}

/// `norm(x)`, quantised.
pub fn norm(width: usize) -> RowProgram {
    RowProgram {
        heads: 1,
        width,
        args: vec![
            rows_arg(width, width, false),
            Arg::Vector { head_stride: 0 },
            Arg::Q8 { width },
        ],
        exprs: vec![Expr::Load(0), Expr::Vector(1), Expr::RmsNorm { x: 0, weight: 1, eps: 1e-5 }],
        stores: vec![Store::Q8 { expr: 2, arg: 2 }],
        rotate: None,
        column_range: false,
    }
}

/// Quantises floats as they are.
pub fn quantise(width: usize) -> RowProgram {
    RowProgram {
        heads: 1,
        width,
        args: vec![rows_arg(width, width, false), Arg::Q8 { width }],
        exprs: vec![Expr::Load(0)],
        stores: vec![Store::Q8 { expr: 0, arg: 1 }],
        rotate: None,
        column_range: false,
    }
}

/// Gemma's `r = x + norm(y)` and `norm(r)`, the latter quantised; y with gaps between rows.
pub fn sandwich(width: usize, gathered: bool) -> RowProgram {
    RowProgram {
        heads: 1,
        width,
        args: vec![
            rows_arg(width + 32, width, gathered),
            Arg::Vector { head_stride: 0 },
            rows_arg(width, width, gathered),
            Arg::Vector { head_stride: 0 },
            Arg::Q8 { width },
            rows_arg(width, width, false),
        ],
        exprs: vec![
            Expr::Load(0),
            Expr::Vector(1),
            Expr::RmsNorm { x: 0, weight: 1, eps: 1e-6 },
            Expr::Load(2),
            Expr::Add(2, 3),
            Expr::Vector(3),
            Expr::RmsNorm { x: 4, weight: 5, eps: 1e-5 },
        ],
        stores: vec![Store::Q8 { expr: 6, arg: 4 }, Store::F32 { expr: 4, arg: 5 }],
        rotate: None,
        column_range: false,
    }
}

/// Every element-wise expression there is, as floats.
pub fn elementwise(function: Function, width: usize) -> RowProgram {
    RowProgram {
        heads: 1,
        width,
        args: vec![
            rows_arg(width, width, false),
            rows_arg(width, width, false),
            Arg::Vector { head_stride: 0 },
            rows_arg(width, width, false),
        ],
        exprs: vec![
            Expr::Load(0),
            Expr::Load(1),
            Expr::Gated(function, 0, 1),
            Expr::Unary(function, 1),
            Expr::Scale(3, -0.75),
            Expr::Add(2, 4),
            Expr::SoftCap(5, 3.0),
            Expr::Vector(2),
            Expr::Mul(6, 7),
            Expr::Add(8, 0),
        ],
        stores: vec![Store::F32 { expr: 9, arg: 3 }],
        rotate: None,
        column_range: false,
    }
}

/// Normalised and rotated heads, as Qwen3 and Gemma have them.
pub fn rope(heads: usize, width: usize, dims: usize, style: RopeStyle) -> RowProgram {
    RowProgram {
        heads,
        width,
        args: vec![
            rows_arg(heads * width + 64, width, false),
            Arg::Vector { head_stride: 0 },
            rows_arg(heads * width, width, false),
            rows_arg(width, 0, false),
        ],
        exprs: vec![Expr::Load(0), Expr::Vector(1), Expr::RmsNorm { x: 0, weight: 1, eps: 1e-6 }],
        stores: vec![Store::F32 { expr: 2, arg: 2 }],
        rotate: Some(Rotate { arg: 2, table: 3, dims, style }),
        column_range: false,
    }
}

/// Heads with a bias, rotated, as Qwen2 has them.
pub fn biased_rope(heads: usize, width: usize, style: RopeStyle) -> RowProgram {
    let mut program = rope(heads, width, width, style);
    program.args[1] = Arg::Vector { head_stride: width };
    program.exprs = vec![Expr::Load(0), Expr::Vector(1), Expr::Add(0, 1)];
    program
}

/// A bias over all heads together.
pub fn bias(width: usize) -> RowProgram {
    RowProgram {
        heads: 1,
        width,
        args: vec![
            rows_arg(width, width, false),
            Arg::Vector { head_stride: 0 },
            rows_arg(width, width, false),
        ],
        exprs: vec![Expr::Load(0), Expr::Vector(1), Expr::Add(0, 1)],
        stores: vec![Store::F32 { expr: 2, arg: 2 }],
        rotate: None,
        column_range: false,
    }
}

/// A program as a prologue, whose records or floats are copied to `Out { index: 0 }`, in 16-byte
/// words, by each workgroup `group.x` in its turn.
pub fn prologue(program: &RowProgram, rows: u32, kind: RowsKind, workgroup: u32) -> Kernel {
    let mut source = Source::default();
    rows::emit(&mut source, 0, program, Place::Prologue { rows, kind, workgroup });
    let width = (program.heads * program.width) as u32;
    let quantised = program.stores.iter().any(|store| matches!(store, Store::Q8 { .. }));
    let words = if quantised { rows * width / 32 * 5 } else { rows * width / 4 };
    let from = if quantised { "x_records[i]" } else { "bitcast<vec4<u32>>(x_floats[i])" };
    copy(&mut source, from, words);
    let exprs = program.exprs.len();
    source
        .finish(format!("prologue-{width}-{exprs}-m{rows}-{}-{workgroup}", kind.name()), workgroup)
}

/// A merge of splits as a prologue, as [`prologue`].
pub fn merge_prologue(shape: &Shape, splits: u32, rows: u32, workgroup: u32) -> Kernel {
    let mut source = Source::default();
    attention::emit_merge(&mut source, shape, splits, rows, workgroup).expect("a merge");
    let width = shape.heads * shape.value_dim;
    copy(&mut source, "x_records[i]", rows * width / 32 * 5);
    source.finish(format!("merge-prologue-{width}-s{splits}-m{rows}-{workgroup}"), workgroup)
}

fn copy(source: &mut Source, from: &str, words: u32) {
    let records = source.write(onebit_plan::gpu::binding::RECORDS);
    let out = source.immediate(onebit_shaders::Immediate::Out { index: 0 });
    source.line(format!(
        "for (var i = lane; i < {words}u; i += WORKGROUP) {{ {records}[{out} + group.x * {words}u + i] = {from}; }}"
    ));
}

/// The shape of attention over `context` positions with scale `1 / sqrt(key_dim)`.
pub fn shape(heads: u32, kv_heads: u32, dim: u32, context: u32) -> Shape {
    Shape {
        heads,
        kv_heads,
        key_dim: dim,
        value_dim: dim,
        context,
        window: 0,
        scale: 1.0 / (dim as f32).sqrt(),
        softcap: 0.0,
        out_stride: heads * dim,
        form: CacheForm::F16,
    }
}

/// A kernel of every builder.
pub fn kernels() -> Vec<Kernel> {
    let mut kernels = vec![
        rows::kernel(&sandwich(640, true), RowsKind::Outputs, None).expect("a program"),
        rows::kernel(&norm(4096), RowsKind::All, None).expect("a program"),
        pick::candidates(151_936),
        pick::winners(151_936),
    ];
    for (width, rows) in [(576, 1), (576, 4), (2048, 1), (4096, 1), (9728, 1)] {
        kernels.push(prologue(&norm(width), rows, RowsKind::All, 256));
        kernels.push(prologue(&sandwich(width, false), rows, RowsKind::All, 256));
    }
    for function in Function::ALL {
        let program = elementwise(function, 2048);
        kernels.push(rows::kernel(&program, RowsKind::All, Some(3)).expect("a program"));
    }
    for style in RopeStyle::ALL {
        let program = rope(9, 64, 64, style);
        kernels.push(rows::kernel(&program, RowsKind::All, None).expect("a program"));
    }
    for (heads, kv_heads, dim) in
        [(9, 3, 64), (16, 8, 128), (32, 8, 128), (28, 4, 128), (4, 1, 256)]
    {
        let halves = shape(heads, kv_heads, dim, 4096);
        kernels.extend(attention_kernels(&halves));
        kernels.extend(merge_kernels(&halves));
        kernels.extend(attention_kernels(&Shape { form: CacheForm::Q8, ..halves }));
    }
    kernels
}

fn attention_kernels(shape: &Shape) -> Vec<Kernel> {
    let program = |program| Operand::Program { program, parts: &[] };
    let (heads, kv_heads) = (shape.heads as usize, shape.kv_heads as usize);
    let dim = shape.key_dim as usize;
    let q_program = rope(heads, dim, dim, RopeStyle::Neox);
    let k_program = rope(kv_heads, dim, dim, RopeStyle::Neox);
    let (q, k) = (program(&q_program), program(&k_program));
    let v = Operand::Floats { stride: (kv_heads * dim) as u32, parts: &[] };
    let fresh = KeyValue::Fresh { k, v };
    vec![
        attention::kernel(shape, 16, q, fresh).expect("attention"),
        attention::kernel(shape, 1, q, KeyValue::Cached).expect("attention"),
        attention::cache_write(shape, k, v).expect("a write"),
    ]
}

fn merge_kernels(shape: &Shape) -> Vec<Kernel> {
    vec![
        attention::merge_kernel(shape, 16, MergeOut::Records).expect("a merge"),
        attention::merge_kernel(shape, 16, MergeOut::Floats).expect("a merge"),
        merge_prologue(shape, 16, 1, 256),
    ]
}
