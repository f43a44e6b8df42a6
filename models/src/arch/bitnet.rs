//! BitNet: ternary weights, norms before the output and down projections, and per-tensor scales
//! where the block format has none. llama.cpp knows the first; the other two names are those of
//! Microsoft's fork (bitnet.cpp), whose models use squared ReLU.

use onebit_ir::{Function, RopeStyle};

use super::{ArchSpec, AttentionScale, EmbeddingScale, ExtraNorm, WindowRule};

pub(super) const BITNET: ArchSpec = ArchSpec {
    name: "bitnet",
    rope_style: RopeStyle::Neox,
    rope_factors: None,
    activation: Function::Silu,
    extra_norms: &[ExtraNorm::AttentionSub, ExtraNorm::FeedForwardSub],
    embedding_scale: EmbeddingScale::None,
    attention_scale: AttentionScale::KeyDim,
    window: WindowRule::Never,
};

pub(super) const BITNET_B158: ArchSpec =
    ArchSpec { name: "bitnet-b1.58", activation: Function::ReluSquared, ..BITNET };

pub(super) const BITNET_25: ArchSpec = ArchSpec { name: "bitnet-25", ..BITNET_B158 };
