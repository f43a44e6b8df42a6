//! Reads other people's files, writes them again, and counts what came back byte for byte.
//!
//! `cargo run -p onebit-aie --example survey -- [--unknown] FILE…`: xclbin containers and TXN streams, told
//! apart by their first bytes; any other file is named and left out. docs/npu-verification.md
//! records a run's counts and the hash of its list of hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use onebit_aie::isa::{self, IsaError, Op, Slot};
use onebit_aie::program::{RegisterMap, RegisterOp, RegisterProgram};
use onebit_aie::txn::{Txn, TxnHeader};
use onebit_aie::xclbin::Xclbin;
use sha2::{Digest, Sha256};

/// A core's code: sections with their addresses.
type Program = Vec<(u32, Vec<u8>)>;

#[derive(Default)]
struct Survey {
    counts: BTreeMap<&'static str, usize>,
    /// Hashes of the files that were counted.
    hashes: BTreeSet<String>,
    /// Programs of cores, to count each once.
    programs: BTreeSet<Program>,
    /// Operations that no row of the table explains, and how often they were met.
    unknown: BTreeMap<(&'static str, u64), usize>,
    /// Sets of slots, each of which is a format of instruction words.
    formats: BTreeSet<Vec<Slot>>,
}

impl Survey {
    fn count(&mut self, what: &'static str, number: usize) {
        *self.counts.entry(what).or_default() += number;
    }

    fn container(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.count("xclbin files", 1);
        let container = Xclbin::parse(bytes).map_err(|error| error.to_string())?;
        self.count("xclbin files read", 1);
        let again = container.to_bytes().map_err(|error| error.to_string())?;
        self.count("xclbin files byte for byte", usize::from(again == bytes));
        let cdo = &container.partition.pdi.cdo;
        let program = cdo.program();
        self.count("CDO commands", cdo.commands.len());
        self.count("register writes in CDOs", program.ops.len());
        let [mut direct, mut through] = [(); 2].map(|()| RegisterMap::default());
        direct.apply(&program);
        let txn = Txn::from_program(TxnHeader::npu4(8), &program).to_bytes();
        let txn = Txn::parse(&txn.map_err(|error| error.to_string())?);
        through.apply(&txn.map_err(|error| error.to_string())?.program());
        self.count("register maps equal through TXN", usize::from(direct == through));
        for core in core_programs(&program) {
            if self.programs.contains(&core) {
                continue;
            }
            self.code(&core)?;
            self.programs.insert(core);
        }
        Ok(())
    }

    fn code(&mut self, program: &Program) -> Result<(), String> {
        self.count("core programs", 1);
        let mut is_known = true;
        for (_, code) in program {
            let (code, rest) = code.split_at(code.len() - overread(code));
            self.count("bytes of code behind the end of a section", rest.len());
            let lines = isa::disassemble(code).map_err(|error| error.to_string())?;
            let again: Vec<u8> = lines.iter().flat_map(|line| line.bundle.encode()).collect();
            let mut text = String::new();
            self.count("instruction words", lines.len());
            for line in &lines {
                text.push_str(&format!("{}\n", line.bundle));
                self.formats.insert(line.bundle.ops().iter().map(Op::slot).collect());
                for op in line.bundle.ops() {
                    self.count("operations", 1);
                    if let Op::Unknown { slot, bits } = op {
                        is_known = false;
                        self.count("operations not in the table", 1);
                        *self.unknown.entry((slot.name(), *bits)).or_default() += 1;
                    }
                }
            }
            self.count("sections of code", 1);
            self.count("sections of code byte for byte", usize::from(again == code));
            let through = isa::assemble(&text, 0).map_err(|error| error.to_string())?;
            self.count("sections of code through text", usize::from(through == code));
        }
        self.count("core programs with every operation known", usize::from(is_known));
        Ok(())
    }

    fn stream(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.count("TXN streams", 1);
        let stream = Txn::parse(bytes).map_err(|error| error.to_string())?;
        self.count("TXN streams read", 1);
        self.count("TXN operations", stream.ops.len());
        let again = stream.to_bytes().map_err(|error| error.to_string())?;
        self.count("TXN streams byte for byte", usize::from(again == bytes));
        Ok(())
    }
}

/// The code that `program` writes to each compute tile.
///
/// Each write is a section of its own: where two meet, bytes may stand between their words, see
/// [`overread`].
fn core_programs(program: &RegisterProgram) -> Vec<Program> {
    const PROGRAM_MEMORY: std::ops::Range<u32> = 0x20000..0x24000;
    let mut tiles: BTreeMap<(u32, u32), Program> = BTreeMap::new();
    for op in &program.ops {
        let RegisterOp::BlockWrite { address, data } = op else { continue };
        if address.row() < 2 || !PROGRAM_MEMORY.contains(&address.offset()) {
            continue;
        }
        let code = data.iter().flat_map(|word| word.to_le_bytes()).collect();
        let sections = tiles.entry((address.column(), address.row())).or_default();
        sections.push((address.offset(), code));
    }
    tiles.into_values().collect()
}

/// How many bytes at the end are no code: the loader writes sections in units of four bytes, and
/// where a section ends in the middle of one it takes what lies behind.
fn overread(code: &[u8]) -> usize {
    match isa::disassemble(code) {
        Err(IsaError::Truncated { offset, .. } | IsaError::NoFormat { offset, .. })
            if offset + 2 == code.len() =>
        {
            2
        }
        _ => 0,
    }
}

fn main() -> ExitCode {
    let mut survey = Survey::default();
    let mut failed = false;
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let lists_unknown = paths.first().is_some_and(|first| first == "--unknown");
    paths.drain(..usize::from(lists_unknown));
    for path in paths {
        let outcome = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| {
            if !survey.hashes.insert(hex(&Sha256::digest(&bytes))) {
                survey.count("files met before", 1);
                return Ok(());
            }
            match bytes.get(..8) {
                Some(b"xclbin2\0") => survey.container(&bytes),
                // Version 1.0 or 0.1 of a stream for six rows.
                Some([0 | 1, 0 | 1, _, 6, ..]) => survey.stream(&bytes),
                _ => {
                    survey.hashes.remove(&hex(&Sha256::digest(&bytes)));
                    survey.count("files of other kinds", 1);
                    Ok(())
                }
            }
        });
        if let Err(error) = outcome {
            println!("{path}: {error}");
            failed = true;
        }
    }
    survey.count("instruction formats met, of 77", survey.formats.len());
    for (what, number) in &survey.counts {
        println!("{number:>9} {what}");
    }
    if lists_unknown {
        for ((slot, bits), times) in &survey.unknown {
            println!("{times:>9} .{slot} {bits:#x}");
        }
    }
    let list: String = survey.hashes.iter().map(|hash| format!("{hash}\n")).collect();
    println!("SHA-256 of the sorted list of SHA-256s: {}", hex(&Sha256::digest(list)));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
