//! Quantising 32 floats in eight vectors to one row of an activation record (see
//! `onebit_plan::abi::Activation`).

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::build::{cast, int, memory};
use super::math::round_to_int;

/// Addresses of one row's part of a record.
pub struct RecordRow {
    /// 32 int8 codes.
    pub codes: Value,
    pub d: Value,
    pub s: Value,
    pub n32: Value,
    pub n16: Value,
}

/// The part of the record at `record` that belongs to row `row` of a panel of `1 << log2` rows.
pub fn record_row(
    b: &mut FunctionBuilder<'_>,
    record: Value,
    row: Value,
    log2: Value,
) -> RecordRow {
    let code_offset = b.ins().ishl_imm_s(row, 5);
    let codes = b.ins().iadd(record, code_offset);
    let lane_offset = b.ins().ishl_imm_s(row, 2);
    let lane = b.ins().iadd(record, lane_offset);
    let field = |b: &mut FunctionBuilder<'_>, bytes_per_row: i64| {
        let bytes = b.ins().iconst(types::I64, bytes_per_row);
        let offset = b.ins().ishl(bytes, log2);
        b.ins().iadd(lane, offset)
    };
    RecordRow { codes, d: field(b, 32), s: field(b, 36), n32: field(b, 40), n16: field(b, 44) }
}

/// The only row of the record at `record`.
pub fn single_row(b: &mut FunctionBuilder<'_>, record: Value) -> RecordRow {
    let zero = int(b, 0);
    record_row(b, record, zero, zero)
}

/// What rounding leaves of the 32 floats `x`: `x - code * d`.
pub fn rest(b: &mut FunctionBuilder<'_>, x: &[Value; 8]) -> [Value; 8] {
    let (d, inverse) = scales(b, x);
    let negated = b.ins().fneg(d);
    let negated = b.ins().splat(types::F32X4, negated);
    let codes = codes(b, x, inverse);
    std::array::from_fn(|i| {
        let code = b.ins().fcvt_from_sint(types::F32X4, codes[i]);
        b.ins().fma(code, negated, x[i])
    })
}

/// `x * inverse`, rounded, as `i32x4`.
fn codes(b: &mut FunctionBuilder<'_>, x: &[Value; 8], inverse: Value) -> [Value; 8] {
    let inverse = b.ins().splat(types::F32X4, inverse);
    x.map(|x| {
        let scaled = b.ins().fmul(x, inverse);
        round_to_int(b, scaled)
    })
}

/// Stores the 32 floats `x` as codes, scale and sums.
pub fn store(b: &mut FunctionBuilder<'_>, x: &[Value; 8], out: &RecordRow) {
    let (d, inverse) = scales(b, x);
    let codes = codes(b, x, inverse);
    for half in 0..2 {
        let q = &codes[half * 4..half * 4 + 4];
        let low = b.ins().snarrow(q[0], q[1]);
        let high = b.ins().snarrow(q[2], q[3]);
        let bytes = b.ins().snarrow(low, high);
        b.ins().store(
            memory(),
            bytes,
            out.codes,
            i32::try_from(half * 16).expect("a record is small"),
        );
    }
    let first = sum(b, &codes[..4]);
    let second = sum(b, &codes[4..]);
    let total = b.ins().iadd(first, second);
    let total_float = b.ins().fcvt_from_sint(types::F32, total);
    let s = b.ins().fmul(d, total_float);
    let n32 = b.ins().ineg(total);
    let n16 = b.ins().ineg(first);
    b.ins().store(memory(), d, out.d, 0);
    b.ins().store(memory(), s, out.s, 0);
    b.ins().store(memory(), n32, out.n32, 0);
    b.ins().store(memory(), n16, out.n16, 0);
}

/// `max|x| / 127` and `127 / max|x|`, the latter 0 when all are 0.
fn scales(b: &mut FunctionBuilder<'_>, x: &[Value; 8]) -> (Value, Value) {
    // Non-negative floats order like their bits, so the maximum is taken on integers.
    let mask = b.ins().iconst(types::I32, 0x7fff_ffff);
    let mask = b.ins().splat(types::I32X4, mask);
    let mut largest = None;
    for &x in x {
        let bits = cast(b, types::I32X4, x);
        let magnitude = b.ins().band(bits, mask);
        largest = Some(match largest {
            None => magnitude,
            Some(so_far) => b.ins().smax(so_far, magnitude),
        });
    }
    let largest = largest.expect("eight vectors were given");
    let mut bits = b.ins().extractlane(largest, 0);
    for lane in 1..4u8 {
        let other = b.ins().extractlane(largest, lane);
        bits = b.ins().smax(bits, other);
    }
    let maximum = b.ins().bitcast(types::F32, MemFlagsData::new(), bits);
    let levels = b.ins().f32const(127.0);
    let d = b.ins().fdiv(maximum, levels);
    let quotient = b.ins().fdiv(levels, maximum);
    let zero = b.ins().f32const(0.0);
    let none = b.ins().icmp_imm_s(IntCC::Equal, bits, 0);
    let inverse = b.ins().select(none, zero, quotient);
    (d, inverse)
}

/// The sum of all lanes of four vectors.
fn sum(b: &mut FunctionBuilder<'_>, q: &[Value]) -> Value {
    let left = b.ins().iadd(q[0], q[1]);
    let right = b.ins().iadd(q[2], q[3]);
    let all = b.ins().iadd(left, right);
    let mut total = b.ins().extractlane(all, 0);
    for lane in 1..4u8 {
        let other = b.ins().extractlane(all, lane);
        total = b.ins().iadd(total, other);
    }
    total
}
