//! Which word comes next: jumps with their delay slots, and the hardware loop.

use super::CoreFault;
use super::decode::Program;
use super::operation::Link;
use super::registers::{Registers, Scalar};

/// Words after a jump that are executed before its target.
const DELAY_SLOTS: u8 = 5;
/// Bytes from the 16-byte line of the word that sets up a loop to the loop's last word (llvm-aie,
/// `LoopSetupDistance` of `getZOLSupport`: 112 bytes, "seven bundles of 16 bytes"; compiled code
/// that starts an 8-byte word in the middle of that line counts as we do).
const SETUP_DISTANCE: u32 = 112;

#[derive(Clone, Copy, Debug)]
struct Jump {
    target: u32,
    link: Link,
    slots_left: u8,
}

/// The program counter and what will change it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequencer {
    pub pc: u32,
    jump: Option<Jump>,
    /// Where a loop register was written last, until the loop's end was reached.
    loop_setup: Option<u32>,
}

impl Sequencer {
    /// Begins a jump: it is taken after five more words.
    pub fn jump(&mut self, target: u32, link: Link) -> Result<(), CoreFault> {
        self.may_jump()?;
        self.jump = Some(Jump { target, link, slots_left: DELAY_SLOTS + 1 });
        Ok(())
    }

    /// Whether a jump, taken or not, may stand here.
    pub fn may_jump(&self) -> Result<(), CoreFault> {
        if self.jump.is_some() { Err(CoreFault::JumpsMeet) } else { Ok(()) }
    }

    /// Notes that this word writes a register of the hardware loop.
    pub fn sets_up_loop(&mut self) {
        self.loop_setup = Some(self.pc);
    }

    /// Goes on from a word of `len` bytes.
    #[inline]
    pub fn advance(
        &mut self,
        len: u8,
        registers: &mut Registers,
        program: &mut Program,
    ) -> Result<(), CoreFault> {
        let next = self.pc + u32::from(len);
        let count = registers.raw(Scalar::LC);
        if count != 0 && registers.raw(Scalar::LE) == self.pc {
            return self.end_of_loop(next, count, registers, program);
        }
        self.pc = next;
        if let Some(jump) = &mut self.jump {
            jump.slots_left -= 1;
            if jump.slots_left == 0 {
                // The return address is that of the word after the delay slots, and lr keeps its
                // old value in them: compiled code saves it there.
                if jump.link == Link::Lr {
                    registers.set(Scalar::LR, next);
                }
                self.pc = jump.target;
                self.jump = None;
            }
        }
        Ok(())
    }

    fn end_of_loop(
        &mut self,
        next: u32,
        count: u32,
        registers: &mut Registers,
        program: &mut Program,
    ) -> Result<(), CoreFault> {
        let (start, end) = (registers.scalar(Scalar::LS)?, registers.scalar(Scalar::LE)?);
        registers.scalar(Scalar::LC)?;
        if self.jump.is_some() {
            return Err(CoreFault::JumpsMeet);
        }
        if let Some(setup) = self.loop_setup.take() {
            check_loop(setup, start, end, program)?;
        }
        registers.set(Scalar::LC, count - 1);
        self.pc = if count > 1 { start } else { next };
        Ok(())
    }
}

fn check_loop(setup: u32, start: u32, end: u32, program: &mut Program) -> Result<(), CoreFault> {
    let wrong = |what| Err(CoreFault::Loop { start, end, what });
    if !start.is_multiple_of(16) || !end.is_multiple_of(16) {
        return wrong("its first or last word is not aligned to 16 bytes");
    }
    if start > end {
        return wrong("it ends before it starts");
    }
    if (setup..setup / 16 * 16 + SETUP_DISTANCE).contains(&end) {
        return wrong("its registers are written less than 112 bytes before its last word");
    }
    if program.word(end)?.len != 16 {
        return wrong("its last word is not of 16 bytes");
    }
    Ok(())
}
