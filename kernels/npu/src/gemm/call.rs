//! The instruction stream of one call.

use super::cost::Cost;
use super::kernel::parameter;
use super::mapping::{
    ACTIVATION_CHANNEL, RESULT_CHANNEL, TILES, WEIGHT_CHANNEL, compute_tile, tile,
};
use super::memory::{PARAMETERS, PARTIAL_SUMS, core_address, table};
use super::{GemmError, Results, Tiling};
use crate::array::{
    Blocks, COLUMNS, Channel, Descriptor, DescriptorId, Reports, Run, data_register,
    descriptor_register, queue_register, report_to_controller,
};
use crate::program::{RegisterAddress, RegisterOp};
use crate::txn::{Direction, Txn, TxnHeader, TxnOp};

/// The word of a shim descriptor that holds the low half of its address.
const ADDRESS_WORD: u32 = 4;

/// Descriptors of a shim.
const ACTIVATIONS: DescriptorId = DescriptorId(0);
const WEIGHTS: DescriptorId = DescriptorId(1);
const RESULTS: DescriptorId = DescriptorId(2);

/// A buffer of a call, in the order of the kernel's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Packed activations.
    Activations = 0,
    /// Packed weights.
    Weights = 1,
    /// Packed results.
    Results = 2,
}

/// An address that the controller completes when the call starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The word that gets the address.
    pub register: RegisterAddress,
    /// The buffer.
    pub argument: Argument,
    /// Bytes from the buffer's start.
    pub offset: u64,
}

/// Bytes of the buffers of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// Packed activations.
    pub activations: u64,
    /// Packed weights.
    pub weights: u64,
    /// Packed results.
    pub results: u64,
}

/// One product.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The instruction stream.
    pub txn: Vec<u8>,
    /// How the product is cut; [`super::pack`] needs it.
    pub tiling: Tiling,
    /// What the buffers must hold.
    pub buffers: BufferSizes,
    /// The addresses that the stream asks the controller to complete, in its order.
    pub patches: Vec<Patch>,
    /// What it costs, by a model.
    pub cost: Cost,
}

/// What becomes of a gated product's results: activations that lie in blocks, one for each column of
/// the array.
pub(super) struct Source {
    /// Where they are.
    pub blocks: Blocks,
    /// Bytes of the whole buffer.
    pub bytes: u64,
}

/// Writes the stream: parameters, then results and weights of each column, then the activations,
/// which the cores wait for; at last one wait for the results of all columns.
///
/// `source` says where activations are that do not simply follow each other.
pub(super) fn call(tiling: Tiling, cost: Cost, source: Option<&Source>) -> Result<Call, GemmError> {
    let mut stream = Stream::default();
    stream.parameters(&tiling)?;
    for column in 0..COLUMNS {
        let shim = tile(column, 0)?;
        let at = |bytes: u64| bytes * u64::from(column);
        let results = Transfer {
            channel: Channel::into_memory(shim, RESULT_CHANNEL),
            descriptor: RESULTS,
            argument: Argument::Results,
            offset: at(tiling.result_bytes()),
            bytes: tiling.result_bytes(),
            blocks: None,
        };
        stream.reports(results.channel)?;
        stream.transfer(&results, 1, Reports::Yes)?;
        let weights = Transfer {
            channel: Channel::from_memory(shim, WEIGHT_CHANNEL),
            descriptor: WEIGHTS,
            argument: Argument::Weights,
            offset: at(tiling.weight_bytes()),
            bytes: tiling.weight_bytes(),
            blocks: None,
        };
        stream.transfer(&weights, 1, Reports::No)?;
    }
    let activations = Transfer {
        channel: Channel::from_memory(tile(0, 0)?, ACTIVATION_CHANNEL),
        descriptor: ACTIVATIONS,
        argument: Argument::Activations,
        offset: 0,
        bytes: tiling.activation_bytes(),
        blocks: source.map(|source| source.blocks),
    };
    stream.transfer(&activations, tiling.passes, Reports::No)?;
    stream.ops.push(TxnOp::Sync {
        column: 0,
        row: 0,
        columns: COLUMNS,
        rows: 1,
        direction: Direction::StreamToMemory,
        channel: RESULT_CHANNEL,
    });
    let txn = Txn { header: TxnHeader::npu4(COLUMNS), ops: stream.ops };
    let buffers = BufferSizes {
        activations: source.map_or(tiling.activation_bytes(), |source| source.bytes),
        weights: u64::from(COLUMNS) * tiling.weight_bytes(),
        results: u64::from(COLUMNS) * tiling.result_bytes(),
    };
    Ok(Call { txn: txn.to_bytes()?, tiling, buffers, patches: stream.patches, cost })
}

/// One descriptor's worth of data between a shim and the machine's memory.
struct Transfer {
    channel: Channel,
    descriptor: DescriptorId,
    argument: Argument,
    offset: u64,
    bytes: u64,
    blocks: Option<Blocks>,
}

#[derive(Default)]
struct Stream {
    ops: Vec<TxnOp>,
    patches: Vec<Patch>,
}

impl Stream {
    fn parameters(&mut self, tiling: &Tiling) -> Result<(), GemmError> {
        let mut words = [0; parameter::COUNT];
        for (index, word) in [
            (parameter::PASSES, tiling.passes),
            (parameter::GROUPS, tiling.groups),
            (parameter::SEGMENTS, tiling.segments),
            (parameter::UNITS, tiling.units),
            (parameter::BRICKS, tiling.bricks),
            (parameter::SEPARATE_PLANES, (tiling.shape.results == Results::Separate).into()),
            (parameter::GATE, tiling.gate.map_or(0, |factor| core_address(table(factor)))),
            (parameter::RESULTS, core_address(PARTIAL_SUMS.start + 512 * tiling.units)),
        ] {
            words[index as usize] = word;
        }
        for column in 0..COLUMNS {
            for index in 0..TILES {
                let tile = compute_tile(column, index)?;
                let bytes = 4 * words.len() as u32;
                let address = data_register(tile, PARAMETERS.start, bytes)?;
                let data = words.to_vec();
                self.ops.push(TxnOp::Register(RegisterOp::BlockWrite { address, data }));
            }
        }
        Ok(())
    }

    /// Lets the reports of `channel` go to the controller.
    fn reports(&mut self, channel: Channel) -> Result<(), GemmError> {
        self.ops.push(TxnOp::Register(report_to_controller(channel)?));
        Ok(())
    }

    fn transfer(
        &mut self,
        transfer: &Transfer,
        times: u32,
        reports: Reports,
    ) -> Result<(), GemmError> {
        let Transfer { channel, descriptor: id, argument, offset, bytes, blocks } = *transfer;
        let descriptor = Descriptor { address: 0, bytes, acquire: None, release: None, next: None };
        let address = descriptor_register(channel.tile, id)?;
        let data = match blocks {
            None => descriptor.words(channel.tile)?,
            Some(blocks) => descriptor.words_of_blocks(channel.tile, blocks)?,
        };
        self.ops.push(TxnOp::Register(RegisterOp::BlockWrite { address, data }));
        let register = RegisterAddress::from_bits(address.bits() + ADDRESS_WORD);
        self.patches.push(Patch { register, argument, offset });
        let argument = argument as u32;
        self.ops.push(TxnOp::AddressPatch { register, argument, addend: offset });
        let run = Run { first: id, times, reports };
        let (address, value) = (queue_register(channel)?, run.word(channel)?);
        self.ops.push(TxnOp::Register(RegisterOp::Write32 { address, value }));
        Ok(())
    }
}
