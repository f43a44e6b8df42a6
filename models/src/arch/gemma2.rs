//! Gemma 2: norms before and after each half of a layer, every other layer with a window of 4096,
//! caps on scores and logits (from the file). Converters have added the 1 of Gemma's norms.

use onebit_ir::{Function, RopeStyle};

use super::{ArchSpec, AttentionScale, EmbeddingScale, ExtraNorm, WindowRope, WindowRule};

pub(super) const GEMMA2: ArchSpec = ArchSpec {
    name: "gemma2",
    rope_style: RopeStyle::Neox,
    rope_factors: None,
    activation: Function::GeluTanh,
    extra_norms: &[ExtraNorm::AfterAttention, ExtraNorm::AfterFeedForward],
    embedding_scale: EmbeddingScale::SqrtWidth,
    // 46 layers: the 27B model.
    attention_scale: AttentionScale::WidthPerHead { layers: 46 },
    window: WindowRule::Periodic { period: 2, default_window: Some(4096), rope: WindowRope::Same },
};
