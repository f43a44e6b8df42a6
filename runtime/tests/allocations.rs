//! Memory is allocated at load, never during a step: an allocator that counts, on the CPU and with
//! the products on the array. The only exception is rayon's.
//!
//! What answers the ioctls is the kernel's affair, so while the driver made of software does, and
//! while it emulates, nothing is counted.
#![cfg(target_arch = "x86_64")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use onebit_aie::gemm::{BufferSizes, Design, Results, Shape};
use onebit_models::Model;
use onebit_models::gguf::GgufFile;
use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;
use onebit_plan::trust::AllowedPlan;
use onebit_rt::driver::cpu::{CpuDriver, CpuOptions};
use onebit_rt::driver::npu::software::{Setup, SoftwareDriver};
use onebit_rt::driver::npu::{Call, Context, Errno, Ioctl, IoctlContext, MappingId};
use onebit_rt::driver::{Driver, Row};
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::Options;
use onebitc::schedule::array::ArrayLimits;
use onebitc::schedule::repack::Placement;

/// Allocations of all threads while [`COUNTS`] is set.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static COUNTS: AtomicBool = AtomicBool::new(false);

struct Counted;

impl Counted {
    fn count() {
        if COUNTS.load(Ordering::SeqCst) {
            ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// How often `work` allocates, the ioctls in it left out.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    COUNTS.store(true, Ordering::SeqCst);
    work();
    COUNTS.store(false, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// A driver whose own allocations are not counted.
struct Kernel(SoftwareDriver);

impl Ioctl for Kernel {
    fn ioctl(
        &mut self,
        number: u32,
        argument: &mut [u8],
        memory: &mut [&mut [u8]],
    ) -> Result<(), Errno> {
        let counts = COUNTS.swap(false, Ordering::SeqCst);
        let result = self.0.ioctl(number, argument, memory);
        COUNTS.store(counts, Ordering::SeqCst);
        result
    }

    fn map(&mut self, offset: u64, bytes: usize, alignment: usize) -> Result<MappingId, Errno> {
        self.0.map(offset, bytes, alignment)
    }

    fn address(&self, mapping: MappingId) -> u64 {
        self.0.address(mapping)
    }

    fn memory(&self, mapping: MappingId) -> &[u8] {
        self.0.memory(mapping)
    }

    fn memory_mut(&mut self, mapping: MappingId) -> &mut [u8] {
        self.0.memory_mut(mapping)
    }
}

fn plan(folder: &Path) -> AllowedPlan {
    let bytes = tiny_model("llama", &TinyOptions::default());
    let model = Model::from_file(GgufFile::parse(bytes).unwrap()).unwrap();
    let options = Options {
        context: Some(64),
        placement: Placement::Array,
        // Chains of several calls, too.
        array_limits: ArrayLimits { outputs: 64, ..ArrayLimits::default() },
        ..Options::default()
    };
    let path = folder.join("tiny.plan");
    onebitc::compile(&model, Path::new("tiny.gguf"), &path, &options, &mut |_, _| {}).unwrap();
    AllowedPlan::untrusted(PlanFile::open(path).unwrap())
}

/// What waking the team allocates: `rayon::ThreadPool::broadcast` makes a list of its jobs, one a
/// thread, of which a program has no say.
const OF_RAYON: usize = 1;

/// What a step of 32 rows and one of one row allocate together, once the team's threads run: what
/// these allocate as they start is a matter of when they do.
fn steps_allocate(driver: &mut dyn Driver) -> usize {
    let row = |position| Row { token: position, position, slot: 0, output: true };
    let prompt: Vec<Row> = (0..32).map(row).collect();
    let mut logits = vec![0.0; 32 * driver.limits().vocabulary as usize];
    let one = logits.len() / 32;
    driver.step(&prompt, &mut logits).unwrap();
    allocations(|| {
        driver.step(&prompt, &mut logits).unwrap();
        driver.step(&[row(32)], &mut logits[..one]).unwrap();
    })
}

/// What the first runs of a context allocate: a call, and a chain as long as any.
fn first_runs_allocate() -> usize {
    let design = Design::new().unwrap();
    let shape = Shape { n: 64, k: 64, group: 64, results: Results::Combined };
    let call = design.call(&shape).unwrap();
    let xclbin = design.xclbin().unwrap().to_bytes().unwrap();
    let kernel = Kernel(SoftwareDriver::new(Setup::default()));
    let mut context = IoctlContext::new(kernel, &xclbin).unwrap();
    let program = context.program(&call.txn).unwrap();
    let calls: Vec<Call> = (0..40)
        .map(|_| {
            let BufferSizes { activations, weights, results } = call.buffers;
            let sizes = [activations, weights, results];
            let arguments = sizes.map(|bytes| context.allocate(bytes).unwrap()).to_vec();
            Call { program, arguments }
        })
        .collect();
    allocations(|| {
        context.bytes_mut(calls[0].arguments[0]).unwrap().fill(1);
        context.run(&calls[..1]).unwrap();
        context.run(&calls).unwrap();
        assert!(context.bytes(calls[39].arguments[2]).is_ok());
    })
}

/// One test, since the count is of the whole process.
#[test]
fn steps_allocate_nothing_of_ours() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))) > 0, "it counts");
    assert_eq!(first_runs_allocate(), 0, "by the NPU's driver code");
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path());
    let options = || CpuOptions { threads: NonZeroUsize::new(2), slots: 1 };
    let mut driver = CpuDriver::load(plan.clone(), options()).unwrap();
    assert_eq!(steps_allocate(&mut driver), 2 * OF_RAYON, "on the CPU");

    let kernel = Kernel(SoftwareDriver::new(Setup::default()));
    let xclbin = plan.segment(SegmentKind::ArrayConfiguration);
    let context = Box::new(IoctlContext::new(kernel, xclbin).unwrap());
    let mut driver = CpuDriver::load_with_array(plan.clone(), options(), context).unwrap();
    let chained = plan.manifest().array.as_ref().unwrap();
    assert!(chained.groups.iter().any(|group| group.count > 1));
    assert_eq!(steps_allocate(&mut driver), 2 * OF_RAYON, "with the array");
}
