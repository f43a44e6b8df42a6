//! What to do about a fault.

use crate::Fault;

impl Fault {
    /// What whoever wrote the design, or chose the files, can do.
    pub fn help(&self) -> &'static str {
        match self {
            Fault::InCore { fault, .. } => fault.help(),
            Fault::NoSuchAddress { .. } => {
                "a core reaches its own 64 KiB and its neighbours' in the south, west and north"
            }
            Fault::Core { .. } => {
                "look at the program with `onebit-aie-emu dump`; what is not modelled stands in \
                 docs/npu-verification.md"
            }
            Fault::UnwrittenLoaded { .. } | Fault::UnwrittenSent { .. } => {
                "fill the memory before, or look at the locks that order filling and use; compiled \
                 programs that load ahead of what they need run with --zeros"
            }
            Fault::Runaway { .. } => {
                "look for a loop without an end, or descriptors that follow each other without a lock"
            }
            Fault::Parse(_) => {
                "give an npu4 xclbin and its instruction stream, as their tool wrote them"
            }
            Fault::OtherArray { .. } => "make the stream for npu4 (Strix, Strix Halo, Krackan)",
            Fault::UnsupportedOperation { .. } | Fault::Unsupported { .. } => {
                "what is emulated stands in docs/npu-verification.md; make the design without it"
            }
            Fault::NoSuchArgument { .. } => {
                "give one --arg or --arg-out for each of the kernel's buffers"
            }
            Fault::NoSuchChannel { .. } | Fault::NoSuchTile { .. } => {
                "the array has columns 0 to 7 and rows 0 to 5; shims and compute tiles have two \
                 channels each way, memory tiles six"
            }
            Fault::UnknownRegister { .. } => "without --strict such registers are only listed",
            Fault::IllegalRoute { .. }
            | Fault::NoSuchPort { .. }
            | Fault::RouteOffArray { .. }
            | Fault::SilentPort { .. }
            | Fault::DoubleDriven { .. }
            | Fault::RouteLoop { .. }
            | Fault::RoutesMeet { .. }
            | Fault::DeadEnd { .. }
            | Fault::NoSlot { .. }
            | Fault::LostToken { .. } => {
                "`onebit-aie-emu dump` shows every route; set the stream switches so that each \
                 leads to what takes its data"
            }
            Fault::LeftoverData { .. } | Fault::UnfinishedTask { .. } => {
                "let senders and takers agree on their lengths, and sync before the end; \
                 --keep-leftover allows data under way"
            }
            Fault::QueueOverflow { .. } => "sync before more than four tasks wait at a channel",
            Fault::InvalidDescriptor { .. }
            | Fault::UnreachableDescriptor { .. }
            | Fault::BadDescriptor { .. }
            | Fault::OutOfBounds { .. } => {
                "`onebit-aie-emu dump` shows the descriptors; even channels of a memory tile use 0 to \
                 23, odd ones 24 to 47"
            }
            Fault::DescriptorInUse { .. } => "sync before a descriptor in use is written anew",
            Fault::ConcurrentAccess { .. }
            | Fault::StoreDuringTransfer { .. }
            | Fault::UnorderedArgument { .. } => "let a lock or a sync order the two",
            Fault::TooScattered { .. } => {
                "move the data in fewer and longer stretches, or keep others out of its memory"
            }
            Fault::NoSuchLock { .. } | Fault::UnreachableLock { .. } => {
                "shims and compute tiles have locks 0 to 15; a memory tile's DMA counts its western \
                 neighbour's 0 to 63, its own from 64, its eastern neighbour's from 128"
            }
            Fault::LockValue { .. } | Fault::LockRange { .. } => {
                "give a lock back as often as it is taken"
            }
            Fault::Deadlock { .. } => "follow who waits for whom through the lines above",
            Fault::NeedsMerge { .. } => {
                "this is a mistake in the emulator: report it with the design"
            }
        }
    }
}
