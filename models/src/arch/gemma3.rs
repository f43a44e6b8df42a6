//! Gemma 3, text: as Gemma 2 with norms on query and key heads, and every sixth layer global. Only
//! the global layers have the file's rotation base and scaling.

use super::{ArchSpec, AttentionScale, ExtraNorm, WindowRope, WindowRule, gemma2};

pub(super) const GEMMA3: ArchSpec = ArchSpec {
    name: "gemma3",
    extra_norms: &[ExtraNorm::QueryKey, ExtraNorm::AfterAttention, ExtraNorm::AfterFeedForward],
    // 62 layers: the 27B model.
    attention_scale: AttentionScale::WidthPerHead { layers: 62 },
    window: WindowRule::Periodic {
        period: 6,
        default_window: None,
        rope: WindowRope::Unscaled { base: 10_000.0 },
    },
    ..gemma2::GEMMA2
};
