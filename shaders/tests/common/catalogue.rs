//! The kernels that checks without a device go over: every builder, in the shapes of small models.

use onebit_plan::abi::StorageClass;
use onebit_shaders::Kernel;
use onebit_shaders::product::{Input, Output, Part, Product, RowsKind};

/// Every kernel.
pub fn kernels() -> Vec<Kernel> {
    products().iter().map(Product::kernel).collect()
}

/// Products of every class for one, four and eight rows, the head, and two products in one.
pub fn products() -> Vec<Product> {
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
    head.tiles = 4;
    products.push(head);
    products
}

fn product(parts: &[(StorageClass, usize)], k: usize, m: usize) -> Product {
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
