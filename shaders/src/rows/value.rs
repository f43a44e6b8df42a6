//! The expressions of a row program as WGSL statements, each value once.

use std::collections::HashMap;

use onebit_ir::rows::{Arg, ArgId, Expr, ExprId, RowProgram};
use onebit_plan::gpu::binding;

use super::Parts;
use super::functions::{self, float};
use crate::kernel::{Immediate, Source};

/// The first phase in which the value of `expr` can be had.
pub fn phase(program: &RowProgram, expr: ExprId) -> usize {
    match program.exprs[expr] {
        Expr::Load(_) | Expr::Vector(_) => 0,
        Expr::Add(x, y) | Expr::Mul(x, y) | Expr::Gated(_, x, y) => {
            phase(program, x).max(phase(program, y))
        }
        Expr::Scale(x, _) | Expr::Unary(_, x) | Expr::SoftCap(x, _) => phase(program, x),
        Expr::RmsNorm { x, .. } => phase(program, x) + 1,
    }
}

/// Whether `expr` is read from memory.
pub fn is_leaf(program: &RowProgram, expr: ExprId) -> bool {
    matches!(program.exprs[expr], Expr::Load(_) | Expr::Vector(_))
}

/// The variable of a leaf of program `index` that is read ahead, at the spot `tag`.
pub fn loaded(index: usize, expr: ExprId, tag: &str) -> String {
    format!("ahead{index}_{expr}{tag}")
}

/// Four elements that values are wanted of.
#[derive(Clone, Debug)]
pub struct Spot {
    /// Ends the names of its values.
    pub tag: String,
    /// Mini-row within the program's own numbering.
    pub head: String,
    /// First element.
    pub element: String,
}

/// Values that have names, and the statements that gave them.
pub struct Values<'a> {
    pub index: usize,
    pub program: &'a RowProgram,
    parts: &'a [Parts],
    /// Whether what is read has been read before, see [`loaded`].
    preloaded: bool,
    memo: HashMap<(ExprId, String), String>,
}

impl<'a> Values<'a> {
    pub fn new(index: usize, program: &'a RowProgram, parts: &'a [Parts]) -> Self {
        Self { index, program, parts, preloaded: false, memo: HashMap::new() }
    }

    /// Values whose leaves stand in the variables [`loaded`].
    pub fn preloaded(index: usize, program: &'a RowProgram) -> Self {
        Self { preloaded: true, ..Self::new(index, program, &[]) }
    }

    /// The WGSL that reads a leaf.
    pub fn read(&mut self, source: &mut Source, expr: ExprId, spot: &Spot) -> String {
        self.text(source, expr, spot)
    }

    /// Forgets all values: the scope of their names ends.
    pub fn forget(&mut self) {
        self.memo.clear();
    }

    /// Name of the `vec4<f32>` of `expr` at `spot`. The row's addresses `at{arg}` and the scales
    /// `scale{norm}{tag}` of its normalisations must be in scope.
    pub fn value(&mut self, source: &mut Source, expr: ExprId, spot: &Spot) -> String {
        let key = (expr, spot.tag.clone());
        if let Some(name) = self.memo.get(&key) {
            return name.clone();
        }
        if self.preloaded && is_leaf(self.program, expr) {
            return loaded(self.index, expr, &spot.tag);
        }
        let text = self.text(source, expr, spot);
        let name = format!("v{expr}{}", spot.tag);
        source.line(format!("let {name} = {text};"));
        self.memo.insert(key, name.clone());
        name
    }

    fn text(&mut self, source: &mut Source, expr: ExprId, spot: &Spot) -> String {
        match self.program.exprs[expr] {
            Expr::Load(arg) => self.load(source, arg, spot),
            Expr::Vector(arg) => self.vector(source, arg, spot),
            Expr::Add(x, y) => self.sum(source, x, y, spot),
            Expr::Mul(..) | Expr::Scale(..) | Expr::RmsNorm { .. } => {
                let (x, y) = self.factors(source, expr, spot).expect("these are products");
                format!("{x} * {y}")
            }
            Expr::Unary(f, x) => {
                let x = self.value(source, x, spot);
                format!("{}({x})", functions::name(source, f))
            }
            Expr::Gated(f, gate, up) => {
                let (gate, up) = (self.value(source, gate, spot), self.value(source, up, spot));
                format!("{}({gate}) * {up}", functions::name(source, f))
            }
            Expr::SoftCap(x, cap) => {
                let x = self.value(source, x, spot);
                functions::softcap(source, &x, cap)
            }
        }
    }

    /// `x + y`; a product among them takes part unrounded, so that no driver has a choice.
    fn sum(&mut self, source: &mut Source, x: ExprId, y: ExprId, spot: &Spot) -> String {
        if let Some((a, b)) = self.factors(source, y, spot) {
            let x = self.value(source, x, spot);
            return format!("fma({a}, {b}, {x})");
        }
        let y_value = self.value(source, y, spot);
        if let Some((a, b)) = self.factors(source, x, spot) {
            return format!("fma({a}, {b}, {y_value})");
        }
        let x = self.value(source, x, spot);
        format!("{x} + {y_value}")
    }

    /// The factors of an expression that is a product.
    fn factors(
        &mut self,
        source: &mut Source,
        expr: ExprId,
        spot: &Spot,
    ) -> Option<(String, String)> {
        match self.program.exprs[expr] {
            Expr::Mul(x, y) => Some((self.value(source, x, spot), self.value(source, y, spot))),
            Expr::Scale(x, factor) => {
                let x = self.value(source, x, spot);
                Some((x, format!("vec4<f32>({})", float(factor))))
            }
            Expr::RmsNorm { x, weight, .. } => {
                let x = self.value(source, x, spot);
                let weight = self.value(source, weight, spot);
                Some((format!("({x} * scale{expr}{})", spot.tag), weight))
            }
            _ => None,
        }
    }

    fn load(&self, source: &mut Source, arg: ArgId, spot: &Spot) -> String {
        let records = source.read(binding::RECORDS);
        let index = self.place(arg, spot);
        let parts = self.parts.iter().find(|parts| parts.arg == arg);
        let (count, pitch) = parts.map_or((1, 0), |parts| (parts.count, parts.pitch));
        let part = |i: usize| match i {
            0 => format!("bitcast<vec4<f32>>({records}[({index}) / 4u])"),
            _ => format!("bitcast<vec4<f32>>({records}[({index}) / 4u + {}u])", i * pitch / 4),
        };
        match count {
            1 => part(0),
            _ => format!("({})", (0..count).map(part).collect::<Vec<_>>().join(" + ")),
        }
    }

    fn vector(&self, source: &mut Source, arg: ArgId, spot: &Spot) -> String {
        let vectors = source.read(binding::VECTORS);
        let base = source.immediate(Immediate::Arg { program: self.index, arg });
        let Spot { head, element, .. } = spot;
        let at = match self.program.args[arg] {
            Arg::Vector { head_stride } if head_stride != 0 && self.program.heads > 1 => {
                format!("{base} + {head} * {head_stride}u + {element}")
            }
            _ => format!("{base} + {element}"),
        };
        let lanes: Vec<String> = (0..4).map(|i| format!("{vectors}[{at} + {i}u]")).collect();
        format!("vec4<f32>({})", lanes.join(", "))
    }

    /// Word of `spot` in a rows argument.
    pub fn place(&self, arg: ArgId, spot: &Spot) -> String {
        let Spot { head, element, .. } = spot;
        match self.program.args[arg] {
            Arg::Rows { head_stride, .. } if head_stride != 0 && self.program.heads > 1 => {
                format!("at{arg} + {head} * {head_stride}u + {element}")
            }
            _ => format!("at{arg} + {element}"),
        }
    }

    /// Arguments that `expr` loads from.
    pub fn loads(program: &RowProgram, expr: ExprId, into: &mut Vec<ArgId>) {
        match program.exprs[expr] {
            Expr::Load(arg) => into.push(arg),
            Expr::Vector(_) => {}
            Expr::Add(x, y) | Expr::Mul(x, y) | Expr::Gated(_, x, y) => {
                Self::loads(program, x, into);
                Self::loads(program, y, into);
            }
            Expr::Scale(x, _) | Expr::Unary(_, x) | Expr::SoftCap(x, _) => {
                Self::loads(program, x, into);
            }
            Expr::RmsNorm { x, weight, .. } => {
                Self::loads(program, x, into);
                Self::loads(program, weight, into);
            }
        }
    }
}
