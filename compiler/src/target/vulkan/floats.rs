//! A schedule whose products read floats: for kernels that multiply in half precision.

use onebit_ir::rows::{Arg, Store};

use crate::schedule::steps::{Contents, RowStep, Schedule, Step};

/// Makes every quantised buffer of `schedule` one of floats, and its loops store floats.
pub fn unquantise(schedule: &mut Schedule) {
    for buffer in &mut schedule.buffers {
        if let Contents::Q8 { width } = buffer.contents {
            buffer.contents = Contents::F32 { width };
        }
    }
    for scheduled in &mut schedule.steps {
        if let Step::Rows(step) | Step::Gated { epilogue: step, .. } = &mut scheduled.step {
            unquantise_loop(step);
        }
    }
}

fn unquantise_loop(step: &mut RowStep) {
    for store in &mut step.program.stores {
        if let Store::Q8 { expr, arg } = *store {
            *store = Store::F32 { expr, arg };
        }
    }
    let width = step.program.width;
    for arg in &mut step.program.args {
        if let Arg::Q8 { width: row_stride } = *arg {
            *arg = Arg::Rows { row_stride, head_stride: width, gathered: false };
        }
    }
}
