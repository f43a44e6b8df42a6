//! The cycles of a block's operations, under a [`Spacing`].

use std::collections::BTreeMap;

use super::{Class, DELAY_SLOTS, Effect, Exit, Operation, Place, Spacing};
use crate::isa::{Instruction, IsaError, Slot};

/// What is known of a register while operations are placed.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Cycle in which it was last written, and with what.
    write: Option<(usize, Class)>,
    /// From this cycle on it may be written again.
    free: usize,
}

/// What memory and locks saw last, as the first cycle in which the next one may come.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    after_acquire: usize,
    after_lock: usize,
    after_store: usize,
    after_access: usize,
    release: usize,
}

/// Operations and their cycles.
pub(in crate::gemm) struct Schedule<'a> {
    spacing: &'a Spacing,
    words: Vec<Vec<String>>,
    taken: Vec<Vec<Slot>>,
    uses: BTreeMap<Place, Use>,
    order: Order,
    /// The first cycle in which everything has landed.
    end: usize,
}

/// Cycles after issue in which a product still reads its accumulator (llvm-aie: cycle 4).
const ACCUMULATOR_READ: usize = 3;

/// Cycles for which a lock operation keeps the core's lock unit (llvm-aie `AIE2PGenSchedule.td`:
/// `II_ACQ_*`, `LCKREQ`): the next one may not come before.
pub(super) const LOCK_UNIT: usize = 4;

impl<'a> Schedule<'a> {
    pub fn new(spacing: &'a Spacing) -> Self {
        let (words, taken, uses) = (Vec::new(), Vec::new(), BTreeMap::new());
        Schedule { spacing, words, taken, uses, order: Order::default(), end: 0 }
    }

    fn latency(&self, class: Class) -> usize {
        match class {
            Class::Scalar => 1,
            Class::Multiply => self.spacing.multiply,
            Class::Load => self.spacing.load,
            Class::Vector => self.spacing.vector,
            Class::Matrix => self.spacing.matrix,
        }
    }

    /// Gives `operation` the first cycle from `from` on in which it may come; that cycle.
    pub fn place(&mut self, operation: &Operation, from: usize) -> Result<usize, IsaError> {
        let slot = slot_of(&operation.text)?;
        let cycle = self.issue(self.earliest(operation).max(from), slot, &operation.text);
        let is_product = operation.writes.iter().any(|(_, class)| *class == Class::Matrix);
        for &place in &operation.reads {
            let is_late = is_product && matches!(place, Place::Quarter(..));
            let read = cycle + if is_late { ACCUMULATOR_READ } else { 0 };
            let entry = self.uses.entry(place).or_default();
            entry.free = entry.free.max(read);
        }
        for &(place, class) in &operation.writes {
            self.end = self.end.max(cycle + self.latency(class));
            self.uses.entry(place).or_default().write = Some((cycle, class));
        }
        self.note_effect(operation.effect, cycle);
        Ok(cycle)
    }

    /// Puts the jump of `exit`, if there is one, into the first word from `from` on in which it
    /// may come; the first cycle after its delay slots.
    pub fn exit(&mut self, exit: &Exit, from: usize) -> usize {
        let (text, condition) = match exit {
            Exit::Next => return 0,
            Exit::Jump(label) => (format!("j #@{label}"), None),
            Exit::NotZero(place, label) => (format!("jnz {place}, #@{label}"), Some(place)),
            Exit::Zero(place, label) => (format!("jz {place}, #@{label}"), Some(place)),
        };
        let written = condition.and_then(|place| self.uses.get(place)?.write);
        let ready = written.map_or(0, |(cycle, class)| cycle + self.latency(class));
        self.issue(ready.max(from), Slot::Lng, &text) + 1 + DELAY_SLOTS
    }

    fn earliest(&self, operation: &Operation) -> usize {
        let order = &self.order;
        let mut cycle = match operation.effect {
            Effect::None => 0,
            Effect::Load => order.after_acquire.max(order.after_store),
            Effect::Store => order.after_acquire.max(order.after_access),
            Effect::StoreApart => order.after_acquire,
            Effect::Acquire => order.after_lock,
            Effect::Release => order.after_lock.max(order.release),
        };
        let is_product = operation.writes.iter().any(|(_, class)| *class == Class::Matrix);
        for place in &operation.reads {
            let Some((written, class)) = self.uses.get(place).and_then(|known| known.write) else {
                continue;
            };
            let is_chain = is_product && class == Class::Matrix;
            let wait = if is_chain { self.spacing.chain } else { self.latency(class) };
            cycle = cycle.max(written + wait);
        }
        for (place, class) in &operation.writes {
            let Some(known) = self.uses.get(place) else { continue };
            cycle = cycle.max(known.free);
            // Results of one class land in order; of two classes the later may overtake.
            if let Some((written, before)) = known.write {
                let wait = if before == *class { 1 } else { self.latency(before) };
                cycle = cycle.max(written + wait);
            }
        }
        cycle
    }

    fn note_effect(&mut self, effect: Effect, cycle: usize) {
        let (spacing, order) = (self.spacing, &mut self.order);
        match effect {
            Effect::None => {}
            Effect::Load => {
                order.after_access = order.after_access.max(cycle + 1);
                order.release = order.release.max(cycle + spacing.lock);
            }
            Effect::Store => {
                order.after_access = order.after_access.max(cycle + 1);
                order.after_store = order.after_store.max(cycle + spacing.store);
                order.release = order.release.max(cycle + spacing.lock);
                self.end = self.end.max(cycle + spacing.store.max(spacing.lock));
            }
            Effect::StoreApart => {
                order.release = order.release.max(cycle + spacing.lock);
                self.end = self.end.max(cycle + spacing.store.max(spacing.lock));
            }
            Effect::Acquire => {
                order.after_lock = cycle + LOCK_UNIT;
                order.after_acquire = cycle + spacing.lock;
                self.end = self.end.max(cycle + spacing.lock);
            }
            Effect::Release => {
                order.after_lock = cycle + LOCK_UNIT;
                self.end = self.end.max(cycle + LOCK_UNIT);
            }
        }
    }

    /// Puts an operation into the first word from `earliest` on that has room for it.
    fn issue(&mut self, earliest: usize, slot: Slot, text: &str) -> usize {
        let mut cycle = earliest;
        loop {
            if self.words.len() <= cycle {
                self.words.resize(cycle + 1, Vec::new());
                self.taken.resize(cycle + 1, Vec::new());
            }
            if is_free(&self.taken[cycle], slot) {
                self.taken[cycle].push(slot);
                self.words[cycle].push(text.to_owned());
                return cycle;
            }
            cycle += 1;
        }
    }

    /// Adds the jump, such that the block ends as soon as everything has landed.
    pub fn leave(mut self, exit: &Exit) -> Vec<Vec<String>> {
        let length = self.end.max(self.words.len());
        let length = length.max(self.exit(exit, length.saturating_sub(1 + DELAY_SLOTS)));
        self.words.resize(length, Vec::new());
        self.words
    }
}

fn slot_of(text: &str) -> Result<Slot, IsaError> {
    let unknown = || IsaError::Syntax {
        line: 0,
        text: text.to_owned(),
        reason: "no operation of the table".to_owned(),
    };
    Ok(Instruction::parse(text).ok_or_else(unknown)?.slot())
}

/// Whether a word with these slots has room; a long operation takes the place of Alu and Mv.
fn is_free(taken: &[Slot], slot: Slot) -> bool {
    let covers = |a: Slot, b: Slot| a == Slot::Lng && matches!(b, Slot::Alu | Slot::Mv);
    taken.iter().all(|&other| other != slot && !covers(other, slot) && !covers(slot, other))
}
