//! Hyper-parameters: what the metadata of a model says about its sizes and constants.
//!
//! Every key is read as `<general.architecture>.<key>`, with the defaults of llama.cpp's
//! `load_hparams` (llama-model.cpp). Nothing here depends on which architecture it is.

use onebit_ir::RopeScaling;

use crate::gguf::{Array, FromValue, GgufError, GgufFile, Value};

/// Layers that are accepted; the deepest published models have fewer than 200.
const MAX_LAYERS: usize = 4096;
/// Any width, head count or length. Products of two such sizes fit in 64 bits.
const MAX_SIZE: usize = 1 << 28;

/// What is wrong with a hyper-parameter.
#[derive(Debug, thiserror::Error)]
pub enum HParamsError {
    /// The key is missing or of another type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A value outside its range.
    #[error("metadata key \"{key}\" is {found}, expected {expected}; convert the model again")]
    Range { key: String, found: String, expected: String },
    /// A feature that no builder here has.
    #[error("metadata key \"{key}\" is {found}: {feature} is not supported; use another model")]
    Unsupported { key: String, found: String, feature: &'static str },
}

/// Sizes and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct HParams {
    /// Positions the model was trained for.
    pub context: u32,
    /// Elements of the residual stream.
    pub width: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Sizes of each layer.
    pub layers: Vec<LayerSizes>,
    /// Elements of a query or key head.
    pub key_dim: usize,
    /// Elements of a value head.
    pub value_dim: usize,
    /// Epsilon of the RMS norms.
    pub rms_eps: f32,
    /// Rotary embedding.
    pub rope: RopeParams,
    /// Sliding window in positions, if the model names one.
    pub window: Option<u32>,
    /// Which layers the window is for, if the model says.
    pub window_pattern: Option<WindowPattern>,
    /// Factor on attention scores, if the model names one.
    pub attention_scale: Option<f32>,
    /// Cap of attention scores, if any.
    pub attention_softcap: Option<f32>,
    /// Cap of the logits, if any.
    pub logit_softcap: Option<f32>,
}

/// Sizes that may differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSizes {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements between the two halves of the feed-forward block.
    pub feed_forward: usize,
}

/// Rotary embedding as the metadata describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeParams {
    /// Rotated elements of a head, even.
    pub dims: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Base for layers with a sliding window, if the model names one.
    pub window_base: Option<f32>,
    /// Context extension.
    pub scaling: RopeScaling,
}

/// Which layers have a sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowPattern {
    /// All but every n-th layer.
    Period(usize),
    /// As listed, by layer.
    Layers(Vec<bool>),
}

impl HParams {
    /// Reads the hyper-parameters of `file`.
    ///
    /// # Errors
    /// If a key that is needed is missing, or one is of the wrong type, out of range, or asks
    /// for what is not supported.
    pub fn read(file: &GgufFile) -> Result<Self, HParamsError> {
        let keys = Keys { file, prefix: file.require::<&str>("general.architecture")? };
        keys.refuse_experts()?;
        let count = keys.size("block_count", MAX_LAYERS)?;
        let width = keys.size("embedding_length", MAX_SIZE)?;
        let layers = keys.layers(count)?;
        // Files without head sizes divide the width among the heads of the first layer.
        let default_dim = width / layers[0].heads;
        let key_dim = keys.size_or("attention.key_length", default_dim)?;
        let context = keys.size("context_length", MAX_SIZE)?;
        let context = u32::try_from(context).expect("MAX_SIZE fits in 32 bits");
        Ok(Self {
            context,
            width,
            vocabulary: keys.vocabulary()?,
            layers,
            key_dim,
            value_dim: keys.size_or("attention.value_length", default_dim)?,
            rms_eps: keys.epsilon()?,
            rope: keys.rope(key_dim, context)?,
            window: keys.optional::<u32>("attention.sliding_window")?.filter(|&window| window > 0),
            window_pattern: keys.window_pattern(count)?,
            attention_scale: keys.positive("attention.scale")?,
            attention_softcap: keys.positive("attn_logit_softcapping")?,
            logit_softcap: keys.positive("final_logit_softcapping")?,
        })
    }
}

/// The keys of one architecture in one file.
struct Keys<'a> {
    file: &'a GgufFile,
    prefix: &'a str,
}

impl<'a> Keys<'a> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn range(&self, key: &str, found: impl ToString, expected: impl Into<String>) -> HParamsError {
        let (found, expected) = (found.to_string(), expected.into());
        HParamsError::Range { key: self.name(key), found, expected }
    }

    fn optional<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, HParamsError> {
        Ok(self.file.get(&self.name(key))?)
    }

    /// A size that must be there, 1 to `max`.
    fn size(&self, key: &str, max: usize) -> Result<usize, HParamsError> {
        self.checked_size(key, self.file.require(&self.name(key))?, max)
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, HParamsError> {
        let size = self.optional(key)?.unwrap_or(default);
        self.checked_size(key, size, MAX_SIZE)
    }

    fn checked_size(&self, key: &str, size: usize, max: usize) -> Result<usize, HParamsError> {
        if (1..=max).contains(&size) {
            return Ok(size);
        }
        Err(self.range(key, size, format!("1 to {max}")))
    }

    /// A number above 0; 0 is how files say that there is none.
    fn positive(&self, key: &str) -> Result<Option<f32>, HParamsError> {
        match self.optional::<f32>(key)? {
            Some(number) if !number.is_finite() || number < 0.0 => {
                Err(self.range(key, number, "a finite number, 0 or more"))
            }
            number => Ok(number.filter(|&number| number > 0.0)),
        }
    }

    fn epsilon(&self) -> Result<f32, HParamsError> {
        const KEY: &str = "attention.layer_norm_rms_epsilon";
        let epsilon: f32 = self.file.require(&self.name(KEY))?;
        if epsilon.is_finite() && epsilon >= 0.0 {
            return Ok(epsilon);
        }
        Err(self.range(KEY, epsilon, "a finite number, 0 or more"))
    }

    fn refuse_experts(&self) -> Result<(), HParamsError> {
        match self.optional::<u32>("expert_count")? {
            None | Some(0) => Ok(()),
            Some(count) => Err(HParamsError::Unsupported {
                key: self.name("expert_count"),
                found: count.to_string(),
                feature: "a mixture of experts",
            }),
        }
    }

    fn layers(&self, count: usize) -> Result<Vec<LayerSizes>, HParamsError> {
        const HEADS: &str = "attention.head_count";
        const KV_HEADS: &str = "attention.head_count_kv";
        const FEED_FORWARD: &str = "feed_forward_length";
        let heads = self.per_layer(HEADS, count)?;
        let kv_heads = match self.file.metadata(&self.name(KV_HEADS)) {
            Some(_) => self.per_layer(KV_HEADS, count)?,
            None => heads.clone(),
        };
        let feed_forward = self.per_layer(FEED_FORWARD, count)?;
        let sizes = heads.into_iter().zip(kv_heads).zip(feed_forward);
        sizes
            .map(|((heads, kv_heads), feed_forward)| {
                if heads % kv_heads == 0 {
                    return Ok(LayerSizes { heads, kv_heads, feed_forward });
                }
                Err(self.range(KV_HEADS, kv_heads, format!("a divisor of {heads} heads")))
            })
            .collect()
    }

    /// A size for each of `count` layers, from one number for all or an array.
    fn per_layer(&self, key: &str, count: usize) -> Result<Vec<usize>, HParamsError> {
        let sizes = match self.file.metadata(&self.name(key)) {
            Some(Value::Array(array)) => {
                self.check_layer_count(key, &array, count)?;
                self.file.require::<Vec<usize>>(&self.name(key))?
            }
            _ => vec![self.file.require(&self.name(key))?; count],
        };
        sizes.into_iter().map(|size| self.checked_size(key, size, MAX_SIZE)).collect()
    }

    fn check_layer_count(
        &self,
        key: &str,
        array: &Array<'_>,
        count: usize,
    ) -> Result<(), HParamsError> {
        if array.len() == count {
            return Ok(());
        }
        let found = Value::Array(*array).describe();
        Err(self.range(key, found, format!("one value for each of {count} layers")))
    }

    /// The count of token strings decides, as in llama.cpp; `vocab_size` stands in for it.
    fn vocabulary(&self) -> Result<usize, HParamsError> {
        match self.file.get::<Array<'_>>("tokenizer.ggml.tokens")? {
            Some(tokens) if tokens.len() <= MAX_SIZE && !tokens.is_empty() => Ok(tokens.len()),
            _ => self.size("vocab_size", MAX_SIZE),
        }
    }

    fn window_pattern(&self, count: usize) -> Result<Option<WindowPattern>, HParamsError> {
        const KEY: &str = "attention.sliding_window_pattern";
        match self.file.metadata(&self.name(KEY)) {
            None => Ok(None),
            Some(Value::Array(array)) => {
                self.check_layer_count(KEY, &array, count)?;
                Ok(self.optional(KEY)?.map(WindowPattern::Layers))
            }
            Some(_) => Ok(Some(WindowPattern::Period(self.size(KEY, MAX_SIZE)?))),
        }
    }

    fn rope(&self, key_dim: usize, context: u32) -> Result<RopeParams, HParamsError> {
        const DIMS: &str = "rope.dimension_count";
        let dims = self.size_or(DIMS, key_dim)?;
        if dims % 2 != 0 || dims > key_dim {
            return Err(self.range(DIMS, dims, format!("an even number of at most {key_dim}")));
        }
        Ok(RopeParams {
            dims,
            base: self.positive("rope.freq_base")?.unwrap_or(10_000.0),
            window_base: self.positive("rope.freq_base_swa")?,
            scaling: self.rope_scaling(context)?,
        })
    }

    fn rope_scaling(&self, context: u32) -> Result<RopeScaling, HParamsError> {
        const TYPE: &str = "rope.scaling.type";
        let kind = self.optional::<&str>(TYPE)?.unwrap_or("linear");
        // `rope.scale_linear` is the key of older files.
        let factor = match self.positive("rope.scaling.factor")? {
            Some(factor) => factor,
            None => self.positive("rope.scale_linear")?.unwrap_or(1.0),
        };
        match kind {
            "none" => Ok(RopeScaling::None),
            "linear" if factor == 1.0 => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor }),
            "yarn" => self.yarn(factor, context),
            other => Err(HParamsError::Unsupported {
                key: self.name(TYPE),
                found: format!("\"{other}\""),
                feature: "this kind of context extension",
            }),
        }
    }

    /// Defaults are those of llama.cpp's `llama_hparams`; a negative factor means not set.
    fn yarn(&self, factor: f32, context: u32) -> Result<RopeScaling, HParamsError> {
        const CONTEXT: &str = "rope.scaling.original_context_length";
        let number = |key: &str, default: f32| {
            let number = self.optional::<f32>(key)?.unwrap_or(default);
            if number.is_finite() {
                return Ok(if number < 0.0 { default } else { number });
            }
            Err(self.range(key, number, "a finite number"))
        };
        let original_context = self.optional::<u32>(CONTEXT)?.unwrap_or(context);
        if original_context == 0 {
            return Err(self.range(CONTEXT, 0, "1 or more"));
        }
        Ok(RopeScaling::Yarn {
            factor,
            original_context,
            ext_factor: number("rope.scaling.yarn_ext_factor", 1.0)?,
            attn_factor: number("rope.scaling.attn_factor", 1.0)?,
            beta_fast: number("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: number("rope.scaling.yarn_beta_slow", 1.0)?,
        })
    }
}
