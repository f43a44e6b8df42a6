//! A loop whose turns overlap: the products of one step run beside the loads of a later one.
//!
//! A [`Loop`] says what a step loads and multiplies. [`Loop::schedule`] starts a step every
//! *interval* cycles, the same way each time (a modulo schedule): products one after the other from
//! the step's cycle 0 on, each load as late as the [`Spacing`] allows, so before cycle 0. A step
//! needs more registers than one interval leaves free, so several steps make a turn, whose words
//! are written out, and each load of a turn gets a register of its own choice.
//!
//! A register is taken from the issue of its load to the issue of its last reader, both included in
//! what may go wrong: the load may land in the next cycle or only when the spacing says. So
//! the schedule is right for every latency from one to the spacing's. What an accumulator needs is
//! that a sum is there after `Spacing::chain` cycles; no interval is shorter than that, because
//! each accumulator is added to in every step.
//!
//! The interval is the shortest for which slots, registers and jumps have room.

use super::block::{Block, DELAY_SLOTS, Exit, Part, Place, Schedule, Spacing};
use crate::isa::IsaError;

/// Vector registers of the core.
const VECTORS: usize = 12;

/// One of the two units that load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Slot `lda`.
    A,
    /// Slot `ldb`.
    B,
}

/// 64 bytes that each step loads, and the pointer that it moves behind them.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Through which unit.
    pub unit: Unit,
    /// From where.
    pub pointer: Place,
}

/// A product that each step adds to an accumulator.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The accumulator.
    pub accumulator: u8,
    /// The step's loads that are multiplied.
    pub factors: [usize; 2],
}

/// A loop that is entered with its pointers set and its counter at the number of turns less one.
#[derive(Clone, Debug)]
pub struct Loop<'a> {
    /// What a step loads; loads with one pointer in their order in memory.
    pub loads: &'a [Load],
    /// What a step multiplies, in this order.
    pub products: &'a [Product],
    /// The register of the products' configuration.
    pub configuration: Place,
    /// Steps of a turn.
    pub steps: usize,
    /// What each turn but the last does for the next one: the counter, the pointers.
    pub between: Block,
    /// What the last turn does.
    pub last: Block,
    /// Turns left after this one.
    pub counter: Place,
    /// What jumps call the loads of the first steps, a turn, and the last turn.
    pub labels: [&'static str; 3],
    /// How the last turn is left.
    pub exit: Exit,
}

/// A loop with its cycles.
#[derive(Clone, Debug)]
pub struct Pipelined {
    /// Cycles from a step to the next.
    pub interval: usize,
    /// The first loads, a turn that repeats itself, the last turn.
    pub parts: [Part; 3],
}

/// Cycles of a step's operations, seen from its first product, for one interval.
struct Steps {
    interval: usize,
    /// Cycles by which each load comes before cycle 0.
    ahead: Vec<usize>,
    /// The register of each load of each step.
    registers: Vec<usize>,
}

impl Loop<'_> {
    /// Gives every operation its cycle and every load its register.
    ///
    /// # Errors
    /// An operation that the instruction table does not know.
    pub fn schedule(&self, spacing: &Spacing) -> Result<Pipelined, IsaError> {
        let mut interval = self.products.len().max(spacing.chain);
        loop {
            // Ends: in a long interval every load is over before the next step's begins.
            if let Some(steps) = self.steps(spacing, interval)
                && let Some(parts) = self.parts(spacing, &steps)?
            {
                return Ok(Pipelined { interval, parts });
            }
            interval += 1;
        }
    }

    /// The cycles of a step that starts every `interval` cycles. None without room for its loads.
    fn steps(&self, spacing: &Spacing, interval: usize) -> Option<Steps> {
        let mut taken = Vec::new();
        let mut ahead = Vec::new();
        let mut arcs = Vec::new();
        for (index, load) in self.loads.iter().enumerate() {
            let reads = (0..self.products.len())
                .filter(|&product| self.products[product].factors.contains(&index));
            let (first, last) = (reads.clone().min()?, reads.max()?);
            let latest = spacing.load.checked_sub(first)?;
            // One load a cycle and unit, counted round the interval.
            let slot = |ahead: usize| (load.unit, (interval * ahead - ahead) % interval);
            let by = (latest..latest + interval).find(|&by| !taken.contains(&slot(by)))?;
            taken.push(slot(by));
            ahead.push(by);
            arcs.push(by + last);
        }
        let registers = self.registers(interval, &ahead, &arcs)?;
        Some(Steps { interval, ahead, registers })
    }

    /// A register for each load of a turn, that of the steps' loads one after the other. `taken`
    /// says for how many cycles each load needs one. None when there are too few.
    fn registers(&self, interval: usize, ahead: &[usize], taken: &[usize]) -> Option<Vec<usize>> {
        let lead = ahead.iter().max()?;
        let mut arcs: Vec<Arc> = (0..self.steps * ahead.len())
            .map(|load| {
                let (step, index) = (load / ahead.len(), load % ahead.len());
                let start = lead + step * interval - ahead[index];
                Arc { load, start, end: start + taken[index] }
            })
            .collect();
        arcs.sort_by_key(|arc| arc.start);
        let mut search = Search { turn: self.steps * interval, arcs: &arcs, tries: 0 };
        let mut registers = vec![0; arcs.len()];
        search.assign(0, &mut Vec::new(), &mut registers).then_some(registers)
    }

    /// The words. None when something does not come in its cycle.
    fn parts(&self, spacing: &Spacing, steps: &Steps) -> Result<Option<[Part; 3]>, IsaError> {
        let turn = self.steps * steps.interval;
        let lead = steps.ahead.iter().copied().max().unwrap_or(0).max(1 + DELAY_SLOTS);
        let starts = [0, 1, 2].map(|index| lead + index * turn);
        // Two turns and the last, as one piece: so all that must hold from turn to turn is seen.
        let mut schedule = Schedule::new(spacing);
        let [fill, body, last] = self.labels;
        let mut fits =
            schedule.exit(&Exit::Zero(self.counter, last), lead - 1 - DELAY_SLOTS) == lead;
        for start in starts {
            fits &= self.turn(&mut schedule, steps, start)?;
            if start == starts[2] {
                for operation in self.last.operations() {
                    schedule.place(operation, start)?;
                }
                continue;
            }
            for operation in self.between.operations() {
                fits &= schedule.place(operation, start)? < start + turn;
            }
            let again = Exit::NotZero(self.counter, body);
            let end = start + turn;
            fits &= schedule.exit(&again, end - 1 - DELAY_SLOTS) == end;
        }
        if !fits {
            return Ok(None);
        }
        let words = schedule.leave(&self.exit);
        let part =
            |label, from: usize, to: usize| Part::Timed { label, words: words[from..to].to_vec() };
        // The second turn is the one whose loads are all in place; the first is the same.
        let [first, second, third] = starts;
        let repeats = words[first..second] == words[second..third];
        let parts =
            [part(fill, 0, first), part(body, second, third), part(last, third, words.len())];
        Ok(repeats.then_some(parts))
    }

    /// Places a turn whose first product comes in cycle `start`; whether all of it had room.
    fn turn(&self, schedule: &mut Schedule, steps: &Steps, start: usize) -> Result<bool, IsaError> {
        let mut fits = true;
        for step in 0..self.steps {
            let start = start + step * steps.interval;
            let register =
                |load: usize| Place::X(steps.registers[step * self.loads.len() + load] as u8);
            let mut cycles = Vec::new();
            let mut operations = Block::new("step");
            for (index, load) in self.loads.iter().enumerate() {
                cycles.push(start - steps.ahead[index]);
                match load.unit {
                    Unit::A => operations.load_next(register(index), load.pointer),
                    Unit::B => operations.load_next_b(register(index), load.pointer),
                }
            }
            for (index, product) in self.products.iter().enumerate() {
                cycles.push(start + index);
                let [a, b] = product.factors.map(register);
                operations.multiply(product.accumulator, a, b, self.configuration);
            }
            for (operation, cycle) in operations.operations().iter().zip(cycles) {
                fits &= schedule.place(operation, cycle)? == cycle;
            }
        }
        Ok(fits)
    }
}

/// The cycles from a load to the last use of what it loads, in a turn.
struct Arc {
    load: usize,
    start: usize,
    end: usize,
}

/// A search for registers that no two arcs have at once, the turn closed to a ring.
struct Search<'a> {
    turn: usize,
    arcs: &'a [Arc],
    tries: usize,
}

impl Search<'_> {
    /// Tries after which there are believed to be too few registers. The arcs of this crate need
    /// some hundreds.
    const TRIES: usize = 100_000;

    /// Gives registers to the arcs from `next` on. `used` has the first and the last cycle of each
    /// register in use. The tightest fit is tried first.
    fn assign(
        &mut self,
        next: usize,
        used: &mut Vec<(usize, usize)>,
        registers: &mut [usize],
    ) -> bool {
        let Some(arc) = self.arcs.get(next) else { return true };
        self.tries += 1;
        let is_free =
            |&(first, last): &(usize, usize)| last <= arc.start && arc.end <= first + self.turn;
        let mut free: Vec<usize> = (0..used.len()).filter(|&at| is_free(&used[at])).collect();
        free.sort_by_key(|&at| std::cmp::Reverse(used[at].1));
        for register in free {
            let before = used[register];
            used[register].1 = arc.end;
            registers[arc.load] = register;
            if self.assign(next + 1, used, registers) {
                return true;
            }
            used[register] = before;
            if self.tries > Search::TRIES {
                return false;
            }
        }
        if used.len() == VECTORS {
            return false;
        }
        used.push((arc.start, arc.end));
        registers[arc.load] = used.len() - 1;
        let found = self.assign(next + 1, used, registers);
        used.pop();
        found
    }
}
