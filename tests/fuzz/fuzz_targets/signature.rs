//! Any bytes as the signature of a plan and as a key file: what is accepted has one spelling, and no
//! signature that a fuzzer makes up is of a key. docs/testing.md says how to run it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_plan::trust::{PublicKey, SignatureBlock};

fuzz_target!(|bytes: &[u8]| {
    match SignatureBlock::parse(bytes) {
        Ok(block) => assert_eq!(block.to_text().as_bytes(), bytes),
        Err(error) => assert!(!error.to_string().is_empty() && !error.help().is_empty()),
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match PublicKey::parse(text, "fuzz") {
        Ok(key) => {
            let again = PublicKey::parse(&key.to_text(), "fuzz").expect("what is written is read");
            assert_eq!(again, key);
            let line = PublicKey::parse(&key.to_base64(), "fuzz").expect("a line is enough");
            assert_eq!(line.id(), key.id());
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.help().is_empty()),
    }
});
