//! The operations. Every op has one result; its equation stands at its variant.

/// Element-wise functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `x / (1 + exp(-x))`
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
    GeluTanh,
    /// `max(x, 0)^2`
    ReluSquared,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 3] = [Self::Silu, Self::GeluTanh, Self::ReluSquared];

    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_tanh",
            Self::ReluSquared => "relu_squared",
        }
    }
}

/// How rotary embedding pairs the elements of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// `(x[2i], x[2i+1])`
    Norm,
    /// `(x[i], x[i + dims/2])`
    Neox,
}

impl RopeStyle {
    /// Every style.
    pub const ALL: [Self; 2] = [Self::Norm, Self::Neox];

    /// Its name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Norm => "norm",
            Self::Neox => "neox",
        }
    }
}

/// Context extension of rotary embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// How many times the trained context is exceeded.
        factor: f32,
    },
    /// YaRN (arXiv 2309.00071) as GGUF models use it.
    Yarn {
        /// How many times `original_context` is exceeded.
        factor: f32,
        /// Positions of the training, in tokens.
        original_context: u32,
        /// 0 interpolates every pair; 1 leaves the fast ones as trained.
        ext_factor: f32,
        /// Factor on cos and sin, besides the one that YaRN derives from `factor`.
        attn_factor: f32,
        /// Pairs that turn at least so often in `original_context` keep their frequency.
        beta_fast: f32,
        /// Pairs that turn at most so often are interpolated.
        beta_slow: f32,
    },
}

/// Rotary position embedding of the first `dims` elements of each head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// Which elements make a pair.
    pub style: RopeStyle,
    /// Rotated elements per head, even.
    pub dims: usize,
    /// Pair i turns by `base^(-2i/dims)` radians a position.
    pub base: f32,
    /// Context extension.
    pub scaling: RopeScaling,
}

/// Causal attention over a layer's cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Which cache it stores to and reads; no two attentions of a graph share one.
    pub layer: u32,
    /// Factor on `q . k`.
    pub scale: f32,
    /// A row at p sees q with `p - window < q <= p`.
    pub window: Option<u32>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// An operation. `T` is the step's row count, `R` the count of rows whose logits are wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `i32[T]`: token ids of the rows.
    Tokens,
    /// `i32[T]`: positions of the rows.
    Positions,
    /// A tensor of the model file, by its name there. Its type is given, not inferred.
    Weight(String),
    /// `(table: w[V, D], tokens: i32[T]) -> f32[T, D]`
    Embed,
    /// `(x: f32[.., K], w: w[N, K], bias?: w[N]) -> f32[.., N]`: `y = w x + bias`
    Linear,
    /// `(x: f32[L, K], w0: w[N0, K], w1: w[N1, K], ..) -> f32[L, N0 + N1 + ..]`: linears of one
    /// input side by side
    StackedLinear,
    /// `(x: f32[.., N], b: w[N]) -> f32[.., N]`: `x + b`, b on every row
    AddBias,
    /// `(x: f32[.., D], w: w[D]) -> f32[.., D]`: `x / sqrt(mean(x^2) + eps) * w`
    RmsNorm {
        /// Keeps the root from zero.
        eps: f32,
    },
    /// `(x, y) -> x + y`, equal shapes
    Add,
    /// `(x, y) -> x * y`, equal shapes
    Mul,
    /// `x * factor`
    Scale {
        /// The constant.
        factor: f32,
    },
    /// `f(x)`
    Unary(Function),
    /// `(gate, up) -> f(gate) * up`, equal shapes
    Gated(Function),
    /// `cap * tanh(x / cap)`
    SoftCap {
        /// Bound of the result's magnitude.
        cap: f32,
    },
    /// `f32[T, H*d] -> f32[T, H, d]`
    SplitHeads {
        /// H
        heads: usize,
    },
    /// `f32[T, H, d] -> f32[T, H*d]`
    MergeHeads,
    /// `f32[L, D] -> f32[L, len]`: columns `start..start + len`
    Slice {
        /// First column.
        start: usize,
        /// How many columns, at least one.
        len: usize,
    },
    /// `(x: f32[T, H, d], positions: i32[T], factors?: w[dims/2]) -> f32[T, H, d]`; frequencies
    /// are divided by `factors`.
    Rope(RopeSpec),
    /// `(q: f32[T, H, d], k: f32[T, G, d], v: f32[T, G, e]) -> f32[T, H, e]`: stores k and v in
    /// the layer's cache at each row's slot and position, then softmax attention over the slot's
    /// cache; H is a multiple of G, head h reads cache head `h / (H/G)`.
    Attention(AttentionSpec),
    /// `f32[T, D] -> f32[R, D]`: rows whose logits are wanted
    SelectOutputs,
}

impl Op {
    /// Its name in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Positions => "positions",
            Self::Weight(_) => "weight",
            Self::Embed => "embed",
            Self::Linear => "linear",
            Self::StackedLinear => "stacked_linear",
            Self::AddBias => "add_bias",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Add => "add",
            Self::Mul => "mul",
            Self::Scale { .. } => "scale",
            Self::Unary(function) => function.name(),
            Self::Gated(_) => "gated",
            Self::SoftCap { .. } => "softcap",
            Self::SplitHeads { .. } => "split_heads",
            Self::MergeHeads => "merge_heads",
            Self::Slice { .. } => "slice",
            Self::Rope(_) => "rope",
            Self::Attention(_) => "attention",
            Self::SelectOutputs => "select_outputs",
        }
    }
}

impl RopeSpec {
    /// Rotation frequency of each pair, `dims / 2` values in radians per position, and the factor
    /// on cos and sin. `factors` divide the frequencies (Llama 3's `rope_freqs.weight`).
    pub fn frequencies(&self, factors: Option<&[f32]>) -> (Vec<f32>, f32) {
        let half = self.dims / 2;
        let raw = |i: usize| {
            let exponent = 2.0 * i as f64 / self.dims as f64;
            let divisor = factors.map_or(1.0, |f| f64::from(f[i]));
            f64::from(self.base).powf(-exponent) / divisor
        };
        match self.scaling {
            RopeScaling::None => ((0..half).map(|i| raw(i) as f32).collect(), 1.0),
            RopeScaling::Linear { factor } => {
                let divided = |i| (raw(i) / f64::from(factor)) as f32;
                ((0..half).map(divided).collect(), 1.0)
            }
            RopeScaling::Yarn {
                factor,
                original_context,
                ext_factor,
                attn_factor,
                beta_fast,
                beta_slow,
            } => {
                let rotations = |beta: f32| {
                    let context = f64::from(original_context);
                    let turns = f64::from(beta) * 2.0 * std::f64::consts::PI;
                    self.dims as f64 * (context / turns).ln() / (2.0 * f64::from(self.base).ln())
                };
                let low = rotations(beta_fast).floor().max(0.0);
                let high = rotations(beta_slow).ceil().min(self.dims as f64 - 1.0);
                let mix = |i: usize| {
                    let ramp = (i as f64 - low) / (high - low).max(0.001);
                    let extrapolate = (1.0 - ramp.clamp(0.0, 1.0)) * f64::from(ext_factor);
                    let interpolated = raw(i) / f64::from(factor);
                    (interpolated * (1.0 - extrapolate) + raw(i) * extrapolate) as f32
                };
                let magnitude = if ext_factor == 0.0 {
                    attn_factor
                } else {
                    attn_factor * (1.0 + 0.1 * factor.ln())
                };
                ((0..half).map(mix).collect(), magnitude)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scaling: RopeScaling) -> RopeSpec {
        RopeSpec { style: RopeStyle::Neox, dims: 8, base: 10000.0, scaling }
    }

    fn yarn(ext_factor: f32) -> RopeScaling {
        RopeScaling::Yarn {
            factor: 4.0,
            original_context: 64,
            ext_factor,
            attn_factor: 1.0,
            beta_fast: 8.0,
            beta_slow: 0.25,
        }
    }

    #[test]
    fn frequencies_fall_by_powers_of_the_base() {
        let (plain, magnitude) = spec(RopeScaling::None).frequencies(None);
        assert_eq!((plain.as_slice(), magnitude), ([1.0, 0.1, 0.01, 0.001].as_slice(), 1.0));
        let (divided, _) = spec(RopeScaling::None).frequencies(Some(&[1.0, 2.0, 4.0, 8.0]));
        assert_eq!(divided, [1.0, 0.05, 0.0025, 0.000125]);
        let (linear, magnitude) = spec(RopeScaling::Linear { factor: 2.0 }).frequencies(None);
        assert_eq!((linear.as_slice(), magnitude), ([0.5, 0.05, 0.005, 0.0005].as_slice(), 1.0));
    }

    /// A pair turns `64 f_i / (2 pi)` times in the original context: 10.2, 1.02, 0.1 and 0.01. The
    /// bounds 8 and 0.25 lie at pairs 0.1 and 1.6, so pair 0 stays, pair 1 is halfway, the rest
    /// are divided by 4.
    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let (frequencies, magnitude) = spec(yarn(1.0)).frequencies(None);
        assert_eq!(frequencies, [1.0, 0.0625, 0.0025, 0.00025]);
        assert!((magnitude - (1.0 + 0.1 * 4f32.ln())).abs() < 1e-6);
        let (all_divided, magnitude) = spec(yarn(0.0)).frequencies(None);
        assert_eq!(
            (all_divided.as_slice(), magnitude),
            ([0.25, 0.025, 0.0025, 0.00025].as_slice(), 1.0)
        );
    }
}
