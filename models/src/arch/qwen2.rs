//! Qwen 2 and 2.5, dense: as Llama with biases on q, k and v (taken where the file has them) and
//! the other rotation style.

use onebit_ir::{Function, RopeStyle};

use super::{ArchSpec, AttentionScale, EmbeddingScale, WindowRule};

pub(super) const QWEN2: ArchSpec = ArchSpec {
    name: "qwen2",
    rope_style: RopeStyle::Neox,
    rope_factors: None,
    activation: Function::Silu,
    extra_norms: &[],
    embedding_scale: EmbeddingScale::None,
    attention_scale: AttentionScale::KeyDim,
    window: WindowRule::Never,
};
