//! The golden tokens on a device, through each of its entries that they fit.

use onebit_plan::golden::Golden;

use super::compare::{Comparison, compare};
use super::tolerance::Tolerance;
use crate::Error;
use crate::driver::{Driver, Row, TappedValue};

/// A driver that can show what the steps inside a step leave.
pub trait Traced: Driver {
    /// Rows of the entries that steps choose among, ascending.
    fn entry_rows(&self) -> Vec<usize>;

    /// Runs a step as [`Driver::step`] does and gives all values of the graph, in the row `keep` of
    /// the step, that stand in memory on the way.
    ///
    /// # Errors
    /// As [`Driver::step`]; a plan that says nothing of such values.
    fn step_with_values(
        &mut self,
        rows: &[Row],
        logits: &mut [f32],
        keep: usize,
    ) -> Result<Vec<TappedValue>, Error>;
}

/// One pass over the golden tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Rows of its largest step.
    pub rows: usize,
    pub comparison: Comparison,
}

/// Runs the tokens in steps of as many rows as each entry has, at most all of them, and compares
/// what the last step leaves at the last token.
///
/// # Errors
/// What the driver refuses.
pub fn steps(
    driver: &mut dyn Traced,
    golden: &Golden,
    tolerance: Tolerance,
) -> Result<Vec<Stage>, Error> {
    let all = golden.tokens.len();
    let mut sizes: Vec<usize> =
        driver.entry_rows().into_iter().map(|rows| rows.clamp(1, all)).collect();
    sizes.push(1);
    sizes.sort_unstable();
    sizes.dedup();
    let vocabulary = driver.limits().vocabulary as usize;
    let rows: Vec<Row> = (0u32..)
        .zip(&golden.tokens)
        .map(|(position, &token)| Row {
            token,
            position,
            slot: 0,
            output: position as usize + 1 == all,
        })
        .collect();
    let mut stages = Vec::with_capacity(sizes.len());
    for size in sizes {
        let mut logits = vec![f32::NAN; vocabulary];
        // The last step is a whole one, so that its entry is the one that is meant.
        let (before, last) = rows.split_at(all - size);
        for step in before.chunks(size) {
            driver.step(step, &mut [])?;
        }
        let values = driver.step_with_values(last, &mut logits, size - 1)?;
        let comparison = compare(golden, &values, &logits, tolerance);
        stages.push(Stage { rows: size, comparison });
    }
    Ok(stages)
}
