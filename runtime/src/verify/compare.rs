//! One run of a step against the golden values.

use std::collections::HashMap;

use onebit_plan::golden::{Distance, Golden, GoldenValue, SKETCH_GROUP, Sketch};

use super::tolerance::Tolerance;
use crate::driver::TappedValue;

/// What the comparison found.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Values that were looked at, the logits among them.
    pub values: usize,
    /// The value that is nearest to its limit, or furthest beyond it.
    pub nearest: Nearest,
    /// Largest difference of the golden logits, by the root mean square of all logits.
    pub logits: f32,
    /// Golden logits that are among as many of the device's largest.
    pub shared: usize,
    /// Golden logits.
    pub top: usize,
    /// The first value, in the order of the graph, that is not what it should be.
    pub divergence: Option<Divergence>,
}

/// A value with its distance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearest {
    /// The larger of both distances, by what is allowed.
    pub share: f32,
    /// `%57`
    pub value: String,
    pub found: Distance,
    pub allowed: Distance,
}

/// A value that is further from the golden one than rounding takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// `%57`
    pub value: String,
    /// `linear blk.3.ffn_down.weight`
    pub node: String,
    /// The distance that is too large, and what is allowed.
    pub found: f32,
    pub allowed: f32,
    pub what: Kind,
}

/// Which distance is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Row,
    /// Elements from this one on.
    Group(usize),
    /// A logit of this token.
    Logit(u32),
    /// Something is no number, or the row has another length.
    Form,
}

/// Compares what a step left at its last row with the golden values.
pub(super) fn compare(
    golden: &Golden,
    found: &[TappedValue],
    logits: &[f32],
    tolerance: Tolerance,
) -> Comparison {
    // A value that several dispatches leave is the last one's.
    let mut rows: HashMap<&str, &[f32]> =
        found.iter().map(|value| (value.value.as_str(), value.row.as_slice())).collect();
    let last = golden.values.last();
    if let Some(last) = last {
        rows.insert(&last.value, logits);
    }
    let mut result = Comparison {
        values: 0,
        nearest: Nearest::default(),
        logits: 0.0,
        shared: 0,
        top: golden.top.len(),
        divergence: None,
    };
    for value in &golden.values {
        let Some(row) = rows.get(value.value.as_str()) else { continue };
        result.values += 1;
        result.value(value, row, tolerance);
    }
    if let Some(last) = last {
        result.top(golden, last, logits, tolerance);
    }
    result
}

impl Comparison {
    fn value(&mut self, golden: &GoldenValue, row: &[f32], tolerance: Tolerance) {
        let sketch = Sketch::of(row);
        let formed = row.len() == golden.columns as usize && sketch.rms.is_finite();
        if !formed {
            self.diverge(golden, f32::NAN, 0.0, Kind::Form);
            return;
        }
        let (found, at) = Distance::between(&golden.sketch, &sketch, row.len());
        let allowed = tolerance.of(golden);
        let share = (found.row / allowed.row).max(found.group / allowed.group);
        if share > self.nearest.share {
            let value = golden.value.clone();
            self.nearest = Nearest { share, value, found, allowed };
        }
        if found.row > allowed.row {
            self.diverge(golden, found.row, allowed.row, Kind::Row);
        } else if found.group > allowed.group {
            self.diverge(golden, found.group, allowed.group, Kind::Group(at));
        }
    }

    /// The golden logits themselves, and whether they are the largest here, too.
    fn top(&mut self, golden: &Golden, last: &GoldenValue, logits: &[f32], tolerance: Tolerance) {
        let rms = last.sketch.rms.max(f32::MIN_POSITIVE);
        // A single element may be as far off as the sum of a group, which is for four.
        let allowed = tolerance.of(last).group * (SKETCH_GROUP as f32).sqrt();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        order.truncate(golden.top.len());
        for top in &golden.top {
            let token = top.token as usize;
            self.shared += usize::from(order.contains(&token));
            let found = logits.get(token).copied().unwrap_or(f32::NAN);
            let difference = (found - top.logit).abs() / rms;
            self.logits = self.logits.max(difference);
            if difference.is_nan() || difference > allowed {
                self.diverge(last, difference, allowed, Kind::Logit(top.token));
            }
        }
    }

    fn diverge(&mut self, golden: &GoldenValue, found: f32, allowed: f32, what: Kind) {
        let (value, node) = (golden.value.clone(), golden.node.clone());
        self.divergence.get_or_insert(Divergence { value, node, found, allowed, what });
    }
}
