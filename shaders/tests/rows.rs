//! Row programs on lavapipe against an interpreter in f64, and their bits against themselves.

#[path = "common/examples.rs"]
mod examples;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/halves.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod halves;

use examples::{biased_rope, elementwise, norm, prologue, quantise, rope, sandwich};
use gpu::{Gpu, Memory, Noise};
use onebit_ir::rows::{Arg, ArgId, Expr, ExprId, RowProgram, Store};
use onebit_ir::{Function, RopeStyle};
use onebit_plan::gpu::record::LEVELS;
use onebit_plan::gpu::step;
use onebit_shaders::rows::{self, Ends, Parts, RowsKind, Unfit};
use onebit_shaders::{ActivationForm, Immediate, Kernel};

/// Positions of the rotation tables.
const CONTEXT: usize = 1024;

/// A program with its data.
struct Case {
    program: RowProgram,
    memory: Memory,
    /// First word of each argument.
    places: Vec<u32>,
}

impl Case {
    fn new(program: RowProgram, rows: &[(u32, u32)], seed: u64) -> Self {
        let mut memory = Memory::of_rows(rows);
        let mut noise = Noise::new(seed);
        let count = rows.len();
        let places = program.args.iter().map(|arg| match *arg {
            Arg::Rows { row_stride, .. } => {
                let floats = noise.floats(count * row_stride);
                memory.push(&floats)
            }
            Arg::Vector { .. } => {
                let floats = noise.floats(program.heads * program.width);
                memory.push_vector(&floats)
            }
            Arg::Q8 { width } => memory.room(count * width / 32 * 20) / 4,
        });
        let places = places.collect();
        let mut case = Self { program, memory, places };
        case.fill_rope();
        case
    }

    fn fill_rope(&mut self) {
        let Some(rotate) = self.program.rotate else { return };
        for position in 0..CONTEXT {
            for sine in [false, true] {
                for i in 0..rotate.dims / 2 {
                    let (cos, sin) = turn(position, i, rotate.dims);
                    self.memory.rope.push((if sine { sin } else { cos } as f32).to_bits());
                }
            }
        }
    }

    fn run(&mut self, gpu: &Gpu, kernel: &Kernel, groups: u32, out: u32) {
        let places = self.places.clone();
        gpu.run(kernel, [groups, 1, 1], &mut self.memory, |immediate| match immediate {
            Immediate::Arg { program: 0, arg } => places[arg],
            Immediate::Out { index: 0 } => out,
            other => panic!("{other:?}"),
        });
    }

    /// What the program reads, before it ran.
    fn oracle(&self) -> Oracle<'_> {
        Oracle { case: self }
    }
}

/// cos and sin of a pair.
fn turn(position: usize, i: usize, dims: usize) -> (f64, f64) {
    let angle = position as f64 * 10000f64.powf(-2.0 * i as f64 / dims as f64);
    (angle.cos(), angle.sin())
}

struct Oracle<'a> {
    case: &'a Case,
}

impl Oracle<'_> {
    fn row_of(&self, arg: ArgId, row: usize) -> usize {
        match self.case.program.args[arg] {
            Arg::Rows { gathered: true, .. } => self.case.memory.step[step::OUTPUTS + row] as usize,
            _ => row,
        }
    }

    /// First word of a mini-row in the arena.
    fn place(&self, arg: ArgId, row: usize, head: usize) -> usize {
        let Arg::Rows { row_stride, head_stride, .. } = self.case.program.args[arg] else {
            panic!("not rows");
        };
        let head = if self.case.program.heads > 1 { head * head_stride } else { 0 };
        self.case.places[arg] as usize + self.row_of(arg, row) * row_stride + head
    }

    /// A mini-row of an expression.
    fn value(&self, expr: ExprId, row: usize, head: usize) -> Vec<f64> {
        let program = &self.case.program;
        let float = |bits: u32| f64::from(f32::from_bits(bits));
        let both = |x: ExprId, y: ExprId, f: &dyn Fn(f64, f64) -> f64| {
            let (x, y) = (self.value(x, row, head), self.value(y, row, head));
            x.iter().zip(&y).map(|(x, y)| f(*x, *y)).collect()
        };
        let each = |x: ExprId, f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            self.value(x, row, head).into_iter().map(f).collect()
        };
        match program.exprs[expr] {
            Expr::Load(arg) => {
                let at = self.place(arg, row, head);
                self.case.memory.arena[at..][..program.width].iter().map(|&x| float(x)).collect()
            }
            Expr::Vector(arg) => {
                let Arg::Vector { head_stride } = program.args[arg] else { panic!("no vector") };
                let at = self.case.places[arg] as usize + head * head_stride;
                self.case.memory.vectors[at..][..program.width].iter().map(|&x| float(x)).collect()
            }
            Expr::Add(x, y) => both(x, y, &|x, y| x + y),
            Expr::Mul(x, y) => both(x, y, &|x, y| x * y),
            Expr::Scale(x, factor) => each(x, &|x| x * f64::from(factor)),
            Expr::Unary(f, x) => each(x, &|x| function(f, x)),
            Expr::Gated(f, x, y) => both(x, y, &|x, y| function(f, x) * y),
            Expr::SoftCap(x, cap) => each(x, &|x| f64::from(cap) * (x / f64::from(cap)).tanh()),
            Expr::RmsNorm { x, weight, eps } => {
                let x = self.value(x, row, head);
                let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
                let scale = 1.0 / (mean + f64::from(eps)).sqrt();
                let weight = self.value(weight, row, head);
                x.iter().zip(&weight).map(|(x, w)| x * scale * w).collect()
            }
        }
    }

    /// What a float store leaves of a mini-row.
    fn stored(&self, expr: ExprId, arg: ArgId, row: usize, head: usize) -> Vec<f64> {
        let x = self.value(expr, row, head);
        let rotate = self.case.program.rotate.filter(|rotate| rotate.arg == arg);
        let Some(rotate) = rotate else { return x };
        let position = self.case.memory.step[step::POSITIONS + row] as usize;
        let mut out = x.clone();
        for i in 0..rotate.dims / 2 {
            let (cos, sin) = turn(position, i, rotate.dims);
            let (a, b) = match rotate.style {
                RopeStyle::Neox => (i, i + rotate.dims / 2),
                RopeStyle::Norm => (2 * i, 2 * i + 1),
            };
            out[a] = x[a] * cos - x[b] * sin;
            out[b] = x[a] * sin + x[b] * cos;
        }
        out
    }
}

fn function(f: Function, x: f64) -> f64 {
    match f {
        Function::Silu => x / (1.0 + (-x).exp()),
        Function::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Function::ReluSquared => x.max(0.0) * x.max(0.0),
    }
}

#[track_caller]
fn assert_near(found: &[f32], wanted: &[f64], tolerance: f64) {
    let size = wanted.iter().fold(1e-3f64, |size, x| size.max(x.abs()));
    for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let off = (f64::from(*found) - wanted).abs();
        assert!(off <= tolerance * size, "element {i}: {found} is not {wanted}");
    }
}

/// Checks a row of records against what it should hold.
#[track_caller]
fn assert_records(words: &[u32], wanted: &[f64]) {
    for (block, (words, wanted)) in words.chunks(20).zip(wanted.chunks(32)).enumerate() {
        let (codes, scales) = decode(words);
        let largest = wanted.iter().fold(0f64, |size, x| size.max(x.abs()));
        let d = largest / f64::from(LEVELS);
        let near = |a: f64, b: f64| (a - b).abs() <= 2e-5 * b.abs() + 1e-30;
        assert!(near(f64::from(scales[0]), d), "block {block}: d is {}, not {d}", scales[0]);
        for (i, (code, x)) in codes.iter().zip(wanted).enumerate() {
            // Half a code for rounding, and one for what the values are off by before it.
            let off = (f64::from(*code) * d - x).abs();
            assert!(off <= 1.5 * d, "block {block}, element {i}: code {code} for {x}, d {d}");
        }
        let sum = |range: std::ops::Range<usize>| codes[range].iter().sum::<i32>() as f32;
        assert_eq!(scales[1].to_bits(), (scales[0] * sum(0..16)).to_bits(), "block {block}");
        assert_eq!(scales[2].to_bits(), (scales[0] * sum(16..32)).to_bits(), "block {block}");
        assert_eq!(words[19], 0);
    }
}

/// Codes and the three scales of a record.
fn decode(words: &[u32]) -> ([i32; 32], [f32; 3]) {
    let mut codes = [0; 32];
    for (i, code) in codes.iter_mut().enumerate() {
        let (half, word, byte) = (i / 16, i % 16 / 4, i % 4);
        let high = words[word * 4 + half].to_le_bytes()[byte] as i8;
        let low = words[word * 4 + 2 + half].to_le_bytes()[byte];
        assert!(low < 128, "low plane {low}");
        *code = 128 * i32::from(high) + i32::from(low);
    }
    (codes, [16, 17, 18].map(|i| f32::from_bits(words[i])))
}

/// Checks everything that a program in its own kernel stores.
fn check_grid(
    gpu: &Gpu,
    program: &RowProgram,
    rows: &[(u32, u32)],
    kind: RowsKind,
    outputs: &[u32],
) {
    let mut case = Case::new(program.clone(), rows, program.width as u64);
    case.memory.step[step::OUTPUT_ROWS] = outputs.len() as u32;
    case.memory.step[step::OUTPUTS..][..outputs.len()].copy_from_slice(outputs);
    let count = if kind == RowsKind::All { rows.len() } else { outputs.len() };
    let mut wanted = Vec::new();
    for row in 0..count {
        for store in &program.stores {
            for head in 0..program.heads {
                let (Store::F32 { expr, arg } | Store::Q8 { expr, arg }) = *store;
                wanted.push(case.oracle().stored(expr, arg, row, head));
            }
        }
    }
    let kernel = rows::kernel(program, kind, None).expect("a program");
    // One workgroup too many: there is no such row.
    case.run(gpu, &kernel, count as u32 + 1, 0);
    let mut wanted = wanted.iter();
    for row in 0..count {
        for store in &program.stores {
            for head in 0..program.heads {
                let wanted = wanted.next().expect("as many as pushed");
                match *store {
                    Store::F32 { arg, .. } => {
                        let at = case.oracle().place(arg, row, head);
                        assert_near(&case.memory.floats(at as u32, program.width), wanted, 4e-6);
                    }
                    Store::Q8 { arg, .. } => {
                        let of_row = program.width / 32 * 20;
                        let at = case.places[arg] as usize * 4 + row * of_row;
                        assert_records(&case.memory.arena[at..][..of_row], wanted);
                    }
                }
            }
        }
    }
}

#[test]
fn programs_do_what_they_say() {
    let Some(gpu) = Gpu::open() else { return };
    let rows = [(0, 0), (1, 1), (2, 31), (3, 32), (4, 255), (5, 1000)];
    for width in [32, 576, 640, 2560, 9728] {
        check_grid(&gpu, &norm(width), &rows, RowsKind::All, &[]);
        check_grid(&gpu, &sandwich(width, false), &rows[..3], RowsKind::All, &[]);
        check_grid(&gpu, &sandwich(width, true), &rows, RowsKind::Outputs, &[1, 4, 5]);
    }
    for function in Function::ALL {
        check_grid(&gpu, &elementwise(function, 36), &rows[..2], RowsKind::All, &[]);
        check_grid(&gpu, &elementwise(function, 2560), &rows[..2], RowsKind::All, &[]);
    }
    for style in RopeStyle::ALL {
        for (heads, width, dims) in [
            (9, 64, 64),
            (3, 64, 32),
            (4, 256, 256),
            (16, 128, 128),
            (5, 80, 80),
            (3, 40, 24),
            (64, 128, 128),
        ] {
            check_grid(&gpu, &rope(heads, width, dims, style), &rows, RowsKind::All, &[]);
        }
        check_grid(&gpu, &biased_rope(14, 64, style), &rows, RowsKind::All, &[]);
    }
}

/// What is a record elsewhere is f16 for kernels of matrices: what is too large is the largest that
/// there is, and what is no number stays none.
#[test]
fn quantised_results_are_halves_where_that_is_asked_for() {
    let Some(gpu) = Gpu::open() else { return };
    for width in [32, 576, 9728] {
        let program = norm(width);
        let Some(Store::Q8 { expr, arg }) = program.stores.first().copied() else {
            panic!("a norm is quantised")
        };
        let mut case = Case::new(program.clone(), &[(0, 0), (1, 1), (2, 31)], width as u64);
        let wanted: Vec<_> = (0..3).map(|row| case.oracle().value(expr, row, 0)).collect();
        let ends = Ends { form: ActivationForm::Halves, ..Ends::default() };
        let kernel = rows::kernel_with(&program, RowsKind::All, ends).expect("a program");
        case.run(&gpu, &kernel, 4, 0);
        for (row, wanted) in wanted.iter().enumerate() {
            let at = case.places[arg] as usize * 4 + row * width / 2;
            let found = halves::unpack(&case.memory.arena[at..][..width / 2]);
            assert_near(&found, wanted, 1.0 / 2048.0 + 4e-6);
        }
    }
    let mut case = Case::new(quantise(32), &[(0, 0)], 1);
    let ends = [70000.0, -1e30, 65504.0, f32::NAN, f32::INFINITY, -f32::INFINITY];
    let x: Vec<f32> = ends.into_iter().chain(std::iter::repeat(0.5)).take(32).collect();
    case.places[0] = case.memory.push(&x);
    let ends = Ends { form: ActivationForm::Halves, ..Ends::default() };
    let kernel = rows::kernel_with(&case.program, RowsKind::All, ends).expect("a program");
    case.run(&gpu, &kernel, 1, 0);
    let found = halves::unpack(&case.memory.arena[case.places[1] as usize * 4..][..16]);
    assert_eq!(found[..3], [65504.0, -65504.0, 65504.0]);
    assert!(found[3].is_nan() && found[4] == f32::INFINITY && found[5] == -f32::INFINITY);
    assert!(found[6..].iter().all(|&x| x == 0.5));
}

/// An argument of parts is their sum.
#[test]
fn parts_are_added_up() {
    let Some(gpu) = Gpu::open() else { return };
    let program = elementwise(Function::Silu, 576);
    let mut case = Case::new(program.clone(), &[(0, 0), (1, 1)], 9);
    let arg = 1;
    let (count, pitch) = (3, 4 * 576);
    let mut noise = Noise::new(10);
    let parts: Vec<Vec<f32>> = (0..count).map(|_| noise.floats(pitch)).collect();
    let sum = |i: usize| parts[0][i] + parts[1][i] + parts[2][i];
    let place = case.places[arg];
    case.places[arg] = case.memory.push(&(0..pitch).map(sum).collect::<Vec<f32>>());
    let wanted: Vec<_> = (0..2).map(|row| case.oracle().value(9, row, 0)).collect();
    assert_ne!(place, case.places[arg]);
    case.places[arg] = case.memory.push(&parts.concat());
    let ends = Ends { parts: &[Parts { arg, count, pitch }], ..Ends::default() };
    let kernel = rows::kernel_with(&program, RowsKind::All, ends).expect("a program");
    case.run(&gpu, &kernel, 2, 0);
    for (row, wanted) in wanted.iter().enumerate() {
        let at = case.oracle().place(3, row, 0);
        assert_near(&case.memory.floats(at as u32, 576), wanted, 4e-6);
    }
}

/// Functions far from zero: limits, and no NaN but that of a NaN.
#[test]
fn functions_keep_to_their_limits() {
    let Some(gpu) = Gpu::open() else { return };
    let x = [-1e18, -1e4, -200.0, -100.0, -88.0, -40.0, 40.0, 88.0, 100.0, 200.0, 1e4, 1e18];
    let x: Vec<f32> = x.into_iter().chain([f32::NAN; 4]).collect();
    let unary = |expr: Expr| RowProgram {
        heads: 1,
        width: 16,
        args: vec![examples::rows_arg(16, 16, false); 2],
        exprs: vec![Expr::Load(0), expr],
        stores: vec![Store::F32 { expr: 1, arg: 1 }],
        rotate: None,
        column_range: false,
    };
    let functions = Function::ALL.map(|f| Expr::Unary(f, 0));
    for expr in functions.into_iter().chain([Expr::SoftCap(0, 30.0)]) {
        let mut case = Case::new(unary(expr), &[(0, 0)], 1);
        case.places[0] = case.memory.push(&x);
        let wanted = case.oracle().value(1, 0, 0);
        let kernel = rows::kernel(&case.program, RowsKind::All, None).expect("a program");
        case.run(&gpu, &kernel, 1, 0);
        let found = case.memory.floats(case.places[1], 16);
        for ((x, found), wanted) in x.iter().zip(&found).zip(&wanted) {
            // Weights are no smaller than exp(-80).
            let least = 2e-35 * f64::from(x.abs());
            let near = (f64::from(*found) - wanted).abs() <= 1e-5 * wanted.abs() + least;
            let quiet = expr == Expr::Unary(Function::ReluSquared, 0);
            assert!(near || (x.is_nan() && (quiet || found.is_nan())), "{expr:?} {x}: {found}");
        }
    }
}

#[test]
fn logits_are_a_binding_of_their_own() {
    let Some(gpu) = Gpu::open() else { return };
    let program = elementwise(Function::Silu, 576);
    let mut case = Case::new(program.clone(), &[(0, 3), (1, 5)], 3);
    let before = case.memory.arena.clone();
    case.places[3] = 0;
    case.memory.logits = vec![0; 2 * 576];
    let wanted: Vec<_> = (0..2).map(|row| case.oracle().value(9, row, 0)).collect();
    let kernel = rows::kernel(&program, RowsKind::Outputs, Some(3)).expect("a program");
    case.run(&gpu, &kernel, 2, 0);
    for (row, wanted) in wanted.iter().enumerate() {
        let logits = &case.memory.logits[row * 576..][..576];
        let logits: Vec<f32> = logits.iter().map(|&x| f32::from_bits(x)).collect();
        assert_near(&logits, wanted, 4e-6);
    }
    assert_eq!(case.memory.arena, before);
}

/// A row's bits are the same alone and among others, in a prologue of any size and on its own.
#[test]
fn a_row_has_the_same_bits_everywhere() {
    let Some(gpu) = Gpu::open() else { return };
    let all = [(0, 7), (1, 0), (2, 300), (3, 1000)];
    for width in [32, 576, 2560] {
        let program = sandwich(width, false);
        let of_row = width / 32 * 20;
        let mut grid = Case::new(program.clone(), &all, 11);
        let start = grid.memory.clone();
        let kernel = rows::kernel(&program, RowsKind::All, None).expect("a program");
        grid.run(&gpu, &kernel, 4, 0);
        let place = |arg: usize, words: usize| grid.places[arg] as usize * words;
        let records = &grid.memory.arena[place(4, 4)..][..4 * of_row];
        let floats = &grid.memory.arena[place(5, 1)..][..4 * width];
        for (count, limit) in [(3, 4), (1, 1)] {
            for workgroup in [64, 256] {
                let mut case = Case {
                    program: program.clone(),
                    memory: start.clone(),
                    places: grid.places.clone(),
                };
                case.memory.step[step::ROWS] = count as u32;
                let of_group = limit * of_row;
                let out = case.memory.room(2 * of_group);
                let kernel = prologue(&program, limit as u32, RowsKind::All, workgroup);
                case.run(&gpu, &kernel, 2, out / 4);
                for group in 0..2 {
                    let found =
                        &case.memory.arena[out as usize + group * of_group..][..count * of_row];
                    assert_eq!(found, &records[..count * of_row], "{width} {count} {workgroup}");
                }
                let found = &case.memory.arena[place(5, 1)..][..count * width];
                assert_eq!(found, &floats[..count * width]);
                let behind =
                    &case.memory.arena[place(5, 1) + count * width..][..(4 - count) * width];
                assert_eq!(
                    behind,
                    &start.arena[place(5, 1) + count * width..][..(4 - count) * width]
                );
            }
        }
    }
}

#[test]
fn a_prologue_without_records_leaves_floats() {
    let Some(gpu) = Gpu::open() else { return };
    let program = elementwise(Function::GeluTanh, 640);
    let mut case = Case::new(program.clone(), &[(0, 0), (0, 1), (0, 2)], 5);
    let wanted: Vec<_> = (0..3).map(|row| case.oracle().value(9, row, 0)).collect();
    let out = case.memory.room(3 * 640);
    case.run(&gpu, &prologue(&program, 3, RowsKind::All, 128), 1, out / 4);
    for (row, wanted) in wanted.iter().enumerate() {
        let local = case.memory.floats(out + 640 * row as u32, 640);
        assert_near(&local, wanted, 4e-6);
        assert_eq!(local, case.memory.floats(case.places[3] + 640 * row as u32, 640));
    }
}

/// Blocks at the edges of what floats are.
#[test]
fn odd_blocks_quantise_as_the_contract_says() {
    let Some(gpu) = Gpu::open() else { return };
    let mut blocks = vec![[0f32; 32]; 10];
    blocks[1][5] = f32::NAN;
    blocks[1][6] = 3.0;
    blocks[2][31] = f32::INFINITY;
    blocks[2][0] = -1.0;
    blocks[3] = [-0.0; 32];
    blocks[4][17] = -2.5;
    blocks[5][3] = 1e-36;
    blocks[6][8] = f32::MAX;
    blocks[6][9] = f32::MIN;
    // Ties: codes of k + 1/2 go to the even neighbour.
    for (i, x) in blocks[7].iter_mut().enumerate() {
        *x = i as f32 + 0.5;
    }
    blocks[7][31] = 16383.0;
    blocks[8] = std::array::from_fn(|i| -(i as f32));
    blocks[9][0] = f32::NEG_INFINITY;
    let width = blocks.len() * 32;
    let floats: Vec<f32> = blocks.iter().flatten().copied().collect();
    let program = quantise(width);
    let mut case = Case::new(program.clone(), &[(0, 0)], 1);
    case.places[0] = case.memory.push(&floats);
    let kernel = rows::kernel(&program, RowsKind::All, None).expect("a program");
    case.run(&gpu, &kernel, 1, 0);
    let at = case.places[1] as usize * 4;
    for (b, block) in blocks.iter().enumerate() {
        let (codes, scales) = decode(&case.memory.arena[at + b * 20..][..20]);
        let largest = block.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().expect("elements");
        let largest = f32::from_bits(largest);
        let quotient = LEVELS / largest;
        let usable = quotient.is_finite() && largest.is_finite();
        let code = |x: &f32| if usable { (x * quotient).round_ties_even() as i32 } else { 0 };
        let wanted: Vec<i32> = block.iter().map(code).collect();
        assert_eq!(codes[..], wanted[..], "block {b}");
        let d = largest / LEVELS;
        let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
        // Divisions are good to 2.5 units in the last place; denormals may be flushed.
        let near = (scales[0] - d).abs() <= d * 3e-7 || (d < 1e-37 && scales[0] == 0.0);
        assert!(near || same(scales[0], d), "block {b}: {}", scales[0]);
        let sum: i32 = codes[..16].iter().sum();
        assert!(same(scales[1], scales[0] * sum as f32), "block {b}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |program: RowProgram| rows::kernel(&program, RowsKind::All, None).err();
    let narrow = RowProgram { width: 30, ..norm(32) };
    assert_eq!(refused(narrow), Some(Unfit::Width { width: 30 }));
    let short = RowProgram { width: 36, ..norm(32) };
    assert_eq!(refused(short), Some(Unfit::QuantisedWidth { heads: 1, width: 36 }));
    let columns = RowProgram { column_range: true, ..norm(32) };
    assert_eq!(refused(columns), Some(Unfit::ColumnRange));
    let nothing = RowProgram { stores: vec![], ..norm(32) };
    assert_eq!(refused(nothing), Some(Unfit::NoResult));
    let mut askew = norm(32);
    askew.args[0] = examples::rows_arg(33, 0, false);
    assert_eq!(refused(askew), Some(Unfit::Stride { arg: 0 }));
    let wide = rope(2, 64, 72, RopeStyle::Neox);
    assert_eq!(refused(wide), Some(Unfit::Rotation { dims: 72, width: 64 }));
    let mut gathered = rope(2, 64, 64, RopeStyle::Neox);
    gathered.args[0] = examples::rows_arg(128, 64, true);
    assert_eq!(refused(gathered), Some(Unfit::GatheredRotation));
    let mut twice = norm(32);
    twice.stores.push(twice.stores[0]);
    assert_eq!(refused(twice), Some(Unfit::QuantisedCount { count: 2 }));
}
