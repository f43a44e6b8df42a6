//! Where data goes: the stream switches' settings followed from each source to its ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::Fault;
use crate::geometry::{ChannelId, Direction, TileId, TileKind, bits};
use crate::switch::{Bundle, MasterId, Mode, Port, SlaveId};
use crate::tile::Tile;

/// Where a way ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At a DMA channel that writes into memory.
    Channel(ChannelId),
    /// At the controller, through the shim of this column.
    Controller(u8),
    /// At the stream of a core.
    Core(TileId),
    /// At a tile's control port.
    Control(TileId),
    /// At a slave port that is off or feeds nothing.
    Closed(SlaveId),
    /// At a port of the shim that no DMA channel is behind.
    Outside(MasterId),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Channel(channel) => write!(f, "{channel}"),
            End::Controller(column) => write!(f, "the controller at column {column}"),
            End::Core(tile) => write!(f, "the core stream of {tile}"),
            End::Control(tile) => write!(f, "the control port of {tile}"),
            End::Closed(slave) => write!(f, "{slave}"),
            End::Outside(master) => write!(f, "{master}"),
        }
    }
}

/// One end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Where it ends.
    pub end: End,
    /// Whether packets arrive without their header.
    pub drops_header: bool,
}

/// Everywhere that one word goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Its ends.
    pub branches: Vec<Branch>,
    /// Ports that a packet keeps to itself until its last word.
    pub arbitrated: Vec<MasterId>,
    /// How many switches the longest branch goes through.
    pub switches: usize,
}

/// The way of a source's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Always the same.
    Circuit(Path),
    /// By the id in a packet's header; ids that no slot admits are not in it.
    Packets(BTreeMap<u8, Path>),
}

impl Route {
    /// All its paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (circuit, packets) = match self {
            Route::Circuit(path) => (Some(path), None),
            Route::Packets(paths) => (None, Some(paths.values())),
        };
        circuit.into_iter().chain(packets.into_iter().flatten())
    }
}

/// The routes of the whole array.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// The way of each channel that sends, if its port is on.
    pub from: BTreeMap<ChannelId, Route>,
    /// The channels that send to each channel that receives.
    pub sources: BTreeMap<ChannelId, Vec<ChannelId>>,
    /// How many words the switches hold on the way to a channel that receives.
    pub room: BTreeMap<ChannelId, usize>,
    /// Tiles and ids whose task-complete tokens reach the controller.
    pub tokens: BTreeSet<(TileId, u8)>,
}

/// Words that a switch holds on a way through it. A slave port has a buffer of four; what else is
/// on the way is not counted, so a design that needs more room than is certain is found.
const WORDS_PER_SWITCH: usize = 4;
const PACKET_IDS: u8 = 32;

impl Routes {
    /// Follows every source of `tiles`, which are those of [`TileId::all`].
    ///
    /// # Errors
    /// A switch with a connection that it cannot have, or a way that leaves the array, goes in a
    /// circle, or comes to one port twice.
    pub fn trace(tiles: &[Tile]) -> Result<Self, Fault> {
        let fabric = Fabric { tiles };
        tiles.iter().try_for_each(|tile| tile.switch.check())?;
        let mut routes = Routes::default();
        for tile in tiles {
            for channel in tile.channels.iter().map(|channel| channel.id) {
                if channel.direction == Direction::MemoryToStream
                    && let Some(route) = fabric.route_of(channel)?
                {
                    routes.from.insert(channel, route);
                }
            }
            let control =
                SlaveId { tile: tile.id, port: Port { bundle: Bundle::Control, index: 0 } };
            if tile.switch.slave_mode(control.port).is_some() {
                for (id, path) in fabric.packets(control)? {
                    let reaches = |branch: &Branch| matches!(branch.end, End::Controller(_));
                    if path.branches.iter().any(reaches) {
                        routes.tokens.insert((tile.id, id));
                    }
                }
            }
        }
        routes.index();
        Ok(routes)
    }

    fn index(&mut self) {
        for (&source, route) in &self.from {
            for path in route.paths() {
                for branch in &path.branches {
                    let End::Channel(channel) = branch.end else { continue };
                    let sources = self.sources.entry(channel).or_default();
                    if !sources.contains(&source) {
                        sources.push(source);
                    }
                    let room = self.room.entry(channel).or_default();
                    *room = (*room).max(path.switches * WORDS_PER_SWITCH);
                }
            }
        }
    }
}

/// Why a way cannot be followed.
enum Stop {
    /// It depends on the packet.
    NeedsId,
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// The slave ports that a way has come to.
#[derive(Default)]
struct Visited {
    ports: BTreeMap<SlaveId, Visit>,
    /// How many switches the way goes through up to here.
    depth: usize,
}

enum Visit {
    /// What is behind it is being followed.
    Entered,
    /// All behind it was followed.
    Left,
}

struct Fabric<'a> {
    tiles: &'a [Tile],
}

impl Fabric<'_> {
    fn tile(&self, id: TileId) -> &Tile {
        &self.tiles
            [usize::from(id.column) * usize::from(crate::geometry::ROWS) + usize::from(id.row)]
    }

    /// The route of `channel`; None when its way into the switch is off.
    fn route_of(&self, channel: ChannelId) -> Result<Option<Route>, Fault> {
        let tile = self.tile(channel.tile);
        let port = match channel.tile.kind() {
            TileKind::Shim => match shim_slave(tile.shim_mux, channel.index) {
                Some(index) => Port { bundle: Bundle::South, index },
                None => return Ok(None),
            },
            _ => Port { bundle: Bundle::Dma, index: channel.index },
        };
        if tile.switch.slave_mode(port).is_none() {
            return Ok(None);
        }
        let slave = SlaveId { tile: channel.tile, port };
        let mut path = Path::default();
        match self.follow(slave, None, &mut path, &mut Visited::default(), false) {
            Ok(()) => Ok(Some(Route::Circuit(path))),
            Err(Stop::NeedsId) => Ok(Some(Route::Packets(self.packets(slave)?))),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    fn packets(&self, slave: SlaveId) -> Result<BTreeMap<u8, Path>, Fault> {
        let mut paths = BTreeMap::new();
        for id in 0..PACKET_IDS {
            let mut path = Path::default();
            match self.follow(slave, Some(id), &mut path, &mut Visited::default(), false) {
                Ok(()) => {
                    paths.insert(id, path);
                }
                Err(Stop::NeedsId | Stop::Fault(Fault::NoSlot { .. })) => {}
                Err(Stop::Fault(fault)) => return Err(fault),
            }
        }
        Ok(paths)
    }

    fn follow(
        &self,
        slave: SlaveId,
        id: Option<u8>,
        path: &mut Path,
        visited: &mut Visited,
        dropped: bool,
    ) -> Result<(), Stop> {
        match visited.ports.insert(slave, Visit::Entered) {
            None => {}
            Some(Visit::Entered) => return Err(Fault::RouteLoop { slave }.into()),
            // Following it again would take a time that doubles with each such meeting.
            Some(Visit::Left) => return Err(Fault::RoutesMeet { slave }.into()),
        }
        let switch = &self.tile(slave.tile).switch;
        let Some(mode) = switch.slave_mode(slave.port) else {
            visited.ports.insert(slave, Visit::Left);
            path.branches.push(Branch { end: End::Closed(slave), drops_header: dropped });
            return Ok(());
        };
        let fed = match (mode, id) {
            (Mode::Circuit, _) => switch.fed_by(slave.port, None),
            (Mode::Packets, None) => return Err(Stop::NeedsId),
            (Mode::Packets, Some(id)) => {
                if !switch.slots(slave.port).any(|slot| slot.admits(id)) {
                    return Err(Fault::NoSlot { slave, id }.into());
                }
                switch.fed_by(slave.port, Some(id))
            }
        };
        if fed.is_empty() {
            path.branches.push(Branch { end: End::Closed(slave), drops_header: dropped });
        }
        visited.depth += 1;
        path.switches = path.switches.max(visited.depth);
        for (port, drops) in fed {
            let master = MasterId { tile: slave.tile, port };
            if mode == Mode::Packets {
                path.arbitrated.push(master);
            }
            let dropped = dropped || drops;
            match self.beyond(master)? {
                Beyond::End(end) => path.branches.push(Branch { end, drops_header: dropped }),
                Beyond::Slave(next) => self.follow(next, id, path, visited, dropped)?,
            }
        }
        visited.depth -= 1;
        visited.ports.insert(slave, Visit::Left);
        Ok(())
    }

    /// What a master port is wired to.
    fn beyond(&self, master: MasterId) -> Result<Beyond, Fault> {
        let (tile, Port { bundle, index }) = (master.tile, master.port);
        let neighbour = |columns, rows, bundle| {
            let tile = tile.offset(columns, rows).ok_or(Fault::RouteOffArray { master })?;
            Ok(Beyond::Slave(SlaveId { tile, port: Port { bundle, index } }))
        };
        match bundle {
            Bundle::Dma => Ok(Beyond::End(End::Channel(into_memory(tile, index)))),
            Bundle::Core => Ok(Beyond::End(End::Core(tile))),
            Bundle::Control | Bundle::Trace => Ok(Beyond::End(End::Control(tile))),
            Bundle::Fifo => Ok(Beyond::Slave(SlaveId { tile, port: master.port })),
            Bundle::North => neighbour(0, 1, Bundle::South),
            Bundle::East => neighbour(1, 0, Bundle::West),
            Bundle::West => neighbour(-1, 0, Bundle::East),
            Bundle::South if tile.kind() != TileKind::Shim => neighbour(0, -1, Bundle::North),
            Bundle::South if index == 0 => Ok(Beyond::End(End::Controller(tile.column))),
            Bundle::South => {
                let channel = shim_channel(self.tile(tile).shim_demux, index);
                let end = channel.map(|channel| End::Channel(into_memory(tile, channel)));
                Ok(Beyond::End(end.unwrap_or(End::Outside(master))))
            }
        }
    }
}

enum Beyond {
    End(End),
    Slave(SlaveId),
}

fn into_memory(tile: TileId, index: u8) -> ChannelId {
    ChannelId { tile, direction: Direction::StreamToMemory, index }
}

/// What a field of the shim's multiplexers says when the port belongs to the DMA.
const TO_DMA: u32 = 1;

/// The south slave port that the shim's channel `channel` sends into.
fn shim_slave(mux: u32, channel: u8) -> Option<u8> {
    let (field, port) = if channel == 0 { (bits(mux, 11, 10), 3) } else { (bits(mux, 15, 14), 7) };
    (field == TO_DMA).then_some(port)
}

/// The shim's channel behind south master port `port`.
fn shim_channel(demux: u32, port: u8) -> Option<u8> {
    let (field, channel) = match port {
        2 => (bits(demux, 5, 4), 0),
        3 => (bits(demux, 7, 6), 1),
        _ => return None,
    };
    (field == TO_DMA).then_some(channel)
}
