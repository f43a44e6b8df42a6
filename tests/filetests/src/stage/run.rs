//! `; test run`: the graph's outputs for given weights and steps. The interpreter runs it here;
//! other drivers take the same [`RunCase`].
//!
//! ```text
//! ; weight "w" = 1 -0.5 2       values of a weight, row-major
//! ; seed 7                      the other weights: a fixed function of seed, name and index
//! ; cache f16                   instead of f32; or q8
//! ; step 5@0 6@1 9@0/2~         token@position, of slot 2, `~`: without output
//! ; check: step 0: 1 2 | 3 4    rows of the output
//! ```

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::Range;

use onebit_ir::interp::{CacheKind, Interp, InterpOptions, Row, WeightError, WeightSource};
use onebit_ir::{Graph, GraphInfo};

use crate::{Case, Outcome};

/// Positions and slots that any run case may use.
const LIMIT: NonZeroU32 = NonZeroU32::new(32).unwrap();

/// A graph with weights and steps.
pub struct RunCase {
    /// The graph.
    pub graph: Graph,
    /// The proof that it is valid.
    pub info: GraphInfo,
    /// Its weights.
    pub weights: TestWeights,
    /// How the expected values keep keys and values.
    pub cache: CacheKind,
    /// Rows of each step.
    pub steps: Vec<Vec<Row>>,
}

impl RunCase {
    /// Reads a case of the stage `run`.
    pub fn new(case: &Case) -> Result<Self, String> {
        let (graph, _) = case.graph()?;
        let info = onebit_ir::verify(&graph).map_err(|e| e.to_string())?;
        let steps: Result<_, _> = case.directives("step").map(parse_step).collect();
        let cache = match case.directives("cache").next() {
            None | Some("f32") => CacheKind::F32,
            Some("f16") => CacheKind::F16,
            Some("q8") => CacheKind::Q8,
            Some(other) => return Err(format!("no cache is called `{other}`")),
        };
        Ok(Self { graph, info, weights: TestWeights::new(case)?, cache, steps: steps? })
    }

    /// The line that must stand in the case for output `output` of step `step`.
    pub fn line(&self, step: usize, output: usize, values: &[f32]) -> String {
        let ty = self.graph.ty(self.graph.outputs()[output]);
        let row: usize = (1..ty.shape.len()).filter_map(|axis| ty.size(axis)).product();
        let words = |row: &[f32]| row.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
        let rows: Vec<String> = values.chunks(row).map(words).collect();
        let which = match self.graph.outputs().len() {
            1 => String::new(),
            _ => format!(" output {output}"),
        };
        format!("step {step}{which}: {}", rows.join(" | "))
    }
}

pub(crate) fn run(case: &Case) -> Result<Outcome, String> {
    let case = RunCase::new(case)?;
    let options = InterpOptions {
        context: LIMIT,
        slots: LIMIT,
        cache: case.cache,
        weight_memory: usize::MAX,
    };
    let mut interp = Interp::new(&case.graph, &case.info, &case.weights, options);
    let mut lines = Vec::new();
    for (step, rows) in case.steps.iter().enumerate() {
        let outputs = interp.run(rows).map_err(|e| format!("step {step}: {e}"))?;
        for (output, values) in outputs.iter().enumerate() {
            lines.push(case.line(step, output, values));
        }
    }
    if lines.is_empty() {
        return Err("there is no `; step`".into());
    }
    Ok(Outcome::Lines(lines))
}

fn parse_step(text: &str) -> Result<Vec<Row>, String> {
    text.split_whitespace().map(parse_row).collect()
}

/// `token@position[/slot][~]`
fn parse_row(word: &str) -> Result<Row, String> {
    let parse = || {
        let (rest, output) = match word.strip_suffix('~') {
            Some(rest) => (rest, false),
            None => (word, true),
        };
        let (token, place) = rest.split_once('@')?;
        let (position, slot) = place.split_once('/').unwrap_or((place, "0"));
        let (token, position) = (token.parse().ok()?, position.parse().ok()?);
        Some(Row { token, position, slot: slot.parse().ok()?, output })
    };
    parse().ok_or_else(|| format!("expected a row token@position[/slot][~], found `{word}`"))
}

/// Weights that a case spells out, and seeded ones for the rest: multiples of 1/64 in -1..1, which
/// every float format holds exactly.
pub struct TestWeights {
    seed: u64,
    given: HashMap<String, Vec<f32>>,
}

impl TestWeights {
    fn new(case: &Case) -> Result<Self, String> {
        let seed = case.directives("seed").next().unwrap_or("0");
        let seed = seed.parse().map_err(|_| format!("expected a seed, found `{seed}`"))?;
        let given: Result<_, _> = case.directives("weight").map(parse_weight).collect();
        Ok(Self { seed, given: given? })
    }

    fn element(&self, name: &str, index: usize) -> f32 {
        let start = name.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        let sixty_fourths = mix(start.wrapping_add(index as u64)) >> 57;
        (sixty_fourths as f32 - 64.0) / 64.0
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `"name" = value value ..`
fn parse_weight(text: &str) -> Result<(String, Vec<f32>), String> {
    let parse = || {
        let (name, values) = text.strip_prefix('"')?.split_once("\" = ")?;
        let values: Option<Vec<f32>> =
            values.split_whitespace().map(|word| word.parse().ok()).collect();
        Some((name.to_owned(), values?))
    };
    parse().ok_or_else(|| format!("expected a weight \"name\" = numbers, found `{text}`"))
}

impl WeightSource for TestWeights {
    fn rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightError> {
        let width = out.len() / rows.len();
        let elements = rows.start * width..rows.end * width;
        let Some(given) = self.given.get(name) else {
            for (index, value) in elements.zip(out) {
                *value = self.element(name, index);
            }
            return Ok(());
        };
        let Some(given) = given.get(elements) else {
            let reason = format!("{} values do not reach row {}", given.len(), rows.end - 1);
            return Err(WeightError { name: name.into(), reason });
        };
        out.copy_from_slice(given);
        Ok(())
    }
}
