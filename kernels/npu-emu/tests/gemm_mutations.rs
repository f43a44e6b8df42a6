//! One thing wrong at a time: in the program, the configuration or the call of the matrix design.
//! The emulated array must find each, as a fault or as a wrong product.

mod gemm_data;

use gemm_data::{GatedOperands, Operands, results};
use onebit_aie::cdo::Cdo;
use onebit_aie::gemm::block::Spacing;
use onebit_aie::gemm::gated::{self, Factor, Gated};
use onebit_aie::gemm::{Design, Results, Shape, kernel, mapping, pack};
use onebit_aie::isa::assemble;
use onebit_aie::pdi::Pdi;
use onebit_aie::program::{RegisterAddress, RegisterOp, RegisterProgram};
use onebit_aie::txn::{Txn, TxnOp};
use onebit_aie::xclbin::Xclbin;
use onebit_aie_emu::Array;
use onebit_aie_emu::array::{Latency, Options};

/// What is wrong.
enum Mutation {
    /// In the block with this label, the first such text becomes another.
    Program { label: &'static str, from: &'static str, to: &'static str },
    /// A word of the configuration: the write to this register of this tile, its word.
    Word { column: u32, row: u32, offset: u32, word: usize, change: fn(u32) -> u32 },
    /// A write of the configuration that is missing.
    Missing { column: u32, row: u32, offset: u32 },
    /// The operations of the call.
    Call(fn(&mut Vec<TxnOp>)),
}

use Mutation::{Call, Missing, Program, Word};

/// Two products: with one sum for each output, both planes combined and a unit without a second,
/// and the contrary.
const SHAPES: [Shape; 2] = [
    Shape { n: 704, k: 576, group: 576, results: Results::Combined },
    Shape { n: 1536, k: 768, group: 256, results: Results::Separate },
];

/// A granule that is lost in each call is missed when the ring has no other left.
const ROUNDS: usize = 5;

#[rustfmt::skip]
const MUTATIONS: &[(&str, Mutation)] = &[
    // The program of the compute tiles.
    ("activations never given back", Program { label: "segment_end", from: "rel #48, r9", to: "nopx" }),
    ("one granule of activations given back", Program { label: "segment_end", from: "rel #48, r9", to: "rel #48, r14" }),
    ("weights never given back", Program { label: "weights_done", from: "rel #50, r26", to: "nopx" }),
    ("the call's last weights never given back", Program { label: "drop_weights", from: "rel #50, r14", to: "nopx" }),
    ("results never announced", Program { label: "combined", from: "rel #53, r14", to: "nopx" }),
    ("results of one plane never announced", Program { label: "separate_low", from: "rel #53, r14", to: "nopx" }),
    ("activations not waited for", Program { label: "segment", from: "acq #49, r11", to: "nopx" }),
    ("weights not waited for", Program { label: "next_weights", from: "acq #51, r25", to: "nopx" }),
    ("room for results not waited for", Program { label: "separate_low", from: "acq #52, r13", to: "nopx" }),
    ("a call's parameters not waited for", Program { label: "call", from: "acq #49, r13", to: "nopx" }),
    ("one brick too few", Program { label: "sums", from: "add r5, r9, #-1", to: "add r5, r9, #-2" }),
    ("a brick of weights skipped", Program { label: "setup", from: "movxm r31, #512", to: "movxm r31, #1024" }),
    ("a loop's condition turned round", Program { label: "pair_end", from: "jnz r4", to: "jz r4" }),
    ("a jump to the wrong loop", Program { label: "segment_end", from: "jnz r3, #@segment", to: "jnz r3, #@group" }),
    ("a delay slot too few", Program { label: "pair_end", from: "  nop\n", to: "" }),
    ("the rings half as long", Program { label: "setup", from: "movxm r17, #8191", to: "movxm r17, #4095" }),
    ("weights from 64 bytes on", Program { label: "setup", from: "movxm r28, #507904", to: "movxm r28, #507968" }),
    ("another product", Program { label: "setup", from: "movxm r30, #776", to: "movxm r30, #768" }),
    ("the high plane counts 64 times", Program { label: "combined", from: "vadd.32 x3, x3, x3", to: "nopm" }),
    ("the planes change places", Program { label: "brick", from: "vmac dm0, dm0", to: "vmac dm1, dm1" }),
    ("sums of a segment start from zero", Program { label: "segment_end", from: "mov m0, m1", to: "mov m0, r0" }),
    ("the second unit's sums in the first's place", Program { label: "pair_sums", from: "padda [p3], m1", to: "nopa" }),
    ("a load into another register", Program { label: "last_brick", from: "vldb x2, [p6]", to: "vldb x3, [p6]" }),
    ("the last turn repeated", Program { label: "brick", from: "jnz r5, #@brick", to: "jnz r9, #@brick" }),
    ("a single unit taken for two", Program { label: "pair", from: "nez r12, r25", to: "nez r12, r4" }),
    ("granules needed counted as those done with", Program { label: "pair", from: "ashl r27, r27, r16", to: "lshl r27, r27, r0" }),
    ("the wrong pointer set", Program { label: "brick", from: "mov p1, r25", to: "mov p6, r25" }),
    ("a turn that misses its last word", Program { label: "brick", from: "  vmac dm1, dm1, x8, x9, r30; vlda x7, [p0], #64\n", to: "" }),
    ("a parameter used before its load lands", Program { label: "call", from: "  nop\n  sub r11", to: "  sub r11" }),
    // The configuration.
    ("no room in the ring of weights", Word { column: 3, row: 1, offset: 0xc0100, word: 0, change: |_| 0 }),
    ("room for more activations than the ring has", Word { column: 3, row: 3, offset: 0x1f000, word: 0, change: |_| 10 }),
    ("activations announced that are not there", Word { column: 2, row: 3, offset: 0x1f010, word: 0, change: |_| 8 }),
    ("a descriptor one word short", Word { column: 1, row: 2, offset: 0x1d000, word: 0, change: |word| word - 1 }),
    ("a descriptor 64 bytes further", Word { column: 7, row: 5, offset: 0x1d100, word: 0, change: |word| word + (16 << 14) }),
    ("a chain that skips a granule", Word { column: 4, row: 2, offset: 0x1d000, word: 5, change: |word| word + (1 << 27) }),
    ("a chain that ends", Word { column: 4, row: 4, offset: 0x1d120, word: 5, change: |word| word & !(1 << 26) }),
    ("two descriptors change places", Word { column: 0, row: 1, offset: 0xa0500, word: 1, change: |word| word + 0x80 }),
    ("a lock of the western neighbour", Word { column: 5, row: 1, offset: 0xa0180, word: 7, change: |word| word - 64 }),
    ("a descriptor that takes nothing", Word { column: 5, row: 2, offset: 0x1d180, word: 5, change: |word| word & !(1 << 12) }),
    ("a descriptor that gives two", Word { column: 6, row: 4, offset: 0x1d100, word: 5, change: |word| word + (1 << 18) }),
    ("activations of the tile above", Word { column: 2, row: 2, offset: 0x3f004, word: 0, change: |word| word + 1 }),
    ("results to the wrong lane", Word { column: 2, row: 3, offset: 0x3f018, word: 0, change: |word| word - 1 }),
    ("no way to the tiles above", Missing { column: 6, row: 2, offset: 0x3f044 }),
    ("no way to the next column", Missing { column: 3, row: 0, offset: 0x3f048 }),
    ("a shim's DMA not connected", Missing { column: 4, row: 0, offset: 0x1f004 }),
    ("reports that lead nowhere", Missing { column: 1, row: 0, offset: 0x3f008 }),
    ("a core that does not run", Word { column: 7, row: 2, offset: 0x32000, word: 3, change: |_| 0 }),
    ("a channel that is not started", Missing { column: 7, row: 1, offset: 0xa0644 }),
    // The call.
    ("weights one granule short", Call(|ops| shim_word(ops, 3, 1, 0, |word| word - 512))),
    ("results one word short", Call(|ops| shim_word(ops, 5, 2, 0, |word| word - 1))),
    ("weights of the next column", Call(|ops| patch(ops, 4, 1, |argument, addend| (argument, addend + 2048)))),
    ("activations from the buffer of weights", Call(|ops| patch(ops, 0, 0, |_, addend| (1, addend)))),
    ("one output block more", Call(|ops| parameter(ops, 3, |word| word + 1))),
    ("a segment less", Call(|ops| parameter(ops, 2, |word| word - 1))),
    ("a pass more", Call(|ops| parameter(ops, 0, |word| word + 1))),
    ("no parameters for a tile", Call(|ops| { ops.remove(9); })),
    ("weights not started", Call(|ops| remove_start(ops, 6, 0x1d21c))),
    ("activations sent twice", Call(|ops| start(ops, 0, 0x1d214, |word| word + (1 << 16)))),
    ("results not reported", Call(|ops| start(ops, 2, 0x1d204, |word| word & !(1 << 31)))),
    ("a wait for another channel", Call(|ops| {
        if let Some(TxnOp::Sync { channel, .. }) = ops.last_mut() { *channel = 1; }
    })),
];

/// What can be wrong with gates.
#[rustfmt::skip]
const GATE_MUTATIONS: &[(&str, Mutation)] = &[
    ("sums of a gate sent as they are", Program { label: "pair_sums", from: "or r25, r25, r27", to: "nopx" }),
    ("a gate taken for a product", Program { label: "gate", from: "jnz r25", to: "jz r25" }),
    ("scales not waited for", Program { label: "gate_start", from: "acq #51, r13", to: "nopx" }),
    ("rows' constants not waited for", Program { label: "gate_start", from: "acq #49, r13", to: "nopx" }),
    ("scales never given back", Program { label: "gate_pass_end", from: "rel #50, r14", to: "nopx" }),
    ("rows' constants never given back", Program { label: "gate_pass_end", from: "rel #48, r14", to: "nopx" }),
    ("the high plane counts 64 times", Program { label: "gate_combine", from: "vadd.32 x3, x3, x3", to: "nopm" }),
    ("the sums of up not combined", Program { label: "gate_combine", from: "padda [p1], m7", to: "nopa" }),
    ("the gate gates itself", Program { label: "gate_pair", from: "lda r1, [p1, #0]", to: "lda r1, [p0, #0]" }),
    ("up's scale for the gate", Program { label: "gate_pair", from: "lda r1, [p2, #0]", to: "lda r1, [p7, #0]" }),
    ("the limits change places", Program { label: "gate_pair", from: "sel.nez r3, r10, r0, r27", to: "sel.nez r3, r0, r10, r27" }),
    ("a value for its slope", Program { label: "gate_pair", from: "lda.s16 r5, [p5, dj0]", to: "lda.s16 r5, [p3, dj0]" }),
    ("no interpolation", Program { label: "gate_pair", from: "extend.u8 r3, r3", to: "extend.u8 r3, r27" }),
    ("a result not counted", Program { label: "gate_pair", from: "or r7, r7, r3", to: "nopx" }),
    ("a load used before it lands", Program { label: "gate_pair", from: "  .exact\n  nop\n  .full\n", to: "" }),
    ("all rows like the first", Program { label: "gate_row_end", from: "padda [p6], m6", to: "nopa" }),
    ("results of the next pass over the first", Program { label: "gate_start", from: "mul r25, r25, r2", to: "mul r25, r25, r0" }),
    ("from the wrong place of the table", Program { label: "gate_rows", from: "movxm r24, #1024", to: "movxm r24, #1020" }),
    ("codes not shifted", Program { label: "code_pairs", from: "ashl r8, r8, r6", to: "nopx" }),
    ("a bit too many of a code", Program { label: "codes", from: "movxm r7, #18", to: "movxm r7, #17" }),
    ("the low plane with the high one's bits", Program { label: "send_pairs", from: "vband x0, x0, x11", to: "nopm" }),
    ("the high plane with a bit of the low one", Program { label: "send", from: "movxm s0, #7", to: "movxm s0, #6" }),
    ("codes rounded to the nearest", Program { label: "send", from: "movxm crrnd, #0", to: "movxm crrnd, #9" }),
    ("codes never announced", Program { label: "send_pairs", from: "rel #53, r14", to: "nopx" }),
    ("shifts never announced", Program { label: "send_shifts", from: "rel #53, r14", to: "nopx" }),
    ("room for codes not waited for", Program { label: "send_pairs", from: "acq #52, r13", to: "nopx" }),
    ("a pass too few", Program { label: "gate_pass_end", from: "add r1, r1, #-1", to: "add r1, r1, #-2" }),
    ("the place in the ring of weights forgotten", Program { label: "gate_resume", from: "mov r21, dn2", to: "mov r21, dn1" }),
    ("the ring of results turned", Program { label: "send_shifts", from: "xor r23, r23, r24", to: "nopx" }),
    ("a value of a table", Word { column: 1, row: 3, offset: 0xa280, word: 256, change: |word| word ^ 64 }),
    ("the other gate's table", Call(|ops| parameter(ops, 6, |word| if word == 0 { 0 } else { word ^ 0x800 }))),
    ("results over the sums", Call(|ops| parameter(ops, 7, |word| word - 512))),
    ("codes read without the gaps", Call(|ops| shim_word(ops, 0, 0, 5, |word| word - if word & 0xf_ffff == 0 { 0 } else { 256 }))),
    ("runs of a block too short", Call(|ops| shim_word(ops, 0, 0, 4, |word| if word & 0xf_ffff == 0 { word } else { word - 1 }))),
];

/// Gates of one pass and of three, and how many outputs read each.
const GATES: [(Gated, u32); 2] = [
    (Gated { outputs: 512, k: 130, factor: Factor::Sigmoid }, 100),
    (Gated { outputs: 3072, k: 64, factor: Factor::Normal }, 64),
];

fn shim_word(ops: &mut [TxnOp], column: u32, id: u32, word: usize, change: fn(u32) -> u32) {
    let at = RegisterAddress::new(column, 0, 0x1d000 + 0x20 * id).unwrap();
    for op in ops {
        if let TxnOp::Register(RegisterOp::BlockWrite { address, data }) = op
            && *address == at
        {
            data[word] = change(data[word]);
        }
    }
}

fn patch(ops: &mut [TxnOp], column: u32, id: u32, change: fn(u32, u64) -> (u32, u64)) {
    let at = RegisterAddress::new(column, 0, 0x1d004 + 0x20 * id).unwrap();
    for op in ops {
        if let TxnOp::AddressPatch { register, argument, addend } = op
            && *register == at
        {
            (*argument, *addend) = change(*argument, *addend);
        }
    }
}

/// Changes a parameter of one tile.
fn parameter(ops: &mut [TxnOp], index: usize, change: fn(u32) -> u32) {
    if let Some(TxnOp::Register(RegisterOp::BlockWrite { data, .. })) = ops.get_mut(17) {
        data[index] = change(data[index]);
    }
}

fn start(ops: &mut [TxnOp], column: u32, offset: u32, change: fn(u32) -> u32) {
    let at = RegisterAddress::new(column, 0, offset).unwrap();
    for op in ops {
        if let TxnOp::Register(RegisterOp::Write32 { address, value }) = op
            && *address == at
        {
            *value = change(*value);
        }
    }
}

fn remove_start(ops: &mut Vec<TxnOp>, column: u32, offset: u32) {
    let at = RegisterAddress::new(column, 0, offset).unwrap();
    ops.retain(
        |op| !matches!(op, TxnOp::Register(RegisterOp::Write32 { address, .. }) if *address == at),
    );
}

impl Mutation {
    fn text(&self, text: &str) -> String {
        let Program { label, from, to } = self else { return text.to_owned() };
        let at = text.find(&format!("\n{label}:\n")).expect(label);
        let place = at + text[at..].find(from).expect(from);
        format!("{}{to}{}", &text[..place], &text[place + from.len()..])
    }

    fn configuration(&self, program: &mut RegisterProgram) {
        let register = |column: &u32, row: &u32, offset: &u32| {
            RegisterAddress::new(*column, *row, *offset).unwrap()
        };
        match self {
            Program { .. } | Call(_) => {}
            Missing { column, row, offset } => {
                let at = register(column, row, offset);
                let before = program.ops.len();
                program.ops.retain(|op| address_of(op) != at);
                assert!(program.ops.len() < before, "no write to {at:?}");
            }
            Word { column, row, offset, word, change } => {
                let at = register(column, row, offset);
                let mut writes: Vec<&mut RegisterOp> =
                    program.ops.iter_mut().filter(|op| address_of(op) == at).collect();
                // Registers that are written several times: `word` says which time.
                let time = if writes.len() > 1 { *word } else { 0 };
                match &mut *writes[time] {
                    RegisterOp::Write32 { value, .. } | RegisterOp::MaskWrite { value, .. } => {
                        *value = change(*value);
                    }
                    RegisterOp::BlockWrite { data, .. } => data[*word] = change(data[*word]),
                }
            }
        }
    }
}

fn address_of(op: &RegisterOp) -> RegisterAddress {
    match op {
        RegisterOp::Write32 { address, .. }
        | RegisterOp::MaskWrite { address, .. }
        | RegisterOp::BlockWrite { address, .. } => *address,
    }
}

/// What an array is asked to do, again and again.
#[derive(Clone, Copy)]
enum Work {
    Products,
    Gates,
}

/// An array with the design and `mutation`, `None` for none.
fn array(mutation: Option<&Mutation>) -> Result<(Array, Design), String> {
    // The program with less room for what is wrong with it.
    let spacing = Spacing::DOCUMENTED;
    let text = kernel::program(&spacing).unwrap().text;
    let text = mutation.map_or(text.clone(), |mutation| mutation.text(&text));
    let mut code = assemble(&text, 0).unwrap();
    // An idle word less has two bytes less.
    code.resize(code.len().next_multiple_of(4), 0);
    let mut program = mapping::configuration(&code).unwrap().register_program().unwrap();
    if let Some(mutation) = mutation {
        mutation.configuration(&mut program);
    }
    let pdi = Pdi::new(Cdo::from_program(&program));
    let container = Xclbin::new(8, pdi).unwrap().to_bytes().unwrap();
    let options = Options { latency: Latency::Documented, seed: Some(11), ..Options::default() };
    let array = Array::configure(&container, options).map_err(|fault| fault.to_string())?;
    Ok((array, Design::spaced(&spacing).unwrap()))
}

/// The bytes of a call's stream, with `mutation`.
fn stream(call: &onebit_aie::gemm::Call, mutation: Option<&Mutation>) -> Vec<u8> {
    let mut txn = Txn::parse(&call.txn).unwrap();
    if let Some(Call(change)) = mutation {
        change(&mut txn.ops);
    }
    txn.to_bytes().unwrap()
}

/// What comes of it: `Ok` when all is right [`ROUNDS`] times, else what went wrong.
fn outcome(mutation: Option<&Mutation>, work: Work) -> Result<(), String> {
    let (mut array, design) = array(mutation)?;
    match work {
        Work::Products => {
            for (seed, shape) in (0..).zip([&SHAPES; ROUNDS].into_iter().flatten()) {
                product(&mut array, &design, mutation, (shape, seed))?;
            }
        }
        Work::Gates => {
            for (seed, gate) in (0..).zip([&GATES; ROUNDS].into_iter().flatten()) {
                gated_product(&mut array, &design, mutation, (gate, seed))?;
            }
        }
    }
    Ok(())
}

fn product(
    array: &mut Array,
    design: &Design,
    mutation: Option<&Mutation>,
    (shape, seed): (&Shape, u64),
) -> Result<(), String> {
    let call = design.call(shape).unwrap();
    let operands = Operands::random(shape, 32, seed);
    let mut arguments = vec![
        operands.activations(&call.tiling),
        pack::weights(&call.tiling, &operands.weights),
        vec![0; call.buffers.results as usize],
    ];
    let run = array.run(&stream(&call, mutation), &mut arguments);
    run.map_err(|fault| fault.to_string())?;
    let found = results(&call.tiling, &arguments[2]);
    let expected = pack::product(&call.tiling, &operands.high, &operands.low, &operands.weights);
    if found != expected { Err(format!("{shape:?}: a wrong product")) } else { Ok(()) }
}

/// A gate and what reads it.
fn gated_product(
    array: &mut Array,
    design: &Design,
    mutation: Option<&Mutation>,
    ((gate, n), seed): (&(Gated, u32), u64),
) -> Result<(), String> {
    let call = design.gated_call(gate).unwrap();
    let operands = GatedOperands::random(gate, 32, seed);
    let mut arguments = vec![
        operands.activations(&call.tiling),
        operands.packed_weights(&call.tiling),
        vec![0; call.buffers.results as usize],
    ];
    let run = array.run(&stream(&call, mutation), &mut arguments);
    run.map_err(|fault| fault.to_string())?;
    let (codes, shifts) = operands.expected(&call.tiling);
    let found = gated::shifts(&call.tiling, &arguments[2]);
    let is_right = gated::codes(&call.tiling, 32, &arguments[2]) == codes
        && found.iter().map(|rows| &rows[..]).eq(shifts.iter().map(|rows| &rows[..]));
    if !is_right {
        return Err(format!("{gate:?}: wrong codes"));
    }
    let call = design.call_of_gated(gate, *n).unwrap();
    let weights = Operands::random(&call.tiling.shape, 1, seed).weights;
    let mut arguments = vec![
        arguments.swap_remove(2),
        pack::weights(&call.tiling, &weights),
        vec![0; call.buffers.results as usize],
    ];
    let run = array.run(&stream(&call, mutation), &mut arguments);
    run.map_err(|fault| fault.to_string())?;
    let (high, low): (Vec<i8>, Vec<i8>) = codes.into_iter().map(pack::planes).unzip();
    let expected = pack::product(&call.tiling, &high, &low, &weights);
    let is_right = results(&call.tiling, &arguments[2]) == expected;
    if is_right { Ok(()) } else { Err(format!("{gate:?}: a wrong product")) }
}

/// All mutations that the array does not find.
fn unseen(mutations: &'static [(&str, Mutation)], work: Work) -> Vec<&'static str> {
    outcome(None, work).unwrap();
    let is_unseen = |(_, mutation): &&(&str, Mutation)| outcome(Some(mutation), work).is_ok();
    mutations.iter().filter(is_unseen).map(|(name, _)| *name).collect()
}

#[test]
fn whatever_is_wrong_is_found() {
    let unseen = unseen(MUTATIONS, Work::Products);
    assert!(unseen.is_empty(), "not found: {unseen:#?}");
}

#[test]
fn whatever_is_wrong_with_gates_is_found() {
    let unseen = unseen(GATE_MUTATIONS, Work::Gates);
    assert!(unseen.is_empty(), "not found: {unseen:#?}");
}
