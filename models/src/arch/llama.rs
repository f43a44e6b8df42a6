//! Llama 1 to 3.x, Mistral, SmolLM2: what llama.cpp calls `llama`. Llama 3.1 and later divide the
//! rotation frequencies by `rope_freqs.weight`. Converters have permuted q and k for this style.

use onebit_ir::{Function, RopeStyle};

use super::{ArchSpec, AttentionScale, EmbeddingScale, WindowRule};

pub(super) const LLAMA: ArchSpec = ArchSpec {
    name: "llama",
    rope_style: RopeStyle::Norm,
    rope_factors: Some("rope_freqs.weight"),
    activation: Function::Silu,
    extra_norms: &[],
    embedding_scale: EmbeddingScale::None,
    attention_scale: AttentionScale::KeyDim,
    window: WindowRule::Never,
};
