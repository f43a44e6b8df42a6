//! Up to 32 sequences on one driver, each with its slot of the cache, position and sampler.
//!
//! Tokens are queued with [`Session::push`]; each [`Session::step`] runs as many queued tokens as
//! fit, mixing single tokens of running sequences with chunks of new prompts. Which rows share a
//! step changes nothing in their results with a driver that is [uniform](Session::is_uniform).

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
    /// The last one, and only for [`Session::sample`]: where the driver picks tokens itself there
    /// are no logits to look at.
    Next,
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
    /// Tokens that the driver picked ahead; all but the last already ran.
    ahead: Vec<u32>,
    /// Which of them is next, when that is known without logits.
    picked: Option<usize>,
}

impl Slot {
    fn waiting(&self) -> usize {
        self.queue.len() - self.done
    }

    /// Whether the driver may pick this slot's tokens.
    fn looks_ahead(&self) -> bool {
        self.waiting() == 1 && self.outputs == Outputs::Next && self.sampler.is_greedy()
    }

    /// Whether the token that waits is the one that the driver picked and ran. `picked` is of the
    /// step before.
    fn ran_ahead(&self) -> bool {
        let Some(at) = self.picked else { return false };
        self.waiting() == 1
            && at + 1 < self.ahead.len()
            && self.outputs == Outputs::Next
            && self.queue[self.done] == self.ahead[at]
    }

    /// Counts a token as run.
    fn advance(&mut self) {
        self.position += 1;
        self.done += 1;
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
    picks: Vec<u32>,
}

/// Tokens that a driver is asked for at once.
const AHEAD: usize = 16;

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
            ahead: Vec::with_capacity(AHEAD),
            picked: None,
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
            picks: vec![0; AHEAD * limits.max_rows],
        }
    }

    /// What the driver's steps can hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether a sequence's logits have the same bits whatever shares its steps, see
    /// [`Driver::is_uniform`].
    pub fn is_uniform(&self) -> bool {
        self.driver.is_uniform()
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
        slot.picked = None;
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
    /// What the driver refuses; the sequences are then unchanged, but for what they know ahead.
    pub fn step(&mut self) -> Result<StepRows, Error> {
        self.step_ahead(1)
    }

    /// As [`Session::step`], for a caller that wants up to `most` tokens of every sequence and
    /// draws them with [`Session::sample`]. Where all that waits is one token each of greedy
    /// sequences with [`Outputs::Next`], the driver may run several steps at once; the following
    /// calls then only hand out what it found. Sequences and tokens are the same with any `most`.
    ///
    /// # Errors
    /// As of [`Session::step`].
    pub fn step_ahead(&mut self, most: usize) -> Result<StepRows, Error> {
        let known = self.take_ahead();
        let mut rows = self.share_rows();
        self.gather_rows();
        self.outputs.clear();
        if !self.rows.is_empty() {
            let ran = known == 0 && self.run_ahead(most)?;
            if !ran {
                self.run()?;
            }
            self.first = (self.first + 1) % self.slots.len().max(1);
        }
        rows.rows += known;
        Ok(rows)
    }

    /// Lets sequences advance whose tokens the driver ran before; how many.
    fn take_ahead(&mut self) -> usize {
        let mut known = 0;
        for slot in self.slots.iter_mut().filter(|slot| slot.open) {
            slot.logits = None;
            let next = slot.picked.filter(|_| slot.ran_ahead()).map(|at| at + 1);
            if next.is_some() {
                slot.advance();
                known += 1;
            }
            slot.picked = next;
        }
        known
    }

    /// Lets the driver pick tokens, when that is all that is wanted; whether it did.
    fn run_ahead(&mut self, most: usize) -> Result<bool, Error> {
        let slots = &self.slots;
        let alone = self.rows.iter().all(|row| slots[row.slot as usize].looks_ahead());
        let most = most.min(AHEAD);
        if most < 2 || !alone {
            return Ok(false);
        }
        let steps = self.driver.decode_ahead(&self.rows, most, &mut self.picks)?;
        if steps == 0 {
            return Ok(false);
        }
        for (index, row) in self.rows.iter().enumerate() {
            let slot = &mut self.slots[row.slot as usize];
            slot.advance();
            slot.ahead.clear();
            let picks = self.picks[index..].iter().step_by(self.rows.len()).take(steps);
            slot.ahead.extend(picks);
            slot.picked = Some(0);
        }
        Ok(true)
    }

    /// Runs the gathered rows.
    fn run(&mut self) -> Result<(), Error> {
        let outputs = self.rows.iter().filter(|row| row.output).count();
        let logits = &mut self.logits[..outputs * self.limits.vocabulary as usize];
        self.driver.step(&self.rows, logits)?;
        for row in &self.rows {
            let slot = &mut self.slots[row.slot as usize];
            slot.advance();
            if row.output {
                slot.logits = Some(self.outputs.len());
                self.outputs.push(Output { slot: SlotId(row.slot), position: row.position });
            }
        }
        Ok(())
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

    /// Whether the last step computed logits for the sequence, or picked its next token.
    pub fn has_logits(&self, id: SlotId) -> bool {
        let slot = &self.slots[id.0 as usize];
        slot.logits.is_some() || slot.picked.is_some()
    }

    /// Draws the sequence's next token with its sampler. The token is not queued.
    ///
    /// # Errors
    /// [`Error::NoLogits`] when the last step did not compute the sequence's logits,
    /// [`Error::NotFinite`] when it gave no number for the token drawn.
    pub fn sample(&mut self, id: SlotId) -> Result<u32, Error> {
        let width = self.limits.vocabulary as usize;
        let slot = self.slot(id)?;
        if let Some(at) = slot.picked {
            return Ok(slot.ahead[at]);
        }
        let Some(index) = slot.logits else {
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
                    Outputs::Last | Outputs::Next => last,
                    Outputs::All => true,
                };
                self.rows.push(Row { token, position, slot: index, output });
            }
        }
    }
}
