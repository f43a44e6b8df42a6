//! Row loops: the cone of waiting element-wise values behind a value, as one [`RowProgram`].
//!
//! A value of the cone that something outside it reads as well is stored on the way. The cone
//! ends at values that stand in memory and at ops that no loop can hold (a normalisation over
//! the whole row inside a loop over heads, say); those are computed first, by their own loop.

use std::collections::BTreeMap;

use onebit_ir::rows::{Arg, ArgId, Expr, ExprId, Rotate, RowProgram, Store};
use onebit_ir::{Op, RopeSpec, ValueId};
use onebit_plan::abi::Activation;

use super::select::{Selector, scope_of};
use super::{Binding, RowStep, Rows, Scope, Sharing, View};
use crate::error::CompileError;

/// A row program while its cone is walked.
struct Cone {
    program: RowProgram,
    bindings: Vec<Binding>,
    exprs: BTreeMap<ValueId, ExprId>,
    ops: Vec<&'static str>,
    rows: Rows,
    /// Loads go through the list of output rows.
    gathered: bool,
    /// The walk is above a `split_heads`: values are whole rows, seen head by head.
    flat: bool,
}

/// What the users of a value read.
#[derive(Clone, Copy, Default)]
struct Needs {
    floats: bool,
    quantised: bool,
}

impl Selector<'_, '_, '_> {
    /// Emits the loop that computes `value` in every form its users need.
    pub(super) fn row_loop(&mut self, value: ValueId) -> Result<(), CompileError> {
        let stands = self.existing_view(value).is_some();
        let needs = self.needs(value);
        let mut cone = self.new_cone(value);
        if let Op::MergeHeads = self.graph.op(value) {
            cone.ops.push(Op::MergeHeads.name());
        }
        let root = self.root(&mut cone, value)?;
        if needs.quantised {
            let sharing = self.options.sharing;
            let view = self.place_quantised(value, scope_of(sharing));
            let arg = cone.bind(Binding::Write(view), Arg::Q8 { width: view.stride });
            cone.program.stores.push(Store::Q8 { expr: root, arg });
        }
        if (needs.floats || !needs.quantised) && !stands {
            let sharing = self.options.sharing;
            let view = self.place_floats(value, sharing);
            let arg = cone.store(root, view);
            self.rotate(&mut cone, value, arg)?;
        }
        self.store_shared(&mut cone, value);
        let sharing = self.sharing_of(&cone);
        let step =
            RowStep { program: cone.program, bindings: cone.bindings, rows: cone.rows, sharing };
        self.push_rows(value, step, cone.ops);
        Ok(())
    }

    /// The loop that consumes two products column by column and leaves int8 activations.
    pub(super) fn column_loop(&mut self, value: ValueId) -> Result<RowStep, CompileError> {
        let mut cone = self.new_cone(value);
        cone.program.column_range = true;
        let root = self.expr(&mut cone, value)?;
        let view = self.place_quantised(value, Scope::Shared);
        let arg = cone.bind(Binding::Write(view), Arg::Q8 { width: view.stride });
        cone.program.stores.push(Store::Q8 { expr: root, arg });
        Ok(RowStep {
            program: cone.program,
            bindings: cone.bindings,
            rows: cone.rows,
            sharing: Sharing::Split,
        })
    }

    /// A copy of `view`, which holds `value`, without gaps between rows.
    pub(super) fn copy_loop(&mut self, value: ValueId, view: View) -> Result<View, CompileError> {
        let mut cone = self.new_cone(value);
        let root = cone.load(view);
        let sharing = self.options.sharing;
        let copy = self.place_floats(value, sharing);
        cone.store(root, copy);
        let step =
            RowStep { program: cone.program, bindings: cone.bindings, rows: cone.rows, sharing };
        self.push_rows(value, step, vec!["copy"]);
        Ok(copy)
    }

    fn new_cone(&self, value: ValueId) -> Cone {
        let (heads, width) = self.heads(value);
        Cone {
            program: RowProgram { heads, width, ..RowProgram::default() },
            bindings: Vec::new(),
            exprs: BTreeMap::new(),
            ops: Vec::new(),
            rows: self.rows(value),
            gathered: false,
            flat: false,
        }
    }

    /// A loop that writes logits must not run on every thread at once.
    fn sharing_of(&self, cone: &Cone) -> Sharing {
        let writes_team_memory = cone.bindings.iter().any(|binding| match binding {
            Binding::Write(view) => self.buffers[view.buffer.0].scope != Scope::Private,
            _ => false,
        });
        if writes_team_memory { Sharing::Split } else { self.options.sharing }
    }

    fn needs(&self, value: ValueId) -> Needs {
        let mut needs = Needs { floats: self.graph.outputs().contains(&value), quantised: false };
        for user in self.graph.users(value) {
            let product = matches!(self.graph.op(user), Op::Linear | Op::StackedLinear);
            if product && self.activation_of(user) == Activation::Q8 {
                needs.quantised = true;
            } else {
                needs.floats = true;
            }
        }
        needs
    }

    /// The expression of the value a loop is for: rotation is applied after its store.
    fn root(&mut self, cone: &mut Cone, value: ValueId) -> Result<ExprId, CompileError> {
        match self.graph.op(value) {
            Op::Rope(_) => {
                cone.ops.push("rope");
                let input = self.graph.inputs(value)[0];
                let root = self.expr(cone, input)?;
                Ok(root)
            }
            _ => self.expr(cone, value),
        }
    }

    fn rotate(&mut self, cone: &mut Cone, value: ValueId, arg: ArgId) -> Result<(), CompileError> {
        let &Op::Rope(spec) = self.graph.op(value) else {
            return Ok(());
        };
        let RopeSpec { dims, style, .. } = spec;
        if dims % 8 != 0 {
            return Err(CompileError::RopeWidth { dims });
        }
        let view = self.rope_table(value, spec)?;
        let row = Arg::Rows { row_stride: view.stride, head_stride: 0, gathered: false };
        let table = cone.bind(Binding::Read(view), row);
        cone.program.rotate = Some(Rotate { arg, table, dims, style });
        Ok(())
    }

    /// Stores what other loops will read of this cone's inner values.
    fn store_shared(&mut self, cone: &mut Cone, root: ValueId) {
        let members: Vec<(ValueId, ExprId)> = cone.exprs.iter().map(|(&v, &e)| (v, e)).collect();
        for (value, expr) in members {
            let inner = value != root && self.existing_view(value).is_none();
            let users = self.graph.users(value);
            let outside = users.iter().any(|user| *user != root && !cone.exprs.contains_key(user));
            if inner && outside && !cone.program.exprs.is_empty() {
                let view = self.place_floats(value, self.options.sharing);
                cone.store(expr, view);
            }
        }
    }

    fn expr(&mut self, cone: &mut Cone, value: ValueId) -> Result<ExprId, CompileError> {
        if let Some(&expr) = cone.exprs.get(&value) {
            return Ok(expr);
        }
        if let Some(view) = self.existing_view(value) {
            return Ok(cone.load(view));
        }
        if !self.fits(cone, value) {
            let view = self.view(value)?;
            return Ok(cone.load(view));
        }
        let inputs = self.graph.inputs(value);
        let op = self.graph.op(value);
        if let Op::SplitHeads { .. } | Op::SelectOutputs = op {
            let id = self.through(cone, inputs[0], op)?;
            cone.exprs.insert(value, id);
            return Ok(id);
        }
        let first = self.expr(cone, inputs[0])?;
        let expr = match *op {
            Op::Add => Expr::Add(first, self.expr(cone, inputs[1])?),
            Op::Mul => Expr::Mul(first, self.expr(cone, inputs[1])?),
            Op::Gated(function) => Expr::Gated(function, first, self.expr(cone, inputs[1])?),
            Op::Unary(function) => Expr::Unary(function, first),
            Op::Scale { factor } => Expr::Scale(first, factor),
            Op::SoftCap { cap } => Expr::SoftCap(first, cap),
            Op::AddBias => Expr::Add(first, self.vector(cone, inputs[1])?),
            Op::RmsNorm { eps } => {
                Expr::RmsNorm { x: first, weight: self.vector(cone, inputs[1])?, eps }
            }
            _ => return Err(self.unplaced(value)),
        };
        cone.ops.push(op.name());
        let id = cone.push(expr);
        cone.exprs.insert(value, id);
        Ok(id)
    }

    /// Goes on through an op that only changes how rows are seen.
    fn through(
        &mut self,
        cone: &mut Cone,
        input: ValueId,
        op: &Op,
    ) -> Result<ExprId, CompileError> {
        let before = (cone.gathered, cone.flat);
        match op {
            Op::SelectOutputs => {
                cone.gathered = true;
                cone.ops.push(op.name());
            }
            _ => cone.flat = true,
        }
        let expr = self.expr(cone, input);
        (cone.gathered, cone.flat) = before;
        expr
    }

    /// Whether the waiting `value` can be computed inside `cone`.
    fn fits(&self, cone: &Cone, value: ValueId) -> bool {
        let op = self.graph.op(value);
        let shared = self.graph.users(value).len() > 1;
        match op {
            // Only output rows are computed below: what others read needs all rows.
            _ if cone.gathered && shared => false,
            Op::RmsNorm { .. } => !cone.flat,
            Op::SplitHeads { .. } | Op::SelectOutputs => true,
            Op::Add | Op::Mul | Op::Gated(_) | Op::Unary(_) => true,
            Op::Scale { .. } | Op::SoftCap { .. } | Op::AddBias => true,
            _ => false,
        }
    }

    fn vector(&mut self, cone: &mut Cone, value: ValueId) -> Result<ExprId, CompileError> {
        if !self.is_vector(value) {
            return Err(self.unplaced(value));
        }
        let id = self.store.vector(self.graph, value)?;
        let head_stride = if cone.flat { cone.program.width } else { 0 };
        let arg = cone.bind(Binding::Vector(id), Arg::Vector { head_stride });
        Ok(cone.push(Expr::Vector(arg)))
    }
}

impl Cone {
    fn bind(&mut self, binding: Binding, arg: Arg) -> ArgId {
        self.bindings.push(binding);
        self.program.args.push(arg);
        self.bindings.len() - 1
    }

    fn push(&mut self, expr: Expr) -> ExprId {
        self.program.exprs.push(expr);
        self.program.exprs.len() - 1
    }

    fn rows_arg(&self, view: View) -> Arg {
        let head_stride = self.program.width;
        Arg::Rows { row_stride: view.stride, head_stride, gathered: self.gathered }
    }

    fn load(&mut self, view: View) -> ExprId {
        let arg = self.bind(Binding::Read(view), self.rows_arg(view));
        self.push(Expr::Load(arg))
    }

    fn store(&mut self, expr: ExprId, view: View) -> ArgId {
        let arg = self.bind(Binding::Write(view), self.rows_arg(view));
        self.program.stores.push(Store::F32 { expr, arg });
        arg
    }
}
