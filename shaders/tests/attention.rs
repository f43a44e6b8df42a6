//! Attention, the cache and the merge on lavapipe against sums in f64, and their bits against
//! themselves.

#[path = "common/examples.rs"]
mod examples;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/halves.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod halves;

use examples::{bias, merge_prologue, rope, shape};
use gpu::{Gpu, Memory, Noise};
use half::f16;
use onebit_ir::RopeStyle;
use onebit_plan::abi::CacheForm;
use onebit_plan::gpu::WINDOW_ALIGN;
use onebit_shaders::attention::{self, AttentionError, KeyValue, MergeOut, Operand, Shape};
use onebit_shaders::rows::Parts;
use onebit_shaders::{Immediate, Kernel};

/// A step of rows over a cache that has all of their past.
struct Case {
    shape: Shape,
    rows: Vec<(u32, u32)>,
    memory: Memory,
    /// First words of q, k and v.
    places: [u32; 3],
    /// First word of what attention leaves, and of the merged floats.
    outs: [u32; 2],
}

/// A head's key or value as the cache keeps it.
fn record(form: CacheForm, x: &[f32]) -> Vec<u32> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    if form == CacheForm::F16 {
        let bytes: Vec<u8> = x.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        return bytes.chunks(4).map(word).collect();
    }
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for block in x.chunks(32) {
        let no_number = block.iter().any(|x| !x.is_finite());
        let most = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let most = if no_number { f32::INFINITY } else { most };
        let mut scale = f16::from_f32(most / 127.5);
        while scale.to_f32() < most * (1.0 / 127.0) {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        // A product that is no number becomes the code 0.
        codes.extend(block.iter().map(|x| (x / scale.to_f32()).round_ties_even() as i8 as u8));
        scales.push(scale.to_f32().to_bits());
    }
    let padding = vec![scales[0]; scales.len().next_multiple_of(4) - scales.len()];
    codes.chunks(4).map(word).chain(scales).chain(padding).collect()
}

impl Case {
    fn new(shape: Shape, splits: u32, rows: &[(u32, u32)]) -> Self {
        let mut memory = Memory::of_rows(rows);
        let count = rows.len();
        let widths = [
            shape.heads * shape.key_dim,
            shape.kv_heads * shape.key_dim,
            shape.kv_heads * shape.value_dim,
        ];
        // A row's data follow from its position and slot, so that cases with it agree.
        let mut places = [0; 3];
        for (i, width) in widths.into_iter().enumerate() {
            let row = |&(slot, position): &(u32, u32)| {
                let seed = (u64::from(slot) * 4096 + u64::from(position)) * 3 + i as u64;
                Noise::new(seed + 1).floats(width as usize)
            };
            places[i] = memory.push(&rows.iter().flat_map(row).collect::<Vec<f32>>());
        }
        let partials = attention::partial_bytes(&shape, splits, count as u32) / 4;
        let out = (shape.out_stride as usize) * count;
        let outs = [memory.room((partials as usize).max(out)), memory.room(out)];
        let slots = rows.iter().map(|(slot, _)| slot + 1).max().expect("rows");
        // What is not written is no number.
        memory.cache =
            vec![0x7fc0_7e00; (attention::cache_bytes(&shape) / 4) as usize * slots as usize];
        let mut case = Self { shape, rows: rows.to_vec(), memory, places, outs };
        for &(slot, position) in rows {
            let mut noise = Noise::new(u64::from(slot) + 77);
            for at in 0..position {
                let k: Vec<f32> = noise.floats(widths[1] as usize);
                let v: Vec<f32> = noise.floats(widths[2] as usize);
                case.remember(slot, at, &k, &v);
            }
        }
        case
    }

    /// Words of a key or value of `dim` elements, and from one head of them to the next.
    fn record_words(&self, dim: u32) -> (usize, usize) {
        let words = match self.shape.form {
            CacheForm::F16 => dim / 2,
            CacheForm::Q8 => dim / 4 + (dim / 32).next_multiple_of(4),
        };
        let lines = (u64::from(self.shape.context) * u64::from(words) * 4).div_ceil(WINDOW_ALIGN);
        (words as usize, ((lines | 1) * WINDOW_ALIGN / 4) as usize)
    }

    /// Words from the start of the cache to a key or value.
    fn word_at(&self, slot: u32, head: u32, position: u32, is_key: bool) -> usize {
        let Shape { kv_heads, key_dim, value_dim, .. } = self.shape;
        let slot = attention::cache_bytes(&self.shape) as usize / 4 * slot as usize;
        let keys = kv_heads as usize * self.record_words(key_dim).1;
        let (dim, first) = if is_key { (key_dim, 0) } else { (value_dim, keys) };
        let (record, of_head) = self.record_words(dim);
        slot + first + head as usize * of_head + position as usize * record
    }

    fn remember(&mut self, slot: u32, position: u32, k: &[f32], v: &[f32]) {
        for (x, dim, is_key) in [(k, self.shape.key_dim, true), (v, self.shape.value_dim, false)] {
            for (head, x) in (0..).zip(x.chunks(dim as usize)) {
                let at = self.word_at(slot, head, position, is_key);
                let record = record(self.shape.form, x);
                self.memory.cache[at..at + record.len()].copy_from_slice(&record);
            }
        }
    }

    fn cached(&self, slot: u32, head: u32, position: u32, is_key: bool) -> Vec<f64> {
        let at = self.word_at(slot, head, position, is_key);
        let dim = if is_key { self.shape.key_dim } else { self.shape.value_dim } as usize;
        let words = &self.memory.cache[at..];
        let half = |i: usize| f16::from_bits((words[i / 2] >> (i % 2 * 16)) as u16).to_f64();
        let code = |i: usize| f64::from(words[i / 4].to_le_bytes()[i % 4] as i8);
        let scale = |i: usize| f64::from(f32::from_bits(words[dim / 4 + i / 32]));
        let element = |i| match self.shape.form {
            CacheForm::F16 => half(i),
            CacheForm::Q8 => code(i) * scale(i),
        };
        (0..dim).map(element).collect()
    }

    /// The operands as floats in the arena.
    fn operands(&self) -> [Operand<'static>; 3] {
        let Shape { heads, kv_heads, key_dim, value_dim, .. } = self.shape;
        [heads * key_dim, kv_heads * key_dim, kv_heads * value_dim]
            .map(|stride| Operand::Floats { stride, parts: &[] })
    }

    fn run(&mut self, gpu: &Gpu, kernel: &Kernel, groups: [u32; 3], out: u32) {
        let (places, partials) = (self.places, self.outs[0]);
        gpu.run(kernel, groups, &mut self.memory, |immediate| match immediate {
            Immediate::Arg { program, arg: 0 } => places[program],
            Immediate::Arg { .. } => 0,
            Immediate::Partials => partials,
            Immediate::Out { index: 0 } => out,
            other => panic!("{other:?}"),
        });
    }

    /// Attention with what stands in the arena, and the merge: the rows' floats.
    fn attend(&mut self, gpu: &Gpu, splits: u32, q: Operand<'_>, kv: KeyValue<'_>) -> Vec<f32> {
        let kernel = attention::kernel(&self.shape, splits, q, kv).expect("attention");
        let mut groups = attention::groups(&self.shape, splits, self.rows.len() as u32);
        // One row too many: there is none.
        groups[2] += 1;
        let out = if splits == 1 { self.outs[1] } else { self.outs[0] };
        self.run(gpu, &kernel, groups, out);
        if splits > 1 {
            let kernel = attention::merge_kernel(&self.shape, splits, MergeOut::Floats);
            self.run(
                gpu,
                &kernel.expect("a merge"),
                [self.rows.len() as u32 + 1, 1, 1],
                self.outs[1],
            );
        }
        self.memory.floats(self.outs[1], self.rows.len() * self.shape.out_stride as usize)
    }

    /// Attention over the cache as it stands with its results in f16, against the same as floats.
    fn check_halves(&mut self, gpu: &Gpu, splits: u32, q: Operand<'_>, floats: &[f32]) {
        let Shape { heads, value_dim, out_stride, .. } = self.shape;
        let (width, rows) = ((heads * value_dim) as usize, self.rows.len());
        if !width.is_multiple_of(32) {
            let refused = attention::kernel_leaving_halves(&self.shape, q, KeyValue::Cached);
            assert_eq!(refused.err(), Some(AttentionError::Merged { width: heads * value_dim }));
            return;
        }
        let at = self.outs[1].next_multiple_of(4);
        let groups = attention::groups(&self.shape, 1, rows as u32 + 1);
        if splits == 1 {
            let kernel = attention::kernel_leaving_halves(&self.shape, q, KeyValue::Cached);
            self.run(gpu, &kernel.expect("attention"), groups, at / 4);
        } else {
            let kernel = attention::merge_kernel(&self.shape, splits, MergeOut::Halves);
            self.run(gpu, &kernel.expect("a merge"), [rows as u32 + 1, 1, 1], at / 4);
        }
        let words = &self.memory.arena[at as usize..][..rows * width / 2];
        for (row, words) in words.chunks(width / 2).enumerate() {
            let floats = &floats[row * out_stride as usize..];
            for (half, float) in halves::unpack(words).into_iter().zip(floats) {
                // Drivers may round to f16 towards zero.
                let bound = float.abs() / 1024.0 + 1e-7;
                assert!((half - float).abs() <= bound, "{half} for {float}");
            }
        }
    }

    /// What a row's head should get from the cache as it stands.
    fn oracle(&self, row: usize, head: u32, q: &[f64]) -> Vec<f64> {
        let shape = &self.shape;
        let (slot, position) = self.rows[row];
        let kv = head / (shape.heads / shape.kv_heads);
        let low = match shape.window {
            0 => 0,
            window => (position + 1).saturating_sub(window),
        };
        let scores: Vec<f64> = (low..=position)
            .map(|at| {
                let k = self.cached(slot, kv, at, true);
                let dot: f64 = k.iter().zip(q).map(|(k, q)| k * q).sum::<f64>();
                let score = dot * f64::from(shape.scale);
                match f64::from(shape.softcap) {
                    0.0 => score,
                    cap => cap * (score / cap).tanh(),
                }
            })
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; shape.value_dim as usize];
        for (at, weight) in (low..=position).zip(&weights) {
            for (out, v) in out.iter_mut().zip(self.cached(slot, kv, at, false)) {
                *out += weight / total * v;
            }
        }
        out
    }

    fn check(&self, found: &[f32], q: impl Fn(usize, u32) -> Vec<f64>) {
        for row in 0..self.rows.len() {
            for head in 0..self.shape.heads {
                let wanted = self.oracle(row, head, &q(row, head));
                let at =
                    row * self.shape.out_stride as usize + (head * self.shape.value_dim) as usize;
                for (i, wanted) in wanted.iter().enumerate() {
                    let off = (f64::from(found[at + i]) - wanted).abs();
                    assert!(
                        off < 2e-5,
                        "{:?} {:?} head {head} element {i}: {} is not {wanted}",
                        self.shape,
                        self.rows[row],
                        found[at + i]
                    );
                }
            }
        }
    }

    /// The query that stands in the arena.
    fn query(&self, row: usize, head: u32) -> Vec<f64> {
        let (heads, dim) = (self.shape.heads, self.shape.key_dim);
        let at = self.places[0] + (row as u32 * heads + head) * dim;
        self.memory.floats(at, dim as usize).into_iter().map(f64::from).collect()
    }

    /// Fresh keys and values against the oracle, then the bits of the other forms against them.
    fn check_all(mut self, gpu: &Gpu, splits: u32) -> Vec<f32> {
        let [q, k, v] = self.operands();
        let fresh = self.attend(gpu, splits, q, KeyValue::Fresh { k, v });
        let cache = self.memory.cache.clone();
        self.check_own();
        self.check(&fresh, |row, head| self.query(row, head));
        let cached = self.attend(gpu, splits, q, KeyValue::Cached);
        assert_eq!(bits(&fresh), bits(&cached), "{:?} {:?}", self.shape, self.rows);
        self.check_halves(gpu, splits, q, &fresh);
        // The cache's own kernel writes what attention wrote.
        for (slot, position) in self.rows.clone() {
            let Shape { kv_heads, key_dim, value_dim, .. } = self.shape;
            let (k, v) = (
                vec![9.0; (kv_heads * key_dim) as usize],
                vec![9.0; (kv_heads * value_dim) as usize],
            );
            self.remember(slot, position, &k, &v);
        }
        assert_ne!(cache, self.memory.cache);
        let write = attention::cache_write(&self.shape, k, v).expect("a write");
        let groups = [self.shape.kv_heads, self.rows.len() as u32, 1];
        self.run(gpu, &write, groups, 0);
        assert!(cache == self.memory.cache);
        fresh
    }

    /// The cache has the rows' own keys and values.
    fn check_own(&self) {
        for (row, &(slot, position)) in self.rows.iter().enumerate() {
            for head in 0..self.shape.kv_heads {
                for (place, dim, is_key) in [
                    (self.places[1], self.shape.key_dim, true),
                    (self.places[2], self.shape.value_dim, false),
                ] {
                    let at = place + (row as u32 * self.shape.kv_heads + head) * dim;
                    let wanted = self.memory.floats(at, dim as usize);
                    let found = self.cached(slot, head, position, is_key);
                    for (i, (found, x)) in found.iter().zip(&wanted).enumerate() {
                        let block = &wanted[i / 32 * 32..];
                        let block = &block[..block.len().min(32)];
                        let most = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                        let bound = match self.shape.form {
                            // Drivers may round to f16 towards zero.
                            CacheForm::F16 => x.abs() / 1024.0 + 1e-7,
                            CacheForm::Q8 => most / 127.0 * 0.501,
                        };
                        let off = (found - f64::from(*x)).abs();
                        assert!(off <= f64::from(bound), "{found} for {x}");
                    }
                }
            }
        }
    }
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|x| x.to_bits()).collect()
}

/// The shape with each form of the cache that takes it.
fn forms(shape: Shape) -> Vec<Shape> {
    let codes = [shape.key_dim, shape.value_dim].iter().all(|dim| dim.is_multiple_of(32));
    let codes = codes.then_some(Shape { form: CacheForm::Q8, ..shape });
    std::iter::once(shape).chain(codes).collect()
}

#[test]
fn every_shape_and_split_gives_the_right_sums() {
    let Some(gpu) = Gpu::open() else { return };
    let positions = [0, 1, 31, 32, 255, 1000];
    let rows: Vec<(u32, u32)> = (0..).zip(positions).collect();
    for (heads, kv_heads, dim, splits) in [
        (9, 3, 64, 1),
        (9, 3, 64, 16),
        (4, 1, 256, 4),
        (16, 8, 128, 4),
        (28, 4, 128, 16),
        (3, 3, 40, 1),
        (3, 3, 40, 4),
    ] {
        let halves = shape(heads, kv_heads, dim, 1008);
        // One of few splits and one of many show the form with each size of heads.
        let forms = if (heads, splits) == (9, 1) { vec![halves] } else { forms(halves) };
        for shape in forms {
            Case::new(shape, splits, &rows).check_all(&gpu, splits);
        }
    }
}

#[test]
fn windows_caps_and_unequal_heads() {
    let Some(gpu) = Gpu::open() else { return };
    let rows = [(1, 0), (0, 5), (2, 300), (3, 999)];
    let plain = shape(8, 2, 64, 1024);
    let cases = [
        (1, Shape { window: 1, ..plain }),
        (8, Shape { window: 32, ..plain }),
        (8, Shape { window: 200, ..plain }),
        (1, Shape { window: 512, softcap: 2.0, ..plain }),
        (8, Shape { softcap: 0.5, scale: 4.0, ..plain }),
        (1, Shape { value_dim: 96, out_stride: 8 * 96 + 32, ..plain }),
        (8, Shape { key_dim: 192, value_dim: 128, out_stride: 8 * 128, ..plain }),
    ];
    let form = CacheForm::Q8;
    let codes = [2, 4, 6].map(|i: usize| (cases[i].0, Shape { form, ..cases[i].1 }));
    for (splits, shape) in cases.into_iter().chain(codes) {
        Case::new(shape, splits, &rows).check_all(&gpu, splits);
    }
}

/// Bits of a row alone, and among others in any order.
#[test]
fn a_row_does_not_depend_on_others() {
    let Some(gpu) = Gpu::open() else { return };
    let rows = [(2, 400), (0, 31), (3, 129), (1, 0)];
    let [halves, codes] = forms(shape(6, 2, 64, 512))[..] else { panic!("two forms") };
    for (splits, shape) in [(1, halves), (4, halves), (1, codes), (4, codes)] {
        let together = Case::new(shape, splits, &rows).check_all(&gpu, splits);
        for (i, &row) in rows.iter().enumerate() {
            let alone = Case::new(shape, splits, &[row]).check_all(&gpu, splits);
            let width = shape.out_stride as usize;
            assert_eq!(bits(&alone), bits(&together[i * width..][..width]), "{row:?}");
        }
    }
}

/// Rows of one slot, as a prompt has them: written first, then attended to.
#[test]
fn a_prompt_has_the_bits_of_single_steps() {
    let Some(gpu) = Gpu::open() else { return };
    for shape in forms(shape(4, 2, 64, 256)) {
        prompt_and_steps(&gpu, shape);
    }
}

fn prompt_and_steps(gpu: &Gpu, shape: Shape) {
    let splits = 4;
    let rows: Vec<(u32, u32)> = (60..75).map(|position| (0, position)).collect();
    let mut prompt = Case::new(shape, splits, &rows);
    // The past of the last row covers the others: only the past of the first is there.
    let first = Case::new(shape, splits, &rows[..1]);
    prompt.memory.cache = first.memory.cache.clone();
    let [q, k, v] = prompt.operands();
    let write = attention::cache_write(&shape, k, v).expect("a write");
    prompt.run(gpu, &write, [2, rows.len() as u32, 1], 0);
    let together = prompt.attend(gpu, splits, q, KeyValue::Cached);
    let mut cache = first.memory.cache;
    for (i, &row) in rows.iter().enumerate() {
        let mut step = Case::new(shape, splits, &[row]);
        step.memory.cache = cache;
        let alone = step.attend(gpu, splits, q, KeyValue::Fresh { k, v });
        cache = step.memory.cache;
        let width = shape.out_stride as usize;
        assert_eq!(bits(&alone), bits(&together[i * width..][..width]), "{row:?}");
    }
}

/// Operands that are programs have the bits of the programs run before.
#[test]
fn programs_of_operands_run_inside() {
    let Some(gpu) = Gpu::open() else { return };
    for shape in forms(shape(14, 2, 64, 512)) {
        // The form changes nothing about programs: one style shows that.
        let styles =
            if shape.form == CacheForm::F16 { &RopeStyle::ALL[..] } else { &RopeStyle::ALL[..1] };
        for &style in styles {
            for splits in [1, 4] {
                inside(&gpu, shape, style, splits);
            }
        }
    }
}

fn inside(gpu: &Gpu, shape: Shape, style: RopeStyle, splits: u32) {
    use onebit_shaders::rows::{self, RowsKind};
    let rows = [(0, 300), (1, 17)];
    let programs = [rope(14, 64, 64, style), rope(2, 64, 32, style), bias(128)];
    let mut case = Case::new(shape, splits, &rows);
    let mut noise = Noise::new(9);
    for (i, program) in programs.iter().enumerate() {
        let stride = program.heads * program.width + if i == 2 { 0 } else { 64 };
        case.places[i] = case.memory.push(&noise.floats(2 * stride));
    }
    let vectors: Vec<u32> = (0..3).map(|_| case.memory.push_vector(&noise.floats(128))).collect();
    // One table serves both programs: that of k has fewer frequencies, at other places.
    case.memory.rope = noise.floats(512 * 64).iter().map(|x| x.to_bits()).collect();
    let before: Vec<u32> = programs
        .iter()
        .map(|program| {
            let out = case.memory.room(2 * program.heads * program.width);
            let index = programs.iter().position(|other| other == program).expect("it is there");
            let kernel = rows::kernel(program, RowsKind::All, None).expect("a program");
            let (places, vector) = (case.places, vectors[index]);
            gpu.run(&kernel, [2, 1, 1], &mut case.memory, |immediate| match immediate {
                Immediate::Arg { program: 0, arg: 0 } => places[index],
                Immediate::Arg { program: 0, arg: 1 } => vector,
                Immediate::Arg { program: 0, arg: 2 } => out,
                other => panic!("{other:?}"),
            });
            out
        })
        .collect();
    let mut split = Case { memory: case.memory.clone(), rows: rows.to_vec(), ..case };
    split.places = [before[0], before[1], before[2]];
    let [q, k, v] = split.operands();
    let wanted = split.attend(gpu, splits, q, KeyValue::Fresh { k, v });
    split.check(&wanted, |row, head| split.query(row, head));

    let [q, k, v] = [0, 1, 2].map(|i| Operand::Program { program: &programs[i], parts: &[] });
    let kernel = attention::kernel(&shape, splits, q, KeyValue::Fresh { k, v }).expect("attention");
    let out = if splits == 1 { case.outs[1] } else { case.outs[0] };
    let groups = attention::groups(&shape, splits, 2);
    gpu.run(&kernel, groups, &mut case.memory, |immediate| match immediate {
        Immediate::Arg { program, arg: 0 } => case.places[program],
        Immediate::Arg { program, arg: 1 } => vectors[program],
        Immediate::Out { index: 0 } => out,
        other => panic!("{other:?}"),
    });
    assert!(case.memory.cache == split.memory.cache);
    let words = if splits == 1 {
        2 * shape.out_stride as usize
    } else {
        attention::partial_bytes(&shape, splits, 2) as usize / 4
    };
    let (found, wanted) = (&case.memory.arena, &split.memory.arena);
    assert_eq!(found[out as usize..][..words], wanted[out as usize..][..words]);
}

/// Operands that are sums give what their sums give.
#[test]
fn operands_may_come_in_parts() {
    let Some(gpu) = Gpu::open() else { return };
    let shape = shape(8, 2, 64, 1024);
    let rows = [(0, 700), (1, 3), (2, 0)];
    let mut case = Case::new(shape, 1, &rows);
    let mut noise = Noise::new(31);
    let strides = [shape.heads * 64, shape.kv_heads * 64, shape.kv_heads * 64];
    let mut whole = Case { memory: case.memory.clone(), rows: rows.to_vec(), ..case };
    let parts = [0, 1, 2].map(|i| {
        let length = rows.len() * strides[i] as usize;
        let parts = noise.floats(3 * length);
        let sums = (0..length).map(|at| parts[at] + parts[at + length] + parts[at + 2 * length]);
        let sums: Vec<f32> = sums.collect();
        case.places[i] = case.memory.push(&parts);
        whole.places[i] = whole.memory.push(&sums);
        [Parts { arg: 0, count: 3, pitch: length }]
    });
    let [q, k, v] = [0, 1, 2].map(|i| Operand::Floats { stride: strides[i], parts: &parts[i] });
    let [whole_q, whole_k, whole_v] = whole.operands();
    let fresh = case.attend(&gpu, 1, q, KeyValue::Fresh { k, v });
    let wanted = whole.attend(&gpu, 1, whole_q, KeyValue::Fresh { k: whole_k, v: whole_v });
    assert_eq!(bits(&fresh), bits(&wanted));
    assert!(case.memory.cache == whole.memory.cache);
    // A cache that is written by its own kernel, and read.
    case.memory.cache.fill(0);
    whole.memory.cache.fill(0);
    let groups = [shape.kv_heads, rows.len() as u32, 1];
    let write = attention::cache_write(&shape, k, v).expect("a write");
    case.run(&gpu, &write, groups, 0);
    let write = attention::cache_write(&shape, whole_k, whole_v).expect("a write");
    whole.run(&gpu, &write, groups, 0);
    assert!(case.memory.cache == whole.memory.cache);
    let found = case.attend(&gpu, 1, q, KeyValue::Cached);
    assert_eq!(bits(&found), bits(&whole.attend(&gpu, 1, whole_q, KeyValue::Cached)));
}

/// A program's argument that is a sum gives what the sum gives, read before the program runs.
#[test]
fn arguments_of_programs_may_come_in_parts() {
    let Some(gpu) = Gpu::open() else { return };
    let shape = shape(8, 2, 64, 1024);
    let program = rope(8, 64, 64, RopeStyle::Neox);
    let rows = [(0, 700), (1, 3)];
    let mut case = Case::new(shape, 1, &rows);
    let mut noise = Noise::new(32);
    case.memory.rope = noise.floats(1024 * 64).iter().map(|x| x.to_bits()).collect();
    let vector = case.memory.push_vector(&noise.floats(64));
    let length = rows.len() * (program.heads * program.width + 64);
    let floats = noise.floats(3 * length);
    let sums: Vec<f32> =
        (0..length).map(|i| floats[i] + floats[i + length] + floats[i + 2 * length]).collect();
    let places = [case.memory.push(&floats), case.memory.push(&sums)];
    let all = [Parts { arg: 0, count: 3, pitch: length }];
    let found = [&all[..], &[]].into_iter().zip(places).map(|(parts, place)| {
        let q = Operand::Program { program: &program, parts };
        let kernel = attention::kernel(&shape, 1, q, KeyValue::Cached).expect("attention");
        let (groups, out) = (attention::groups(&shape, 1, 2), case.outs[1]);
        gpu.run(&kernel, groups, &mut case.memory, |immediate| match immediate {
            Immediate::Arg { program: 0, arg: 0 } => place,
            Immediate::Arg { program: 0, arg: 1 } => vector,
            Immediate::Out { index: 0 } => out,
            other => panic!("{other:?}"),
        });
        bits(&case.memory.floats(out, rows.len() * shape.out_stride as usize))
    });
    let found: Vec<Vec<u32>> = found.collect();
    assert_eq!(found[0], found[1]);
    assert!(found[0].iter().any(|&bits| bits != 0));
}

/// Records of a merge, alone and as a prologue, are those of its floats.
#[test]
fn merges_quantise() {
    let Some(gpu) = Gpu::open() else { return };
    for (heads, kv_heads, dim, splits) in [(9, 3, 64, 4), (4, 1, 256, 16), (32, 8, 128, 3)] {
        let shape = shape(heads, kv_heads, dim, 1024);
        let mut case = Case::new(shape, splits, &[(0, 1000), (1, 200), (2, 3)]);
        let [q, k, v] = case.operands();
        case.attend(&gpu, splits, q, KeyValue::Fresh { k, v });
        let width = shape.out_stride as usize;
        let of_row = width / 32 * 20;
        let quantised = case.memory.room(3 * of_row);
        let program = examples::quantise(width);
        let kernel =
            onebit_shaders::rows::kernel(&program, onebit_shaders::rows::RowsKind::All, None);
        let floats = case.outs[1];
        gpu.run(&kernel.expect("a program"), [3, 1, 1], &mut case.memory, |immediate| {
            match immediate {
                Immediate::Arg { program: 0, arg: 0 } => floats,
                Immediate::Arg { program: 0, arg: 1 } => quantised / 4,
                other => panic!("{other:?}"),
            }
        });
        let wanted = case.memory.arena[quantised as usize..][..3 * of_row].to_vec();
        let out = case.memory.room(3 * of_row);
        let kernel = attention::merge_kernel(&shape, splits, MergeOut::Records).expect("a merge");
        case.run(&gpu, &kernel, [3, 1, 1], out / 4);
        assert_eq!(case.memory.arena[out as usize..][..3 * of_row], wanted);
        for (rows, workgroup) in [(1, 256), (3, 64)] {
            let out = case.memory.room(2 * rows * of_row);
            let kernel = merge_prologue(&shape, splits, rows as u32, workgroup);
            case.run(&gpu, &kernel, [2, 1, 1], out / 4);
            for group in 0..2 {
                let at = out as usize + group * rows * of_row;
                assert_eq!(case.memory.arena[at..][..rows * of_row], wanted[..rows * of_row]);
            }
        }
    }
}

/// A key or value that is no number spoils the heads that see it, and no others.
#[test]
fn what_is_no_number_stays_visible() {
    let Some(gpu) = Gpu::open() else { return };
    let plain = shape(4, 2, 64, 256);
    let cases = [(1, 0.0), (4, 0.0), (4, 20.0)].into_iter();
    let cases = cases.flat_map(|case| forms(plain).into_iter().map(move |shape| (case, shape)));
    for ((splits, softcap), shape) in cases {
        let shape = Shape { softcap, ..shape };
        let mut case = Case::new(shape, splits, &[(0, 150)]);
        let (nan, fine) = (vec![f32::NAN; 128], vec![0.5; 128]);
        let spoilt = [&fine[..64], &nan[64..]].concat();
        let (k, v) = if softcap == 0.0 { (&fine, &spoilt) } else { (&spoilt, &fine) };
        case.remember(0, 40, k, v);
        let [q, k, v] = case.operands();
        let out = case.attend(&gpu, splits, q, KeyValue::Fresh { k, v });
        assert!(out[..128].iter().all(|x| x.is_finite()));
        assert!(out[128..].iter().all(|x| x.is_nan()));
    }
}

/// As [`what_is_no_number_stays_visible`], of the step's own value, and what the smallest become.
#[test]
fn extremes_of_a_step_become_codes_that_show_them() {
    let Some(gpu) = Gpu::open() else { return };
    let shape = Shape { form: CacheForm::Q8, ..shape(2, 2, 64, 64) };
    for (x, shows) in [
        (f32::NAN, true),
        (f32::INFINITY, true),
        (f32::NEG_INFINITY, true),
        (f32::MAX, true),
        (0.0, false),
        (1e-44, false),
        (1e-6, false),
        (3e4, false),
    ] {
        let mut case = Case::new(shape, 1, &[(0, 0)]);
        case.memory.arena[case.places[2] as usize + 64..][..64].fill(0.0_f32.to_bits());
        case.memory.arena[case.places[2] as usize + 70] = x.to_bits();
        let [q, k, v] = case.operands();
        let out = case.attend(&gpu, 1, q, KeyValue::Fresh { k, v });
        assert!(out[..64].iter().chain(&out[96..]).all(|x| x.is_finite()), "{x:e}");
        assert_eq!(out[64..96].iter().all(|x| x.is_nan()), shows, "{x:e}: {:?}", &out[64..96]);
        if !shows {
            assert!((out[70] - x).abs() <= x / 254.0 + 4e-6, "{} for {x:e}", out[70]);
        }
        let cached = case.attend(&gpu, 1, q, KeyValue::Cached);
        assert_eq!(bits(&cached), bits(&out), "{x:e}");
    }
}

#[test]
fn sizes_and_refusals() {
    let plain = shape(4, 2, 64, 1024);
    for context in [16, 1000, 1024, 4096] {
        let bytes = attention::cache_bytes(&Shape { context, ..plain });
        assert_eq!(bytes % WINDOW_ALIGN, 0);
        assert!(bytes >= 2 * 2 * 64 * 2 * u64::from(context));
    }
    assert_eq!(attention::partial_bytes(&plain, 3, 2), 2 * 4 * 3 * 68 * 4);
    let q = Operand::Floats { stride: 256, parts: &[] };
    let error = |shape: Shape| attention::kernel(&shape, 4, q, KeyValue::Cached).err();
    assert_eq!(error(Shape { key_dim: 60, ..plain }), Some(AttentionError::HeadWidth { dim: 60 }));
    let codes = Shape { form: CacheForm::Q8, key_dim: 72, ..plain };
    assert_eq!(error(codes), Some(AttentionError::HeadBlocks { dim: 72 }));
    let heads = AttentionError::Heads { heads: 4, kv_heads: 3 };
    assert_eq!(error(Shape { kv_heads: 3, ..plain }), Some(heads));
    let stride = AttentionError::Stride { stride: 258 };
    assert_eq!(error(Shape { out_stride: 258, ..plain }), Some(stride));
    let program = rope(3, 64, 64, RopeStyle::Neox);
    let found = attention::kernel(
        &plain,
        4,
        Operand::Program { program: &program, parts: &[] },
        KeyValue::Cached,
    );
    assert!(matches!(found, Err(AttentionError::Operand { operand: "q", heads: 3, .. })));
}
