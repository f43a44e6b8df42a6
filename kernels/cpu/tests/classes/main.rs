//! Storage classes: packing, gather and the matrix products.

mod matmul;
mod pack;
mod support;
