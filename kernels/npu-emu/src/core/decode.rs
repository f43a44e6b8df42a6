//! Program memory, and its words in the form in which they are executed.

use onebit_aie::isa::{Bundle, Instruction, Op, Operand, Register, RegisterFile};

use super::operation::{
    Accumulation, Address, Binary, CarryOut, Condition, Lane, Link, LockNumber, Operation, Product,
    Size, Unary, VectorPlace, Word,
};
use super::registers::Scalar;
use super::{Core, CoreFault};

/// Program memory. Each word is decoded when it is first reached.
#[derive(Clone, Debug)]
pub(super) struct Program {
    bytes: Vec<u8>,
    /// By address in units of two bytes: one more than the index of the word there.
    decoded: Vec<u16>,
    words: Vec<Word>,
    operations: Vec<Operation>,
}

impl Program {
    pub fn new() -> Self {
        Program {
            bytes: vec![0; Core::PROGRAM_BYTES as usize],
            decoded: vec![0; Core::PROGRAM_BYTES as usize / 2],
            words: Vec::new(),
            operations: Vec::new(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), CoreFault> {
        let place =
            self.bytes.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(CoreFault::OutsideProgram)?.copy_from_slice(bytes);
        self.decoded.fill(0);
        self.words.clear();
        self.operations.clear();
        Ok(())
    }

    /// The word at byte `pc`.
    #[inline]
    pub fn word(&mut self, pc: u32) -> Result<Word, CoreFault> {
        // Before the look-up, which does not tell an odd address from the even one below it.
        if !pc.is_multiple_of(2) {
            return Err(CoreFault::OddAddress);
        }
        match self.decoded.get(pc as usize / 2) {
            None => Err(CoreFault::OutsideProgram),
            Some(0) => self.decode(pc),
            Some(index) => Ok(self.words[usize::from(*index) - 1]),
        }
    }

    #[inline]
    pub fn operation(&self, index: u32) -> Operation {
        self.operations[index as usize]
    }

    /// The text of the first operation at `pc` that is not modelled.
    pub fn unmodelled_at(&self, pc: u32) -> String {
        let Ok(bundle) = Bundle::decode(&self.bytes, pc as usize) else { return String::new() };
        let is_unmodelled = |op: &&Op| matches!(operation(op), Some(Operation::Unmodelled));
        bundle.ops().iter().find(is_unmodelled).map_or_else(String::new, ToString::to_string)
    }

    fn decode(&mut self, pc: u32) -> Result<Word, CoreFault> {
        let bundle = Bundle::decode(&self.bytes, pc as usize).map_err(CoreFault::NotAWord)?;
        let first = self.operations.len();
        self.operations.extend(bundle.ops().iter().filter_map(operation));
        let operations = &self.operations[first..];
        let is_acquire = |operation: &Operation| matches!(operation, Operation::Acquire { .. });
        let word = Word {
            first: first as u32,
            count: operations.len() as u8,
            len: bundle.byte_len() as u8,
            acquire: operations.iter().position(is_acquire).map(|index| index as u8),
        };
        self.words.push(word);
        self.decoded[pc as usize / 2] = self.words.len() as u16;
        Ok(word)
    }
}

/// What executes `op`; None when it does nothing.
fn operation(op: &Op) -> Option<Operation> {
    let instruction = match op {
        Op::Known(instruction) => instruction,
        Op::Unknown { .. } => return Some(Operation::Unmodelled),
    };
    let form = instruction.form();
    let mnemonic = form.split(' ').next().unwrap_or(form);
    if mnemonic.starts_with("nop") || mnemonic.starts_with("event") {
        return None;
    }
    let fields = Fields(instruction);
    let operation = scalar(mnemonic, &fields)
        .or_else(|| control(mnemonic, &fields))
        .or_else(|| memory(mnemonic, &fields))
        .or_else(|| vector(mnemonic, &fields));
    Some(operation.unwrap_or(Operation::Unmodelled))
}

/// An instruction's operands by name.
struct Fields<'a>(&'a Instruction);

impl Fields<'_> {
    fn register(&self, name: &str) -> Option<Register> {
        match self.0.operand(name)? {
            Operand::Register(register) => Some(register),
            Operand::Immediate(_) => None,
        }
    }

    fn scalar(&self, name: &str) -> Option<Scalar> {
        Scalar::of(self.register(name)?)
    }

    fn number(&self, name: &str) -> Option<i32> {
        match self.0.operand(name)? {
            // Immediates of 32 bits come signed or as bits; both mean the same.
            Operand::Immediate(value) => Some(value as i32),
            Operand::Register(_) => None,
        }
    }

    /// The number of a vector or an accumulator.
    fn index(&self, name: &str, file: RegisterFile) -> Option<u8> {
        let register = self.register(name)?;
        (register.file == file).then_some(register.index)
    }

    fn x(&self, name: &str) -> Option<u8> {
        self.index(name, RegisterFile::X)
    }

    fn dm(&self, name: &str) -> Option<u8> {
        self.index(name, RegisterFile::Dm)
    }

    fn place(&self, name: &str) -> Option<VectorPlace> {
        VectorPlace::of(self.register(name)?)
    }

    fn is(&self, text: &str) -> bool {
        self.0.form().contains(text)
    }
}

const BINARY: [(&str, Binary); 15] = [
    ("add", Binary::Add),
    ("sub", Binary::Sub),
    ("adc", Binary::AddCarry),
    ("sbc", Binary::SubCarry),
    ("and", Binary::And),
    ("or", Binary::Or),
    ("xor", Binary::Xor),
    ("eq", Binary::Eq),
    ("ne", Binary::Ne),
    ("ge", Binary::Ge),
    ("lt", Binary::Lt),
    ("geu", Binary::GeUnsigned),
    ("ltu", Binary::LtUnsigned),
    ("lshl", Binary::ShiftLogical),
    ("ashl", Binary::ShiftArithmetic),
];

const UNARY: [(&str, Unary); 8] = [
    ("clz", Unary::LeadingZeros),
    ("extend.s8", Unary::SignExtend8),
    ("extend.s16", Unary::SignExtend16),
    ("extend.u8", Unary::ZeroExtend8),
    ("extend.u16", Unary::ZeroExtend16),
    ("eqz", Unary::IsZero),
    ("nez", Unary::IsNotZero),
    ("popcount", Unary::CountOnes),
];

fn scalar(mnemonic: &str, fields: &Fields<'_>) -> Option<Operation> {
    let d = fields.scalar("d");
    if let Some((_, op)) = BINARY.iter().find(|(name, _)| *name == mnemonic)
        && let (Some(a), Some(b)) = (fields.scalar("s0"), fields.scalar("s1"))
    {
        return Some(Operation::Binary { op: *op, d: d?, a, b });
    }
    if let Some((_, op)) = UNARY.iter().find(|(name, _)| *name == mnemonic) {
        return Some(Operation::Unary { op: *op, d: d?, a: fields.scalar("s0")? });
    }
    let product = |op| {
        let (a, b) = (fields.scalar("s0")?, fields.scalar("s1")?);
        Some(Operation::Multiply { op, d: d?, a, b })
    };
    let select = |when| {
        let (a, b) = (fields.scalar("s0")?, fields.scalar("s1")?);
        Some(Operation::Select { when, d: d?, a, b, test: Scalar::r(27) })
    };
    let add = |carry| {
        let (a, immediate) = (fields.scalar("s0")?, fields.number("imm")?);
        Some(Operation::AddImmediate { d: d?, a, immediate, carry })
    };
    match mnemonic {
        "add" => add(CarryOut::Written),
        "add.nc" => match fields.scalar("s1") {
            Some(b) => {
                let a = fields.scalar("s0")?;
                Some(Operation::Binary { op: Binary::AddNoCarry, d: d?, a, b })
            }
            None => add(CarryOut::Kept),
        },
        // Sources do not say what `abs` does to the carry, which it names as written.
        "abs" => Some(Operation::Unary { op: Unary::Absolute, d: d?, a: fields.scalar("s0")? }),
        "mul" => product(Product::Multiply),
        "mac" => product(Product::MultiplyAdd),
        "msc" => product(Product::MultiplySubtract),
        "sel.eqz" => select(Condition::Zero),
        "sel.nez" => select(Condition::NotZero),
        "mov" | "mova" | "movx" | "movxm" | "movs" if !fields.is(" ms,") && !fields.is(", ss") => {
            match fields.scalar("s") {
                Some(s) => Some(Operation::Move { d: d?, s }),
                None => Some(Operation::MoveImmediate { d: d?, value: fields.number("i")? as u32 }),
            }
        }
        _ => None,
    }
}

fn control(mnemonic: &str, fields: &Fields<'_>) -> Option<Operation> {
    let r26 = Scalar::r(26);
    let lock = || match fields.number("id") {
        Some(number) => Some(LockNumber::Fixed(number as u8)),
        None => fields.scalar("id").map(LockNumber::In),
    };
    let jump = |link| match fields.number("i") {
        Some(target) => Some(Operation::Jump { target: target as u32, link }),
        None => Some(Operation::JumpTo { pointer: fields.scalar("a")?, link }),
    };
    let jump_if = |when| {
        let (test, target) = (fields.scalar("s0")?, fields.number("i")? as u32);
        Some(Operation::JumpIf { when, test, target })
    };
    let value = fields.scalar("s");
    match mnemonic {
        "acq" => Some(Operation::Acquire { lock: lock()?, value: value?, only_if: None }),
        "rel" => Some(Operation::Release { lock: lock()?, value: value?, only_if: None }),
        "acq.cond" => Some(Operation::Acquire { lock: lock()?, value: value?, only_if: Some(r26) }),
        "rel.cond" => Some(Operation::Release { lock: lock()?, value: value?, only_if: Some(r26) }),
        "done" => Some(Operation::Done),
        "ret" => Some(Operation::JumpTo { pointer: Scalar::LR, link: Link::None }),
        "j" => jump(Link::None),
        "jl" => jump(Link::Lr),
        "jnz" => jump_if(Condition::NotZero),
        "jz" => jump_if(Condition::Zero),
        "jnzd" => {
            let (d, a) = (fields.scalar("d")?, fields.scalar("s0")?);
            Some(Operation::JumpDecrement { d, a, pointer: fields.scalar("a")? })
        }
        "paddxm" => match fields.number("imm") {
            Some(by) => Some(Operation::MoveStack { by }),
            None => Some(Operation::MoveStackBy { modifier: fields.scalar("m")? }),
        },
        _ => None,
    }
}

fn memory(mnemonic: &str, fields: &Fields<'_>) -> Option<Operation> {
    let plain = mnemonic.replace(".2d", "").replace(".3d", "");
    let load = |size| Some(Operation::Load { size, d: fields.scalar("d")?, at: address(fields)? });
    let store =
        |size| Some(Operation::Store { size, s: fields.scalar("s")?, at: address(fields)? });
    match plain.as_str() {
        "padda" | "paddb" | "padds" => Some(Operation::MovePointer { at: address(fields)? }),
        "lda" => load(Size::Word),
        "lda.s8" => load(Size::Signed8),
        "lda.u8" => load(Size::Unsigned8),
        "lda.s16" => load(Size::Signed16),
        "lda.u16" => load(Size::Unsigned16),
        "st" => store(Size::Word),
        "st.s8" => store(Size::Signed8),
        "st.s16" => store(Size::Signed16),
        "vlda" | "vldb" => {
            Some(Operation::LoadVector { d: fields.place("d")?, at: address(fields)? })
        }
        "vst" => Some(Operation::StoreVector { s: fields.place("s")?, at: address(fields)? }),
        "vst.srs.4x" => {
            let sign = if fields.is("srssign0") { "srssign0" } else { "srssign1" };
            Some(Operation::StoreShifted {
                s: fields.dm("s")?,
                shift: fields.scalar("shift")?,
                sign: Scalar::control(sign),
                at: address(fields)?,
            })
        }
        _ => None,
    }
}

fn address(fields: &Fields<'_>) -> Option<Address> {
    let by = fields.number("imm");
    let Some(p) = fields.scalar("p") else { return Some(Address::Stack { by: by? }) };
    if let Some(by) = by {
        let is_post = fields.is("[$p],");
        return Some(if is_post { Address::Then { p, by } } else { Address::Offset { p, by } });
    }
    if let Some(dj) = fields.scalar("dj") {
        return Some(Address::Index { p, dj });
    }
    if let Some(d) = fields.index("mod", RegisterFile::D) {
        return Some(Address::Then2d { p, d });
    }
    if let Some(d) = fields.index("mod", RegisterFile::D3) {
        return Some(Address::Then3d { p, d });
    }
    Some(Address::ThenBy { p, m: fields.scalar("m")? })
}

fn vector(mnemonic: &str, fields: &Fields<'_>) -> Option<Operation> {
    let lane = match mnemonic.rsplit('.').next() {
        Some("8") => Lane::Bits8,
        Some("16") => Lane::Bits16,
        _ => Lane::Bits32,
    };
    let accumulate = |op| Some(Operation::Accumulate { op, d: fields.dm("d")? });
    match mnemonic {
        "vmov" => match (half_accumulator(fields, "d"), half_accumulator(fields, "s")) {
            (Some(d), Some(s)) => Some(Operation::MoveHalfAccumulator { d, s }),
            _ => Some(Operation::MoveVector { d: fields.place("d")?, s: fields.place("s")? }),
        },
        "vshift" => {
            let (a, b) = (fields.x("s1")?, fields.x("s2")?);
            let by = fields.scalar("c")?;
            Some(Operation::ShiftVectors { d: fields.x("d")?, a, b, by })
        }
        "vadd.8" | "vadd.16" | "vadd.32" => {
            let (a, b) = (fields.x("s1")?, fields.x("s2")?);
            Some(Operation::AddVectors { lane, d: fields.x("d")?, a, b })
        }
        "vband" => {
            let (a, b) = (fields.x("s1")?, fields.x("s2")?);
            Some(Operation::AndVectors { d: fields.x("d")?, a, b })
        }
        "vbcst.8" | "vbcst.16" | "vbcst.32" => {
            Some(Operation::Broadcast { lane, d: fields.x("d")?, s: fields.scalar("s")? })
        }
        "vclr" => accumulate(Accumulation::Clear),
        "vmov.d" => accumulate(Accumulation::Move { a: fields.dm("s")? }),
        "vadd" => accumulate(Accumulation::Add {
            a: fields.dm("a")?,
            b: fields.dm("b")?,
            configuration: fields.scalar("c")?,
        }),
        "vmac" | "vmul" => accumulate(Accumulation::Multiply {
            a: if mnemonic == "vmac" { Some(fields.dm("a")?) } else { None },
            s1: fields.x("s1")?,
            s2: fields.x("s2")?,
            configuration: fields.scalar("c")?,
        }),
        _ => None,
    }
}

/// The first quarter of the half accumulator that `name` is.
fn half_accumulator(fields: &Fields<'_>, name: &str) -> Option<u8> {
    let register = fields.register(name)?;
    match register.file {
        RegisterFile::Cml => Some(register.index * 4),
        RegisterFile::Cmh => Some(register.index * 4 + 2),
        _ => None,
    }
}

impl VectorPlace {
    /// The place of a vector, half of one, or a quarter of an accumulator.
    pub fn of(register: Register) -> Option<VectorPlace> {
        let quarter = |which| Some(VectorPlace::Quarter(register.index * 4 + which));
        match register.file {
            RegisterFile::X => Some(VectorPlace::Whole(register.index)),
            RegisterFile::Wl => Some(VectorPlace::Half(register.index * 2)),
            RegisterFile::Wh => Some(VectorPlace::Half(register.index * 2 + 1)),
            RegisterFile::Bmll => quarter(0),
            RegisterFile::Bmlh => quarter(1),
            RegisterFile::Bmhl => quarter(2),
            RegisterFile::Bmhh => quarter(3),
            _ => None,
        }
    }
}
