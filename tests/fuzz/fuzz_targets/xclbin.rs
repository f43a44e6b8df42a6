//! Any bytes as an xclbin, with the partition, the PDI and the CDO inside: what is accepted can be written and
//! read again. docs/testing.md says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_aie::xclbin::Xclbin;

fuzz_target!(|bytes: &[u8]| match Xclbin::parse(bytes) {
    Ok(read) => {
        let written = read.to_bytes().expect("what was read can be written");
        let again = Xclbin::parse(&written).expect("what was written can be read");
        assert_eq!(again, read);
    }
    Err(error) => {
        assert!(error.offset <= bytes.len());
        assert!(!error.to_string().is_empty());
    }
});
