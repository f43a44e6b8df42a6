//! The kernels that checks without a device go over: every builder, in the shapes of small models.

use onebit_ir::Function;
use onebit_ir::rows::{Arg, Expr, RowProgram, Store};
use onebit_plan::abi::StorageClass;
use onebit_shaders::Kernel;
use onebit_shaders::cooperative::{Cooperative, Turn, Work};
use onebit_shaders::gated::Gated;
use onebit_shaders::gather::Gather;
use onebit_shaders::product::{Input, Output, Part, Product};
use onebit_shaders::rows::RowsKind;

#[path = "examples.rs"]
mod examples;

/// Quantises floats as they are.
pub fn quantise_program(width: usize) -> RowProgram {
    examples::quantise(width)
}

/// Every kernel.
pub fn kernels() -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = products().iter().map(Product::kernel).collect();
    kernels.extend(gathers().iter().map(Gather::kernel));
    kernels.extend(gated());
    kernels.extend(prologues());
    kernels.extend(cooperative());
    kernels.extend(examples::kernels());
    kernels
}

/// Products of every class for one, four and eight rows, the head, and two products in one.
pub fn products() -> Vec<Product<'static>> {
    let mut products = Vec::new();
    for class in StorageClass::ALL {
        for m in [1, 4, 8] {
            products.push(product(&[(class, 2048)], 2048, m));
        }
    }
    for m in [1, 4, 8] {
        products.push(product(&[(StorageClass::Q5D, 768), (StorageClass::Q8D, 192)], 576, m));
    }
    let mut head = product(&[(StorageClass::Q8D, 49152)], 576, 1);
    head.parts[0].output = Output::Logits { stride: 49152 };
    head.rows = RowsKind::Outputs;
    for tiles in [4, 12] {
        products.push(Product { tiles, ..head.clone() });
    }
    products
}

/// Embeddings of every class.
pub fn gathers() -> Vec<Gather> {
    let gather = |class| Gather { class, n: 49152, k: 768, stride: 768 };
    StorageClass::ALL.into_iter().map(gather).collect()
}

/// Gate and up of every integer class, and of two.
pub fn gated() -> Vec<Kernel> {
    let program = join(Function::Silu, 1536);
    let mut kernels = Vec::new();
    let mut push = |classes: [StorageClass; 2], m| {
        let (n, k) = (1536, 2048);
        let input = Input::Records;
        let gated = Gated { k, n, classes, input, m, blocks: 1, epilogue: &program };
        kernels.push(gated.kernel());
    };
    for class in integers() {
        for m in [1, 4, 8] {
            push([class, class], m);
        }
    }
    push([StorageClass::Q4D, StorageClass::Q6K], 4);
    push([StorageClass::N4K, StorageClass::M4E], 4);
    kernels
}

/// Products of many rows, of every integer class, and gated ones.
pub fn cooperative() -> Vec<Kernel> {
    let (n, k, stride, rows) = (2048, 2048, 2048, RowsKind::All);
    let program = join(Function::Silu, n);
    let mut works = Vec::new();
    for class in integers() {
        works.push(Work::Product { class, n, output: Output::Arena { stride } });
    }
    for classes in [[StorageClass::Q4D; 2], [StorageClass::Q4K, StorageClass::Q6K]] {
        works.push(Work::Gated { classes, n, epilogue: &program });
    }
    let kernel = |(work, m, turn)| Cooperative { k, work, rows, m, turn, parts: 1 }.kernel();
    let one = Work::Product { class: StorageClass::Q4K, n, output: Output::Arena { stride } };
    let [narrow, middle, others @ ..] = Turn::ALL;
    let classes = works.into_iter().flat_map(|work| [(work, 16, middle), (work, 32, middle)]);
    let turns = [narrow].into_iter().chain(others);
    let turns = turns.flat_map(|turn| [(one, 16, turn), (one, 32, turn)]);
    classes.chain(turns).map(kernel).collect()
}

/// Products that normalise and quantise their input themselves.
pub fn prologues() -> Vec<Kernel> {
    let norm = examples::norm(576);
    let mut kernels = Vec::new();
    for m in [1, 4] {
        let mut product = product(&[(StorageClass::Q4D, 960)], 576, m);
        product.input = Input::Prologue(&norm);
        kernels.push(product.kernel());
        let classes = [StorageClass::Q4D; 2];
        let (input, epilogue) = (Input::Prologue(&norm), &join(Function::Silu, 1536));
        let gated = Gated { k: 576, n: 1536, classes, input, m, blocks: 1, epilogue };
        kernels.push(gated.kernel());
    }
    kernels
}

pub fn integers() -> impl Iterator<Item = StorageClass> {
    let is_integer = |class: &StorageClass| onebit_plan::layout::Layout::of(*class).is_some();
    StorageClass::ALL.into_iter().filter(is_integer)
}

/// `f(gate) * up`, quantised, as schedules have it.
pub fn join(function: Function, width: usize) -> RowProgram {
    let rows = Arg::Rows { row_stride: width, head_stride: width, gathered: false };
    RowProgram {
        heads: 1,
        width,
        args: vec![rows, rows, Arg::Q8 { width }],
        exprs: vec![Expr::Load(0), Expr::Load(1), Expr::Gated(function, 0, 1)],
        stores: vec![Store::Q8 { expr: 2, arg: 2 }],
        rotate: None,
        column_range: true,
    }
}

fn product(parts: &[(StorageClass, usize)], k: usize, m: usize) -> Product<'static> {
    let is_float = |class| onebit_plan::layout::Layout::of(class).is_none();
    let part = |&(class, n)| Part { class, n, output: Output::Arena { stride: n } };
    Product {
        k,
        parts: parts.iter().map(part).collect(),
        input: if is_float(parts[0].0) { Input::Floats { stride: k } } else { Input::Records },
        rows: RowsKind::All,
        m,
        tiles: 2,
    }
}
