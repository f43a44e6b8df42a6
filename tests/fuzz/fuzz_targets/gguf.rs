//! Any bytes as a GGUF: all that a compile reads of it before the weights. docs/testing.md says how
//! to run it; the corpus begins well with a few small models.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_models::gguf::{GgufFile, Value};
use onebit_models::{Model, tokenizer_spec};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = GgufFile::parse(bytes) else { return };
    for key in file.keys() {
        let value = file.metadata(key).expect("keys are there");
        if let Value::Array(array) = value {
            assert_eq!(array.values().count(), array.len());
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.data(tensor).len(), tensor.data.len());
    }
    // Wrong values in well-formed metadata are errors of these two.
    let _: Result<_, _> = tokenizer_spec(&file);
    let _: Result<_, _> = Model::from_file(file);
});
