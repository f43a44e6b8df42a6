//! Backends: each lowers a verified graph to executables of a plan.

pub mod cpu;
pub mod machine;
pub mod npu;
pub mod vulkan;
