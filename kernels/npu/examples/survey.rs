//! Reads other people's files, writes them again, and counts what came back byte for byte.
//!
//! `cargo run -p onebit-aie --example survey -- FILE…`: xclbin containers and TXN streams, told
//! apart by their first bytes; any other file is named and left out. docs/npu-verification.md
//! records a run's counts and the hash of its list of hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use onebit_aie::program::RegisterMap;
use onebit_aie::txn::{Txn, TxnHeader};
use onebit_aie::xclbin::Xclbin;
use sha2::{Digest, Sha256};

#[derive(Default)]
struct Survey {
    counts: BTreeMap<&'static str, usize>,
    /// Hashes of the files that were counted.
    hashes: BTreeSet<String>,
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

fn main() -> ExitCode {
    let mut survey = Survey::default();
    let mut failed = false;
    for path in std::env::args().skip(1) {
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
    for (what, number) in &survey.counts {
        println!("{number:>9} {what}");
    }
    let list: String = survey.hashes.iter().map(|hash| format!("{hash}\n")).collect();
    println!("SHA-256 of the sorted list of SHA-256s: {}", hex(&Sha256::digest(list)));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
