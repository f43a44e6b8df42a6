//! The seam between sequences and devices: a driver runs one step over a batch of rows.

pub mod cpu;
pub mod npu;
pub mod vulkan;

use crate::Error;

/// One token of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub token: u32,
    /// Place of the token in its sequence; the cache of its slot holds all positions before it.
    pub position: u32,
    /// Which part of the cache the sequence owns.
    pub slot: u32,
    /// Whether the step computes this row's logits.
    pub output: bool,
}

/// A value of the IR as the step or dispatch that made it left it.
#[derive(Clone, Debug, PartialEq)]
pub struct TappedValue {
    /// `%57`, see [`onebit_plan::manifest::Tap::value`].
    pub value: String,
    /// `linear`
    pub op: String,
    /// One row, heads together.
    pub row: Vec<f32>,
}

/// What a driver's steps can hold. Fixed at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens are below this; also the floats of one row of logits.
    pub vocabulary: u32,
    /// Positions are below this.
    pub context: u32,
    /// Slots are below this.
    pub slots: u32,
    /// Rows of one step.
    pub max_rows: usize,
}

/// Runs a plan's steps on one device.
pub trait Driver {
    /// The bounds that [`Driver::step`] enforces.
    fn limits(&self) -> Limits;

    /// Runs all rows and writes one row of `vocabulary` logits for each row with `output` set, in
    /// the order of the rows. Rows of one slot stand in ascending, consecutive positions. A row's
    /// logits depend on its own sequence only: bit for bit where the driver is
    /// [uniform](Driver::is_uniform).
    ///
    /// # Errors
    /// Rows outside the [`Limits`], or `logits` of another size. The cache is then unchanged.
    fn step(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<(), Error>;

    /// Whether a row's logits have the same bits in any step, whatever other rows it has. A driver
    /// whose steps of many rows round otherwise than those of few says `false`: logits then depend
    /// on the number of rows of this step and, by the cache, of those before.
    fn is_uniform(&self) -> bool {
        true
    }

    /// Continues sequences by up to `steps` tokens without a look at any: after each step the
    /// token with the largest logit, the lowest of several, is the sequence's next. Every row has
    /// `output` set and a slot of its own. `picks[step][row]` gets the tokens; the last of each
    /// row has not run. Returns the steps done: fewer where the context ends or the driver takes
    /// fewer at once, and 0 from a driver that cannot.
    ///
    /// # Errors
    /// Rows outside the [`Limits`], too few `picks`, logits that are no numbers.
    fn decode_ahead(
        &mut self,
        rows: &[Row],
        steps: usize,
        picks: &mut [u32],
    ) -> Result<usize, Error> {
        let _ = (rows, steps, picks);
        Ok(0)
    }
}

/// Checks the rows of a step against a driver's limits.
pub struct RowCheck {
    limits: Limits,
    /// Per slot, the position that its next row of this step must have.
    next: Vec<Option<u32>>,
}

impl RowCheck {
    /// A check that can be used for any number of steps without allocating.
    pub fn new(limits: Limits) -> Self {
        Self { limits, next: vec![None; limits.slots as usize] }
    }

    /// Whether every row may run, and `logits_len` is what the step will write.
    pub fn check(&mut self, rows: &[Row], logits_len: usize) -> Result<(), Error> {
        let Limits { vocabulary, context, slots, max_rows } = self.limits;
        if rows.is_empty() || rows.len() > max_rows {
            return Err(Error::Rows { rows: rows.len(), max_rows });
        }
        self.next.fill(None);
        for row in rows {
            if row.token >= vocabulary {
                return Err(Error::Token { token: row.token, vocabulary });
            }
            if row.position >= context {
                return Err(Error::ContextFull { held: row.position, adding: 1, context });
            }
            let Some(next) = self.next.get_mut(row.slot as usize) else {
                return Err(Error::Slot { slot: row.slot, slots });
            };
            if let Some(expected) = next.replace(row.position + 1)
                && expected != row.position
            {
                return Err(Error::Position { slot: row.slot, expected, found: row.position });
            }
        }
        let expected = rows.iter().filter(|row| row.output).count() * vocabulary as usize;
        if logits_len != expected {
            return Err(Error::Logits { expected, found: logits_len });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_outside_the_limits_are_refused() {
        let limits = Limits { vocabulary: 10, context: 4, slots: 2, max_rows: 3 };
        let mut check = RowCheck::new(limits);
        let row = Row { token: 9, position: 3, slot: 1, output: true };
        assert!(check.check(&[row], 10).is_ok());
        assert!(matches!(check.check(&[], 0), Err(Error::Rows { rows: 0, .. })));
        assert!(matches!(check.check(&[row; 4], 40), Err(Error::Rows { rows: 4, .. })));
        assert!(matches!(check.check(&[row], 20), Err(Error::Logits { expected: 10, .. })));
        let token = check.check(&[Row { token: 10, ..row }], 10);
        assert!(matches!(token, Err(Error::Token { token: 10, .. })));
        let position = check.check(&[Row { position: 4, ..row }], 10);
        assert!(matches!(position, Err(Error::ContextFull { held: 4, .. })));
        let slot = check.check(&[Row { slot: 2, ..row }], 10);
        assert!(matches!(slot, Err(Error::Slot { slot: 2, .. })));
        let first = Row { position: 0, ..row };
        let second = Row { position: 1, ..row };
        assert!(check.check(&[first, second], 20).is_ok());
        assert!(matches!(check.check(&[first, first], 20), Err(Error::Position { .. })));
        assert!(matches!(check.check(&[second, first], 20), Err(Error::Position { .. })));
    }
}
