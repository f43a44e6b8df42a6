//! Tiny models: every tensor an architecture needs, with random weights.

use onebit_ir::quant::Format;

use crate::blocks::random_row;
use crate::gguf::GgufWriter;
use crate::random::Random;
use crate::vocabulary::{VocabularyKind, tiny_vocabulary};

/// What a tiny model of one architecture has beyond a plain decoder.
#[derive(Clone, Copy, Debug)]
struct TinyArch {
    name: &'static str,
    vocabulary: VocabularyKind,
    /// Tensors of a layer beyond the ones every architecture has.
    extras: &'static [Extra],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Extra {
    /// `attn_{q,k,v}.bias`
    QkvBias,
    /// `attn_{q,k}_norm.weight`
    QkNorm,
    /// `post_attention_norm.weight`, `post_ffw_norm.weight`
    PostNorms,
    /// `attn_sub_norm.weight`, `ffn_sub_norm.weight`
    SubNorms,
    /// A `.scale` beside each matrix of the layer
    Scales,
    /// `rope_freqs.weight`, once
    RopeFactors,
    /// `attention.sliding_window`
    Window,
    /// `attn_logit_softcapping`, `final_logit_softcapping`
    Softcaps,
}

use Extra::{PostNorms, QkNorm, QkvBias, RopeFactors, Scales, Softcaps, SubNorms, Window};

const ARCHS: [TinyArch; 9] = {
    use VocabularyKind::{Bpe, SentencePiece};
    const fn arch(
        name: &'static str,
        vocabulary: VocabularyKind,
        extras: &'static [Extra],
    ) -> TinyArch {
        TinyArch { name, vocabulary, extras }
    }
    [
        arch("llama", Bpe, &[]),
        arch("llama3", Bpe, &[RopeFactors]),
        arch("qwen2", Bpe, &[QkvBias]),
        arch("qwen3", Bpe, &[QkNorm]),
        arch("gemma2", SentencePiece, &[PostNorms, Window, Softcaps]),
        arch("gemma3", SentencePiece, &[QkNorm, PostNorms, Window]),
        arch("bitnet", SentencePiece, &[SubNorms, Scales]),
        arch("bitnet-b1.58", Bpe, &[SubNorms]),
        arch("bitnet-25", Bpe, &[SubNorms]),
    ]
};

/// Names that [`tiny_model`] takes: the architectures, and `llama3` for `llama` with frequency
/// factors.
pub const TINY_ARCHITECTURES: [&str; 9] = {
    let mut names = [""; 9];
    let mut index = 0;
    while index < names.len() {
        names[index] = ARCHS[index].name;
        index += 1;
    }
    names
};

/// Where logits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The embedding table.
    Tied,
    /// `output.weight`, of the matrices' format.
    Untied,
}

/// Sizes of a tiny model. The default has two layers of 256 elements, whole blocks of every
/// format, and weighs about 700 KB.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyOptions {
    /// Of the weights.
    pub seed: u64,
    /// Of the matrices of layer i: `formats[i % formats.len()]`.
    pub formats: Vec<Format>,
    /// Of the embedding table.
    pub embedding: Format,
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    /// Divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head, even; `heads * head_dim` need not be `width`.
    pub head_dim: usize,
    pub feed_forward: usize,
    /// At least 320, or what the vocabulary needs.
    pub vocabulary: usize,
    /// Trained context.
    pub context: usize,
    /// Sliding window of architectures that have one.
    pub window: usize,
    pub head: Head,
    /// `None`: what models of that architecture usually have.
    pub vocabulary_kind: Option<VocabularyKind>,
}

impl Default for TinyOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            formats: vec![Format::Q4_0],
            embedding: Format::Q8_0,
            layers: 2,
            width: 256,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            feed_forward: 512,
            vocabulary: 320,
            context: 128,
            window: 16,
            head: Head::Tied,
            vocabulary_kind: None,
        }
    }
}

impl TinyOptions {
    /// The smallest sizes: about 60 KB in F32.
    pub fn smallest() -> Self {
        Self {
            formats: vec![Format::F32],
            embedding: Format::F32,
            layers: 1,
            width: 16,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            feed_forward: 32,
            ..Self::default()
        }
    }

    /// The default sizes with all matrices, the embedding table too, in `format`.
    pub fn of_format(format: Format) -> Self {
        Self { formats: vec![format], embedding: format, ..Self::default() }
    }
}

/// The bytes of a tiny GGUF; see [`TINY_ARCHITECTURES`] for names.
pub fn tiny_model(arch: &str, options: &TinyOptions) -> Vec<u8> {
    tiny_writer(arch, options).finish()
}

/// The same before it is written, to change a key or tensor first.
pub fn tiny_writer(arch: &str, options: &TinyOptions) -> GgufWriter {
    let known = ARCHS.iter().find(|known| known.name == arch);
    let arch = known.unwrap_or_else(|| panic!("no tiny model of {arch}: {TINY_ARCHITECTURES:?}"));
    let mut tiny = Tiny { arch, options, writer: GgufWriter::new() };
    tiny.metadata();
    let kind = options.vocabulary_kind.unwrap_or(arch.vocabulary);
    tiny_vocabulary(kind, options.vocabulary).write(&mut tiny.writer);
    tiny.tensors();
    tiny.writer
}

struct Tiny<'a> {
    arch: &'a TinyArch,
    options: &'a TinyOptions,
    writer: GgufWriter,
}

impl Tiny<'_> {
    fn has(&self, extra: Extra) -> bool {
        self.arch.extras.contains(&extra)
    }

    fn metadata(&mut self) {
        let name = match self.arch.name {
            "llama3" => "llama",
            name => name,
        };
        let (options, has_window, has_caps) = (self.options, self.has(Window), self.has(Softcaps));
        let writer = &mut self.writer;
        writer.set("general.architecture", name);
        writer.set("general.name", format!("tiny {}", self.arch.name).as_str());
        let key = |key: &str| format!("{name}.{key}");
        writer.set(&key("context_length"), options.context);
        writer.set(&key("embedding_length"), options.width);
        writer.set(&key("block_count"), options.layers);
        writer.set(&key("feed_forward_length"), options.feed_forward);
        writer.set(&key("attention.head_count"), options.heads);
        writer.set(&key("attention.head_count_kv"), options.kv_heads);
        writer.set(&key("attention.key_length"), options.head_dim);
        writer.set(&key("attention.value_length"), options.head_dim);
        writer.set(&key("attention.layer_norm_rms_epsilon"), 1e-5);
        writer.set(&key("rope.freq_base"), 10_000.0);
        if has_window {
            writer.set(&key("attention.sliding_window"), options.window);
        }
        if has_caps {
            writer.set(&key("attn_logit_softcapping"), 50.0);
            writer.set(&key("final_logit_softcapping"), 30.0);
        }
    }

    fn tensors(&mut self) {
        let TinyOptions { width, vocabulary, head_dim, .. } = *self.options;
        let spread = 3.0 / (width as f32).sqrt();
        self.matrix_of("token_embd", self.options.embedding, [vocabulary, width], spread);
        for layer in 0..self.options.layers {
            self.layer(layer);
        }
        self.norm("output_norm", width);
        if self.options.head == Head::Untied {
            self.matrix_of("output", self.options.formats[0], [vocabulary, width], spread);
        }
        if self.has(RopeFactors) {
            let factors: Vec<f32> = (0..head_dim / 2).map(|i| 1.0 + 0.25 * i as f32).collect();
            self.writer.tensor_f32("rope_freqs.weight", &[factors.len()], &factors);
        }
    }

    fn layer(&mut self, layer: usize) {
        let TinyOptions { width, heads, kv_heads, head_dim, feed_forward, .. } = *self.options;
        let name = |part: &str| format!("blk.{layer}.{part}");
        self.norm(&name("attn_norm"), width);
        for (part, count) in [("attn_q", heads), ("attn_k", kv_heads), ("attn_v", kv_heads)] {
            self.matrix(layer, part, [count * head_dim, width]);
            if self.has(QkvBias) {
                self.vector(&name(&format!("{part}.bias")), count * head_dim, 0.0, 0.5);
            }
        }
        self.matrix(layer, "attn_output", [width, heads * head_dim]);
        self.norm(&name("ffn_norm"), width);
        self.matrix(layer, "ffn_gate", [feed_forward, width]);
        self.matrix(layer, "ffn_up", [feed_forward, width]);
        self.matrix(layer, "ffn_down", [width, feed_forward]);
        let extras: [(Extra, &str, usize); 6] = [
            (QkNorm, "attn_q_norm", head_dim),
            (QkNorm, "attn_k_norm", head_dim),
            (PostNorms, "post_attention_norm", width),
            (PostNorms, "post_ffw_norm", width),
            (SubNorms, "attn_sub_norm", heads * head_dim),
            (SubNorms, "ffn_sub_norm", feed_forward),
        ];
        for (extra, part, size) in extras {
            if self.has(extra) {
                self.norm(&name(part), size);
            }
        }
    }

    /// A matrix of layer `layer` that keeps the size of what it multiplies.
    fn matrix(&mut self, layer: usize, part: &str, shape: [usize; 2]) {
        let format = self.options.formats[layer % self.options.formats.len()];
        let name = format!("blk.{layer}.{part}");
        self.matrix_of(&name, format, shape, 1.0 / (shape[1] as f32).sqrt());
        if self.has(Scales) {
            self.vector(&format!("{name}.scale"), 1, 1.0, 0.1);
        }
    }

    fn matrix_of(&mut self, name: &str, format: Format, shape: [usize; 2], deviation: f32) {
        let name = format!("{name}.weight");
        let mut random = Random::named(self.options.seed, &name);
        let bytes = random_row(format, shape[0] * shape[1], deviation, &mut random);
        self.writer.tensor(&name, format, &shape, bytes);
    }

    fn norm(&mut self, name: &str, size: usize) {
        self.vector(&format!("{name}.weight"), size, 1.0, 0.1);
    }

    fn vector(&mut self, name: &str, size: usize, mean: f32, deviation: f32) {
        let mut random = Random::named(self.options.seed, name);
        let values: Vec<f32> = (0..size).map(|_| mean + deviation * random.normal()).collect();
        self.writer.tensor_f32(name, &[size], &values);
    }
}
