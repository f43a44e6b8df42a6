//! The table of microkernels, and the choice among them for a CPU.

use onebit_plan::abi::{
    ArrayFn, AttentionFn, BarrierFn, GatherFn, KernelId, KvWriteFn, MatmulFn, RopeTableFn,
    StorageClass, TraceFn,
};

use crate::{array, attention, barrier, gather, layout, matmul, rope};

/// An instruction set that kernels are written for. A later one includes all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, any CPU.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// `Avx2` and AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

impl Isa {
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this CPU (and operating system) runs it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }
}

/// A microkernel with the signature of its [`KernelId`].
#[derive(Clone, Copy)]
enum Function {
    Barrier(BarrierFn),
    RopeTable(RopeTableFn),
    KvWrite(KvWriteFn),
    Attention(AttentionFn),
    Matmul(StorageClass, MatmulFn),
    Gather(StorageClass, GatherFn),
    Array(ArrayFn),
    Trace(TraceFn),
}

impl Function {
    fn id(self) -> KernelId {
        match self {
            Self::Barrier(_) => KernelId::Barrier,
            Self::RopeTable(_) => KernelId::RopeTable,
            Self::KvWrite(_) => KernelId::KvWrite,
            Self::Attention(_) => KernelId::Attention,
            Self::Matmul(class, _) => KernelId::Matmul(class),
            Self::Gather(class, _) => KernelId::Gather(class),
            Self::Array(_) => KernelId::Array,
            Self::Trace(_) => KernelId::Trace,
        }
    }

    fn address(self) -> *const u8 {
        match self {
            Self::Barrier(function) => function as *const u8,
            Self::RopeTable(function) => function as *const u8,
            Self::KvWrite(function) => function as *const u8,
            Self::Attention(function) => function as *const u8,
            Self::Matmul(_, function) => function as *const u8,
            Self::Gather(_, function) => function as *const u8,
            Self::Array(function) => function as *const u8,
            Self::Trace(function) => function as *const u8,
        }
    }
}

/// One implementation of a kernel.
struct Variant {
    isa: Isa,
    function: Function,
}

const fn variant(isa: Isa, function: Function) -> Variant {
    Variant { isa, function }
}

/// The matrix products of one instruction set.
macro_rules! matmuls {
    ($isa:ident: $($module:ident::$function:ident for $($class:ident)*;)*) => {
        [$($(variant(Isa::$isa, Function::Matmul(
            StorageClass::$class,
            matmul::$module::$function::<layout::$class>,
        )),)*)*]
    };
}

macro_rules! gathers {
    ($($function:ident for $($class:ident)*;)*) => {
        [$($(variant(Isa::Portable, Function::Gather(
            StorageClass::$class,
            gather::$function::<layout::$class>,
        )),)*)*]
    };
}

const CLASSES: usize = StorageClass::ALL.len();

/// Kernels that every CPU runs: one for each [`KernelId`].
static PORTABLE: [Variant; 6] = [
    variant(Isa::Portable, Function::Barrier(barrier::barrier)),
    variant(Isa::Portable, Function::RopeTable(rope::rope_table)),
    variant(Isa::Portable, Function::KvWrite(attention::portable::kv_write)),
    variant(Isa::Portable, Function::Attention(attention::portable::attention)),
    variant(Isa::Portable, Function::Array(array::portable)),
    variant(Isa::Portable, Function::Trace(barrier::trace)),
];

static PORTABLE_MATMUL: [Variant; CLASSES] = matmuls! { Portable:
    portable::integer for B1D T2D Q2K Q3K M4E N4K N4D Q4D Q4DM Q5D Q5DM Q8D Q4K Q5K Q6K I8G16 I8G16M;
    portable::float for F16 BF16 F32;
};

static PORTABLE_GATHER: [Variant; CLASSES] = gathers! {
    integer for B1D T2D Q2K Q3K M4E N4K N4D Q4D Q4DM Q5D Q5DM Q8D Q4K Q5K Q6K I8G16 I8G16M;
    float for F16 BF16 F32;
};

#[cfg(target_arch = "x86_64")]
static X86_ATTENTION: [Variant; 4] = [
    variant(Isa::Avx2, Function::KvWrite(attention::avx2::kv_write)),
    variant(Isa::Avx2, Function::Attention(attention::avx2::attention)),
    variant(Isa::Avx512, Function::KvWrite(attention::avx512::kv_write)),
    variant(Isa::Avx512, Function::Attention(attention::avx512::attention)),
];

#[cfg(target_arch = "x86_64")]
static X86_ARRAY: [Variant; 2] = [
    variant(Isa::Avx2, Function::Array(array::avx2)),
    variant(Isa::Avx512, Function::Array(array::avx512)),
];

#[cfg(target_arch = "x86_64")]
static AVX2_MATMUL: [Variant; CLASSES] = matmuls! { Avx2:
    avx2::integer for B1D T2D Q2K Q3K M4E N4K N4D Q4D Q4DM Q5D Q5DM Q8D Q4K Q5K Q6K I8G16 I8G16M;
    avx2::float for F16 BF16 F32;
};

#[cfg(target_arch = "x86_64")]
static AVX512_MATMUL: [Variant; CLASSES] = matmuls! { Avx512:
    avx512::integer for B1D T2D Q2K Q3K M4E N4K N4D Q4D Q4DM Q5D Q5DM Q8D Q4K Q5K Q6K I8G16 I8G16M;
    avx512::float for F16 BF16 F32;
};

/// Every variant. Deleting a row that is not portable slows one kernel down and changes nothing.
#[cfg(target_arch = "x86_64")]
static VARIANTS: [&[Variant]; 7] = [
    &PORTABLE,
    &PORTABLE_MATMUL,
    &PORTABLE_GATHER,
    &X86_ATTENTION,
    &X86_ARRAY,
    &AVX2_MATMUL,
    &AVX512_MATMUL,
];
#[cfg(not(target_arch = "x86_64"))]
static VARIANTS: [&[Variant]; 3] = [&PORTABLE, &PORTABLE_MATMUL, &PORTABLE_GATHER];

/// The kernels of one instruction set, each the fastest variant that it allows.
#[derive(Clone)]
pub struct Kernels {
    isa: Isa,
    functions: Vec<Function>,
}

impl Kernels {
    /// Kernels of the best instruction set that this CPU has.
    pub fn detect() -> Self {
        let best = Isa::ALL.into_iter().rev().find_map(Self::for_isa);
        best.unwrap_or_else(|| Self::select(Isa::Portable))
    }

    /// Kernels of `isa`, or `None` where this CPU does not have it.
    pub fn for_isa(isa: Isa) -> Option<Self> {
        isa.is_available().then(|| Self::select(isa))
    }

    /// The instruction set these kernels need.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Address of the kernel `id`, with the signature that [`KernelId`] names.
    pub fn function(&self, id: KernelId) -> *const u8 {
        self.functions[id.slot()].address()
    }

    /// All addresses in slot order, as [`StepContext`](onebit_plan::abi::StepContext) wants them.
    pub fn addresses(&self) -> Vec<*const u8> {
        self.functions.iter().map(|function| function.address()).collect()
    }

    /// The matrix product of `class`.
    pub fn matmul(&self, class: StorageClass) -> MatmulFn {
        match self.functions[KernelId::Matmul(class).slot()] {
            Function::Matmul(_, function) => function,
            _ => unreachable!("slots hold the kernel of their id"),
        }
    }

    /// The row gather of `class`.
    pub fn gather(&self, class: StorageClass) -> GatherFn {
        match self.functions[KernelId::Gather(class).slot()] {
            Function::Gather(_, function) => function,
            _ => unreachable!("slots hold the kernel of their id"),
        }
    }

    fn select(isa: Isa) -> Self {
        crate::array::prepare();
        let allowed = || VARIANTS.iter().copied().flatten().filter(move |v| v.isa <= isa);
        let best = |slot: usize| {
            allowed()
                .filter(|variant| variant.function.id().slot() == slot)
                .max_by_key(|variant| variant.isa)
                .map(|variant| variant.function)
                .expect("every kernel has a portable variant")
        };
        Self { isa, functions: (0..KernelId::COUNT).map(best).collect() }
    }
}
