//! The machine's memory as the shims see it: the kernel's arguments.
//!
//! Every argument has addresses of its own, far from the others', so that an address that is too
//! large is outside and not inside the next one. Between two syncs each group of columns works on
//! its own; what they wrote is put together afterwards, and checked for columns that needed an
//! order and had none.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Fault;

/// Bits of an address below the argument's number: a terabyte for each.
const ARGUMENT_BITS: u32 = 40;

/// The address of the first byte of argument `index`.
pub const fn address_of(index: u32) -> u64 {
    (index as u64 + 1) << ARGUMENT_BITS
}

/// Bytes of an argument.
#[derive(Clone, Debug)]
struct Piece {
    argument: usize,
    bytes: Range<u64>,
}

/// What one group of columns did to the arguments.
#[derive(Debug, Default)]
pub struct Changes {
    writes: Vec<(Piece, Vec<u8>)>,
    reads: Vec<Piece>,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// The arguments, and what one group did to them since the last sync.
#[derive(Debug)]
pub struct Ddr<'a> {
    arguments: &'a [Vec<u8>],
    /// What the group did.
    pub changes: Changes,
}

impl<'a> Ddr<'a> {
    /// The arguments, unchanged.
    pub fn new(arguments: &'a [Vec<u8>]) -> Self {
        Ddr { arguments, changes: Changes::default() }
    }

    /// Whether `length` bytes at `address` are inside one argument.
    pub fn holds(&self, address: u64, length: u64) -> bool {
        self.piece(address, length).is_some()
    }

    /// Appends `length` bytes at `address` to `bytes`. False when they are outside.
    pub fn read(&mut self, address: u64, length: u64, bytes: &mut Vec<u8>) -> bool {
        let Some(piece) = self.piece(address, length) else { return false };
        let source = &self.arguments[piece.argument];
        let start = bytes.len();
        bytes.extend_from_slice(&source[to_usize(&piece.bytes)]);
        for (written, data) in &self.changes.writes {
            let from = written.bytes.start.max(piece.bytes.start);
            let to = written.bytes.end.min(piece.bytes.end);
            if written.argument == piece.argument && from < to {
                let source = from - written.bytes.start..to - written.bytes.start;
                let at = start as u64 + from - piece.bytes.start;
                bytes[to_usize(&(at..at + to - from))].copy_from_slice(&data[to_usize(&source)]);
            }
        }
        self.changes.read += length;
        match self.changes.reads.last_mut() {
            Some(last)
                if last.argument == piece.argument && last.bytes.end == piece.bytes.start =>
            {
                last.bytes.end = piece.bytes.end;
            }
            _ => self.changes.reads.push(piece),
        }
        true
    }

    /// Writes `bytes` at `address`. False when they are outside.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let Some(piece) = self.piece(address, bytes.len() as u64) else { return false };
        self.changes.written += bytes.len() as u64;
        match self.changes.writes.last_mut() {
            Some((last, data))
                if last.argument == piece.argument && last.bytes.end == piece.bytes.start =>
            {
                last.bytes.end = piece.bytes.end;
                data.extend_from_slice(bytes);
            }
            _ => self.changes.writes.push((piece, bytes.to_vec())),
        }
        true
    }

    fn piece(&self, address: u64, length: u64) -> Option<Piece> {
        let argument = usize::try_from((address >> ARGUMENT_BITS).checked_sub(1)?).ok()?;
        let start = address & ((1 << ARGUMENT_BITS) - 1);
        let end = start + length;
        let size = self.arguments.get(argument)?.len() as u64;
        (end <= size).then_some(Piece { argument, bytes: start..end })
    }
}

/// Puts the changes of all groups into the arguments. With each goes the group's first column.
///
/// # Errors
/// When one group wrote what another wrote or read.
pub fn commit(arguments: &mut [Vec<u8>], changes: &[(u8, Changes)]) -> Result<(), Fault> {
    check_order(changes)?;
    for (piece, data) in changes.iter().flat_map(|(_, changes)| &changes.writes) {
        arguments[piece.argument][to_usize(&piece.bytes)].copy_from_slice(data);
    }
    Ok(())
}

fn check_order(changes: &[(u8, Changes)]) -> Result<(), Fault> {
    let writes = changes.iter().flat_map(|(column, changes)| {
        changes.writes.iter().map(move |(piece, _)| (*column, piece))
    });
    let mut writes: Vec<(u8, &Piece)> = writes.collect();
    writes.sort_by_key(|(column, piece)| (piece.argument, piece.bytes.start, *column));
    // Of each group the write that reaches furthest: it may contain many of the others'.
    let mut furthest: BTreeMap<u8, &Piece> = BTreeMap::new();
    for &(column, piece) in &writes {
        furthest.retain(|_, other| other.argument == piece.argument);
        furthest.iter().try_for_each(|(&other, &far)| meet((other, far), (column, piece)))?;
        let far = furthest.entry(column).or_insert(piece);
        if far.bytes.end < piece.bytes.end {
            *far = piece;
        }
    }
    let Some(longest) = writes.iter().map(|(_, piece)| piece.bytes.end - piece.bytes.start).max()
    else {
        return Ok(());
    };
    for (column, read) in changes
        .iter()
        .flat_map(|(column, changes)| changes.reads.iter().map(move |piece| (*column, piece)))
    {
        let from = read.bytes.start.saturating_sub(longest);
        let first = writes.partition_point(|(_, piece)| {
            (piece.argument, piece.bytes.start) < (read.argument, from)
        });
        let near = writes[first..].iter().take_while(|(_, piece)| {
            (piece.argument, piece.bytes.start) < (read.argument, read.bytes.end)
        });
        for &write in near {
            meet(write, (column, read))?;
        }
    }
    Ok(())
}

fn meet(one: (u8, &Piece), other: (u8, &Piece)) -> Result<(), Fault> {
    let ((column, piece), (other_column, other_piece)) = (one, other);
    let start = piece.bytes.start.max(other_piece.bytes.start);
    let end = piece.bytes.end.min(other_piece.bytes.end);
    if column == other_column || piece.argument != other_piece.argument || start >= end {
        return Ok(());
    }
    let columns = [column, other_column];
    Err(Fault::UnorderedArgument { argument: piece.argument, columns, offset: start })
}

/// Positions inside a buffer that is in this process's memory.
#[expect(clippy::cast_possible_truncation, reason = "bounded by the length of a Vec")]
fn to_usize(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of three groups' writes and reads of a kilobyte: (column, start, length).
    fn outcome(writes: &[(u8, u64, usize)], reads: &[(u8, u64, u64)]) -> Result<Vec<u8>, Fault> {
        let mut arguments = vec![vec![0; 16], vec![0; 1024]];
        let changes: Vec<(u8, Changes)> = (0..3)
            .map(|column| {
                let mut ddr = Ddr::new(&arguments);
                for &(_, start, length) in writes.iter().filter(|write| write.0 == column) {
                    assert!(ddr.write(address_of(1) + start, &vec![column + 1; length]));
                }
                for &(_, start, length) in reads.iter().filter(|read| read.0 == column) {
                    assert!(ddr.read(address_of(1) + start, length, &mut Vec::new()));
                }
                (column, ddr.changes)
            })
            .collect();
        commit(&mut arguments, &changes)?;
        Ok(arguments.remove(1))
    }

    #[test]
    fn groups_that_meet_are_found_wherever_they_meet() {
        let result = outcome(&[(0, 0, 100), (1, 100, 100), (0, 200, 50)], &[(2, 250, 774)]);
        let result = result.unwrap();
        assert_eq!((result[99], result[100], result[249], result[250]), (1, 2, 1, 0));
        let offset_of = |fault| match fault {
            Err(Fault::UnorderedArgument { argument: 1, offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        // Inside a long write of another group, with one of its own between.
        let writes = [(0, 0, 500), (0, 510, 10), (0, 20, 10), (1, 300, 10)];
        assert_eq!(offset_of(outcome(&writes, &[])), 300);
        assert_eq!(offset_of(outcome(&[(0, 0, 500), (1, 600, 4)], &[(2, 499, 50)])), 499);
        outcome(&[(0, 0, 500)], &[(0, 0, 500), (1, 500, 100)]).unwrap();
    }

    #[test]
    fn a_group_reads_what_it_wrote() {
        let arguments = [vec![7; 64]];
        let mut ddr = Ddr::new(&arguments);
        assert!(ddr.write(address_of(0) + 8, &[1; 8]) && ddr.write(address_of(0) + 12, &[2; 8]));
        let mut bytes = vec![9];
        assert!(ddr.read(address_of(0) + 4, 20, &mut bytes));
        assert_eq!(bytes, [&[9][..], &[7; 4], &[1; 4], &[2; 8], &[7; 4]].concat());
        assert!(!ddr.read(address_of(0) + 60, 5, &mut bytes) && !ddr.write(address_of(1), &[0]));
    }
}
