//! Sums of squares and the scales of normalisations: one fixed tree for every workgroup.

use onebit_ir::rows::{Expr, ExprId};

use super::emit::{Job, RowSet, needed};
use super::functions::float;
use super::layout::Layout;
use super::value::phase;
use crate::kernel::Source;

impl Job<'_> {
    /// Scales of the normalisations that phase `at` is the first to have, or of all it can have
    /// where nothing is kept. With one mini-row they are the row's.
    pub(super) fn scales(&self, source: &mut Source, at: usize, tag: &str) {
        let one = self.layout().heads == 1;
        if at == 0 || one != tag.is_empty() {
            return;
        }
        for id in needed(self.program) {
            let Expr::RmsNorm { x, eps, .. } = self.program.exprs[id] else {
                continue;
            };
            let ready = phase(self.program, x) + 1;
            if ready == at || (ready < at && !self.kept()) {
                let function = self.declare_scale(source, id, eps);
                let head = if one { "0u".to_owned() } else { format!("head{tag}") };
                source.line(format!("let scale{id}{tag} = {function}(row, {head}, lane & 7u);"));
            }
        }
    }

    /// Declares the function that adds up a mini-row's sums of blocks: eight strided sums, then
    /// a tree over eight neighbours.
    fn declare_scale(&self, source: &mut Source, id: ExprId, eps: f32) -> String {
        let Layout { heads, .. } = self.layout();
        let blocks = self.layout().blocks();
        let index = self.index;
        let name = format!("scale{index}_{id}");
        let sums = self.sums(source, id);
        let row = if let RowSet::One { .. } = self.rows { "0u" } else { "row" };
        let mut body = format!("let at = ({row} * {heads}u + head) * {blocks}u;\nvar sum = 0.0;\n");
        for first in (0..blocks).step_by(8) {
            if first + 8 <= blocks {
                body += &format!("sum += {sums}[at + {first}u + j];\n");
            } else {
                let last = blocks - 1;
                body += &format!(
                    "sum += select(0.0, {sums}[at + min({first}u + j, {last}u)], {first}u + j < {blocks}u);\n"
                );
            }
        }
        for distance in [1, 2, 4] {
            body += &format!("sum += subgroupShuffleXor(sum, {distance}u);\n");
        }
        let share = float(1.0 / self.program.width as f32);
        let eps = float(eps);
        source.declare(format!(
            "fn {name}(row: u32, head: u32, j: u32) -> f32 {{\n{body}return inverseSqrt(fma(sum, {share}, {eps}));\n}}"
        ));
        name
    }

    /// The array of a normalisation's sums: `[rows][heads][blocks]`.
    fn sums(&self, source: &mut Source, id: ExprId) -> String {
        let layout = self.layout();
        let name = format!("sums{}_{id}", self.index);
        let count = self.limit() as usize * layout.heads * layout.blocks();
        source.declare(format!("var<workgroup> {name}: array<f32, {count}>;"));
        name
    }

    /// The row's scales by the names that values use.
    pub(super) fn alias_scales(&self, source: &mut Source, at: usize, tag: &str) {
        for id in needed(self.program) {
            if let Expr::RmsNorm { x, .. } = self.program.exprs[id] {
                let ready = phase(self.program, x) + 1;
                if ready == at || (ready < at && !self.kept()) {
                    source.line(format!("let scale{id}{tag} = scale{id};"));
                }
            }
        }
    }

    /// Leaves the sum of squares of a block in workgroup memory.
    pub(super) fn sum_block(&self, source: &mut Source, id: ExprId, x: &str, tag: &str) {
        let sums = self.sums(source, id);
        let layout = self.layout();
        let of_row = layout.heads * layout.blocks();
        let row = if self.limit() == 1 { "0u" } else { "row" };
        source.line(format!(
            "var s{id}{tag} = fma({x}.x, {x}.x, fma({x}.y, {x}.y, fma({x}.z, {x}.z, {x}.w * {x}.w)));"
        ));
        source.line(format!("s{id}{tag} = select(0.0, s{id}{tag}, live{tag});"));
        for distance in [1, 2, 4] {
            source.line(format!("s{id}{tag} += subgroupShuffleXor(s{id}{tag}, {distance}u);"));
        }
        let mine = format!("(t{tag} & 7u) == 0u && live{tag}");
        source
            .line(format!("if {mine} {{ {sums}[{row} * {of_row}u + block{tag}] = s{id}{tag}; }}"));
    }

    /// The scales of `tag` for the partner's values: both are of one mini-row.
    pub(super) fn alias_partner_scales(&self, source: &mut Source, tag: &str) {
        for id in self.rotated() {
            if let Expr::RmsNorm { .. } = self.program.exprs[id] {
                source.line(format!("let scale{id}{tag}p = scale{id}{tag};"));
            }
        }
    }
}
