//! Products on the NPU, from the bytes of a design to results, on the emulated array behind the
//! driver made of software.

use onebit_aie::gemm::{self, Design, Results, Shape, pack};
use onebit_aie::program::{RegisterAddress, RegisterOp};
use onebit_aie::txn::{Txn, TxnHeader, TxnOp};
use onebit_rt::driver::npu::{
    BufferId, Call, CommandState, Context, Device, IoctlContext, NpuError, ProgramId, open,
    software::{Setup, SoftwareDriver, Waiting},
};

const fn shape(n: u32, k: u32, group: u32, results: Results) -> Shape {
    Shape { n, k, group, results }
}

const SHAPES: [Shape; 4] = [
    shape(64, 64, 64, Results::Combined),
    shape(192, 576, 576, Results::Combined),
    shape(100, 200, 200, Results::Separate),
    shape(1, 1, 1, Results::Combined),
];

fn xclbin(design: &Design) -> Vec<u8> {
    design.xclbin().unwrap().to_bytes().unwrap()
}

/// A product in a context: its buffers and program, and what must come out.
struct Product {
    call: gemm::Call,
    program: ProgramId,
    /// In the order of [`gemm::Argument`].
    buffers: [BufferId; 3],
    expected: Vec<i32>,
}

impl Product {
    fn new(context: &mut dyn Context, design: &Design, shape: &Shape, seed: u64) -> Self {
        let call = design.call(shape).unwrap();
        let (n, k) = (shape.n as usize, shape.k as usize);
        let mut state = seed;
        let mut bytes = |count: usize| (0..count).map(|_| next(&mut state)).collect::<Vec<i8>>();
        let (high, low, weights) = (bytes(32 * k), bytes(32 * k), bytes(n * k));
        let expected = pack::product(&call.tiling, &high, &low, &weights);
        let sizes = [call.buffers.activations, call.buffers.weights, call.buffers.results];
        let buffers = sizes.map(|size| context.allocate(size).unwrap());
        let activations = context.bytes_mut(buffers[0]).unwrap();
        pack::activations(&call.tiling, &high, &low, activations);
        let packed = pack::weights(&call.tiling, &weights);
        context.bytes_mut(buffers[1]).unwrap().copy_from_slice(&packed);
        let program = context.program(&call.txn).unwrap();
        Product { call, program, buffers, expected }
    }

    fn call(&self) -> Call {
        Call { program: self.program, arguments: self.buffers.to_vec() }
    }

    #[track_caller]
    fn check(&self, context: &mut dyn Context) {
        let found = context.bytes(self.buffers[2]).unwrap();
        let mut unpacked = vec![0; self.expected.len()];
        pack::results(&self.call.tiling, 32, found, &mut unpacked);
        assert_eq!(unpacked, self.expected);
    }
}

/// SplitMix64, a byte of it.
fn next(state: &mut u64) -> i8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) as i8
}

#[test]
fn single_calls_of_several_shapes_give_their_products() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    for (seed, shape) in (0..).zip(&SHAPES) {
        let product = Product::new(&mut *context, &design, shape, seed);
        context.run(&[product.call()]).unwrap();
        product.check(&mut *context);
    }
}

#[test]
fn a_chain_runs_different_shapes_in_order() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    let products: Vec<Product> = (10..)
        .zip([&SHAPES[1], &SHAPES[2], &SHAPES[0]])
        .map(|(seed, shape)| Product::new(&mut *context, &design, shape, seed))
        .collect();
    let calls: Vec<Call> = products.iter().map(Product::call).collect();
    context.run(&calls).unwrap();
    products.iter().for_each(|product| product.check(&mut *context));
}

/// 36 calls are one chain; 80 are three, the last of them of 8.
#[test]
fn more_calls_than_a_chain_holds_are_several_chains() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    let one = Product::new(&mut *context, &design, &SHAPES[3], 1);
    let other = Product::new(&mut *context, &design, &SHAPES[0], 2);
    let mut calls = vec![one.call(); 79];
    calls.push(other.call());
    context.run(&calls).unwrap();
    one.check(&mut *context);
    other.check(&mut *context);
    context.run(&[]).unwrap();
}

/// What a caller does between two tokens: new activations, the same weights and program.
#[test]
fn buffers_are_used_again() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    let mut first = Product::new(&mut *context, &design, &SHAPES[0], 7);
    context.run(&[first.call()]).unwrap();
    first.check(&mut *context);
    let zeros = vec![0; first.call.buffers.activations as usize];
    context.bytes_mut(first.buffers[0]).unwrap().copy_from_slice(&zeros);
    first.expected.fill(0);
    context.run(&[first.call()]).unwrap();
    first.check(&mut *context);
}

/// Linux's own driver has no ioctl to wait.
#[test]
fn a_driver_that_waits_on_its_timeline_only_will_do() {
    let design = Design::new().unwrap();
    let setup = Setup { waiting: Waiting::TimelineOnly, ..Setup::default() };
    let mut context = IoctlContext::new(SoftwareDriver::new(setup), &xclbin(&design)).unwrap();
    for seed in 0..2 {
        let product = Product::new(&mut context, &design, &SHAPES[0], seed);
        context.run(&[product.call()]).unwrap();
        product.check(&mut context);
    }
}

/// Results that are waited for before anything computes them: the stream's last sync.
#[test]
fn a_call_that_never_ends_is_a_timeout_that_says_where_and_the_context_is_lost() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    let good = Product::new(&mut *context, &design, &SHAPES[0], 1);
    // The same stream but for its start of the activations: it is the last but one operation.
    let mut txn = Txn::parse(&good.call.txn).unwrap();
    let start = txn.ops.len() - 2;
    txn.ops.remove(start);
    let stuck = context.program(&txn.to_bytes().unwrap()).unwrap();
    let mut calls = vec![good.call(); 3];
    calls[1].program = stuck;
    let error = context.run(&calls).unwrap_err();
    let NpuError::Command { call: 1, state, health: Some(health), detail } = &error else {
        panic!("{error}");
    };
    assert_eq!(*state, CommandState::Timeout);
    assert_eq!(health.txn_op_idx as usize, txn.ops.len() - 1, "{error}");
    assert!(detail.as_ref().is_some_and(|detail| detail.contains("deadlock")), "{error}");
    assert!(matches!(context.run(&[good.call()]), Err(NpuError::Lost)));
    assert!(matches!(context.bytes(good.buffers[2]), Err(NpuError::Lost)));
    assert!(matches!(context.bytes_mut(good.buffers[2]), Err(NpuError::Lost)));
    // Nothing of a lost context is looked at, not even what is wrong of itself.
    for bytes in [0, 64] {
        assert!(matches!(context.allocate(bytes), Err(NpuError::Lost)));
    }
    for txn in [&good.call.txn[..], &[]] {
        assert!(matches!(context.program(txn), Err(NpuError::Lost)));
    }
}

#[test]
fn wrong_numbers_are_found_before_anything_runs() {
    let design = Design::new().unwrap();
    let xclbin = xclbin(&design);
    let mut context = open(Device::Emulator, &xclbin).unwrap();
    let mut larger = open(Device::Emulator, &xclbin).unwrap();
    let product = Product::new(&mut *context, &design, &SHAPES[0], 1);
    Product::new(&mut *larger, &design, &SHAPES[0], 1);
    let stranger = Product::new(&mut *larger, &design, &SHAPES[0], 1);
    let with =
        |arguments: &[BufferId]| Call { program: product.program, arguments: arguments.to_vec() };
    let error = context.run(&[product.call(), with(&stranger.buffers)]).unwrap_err();
    assert!(matches!(error, NpuError::NoSuchBuffer { index: 3 }), "{error}");
    let error = context.run(&[with(&[product.buffers[0]; 6])]).unwrap_err();
    assert!(matches!(error, NpuError::Arguments { found: 6 }), "{error}");
    let error = context.run(&[Call { program: stranger.program, ..product.call() }]).unwrap_err();
    assert!(matches!(error, NpuError::NoSuchProgram { index: 1 }), "{error}");
    assert!(context.bytes(product.buffers[2]).unwrap().iter().all(|&byte| byte == 0));
    assert!(matches!(context.bytes(stranger.buffers[0]), Err(NpuError::NoSuchBuffer { .. })));
    context.run(&[product.call()]).unwrap();
    product.check(&mut *context);
}

#[test]
fn sizes_and_streams_are_checked() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    assert!(matches!(context.allocate(0), Err(NpuError::Size { bytes: 0 })));
    assert!(matches!(context.allocate(u64::MAX), Err(NpuError::Size { .. })));
    let buffer = context.allocate(5).unwrap();
    assert_eq!(context.bytes(buffer).unwrap(), [0; 5]);
    let txn = design.call(&SHAPES[0]).unwrap().txn;
    for wrong in [&[][..], &txn[..12], &txn[..txn.len() - 4], &[&txn[..], &[0; 4]].concat()] {
        let error = context.program(wrong).unwrap_err();
        assert!(matches!(error, NpuError::Instructions(_)), "{error}");
    }
    let good = Txn::parse(&txn).unwrap();
    let at = |column, row| RegisterAddress::new(column, row, 0).unwrap();
    let patch = TxnOp::AddressPatch { register: at(0, 0), argument: 5, addend: 0 };
    let far = RegisterOp::Write32 { address: at(9, 2), value: 1 };
    for (change, found) in [
        (TxnOp::LoadPdi { id: 1, bytes: 16, address: 0x1000 }, "another configuration"),
        (patch, "buffer 5"),
        (TxnOp::Register(far), "column 9"),
    ] {
        let mut other = good.clone();
        other.ops.push(change);
        let error = context.program(&other.to_bytes().unwrap()).unwrap_err();
        assert!(matches!(error, NpuError::Stream { .. }), "{error}");
        assert!(error.to_string().contains(found), "{error}");
        assert!(error.help().contains("compile"), "{}", error.help());
    }
    let header = TxnHeader { generation: 3, ..good.header };
    let other = Txn { header, ops: good.ops.clone() }.to_bytes().unwrap();
    assert!(matches!(context.program(&other), Err(NpuError::Stream { .. })));
    assert!(context.program(&txn).is_ok());
}

/// An argument that the stream writes cannot be read from another place at the same time.
#[test]
fn a_result_that_is_also_another_argument_is_an_error_of_the_emulator() {
    let design = Design::new().unwrap();
    let mut context = open(Device::Emulator, &xclbin(&design)).unwrap();
    let product = Product::new(&mut *context, &design, &SHAPES[0], 1);
    let large = product.call.buffers.results.max(product.call.buffers.weights);
    let both = context.allocate(large.max(product.call.buffers.activations)).unwrap();
    context.bytes_mut(both).unwrap().fill(1);
    let arguments = vec![both; 3];
    let error = context.run(&[Call { program: product.program, arguments }]).unwrap_err();
    let NpuError::Command { state: CommandState::Error, health: None, .. } = error else {
        panic!("{error}");
    };
}
