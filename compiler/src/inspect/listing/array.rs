//! What a neural processor's array is given: instruction streams, and the programs of its cores.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use onebit_aie::isa;
use onebit_aie::program::RegisterOp;
use onebit_aie::txn::{Txn, TxnOp};
use onebit_aie::xclbin::Xclbin;
use onebit_plan::PlanFile;
use onebit_plan::manifest::SegmentKind;

use super::part;

/// Where a core's program lies in its tile (AM027, "Program memory").
const PROGRAM_MEMORY: std::ops::Range<u32> = 0x2_0000..0x2_4000;
/// Words of a block that are printed.
const WORDS: usize = 8;

/// The calls of the products of `regions`, each once, then the cores' programs.
pub fn listing(plan: &PlanFile, regions: &[usize]) -> String {
    let manifest = plan.manifest();
    let Some(array) = &manifest.array else { return String::new() };
    let wanted: BTreeSet<&str> =
        regions.iter().map(|&index| manifest.regions[index].name.as_str()).collect();
    let (mut text, mut calls) = (String::new(), BTreeSet::new());
    for (product, region) in array.products.iter().zip(manifest.product_regions()) {
        if wanted.contains(region) {
            let (rows, columns, first) = (product.rows, product.columns, product.first_row);
            let call = product.call;
            let _ = writeln!(
                text,
                "\narray product of region {region}: rows {first}+{rows}, k {columns}, call {call}"
            );
            calls.insert(call);
        }
    }
    if calls.is_empty() {
        return text;
    }
    let streams = plan.segment(SegmentKind::ArrayCalls);
    for index in calls {
        let Some(call) = array.calls.get(index as usize) else { continue };
        let _ = writeln!(text, "\narray call {index} ({} bytes)", call.length);
        match Txn::parse(part(streams, call.offset, call.length)) {
            Ok(txn) => txn.ops.iter().enumerate().for_each(|(at, op)| {
                let _ = writeln!(text, "  {at:5}: {}", operation(op));
            }),
            Err(error) => {
                let _ = writeln!(text, "; no instruction stream: {error}");
            }
        }
    }
    text.push_str(&cores(plan.segment(SegmentKind::ArrayConfiguration)));
    text
}

/// The programs in an xclbin, each with the tiles that have it.
fn cores(configuration: &[u8]) -> String {
    let xclbin = match Xclbin::parse(configuration) {
        Ok(xclbin) => xclbin,
        Err(error) => return format!("\n; no xclbin: {error}\n"),
    };
    let mut programs: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for op in &xclbin.partition.pdi.cdo.program().ops {
        if let RegisterOp::BlockWrite { address, data } = op
            && PROGRAM_MEMORY.contains(&address.offset())
        {
            let bytes = data.iter().flat_map(|word| word.to_le_bytes()).collect();
            let tile = format!("({},{})", address.column(), address.row());
            programs.entry(bytes).or_default().push(tile);
        }
    }
    let mut text = String::new();
    for (bytes, tiles) in programs {
        let _ =
            writeln!(text, "\ncore program of tiles {} ({} bytes)", tiles.join(" "), bytes.len());
        match isa::disassemble(&bytes) {
            Ok(lines) => lines.iter().for_each(|line| {
                let _ = writeln!(text, "  {line}");
            }),
            Err(error) => {
                let _ = writeln!(text, "; no program: {error}");
            }
        }
    }
    text
}

fn operation(op: &TxnOp) -> String {
    let words = |data: &[u32]| {
        let shown: Vec<String> =
            data.iter().take(WORDS).map(|word| format!("{word:08x}")).collect();
        let rest = if data.len() > WORDS { " ..." } else { "" };
        format!("[{}] {}{rest}", data.len(), shown.join(" "))
    };
    match op {
        TxnOp::Register(RegisterOp::Write32 { address, value }) => {
            format!("write      {address:?} = {value:08x}")
        }
        TxnOp::Register(RegisterOp::MaskWrite { address, mask, value }) => {
            format!("mask write {address:?} & {mask:08x} = {value:08x}")
        }
        TxnOp::Register(RegisterOp::BlockWrite { address, data }) => {
            format!("block      {address:?} {}", words(data))
        }
        TxnOp::TaggedBlockWrite { address, data } => {
            format!("block      {address:?} {}", words(data))
        }
        TxnOp::MaskPoll { address, mask, value, wait } => {
            format!("poll       {address:?} & {mask:08x} == {value:08x} ({wait:?})")
        }
        TxnOp::Noop => "noop".into(),
        TxnOp::Preempt { level } => format!("preempt    level {level}"),
        TxnOp::LoadPdi { id, bytes, address } => {
            format!("load pdi   {id} of {bytes} bytes at {address:#x}")
        }
        TxnOp::Sync { column, row, columns, rows, direction, channel } => format!(
            "sync       ({column},{row}) {columns} x {rows} {direction:?} channel {channel}"
        ),
        TxnOp::AddressPatch { register, argument, addend } => {
            format!("address    {register:?} = argument {argument} + {addend}")
        }
    }
}
