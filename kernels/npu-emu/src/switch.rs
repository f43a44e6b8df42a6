//! One tile's stream switch: its ports, their registers, and which connections exist.
//!
//! Ports in the order of their registers: aie-rt `xaie2pgbl_reginit.c`, `Aie2PTileStrmMstr` and
//! the tables after it. Connections: mlir-aie `AIETargetModel.cpp`, function
//! `AIE2TargetModel::isLegalTileConnection`.

use std::fmt;

use crate::Fault;
use crate::geometry::{TileId, TileKind, bits};

/// What a port of a stream switch leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bundle {
    /// The core's own stream.
    Core,
    /// A DMA channel.
    Dma,
    /// The tile's control port: control packets in, task-complete tokens out.
    Control,
    /// The switch's own buffer.
    Fifo,
    /// The southern neighbour, or the shim's way out.
    South,
    /// The western neighbour.
    West,
    /// The northern neighbour.
    North,
    /// The eastern neighbour.
    East,
    /// The trace units.
    Trace,
}

/// A port among those of its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// What it leads to.
    pub bundle: Bundle,
    /// Its number in the bundle.
    pub index: u8,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.bundle, self.index)
    }
}

type Ports = &'static [(Bundle, u8)];

use Bundle::{Control, Core, Dma, East, Fifo, North, South, Trace, West};

/// How many ports of each bundle a switch has, in the order of their registers.
const fn masters(kind: TileKind) -> Ports {
    match kind {
        TileKind::Compute => &[
            (Core, 1),
            (Dma, 2),
            (Control, 1),
            (Fifo, 1),
            (South, 4),
            (West, 4),
            (North, 6),
            (East, 4),
        ],
        TileKind::Memory => &[(Dma, 6), (Control, 1), (South, 4), (North, 6)],
        TileKind::Shim => &[(Control, 1), (Fifo, 1), (South, 6), (West, 4), (North, 6), (East, 4)],
    }
}

const fn slaves(kind: TileKind) -> Ports {
    match kind {
        TileKind::Compute => &[
            (Core, 1),
            (Dma, 2),
            (Control, 1),
            (Fifo, 1),
            (South, 6),
            (West, 4),
            (North, 4),
            (East, 4),
            (Trace, 2),
        ],
        TileKind::Memory => &[(Dma, 6), (Control, 1), (South, 6), (North, 4), (Trace, 1)],
        TileKind::Shim => {
            &[(Control, 1), (Fifo, 1), (South, 8), (West, 4), (North, 4), (East, 4), (Trace, 2)]
        }
    }
}

fn port_at(ports: Ports, number: u8) -> Option<Port> {
    let mut left = number;
    for &(bundle, count) in ports {
        if left < count {
            return Some(Port { bundle, index: left });
        }
        left -= count;
    }
    None
}

fn number_of(ports: Ports, port: Port) -> Option<u8> {
    let mut start = 0;
    for &(bundle, count) in ports {
        if bundle == port.bundle {
            return (port.index < count).then_some(start + port.index);
        }
        start += count;
    }
    None
}

fn count_of(ports: Ports) -> u8 {
    ports.iter().map(|&(_, count)| count).sum()
}

/// A port that sends data out of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterId {
    /// The switch's tile.
    pub tile: TileId,
    /// The port.
    pub port: Port,
}

impl fmt::Display for MasterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} master port {}", self.tile, self.port)
    }
}

/// A port that takes data into a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlaveId {
    /// The switch's tile.
    pub tile: TileId,
    /// The port.
    pub port: Port,
}

impl fmt::Display for SlaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slave port {}", self.tile, self.port)
    }
}

/// What makes a master port send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Everything from one slave port.
    Circuit {
        /// The number of the slave port.
        slave: u8,
    },
    /// Packets that an arbiter lets through.
    Packets {
        /// The arbiter, 0 to 7.
        arbiter: u8,
        /// Which of the arbiter's four selections the port takes, a bit each.
        selections: u8,
        /// Whether packets leave without their header.
        drops_header: bool,
    },
}

/// A slot of a slave port: which packets it lets in, and to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The id to compare with.
    pub id: u8,
    /// Which bits of it.
    pub mask: u8,
    /// The selection of the arbiter, 0 to 3.
    pub selection: u8,
    /// The arbiter.
    pub arbiter: u8,
}

/// The registers of a stream switch.
#[derive(Clone, Debug)]
pub struct Switch {
    tile: TileId,
    masters: Vec<u32>,
    slaves: Vec<u32>,
    slots: Vec<[u32; 4]>,
}

impl Switch {
    /// The switch of `tile`, everything off.
    pub fn new(tile: TileId) -> Self {
        let slave_count = usize::from(count_of(slaves(tile.kind())));
        Switch {
            tile,
            masters: vec![0; usize::from(count_of(masters(tile.kind())))],
            slaves: vec![0; slave_count],
            slots: vec![[0; 4]; slave_count],
        }
    }

    /// Writes the register of master port `number`.
    ///
    /// # Errors
    /// When the port is already fed from another slave port: two routes want it.
    pub fn write_master(&mut self, number: u8, word: u32) -> Result<(), Fault> {
        let Some(place) = self.masters.get_mut(usize::from(number)) else { return Ok(()) };
        let old = std::mem::replace(place, word);
        let (Some(old), Some(new)) = (feed(old), feed(word)) else { return Ok(()) };
        match (old, new) {
            (Feed::Circuit { slave: first }, Feed::Circuit { slave: second })
                if first != second =>
            {
                let port = self.master_port(number);
                Err(Fault::DoubleDriven {
                    master: MasterId { tile: self.tile, port },
                    first,
                    second,
                })
            }
            _ => Ok(()),
        }
    }

    /// Writes the register of slave port `number`.
    pub fn write_slave(&mut self, number: u8, word: u32) {
        if let Some(place) = self.slaves.get_mut(usize::from(number)) {
            *place = word;
        }
    }

    /// Writes slot `slot` of slave port `number`.
    pub fn write_slot(&mut self, number: u8, slot: u8, word: u32) {
        let slots = self.slots.get_mut(usize::from(number));
        if let Some(place) = slots.and_then(|slots| slots.get_mut(usize::from(slot))) {
            *place = word;
        }
    }

    /// The registers, as they were written: master, slave, slots of slave port `number`.
    pub fn raw(&self, register: crate::registers::Register) -> u32 {
        use crate::registers::Register;
        let word = match register {
            Register::Master(number) => self.masters.get(usize::from(number)).copied(),
            Register::Slave(number) => self.slaves.get(usize::from(number)).copied(),
            Register::Slot { slave, slot } => {
                let slots = self.slots.get(usize::from(slave));
                slots.and_then(|slots| slots.get(usize::from(slot))).copied()
            }
            _ => None,
        };
        word.unwrap_or(0)
    }

    /// Every master port that is on, and what feeds it.
    pub fn feeds(&self) -> impl Iterator<Item = (Port, Feed)> + '_ {
        let numbered = (0u8..).zip(&self.masters);
        numbered.filter_map(|(number, &word)| Some((self.master_port(number), feed(word)?)))
    }

    /// Every slave port that is on, and whether it takes packets.
    pub fn open_slaves(&self) -> impl Iterator<Item = (Port, Mode)> + '_ {
        let ports = slaves(self.tile.kind());
        let numbered = (0u8..).zip(&self.slaves);
        numbered.filter_map(move |(number, &word)| Some((port_at(ports, number)?, mode(word)?)))
    }

    /// How slave port `port` takes data; None when it is off or does not exist.
    pub fn slave_mode(&self, port: Port) -> Option<Mode> {
        let number = number_of(slaves(self.tile.kind()), port)?;
        mode(*self.slaves.get(usize::from(number))?)
    }

    /// The slots of slave port `port` that are on.
    pub fn slots(&self, port: Port) -> impl Iterator<Item = Slot> + '_ {
        let number = number_of(slaves(self.tile.kind()), port);
        let words = number.and_then(|number| self.slots.get(usize::from(number)));
        words.into_iter().flatten().filter_map(|&word| slot(word))
    }

    /// The master ports that slave port `port` feeds: with `id` None those of its circuit, else
    /// those of packets with that id. With each, whether it drops a packet's header.
    pub fn fed_by(&self, port: Port, id: Option<u8>) -> Vec<(Port, bool)> {
        let number = number_of(slaves(self.tile.kind()), port);
        let chosen = id.and_then(|id| self.slots(port).find(|slot| slot.admits(id)));
        let fed = self.feeds().filter_map(|(master, feed)| match (feed, chosen) {
            (Feed::Circuit { slave }, None) => (Some(slave) == number).then_some((master, false)),
            (Feed::Packets { arbiter, selections, drops_header }, Some(slot)) => {
                let selected = selections >> slot.selection & 1 != 0;
                (arbiter == slot.arbiter && selected).then_some((master, drops_header))
            }
            _ => None,
        });
        fed.collect()
    }

    /// Checks every port that is on.
    ///
    /// # Errors
    /// A master port that leads out of the array, or is fed from a port that does not exist, is off,
    /// or has no connection to it.
    pub fn check(&self) -> Result<(), Fault> {
        let kind = self.tile.kind();
        for (port, feed) in self.feeds() {
            let master = MasterId { tile: self.tile, port };
            if self.leads_out(port) {
                return Err(Fault::RouteOffArray { master });
            }
            let sources: Vec<Port> = match feed {
                Feed::Circuit { slave } => {
                    let source = port_at(slaves(kind), slave);
                    vec![source.ok_or(Fault::NoSuchPort { master, index: slave })?]
                }
                Feed::Packets { .. } => self.packet_sources(port),
            };
            for source in sources {
                let slave = SlaveId { tile: self.tile, port: source };
                if !is_legal(kind, source, port) {
                    return Err(Fault::IllegalRoute { master, slave });
                }
                if self.slave_mode(source).is_none() {
                    return Err(Fault::SilentPort { master, slave });
                }
            }
        }
        Ok(())
    }

    /// Whether the neighbour that a master port leads to is not there. The shim's south ports lead
    /// to its DMA and to the controller.
    fn leads_out(&self, master: Port) -> bool {
        let (columns, rows) = match master.bundle {
            North => (0, 1),
            East => (1, 0),
            West => (-1, 0),
            South if self.tile.kind() != TileKind::Shim => (0, -1),
            South | Core | Dma | Control | Fifo | Trace => return false,
        };
        self.tile.offset(columns, rows).is_none()
    }

    /// The slave ports with a slot that leads to master port `master`.
    fn packet_sources(&self, master: Port) -> Vec<Port> {
        let open = self.open_slaves().filter(|&(_, mode)| mode == Mode::Packets);
        let leads = |&(port, _): &(Port, Mode)| {
            self.slots(port)
                .any(|slot| self.fed_by(port, Some(slot.id)).iter().any(|&(fed, _)| fed == master))
        };
        open.filter(leads).map(|(port, _)| port).collect()
    }

    fn master_port(&self, number: u8) -> Port {
        let unknown = Port { bundle: Core, index: u8::MAX };
        port_at(masters(self.tile.kind()), number).unwrap_or(unknown)
    }
}

/// How a slave port takes data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every word goes the same way.
    Circuit,
    /// A header says where a packet goes.
    Packets,
}

impl Slot {
    /// Whether a packet of this id goes through the slot.
    pub const fn admits(self, id: u8) -> bool {
        (self.id ^ id) & self.mask == 0
    }
}

fn feed(word: u32) -> Option<Feed> {
    let low = |high, low| u8::try_from(bits(word, high, low)).unwrap_or(u8::MAX);
    match (bits(word, 31, 31), bits(word, 30, 30)) {
        (0, _) => None,
        (_, 0) => Some(Feed::Circuit { slave: low(6, 0) }),
        _ => Some(Feed::Packets {
            arbiter: low(2, 0),
            selections: low(6, 3),
            drops_header: bits(word, 7, 7) != 0,
        }),
    }
}

fn mode(word: u32) -> Option<Mode> {
    match (bits(word, 31, 31), bits(word, 30, 30)) {
        (0, _) => None,
        (_, 0) => Some(Mode::Circuit),
        _ => Some(Mode::Packets),
    }
}

fn slot(word: u32) -> Option<Slot> {
    let low = |high, low| u8::try_from(bits(word, high, low)).unwrap_or(u8::MAX);
    (bits(word, 8, 8) != 0).then(|| Slot {
        id: low(28, 24),
        mask: low(20, 16),
        selection: low(5, 4),
        arbiter: low(2, 0),
    })
}

/// Whether the switch of a tile of this kind can feed `master` from `slave`.
pub fn is_legal(kind: TileKind, slave: Port, master: Port) -> bool {
    let same = slave.index == master.index;
    match kind {
        TileKind::Memory => match (slave.bundle, master.bundle) {
            (Dma, Dma) => same,
            (Dma, Control | South | North) => true,
            (Control, Dma) => master.index == 5,
            (Control, South | North) => true,
            (South | North, Dma | Control) => true,
            (South | North, South | North) => same,
            (Trace, Dma) => master.index == 5,
            (Trace, South) => true,
            _ => false,
        },
        TileKind::Shim => match (slave.bundle, master.bundle) {
            (Control, to) => to != Control,
            (Fifo | South, Control | Fifo | South | West | North | East) => true,
            (from @ (West | North | East), to) => {
                if from == to {
                    same
                } else {
                    matches!(to, Control | Fifo | South | West | North | East)
                }
            }
            (Trace, Fifo | South) => true,
            (Trace, West | East) => master.index == 0,
            _ => false,
        },
        TileKind::Compute => match (slave.bundle, master.bundle) {
            (Core, to) => to != Core,
            (Control, to) => !matches!(to, Control | Dma),
            (Trace, Dma) => master.index == 0,
            (Trace, Fifo | South) => true,
            (Trace, _) => false,
            (from, to) => from != to || same,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbered_as_their_registers() {
        let expected = [
            (masters(TileKind::Compute), 21, East, 2),
            (slaves(TileKind::Compute), 6, South, 1),
            (slaves(TileKind::Compute), 24, Trace, 1),
            (masters(TileKind::Memory), 12, North, 1),
            (slaves(TileKind::Memory), 10, South, 3),
            (masters(TileKind::Shim), 15, North, 3),
            (slaves(TileKind::Shim), 16, North, 2),
        ];
        for (ports, number, bundle, index) in expected {
            let port = Port { bundle, index };
            assert_eq!(port_at(ports, number), Some(port));
            assert_eq!(number_of(ports, port), Some(number));
        }
        assert_eq!(port_at(masters(TileKind::Compute), 23), None);
    }
}
