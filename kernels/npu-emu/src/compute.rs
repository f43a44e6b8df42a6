//! A core's turn.

use crate::Fault;
use crate::engine::Engine;
use crate::tile::Tile;

impl Tile {
    /// What its core waits for; None when it does not run.
    pub(crate) fn core_waits_for(&self) -> Option<String> {
        None
    }
}

impl Engine<'_> {
    /// One turn of a core: up to its next lock operation.
    pub(crate) fn step_core(&mut self, tile: usize) -> Result<(), Fault> {
        let tile = self.tiles[tile].id;
        Err(Fault::Unsupported { tile, offset: 0x32000, what: "a core" })
    }
}
