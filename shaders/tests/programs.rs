//! Every kind of row program compiles, alone and before a product.
use onebit_ir::rows::{Arg, Expr, Rotate, RowProgram, Store};
use onebit_ir::{Function, RopeStyle};
use onebit_shaders::rows::{Place, RowsKind, emit, kernel};
use onebit_shaders::{Source, compile};

fn rows(row_stride: usize, head_stride: usize) -> Arg {
    Arg::Rows { row_stride, head_stride, gathered: false }
}

fn sandwich(width: usize) -> RowProgram {
    RowProgram {
        heads: 1,
        width,
        args: vec![
            rows(width, width),
            Arg::Vector { head_stride: 0 },
            rows(width + 32, width),
            Arg::Vector { head_stride: 0 },
            Arg::Q8 { width },
            rows(width, width),
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

fn rope(heads: usize, width: usize, style: RopeStyle) -> RowProgram {
    RowProgram {
        heads,
        width,
        args: vec![
            rows(heads * width, width),
            Arg::Vector { head_stride: 0 },
            rows(heads * width, width),
            rows(width, 0),
        ],
        exprs: vec![Expr::Load(0), Expr::Vector(1), Expr::RmsNorm { x: 0, weight: 1, eps: 1e-6 }],
        stores: vec![Store::F32 { expr: 2, arg: 2 }],
        rotate: Some(Rotate { arg: 2, table: 3, dims: width, style }),
        column_range: false,
    }
}

#[test]
fn all_compile() {
    for width in [32, 576, 640, 2560, 8192] {
        for m in [1, 4] {
            for workgroup in [64, 128, 256] {
                let mut source = Source::default();
                emit(
                    &mut source,
                    0,
                    &sandwich(width),
                    Place::Prologue { rows: m, kind: RowsKind::All, workgroup },
                );
                let kernel = source.finish(format!("p-{width}-{m}"), workgroup);
                if width == 576 && workgroup == 256 {
                    {}
                }
                compile(&kernel).unwrap_or_else(|e| panic!("{e}\n{}", kernel.wgsl));
            }
        }
        let k = kernel(&sandwich(width), RowsKind::Outputs, None).unwrap();
        compile(&k).unwrap_or_else(|e| panic!("{e}\n{}", k.wgsl));
    }
    for style in RopeStyle::ALL {
        for (heads, width) in [(9, 64), (32, 128), (4, 256), (5, 80), (3, 40)] {
            let k = kernel(&rope(heads, width, style), RowsKind::All, None).unwrap();
            if width == 80 {
                {}
            }
            compile(&k).unwrap_or_else(|e| panic!("{e}\n{}", k.wgsl));
        }
    }
    let _ = Function::ALL;
}
