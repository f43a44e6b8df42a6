//! Passes: one file each, named after the file, listed in [`crate::pipeline::PASSES`].

pub mod fuse_gated;
pub mod split_bias;
pub mod stack_linears;
