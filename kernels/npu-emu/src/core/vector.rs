//! Functions of vectors: lanes, shifts, rounding.

use super::CoreFault;
use super::operation::Lane;

/// `value`'s low bits in every lane.
pub(super) fn broadcast(lane: Lane, value: u32) -> [u8; 64] {
    let bytes = value.to_le_bytes();
    let width = width(lane);
    std::array::from_fn(|index| bytes[index % width])
}

/// Sums of lanes; carries out of a lane are lost.
pub(super) fn add(lane: Lane, a: &[u8; 64], b: &[u8; 64]) -> [u8; 64] {
    let mut sums = [0; 64];
    match lane {
        Lane::Bits8 => {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum = a.wrapping_add(*b);
            }
        }
        Lane::Bits16 => {
            let lanes = a.as_chunks().0.iter().zip(b.as_chunks().0);
            for (sum, (a, b)) in sums.as_chunks_mut().0.iter_mut().zip(lanes) {
                *sum = u16::from_le_bytes(*a).wrapping_add(u16::from_le_bytes(*b)).to_le_bytes();
            }
        }
        Lane::Bits32 => {
            let lanes = a.as_chunks().0.iter().zip(b.as_chunks().0);
            for (sum, (a, b)) in sums.as_chunks_mut().0.iter_mut().zip(lanes) {
                *sum = u32::from_le_bytes(*a).wrapping_add(u32::from_le_bytes(*b)).to_le_bytes();
            }
        }
    }
    sums
}

/// The 64 bytes from byte `by` on of `a` followed by `b` (aie_api, `shift_bytes`).
pub(super) fn shift(a: &[u8; 64], b: &[u8; 64], by: u32) -> Result<[u8; 64], CoreFault> {
    if by > 64 {
        return Err(CoreFault::Undocumented { what: "a shift of vectors by more than 64 bytes" });
    }
    let by = by as usize;
    Ok(std::array::from_fn(
        |index| if index + by < 64 { a[index + by] } else { b[index + by - 64] },
    ))
}

fn width(lane: Lane) -> usize {
    match lane {
        Lane::Bits8 => 1,
        Lane::Bits16 => 2,
        Lane::Bits32 => 4,
    }
}

/// How sums become bytes: the registers that say so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounding {
    /// Bits to drop.
    pub shift: u32,
    /// `crrnd`.
    pub mode: u32,
    /// `crsat`.
    pub saturation: u32,
    /// `srssign0` or `srssign1`: 1 for signed bytes.
    pub sign: u32,
}

/// 64 sums as bytes.
pub(super) fn shift_round_saturate(
    sums: &[i32; 64],
    rounding: Rounding,
) -> Result<[u8; 64], CoreFault> {
    let Rounding { shift, mode, saturation, sign } = rounding;
    if shift > 31 {
        return Err(CoreFault::Undocumented { what: "a shift of 32-bit sums by more than 31" });
    }
    // Unsigned results are written as such only where no sum is negative: what becomes of those
    // has no public source.
    if sign > 1 || sign == 0 && sums.iter().any(|sum| *sum < 0) {
        return Err(CoreFault::Undocumented { what: "negative sums stored as unsigned bytes" });
    }
    let (low, high) = match (saturation, sign) {
        (0, _) => (i64::MIN, i64::MAX),
        (1, 1) => (-128, 127),
        (3, 1) => (-127, 127),
        (1, 0) => (0, 255),
        _ => return Err(CoreFault::Undocumented { what: "this value of crsat" }),
    };
    let mut bytes = [0; 64];
    for (byte, sum) in bytes.iter_mut().zip(sums) {
        *byte = round(i64::from(*sum), shift, mode)?.clamp(low, high) as u8;
    }
    Ok(bytes)
}

/// `sum / 2^shift`, rounded by the mode of that number (llvm-aie, `aie2p_defines.h`: `rnd_*`).
fn round(sum: i64, shift: u32, mode: u32) -> Result<i64, CoreFault> {
    let floor = sum >> shift;
    let rest = sum & ((1 << shift) - 1);
    let half = (1i64 << shift) >> 1;
    let is_half = shift > 0 && rest == half;
    let is_up = match mode {
        0 => false,
        1 => rest > 0,
        2 => rest > 0 && sum < 0,
        3 => rest > 0 && sum > 0,
        8..=13 if !is_half => rest > half,
        8 => false,
        9 => true,
        10 => sum < 0,
        11 => sum > 0,
        12 => floor & 1 == 1,
        13 => floor & 1 == 0,
        _ => return Err(CoreFault::Undocumented { what: "this value of crrnd" }),
    };
    Ok(floor + i64::from(is_up))
}
