//! What becomes of a program's results: stores, and the rotation before them.

use onebit_ir::RopeStyle;
use onebit_ir::rows::{ExprId, Rotate, Store};
use onebit_plan::gpu::{binding, record};

use super::emit::{Job, Reads, Target, arg_of};
use super::layout::BLOCK;
use super::record as records;
use super::value::{Spot, Values};
use crate::activations::store_quad;
use crate::kernel::Source;

impl Job<'_> {
    pub(super) fn store(
        &self,
        source: &mut Source,
        values: &mut Values<'_>,
        store: usize,
        spot: &Spot,
    ) {
        let (Store::F32 { expr, arg } | Store::Q8 { expr, arg }) = self.program.stores[store];
        let mut x = values.value(source, expr, spot);
        if let Some(rotate) = self.program.rotate.filter(|rotate| rotate.arg == arg) {
            x = self.rotate(source, values, expr, &rotate, spot);
        }
        let tag = &spot.tag;
        let (all, record_words) = (self.program.heads * self.program.width, record::WORDS);
        let word = format!("t{tag} & 7u");
        match &self.targets[store] {
            Target::Records | Target::LocalRecords => {
                records::declare(source);
                source.line(format!("let word{tag} = record_word({x}, {word});"));
                let (array, first) = if self.targets[store] == Target::Records {
                    (source.write(binding::RECORDS), format!("at{arg}"))
                } else {
                    ("x_records", format!("row * {}u", all / BLOCK * record_words))
                };
                source.line(format!(
                    "if live{tag} && ({word}) < {record_words}u {{ {array}[{first} + block{tag} * {record_words}u + ({word})] = word{tag}; }}"
                ));
            }
            Target::Halves => {
                let (row, element) = (format!("at{arg} * 4u"), format!("e{tag}"));
                let store = store_quad(source, [&x, &row, &element]);
                source.line(format!("if live{tag} {{\n{store}}}"));
            }
            Target::Floats | Target::FirstFloats => {
                self.store_floats(source, values, store, &x, spot);
            }
            Target::LocalFloats => {
                self.store_floats(source, values, store, &x, spot);
                let index = self.local(spot, &format!("row * {all}u"));
                source.line(format!("if live{tag} {{ x_floats[{index}] = {x}; }}"));
            }
            Target::Logits => {
                let logits = source.write(binding::LOGITS);
                let at = values.place(arg, spot);
                let lanes = ["x", "y", "z", "w"].iter().enumerate();
                let each: Vec<String> =
                    lanes.map(|(i, lane)| format!("{logits}[{at} + {i}u] = {x}.{lane};")).collect();
                source.line(format!("if live{tag} {{ {} }}", each.join(" ")));
            }
            Target::Workgroup { name } => {
                let index = self.local(spot, "0u");
                source.line(format!("if live{tag} {{ {name}[{index}] = {x}; }}"));
            }
        }
    }

    /// Index of a `vec4` in workgroup memory that holds mini-rows without gaps from float
    /// `first` on.
    fn local(&self, spot: &Spot, first: &str) -> String {
        let (tag, width) = (&spot.tag, self.program.width);
        format!("({first} + head{tag} * {width}u + e{tag}) / 4u")
    }

    fn store_floats(
        &self,
        source: &mut Source,
        values: &Values<'_>,
        store: usize,
        x: &str,
        spot: &Spot,
    ) {
        let records = source.write(binding::RECORDS);
        let at = values.place(arg_of(&self.program.stores[store]), spot);
        let tag = &spot.tag;
        let first = match self.targets[store] {
            Target::Floats => "",
            _ => " && all(group == vec3<u32>(0u))",
        };
        source.line(format!(
            "if live{tag}{first} {{ {records}[({at}) / 4u] = bitcast<vec4<u32>>({x}); }}"
        ));
    }

    /// The value of `expr` at `spot`, rotated by the row's position.
    ///
    /// Its partner in the other half is computed again rather than fetched from the invocation
    /// that has it.
    fn rotate(
        &self,
        source: &mut Source,
        values: &mut Values<'_>,
        expr: ExprId,
        rotate: &Rotate,
        spot: &Spot,
    ) -> String {
        let x = values.value(source, expr, spot);
        let (tag, dims) = (&spot.tag, rotate.dims);
        let half = dims / 2;
        let e = &spot.element;
        let rotated = format!("rotated{expr}{tag}");
        source.line(format!("var {rotated} = {x};"));
        let [cos, sin] = match self.reads {
            Reads::There => self.angles(source, rotate, spot),
            Reads::Ahead => self.angle_names(tag),
        };
        match rotate.style {
            RopeStyle::Neox => {
                self.alias_partner_scales(source, tag);
                let other = self.partner(tag);
                let y = values.value(source, expr, &other);
                source.line(format!(
                    "if {e} < {dims}u {{
    let cos = {cos};
    let sin = {sin};
    {rotated} = fma({x}, cos, select({y}, -{y}, {e} < {half}u) * sin);
}}"
                ));
            }
            RopeStyle::Norm => source.line(format!(
                "if {e} < {dims}u {{
    let cos = {cos};
    let sin = {sin};
    let even = fma({x}.xz, cos, -({x}.yw * sin));
    let odd = fma({x}.yw, cos, {x}.xz * sin);
    {rotated} = vec4<f32>(even.x, odd.x, even.y, odd.y);
}}"
            )),
        }
        rotated
    }

    /// Variables of a chunk's cosines and sines that are read ahead.
    fn angle_names(&self, tag: &str) -> [String; 2] {
        ["cos", "sin"].map(|name| format!("ahead{}_{name}{tag}", self.index))
    }

    /// The WGSL that reads the cosines and the sines for `spot`; what is not rotated reads some.
    fn angles(&self, source: &mut Source, rotate: &Rotate, spot: &Spot) -> [String; 2] {
        let table = source.read(binding::ROPE);
        let (dims, half, e, tag) = (rotate.dims, rotate.dims / 2, &spot.element, &spot.tag);
        let (first, count) = match rotate.style {
            RopeStyle::Neox => (format!("min(min({e}, partner{tag}), {}u)", half - 4), 4),
            RopeStyle::Norm => (format!("min({e} / 2u, {}u)", half - 2), 2),
        };
        let at = |offset| format!("position * {dims}u + {first} + {offset}u");
        [0, half].map(|offset| four(table, &at(offset), count))
    }

    /// Reads the angles that [`Job::emit`] takes.
    pub fn read_rotation(&self, source: &mut Source) {
        let Some(rotate) = self.program.rotate else { return };
        let ty = match rotate.style {
            RopeStyle::Neox => "vec4<f32>",
            RopeStyle::Norm => "vec2<f32>",
        };
        let names = |tag: &str| {
            let spot = self.spot(tag);
            let sides = self.angle_names(tag).into_iter().enumerate();
            sides.map(|(side, name)| (name, (side, spot.clone()))).collect()
        };
        self.ahead(source, ty, names, |source, (side, spot)| {
            let [cos, sin] = self.angles(source, &rotate, spot);
            if *side == 0 { cos } else { sin }
        });
    }
}

/// `count` consecutive floats of an array.
fn four(array: &str, at: &str, count: usize) -> String {
    let lanes: Vec<String> = (0..count).map(|i| format!("{array}[{at} + {i}u]")).collect();
    format!("vec{count}<f32>({})", lanes.join(", "))
}
