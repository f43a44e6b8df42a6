//! Up to 32 sequences on one driver, each with its slot of the cache, position and sampler.
//!
//! Tokens are queued with [`Session::push`]; each [`Session::step`] runs as many queued tokens as
//! fit, mixing single tokens of running sequences with chunks of new prompts. Which rows share a
//! step changes nothing in their results.

use crate::Error;
use crate::driver::{Driver, Limits, Row};
use crate::sampler::{Sampler, Sampling};

/// A sequence's place in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(u32);

/// Which of the pushed tokens give logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    None,
    Last,
    All,
}

/// One row of logits that the last step computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub slot: SlotId,
    /// Position of the token whose successor the logits predict.
    pub position: u32,
}

/// Rows that the last step ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepRows {
    pub rows: usize,
    /// Rows of slots that had more than one token queued.
    pub prompt_rows: usize,
}

struct Slot {
    open: bool,
    /// Tokens in the cache.
    position: u32,
    queue: Vec<u32>,
    /// Tokens of `queue` that already ran.
    done: usize,
    outputs: Outputs,
    sampler: Sampler,
    /// Index of the slot's last row of logits in the last step.
    logits: Option<usize>,
    /// Rows of the coming step.
    share: usize,
}

impl Slot {
    fn waiting(&self) -> usize {
        self.queue.len() - self.done
    }
}

/// Sequences on a driver. Memory is allocated by `new` and `push`, never by `step`.
pub struct Session {
    driver: Box<dyn Driver>,
    limits: Limits,
    slots: Vec<Slot>,
    /// Slot that is served first in the coming step; rotates, so that prompts advance alike.
    first: usize,
    rows: Vec<Row>,
    outputs: Vec<Output>,
    logits: Vec<f32>,
}

impl Session {
    /// A session with all of the driver's slots free.
    pub fn new(driver: Box<dyn Driver>) -> Self {
        let limits = driver.limits();
        let slot = || Slot {
            open: false,
            position: 0,
            queue: Vec::new(),
            done: 0,
            outputs: Outputs::None,
            sampler: Sampler::new(Sampling::GREEDY),
            logits: None,
            share: 0,
        };
        Self {
            driver,
            limits,
            slots: (0..limits.slots).map(|_| slot()).collect(),
            first: 0,
            rows: Vec::with_capacity(limits.max_rows),
            outputs: Vec::with_capacity(limits.max_rows),
            // Zeroed memory comes from the system untouched: rows that are never used cost none.
            logits: vec![0.0; limits.max_rows * limits.vocabulary as usize],
        }
    }

    /// What the driver's steps can hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Takes a free slot for a new, empty sequence.
    ///
    /// # Errors
    /// [`Error::NoSlot`] when all are taken, [`Error::Sampling`] for options out of range.
    pub fn open(&mut self, sampling: Sampling) -> Result<SlotId, Error> {
        sampling.validate()?;
        let Some(index) = self.slots.iter().position(|slot| !slot.open) else {
            return Err(Error::NoSlot { slots: self.limits.slots });
        };
        let slot = &mut self.slots[index];
        slot.open = true;
        slot.position = 0;
        slot.queue.clear();
        slot.done = 0;
        slot.sampler = Sampler::new(sampling);
        slot.logits = None;
        Ok(SlotId(index as u32))
    }

    /// Ends a sequence and frees its slot.
    pub fn close(&mut self, slot: SlotId) -> Result<(), Error> {
        self.slot(slot)?.open = false;
        Ok(())
    }

    /// Queues tokens at the end of a sequence and shows them to its sampler. `outputs` replaces
    /// the choice of earlier pushes for tokens that still wait.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, [`Error::ContextFull`]; the sequence is then unchanged.
    pub fn push(&mut self, id: SlotId, tokens: &[u32], outputs: Outputs) -> Result<(), Error> {
        let Limits { vocabulary, context, .. } = self.limits;
        let slot = self.slot(id)?;
        if let Some(&token) = tokens.iter().find(|&&token| token >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
        let held = slot.position as usize + slot.waiting();
        if held + tokens.len() > context as usize {
            return Err(Error::ContextFull { held: held as u32, adding: tokens.len(), context });
        }
        if slot.waiting() == 0 {
            slot.queue.clear();
            slot.done = 0;
        }
        slot.queue.extend_from_slice(tokens);
        slot.outputs = outputs;
        tokens.iter().for_each(|&token| slot.sampler.accept(token));
        Ok(())
    }

    /// Tokens of a sequence: those in the cache and those that wait.
    pub fn length(&self, id: SlotId) -> usize {
        self.slots[id.0 as usize].position as usize + self.slots[id.0 as usize].waiting()
    }

    /// Tokens of a sequence that wait for a step.
    pub fn waiting(&self, id: SlotId) -> usize {
        self.slots[id.0 as usize].waiting()
    }

    /// Runs one step over what is queued; nothing queued runs nothing.
    ///
    /// # Errors
    /// What the driver refuses; the sequences are then unchanged.
    pub fn step(&mut self) -> Result<StepRows, Error> {
        let rows = self.share_rows();
        self.gather_rows();
        for slot in &mut self.slots {
            slot.logits = None;
        }
        self.outputs.clear();
        if self.rows.is_empty() {
            return Ok(rows);
        }
        let outputs = self.rows.iter().filter(|row| row.output).count();
        let logits = &mut self.logits[..outputs * self.limits.vocabulary as usize];
        self.driver.step(&self.rows, logits)?;
        for row in &self.rows {
            let slot = &mut self.slots[row.slot as usize];
            slot.position += 1;
            slot.done += 1;
            if row.output {
                slot.logits = Some(self.outputs.len());
                self.outputs.push(Output { slot: SlotId(row.slot), position: row.position });
            }
        }
        self.first = (self.first + 1) % self.slots.len().max(1);
        Ok(rows)
    }

    /// The rows of logits that the last step computed.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Logits of `outputs()[index]`, one per token of the vocabulary.
    ///
    /// # Panics
    /// When there is no such output.
    pub fn logits(&self, index: usize) -> &[f32] {
        assert!(index < self.outputs.len(), "output {index} of {}", self.outputs.len());
        let width = self.limits.vocabulary as usize;
        &self.logits[index * width..][..width]
    }

    /// Whether the last step computed logits for the sequence.
    pub fn has_logits(&self, id: SlotId) -> bool {
        self.slots[id.0 as usize].logits.is_some()
    }

    /// Draws the sequence's next token with its sampler. The token is not queued.
    ///
    /// # Errors
    /// [`Error::NoLogits`] when the last step did not compute the sequence's logits,
    /// [`Error::NotFinite`] when it gave no number for the token drawn.
    pub fn sample(&mut self, id: SlotId) -> Result<u32, Error> {
        let width = self.limits.vocabulary as usize;
        let Some(index) = self.slot(id)?.logits else {
            return Err(Error::NoLogits { slot: id.0 });
        };
        let logits = &mut self.logits[index * width..][..width];
        let token = self.slots[id.0 as usize].sampler.sample(logits);
        // NaN never wins a comparison, so a token with a number is drawn where there is one.
        if logits[token as usize].is_finite() {
            Ok(token)
        } else {
            Err(Error::NotFinite { slot: id.0, token })
        }
    }

    fn slot(&mut self, id: SlotId) -> Result<&mut Slot, Error> {
        let slots = self.limits.slots;
        let slot = self.slots.get_mut(id.0 as usize).filter(|slot| slot.open);
        slot.ok_or(Error::Slot { slot: id.0, slots })
    }

    /// Deals the step's rows out: one for every sequence that waits, so that running ones never
    /// stall behind a prompt, then equal parts of the rest until rows or tokens run out.
    fn share_rows(&mut self) -> StepRows {
        let mut left = self.limits.max_rows;
        let count = self.slots.len();
        let order = (0..count).map(|i| (self.first + i) % count);
        for index in order.clone() {
            let slot = &mut self.slots[index];
            slot.share = usize::from(slot.open && slot.waiting() > 0 && left > 0);
            left -= slot.share;
        }
        loop {
            let wants = |slot: &Slot| slot.share > 0 && slot.waiting() > slot.share;
            let hungry = self.slots.iter().filter(|slot| wants(slot)).count();
            if left == 0 || hungry == 0 {
                break;
            }
            let part = left.div_ceil(hungry);
            for index in order.clone() {
                let slot = &mut self.slots[index];
                if wants(slot) {
                    let more = part.min(slot.waiting() - slot.share).min(left);
                    slot.share += more;
                    left -= more;
                }
            }
        }
        let rows = self.limits.max_rows - left;
        let prompts = self.slots.iter().filter(|slot| slot.share > 0 && slot.queue.len() > 1);
        StepRows { rows, prompt_rows: prompts.map(|slot| slot.share).sum() }
    }

    fn gather_rows(&mut self) {
        self.rows.clear();
        for (index, slot) in (0_u32..).zip(&self.slots) {
            let tokens = &slot.queue[slot.done..slot.done + slot.share];
            for (position, &token) in (slot.position..).zip(tokens) {
                let last = (position - slot.position) as usize + 1 == slot.waiting();
                let output = match slot.outputs {
                    Outputs::None => false,
                    Outputs::Last => last,
                    Outputs::All => true,
                };
                self.rows.push(Row { token, position, slot: index, output });
            }
        }
    }
}
