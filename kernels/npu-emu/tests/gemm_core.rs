//! The program of a compute tile, alone: a core, its memory, and a stand-in for the tile's DMA
//! that fills and drains the rings as the descriptors would.

mod gemm_data;

use std::ops::Range;

use gemm_data::{GatedOperands, Operands, results};
use onebit_aie::gemm::block::Spacing;
use onebit_aie::gemm::gated::Factor;
use onebit_aie::gemm::kernel::{self, lock, parameter};
use onebit_aie::gemm::memory::{
    ACTIVATION_GRANULES, ACTIVATION_RING, OUTPUT_GRANULES, OUTPUT_RING, PARAMETERS, PARTIAL_SUMS,
    ROW_BITS, WEIGHT_GRANULES, WEIGHT_RING, ZEROS, core_address, table,
};
use onebit_aie::gemm::{
    ACTIVATION_GRANULE_BYTES, ACTIVATION_PIECE_BYTES, Gated, OUTPUT_GRANULE_BYTES, Results, Shape,
    Tiling, WEIGHT_GRANULE_BYTES, cost, pack,
};
use onebit_aie::isa::Bundle;
use onebit_aie_emu::Fault;
use onebit_aie_emu::bus::Bus;
use onebit_aie_emu::core::{Core, LatencyModel, Status};

const OWN_MEMORY: u32 = 0x7_0000;
const OWN_LOCKS: u32 = 48;
const MEMORY_BYTES: usize = 64 << 10;
/// Words after which a core is believed lost.
const LIMIT: u64 = 5_000_000;

/// A ring and what the DMA has to move through it.
struct Ring {
    at: Range<u32>,
    granule: usize,
    next: usize,
    take: u8,
    give: u8,
}

impl Ring {
    fn new(at: Range<u32>, granule: u32, take: u8, give: u8) -> Self {
        Ring { at, granule: granule as usize, next: 0, take, give }
    }

    fn granule(&mut self) -> Range<usize> {
        let start = self.at.start as usize + self.next;
        self.next = (self.next + self.granule) % self.at.len();
        start..start + self.granule
    }
}

/// A tile around a core.
struct Tile {
    memory: Vec<u8>,
    is_written: Vec<bool>,
    locks: [i32; 16],
    inputs: [(Ring, Vec<u8>, usize); 2],
    output: (Ring, Vec<u8>),
}

impl Tile {
    fn new(tiling: &Tiling, activations: Vec<u8>, weights: Vec<u8>) -> Self {
        let mut locks = [0; 16];
        locks[usize::from(lock::ACTIVATION_FREE)] = ACTIVATION_GRANULES.cast_signed();
        locks[usize::from(lock::WEIGHT_FREE)] = WEIGHT_GRANULES.cast_signed();
        locks[usize::from(lock::OUTPUT_FREE)] = OUTPUT_GRANULES.cast_signed();
        let (free, full) = (lock::ACTIVATION_FREE, lock::ACTIVATION_FULL);
        let a = Ring::new(ACTIVATION_RING, ACTIVATION_GRANULE_BYTES, free, full);
        let (free, full) = (lock::WEIGHT_FREE, lock::WEIGHT_FULL);
        let b = Ring::new(WEIGHT_RING, WEIGHT_GRANULE_BYTES, free, full);
        let (free, full) = (lock::OUTPUT_FREE, lock::OUTPUT_FULL);
        let c = Ring::new(OUTPUT_RING, OUTPUT_GRANULE_BYTES, full, free);
        let mut tile = Tile {
            memory: vec![0; MEMORY_BYTES],
            is_written: vec![false; MEMORY_BYTES],
            locks,
            inputs: [(a, activations, 0), (b, weights, 0)],
            output: (c, Vec::new()),
        };
        for zeros in [ZEROS, ROW_BITS] {
            tile.is_written[zeros.start as usize..zeros.end as usize].fill(true);
        }
        for factor in Factor::ALL {
            let words: Vec<u8> =
                factor.table().iter().flat_map(|word| word.to_le_bytes()).collect();
            tile.store(core_address(table(factor)), &words).unwrap();
        }
        let separate = u32::from(tiling.shape.results == Results::Separate);
        for (index, word) in [
            (parameter::PASSES, tiling.passes),
            (parameter::GROUPS, tiling.groups),
            (parameter::SEGMENTS, tiling.segments),
            (parameter::UNITS, tiling.units),
            (parameter::BRICKS, tiling.bricks),
            (parameter::SEPARATE_PLANES, separate),
            (parameter::GATE, tiling.gate.map_or(0, |factor| core_address(table(factor)))),
            (parameter::RESULTS, core_address(PARTIAL_SUMS.start + 512 * tiling.units)),
        ] {
            tile.store(OWN_MEMORY + PARAMETERS.start + 4 * index, &word.to_le_bytes()).unwrap();
        }
        tile
    }

    /// Moves a granule on each channel that can.
    fn transfer(&mut self) {
        for (ring, data, sent) in &mut self.inputs {
            if *sent < data.len() && take(&mut self.locks[usize::from(ring.take)], -1) {
                let to = ring.granule();
                self.memory[to.clone()].copy_from_slice(&data[*sent..*sent + ring.granule]);
                self.is_written[to].fill(true);
                *sent += ring.granule;
                self.locks[usize::from(ring.give)] += 1;
            }
        }
        let (ring, data) = &mut self.output;
        if take(&mut self.locks[usize::from(ring.take)], -1) {
            let from = ring.granule();
            data.extend_from_slice(&self.memory[from]);
            self.locks[usize::from(ring.give)] += 1;
        }
    }

    fn window(&self, address: u32, bytes: usize) -> Result<Range<usize>, Fault> {
        let start = address.wrapping_sub(OWN_MEMORY) as usize;
        let range = start..start + bytes;
        (range.end <= MEMORY_BYTES).then_some(range).ok_or(Fault::NoSuchAddress { address })
    }
}

fn take(lock: &mut i32, value: i32) -> bool {
    let may = if value < 0 { *lock >= -value } else { *lock == value };
    if may {
        *lock -= value.abs();
    }
    may
}

impl Bus for Tile {
    fn load(&mut self, address: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let range = self.window(address, bytes.len())?;
        assert!(self.is_written[range.clone()].iter().all(|&is| is), "load of {address:#x}");
        bytes.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn store(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault> {
        let range = self.window(address, bytes.len())?;
        self.is_written[range.clone()].fill(true);
        self.memory[range].copy_from_slice(bytes);
        Ok(())
    }

    fn acquire(&mut self, lock: u32, value: i32) -> Result<bool, Fault> {
        Ok(take(&mut self.locks[(lock - OWN_LOCKS) as usize], value))
    }

    fn release(&mut self, lock: u32, value: i32) -> Result<(), Fault> {
        self.locks[(lock - OWN_LOCKS) as usize] += value;
        Ok(())
    }
}

/// Runs the tile with rows 8 * `index` of array column `column`; its output and the core's words.
fn run(
    tiling: &Tiling,
    code: &[u8],
    core: Core,
    operands: &Operands,
    place: [usize; 2],
) -> Result<(Tile, u64), Fault> {
    let weights = pack::weights(tiling, &operands.weights);
    run_packed(tiling, code, core, (&operands.activations(tiling), &weights), place)
}

/// The same with what a call's buffers hold.
fn run_packed(
    tiling: &Tiling,
    code: &[u8],
    mut core: Core,
    (packed, weights): (&[u8], &[u8]),
    [column, index]: [usize; 2],
) -> Result<(Tile, u64), Fault> {
    let piece = ACTIVATION_PIECE_BYTES as usize;
    let own: Vec<u8> = packed
        .chunks_exact(4 * piece)
        .flat_map(|all| &all[index * piece..][..piece])
        .copied()
        .collect();
    let bytes = tiling.weight_bytes() as usize;
    let activations = own.repeat(tiling.passes as usize);
    let weights = weights[column * bytes..][..bytes].to_vec();
    let mut tile = Tile::new(tiling, activations, weights);
    core.write_program(0, code).unwrap();
    core.enable();
    let mut idle = 0;
    while idle < 1000 && core.words() < LIMIT {
        tile.transfer();
        idle = match core.step(&mut tile)? {
            Status::Ran => 0,
            _ => idle + 1,
        };
    }
    Ok((tile, core.words()))
}

/// The results of one tile in a buffer of all of them, and the rest zero.
fn in_place(tiling: &Tiling, output: &[u8], [column, index]: [usize; 2]) -> Vec<u8> {
    let bytes = tiling.result_bytes() as usize;
    let granule = OUTPUT_GRANULE_BYTES as usize;
    let mut all = vec![0; 8 * bytes];
    for (block, output) in output.chunks_exact(granule).enumerate() {
        let at = column * bytes + (4 * block + index) * granule;
        all[at..at + granule].copy_from_slice(output);
    }
    all
}

fn check(shape: Shape, spacing: &Spacing, core: Core, place: [usize; 2]) -> u64 {
    let tiling = Tiling::new(&shape).unwrap();
    let code = kernel::program(spacing).unwrap().code;
    let operands = Operands::random(&shape, 32, u64::from(shape.n) << 32 | u64::from(shape.k));
    let (tile, words) = run(&tiling, &code, core, &operands, place).unwrap();
    // What a call leaves behind is what the next one starts with.
    assert_eq!(tile.locks[..6], [8, 0, 4, 0, 2, 0]);
    let output = tile.output.1;
    assert_eq!(output.len() as u64, tiling.result_bytes() / 4);
    let found = results(&tiling, &in_place(&tiling, &output, place));
    let expected = pack::product(&tiling, &operands.high, &operands.low, &operands.weights);
    let (n, width, [column, index]) = (shape.n as usize, tiling.width() as usize, place);
    let mut compared = 0;
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let (row, at_n) = (at / n % 32, at % n);
        if row / 8 == index && at_n / width == column {
            assert_eq!(found, expected, "{shape:?}: result {at}");
            compared += 1;
        }
    }
    assert!(compared > 0);
    words
}

/// Every result but a scalar one after so many cycles. Accumulators are read at issue: a result
/// after one cycle would be there before a later reading.
fn uniform(cycles: u8) -> LatencyModel {
    LatencyModel {
        multiply: cycles,
        load: cycles,
        vector_move: cycles,
        matrix: cycles,
        accumulator_read: 0,
        ..LatencyModel::documented()
    }
}

const SHAPES: [Shape; 5] = [
    Shape { n: 64, k: 64, group: 64, results: Results::Combined },
    Shape { n: 192, k: 576, group: 576, results: Results::Combined },
    Shape { n: 100, k: 200, group: 200, results: Results::Separate },
    Shape { n: 1024, k: 512, group: 256, results: Results::Separate },
    Shape { n: 8320, k: 128, group: 64, results: Results::Combined },
];

#[test]
fn program_multiplies_under_every_latency_it_is_made_for() {
    let (one, eight) = (uniform(1), uniform(8));
    let most = LatencyModel::documented();
    let least = LatencyModel { load: 6, vector_move: 1, matrix: 5, ..most };
    for shape in SHAPES {
        for (spacing, shortest, longest) in [
            (Spacing::CONSERVATIVE, one, eight),
            (Spacing::CONSERVATIVE, least, most),
            (Spacing::DOCUMENTED, least, most),
            (Spacing::PIPELINED, LatencyModel::minimum(), LatencyModel::maximum()),
        ] {
            check(shape, &spacing, Core::new(&shortest), [0, 0]);
            check(shape, &spacing, Core::new(&longest), [0, 1]);
            // Column 1 has weights of its own only where there are more than 8 outputs a column.
            check(shape, &spacing, Core::checked(&shortest, &longest), [1, 3]);
        }
    }
}

/// The model's cycles are those of the emulated core.
#[test]
fn core_needs_the_cycles_that_the_cost_model_says() {
    for shape in SHAPES {
        let core = Core::new(&LatencyModel::documented());
        let words = check(shape, &Spacing::DOCUMENTED, core, [0, 0]);
        let tiling = Tiling::new(&shape).unwrap();
        let kernel = kernel::program(&Spacing::DOCUMENTED).unwrap();
        let modelled = cost::core_cycles(&tiling, &kernel);
        // The setup, and granules of which only a part is used, are not modelled.
        let difference = (words as f64 - modelled).abs();
        assert!(difference < 64.0 + 0.01 * modelled, "{shape:?}: {words} of {modelled}");
    }
}

/// A program that is too tight for a latency does not survive it.
#[test]
fn longer_latencies_than_it_is_made_for_break_the_program() {
    let shape = SHAPES[1];
    let tiling = Tiling::new(&shape).unwrap();
    let code = kernel::program(&Spacing::DOCUMENTED).unwrap().code;
    let operands = Operands::random(&shape, 32, 7);
    let place = [0, 0];
    let good = run(&tiling, &code, Core::new(&LatencyModel::documented()), &operands, place);
    let good = good.unwrap().0.output.1;
    let slow = Core::new(&uniform(12));
    assert_ne!(run(&tiling, &code, slow, &operands, place).map(|run| run.0.output.1), Ok(good));
    let checked = Core::checked(&LatencyModel::documented(), &uniform(12));
    assert!(run(&tiling, &code, checked, &operands, place).is_err());
}

/// Cycles of the core in which it issued a product, with the accumulator.
fn products(spacing: &Spacing, mut core: Core, shape: &Shape) -> Vec<(u64, String)> {
    let tiling = Tiling::new(shape).unwrap();
    let code = kernel::program(spacing).unwrap().code;
    let operands = Operands::random(shape, 32, 5);
    let own: Vec<u8> =
        operands.activations(&tiling)[..].chunks(256).step_by(4).flatten().copied().collect();
    let weights = pack::weights(&tiling, &operands.weights);
    let weights = weights[..tiling.weight_bytes() as usize].to_vec();
    let mut tile = Tile::new(&tiling, own, weights);
    core.write_program(0, &code).unwrap();
    core.enable();
    let (mut products, mut idle) = (Vec::new(), 0);
    while idle < 100 {
        tile.transfer();
        let (cycle, pc) = (core.cycle(), core.pc() as usize);
        if core.step(&mut tile).unwrap() != Status::Ran {
            idle += 1;
            continue;
        }
        idle = 0;
        let word = Bundle::decode(&code, pc).unwrap().to_string();
        if let Some((_, rest)) = word.split_once("vmac ") {
            products.push((cycle, rest[..3].to_owned()));
        }
    }
    products
}

/// Cycles from a product to the next one on its accumulator while bricks follow each other.
fn intervals(spacing: &Spacing, core: Core) -> Vec<u64> {
    // Two units a column, one segment of four bricks: one run of the loop.
    let shape = Shape { n: 128, k: 256, group: 256, results: Results::Combined };
    let products = products(spacing, core, &shape);
    assert_eq!(products.len(), 4 * 8 * 4, "products of four bricks, two units, two planes");
    let mut intervals: Vec<u64> = Vec::new();
    for accumulator in ["dm0", "dm1", "dm2", "dm3"] {
        let own: Vec<u64> =
            products.iter().filter(|(_, dm)| dm == accumulator).map(|(cycle, _)| *cycle).collect();
        assert_eq!(own.len(), 32, "{accumulator}");
        intervals.extend(own.windows(2).map(|pair| pair[1] - pair[0]));
    }
    intervals
}

/// Four products every four cycles, one on each accumulator, from a unit's first brick to its last,
/// and by no other latencies another number.
#[test]
fn steps_follow_each_other_every_four_cycles() {
    let (shortest, longest) = (LatencyModel::minimum(), LatencyModel::maximum());
    for core in [
        Core::new(&shortest),
        Core::new(&longest),
        Core::new(&LatencyModel::documented()),
        Core::checked(&shortest, &longest),
    ] {
        let intervals = intervals(&Spacing::PIPELINED, core);
        assert_eq!(intervals, vec![4; intervals.len()]);
    }
    for (spacing, cycles) in [(Spacing::DOCUMENTED, 4), (Spacing::CONSERVATIVE, 8)] {
        let intervals = intervals(&spacing, Core::new(&LatencyModel::documented()));
        assert_eq!(intervals, vec![cycles; intervals.len()]);
        assert_eq!(kernel::program(&spacing).unwrap().cycles_of("brick") as u64, 8 * cycles);
    }
}

/// A tile's part of a gated product; the core's words.
fn check_gated(gated: Gated, spacing: &Spacing, core: Core, place: [usize; 2]) -> u64 {
    let tiling = gated.tiling().unwrap();
    let code = kernel::program(spacing).unwrap().code;
    let operands = GatedOperands::random(&gated, 32, u64::from(gated.outputs + gated.k));
    let (activations, weights) = (operands.activations(&tiling), operands.packed_weights(&tiling));
    let (tile, words) = run_packed(&tiling, &code, core, (&activations, &weights), place).unwrap();
    assert_eq!(tile.locks[..6], [8, 0, 4, 0, 2, 0]);
    let output = tile.output.1;
    assert_eq!(output.len() as u64, tiling.result_bytes() / 4);
    let all = in_place(&tiling, &output, place);
    let (codes, shifts) = operands.expected(&tiling);
    let found = onebit_aie::gemm::gated::codes(&tiling, 32, &all);
    let found_shifts = onebit_aie::gemm::gated::shifts(&tiling, &all);
    let [column, index] = place;
    let (outputs, width) = (gated.outputs as usize, tiling.gated_width() as usize);
    for row in 8 * index..8 * index + 8 {
        assert_eq!(found_shifts[column][row], shifts[column][row], "{gated:?}: row {row}");
        for at in width * column..width * (column + 1) {
            let place = row * outputs + at;
            assert_eq!(found[place], codes[place], "{gated:?}: row {row}, output {at}");
        }
    }
    words
}

const GATED: [Gated; 4] = [
    Gated { outputs: 512, k: 64, factor: Factor::Sigmoid },
    Gated { outputs: 1536, k: 576, factor: Factor::Sigmoid },
    Gated { outputs: 3072, k: 200, factor: Factor::Normal },
    Gated { outputs: 2048, k: 640, factor: Factor::Normal },
];

#[test]
fn gates_are_right_under_every_latency() {
    let (least, most) = (LatencyModel::minimum(), LatencyModel::maximum());
    let documented = LatencyModel::documented();
    for gated in GATED {
        check_gated(gated, &Spacing::DOCUMENTED, Core::new(&documented), [0, 0]);
        check_gated(gated, &Spacing::PIPELINED, Core::new(&least), [0, 1]);
        check_gated(gated, &Spacing::PIPELINED, Core::new(&most), [7, 3]);
        check_gated(gated, &Spacing::PIPELINED, Core::checked(&least, &most), [3, 2]);
    }
}
