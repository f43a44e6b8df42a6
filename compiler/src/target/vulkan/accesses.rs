//! What each dispatch reads and writes.

use super::dispatch::place;
use super::group::{Fresh, Input, Operand, Unit, Work, other_results, rope_table};
use super::memory::{Accesses, Resource};
use crate::schedule::steps::{Binding, BufferId, RowStep, Schedule, View};

/// The accesses of `unit`, a dispatch of `schedule`.
pub fn of(schedule: &Schedule, unit: &Unit<'_>) -> Accesses {
    let mut found = Finder { schedule, accesses: Accesses::default() };
    found.work(&unit.work);
    found.accesses
}

struct Finder<'s> {
    schedule: &'s Schedule,
    accesses: Accesses,
}

impl Finder<'_> {
    fn work(&mut self, work: &Work<'_>) {
        // Every kernel reads the step's rows.
        self.accesses.reads.push(Resource::Step);
        match work {
            Work::Gather { out, .. } => self.write(out.buffer),
            Work::Rows(step) => self.rows(step, true),
            Work::Product { input, parts, .. } => {
                self.input(input);
                parts.iter().for_each(|part| self.write(part.out.buffer));
            }
            Work::Gated { input, epilogue, .. } => {
                self.input(input);
                for binding in &epilogue.bindings {
                    if let Binding::Write(view) = binding {
                        self.write(view.buffer);
                    }
                }
            }
            Work::CacheWrite { shape, k, v } => {
                self.operand(k);
                self.operand(v);
                self.accesses.writes.push(Resource::Cache(*shape));
            }
            Work::Attention { shape, q, fresh, whole } => {
                self.operand(q);
                self.accesses.reads.push(Resource::Cache(*shape));
                match whole {
                    Some(out) => self.write(out.buffer),
                    None => self.accesses.writes.push(Resource::Partial(*shape)),
                }
                if let Some(Fresh { k, v }) = fresh {
                    self.operand(k);
                    self.operand(v);
                    self.accesses.writes.push(Resource::Cache(*shape));
                }
            }
            Work::Merge { shape, out } => {
                self.accesses.reads.push(Resource::Partial(*shape));
                self.write(out.buffer);
            }
        }
    }

    fn input(&mut self, input: &Input<'_>) {
        match input {
            Input::Buffer(buffer) => self.read(*buffer),
            Input::Rows { step, stores } => self.rows_inside(step, *stores),
            Input::Merge { shape } => self.accesses.reads.push(Resource::Partial(*shape)),
        }
    }

    fn operand(&mut self, operand: &Operand<'_>) {
        match operand {
            Operand::Floats(View { buffer, .. }) => self.read(*buffer),
            Operand::Rows(step) => self.rows_inside(step, false),
        }
    }

    /// A loop of its own, all of whose results are stored.
    fn rows(&mut self, step: &RowStep, stores: bool) {
        for binding in &step.bindings {
            match binding {
                Binding::Read(view) => self.read(view.buffer),
                Binding::Write(view) if stores => self.write(view.buffer),
                Binding::Write(_) | Binding::Vector(_) => {}
            }
        }
    }

    /// A loop inside another dispatch: its main result never leaves the workgroup.
    fn rows_inside(&mut self, step: &RowStep, stores: bool) {
        self.rows(step, false);
        if stores {
            let others = other_results(step);
            others.into_iter().for_each(|buffer| self.write(buffer));
        }
    }

    fn read(&mut self, buffer: BufferId) {
        // Rotation tables have a buffer of their own, which nothing writes.
        if rope_table(self.schedule, buffer).is_none() {
            self.accesses.reads.push(self.resource(buffer));
        }
    }

    fn write(&mut self, buffer: BufferId) {
        let resource = self.resource(buffer);
        self.accesses.writes.push(resource);
    }

    fn resource(&self, buffer: BufferId) -> Resource {
        place(self.schedule, View { buffer, column: 0, stride: 0 }).0
    }
}
