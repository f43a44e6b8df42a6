//! The walk along k for one row: weights are always on their way.
//!
//! A team's invocations hold the next blocks of their partition in *slots*. The first are asked
//! for at the very top of a kernel, before what computes the activations; each slot is filled
//! again as soon as it is used, at a tile's end for the next tile. Memory's latency passes beside
//! the work then, once, instead of before it. The order of sums is that of [`super::walk`].
//!
//! A short row of one tile is a loop with as few steps written out as keep memory busy, because code
//! that runs once has to be fetched, too: on an H200 the product of 576 x 1536 takes 3.7 us so, and
//! took 5.4 with its three steps written one behind the other.

use super::shape::{Form, Shape};
use super::walk::{Activations, input, is_wide, locate, opaque};
use super::{Stream, float, integer};
use crate::class;

/// Most steps that are written out one by one.
const WRITTEN: usize = 4;
/// Most steps of a short row.
const SHORT: usize = 8;
/// Registers of a short row's slots.
const REGISTERS: usize = 40;

/// A team's walk over tiles of one matrix.
pub(crate) struct Ring<'a> {
    shape: &'a Shape,
    /// Its tile is the variable `tile_at`.
    stream: Stream,
    /// What the matrix is read from: one buffer, or the two that `side` chooses between.
    buffers: &'a [&'static str],
    slots: usize,
    /// Whether a tile's steps are one loop.
    rolled: bool,
}

impl<'a> Ring<'a> {
    /// A ring of matrices of `form` in `buffers`, over tile after tile.
    pub fn new(shape: &'a Shape, form: Form, buffers: &'a [&'static str]) -> Self {
        let stream = Stream { index: 0, form, buffer: buffers[0], tile: "tile_at".into() };
        Self { shape, stream, buffers, slots: shape.unroll, rolled: false }
    }

    /// As [`Ring::new`], over one tile.
    pub fn once(shape: &'a Shape, form: Form, buffers: &'a [&'static str]) -> Self {
        let mut ring = Self::new(shape, form, buffers);
        let steps = ring.steps();
        if steps <= SHORT {
            let most = (REGISTERS / form.slot()).clamp(1, 4).min(steps);
            let slots = (1..=most).rev().find(|&slots| steps.is_multiple_of(slots));
            ring.slots = slots.unwrap_or(1);
            ring.rolled = true;
        }
        ring
    }

    /// Stands for the walked matrix where sums are added up.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn shape(&self) -> &'a Shape {
        self.shape
    }

    fn steps(&self) -> usize {
        self.shape.blocks.div_ceil(self.shape.partitions)
    }

    /// Declares the slots and fills them from the start of the tile at `tile_at`.
    pub fn open(&self) -> String {
        let mut out = String::new();
        for i in 0..self.slots {
            let suffix = self.stream.suffix(i);
            out += &match self.stream.form {
                Form::Integer(layout) => class::slot(&layout, &suffix).0,
                Form::Float(_) => format!("var q{suffix}: vec4<u32>;\n"),
            };
        }
        out + &(0..self.slots).map(|i| self.fill(i, "0u", 0)).collect::<String>()
    }

    /// Sums the tile up as [`super::walk::walk`] does, from slots that are filled. Where there is
    /// a tile after it, `next` is the place of that one, and the slots are filled from there.
    pub fn tile(&self, x: &Activations, next: Option<&str>) -> String {
        let (steps, slots) = (self.steps(), self.slots);
        let acc = self.stream.acc(0);
        let mut out = format!("var {acc} = vec4<f32>();\n");
        if is_wide(&self.stream) {
            out += &format!("var {acc}h = vec4<f32>();\n");
        }
        if self.rolled {
            debug_assert!(next.is_none(), "a rolled ring has one tile");
            out += &self.rolled(x);
            return out + &self.joined();
        }
        let looped = if steps <= WRITTEN { 0 } else { steps / slots - 1 };
        if looped > 0 {
            let end = opaque(looped);
            out += &format!("for (var turn = 0u; turn < {end}; turn += 1u) {{\n");
            out += &format!("let s = turn * {slots}u;\nlet ahead = s + {slots}u;\n");
            for i in 0..slots {
                out += &self.take(i, "s", 0, x);
                out += &self.fill(i, "ahead", looped * slots);
            }
            out += "}\n";
        }
        if let Some(next) = next {
            // What is still to come of this tile is asked for first.
            out += &format!("let next_at = {next};\n");
        }
        for step in looped * slots..steps {
            let i = step % slots;
            out += &self.take(i, &format!("{}u", step - i), step - i, x);
            let ahead = step - i + slots;
            if ahead + i < steps {
                out += &self.fill(i, &format!("{ahead}u"), ahead);
            } else if next.is_some() {
                out += &format!("{{\nlet tile_at = next_at;\n{}}}\n", self.fill(i, "0u", 0));
            }
        }
        out + &self.joined()
    }

    /// The steps of a short row: a loop of as many as there are slots.
    fn rolled(&self, x: &Activations) -> String {
        let (turns, slots) = (self.steps() / self.slots, self.slots);
        let most = (turns - 1) * slots;
        let mut out = format!("for (var turn = 0u; turn < {}; turn += 1u) {{\n", opaque(turns));
        out += &format!("let s = turn * {slots}u;\nlet ahead = s + {slots}u;\n");
        for i in 0..slots {
            out += &self.take(i, "s", most, x);
            if turns > 1 {
                let fill = self.fill(i, "ahead", most);
                out += &format!("if (turn < {}u) {fill}", turns - 1);
            }
        }
        out + "}\n"
    }

    /// Leaves every invocation with four rows of the tile.
    fn joined(&self) -> String {
        match is_wide(&self.stream) {
            true => float::halve(&self.stream, 0),
            false => String::new(),
        }
    }

    /// Whether some partition may lack step `first + i`.
    fn is_ragged(&self, first: usize, i: usize) -> bool {
        self.shape.is_ragged(first + i)
    }

    /// Fills slot `i` with step `s + i` of the tile, where `s` is at most `most`.
    fn fill(&self, i: usize, s: &str, most: usize) -> String {
        let at = locate(self.shape, self.stream.form, s, i, self.is_ragged(most, i));
        let from = |buffer: &str| match self.stream.form {
            Form::Integer(layout) => integer::fill(&layout, &self.stream, buffer, i),
            Form::Float(form) => float::reload(form, &self.stream, buffer, i),
        };
        match *self.buffers {
            [first, second] => format!(
                "{{\n{at}if side == 0u {{\n{}}} else {{\n{}}}\n}}\n",
                from(first),
                from(second)
            ),
            _ => format!("{{\n{at}{}}}\n", from(self.stream.buffer)),
        }
    }

    /// Adds slot `i`, which holds step `s + i`; `s` is at most `most`.
    fn take(&self, i: usize, s: &str, most: usize, x: &Activations) -> String {
        let ragged = self.is_ragged(most, i);
        let form = self.stream.form;
        let mut out = locate(self.shape, form, s, i, ragged) + &input(form, x, i, 0, ragged);
        out += &match form {
            Form::Integer(layout) => {
                class::unpack_slot(&layout, &self.stream.suffix(i))
                    + &integer::accumulate(&layout, &self.stream, i, 0)
            }
            Form::Float(form) => float::accumulate(form, &self.stream, i, 0),
        };
        format!("{{\n{out}}}\n")
    }
}
