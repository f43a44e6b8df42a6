//! The verifier: what must hold of a whole graph beyond the types of its single ops.
//!
//! Only [`verify`] makes a [`GraphInfo`]; whoever lowers or interprets a graph asks for one and may
//! rely on every rule here. An edit of the graph makes its info stale.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::graph::{Graph, ValueId};
use crate::infer::{TypeError, result_type};
use crate::op::{AttentionSpec, Op, RopeScaling, RopeSpec};
use crate::types::{Dim, Elem, TensorType};

/// A rule that a graph breaks, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// No order puts arguments before users.
    #[error("{0} depends on itself")]
    Cycle(ValueId),
    /// Arguments do not fit the op.
    #[error("{value}: {error}")]
    Type {
        /// The op.
        value: ValueId,
        /// What does not fit.
        #[source]
        error: TypeError,
    },
    /// The type a value was added with no longer follows from its arguments.
    #[error("{value}: is {found}, but its arguments give {inferred}")]
    StaleType {
        /// The value.
        value: ValueId,
        /// The type it carries.
        found: TensorType,
        /// The type of its op over its present arguments.
        inferred: TensorType,
    },
    /// A weight of a type no model file can hold.
    #[error("{value}: weight \"{name}\" is {ty}; {expected}")]
    WeightType {
        /// The weight.
        value: ValueId,
        /// Its name in the model file.
        name: String,
        /// Its type.
        ty: TensorType,
        /// The rule.
        expected: &'static str,
    },
    /// One tensor of the model file under two types.
    #[error("{value}: weight \"{name}\" is {found}, but {first} in {first_value}")]
    WeightsDiffer {
        /// The later of the two.
        value: ValueId,
        /// Their name.
        name: String,
        /// The later's type.
        found: TensorType,
        /// The earlier.
        first_value: ValueId,
        /// Its type.
        first: TensorType,
    },
    /// An attribute outside its range.
    #[error("{value}: {op}: {attribute} is {found}, expected {expected}")]
    Attribute {
        /// The op.
        value: ValueId,
        /// Its name.
        op: &'static str,
        /// The attribute, as in the text form.
        attribute: &'static str,
        /// Its value.
        found: f32,
        /// The range.
        expected: &'static str,
    },
    /// Two attentions over one cache.
    #[error("{value}: attention layer {layer} already belongs to {first}")]
    LayerTaken {
        /// The later of the two.
        value: ValueId,
        /// Their layer.
        layer: u32,
        /// The earlier.
        first: ValueId,
    },
    /// A graph that computes nothing.
    #[error("the graph has no output")]
    NoOutput,
    /// An output that was removed or is of another graph.
    #[error("output {0} is not in the graph")]
    MissingOutput(ValueId),
    /// An output that is not computed row by row.
    #[error("{value}: is {ty}; an output is f32 with T or R rows")]
    OutputType {
        /// The output.
        value: ValueId,
        /// Its type.
        ty: TensorType,
    },
}

impl VerifyError {
    /// The value that breaks the rule, unless it is the graph as a whole.
    pub fn value(&self) -> Option<ValueId> {
        match self {
            Self::Cycle(value)
            | Self::Type { value, .. }
            | Self::StaleType { value, .. }
            | Self::WeightType { value, .. }
            | Self::WeightsDiffer { value, .. }
            | Self::Attribute { value, .. }
            | Self::LayerTaken { value, .. }
            | Self::MissingOutput(value)
            | Self::OutputType { value, .. } => Some(*value),
            Self::NoOutput => None,
        }
    }
}

/// The cache that one attention needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayer {
    /// [`AttentionSpec::layer`]
    pub layer: u32,
    /// The attention.
    pub value: ValueId,
    /// Heads of a position, G.
    pub kv_heads: usize,
    /// Elements of a key head, d.
    pub key_dim: usize,
    /// Elements of a value head, e.
    pub value_dim: usize,
}

/// What [`verify`] found; its existence is the proof that the graph is valid.
#[derive(Clone, Debug)]
pub struct GraphInfo {
    order: Vec<ValueId>,
    use_counts: Vec<usize>,
    layers: Vec<CacheLayer>,
    weights: BTreeMap<String, ValueId>,
}

impl GraphInfo {
    /// All values, arguments before users; [`Graph::order`].
    pub fn order(&self) -> &[ValueId] {
        &self.order
    }

    /// How often `value` is an argument or an output.
    pub fn use_count(&self, value: ValueId) -> usize {
        self.use_counts[value.index()]
    }

    /// [`Self::use_count`] by [`ValueId::index`]; 0 where there is no value.
    pub fn use_counts(&self) -> &[usize] {
        &self.use_counts
    }

    /// The caches, ascending by layer.
    pub fn layers(&self) -> &[CacheLayer] {
        &self.layers
    }

    /// The distinct weights by name, each with its first value in [`Self::order`].
    pub fn weights(&self) -> impl Iterator<Item = (&str, ValueId)> {
        self.weights.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// Checks every rule; see `docs/ir.md` for the list.
///
/// # Errors
/// The first broken rule in the graph's order, after those of the outputs' existence and cycles.
pub fn verify(graph: &Graph) -> Result<GraphInfo, VerifyError> {
    let missing = graph.outputs().iter().find(|&&output| !graph.contains(output));
    if let Some(output) = missing {
        return Err(VerifyError::MissingOutput(*output));
    }
    let order = graph.order().ok_or_else(|| VerifyError::Cycle(on_cycle(graph)))?;
    let mut weights = BTreeMap::new();
    let mut layers = BTreeMap::new();
    for &value in &order {
        match graph.op(value) {
            Op::Weight(name) => check_weight(graph, value, name, &mut weights)?,
            op => check_op(graph, value, op)?,
        }
        if let Op::Attention(spec) = graph.op(value) {
            add_layer(graph, value, spec, &mut layers)?;
        }
    }
    check_outputs(graph)?;
    let use_counts = use_counts(graph, &order);
    Ok(GraphInfo { order, use_counts, layers: layers.into_values().collect(), weights })
}

/// A value of a cycle: what cannot be ordered waits for an argument that cannot either, so going
/// from argument to argument must come back.
fn on_cycle(graph: &Graph) -> ValueId {
    let mut ordered = vec![false; graph.id_bound()];
    for value in graph.acyclic_part() {
        ordered[value.index()] = true;
    }
    let stuck = |v: &ValueId| !ordered[v.index()];
    let mut value = graph.values().find(stuck).expect("a graph without an order has a cycle");
    let mut seen = vec![false; graph.id_bound()];
    while !std::mem::replace(&mut seen[value.index()], true) {
        let stuck_input = graph.inputs(value).into_iter().find(stuck);
        value = stuck_input.expect("what waits, waits for an argument that waits");
    }
    value
}

fn check_weight(
    graph: &Graph,
    value: ValueId,
    name: &str,
    weights: &mut BTreeMap<String, ValueId>,
) -> Result<(), VerifyError> {
    let ty = graph.ty(value);
    if let Err(expected) = weight_type(ty) {
        return Err(VerifyError::WeightType { value, name: name.into(), ty: ty.clone(), expected });
    }
    let first_value = *weights.entry(name.to_owned()).or_insert(value);
    let first = graph.ty(first_value);
    if first == ty {
        return Ok(());
    }
    let (found, first) = (ty.clone(), first.clone());
    Err(VerifyError::WeightsDiffer { value, name: name.into(), found, first_value, first })
}

/// The rule that `ty` breaks as a weight's type.
fn weight_type(ty: &TensorType) -> Result<(), &'static str> {
    let Elem::Block(format) = ty.elem else { return Err("expected a block format") };
    if !matches!(ty.shape.len(), 1 | 2) {
        return Err("expected [N] or [N, K]");
    }
    let mut elements = 1usize;
    for dim in &ty.shape {
        let Dim::Size(size @ 1..) = *dim else { return Err("expected positive constant sizes") };
        elements = elements.checked_mul(size).ok_or("its element count overflows")?;
    }
    match ty.width() {
        Some(width) if width.is_multiple_of(format.block_len()) => Ok(()),
        _ => Err("expected rows of whole blocks"),
    }
}

fn check_op(graph: &Graph, value: ValueId, op: &Op) -> Result<(), VerifyError> {
    let inputs = graph.inputs(value);
    let types: Vec<&TensorType> = inputs.iter().map(|&v| graph.ty(v)).collect();
    let inferred = result_type(op, &types).map_err(|error| VerifyError::Type { value, error })?;
    if graph.ty(value) != &inferred {
        let found = graph.ty(value).clone();
        return Err(VerifyError::StaleType { value, found, inferred });
    }
    check_attributes(value, op)
}

fn check_attributes(value: ValueId, op: &Op) -> Result<(), VerifyError> {
    let ranges = Ranges { value, op: op.name() };
    match op {
        Op::RmsNorm { eps } => ranges.not_negative("eps", *eps),
        Op::Scale { factor } => ranges.finite("factor", *factor),
        Op::SoftCap { cap } => ranges.positive("cap", *cap),
        Op::Rope(spec) => check_rope(&ranges, spec),
        Op::Attention(spec) => {
            ranges.finite("scale", spec.scale)?;
            ranges.positive("softcap", spec.softcap.unwrap_or(1.0))?;
            ranges.at_least_one("window", spec.window.unwrap_or(1))
        }
        _ => Ok(()),
    }
}

fn check_rope(ranges: &Ranges, spec: &RopeSpec) -> Result<(), VerifyError> {
    ranges.positive("base", spec.base)?;
    match spec.scaling {
        RopeScaling::None => Ok(()),
        RopeScaling::Linear { factor } => ranges.positive("factor", factor),
        RopeScaling::Yarn {
            factor,
            original_context,
            ext_factor,
            attn_factor,
            beta_fast,
            beta_slow,
        } => {
            ranges.positive("factor", factor)?;
            ranges.at_least_one("original_context", original_context)?;
            ranges.finite("ext_factor", ext_factor)?;
            ranges.finite("attn_factor", attn_factor)?;
            ranges.positive("beta_fast", beta_fast)?;
            ranges.positive("beta_slow", beta_slow)?;
            // YaRN divides by the base's logarithm.
            ranges.check("base", spec.base, spec.base != 1.0, "other than 1 with yarn")
        }
    }
}

/// Checks attributes of one op against ranges. No range holds NaN.
struct Ranges {
    value: ValueId,
    op: &'static str,
}

impl Ranges {
    fn check(
        &self,
        attribute: &'static str,
        found: f32,
        fits: bool,
        expected: &'static str,
    ) -> Result<(), VerifyError> {
        if fits {
            return Ok(());
        }
        let (value, op) = (self.value, self.op);
        Err(VerifyError::Attribute { value, op, attribute, found, expected })
    }

    fn finite(&self, attribute: &'static str, x: f32) -> Result<(), VerifyError> {
        self.check(attribute, x, x.is_finite(), "a finite number")
    }

    fn positive(&self, attribute: &'static str, x: f32) -> Result<(), VerifyError> {
        self.check(attribute, x, x.is_finite() && x > 0.0, "a finite number above 0")
    }

    fn not_negative(&self, attribute: &'static str, x: f32) -> Result<(), VerifyError> {
        self.check(attribute, x, x.is_finite() && x >= 0.0, "a finite number, 0 or more")
    }

    fn at_least_one(&self, attribute: &'static str, n: u32) -> Result<(), VerifyError> {
        self.check(attribute, n as f32, n >= 1, "1 or more")
    }
}

fn add_layer(
    graph: &Graph,
    value: ValueId,
    spec: &AttentionSpec,
    layers: &mut BTreeMap<u32, CacheLayer>,
) -> Result<(), VerifyError> {
    let layer = spec.layer;
    if let Some(taken) = layers.get(&layer) {
        return Err(VerifyError::LayerTaken { value, layer, first: taken.value });
    }
    let inputs = graph.inputs(value);
    let size = |place: usize, axis: usize| {
        graph.ty(inputs[place]).size(axis).expect("inference found the heads constant")
    };
    let (kv_heads, key_dim, value_dim) = (size(1, 1), size(1, 2), size(2, 2));
    layers.insert(layer, CacheLayer { layer, value, kv_heads, key_dim, value_dim });
    Ok(())
}

fn check_outputs(graph: &Graph) -> Result<(), VerifyError> {
    if graph.outputs().is_empty() {
        return Err(VerifyError::NoOutput);
    }
    for &value in graph.outputs() {
        let ty = graph.ty(value);
        let rows = matches!(ty.shape.first(), Some(Dim::Rows | Dim::Outputs));
        if ty.elem != Elem::F32 || !rows {
            return Err(VerifyError::OutputType { value, ty: ty.clone() });
        }
    }
    Ok(())
}

fn use_counts(graph: &Graph, order: &[ValueId]) -> Vec<usize> {
    let mut counts = vec![0; graph.id_bound()];
    let arguments = order.iter().flat_map(|&value| graph.inputs(value));
    for used in arguments.chain(graph.outputs().iter().copied()) {
        counts[used.index()] += 1;
    }
    counts
}
