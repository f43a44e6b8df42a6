//! Storage classes as types, so that kernels are compiled once per class. Their byte layout stands
//! in [`onebit_plan::layout`].

use onebit_plan::abi::StorageClass;
pub(crate) use onebit_plan::layout::{Codes, Layout, SPAN, ScaleForm};
pub use onebit_plan::layout::{packed_bytes, supports, tile_bytes};

/// A storage class as a type, so that kernels are compiled once per class.
pub(crate) trait Class {
    const CLASS: StorageClass;
}

/// An integer storage class as a type.
pub(crate) trait IntegerClass: Class {
    const LAYOUT: Layout = match Layout::of(Self::CLASS) {
        Some(layout) => layout,
        None => panic!("float classes have no block layout"),
    };
}

/// A float storage class as a type.
pub(crate) trait FloatClass: Class {}

macro_rules! classes {
    ($kind:ident: $($name:ident)*) => { $(
        pub(crate) struct $name;
        impl Class for $name {
            const CLASS: StorageClass = StorageClass::$name;
        }
        impl $kind for $name {}
    )* };
}

classes!(IntegerClass: B1D T2D Q2K Q3K M4E N4K N4D Q4D Q4DM Q5D Q5DM Q8D Q4K Q5K Q6K I8G16 I8G16M);
classes!(FloatClass: F16 BF16 F32);
