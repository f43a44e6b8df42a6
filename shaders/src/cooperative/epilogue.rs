//! From accumulators to results.

use onebit_plan::gpu::binding;

use super::{BAND, Cooperative, MATRIX, ROWS, Work, accumulator};
use crate::activations::store_quad;
use crate::gated::Join;
use crate::kernel::{Immediate, Source};
use crate::product::Output;

impl Cooperative<'_> {
    /// Adds the slices and writes the sums, or what gate and up make together. The sums of one matrix
    /// of rows at a time take the place of the weights, and an invocation has four columns of a row.
    pub(super) fn epilogue(&self, source: &mut Source) -> String {
        let (fours, width) = match self.work {
            Work::Product { .. } => (&["y"][..], self.turn.columns),
            Work::Gated { .. } => (&["gate", "up"][..], self.turn.columns / 2),
        };
        let quads = width / 4;
        let items = MATRIX * quads;
        let write = self.write(source);
        let mut out = String::new();
        for r in 0..self.row_matrices() {
            if r > 0 {
                out += "workgroupBarrier();\n";
            }
            out += &self.share(r);
            for start in (0..items).step_by(self.turn.invocations()) {
                let guard = match start + self.turn.invocations() <= items {
                    true => String::new(),
                    false => format!(" && item < {items}u"),
                };
                let sums: String =
                    fours.iter().enumerate().map(|(i, name)| self.sum(name, i * width)).collect();
                out += &format!(
                    "{{
let item = lane + {start}u;
let row = first + {}u + item / {quads}u;
let quad = item % {quads}u;
let column = group.x * {width}u + quad * 4u;
if (row < rows{guard}) {{
let own = item / {quads}u * {}u + quad / 4u * 4u + (quad & 3u) / 2u;
let is_odd = (quad & 1u) == 1u;
{sums}{write}}}
}}
",
                    r * MATRIX,
                    self.turn.columns / 4
                );
            }
        }
        out
    }

    /// Brings the sums of matrix `r` of the rows to workgroup memory: `[slice][row][column]`.
    fn share(&self, r: usize) -> String {
        let words = self.turn.columns / 4;
        let stores: String = (0..self.band_matrices())
            .map(|c| {
                let at = format!(
                    "slice * {}u + band * {}u + {}u",
                    MATRIX * words,
                    BAND / 4,
                    c * MATRIX / 4
                );
                format!("coopStoreT({}, &w_tile[{at}], {words}u);\n", accumulator(r, c))
            })
            .collect();
        stores + "workgroupBarrier();\n"
    }

    /// Names four sums of the item, `offset` columns from its first, over all slices in ascending
    /// order. The four are columns 2j, 2j + 1, 2j + 8 and 2j + 9 of their tile, see [`ROWS`].
    fn sum(&self, name: &str, offset: usize) -> String {
        let mut out = format!("var {name} = vec4<f32>();\n");
        for slice in 0..self.turn.slices() {
            let at = slice * MATRIX * self.turn.columns / 4 + offset / 4;
            out += &format!(
                "{{
let low = w_tile[own + {at}u];
let high = w_tile[own + {}u];
{name} += vec4<f32>(select(low.xy, low.zw, is_odd), select(high.xy, high.zw, is_odd));
}}
",
                at + ROWS[2] / 4
            );
        }
        out
    }

    /// Writes the four results from `column` on of `row`.
    fn write(&self, source: &mut Source) -> String {
        let out = source.immediate(Immediate::Out { index: 0 });
        let (n, output) = match self.work {
            Work::Product { n, output, .. } => (n, output),
            Work::Gated { n, epilogue, .. } => {
                let value = Join::new(epilogue).value(source);
                let row = format!("{out} * 4u + row * {}u", n / 2);
                let store = store_quad(source, [&value, &row, "column"]);
                return format!("if (column < {n}u) {{\n{store}}}\n");
            }
        };
        let (target, stride, bits) = match output {
            Output::Arena { stride } => (source.write(binding::ARENA), stride, true),
            Output::Logits { stride } => (source.write(binding::LOGITS), stride, false),
        };
        let write = |(i, c): (usize, char)| {
            let y = if bits { format!("bitcast<u32>(y.{c})") } else { format!("y.{c}") };
            let write = format!("{target}[at + {i}u] = {y};");
            match n % self.turn.columns {
                0 => format!("{write}\n"),
                _ => format!("if (column + {i}u < {n}u) {{ {write} }}\n"),
            }
        };
        let writes: String = "xyzw".chars().enumerate().map(write).collect();
        let row = match self.parts {
            1 => "row".to_owned(),
            _ => format!("(group.z * {}u + row)", self.m),
        };
        format!("let at = {out} + {row} * {stride}u + column;\n{writes}")
    }
}
