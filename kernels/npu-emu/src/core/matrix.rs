//! The vector slot: products of small matrices and sums of accumulators.
//!
//! An operation multiplies when it is issued, reads its accumulators some cycles later and writes
//! when its latency is over, so that chains of sums need less distance than other readers.

use super::CoreFault;
use super::latency::{LatencyModel, Window};
use super::registers::Registers;

const SLOTS: usize = 16;

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Slot {
    d: u8,
    terms: Terms,
    cycles: u32,
    /// The product, then the result.
    sums: [i32; 64],
}

/// Accumulators that are added to a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms([Term; 2]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    None,
    Plus(u8),
    Minus(u8),
}

impl Terms {
    pub const NONE: Terms = Terms([Term::None; 2]);

    pub const fn one(a: u8) -> Terms {
        Terms([Term::Plus(a), Term::None])
    }
}

/// The operations under way, by the cycle of their issue.
#[derive(Clone, Debug)]
pub(super) struct MatrixUnit {
    slots: Box<[Slot; SLOTS]>,
    valid: u16,
    latency: u64,
    read: u64,
    earliest_read: EarliestRead,
}

/// When accumulators may be read at the earliest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EarliestRead {
    /// At issue. A sum that was issued `chain` cycles before is read whatever the latency is.
    AtIssue { chain: u64 },
    /// When they are.
    AsComputed,
}

impl EarliestRead {
    fn between(shortest: &LatencyModel, longest: &LatencyModel) -> Self {
        if shortest.accumulator_read >= longest.accumulator_read {
            return EarliestRead::AsComputed;
        }
        let read = |matrix: u8| longest.accumulator_read.min(matrix - 1);
        if shortest.accumulator_read != read(shortest.matrix) {
            let chain = longest.matrix - shortest.accumulator_read;
            return EarliestRead::AtIssue { chain: chain.into() };
        }
        // The models differ in how long a result takes, and the time of reading goes along with it:
        // no later than `longest` says, nor than the result. Whichever of them the hardware is, it
        // is so for both sums; a reader sees a result a cycle before it lands.
        let chain = (shortest.matrix..=longest.matrix).map(|matrix| {
            let (matrix, read) = (u64::from(matrix), u64::from(read(matrix)));
            if matrix > read + 1 { matrix - read - 1 } else { 1 }
        });
        EarliestRead::AtIssue { chain: chain.max().unwrap_or(1) }
    }
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

    /// What of `first` and `second` is added, and how.
    pub fn terms(self, first: Option<u8>, second: Option<u8>) -> Terms {
        let term = |accumulator: Option<u8>, negate| match accumulator {
            None => Term::None,
            Some(a) if self.is(negate) => Term::Minus(a),
            Some(a) => Term::Plus(a),
        };
        let first = first.filter(|_| !self.is(Configuration::ZERO_ACCUMULATOR));
        Terms([
            term(first, Configuration::NEGATE_FIRST),
            term(second, Configuration::NEGATE_SECOND),
        ])
    }
}

impl MatrixUnit {
    /// # Parameters
    /// The shortest and the longest latencies; the latter are computed with.
    pub fn new(shortest: &LatencyModel, longest: &LatencyModel) -> Self {
        let slot = Slot { d: 0, terms: Terms::NONE, cycles: 0, sums: [0; 64] };
        MatrixUnit {
            slots: Box::new([slot; SLOTS]),
            valid: 0,
            latency: u64::from(longest.matrix),
            read: u64::from(longest.accumulator_read),
            earliest_read: EarliestRead::between(shortest, longest),
        }
    }

    pub fn reset(&mut self) {
        self.valid = 0;
    }

    /// Starts cycle `now`: results land, accumulators are read.
    #[inline]
    pub fn begin(&mut self, now: u64, registers: &mut Registers) -> Result<(), CoreFault> {
        if self.valid == 0 {
            return Ok(());
        }
        let due = now.wrapping_sub(self.latency) as usize % SLOTS;
        if self.valid >> due & 1 == 1 {
            self.valid &= !(1 << due);
            let slot = &self.slots[due];
            registers.land_accumulator(slot.d, &slot.sums, slot.cycles);
            if registers.is_checked() {
                // Results of this unit land in order, so the next one's window may have begun.
                for (issued, slot) in self.under_way(slot.d, now) {
                    registers.renew_accumulator(slot.d, slot.cycles, issued + self.latency);
                }
            }
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

    /// Issues an operation in cycle `now` that adds the accumulators of `terms` to a product;
    /// `multiply` puts that, or zeros, in place.
    pub fn issue(
        &mut self,
        now: u64,
        d: u8,
        terms: Terms,
        registers: &mut Registers,
        window: Window,
        multiply: impl FnOnce(&mut [i32; 64], &Registers) -> Result<(), CoreFault>,
    ) -> Result<(), CoreFault> {
        let ordered = match registers.is_checked() {
            true => self.cycles_under_way(d, now),
            false => 0,
        };
        if let EarliestRead::AtIssue { chain } = self.earliest_read {
            for term in terms.0 {
                if let Term::Plus(a) | Term::Minus(a) = term {
                    if self.under_way(a, now).any(|(issued, _)| now - issued < chain) {
                        return Err(registers.accumulator_uncertain(a));
                    }
                    registers.accumulator_before(a, self.cycles_under_way(a, now))?;
                }
            }
        }
        let cycles = registers.claim_accumulator(d, window, ordered)?;
        let index = now as usize % SLOTS;
        let slot = &mut self.slots[index];
        (slot.d, slot.terms, slot.cycles) = (d, terms, cycles);
        multiply(&mut slot.sums, registers)?;
        self.valid |= 1 << index;
        if self.read == 0 {
            self.accumulate(index, now, registers)?;
        }
        Ok(())
    }

    /// What is under way to accumulator `dm`, with the cycles of its issue.
    fn under_way(&self, dm: u8, now: u64) -> impl Iterator<Item = (u64, &Slot)> {
        (1..SLOTS as u64).filter_map(move |age| {
            let issued = now.checked_sub(age)?;
            let index = issued as usize % SLOTS;
            let slot = &self.slots[index];
            (self.valid >> index & 1 == 1 && slot.d == dm).then_some((issued, slot))
        })
    }

    /// The cycles in which that may land.
    fn cycles_under_way(&self, dm: u8, now: u64) -> u32 {
        self.under_way(dm, now).fold(0, |cycles, (_, slot)| cycles | slot.cycles)
    }

    #[inline]
    fn accumulate(
        &mut self,
        index: usize,
        now: u64,
        registers: &Registers,
    ) -> Result<(), CoreFault> {
        let Terms(terms) = self.slots[index].terms;
        for term in terms {
            let (a, sign) = match term {
                Term::None => continue,
                Term::Plus(a) => (a, Sign::Plus),
                Term::Minus(a) => (a, Sign::Minus),
            };
            match self.forwarded(a, now) {
                Some(early) => {
                    let addend = self.slots[early].sums;
                    add(&mut self.slots[index].sums, &addend, sign);
                }
                None => {
                    let slot = &mut self.slots[index];
                    add(&mut slot.sums, registers.accumulator_before(a, slot.cycles)?, sign);
                }
            }
        }
        Ok(())
    }

    /// The operation whose result in accumulator `dm` this slot sees a cycle before it lands.
    fn forwarded(&self, dm: u8, now: u64) -> Option<usize> {
        if self.latency <= self.read + 1 {
            return None;
        }
        let early = now.wrapping_add(1).wrapping_sub(self.latency) as usize % SLOTS;
        (self.valid >> early & 1 == 1 && self.slots[early].d == dm).then_some(early)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

fn add(sums: &mut [i32; 64], addend: &[i32; 64], sign: Sign) {
    match sign {
        Sign::Plus => {
            for (sum, addend) in sums.iter_mut().zip(addend) {
                *sum = sum.wrapping_add(*addend);
            }
        }
        Sign::Minus => {
            for (sum, addend) in sums.iter_mut().zip(addend) {
                *sum = sum.wrapping_sub(*addend);
            }
        }
    }
}

/// Puts rows of `a` times columns of `b`, each 8 by 8 bytes, row after row, in `sums`.
///
/// # Errors
/// When the configuration asks for other shapes.
pub(super) fn multiply(
    configuration: Configuration,
    a: &[u8; 64],
    b: &[u8; 64],
    sums: &mut [i32; 64],
) -> Result<(), CoreFault> {
    if configuration.word & Configuration::SHAPE != Configuration::BYTES_8X8X8 {
        return Err(CoreFault::Configuration { word: configuration.word });
    }
    let a = widen(a, configuration.is(Configuration::FIRST_IS_SIGNED));
    let b = widen(b, configuration.is(Configuration::SECOND_IS_SIGNED));
    // Sums of eight products of bytes are below 2^20. Added to this number, whose last bit counts
    // ones, they are exact in the low bits of a float, which is what vector units without 32-bit
    // products are fast at.
    const BIAS: f32 = 12_582_912.0;
    for (row, sums) in a.as_chunks::<8>().0.iter().zip(sums.as_chunks_mut::<8>().0) {
        let mut biased = [BIAS; 8];
        for (factor, row) in row.iter().zip(b.as_chunks::<8>().0) {
            for (sum, other) in biased.iter_mut().zip(row) {
                *sum += factor * other;
            }
        }
        *sums = biased.map(|sum| sum.to_bits().wrapping_sub(BIAS.to_bits()) as i32);
    }
    if configuration.is(Configuration::NEGATE_PRODUCT) {
        for sum in sums {
            *sum = -*sum;
        }
    }
    Ok(())
}

fn widen(bytes: &[u8; 64], is_signed: bool) -> [f32; 64] {
    if is_signed { bytes.map(|byte| f32::from(byte as i8)) } else { bytes.map(f32::from) }
}
