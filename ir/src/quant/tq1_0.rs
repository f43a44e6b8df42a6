//! TQ1_0: 256 elements in 54 bytes, `d * (trit - 1)`.
//!
//! | bytes | field |
//! |---|---|
//! | 0..32 | trit n of byte j is element 32 n + j, n < 5 |
//! | 32..48 | trit n of byte j is element 160 + 16 n + j, n < 5 |
//! | 48..52 | trit n of byte j is element 240 + 4 n + j, n < 4 |
//! | 52..54 | `d`, fp16 |
//!
//! A byte is the fraction 0.t0 t1 t2 t3 t4 in base 3, times 256 and rounded up: multiplying by 3
//! moves the next trit above the byte.

use super::{NO_MIN, Unpacked, f16_at};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let (wide, rest) = out.q.split_at_mut(160);
    let (narrow, last) = rest.split_at_mut(80);
    unpack_trits(&block[..32], wide);
    unpack_trits(&block[32..48], narrow);
    unpack_trits(&block[48..52], last);
    out.set_scale(f16_at(block, 52).to_f32(), NO_MIN);
}

/// Writes the first trit of every byte, then the second, until `q` is full.
fn unpack_trits(bytes: &[u8], q: &mut [i8]) {
    let mut power = 1u8;
    for q in q.chunks_exact_mut(bytes.len()) {
        for (byte, q) in bytes.iter().zip(q) {
            let fraction = u16::from(byte.wrapping_mul(power));
            *q = (fraction * 3 / 256) as i8 - 1;
        }
        power = power.wrapping_mul(3);
    }
}
