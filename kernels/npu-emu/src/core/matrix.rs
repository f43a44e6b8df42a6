//! The vector slot: products of small matrices and sums of accumulators.
//!
//! An operation multiplies when it is issued, reads its accumulators some cycles later and writes
//! when its latency is over, so that chains of sums need less distance than other readers.

use super::CoreFault;
use super::latency::{LatencyModel, Window};
use super::operation::Accumulation;
use super::registers::Registers;

const SLOTS: usize = 16;

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Slot {
    d: u8,
    first: Source,
    second: Source,
    cycles: u32,
    /// The product, then the result.
    sums: [i32; 64],
}

/// An accumulator to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    None,
    Plus(u8),
    Minus(u8),
}

/// The operations under way, by the cycle of their issue.
#[derive(Clone, Debug)]
pub(super) struct MatrixUnit {
    slots: Box<[Slot; SLOTS]>,
    valid: u16,
    latency: u32,
    read: u32,
}

/// A configuration word, as `aie2p_compute_control` of llvm-aie's `aie2p_vmult.h` builds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configuration {
    word: u32,
}

impl Configuration {
    /// amode 0, bmode 1, variant 0: bytes, matrices of 8 by 8, sums of 32 bits.
    const BYTES_8X8X8: u32 = 1 << 3;
    /// Bits that choose shape and widths: amode 2:1, bmode 4:3, variant 7:5.
    const SHAPE: u32 = 0xfe;
    const ZERO_ACCUMULATOR: u32 = 1;
    const SECOND_IS_SIGNED: u32 = 1 << 8;
    const FIRST_IS_SIGNED: u32 = 1 << 9;
    const NEGATE_PRODUCT: u32 = 1 << 11;
    const NEGATE_FIRST: u32 = 1 << 12;
    const NEGATE_SECOND: u32 = 1 << 13;

    /// # Errors
    /// When a shape or a bit is set that is not modelled.
    pub fn new(word: u32) -> Result<Self, CoreFault> {
        const KNOWN: u32 = Configuration::SHAPE
            | Configuration::ZERO_ACCUMULATOR
            | Configuration::SECOND_IS_SIGNED
            | Configuration::FIRST_IS_SIGNED
            | Configuration::NEGATE_PRODUCT
            | Configuration::NEGATE_FIRST
            | Configuration::NEGATE_SECOND;
        if word & !KNOWN != 0 {
            return Err(CoreFault::Configuration { word });
        }
        Ok(Configuration { word })
    }

    /// The same for a sum of accumulators.
    ///
    /// # Errors
    /// When their numbers are not of 32 bits: amode other than 0.
    pub fn of_sum(self) -> Result<Self, CoreFault> {
        const AMODE: u32 = 0b110;
        if self.word & AMODE != 0 {
            return Err(CoreFault::Configuration { word: self.word });
        }
        Ok(self)
    }

    fn is(self, bit: u32) -> bool {
        self.word & bit != 0
    }

    fn first(self, a: u8) -> Source {
        if self.is(Configuration::ZERO_ACCUMULATOR) {
            Source::None
        } else if self.is(Configuration::NEGATE_FIRST) {
            Source::Minus(a)
        } else {
            Source::Plus(a)
        }
    }

    fn second(self, b: u8) -> Source {
        if self.is(Configuration::NEGATE_SECOND) { Source::Minus(b) } else { Source::Plus(b) }
    }
}

impl MatrixUnit {
    pub fn new(latency: &LatencyModel) -> Self {
        let slot =
            Slot { d: 0, first: Source::None, second: Source::None, cycles: 0, sums: [0; 64] };
        MatrixUnit {
            slots: Box::new([slot; SLOTS]),
            valid: 0,
            latency: u32::from(latency.matrix),
            read: u32::from(latency.accumulator_read),
        }
    }

    pub fn reset(&mut self) {
        self.valid = 0;
    }

    /// Starts cycle `now`: results land, accumulators are read.
    #[inline]
    pub fn begin(&mut self, now: u32, registers: &mut Registers) -> Result<(), CoreFault> {
        if self.valid == 0 {
            return Ok(());
        }
        let due = now.wrapping_sub(self.latency) as usize % SLOTS;
        if self.valid >> due & 1 == 1 {
            self.valid &= !(1 << due);
            let slot = &self.slots[due];
            registers.land_accumulator(slot.d, &slot.sums, slot.cycles);
        }
        if self.read == 0 {
            return Ok(());
        }
        let reads = now.wrapping_sub(self.read) as usize % SLOTS;
        if self.valid >> reads & 1 == 1 {
            self.accumulate(reads, now, registers)?;
        }
        Ok(())
    }

    /// Issues an operation in cycle `now`; `product` is zero where there is none.
    pub fn issue(
        &mut self,
        now: u32,
        d: u8,
        operation: Accumulation,
        product: (Configuration, [i32; 64]),
        registers: &mut Registers,
        window: Window,
    ) -> Result<(), CoreFault> {
        let cycles = registers.claim_accumulator(d, window)?;
        let (configuration, mut sums) = product;
        let (first, second) = match operation {
            Accumulation::Clear => (Source::None, Source::None),
            Accumulation::Move { a } => (Source::Plus(a), Source::None),
            Accumulation::Add { a, b, .. } => (configuration.first(a), configuration.second(b)),
            Accumulation::Multiply { a, .. } => {
                if configuration.is(Configuration::NEGATE_PRODUCT) {
                    sums = sums.map(i32::wrapping_neg);
                }
                (a.map_or(Source::None, |a| configuration.first(a)), Source::None)
            }
        };
        let index = now as usize % SLOTS;
        self.slots[index] = Slot { d, first, second, cycles, sums };
        self.valid |= 1 << index;
        if self.read == 0 {
            self.accumulate(index, now, registers)?;
        }
        Ok(())
    }

    #[inline]
    fn accumulate(
        &mut self,
        index: usize,
        now: u32,
        registers: &Registers,
    ) -> Result<(), CoreFault> {
        let Slot { first, second, mut sums, .. } = self.slots[index];
        for source in [first, second] {
            match source {
                Source::None => {}
                Source::Plus(a) => {
                    let addend = self.accumulator(a, now, registers)?;
                    for (sum, addend) in sums.iter_mut().zip(addend) {
                        *sum = sum.wrapping_add(*addend);
                    }
                }
                Source::Minus(a) => {
                    let addend = self.accumulator(a, now, registers)?;
                    for (sum, addend) in sums.iter_mut().zip(addend) {
                        *sum = sum.wrapping_sub(*addend);
                    }
                }
            }
        }
        self.slots[index].sums = sums;
        Ok(())
    }

    /// Accumulator `dm` as this slot sees it: its own results a cycle before they land.
    fn accumulator<'a>(
        &'a self,
        dm: u8,
        now: u32,
        registers: &'a Registers,
    ) -> Result<&'a [i32; 64], CoreFault> {
        if self.latency > self.read + 1 {
            let early = now.wrapping_add(1).wrapping_sub(self.latency) as usize % SLOTS;
            if self.valid >> early & 1 == 1 && self.slots[early].d == dm {
                return Ok(&self.slots[early].sums);
            }
        }
        registers.accumulator(dm)
    }
}

/// Rows of `a` times columns of `b`, each 8 by 8 bytes, row after row.
///
/// # Errors
/// When the configuration asks for other shapes.
pub(super) fn product(
    configuration: Configuration,
    a: &[u8; 64],
    b: &[u8; 64],
) -> Result<[i32; 64], CoreFault> {
    if configuration.word & Configuration::SHAPE != Configuration::BYTES_8X8X8 {
        return Err(CoreFault::Configuration { word: configuration.word });
    }
    let a = widen(a, configuration.is(Configuration::FIRST_IS_SIGNED));
    let b = widen(b, configuration.is(Configuration::SECOND_IS_SIGNED));
    Ok(multiply(&a, &b))
}

fn widen(bytes: &[u8; 64], is_signed: bool) -> [i16; 64] {
    if is_signed { bytes.map(|byte| i16::from(byte as i8)) } else { bytes.map(i16::from) }
}

/// Products of 16-bit numbers, two at a time, in the order in which compilers find the one
/// instruction that does this.
fn multiply(a: &[i16; 64], b: &[i16; 64]) -> [i32; 64] {
    let mut sums = [0i32; 64];
    for i in 0..8 {
        for k in 0..8 {
            let factor = i32::from(a[i * 8 + k]);
            for j in 0..8 {
                sums[i * 8 + j] += factor * i32::from(b[k * 8 + j]);
            }
        }
    }
    sums
}
