//! Any bytes as an instruction stream for a neural processor: what is accepted can be written and
//! read again. docs/testing.md says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_aie::txn::Txn;

fuzz_target!(|bytes: &[u8]| match Txn::parse(bytes) {
    Ok(read) => {
        let written = read.to_bytes().expect("what was read can be written");
        let again = Txn::parse(&written).expect("what was written can be read");
        assert_eq!(again, read);
    }
    Err(error) => {
        assert!(error.offset <= bytes.len());
        assert!(!error.to_string().is_empty());
    }
});
