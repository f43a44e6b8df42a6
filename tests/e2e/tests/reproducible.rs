//! The same model and options give the same plan bytes.

use onebit_e2e::compile_bytes;
use onebit_test_support::{TinyOptions, tiny_model};
use onebitc::Options;

#[test]
fn thread_count_and_folder_change_no_byte() {
    let compile = || {
        let model = tiny_model("qwen2", &TinyOptions::default());
        let compiled = compile_bytes(model, &Options::default());
        std::fs::read(compiled.folder.path().join("model.plan")).expect("the plan reads")
    };
    let alone = onebitc::with_threads(1, compile).expect("one thread starts");
    let team = onebitc::with_threads(3, compile).expect("three threads start");
    assert!(alone == team, "plans differ");
}
