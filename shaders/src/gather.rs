//! Rows of a packed matrix as floats: token embeddings.

use onebit_plan::abi::StorageClass;
use onebit_plan::gpu::{binding, step};
use onebit_plan::layout::Layout;

use crate::class;
use crate::kernel::{Immediate, Kernel, Source};
use crate::product::shape::{FloatForm, Form, tile_words};

/// `out[row] = weights[token of row]`, as floats.
///
/// The matrix is at [`binding::WEIGHTS`] from [`Immediate::Weights`] on. Dispatch one workgroup
/// for each row. A token that the matrix lacks reads its last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    pub class: StorageClass,
    /// Rows of the matrix.
    pub n: usize,
    pub k: usize,
    /// Floats from row to row in the arena, from [`Immediate::Out`] 0 on.
    pub stride: usize,
}

impl Gather {
    /// The kernel.
    pub fn kernel(&self) -> Kernel {
        let Self { class, n, k, stride } = *self;
        let mut source = Source::default();
        let steps = source.read(binding::STEP);
        let buffer = source.read(binding::WEIGHTS);
        let arena = source.write(binding::ARENA);
        let weights = source.immediate(Immediate::Weights { binding: binding::WEIGHTS });
        let out = source.immediate(Immediate::Out { index: 0 });
        source.line(format!(
            "let row = group.x;
if (row >= {steps}[{}u]) {{ return; }}
let token = min({steps}[{}u + row], {}u);
let tile_at = {weights} + (token >> 4u) * {}u;
let r = token & 15u;
let out_at = {out} + row * {stride}u;",
            step::ROWS,
            step::TOKENS,
            n - 1,
            tile_words(class, k)
        ));
        let (items, body) = match Form::of(class) {
            Form::Integer(layout) => (k / 8, eight(&mut source, &layout, buffer, arena)),
            Form::Float(form) => (k, element(form, buffer, arena)),
        };
        let workgroup = items.next_power_of_two().clamp(64, 256) as u32;
        source.line(format!(
            "for (var item = lane; item < {items}u; item += {workgroup}u) {{\n{body}}}"
        ));
        let class = format!("{class:?}").to_lowercase();
        source.finish(format!("gather-{class}-{n}x{k}-{stride}"), workgroup)
    }
}

/// Quads `v` and `v + 4` of block `b`, read as a product reads them.
fn eight(source: &mut Source, layout: &Layout, buffer: &str, arena: &str) -> String {
    class::declare(source, layout);
    class::declare_signed(source);
    let bias = class::bias(layout);
    let names: Vec<&str> = class::scale_names(layout).collect();
    // Where both halves of a block share a scale, the second has no name of its own.
    let of = |wanted: [&str; 2]| {
        let name = wanted.into_iter().find(|name| names.contains(name));
        name.map_or("-0.0".to_owned(), |name| format!("{name}_[c]"))
    };
    let quads = [("a", ["w", "w"], ["n", "n"], 0), ("c", ["z", "w"], ["o", "n"], 16)];
    let mut out = "let v = item & 3u;\nlet j = r >> 2u;\nlet c = r & 3u;\nlet l = v * 4u + j;\nlet half = j >> 1u;\n"
        .to_owned();
    out += &class::load(layout, buffer, "tile_at", "(item >> 2u)", "_");
    out += &class::unpack(layout, "_");
    for (codes, scale, min, first) in quads {
        out += &format!(
            "{{
let y = {} * (signed_bytes({codes}_[c]) - {bias}.0) + {};
let at = out_at + (item >> 2u) * 32u + v * 4u + {first}u;
",
            of(scale),
            of(min)
        );
        for (i, component) in ['x', 'y', 'z', 'w'].into_iter().enumerate() {
            out += &format!("{arena}[at + {i}u] = bitcast<u32>(y.{component});\n");
        }
        out += "}\n";
    }
    out
}

/// Element `item`.
fn element(form: FloatForm, buffer: &str, arena: &str) -> String {
    let (word, value) = match form {
        FloatForm::F32 => ("item * 4u + (r >> 2u)", "word[r & 3u]"),
        FloatForm::F16 => {
            ("item * 2u + (r >> 3u)", "bitcast<u32>(unpack2x16float(word[(r >> 1u) & 3u])[r & 1u])")
        }
        FloatForm::BF16 => {
            ("item * 2u + (r >> 3u)", "(word[(r >> 1u) & 3u] >> (16u * (r & 1u))) << 16u")
        }
    };
    format!("let word = {buffer}[tile_at + {word}];\n{arena}[out_at + item] = {value};\n")
}
