//! Files with the shapes of published models: their hyper-parameters, tensor names, block formats
//! and vocabulary sizes, with random weights.
//!
//! A speed depends on nothing else, so these stand in for the real files where those cannot be had.
//! Simplified against the real files: the vocabulary is made up (a few merges instead of 49,000 to
//! 280,000, so files load faster), the chat template is ChatML's, and mixtures other than those of
//! [`Quantisation`] are not known. Files are functions of shape, quantisation, layers and seed,
//! whatever the number of threads.

mod formats;
mod shapes;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use onebit_ir::quant::Format;
use rayon::prelude::*;

use crate::blocks::RandomBlocks;
use crate::gguf::{GgufLayout, GgufWriter};
use crate::random::Random;
use crate::vocabulary::large_vocabulary;
pub use formats::Quantisation;
use formats::Role;
pub use shapes::{ModelShape, SHAPES};

/// Bytes that one task writes, before they are cut to whole blocks.
const CHUNK_BYTES: usize = 1 << 20;
/// Length of a token's embedding: small beside what layers add to it, or a tied output matrix would
/// find the token that it was given most likely of all.
const EMBEDDING_SPREAD: f32 = 0.5;
/// Standard deviation of logits: as peaked as a trained model's, and far from overflow. The last
/// norm makes up for the embedding's length.
const LOGIT_SPREAD: f32 = 3.0;

/// A model that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RealModelError {
    /// The format's blocks do not fit and llama.cpp has no format to fall back to.
    #[error("{format} has blocks of {block}, but {tensor} of {shape} has rows of {width}")]
    PartialBlocks {
        format: Format,
        block: usize,
        tensor: String,
        shape: &'static str,
        width: usize,
    },
    /// `layers` is 0 or more than the shape has.
    #[error("{shape} has 1 to {most} layers, not {found}")]
    Layers { shape: &'static str, most: usize, found: usize },
}

/// What a tensor's bytes are.
#[derive(Clone, Debug)]
enum Content {
    /// Random blocks around 0.
    Weights(Format, RandomBlocks),
    /// Random F32 values around that one.
    Norm(f32),
    Bytes(Vec<u8>),
}

/// A file that can be written: where everything lies, and what it is.
#[derive(Clone, Debug)]
pub struct RealModel {
    seed: u64,
    layout: GgufLayout,
    /// One for each tensor of the layout.
    contents: Vec<Content>,
}

impl RealModel {
    /// The model of that shape, with its first `layers` layers or all of them.
    ///
    /// # Errors
    /// When a tensor's rows are no whole blocks of its format, or there are no such layers.
    pub fn new(
        shape: &ModelShape,
        quantisation: Quantisation,
        layers: Option<usize>,
        seed: u64,
    ) -> Result<Self, RealModelError> {
        let layers = layers.unwrap_or(shape.layers);
        if layers == 0 || layers > shape.layers {
            let (shape, most) = (shape.name, shape.layers);
            return Err(RealModelError::Layers { shape, most, found: layers });
        }
        let mut maker =
            Maker { shape, quantisation, layers, writer: GgufWriter::new(), contents: Vec::new() };
        maker.metadata();
        maker.tensors()?;
        let (layout, contents) = (maker.writer.layout(), maker.contents);
        Ok(Self { seed, layout, contents })
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.layout.length()
    }

    /// Bytes of weights that have to be read for a token: all but an embedding table that is not the
    /// output matrix as well.
    pub fn bytes_per_token(&self) -> u64 {
        let tied = !self.layout.tensors.iter().any(|(name, _)| name == "output.weight");
        let read =
            self.layout.tensors.iter().filter(|(name, _)| tied || name != "token_embd.weight");
        read.map(|(_, place)| place.end - place.start).sum()
    }

    /// Writes all but the tensors' data to an empty `file`, and grows it to its length: a model of
    /// zeros that takes no room where files may be sparse.
    ///
    /// # Errors
    /// When the file cannot be grown or written.
    pub fn write_outline(&self, file: &File) -> io::Result<()> {
        file.set_len(self.length())?;
        file.write_all_at(&self.layout.header, 0)
    }

    /// Writes the whole of an empty `file`, on all threads of rayon's pool.
    ///
    /// # Errors
    /// When the file cannot be grown or written.
    pub fn write(&self, file: &File) -> io::Result<()> {
        self.write_outline(file)?;
        let tensors = self.layout.tensors.iter().zip(&self.contents);
        let chunks: Vec<_> = tensors
            .flat_map(|((name, place), content)| {
                chunks(place, content).map(move |chunk| (name, content, chunk))
            })
            .collect();
        chunks.into_par_iter().try_for_each(|(name, content, (index, place))| {
            let random = Random::named(self.seed, &format!("{name}#{index}"));
            file.write_all_at(&content.bytes(&place, random), place.start)
        })
    }
}

/// The pieces of a tensor that are written one by one, numbered. Only weights are cut.
fn chunks(
    place: &Range<u64>,
    content: &Content,
) -> impl Iterator<Item = (usize, Range<u64>)> + use<> {
    let step = match content {
        Content::Weights(format, _) => CHUNK_BYTES / format.block_bytes() * format.block_bytes(),
        Content::Norm(_) | Content::Bytes(_) => (place.end - place.start).max(1) as usize,
    };
    let end = place.end;
    let starts = (place.start..end).step_by(step);
    starts.map(move |start| start..(start + step as u64).min(end)).enumerate()
}

impl Content {
    fn bytes(&self, place: &Range<u64>, mut random: Random) -> Vec<u8> {
        let length = (place.end - place.start) as usize;
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Norm(mean) => (0..length / size_of::<f32>())
                .flat_map(|_| (mean * (1.0 + 0.1 * random.normal())).to_le_bytes())
                .collect(),
            Self::Weights(_, blocks) => {
                let mut bytes = vec![0; length];
                blocks.fill(&mut bytes, &mut random);
                bytes
            }
        }
    }
}

struct Maker<'a> {
    shape: &'a ModelShape,
    quantisation: Quantisation,
    layers: usize,
    writer: GgufWriter,
    contents: Vec<Content>,
}

impl Maker<'_> {
    fn metadata(&mut self) {
        let (shape, writer) = (self.shape, &mut self.writer);
        let title = format!("{} shape, random weights", shape.title);
        writer.set("general.architecture", shape.arch);
        writer.set("general.name", title.as_str());
        writer.set("general.quantization_version", 2u32);
        if let Some(file_type) = self.quantisation.file_type() {
            writer.set("general.file_type", file_type);
        }
        let key = |key: &str| format!("{}.{key}", shape.arch);
        writer.set(&key("context_length"), shape.context);
        writer.set(&key("embedding_length"), shape.width);
        writer.set(&key("block_count"), self.layers);
        writer.set(&key("feed_forward_length"), shape.feed_forward);
        writer.set(&key("attention.head_count"), shape.heads);
        writer.set(&key("attention.head_count_kv"), shape.kv_heads);
        writer.set(&key("attention.key_length"), shape.head_dim);
        writer.set(&key("attention.value_length"), shape.head_dim);
        writer.set(&key("attention.layer_norm_rms_epsilon"), shape.epsilon);
        writer.set(&key("rope.dimension_count"), shape.head_dim);
        writer.set(&key("rope.freq_base"), shape.rope_base);
        let special = shape.special;
        large_vocabulary(shape.vocabulary, special.tokens, special.bos, special.eos).write(writer);
        writer.set("tokenizer.ggml.pre", special.pre);
        writer.set("tokenizer.ggml.add_bos_token", special.add_bos);
    }

    fn tensors(&mut self) -> Result<(), RealModelError> {
        let &ModelShape { width, vocabulary, head_dim, .. } = self.shape;
        let spread = EMBEDDING_SPREAD / (width as f32).sqrt();
        let role = if self.shape.tied { Role::Output } else { Role::Embedding };
        self.matrix("token_embd", role, [vocabulary, width], spread)?;
        for layer in 0..self.layers {
            self.layer(layer)?;
        }
        self.add(
            "output_norm",
            Format::F32,
            &[width],
            Content::Norm(LOGIT_SPREAD / EMBEDDING_SPREAD),
        );
        if !self.shape.tied {
            self.matrix("output", Role::Output, [vocabulary, width], spread)?;
        }
        if let Some(factors) = self.shape.rope_factors {
            let values = factors.values(head_dim, self.shape.rope_base);
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            self.add("rope_freqs", Format::F32, &[values.len()], Content::Bytes(bytes));
        }
        Ok(())
    }

    fn layer(&mut self, layer: usize) -> Result<(), RealModelError> {
        let &ModelShape { width, heads, kv_heads, head_dim, feed_forward, .. } = self.shape;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        self.norm(&name("attn_norm"), width);
        let matrices = [
            ("attn_q", Role::Other, [queries, width]),
            ("attn_k", Role::Other, [keys, width]),
            ("attn_v", Role::Refined { layer }, [keys, width]),
            ("attn_output", Role::Other, [width, queries]),
            ("ffn_gate", Role::Other, [feed_forward, width]),
            ("ffn_up", Role::Other, [feed_forward, width]),
            ("ffn_down", Role::Refined { layer }, [width, feed_forward]),
        ];
        for (part, role, shape) in matrices {
            self.matrix(&name(part), role, shape, 1.0 / (shape[1] as f32).sqrt())?;
        }
        if self.shape.query_key_norms {
            self.norm(&name("attn_q_norm"), head_dim);
            self.norm(&name("attn_k_norm"), head_dim);
        }
        self.norm(&name("ffn_norm"), width);
        Ok(())
    }

    fn matrix(
        &mut self,
        name: &str,
        role: Role,
        [rows, width]: [usize; 2],
        deviation: f32,
    ) -> Result<(), RealModelError> {
        let format = self.quantisation.format_of(role, width, self.layers);
        if !width.is_multiple_of(format.block_len()) {
            let (tensor, shape) = (name.to_owned(), self.shape.name);
            let block = format.block_len();
            return Err(RealModelError::PartialBlocks { format, block, tensor, shape, width });
        }
        let blocks = RandomBlocks::new(format, deviation);
        self.add(name, format, &[rows, width], Content::Weights(format, blocks));
        Ok(())
    }

    fn norm(&mut self, name: &str, size: usize) {
        self.add(name, Format::F32, &[size], Content::Norm(1.0));
    }

    fn add(&mut self, name: &str, format: Format, shape: &[usize], content: Content) {
        self.writer.tensor_later(&format!("{name}.weight"), format, shape);
        self.contents.push(content);
    }
}
