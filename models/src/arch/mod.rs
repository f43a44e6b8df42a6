//! Architectures as data: one file and one line of [`ARCHITECTURES`] each.
//!
//! All are decoders of one shape (norm, attention, residual, norm, gated feed-forward, residual);
//! an [`ArchSpec`] says where they differ and `block.rs` builds them. Sources are the model files
//! of llama.cpp (src/models) and the papers they cite.

use onebit_ir::{Function, RopeStyle};

mod bitnet;
pub(crate) mod block;
mod gemma2;
mod gemma3;
mod llama;
mod qwen2;
mod qwen3;

/// Every architecture there is a graph for.
pub const ARCHITECTURES: &[ArchSpec] = &[
    llama::LLAMA,
    qwen2::QWEN2,
    qwen3::QWEN3,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    bitnet::BITNET,
    bitnet::BITNET_B158,
    bitnet::BITNET_25,
];

/// What distinguishes one architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArchSpec {
    /// `general.architecture`, and the prefix of its metadata keys.
    pub name: &'static str,
    /// How heads are rotated.
    pub rope_style: RopeStyle,
    /// Whether the file may hold frequency divisors, and in which tensor.
    pub rope_factors: Option<&'static str>,
    /// `f` of the feed-forward block `down(f(gate x) * up x)`.
    pub activation: Function,
    /// Norms beyond the ones before attention, before the feed-forward block and at the end.
    pub extra_norms: &'static [ExtraNorm],
    /// What token embeddings are multiplied by.
    pub embedding_scale: EmbeddingScale,
    /// What attention scores are multiplied by.
    pub attention_scale: AttentionScale,
    /// Which layers see only a window of positions.
    pub window: WindowRule,
}

/// A norm that not every architecture has; the tensor it reads stands at its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraNorm {
    /// On each query and key head before rotation: `attn_q_norm`, `attn_k_norm`.
    QueryKey,
    /// On the heads before the output projection: `attn_sub_norm`.
    AttentionSub,
    /// On the output of attention before the residual: `post_attention_norm`.
    AfterAttention,
    /// Before the down projection: `ffn_sub_norm`.
    FeedForwardSub,
    /// On the output of the feed-forward block before the residual: `post_ffw_norm`.
    AfterFeedForward,
}

/// Factor on token embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingScale {
    /// 1
    None,
    /// `sqrt(width)`
    SqrtWidth,
}

/// Factor on attention scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionScale {
    /// `attention.scale` if the file has it, else `1 / sqrt(key_dim)`.
    KeyDim,
    /// `1 / sqrt(width / heads)` in models of exactly `layers` layers, else `1 / sqrt(key_dim)`.
    WidthPerHead { layers: usize },
}

/// Sliding windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WindowRule {
    /// None, whatever the metadata says.
    Never,
    /// All layers but every n-th, where the file does not list them.
    Periodic {
        /// n
        period: usize,
        /// Positions where the file does not say; `None`: then there is no window.
        default_window: Option<u32>,
        /// Rotary embedding of the layers that have a window.
        rope: WindowRope,
    },
}

/// Rotary embedding of layers with a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WindowRope {
    /// The same base (unless `rope.freq_base_swa` says otherwise) and scaling as other layers.
    Same,
    /// This base (unless `rope.freq_base_swa` says otherwise), never scaled.
    Unscaled { base: f32 },
}

/// The architecture of that name.
pub fn find(name: &str) -> Option<&'static ArchSpec> {
    ARCHITECTURES.iter().find(|spec| spec.name == name)
}

impl ArchSpec {
    /// Whether it has that norm.
    pub fn has(&self, norm: ExtraNorm) -> bool {
        self.extra_norms.contains(&norm)
    }
}
