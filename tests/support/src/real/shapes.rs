//! The shapes, as their authors' `config.json` files give them.

/// What a model's speed and its readers depend on.
#[derive(Clone, Copy, Debug)]
pub struct ModelShape {
    /// What command lines call it.
    pub name: &'static str,
    pub title: &'static str,
    /// `general.architecture`
    pub arch: &'static str,
    pub layers: usize,
    /// Elements of a token between layers.
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    pub feed_forward: usize,
    /// Tokens, padding included.
    pub vocabulary: usize,
    /// Trained context in tokens.
    pub context: usize,
    pub epsilon: f32,
    pub rope_base: f32,
    pub(super) rope_factors: Option<RopeFactors>,
    /// The output matrix is the embedding table.
    pub tied: bool,
    pub query_key_norms: bool,
    pub(super) special: SpecialTokens,
    /// What people quantise it to, by the name of a quantisation.
    pub usual: &'static str,
}

/// Tokens that are not text, and what else a tokenizer must be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpecialTokens {
    /// `tokenizer.ggml.pre`
    pub pre: &'static str,
    pub tokens: &'static [(u32, &'static str)],
    pub bos: u32,
    pub eos: u32,
    pub add_bos: bool,
}

/// `rope_scaling` of type `llama3`.
#[derive(Clone, Copy, Debug)]
pub(super) struct RopeFactors {
    factor: f32,
    low: f32,
    high: f32,
    /// Context before the scaling.
    original: f32,
}

impl RopeFactors {
    /// One for each pair of elements of a head: what its frequency is divided by (`conversion/llama.py`
    /// of llama.cpp).
    pub fn values(self, head_dim: usize, base: f32) -> Vec<f32> {
        let factor = |pair: usize| {
            let frequency = base.powf(-(2.0 * pair as f32) / head_dim as f32);
            let wavelength = std::f32::consts::TAU / frequency;
            if wavelength < self.original / self.high {
                1.0
            } else if wavelength > self.original / self.low {
                self.factor
            } else {
                let smooth = (self.original / wavelength - self.low) / (self.high - self.low);
                1.0 / ((1.0 - smooth) / self.factor + smooth)
            }
        };
        (0..head_dim / 2).map(factor).collect()
    }
}

const SMOLLM: SpecialTokens = SpecialTokens {
    pre: "smollm",
    tokens: &[(0, "<|endoftext|>"), (1, "<|im_start|>"), (2, "<|im_end|>")],
    bos: 1,
    eos: 2,
    add_bos: false,
};

const QWEN: SpecialTokens = SpecialTokens {
    pre: "qwen2",
    tokens: &[(151_643, "<|endoftext|>"), (151_644, "<|im_start|>"), (151_645, "<|im_end|>")],
    bos: 151_643,
    eos: 151_645,
    add_bos: false,
};

const LLAMA3: SpecialTokens = SpecialTokens {
    pre: "llama-bpe",
    tokens: &[
        (128_000, "<|begin_of_text|>"),
        (128_001, "<|end_of_text|>"),
        (128_006, "<|start_header_id|>"),
        (128_007, "<|end_header_id|>"),
        (128_009, "<|eot_id|>"),
    ],
    bos: 128_000,
    eos: 128_009,
    add_bos: true,
};

/// `Qwen/Qwen3-1.7B`: config.json.
const QWEN3_1_7B: ModelShape = ModelShape {
    name: "qwen3-1.7b",
    title: "Qwen3-1.7B",
    arch: "qwen3",
    layers: 28,
    width: 2048,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    feed_forward: 6144,
    vocabulary: 151_936,
    context: 40_960,
    epsilon: 1e-6,
    rope_base: 1e6,
    rope_factors: None,
    tied: true,
    query_key_norms: true,
    special: QWEN,
    usual: "q4_k",
};

/// Every shape.
pub const SHAPES: [ModelShape; 6] = [
    // HuggingFaceTB/SmolLM2-135M-Instruct: config.json.
    ModelShape {
        name: "smollm2-135m",
        title: "SmolLM2-135M",
        arch: "llama",
        layers: 30,
        width: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        feed_forward: 1536,
        vocabulary: 49_152,
        context: 8192,
        epsilon: 1e-5,
        rope_base: 1e5,
        rope_factors: None,
        tied: true,
        query_key_norms: false,
        special: SMOLLM,
        usual: "q4_1",
    },
    // Qwen/Qwen3-0.6B: config.json.
    ModelShape {
        name: "qwen3-0.6b",
        title: "Qwen3-0.6B",
        width: 1024,
        feed_forward: 3072,
        ..QWEN3_1_7B
    },
    QWEN3_1_7B,
    // prism-ml/Bonsai-1.7B-gguf: the model card (Qwen3-1.7B's shape, context 32,768, all of it 1-bit).
    ModelShape {
        name: "bonsai-1.7b",
        title: "Bonsai-1.7B",
        context: 32_768,
        usual: "q1_0",
        ..QWEN3_1_7B
    },
    // Qwen/Qwen3-8B: config.json.
    ModelShape {
        name: "qwen3-8b",
        title: "Qwen3-8B",
        layers: 36,
        width: 4096,
        heads: 32,
        feed_forward: 12_288,
        tied: false,
        ..QWEN3_1_7B
    },
    // meta-llama/Llama-3.2-1B-Instruct: config.json.
    ModelShape {
        name: "llama-3.2-1b",
        title: "Llama-3.2-1B",
        arch: "llama",
        layers: 16,
        width: 2048,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        feed_forward: 8192,
        vocabulary: 128_256,
        context: 131_072,
        epsilon: 1e-5,
        rope_base: 5e5,
        rope_factors: Some(RopeFactors { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 }),
        tied: true,
        query_key_norms: false,
        special: LLAMA3,
        usual: "q4_k",
    },
];

impl ModelShape {
    /// The shape of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SHAPES.iter().find(|shape| shape.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_factors_keep_short_waves_and_stretch_long_ones() {
        let shape = ModelShape::named("llama-3.2-1b").unwrap();
        let values = shape.rope_factors.unwrap().values(shape.head_dim, shape.rope_base);
        assert_eq!((values.len(), values[0], values[31]), (32, 1.0, 32.0));
        assert!(values.is_sorted());
        assert!(values.iter().any(|&x| x > 1.0 && x < 32.0));
    }
}
