//! Any bytes as a description of a machine: an error, or one that is written and read again alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_plan::box_sys::BoxDescription;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(description) = BoxDescription::parse(text) else { return };
    let text = description.to_text().expect("what was read can be written");
    assert_eq!(BoxDescription::parse(&text).as_ref(), Ok(&description));
});
