//! Builds the graph of any architecture from its [`ArchSpec`] and the model's hyper-parameters.
//!
//! Each weight's shape is checked against what the hyper-parameters ask for, and every tensor of
//! the file must be used: one that is not would mean another computation than the model's.

use std::collections::BTreeMap;

use onebit_ir::{AttentionSpec, Graph, Op, RopeScaling, RopeSpec, TensorType, ValueId};

use super::{ArchSpec, AttentionScale, EmbeddingScale, ExtraNorm, WindowRope, WindowRule};
use crate::error::ModelError;
use crate::gguf::{GgufFile, TensorInfo};
use crate::hparams::{HParams, LayerSizes, WindowPattern};

const TOKEN_EMBEDDING: &str = "token_embd.weight";

/// The graph `tokens, positions -> logits f32[R, vocabulary]` of the model in `file`.
pub(crate) fn build(
    file: &GgufFile,
    spec: &ArchSpec,
    hparams: &HParams,
) -> Result<Graph, ModelError> {
    let mut builder = Builder::new(file, spec, hparams)?;
    let mut x = builder.embed()?;
    for (index, sizes) in hparams.layers.iter().enumerate() {
        x = builder.layer(x, Layer::new(spec, hparams, index, *sizes))?;
    }
    let logits = builder.head(x)?;
    builder.refuse_unused()?;
    let mut graph = builder.graph;
    graph.set_outputs(vec![logits]);
    Ok(graph)
}

/// What is fixed about one layer.
struct Layer {
    /// `blk.<index>`
    prefix: String,
    sizes: LayerSizes,
    rope: RopeSpec,
    attention: AttentionSpec,
}

impl Layer {
    fn new(spec: &ArchSpec, hparams: &HParams, index: usize, sizes: LayerSizes) -> Self {
        let window = window(spec, hparams, index);
        let attention = AttentionSpec {
            layer: u32::try_from(index).expect("the layer count was checked"),
            scale: attention_scale(spec, hparams, sizes),
            window,
            softcap: hparams.attention_softcap,
        };
        let rope = rope(spec, hparams, window.is_some());
        Self { prefix: format!("blk.{index}"), sizes, rope, attention }
    }

    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.prefix)
    }
}

/// The window of layer `index`: llama.cpp's `set_swa_pattern`.
fn window(spec: &ArchSpec, hparams: &HParams, index: usize) -> Option<u32> {
    let WindowRule::Periodic { period, default_window, .. } = spec.window else { return None };
    let windowed = match &hparams.window_pattern {
        Some(WindowPattern::Layers(windowed)) => windowed[index],
        Some(WindowPattern::Period(period)) => index % period < period - 1,
        None => index % period < period - 1,
    };
    hparams.window.or(default_window).filter(|_| windowed)
}

fn rope(spec: &ArchSpec, hparams: &HParams, windowed: bool) -> RopeSpec {
    let rope = hparams.rope;
    let global = RopeSpec {
        style: spec.rope_style,
        dims: rope.dims,
        base: rope.base,
        scaling: rope.scaling,
    };
    match spec.window {
        WindowRule::Periodic { rope: WindowRope::Same, .. } if windowed => {
            RopeSpec { base: rope.window_base.unwrap_or(rope.base), ..global }
        }
        WindowRule::Periodic { rope: WindowRope::Unscaled { base }, .. } if windowed => RopeSpec {
            base: rope.window_base.unwrap_or(base),
            scaling: RopeScaling::None,
            ..global
        },
        _ => global,
    }
}

fn attention_scale(spec: &ArchSpec, hparams: &HParams, sizes: LayerSizes) -> f32 {
    let key_dim = hparams.key_dim;
    match spec.attention_scale {
        AttentionScale::WidthPerHead { layers } if layers == hparams.layers.len() => {
            1.0 / ((hparams.width / sizes.heads) as f32).sqrt()
        }
        AttentionScale::WidthPerHead { .. } => 1.0 / (key_dim as f32).sqrt(),
        AttentionScale::KeyDim => {
            hparams.attention_scale.unwrap_or_else(|| 1.0 / (key_dim as f32).sqrt())
        }
    }
}

struct Builder<'a> {
    file: &'a GgufFile,
    spec: &'a ArchSpec,
    hparams: &'a HParams,
    graph: Graph,
    positions: ValueId,
    /// Weights so far by name; `None` for tensors read while building.
    used: BTreeMap<&'a str, Option<ValueId>>,
}

impl<'a> Builder<'a> {
    fn new(
        file: &'a GgufFile,
        spec: &'a ArchSpec,
        hparams: &'a HParams,
    ) -> Result<Self, ModelError> {
        let mut graph = Graph::new("model");
        let positions = add(&mut graph, "positions", Op::Positions, &[])?;
        Ok(Self { file, spec, hparams, graph, positions, used: BTreeMap::new() })
    }

    fn embed(&mut self) -> Result<ValueId, ModelError> {
        let table = self.weight(TOKEN_EMBEDDING, &[self.hparams.vocabulary, self.hparams.width])?;
        let tokens = self.add(TOKEN_EMBEDDING, Op::Tokens, &[])?;
        let x = self.add(TOKEN_EMBEDDING, Op::Embed, &[table, tokens])?;
        match self.spec.embedding_scale {
            EmbeddingScale::None => Ok(x),
            EmbeddingScale::SqrtWidth => {
                let factor = (self.hparams.width as f32).sqrt();
                self.add(TOKEN_EMBEDDING, Op::Scale { factor }, &[x])
            }
        }
    }

    fn layer(&mut self, x: ValueId, layer: Layer) -> Result<ValueId, ModelError> {
        let normed = self.norm(x, &layer.name("attn_norm"), self.hparams.width)?;
        let mut attended = self.attention(normed, &layer)?;
        if self.spec.has(ExtraNorm::AfterAttention) {
            let name = layer.name("post_attention_norm");
            attended = self.norm(attended, &name, self.hparams.width)?;
        }
        let x = self.add(&layer.prefix, Op::Add, &[x, attended])?;
        let normed = self.norm(x, &layer.name("ffn_norm"), self.hparams.width)?;
        let mut fed = self.feed_forward(normed, &layer)?;
        if self.spec.has(ExtraNorm::AfterFeedForward) {
            fed = self.norm(fed, &layer.name("post_ffw_norm"), self.hparams.width)?;
        }
        self.add(&layer.prefix, Op::Add, &[x, fed])
    }

    fn attention(&mut self, x: ValueId, layer: &Layer) -> Result<ValueId, ModelError> {
        let LayerSizes { heads, kv_heads, .. } = layer.sizes;
        let q = self.heads(x, layer, "attn_q", heads, self.hparams.key_dim)?;
        let k = self.heads(x, layer, "attn_k", kv_heads, self.hparams.key_dim)?;
        let v = self.heads(x, layer, "attn_v", kv_heads, self.hparams.value_dim)?;
        let q = self.position(q, layer, "attn_q_norm")?;
        let k = self.position(k, layer, "attn_k_norm")?;
        let attended = self.add(&layer.prefix, Op::Attention(layer.attention), &[q, k, v])?;
        let mut merged = self.add(&layer.prefix, Op::MergeHeads, &[attended])?;
        let width = heads * self.hparams.value_dim;
        if self.spec.has(ExtraNorm::AttentionSub) {
            merged = self.norm(merged, &layer.name("attn_sub_norm"), width)?;
        }
        self.linear(merged, &layer.name("attn_output"), [self.hparams.width, width])
    }

    /// `heads` heads of `dim` elements of a projection of `x`.
    fn heads(
        &mut self,
        x: ValueId,
        layer: &Layer,
        part: &str,
        heads: usize,
        dim: usize,
    ) -> Result<ValueId, ModelError> {
        let name = layer.name(part);
        let projected = self.linear(x, &name, [heads * dim, self.hparams.width])?;
        self.add(&name, Op::SplitHeads { heads }, &[projected])
    }

    /// Norm, where the architecture has one, and rotation of query or key heads.
    fn position(&mut self, x: ValueId, layer: &Layer, norm: &str) -> Result<ValueId, ModelError> {
        let x = if self.spec.has(ExtraNorm::QueryKey) {
            self.norm(x, &layer.name(norm), self.hparams.key_dim)?
        } else {
            x
        };
        let mut inputs = vec![x, self.positions];
        if let Some(name) = self.spec.rope_factors {
            inputs.extend(self.optional_weight(name, &[layer.rope.dims / 2])?);
        }
        self.add(&layer.prefix, Op::Rope(layer.rope), &inputs)
    }

    fn feed_forward(&mut self, x: ValueId, layer: &Layer) -> Result<ValueId, ModelError> {
        let (width, inner) = (self.hparams.width, layer.sizes.feed_forward);
        let gate = self.linear(x, &layer.name("ffn_gate"), [inner, width])?;
        let up = self.linear(x, &layer.name("ffn_up"), [inner, width])?;
        let mut gated = self.add(&layer.prefix, Op::Gated(self.spec.activation), &[gate, up])?;
        if self.spec.has(ExtraNorm::FeedForwardSub) {
            gated = self.norm(gated, &layer.name("ffn_sub_norm"), inner)?;
        }
        self.linear(gated, &layer.name("ffn_down"), [width, inner])
    }

    /// Logits. A file without a head of its own uses the embedding table.
    fn head(&mut self, x: ValueId) -> Result<ValueId, ModelError> {
        let selected = self.add("output_norm", Op::SelectOutputs, &[x])?;
        let normed = self.norm(selected, "output_norm", self.hparams.width)?;
        let shape = [self.hparams.vocabulary, self.hparams.width];
        let logits = if self.file.tensor("output.weight").is_some() {
            self.linear(normed, "output", shape)?
        } else {
            let table = self.weight(TOKEN_EMBEDDING, &shape)?;
            self.add("output", Op::Linear, &[normed, table])?
        };
        match self.hparams.logit_softcap {
            Some(cap) => self.add("output", Op::SoftCap { cap }, &[logits]),
            None => Ok(logits),
        }
    }

    fn norm(&mut self, x: ValueId, name: &str, width: usize) -> Result<ValueId, ModelError> {
        let weight = self.weight(&format!("{name}.weight"), &[width])?;
        self.add(name, Op::RmsNorm { eps: self.hparams.rms_eps }, &[x, weight])
    }

    /// `scale * (weight x) + bias`, where scale and bias are taken if the file has them.
    fn linear(&mut self, x: ValueId, name: &str, shape: [usize; 2]) -> Result<ValueId, ModelError> {
        let weight = self.weight(&format!("{name}.weight"), &shape)?;
        let bias = self.optional_weight(&format!("{name}.bias"), &shape[..1])?;
        match (self.scalar(&format!("{name}.scale"))?, bias) {
            (None, None) => self.add(name, Op::Linear, &[x, weight]),
            (None, Some(bias)) => self.add(name, Op::Linear, &[x, weight, bias]),
            (Some(factor), bias) => {
                let product = self.add(name, Op::Linear, &[x, weight])?;
                let scaled = self.add(name, Op::Scale { factor }, &[product])?;
                match bias {
                    Some(bias) => self.add(name, Op::AddBias, &[scaled, bias]),
                    None => Ok(scaled),
                }
            }
        }
    }

    fn add(&mut self, place: &str, op: Op, inputs: &[ValueId]) -> Result<ValueId, ModelError> {
        add(&mut self.graph, place, op, inputs)
    }

    /// The weight `name`, which must be there with that shape (outermost first).
    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<ValueId, ModelError> {
        self.optional_weight(name, shape)?.ok_or_else(|| ModelError::MissingTensor {
            tensor: name.to_owned(),
            architecture: self.spec.name,
            expected: shape.to_vec(),
        })
    }

    fn optional_weight(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<ValueId>, ModelError> {
        let Some(tensor) = self.shaped(name, shape)? else { return Ok(None) };
        if let Some(Some(known)) = self.used.get(name) {
            return Ok(Some(*known));
        }
        let ty = TensorType::weight(tensor.format, shape);
        let value = self.graph.weight(name, ty);
        self.used.insert(&tensor.name, Some(value));
        Ok(Some(value))
    }

    /// The one element of tensor `name`, if it is there.
    fn scalar(&mut self, name: &str) -> Result<Option<f32>, ModelError> {
        let Some(tensor) = self.shaped(name, &[1])? else { return Ok(None) };
        self.used.insert(&tensor.name, None);
        let mut value = [0.0];
        tensor
            .format
            .decode(self.file.data(tensor), &mut value)
            .map_err(|source| ModelError::Decode { tensor: name.to_owned(), source })?;
        Ok(Some(value[0]))
    }

    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Option<&'a TensorInfo>, ModelError> {
        match self.file.tensor(name) {
            Some(tensor) if tensor.shape != shape => Err(ModelError::TensorShape {
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape.clone(),
            }),
            tensor => Ok(tensor),
        }
    }

    fn refuse_unused(&self) -> Result<(), ModelError> {
        let unused = |tensor: &&TensorInfo| !self.used.contains_key(tensor.name.as_str());
        let mut unused = self.file.tensors().iter().filter(unused);
        let Some(first) = unused.next() else { return Ok(()) };
        Err(ModelError::UnusedTensors {
            tensor: first.name.clone(),
            others: unused.count(),
            architecture: self.spec.name,
        })
    }
}

fn add(graph: &mut Graph, place: &str, op: Op, inputs: &[ValueId]) -> Result<ValueId, ModelError> {
    graph.add(op, inputs).map_err(|source| ModelError::Graph { place: place.to_owned(), source })
}
