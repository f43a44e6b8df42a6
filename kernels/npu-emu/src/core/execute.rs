//! What each operation does.

use super::address::{POINTER, from_bus};
use super::latency::{Class, Window};
use super::matrix::{self, Configuration, Terms};
use super::operation::{
    Accumulation, Address, Binary, CarryOut, Condition, LockNumber, Operation, Product, Size,
    Unary, VectorPlace,
};
use super::registers::{Bypass, Scalar};
use super::vector::{self, Rounding};
use super::{Core, CoreFault, Status};
use crate::bus::Bus;

/// Whether the program goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Done,
}

/// A scalar product that is still to be added to its register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    d: Scalar,
    addend: u32,
}

/// The control registers that operations read by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    carry: Scalar,
    rounding: Scalar,
    saturation: Scalar,
    shift_mode: Scalar,
}

impl Control {
    pub fn new() -> Self {
        Control {
            carry: Scalar::control("srcarry"),
            rounding: Scalar::control("crrnd"),
            saturation: Scalar::control("crsat"),
            shift_mode: Scalar::control("crsrsmode"),
        }
    }
}

/// What made the carry bit. Sources say that sums and differences set it, not whether a
/// difference sets it for a borrow or for none: a reader must be of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Carry {
    Of = 0b00,
    OfDifference = 0b10,
}

impl Core {
    /// Executes one operation.
    pub(super) fn execute(
        &mut self,
        operation: Operation,
        bus: &mut dyn Bus,
    ) -> Result<Flow, CoreFault> {
        match operation {
            Operation::Binary { op, d, a, b } => self.binary(op, d, a, b)?,
            Operation::AddImmediate { d, a, immediate, carry } => {
                let a = self.registers.scalar(a)?;
                if carry == CarryOut::Written {
                    self.write_carry(Carry::Of, a.checked_add(immediate as u32).is_none())?;
                }
                self.write(d, a.wrapping_add(immediate as u32))?;
            }
            Operation::Unary { op, d, a } => {
                let value = unary(op, self.registers.scalar(a)?);
                self.write(d, value)?;
            }
            Operation::Multiply { op, d, a, b } => self.multiply(op, d, a, b)?,
            Operation::Select { when, d, a, b, test } => {
                let chosen = if self.holds(when, test)? { a } else { b };
                let value = self.registers.scalar(chosen)?;
                self.write(d, value)?;
            }
            Operation::MoveImmediate { d, value } => self.write(d, value)?,
            Operation::Move { d, s } => self.move_scalar(d, s)?,
            Operation::Acquire { .. } => {} // Before all others of its word.
            Operation::Release { lock, value, only_if } => {
                self.release(bus, lock, value, only_if)?;
            }
            Operation::Jump { target, link } => self.sequencer.jump(target, link)?,
            Operation::JumpIf { when, test, target } => {
                self.sequencer.may_jump()?;
                if self.holds(when, test)? {
                    self.sequencer.jump(target, super::operation::Link::None)?;
                }
            }
            Operation::JumpTo { pointer, link } => {
                let target = self.registers.scalar(pointer)?;
                self.sequencer.jump(target, link)?;
            }
            Operation::JumpDecrement { d, a, pointer } => {
                self.sequencer.may_jump()?;
                let value = self.registers.scalar(a)?.wrapping_sub(1);
                let target = self.registers.scalar(pointer)?;
                self.write(d, value)?;
                if value != 0 {
                    self.sequencer.jump(target, super::operation::Link::None)?;
                }
            }
            Operation::Done => return Ok(Flow::Done),
            Operation::MoveStack { by } => {
                let sp = self.registers.scalar(Scalar::SP)?;
                self.write(Scalar::SP, sp.wrapping_add(by as u32))?;
            }
            Operation::MoveStackBy { modifier } => {
                let by = self.registers.scalar(modifier)?;
                let sp = self.registers.scalar(Scalar::SP)?;
                self.write(Scalar::SP, sp.wrapping_add(by))?;
            }
            Operation::MovePointer { at } => {
                self.resolve(at)?;
            }
            Operation::Load { size, d, at } => self.load(size, d, at, bus)?,
            Operation::Store { size, s, at } => self.store(size, s, at, bus)?,
            Operation::Unmodelled => {
                return Err(CoreFault::NotModelled { operation: String::new() });
            }
            _ => self.execute_vector(operation, bus)?,
        }
        Ok(Flow::On)
    }

    fn execute_vector(&mut self, operation: Operation, bus: &mut dyn Bus) -> Result<(), CoreFault> {
        let moves = self.windows.of(Class::VectorMove);
        match operation {
            Operation::LoadVector { d, at } => {
                let address = self.resolve(at)?;
                let mut bytes = [0; 64];
                self.memory.load(bus, address, &mut bytes[..d.len()])?;
                let window = self.windows.of(Class::Load);
                self.registers.write_vector(d, &bytes, window, Bypass::None)
            }
            Operation::StoreVector { s, at } => {
                let address = self.resolve(at)?;
                let bytes = self.registers.place(s)?;
                self.memory.store(bus, address, &bytes[..s.len()])
            }
            Operation::StoreShifted { s, shift, sign, at } => {
                self.store_shifted(s, shift, sign, at)
            }
            Operation::MoveVector { d, s } => {
                let bytes = match s {
                    VectorPlace::Whole(x) => *self.registers.vector_for_move(x)?,
                    place => self.registers.place(place)?,
                };
                self.registers.write_vector(d, &bytes, moves, bypass_of(d))
            }
            Operation::MoveHalfAccumulator { d, s } => {
                for quarter in [0, 1] {
                    let bytes = self.registers.place(VectorPlace::Quarter(s + quarter))?;
                    let d = VectorPlace::Quarter(d + quarter);
                    self.registers.write_vector(d, &bytes, moves, Bypass::None)?;
                }
                Ok(())
            }
            Operation::Broadcast { lane, d, s } => {
                let bytes = vector::broadcast(lane, self.registers.scalar(s)?);
                self.write_moved(d, &bytes)
            }
            Operation::AddVectors { lane, d, a, b } => {
                let a = self.registers.vector_for_move(a)?;
                let bytes = vector::add(lane, a, self.registers.vector_for_move(b)?);
                self.write_moved(d, &bytes)
            }
            Operation::AndVectors { d, a, b } => {
                let a = *self.registers.vector_for_move(a)?;
                let b = self.registers.vector_for_move(b)?;
                self.write_moved(d, &std::array::from_fn(|byte| a[byte] & b[byte]))
            }
            Operation::ShiftVectors { d, a, b, by } => {
                let by = self.registers.scalar(by)?;
                let a = self.registers.vector_for_move(a)?;
                let bytes = vector::shift(a, self.registers.vector_for_move(b)?, by)?;
                self.write_moved(d, &bytes)
            }
            Operation::Accumulate { op, d } => self.accumulate(op, d),
            _ => Err(CoreFault::NotModelled { operation: String::new() }),
        }
    }

    /// Tries to take a lock; what to report when the word has to wait.
    pub(super) fn acquire(
        &mut self,
        bus: &mut dyn Bus,
        lock: LockNumber,
        value: Scalar,
        only_if: Option<Scalar>,
    ) -> Result<Option<Status>, CoreFault> {
        let Some((lock, value)) = self.lock(lock, value, only_if)? else { return Ok(None) };
        let has_it = bus.acquire(lock, value).map_err(from_bus)?;
        Ok((!has_it).then_some(Status::WaitsForLock { lock, value }))
    }

    fn release(
        &mut self,
        bus: &mut dyn Bus,
        lock: LockNumber,
        value: Scalar,
        only_if: Option<Scalar>,
    ) -> Result<(), CoreFault> {
        let Some((lock, value)) = self.lock(lock, value, only_if)? else { return Ok(()) };
        bus.release(lock, value).map_err(from_bus)
    }

    fn lock(
        &mut self,
        lock: LockNumber,
        value: Scalar,
        only_if: Option<Scalar>,
    ) -> Result<Option<(u32, i32)>, CoreFault> {
        self.memory.lock()?;
        if let Some(condition) = only_if
            && self.registers.scalar(condition)? == 0
        {
            return Ok(None);
        }
        let lock = match lock {
            LockNumber::Fixed(lock) => u32::from(lock),
            LockNumber::In(register) => self.registers.scalar(register)?,
        };
        if lock > 63 {
            return Err(CoreFault::NoSuchLock { lock });
        }
        Ok(Some((lock, self.registers.scalar(value)? as i32)))
    }

    fn write(&mut self, d: Scalar, value: u32) -> Result<(), CoreFault> {
        if matches!(d, Scalar::LS | Scalar::LE | Scalar::LC) {
            self.sequencer.sets_up_loop();
        }
        self.registers.write(d, value, self.windows.of(Class::Scalar))
    }

    fn write_moved(&mut self, x: u8, bytes: &[u8; 64]) -> Result<(), CoreFault> {
        let window = self.windows.of(Class::VectorMove);
        self.registers.write_vector(VectorPlace::Whole(x), bytes, window, Bypass::Moves)
    }

    fn resolve(&mut self, at: Address) -> Result<u32, CoreFault> {
        at.resolve(&mut self.registers, self.windows.of(POINTER))
    }

    fn holds(&self, when: Condition, test: Scalar) -> Result<bool, CoreFault> {
        let is_zero = self.registers.scalar(test)? == 0;
        Ok(is_zero == (when == Condition::Zero))
    }

    fn write_carry(&mut self, kind: Carry, bit: bool) -> Result<(), CoreFault> {
        self.write(self.control.carry, kind as u32 | u32::from(bit))
    }

    fn read_carry(&self, kind: Carry) -> Result<bool, CoreFault> {
        let carry = self.registers.scalar(self.control.carry)?;
        if carry & !1 != kind as u32 {
            let what = "the carry of a sum read by a difference, or of a difference by a sum";
            return Err(CoreFault::Undocumented { what });
        }
        Ok(carry & 1 == 1)
    }

    fn binary(&mut self, op: Binary, d: Scalar, a: Scalar, b: Scalar) -> Result<(), CoreFault> {
        let (a, b) = (self.registers.scalar(a)?, self.registers.scalar(b)?);
        let value = match op {
            Binary::Add => {
                self.write_carry(Carry::Of, a.checked_add(b).is_none())?;
                a.wrapping_add(b)
            }
            Binary::AddCarry => {
                let sum = u64::from(a) + u64::from(b) + u64::from(self.read_carry(Carry::Of)?);
                self.write_carry(Carry::Of, sum > u64::from(u32::MAX))?;
                sum as u32
            }
            Binary::Sub => {
                self.write_carry(Carry::OfDifference, a < b)?;
                a.wrapping_sub(b)
            }
            Binary::SubCarry => {
                let take = u64::from(b) + u64::from(self.read_carry(Carry::OfDifference)?);
                self.write_carry(Carry::OfDifference, u64::from(a) < take)?;
                a.wrapping_sub(take as u32)
            }
            Binary::AddNoCarry => a.wrapping_add(b),
            Binary::And => a & b,
            Binary::Or => a | b,
            Binary::Xor => a ^ b,
            Binary::Eq => u32::from(a == b),
            Binary::Ne => u32::from(a != b),
            Binary::Ge => u32::from(a as i32 >= b as i32),
            Binary::Lt => u32::from((a as i32) < b as i32),
            Binary::GeUnsigned => u32::from(a >= b),
            Binary::LtUnsigned => u32::from(a < b),
            Binary::ShiftLogical => match shift_amount(b)? {
                by @ 0.. => a << by,
                by => a >> -by,
            },
            Binary::ShiftArithmetic => match shift_amount(b)? {
                by @ 0.. => a << by,
                by => (a as i32 >> -by) as u32,
            },
        };
        self.write(d, value)
    }

    fn multiply(&mut self, op: Product, d: Scalar, a: Scalar, b: Scalar) -> Result<(), CoreFault> {
        let product = self.registers.scalar(a)?.wrapping_mul(self.registers.scalar(b)?);
        let window = self.windows.of(Class::Multiply);
        let sum = match op {
            Product::Multiply => return self.registers.write(d, product, window),
            Product::MultiplyAdd => Sum { d, addend: product },
            Product::MultiplySubtract => Sum { d, addend: product.wrapping_neg() },
        };
        if window.latest == 1 {
            return self.add_product(sum, window);
        }
        self.sum = Some(sum);
        Ok(())
    }

    /// Completes the `mac` or `msc` of the word before: it reads what it adds to a cycle after its
    /// factors (`II_MAC`: a0 in cycle 2), so that such sums can follow each other at once.
    #[inline]
    pub(super) fn complete_sum(&mut self) -> Result<(), CoreFault> {
        let Some(sum) = self.sum.take() else { return Ok(()) };
        let Window { earliest, latest } = self.windows.of(Class::Multiply);
        self.add_product(sum, Window { earliest: earliest - 1, latest: latest - 1 })
    }

    fn add_product(&mut self, sum: Sum, window: Window) -> Result<(), CoreFault> {
        let value = self.registers.scalar(sum.d)?.wrapping_add(sum.addend);
        self.registers.write(sum.d, value, window)
    }

    fn move_scalar(&mut self, d: Scalar, s: Scalar) -> Result<(), CoreFault> {
        if s == self.control.carry {
            return Err(CoreFault::Undocumented { what: "the carry bit as a number" });
        }
        let value = self.registers.scalar(s)?;
        if s.is_modifier() && value >> 19 != 0 && !d.is_modifier() && !d.is_pointer() {
            let what = "how a negative number of 20 bits fills 32";
            return Err(CoreFault::Undocumented { what });
        }
        self.write(d, value)
    }

    fn load(
        &mut self,
        size: Size,
        d: Scalar,
        at: Address,
        bus: &mut dyn Bus,
    ) -> Result<(), CoreFault> {
        let address = self.resolve(at)?;
        let mut bytes = [0; 4];
        self.memory.load(bus, address, &mut bytes[..size.bytes()])?;
        self.registers.write(d, size.extend(bytes), self.windows.of(Class::Load))
    }

    fn store(
        &mut self,
        size: Size,
        s: Scalar,
        at: Address,
        bus: &mut dyn Bus,
    ) -> Result<(), CoreFault> {
        let address = self.resolve(at)?;
        if size != Size::Word {
            return self.memory.store_part(address, size, s);
        }
        let value = self.registers.kept(s)?;
        self.memory.store(bus, address, &value.to_le_bytes())
    }

    fn store_shifted(
        &mut self,
        s: u8,
        shift: Scalar,
        sign: Scalar,
        at: Address,
    ) -> Result<(), CoreFault> {
        if self.registers.scalar(self.control.shift_mode)? != 0 {
            return Err(CoreFault::Undocumented { what: "crsrsmode other than 0" });
        }
        let rounding = Rounding {
            shift: self.registers.scalar(shift)?,
            mode: self.registers.scalar(self.control.rounding)?,
            saturation: self.registers.scalar(self.control.saturation)?,
            sign: self.registers.scalar(sign)?,
        };
        let bytes = vector::shift_round_saturate(self.registers.accumulator(s)?, rounding)?;
        let address = self.resolve(at)?;
        self.memory.store_shifted(address, bytes)
    }

    fn accumulate(&mut self, op: Accumulation, d: u8) -> Result<(), CoreFault> {
        let window = self.windows.of(Class::Matrix);
        let word = match op {
            Accumulation::Clear | Accumulation::Move { .. } => 0,
            Accumulation::Add { configuration, .. }
            | Accumulation::Multiply { configuration, .. } => {
                self.registers.scalar(configuration)?
            }
        };
        let word = Configuration::new(word)?;
        let terms = match op {
            Accumulation::Clear => Terms::NONE,
            Accumulation::Move { a } => Terms::one(a),
            Accumulation::Add { a, b, .. } => word.of_sum()?.terms(Some(a), Some(b)),
            Accumulation::Multiply { a, .. } => word.terms(a, None),
        };
        let (matrix, registers) = (&mut self.matrix, &mut self.registers);
        matrix.issue(self.now, d, terms, registers, window, |sums, registers| match op {
            Accumulation::Multiply { s1, s2, .. } => {
                let (a, b) = (registers.vector(s1)?, registers.vector(s2)?);
                matrix::multiply(word, a, b, sums)
            }
            _ => {
                *sums = [0; 64];
                Ok(())
            }
        })
    }
}

/// Only results in vectors are seen early.
fn bypass_of(place: VectorPlace) -> Bypass {
    match place {
        VectorPlace::Whole(_) => Bypass::Moves,
        VectorPlace::Half(_) | VectorPlace::Quarter(_) => Bypass::None,
    }
}

/// Shifts go left by positive and right by negative amounts (llvm-aie lowers right shifts to
/// these operations with a negated amount).
fn shift_amount(amount: u32) -> Result<i32, CoreFault> {
    let amount = amount as i32;
    if amount.unsigned_abs() < 32 {
        return Ok(amount);
    }
    Err(CoreFault::Undocumented { what: "a shift by 32 or more" })
}

fn unary(op: Unary, a: u32) -> u32 {
    match op {
        Unary::LeadingZeros => a.leading_zeros(),
        Unary::SignExtend8 => a as i8 as u32,
        Unary::SignExtend16 => a as i16 as u32,
        Unary::ZeroExtend8 => u32::from(a as u8),
        Unary::ZeroExtend16 => u32::from(a as u16),
        Unary::IsZero => u32::from(a == 0),
        Unary::IsNotZero => u32::from(a != 0),
        Unary::Absolute => (a as i32).unsigned_abs(),
        Unary::CountOnes => a.count_ones(),
    }
}
