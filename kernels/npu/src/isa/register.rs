//! Registers, and how the fields of different operations number them.

use std::fmt;

/// A set of registers that are told apart by number, or a single special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegisterFile {
    /// 32-bit scalars, 32 of them.
    R,
    /// Pointers, 8.
    P,
    /// Pointer modifiers, 8.
    M,
    /// Sizes of dimensions, 8.
    Dn,
    /// Strides of dimensions, 8.
    Dj,
    /// Counters of dimensions, 8.
    Dc,
    /// The modifiers of a 2-dimensional access (m, dn, dj, dc of one number), 8.
    D,
    /// The modifiers of a 3-dimensional access (those of one number and of that plus 4), 4.
    D3,
    /// Shifts, 4.
    S,
    /// 512-bit vectors, 12.
    X,
    /// Lower halves of vectors, 256 bits, 12.
    Wl,
    /// Upper halves of vectors, 12.
    Wh,
    /// Exponents of a vector's lower half, 12.
    El,
    /// Exponents of a vector's upper half, 12.
    Eh,
    /// The first quarter of an accumulator, 512 bits.
    Bmll,
    /// The second quarter.
    Bmlh,
    /// The third quarter.
    Bmhl,
    /// The fourth quarter.
    Bmhh,
    /// The lower half of an accumulator, 1024 bits.
    Cml,
    /// The upper half of an accumulator.
    Cmh,
    /// Accumulators, 2048 bits, 5.
    Dm,
    /// Vectors with their exponents, 576 bits, 12.
    Ex,
    /// Pairs of vectors, 1024 bits, 6.
    Y,
    /// Lower halves of the buffers for unaligned loads, 2.
    Lfl,
    /// Upper halves of those, 2.
    Lfh,
    /// Exponents in those.
    Lfe,
    /// Lower half of the buffer for unaligned stores.
    Sfl,
    /// Upper half of it.
    Sfh,
    /// Link register.
    Lr,
    /// Start of the hardware loop.
    Ls,
    /// Last word of the hardware loop.
    Le,
    /// Counter of the hardware loop.
    Lc,
    /// Stack pointer.
    Sp,
    /// The core's place in the array, read only.
    CoreId,
    /// A control or status register; [`Register::control`] says which number is which.
    Control,
}

/// Control and status registers: name and number in the fields of scalar moves (`mMvSclDst`).
pub(super) const CONTROL: [(&str, u32); 40] = [
    ("srcarry", 0b0000010),
    ("srss0", 0b1100010),
    ("srms0", 0b1010010),
    ("srsrs_of", 0b1011010),
    ("srups_of", 0b1110010),
    ("srfifo_of", 0b1000010),
    ("srfifo_uf", 0b1001010),
    ("srsparse_of", 0b1101010),
    ("srfpflags", 0b0110010),
    ("srf2iflags", 0b0011010),
    ("srf2fflags", 0b0010010),
    ("srf2bflags", 0b0001010),
    ("srfpnlf", 0b0111010),
    ("srfpcnvfx2fl", 0b0101010),
    ("srfpcnvfl2fx", 0b0100010),
    ("crsat", 0b0100111),
    ("crrnd", 0b1111011),
    ("crfpmask", 0b1101011),
    ("crf2imask", 0b0001011),
    ("crf2fmask", 0b1110011),
    ("crf2bmask", 0b0110011),
    ("crsrsmode", 0b1000111),
    ("crupsmode", 0b1100111),
    ("crunpacksize", 0b0010111),
    ("crpacksize", 0b0111011),
    ("srssign0", 0b0111110),
    ("srssign1", 0b1111110),
    ("upssign0", 0b0000011),
    ("upssign1", 0b1000011),
    ("packsign0", 0b0011110),
    ("packsign1", 0b1011110),
    ("unpacksign0", 0b0100011),
    ("unpacksign1", 0b1100011),
    ("vaddsign0", 0b0010011),
    ("vaddsign1", 0b1010011),
    ("crscden", 0b0000111),
    ("crmcden", 0b1011011),
    ("crfpnlfmask", 0b0011011),
    ("crfpcnvfx2flmask", 0b0101011),
    ("crfpcnvfl2fxmask", 0b1001011),
];

/// One register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register {
    /// Its file.
    pub file: RegisterFile,
    /// Its number in the file; 0 for a register that is alone.
    pub index: u8,
}

impl Register {
    /// The control or status register called `name`, for example `crsat`.
    pub fn control(name: &str) -> Option<Self> {
        let index = CONTROL.iter().position(|(other, _)| *other == name)?;
        Some(Register { file: RegisterFile::Control, index: index as u8 })
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.file {
            RegisterFile::Control => {
                return f.write_str(CONTROL[usize::from(self.index) % CONTROL.len()].0);
            }
            RegisterFile::Lr => return f.write_str("lr"),
            RegisterFile::Ls => return f.write_str("ls"),
            RegisterFile::Le => return f.write_str("le"),
            RegisterFile::Lc => return f.write_str("lc"),
            RegisterFile::Sp => return f.write_str("sp"),
            RegisterFile::CoreId => return f.write_str("core_id"),
            RegisterFile::Lfe => return f.write_str("lfe"),
            RegisterFile::Sfl => return f.write_str("sfl"),
            RegisterFile::Sfh => return f.write_str("sfh"),
            RegisterFile::R => "r",
            RegisterFile::P => "p",
            RegisterFile::M => "m",
            RegisterFile::Dn => "dn",
            RegisterFile::Dj => "dj",
            RegisterFile::Dc => "dc",
            RegisterFile::D | RegisterFile::D3 => "d",
            RegisterFile::S => "s",
            RegisterFile::X => "x",
            RegisterFile::Wl => "wl",
            RegisterFile::Wh => "wh",
            RegisterFile::El => "el",
            RegisterFile::Eh => "eh",
            RegisterFile::Bmll => "bmll",
            RegisterFile::Bmlh => "bmlh",
            RegisterFile::Bmhl => "bmhl",
            RegisterFile::Bmhh => "bmhh",
            RegisterFile::Cml => "cml",
            RegisterFile::Cmh => "cmh",
            RegisterFile::Dm => "dm",
            RegisterFile::Ex => "ex",
            RegisterFile::Y => "y",
            RegisterFile::Lfl => "lfl",
            RegisterFile::Lfh => "lfh",
        };
        write!(f, "{name}{}", self.index)
    }
}

/// Registers of one file in a field: number = index << shift | low.
#[derive(Debug)]
pub(super) struct Numbering {
    file: RegisterFile,
    count: u8,
    shift: u32,
    low: u32,
}

const fn all(file: RegisterFile, count: u8, shift: u32, low: u32) -> Numbering {
    Numbering { file, count, shift, low }
}

const fn one(file: RegisterFile, low: u32) -> Numbering {
    Numbering { file, count: 1, shift: 0, low }
}

/// The registers of a field.
#[derive(Debug)]
pub(super) struct Class {
    /// What patterns call it.
    pub name: &'static str,
    /// Bits of the field.
    pub width: u32,
    numberings: &'static [Numbering],
    control: Control,
}

/// How a field numbers control registers.
#[derive(Debug)]
enum Control {
    None,
    /// As [`CONTROL`] says.
    Moves,
    /// By these numbers, in the order of this list.
    Own(&'static [(&'static str, u32)]),
}

impl Class {
    /// The class that patterns call `name`.
    pub fn named(name: &str) -> Option<&'static Class> {
        CLASSES.iter().find(|class| class.name == name)
    }

    /// The register with this number, if there is one.
    pub fn decode(&self, number: u32) -> Option<Register> {
        for numbering in self.numberings {
            let Numbering { file, count, shift, low } = *numbering;
            let index = number.wrapping_sub(low) >> shift;
            if number >= low && index < u32::from(count) && index << shift | low == number {
                return Some(Register { file, index: index as u8 });
            }
        }
        let (name, _) = self.control()?.iter().find(|(_, other)| *other == number)?;
        Register::control(name)
    }

    /// The number of `register`, if it is of this class.
    pub fn encode(&self, register: Register) -> Option<u32> {
        for Numbering { file, count, shift, low } in self.numberings {
            if *file == register.file && register.index < *count {
                return Some(u32::from(register.index) << shift | low);
            }
        }
        if register.file != RegisterFile::Control {
            return None;
        }
        let (name, _) = CONTROL.get(usize::from(register.index))?;
        self.control()?.iter().find(|(other, _)| other == name).map(|(_, number)| *number)
    }

    /// The register of this class that is written `text`.
    pub fn parse(&self, text: &str) -> Option<Register> {
        if let Some(register) = Register::control(text) {
            return self.encode(register).map(|_| register);
        }
        let mut members = self.numberings.iter().flat_map(|numbering| {
            (0..numbering.count).map(|index| Register { file: numbering.file, index })
        });
        members.find(|register| register.to_string() == text)
    }

    fn control(&self) -> Option<&'static [(&'static str, u32)]> {
        match self.control {
            Control::None => None,
            Control::Moves => Some(&CONTROL),
            Control::Own(numbers) => Some(numbers),
        }
    }
}

/// Control registers as `movx` numbers them (`mCRm`).
const CONTROL_BY_MOVX: [(&str, u32); 22] = [
    ("crsat", 0b01110),
    ("crrnd", 0b01010),
    ("crfpmask", 0b00110),
    ("crf2imask", 0b00100),
    ("crf2fmask", 0b00010),
    ("crf2bmask", 0b00000),
    ("crsrsmode", 0b01100),
    ("crupsmode", 0b10000),
    ("crunpacksize", 0b10010),
    ("crpacksize", 0b01000),
    ("srssign0", 0b00011),
    ("srssign1", 0b10011),
    ("upssign0", 0b00101),
    ("upssign1", 0b10101),
    ("packsign0", 0b00001),
    ("packsign1", 0b10001),
    ("unpacksign0", 0b00111),
    ("unpacksign1", 0b10111),
    ("vaddsign0", 0b01001),
    ("vaddsign1", 0b11001),
    ("crscden", 0b11011),
    ("crmcden", 0b01011),
];

use RegisterFile::{
    Bmhh, Bmhl, Bmlh, Bmll, Cmh, Cml, CoreId, D, D3, Dc, Dj, Dm, Dn, Eh, El, Ex, Lc, Le, Lfe, Lfh,
    Lfl, Lr, Ls, M, P, R, S, Sfh, Sfl, Sp, Wh, Wl, X, Y,
};

const fn class(name: &'static str, width: u32, numberings: &'static [Numbering]) -> Class {
    Class { name, width, numberings, control: Control::None }
}

/// Every class, by the name patterns use; in parentheses llvm-aie's name of the field.
static CLASSES: &[Class] = &[
    class("r", 5, &[all(R, 32, 0, 0)]),
    class("p", 3, &[all(P, 8, 0, 0)]),
    class("m", 3, &[all(M, 8, 0, 0)]),
    class("dj", 3, &[all(Dj, 8, 0, 0)]),
    class("d", 3, &[all(D, 8, 0, 0)]),
    class("d3", 2, &[all(D3, 4, 0, 0)]),
    class("s", 2, &[all(S, 4, 0, 0)]),
    class("x", 4, &[all(X, 12, 0, 0)]),
    class("dm", 3, &[all(Dm, 5, 0, 0)]),
    class("ex", 4, &[all(Ex, 12, 0, 0)]),
    class("y", 3, &[all(Y, 6, 0, 0)]),
    class("cm", 4, &[all(Cml, 5, 1, 0), all(Cmh, 5, 1, 1)]),
    // Quarters that a shuffle can write (mShflBMDst).
    class(
        "bms",
        4,
        &[all(Bmll, 4, 2, 0), all(Bmlh, 4, 2, 1), all(Bmhl, 4, 2, 2), all(Bmhh, 4, 2, 3)],
    ),
    // Vector moves (mMvBMXDst, mMvBMXSrc).
    class(
        "bmx",
        6,
        &[
            all(Bmll, 5, 3, 0b000),
            all(Bmlh, 5, 3, 0b010),
            all(Bmhl, 5, 3, 0b100),
            all(Bmhh, 5, 3, 0b110),
            all(X, 12, 2, 0b001),
            all(Lfh, 2, 5, 0b00011),
            all(Lfl, 2, 5, 0b01011),
            one(Lfe, 0b010011),
            one(Sfl, 0b011011),
            one(Sfh, 0b110011),
        ],
    ),
    // Halves of vectors (mWa, mWs).
    class("w", 5, &[all(Wh, 12, 1, 0), all(Wl, 12, 1, 1)]),
    // An accumulator's quarters (mBMm, mBMs).
    class(
        "bm",
        5,
        &[all(Bmll, 5, 2, 0), all(Bmlh, 5, 2, 1), all(Bmhl, 5, 2, 2), all(Bmhh, 5, 2, 3)],
    ),
    // Destination of scalar moves (mMvSclDst).
    Class {
        name: "mvd",
        width: 7,
        numberings: &[
            all(R, 32, 2, 0b01),
            all(Dn, 8, 4, 0b0100),
            all(Dj, 8, 4, 0b1000),
            all(Dc, 8, 4, 0b1100),
            all(M, 8, 4, 0b0000),
            all(P, 8, 4, 0b0110),
            all(S, 4, 5, 0b01110),
            one(Le, 0b0110111),
            one(Ls, 0b0001111),
            one(Lr, 0b1110111),
            one(Sp, 0b1001111),
            one(Lc, 0b1010111),
        ],
        control: Control::Moves,
    },
    // Source of scalar moves (mMvSclSrc).
    Class {
        name: "mvs",
        width: 7,
        numberings: &[
            all(R, 32, 2, 0b01),
            all(Dn, 8, 4, 0b0100),
            all(Dj, 8, 4, 0b1000),
            all(Dc, 8, 4, 0b1100),
            all(M, 8, 4, 0b0000),
            all(P, 8, 4, 0b0110),
            all(S, 4, 5, 0b01110),
            one(Le, 0b1110111),
            one(Ls, 0b1001111),
            one(Lr, 0b0001111),
            one(Sp, 0b0101111),
            one(Lc, 0b0110111),
            one(CoreId, 0b1010111),
        ],
        control: Control::Moves,
    },
    // Destination of scalar loads (mLdaScl) and source of scalar stores (mSclSt).
    class(
        "mem",
        7,
        &[
            all(R, 32, 2, 0b10),
            all(Dn, 8, 4, 0b0100),
            all(Dj, 8, 4, 0b1000),
            all(Dc, 8, 4, 0b1100),
            all(M, 8, 4, 0b0000),
            all(P, 8, 4, 0b0011),
            all(Eh, 12, 3, 0b001),
            all(El, 12, 3, 0b101),
            one(Lr, 0b0000111),
        ],
    ),
    // Destination of mova (mLdaCg).
    class(
        "mova",
        7,
        &[
            all(R, 32, 2, 0b00),
            all(Dn, 8, 4, 0b0110),
            all(Dj, 8, 4, 0b1010),
            all(Dc, 8, 4, 0b1110),
            all(M, 8, 4, 0b0010),
            all(P, 8, 4, 0b1101),
            one(Lc, 0b0010101),
        ],
    ),
    // Destination of movx with an immediate (mAluCg).
    class("movx", 6, &[all(R, 32, 1, 0), one(Lc, 1)]),
    // Control registers that movx writes (mCRm).
    Class { name: "cr", width: 5, numberings: &[], control: Control::Own(&CONTROL_BY_MOVX) },
    // Destination of movs (mAguDst).
    class(
        "movsd",
        6,
        &[
            all(P, 8, 3, 0b100),
            all(M, 8, 3, 0b011),
            all(Dn, 8, 3, 0b010),
            all(Dj, 8, 3, 0b001),
            all(Dc, 8, 3, 0b000),
        ],
    ),
    // Source of movs (mAguSrc).
    class(
        "movss",
        7,
        &[
            all(P, 8, 4, 0b0010),
            all(M, 8, 4, 0b1101),
            all(Dn, 8, 4, 0b1001),
            all(Dj, 8, 4, 0b0101),
            all(Dc, 8, 4, 0b0001),
            all(R, 32, 2, 0b00),
        ],
    ),
    // Source of moves to the stream (mSclMS).
    class(
        "ms",
        7,
        &[
            all(R, 32, 2, 0b00),
            all(Dn, 8, 4, 0b0110),
            all(Dj, 8, 4, 0b1010),
            all(Dc, 8, 4, 0b1110),
            all(M, 8, 4, 0b0010),
            all(P, 8, 4, 0b1101),
        ],
    ),
];
