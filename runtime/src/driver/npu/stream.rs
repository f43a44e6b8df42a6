//! What an instruction stream may ask for: registers of the context's own tiles, and buffers of
//! the call. What it writes to those registers is as trusted as native code.

use std::ops::Range;

use onebit_aie::program::{RegisterAddress, RegisterOp};
use onebit_aie::txn::{Txn, TxnHeader, TxnOp};
use xrt_sys::ert;

use super::{NpuError, ROWS};

/// Checks a stream for a partition of so many columns, before a device sees it.
///
/// # Errors
/// [`NpuError::Instructions`] for bytes that are no TXN, whole and nothing else;
/// [`NpuError::Stream`] for one that reaches for more.
pub(super) fn check(bytes: &[u8], columns: u16) -> Result<(), NpuError> {
    let txn = Txn::parse(bytes).map_err(NpuError::Instructions)?;
    let expected = TxnHeader { columns: txn.header.columns, ..TxnHeader::npu4(0) };
    if txn.header != expected || u16::from(expected.columns) > columns {
        let expected = format!("TXN 0.1 for up to {columns} columns of an npu4");
        return Err(refused(expected, format!("{:?}", txn.header)));
    }
    txn.ops.iter().try_for_each(|op| check_op(op, columns))
}

fn check_op(op: &TxnOp, columns: u16) -> Result<(), NpuError> {
    let inside = |address: RegisterAddress| {
        let place = |start: u32| start..start + 1;
        check_tiles(place(address.column()), place(address.row()), columns)
    };
    match op {
        TxnOp::Register(
            RegisterOp::Write32 { address, .. }
            | RegisterOp::MaskWrite { address, .. }
            | RegisterOp::BlockWrite { address, .. },
        )
        | TxnOp::TaggedBlockWrite { address, .. }
        | TxnOp::MaskPoll { address, .. } => inside(*address),
        TxnOp::Noop | TxnOp::Preempt { .. } => Ok(()),
        TxnOp::LoadPdi { .. } => {
            Err(refused("registers and buffers only".into(), "another configuration".into()))
        }
        TxnOp::Sync { column, row, columns: width, rows: height, .. } => {
            let range =
                |start: u8, length: u8| u32::from(start)..u32::from(start) + u32::from(length);
            check_tiles(range(*column, *width), range(*row, *height), columns)
        }
        TxnOp::AddressPatch { register, argument, .. } => {
            if *argument as usize >= ert::ARGUMENTS {
                let expected = format!("buffers below {}", ert::ARGUMENTS);
                return Err(refused(expected, format!("buffer {argument}")));
            }
            inside(*register)
        }
    }
}

fn check_tiles(across: Range<u32>, up: Range<u32>, columns: u16) -> Result<(), NpuError> {
    let (width, height) = (u32::from(columns), u32::from(ROWS));
    if across.end <= width && up.end <= height {
        return Ok(());
    }
    let found = format!("column {}, row {}", across.end - 1, up.end - 1);
    Err(refused(format!("tiles of {width} columns and {height} rows"), found))
}

fn refused(expected: String, found: String) -> NpuError {
    NpuError::Stream { expected, found }
}
