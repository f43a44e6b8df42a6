//! Which row programs the GPU takes.

use onebit_ir::rows::{Arg, ArgId, Expr, RowProgram, Store};

/// Why a row program has no WGSL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("mini-rows of {width} elements; the GPU wants a multiple of 4")]
    Width { width: usize },
    #[error("quantised rows of {heads} x {width} elements; the GPU wants one multiple of 32")]
    QuantisedWidth { heads: usize, width: usize },
    #[error("{count} quantised results; the GPU leaves one at most")]
    QuantisedCount { count: usize },
    #[error("argument {arg} has strides that are no multiples of 4 floats")]
    Stride { arg: ArgId },
    #[error("the rotation covers {dims} of {width} elements; the GPU wants a multiple of 8 within")]
    Rotation { dims: usize, width: usize },
    #[error("a rotation of gathered rows")]
    GatheredRotation,
    #[error("a program over a range of columns runs inside a gated product only")]
    ColumnRange,
    #[error("a program without results")]
    NoResult,
}

/// Whether [`super::emit`] takes `program`.
///
/// # Errors
/// What it does not take.
pub fn check(program: &RowProgram) -> Result<(), Unfit> {
    let &RowProgram { heads, width, .. } = program;
    if !width.is_multiple_of(4) || width == 0 {
        return Err(Unfit::Width { width });
    }
    if program.column_range {
        return Err(Unfit::ColumnRange);
    }
    if program.stores.is_empty() {
        return Err(Unfit::NoResult);
    }
    let count = program.stores.iter().filter(|s| matches!(s, Store::Q8 { .. })).count();
    if count > 1 {
        return Err(Unfit::QuantisedCount { count });
    }
    if count == 1 && (heads != 1 || !width.is_multiple_of(32)) {
        return Err(Unfit::QuantisedWidth { heads, width });
    }
    for arg in floats(program) {
        if let Arg::Rows { row_stride, head_stride, .. } = program.args[arg] {
            if !row_stride.is_multiple_of(4) || !head_stride.is_multiple_of(4) {
                return Err(Unfit::Stride { arg });
            }
        }
    }
    check_rotation(program)
}

fn check_rotation(program: &RowProgram) -> Result<(), Unfit> {
    let Some(rotate) = &program.rotate else {
        return Ok(());
    };
    let gathered = |arg: &Arg| matches!(arg, Arg::Rows { gathered: true, .. });
    if program.args.iter().any(gathered) {
        return Err(Unfit::GatheredRotation);
    }
    let (dims, width) = (rotate.dims, program.width);
    if !dims.is_multiple_of(8) || dims > width || dims == 0 {
        return Err(Unfit::Rotation { dims, width });
    }
    Ok(())
}

/// Arguments read or written as rows of floats; the rotation's table is not read.
fn floats(program: &RowProgram) -> impl Iterator<Item = ArgId> {
    let loads = program.exprs.iter().filter_map(|expr| match expr {
        Expr::Load(arg) => Some(*arg),
        _ => None,
    });
    let stores = program.stores.iter().filter_map(|store| match store {
        Store::F32 { arg, .. } => Some(*arg),
        Store::Q8 { .. } => None,
    });
    loads.chain(stores)
}
