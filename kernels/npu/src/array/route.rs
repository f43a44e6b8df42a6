//! Stream switches: ports, their numbers, and which of them a tile connects.

use std::fmt;

use super::{ArrayError, Tile, TileKind};

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// To the core.
    Core,
    /// To the tile's DMA.
    Dma,
    /// To the tile's registers.
    Control,
    /// To the switch's own buffer.
    Fifo,
    /// To the tile below; in the shim, to its DMA and the machine's network.
    South,
    /// To the tile on the left.
    West,
    /// To the tile above.
    North,
    /// To the tile on the right.
    East,
    /// From the trace unit.
    Trace,
}

/// A port of a tile's switch: an input ("slave") or an output ("master"), as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Where it leads.
    pub side: Side,
    /// Its number on that side.
    pub index: u8,
}

impl Port {
    /// Port `index` of `side`.
    pub const fn new(side: Side, index: u8) -> Self {
        Port { side, index }
    }

    /// The port of the neighbouring tile that an output meets, and how far that tile is in columns
    /// and rows; None for ports that stay in the tile or leave the array.
    pub(super) fn opposite(self, kind: TileKind) -> Option<(Side, i8, i8)> {
        match self.side {
            Side::North => Some((Side::South, 0, 1)),
            Side::South if kind != TileKind::Shim => Some((Side::North, 0, -1)),
            Side::East => Some((Side::West, 1, 0)),
            Side::West => Some((Side::East, -1, 0)),
            _ => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.side, self.index)
    }
}

type Ports = &'static [(Side, u8)];

/// Outputs and inputs of a kind of tile, in the order of their registers (aie-rt
/// `xaie2pgbl_reginit.c`, `StrmMstr` and `StrmSlv`).
const fn ports(kind: TileKind) -> (Ports, Ports) {
    use Side::{Control, Core, Dma, East, Fifo, North, South, Trace, West};
    match kind {
        TileKind::Compute => (
            &[
                (Core, 1),
                (Dma, 2),
                (Control, 1),
                (Fifo, 1),
                (South, 4),
                (West, 4),
                (North, 6),
                (East, 4),
            ],
            &[
                (Core, 1),
                (Dma, 2),
                (Control, 1),
                (Fifo, 1),
                (South, 6),
                (West, 4),
                (North, 4),
                (East, 4),
                (Trace, 1),
            ],
        ),
        TileKind::Memory => (
            &[(Dma, 6), (Control, 1), (South, 4), (North, 6)],
            &[(Dma, 6), (Control, 1), (South, 6), (North, 4), (Trace, 1)],
        ),
        TileKind::Shim => (
            &[(Control, 1), (Fifo, 1), (South, 6), (West, 4), (North, 6), (East, 4)],
            &[(Control, 1), (Fifo, 1), (South, 8), (West, 4), (North, 4), (East, 4), (Trace, 2)],
        ),
    }
}

fn number(ports: Ports, port: Port) -> Option<u32> {
    let mut first = 0;
    for &(side, count) in ports {
        if side == port.side {
            return (port.index < count).then_some(first + u32::from(port.index));
        }
        first += u32::from(count);
    }
    None
}

/// The numbers of an input and an output of `tile`.
///
/// # Errors
/// Ports that are not there, or that the switch does not connect.
pub(super) fn connection(tile: Tile, from: Port, to: Port) -> Result<(u32, u32), ArrayError> {
    let refused = ArrayError::NoConnection { tile, from, to };
    let (masters, slaves) = ports(tile.kind());
    let (Some(slave), Some(master)) = (number(slaves, from), number(masters, to)) else {
        return Err(refused);
    };
    if !is_connected(tile.kind(), from, to) {
        return Err(refused);
    }
    Ok((slave, master))
}

/// mlir-aie `AIETargetModel.cpp`, `AIE2TargetModel::isLegalTileConnection`: a memory tile passes
/// streams straight on, and any tile turns a stream back only at the same index.
fn is_connected(kind: TileKind, from: Port, to: Port) -> bool {
    let is_same_index = from.index == to.index;
    match (kind, from.side, to.side) {
        (TileKind::Memory, Side::Dma, Side::Dma)
        | (TileKind::Memory, Side::South, Side::North)
        | (TileKind::Memory, Side::North, Side::South) => is_same_index,
        (_, Side::South | Side::North | Side::West | Side::East, _) if from.side == to.side => {
            is_same_index
        }
        // The trace unit has a few outputs; no design here uses it.
        (_, Side::Trace, _) => false,
        _ => true,
    }
}
