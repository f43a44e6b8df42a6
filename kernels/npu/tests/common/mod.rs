//! A small design that has every kind of write, for the tests of all formats.

use onebit_aie::cdo::Cdo;
use onebit_aie::pdi::Pdi;
use onebit_aie::program::{RegisterAddress, RegisterOp, RegisterProgram};
use onebit_aie::xclbin::Xclbin;

/// The register at `offset` of a tile.
pub fn register(column: u32, row: u32, offset: u32) -> RegisterAddress {
    RegisterAddress::new(column, row, offset).expect("a register of the array")
}

/// A program with blocks of both the short and the long CDO form, at several alignments.
pub fn program() -> RegisterProgram {
    let block = |words: u32| (0..words).map(|word| word.wrapping_mul(0x9e37_79b9)).collect();
    let mut ops = Vec::new();
    for (column, words) in [(0, 0), (1, 1), (2, 6), (3, 252), (4, 253)] {
        let reset = register(column, 2, 0x32000);
        ops.push(RegisterOp::MaskWrite { address: reset, mask: 2, value: 2 });
        let data = block(words);
        ops.push(RegisterOp::BlockWrite { address: register(column, 2, 0x20000), data });
        ops.push(RegisterOp::Write32 { address: register(column, 2, 0x1f000), value: column });
    }
    RegisterProgram { ops }
}

/// A container around [`program`].
pub fn xclbin() -> Xclbin {
    Xclbin::new(8, Pdi::new(Cdo::from_program(&program()))).expect("a small design fits")
}
