//! Q5_K: 256 elements in 176 bytes, `(d * sub) * q - (dmin * sub_min)`; groups of 32.
//!
//! | bytes | field |
//! |---|---|
//! | 0..16 | `d`, `dmin` and the groups' scales, as in Q4_K |
//! | 16..48 | fifth bits: bit g of byte j belongs to element j of group g |
//! | 48..176 | low bits, as the codes of Q4_K |

use super::{Unpacked, q4_k};

pub(super) fn unpack(block: &[u8], out: &mut Unpacked) {
    let fifth_bits = &block[16..48];
    let codes = block[48..176].chunks_exact(32);
    for (pair, (bytes, q)) in codes.zip(out.q.chunks_exact_mut(64)).enumerate() {
        for (j, byte) in bytes.iter().enumerate() {
            let fifth = fifth_bits[j] >> (2 * pair);
            q[j] = (byte & 15 | (fifth & 1) << 4) as i8;
            q[j + 32] = (byte >> 4 | (fifth & 2) << 3) as i8;
        }
    }
    out.set_super_scales(q4_k::unpack_scales(block));
}
