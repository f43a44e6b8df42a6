//! The meeting of a workgroup's sums, and what it leaves in the arena.

use onebit_plan::gpu::binding;

use super::tile::Tile;
use super::{MergeOut, TEAM, Tiling, out_word, words};
use crate::activations::store_quad;
use crate::kernel::{Immediate, Source};

/// Adds up the sums of all eights, in their order, and stores the split's result.
pub fn emit(source: &mut Source, tile: &Tile<'_>, out: MergeOut) {
    let Tiling { heads, .. } = tile.tiling;
    let teams = tile.tiling.teams();
    let fours = tile.shape.value_dim / 4;
    source.declare(format!("var<workgroup> tops: array<f32, {}>;", heads * teams));
    source.declare(format!("var<workgroup> totals: array<f32, {}>;", heads * teams));
    source.declare(format!("var<workgroup> sums: array<vec4<f32>, {}>;", heads * teams * fours));
    source.line("if j == 0u {");
    for h in 0..heads {
        source.line(format!("tops[{}u + team] = m{h};", h * teams));
    }
    source.line("}\nworkgroupBarrier();");
    for h in 0..heads {
        let at = h * teams;
        let top = (1..teams)
            .fold(format!("tops[{at}]"), |top, t| format!("max({top}, tops[{}])", at + t));
        source.line(format!("let top{h} = {top};\nlet weight{h} = exp2(m{h} - top{h});"));
        source.line(format!("if j == 0u {{ totals[{at}u + team] = l{h} * weight{h}; }}"));
        store_sums(source, tile, h);
    }
    source.line("workgroupBarrier();");
    source.line(format!("for (var item = lane; item < {}u; item += WORKGROUP) {{", heads * fours));
    source.line(format!("let h = item / {fours}u;\nlet four = item % {fours}u;"));
    source.line("var sum = vec4<f32>(0.0);\nvar total = 0.0;");
    source.line(format!(
        "for (var t = 0u; t < {teams}u; t += 1u) {{
    sum += sums[(t * {heads}u + h) * {fours}u + four];
    total += totals[h * {teams}u + t];
}}"
    ));
    let inside = tile.has_head("h");
    source.line(format!("if true{inside} {{"));
    store(source, tile, out);
    source.line("}\n}");
}

/// An invocation's weighted sums of head `h`.
fn store_sums(source: &mut Source, tile: &Tile<'_>, h: u32) {
    let heads = tile.tiling.heads;
    let of_row = words(tile.shape.value_dim);
    for w in 0..of_row.div_ceil(TEAM) {
        let place = format!("j + {}u", w * TEAM);
        let guard = if (w + 1) * TEAM <= of_row {
            "if true".to_owned()
        } else {
            format!("if {place} < {of_row}u")
        };
        source.line(format!(
            "{guard} {{
    let at = ((team * {heads}u + {h}u) * {of_row}u + {place}) * 2u;
    sums[at] = a{h}_{w}l * weight{h};
    sums[at + 1u] = a{h}_{w}h * weight{h};
}}"
        ));
    }
}

/// The result of `four` of head `h`: `sum` and `total` in place of parts of it.
fn store(source: &mut Source, tile: &Tile<'_>, out: MergeOut) {
    let shape = tile.shape;
    let Tiling { group, heads, .. } = tile.tiling;
    let teams = tile.tiling.teams();
    let fours = shape.value_dim / 4;
    if out == MergeOut::Halves {
        let out = source.immediate(Immediate::Out { index: 0 });
        let row = format!("{out} * 4u + row * {}u", shape.heads * shape.value_dim / 2);
        let element = format!("((kv * {group}u + part * {heads}u + h) * {fours}u + four) * 4u");
        let store = store_quad(source, ["sum / total", &row, &element]);
        source.line(store);
        return;
    }
    let records = source.write(binding::RECORDS);
    if tile.splits == 1 {
        let out = out_word(source);
        let stride = shape.out_stride / 4;
        source.line(format!(
            "let at = {out} + row * {stride}u + (kv * {group}u + part * {heads}u + h) * {fours}u;
{records}[at + four] = bitcast<vec4<u32>>(sum / total);"
        ));
        return;
    }
    let at = tile.partial(source, "h");
    source.line(format!("let at = {at};\n{records}[at + four] = bitcast<vec4<u32>>(sum);"));
    let top = (1..teams).fold(format!("tops[h * {teams}u]"), |top, t| {
        format!("max({top}, tops[h * {teams}u + {t}u])")
    });
    source.line(format!(
        "if four == 0u {{ {records}[at + {fours}u] = bitcast<vec4<u32>>(vec4<f32>({top}, total, 0.0, 0.0)); }}"
    ));
}
