//! Qwen 3, dense: as Qwen 2 without biases, with a norm on each query and key head.

use super::{ArchSpec, ExtraNorm, qwen2};

pub(super) const QWEN3: ArchSpec =
    ArchSpec { name: "qwen3", extra_norms: &[ExtraNorm::QueryKey], ..qwen2::QWEN2 };
