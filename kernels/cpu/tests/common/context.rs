//! What a kernel of the array is told of its step.

use onebit_plan::abi::StepContext;

/// What a thread of a team is told.
pub fn context(segment: &[u8], m: usize, (thread, threads): (u32, u32)) -> StepContext {
    StepContext {
        kernels: std::ptr::null(),
        code: std::ptr::null(),
        weights: segment.as_ptr(),
        arena: std::ptr::null_mut(),
        private: std::ptr::null_mut(),
        cache: std::ptr::null_mut(),
        tokens: std::ptr::null(),
        positions: std::ptr::null(),
        slots: std::ptr::null(),
        outputs: std::ptr::null(),
        logits: std::ptr::null_mut(),
        barrier: std::ptr::null(),
        array: std::ptr::null(),
        trace: std::ptr::null(),
        rows: m as u32,
        output_rows: 0,
        thread,
        threads,
    }
}
