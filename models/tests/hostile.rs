//! Ten thousand damaged files: each is refused with a typed error or opens, and nothing panics,
//! hangs or allocates by a number that only the file claims.

use std::time::{Duration, Instant};

use onebit_models::gguf::{GgufFile, Value};
use onebit_models::{Model, tokenizer_spec};
use onebit_test_support::{Random, TINY_ARCHITECTURES, TinyOptions, tiny_model};

const MUTATIONS: usize = 10_000;
/// Address space of the test process: an allocation of a claimed size would exceed it and abort.
const ADDRESS_SPACE: u64 = 2 << 30;
/// Far above what the slowest machine needs for a file of 60 KB.
const LONGEST: Duration = Duration::from_secs(5);

/// Sizes and counts that have broken readers: all ones, signs, doublings that overflow.
const HOSTILE: [u64; 10] = [
    u64::MAX,
    i64::MAX as u64,
    1 << 63,
    1 << 61,
    1 << 40,
    1 << 32,
    u32::MAX as u64,
    i32::MAX as u64,
    0x10_0000,
    0,
];

/// Reads everything a compile would read before the weights.
fn read_all(bytes: Vec<u8>) -> bool {
    let Ok(file) = GgufFile::parse(bytes) else { return false };
    for key in file.keys() {
        let value = file.metadata(key).expect("keys are there");
        assert!(value.describe().len() < 400, "{key}");
        if let Value::Array(array) = value {
            assert_eq!(array.values().count(), array.len(), "{key}");
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.data(tensor).len(), tensor.data.len());
    }
    // Wrong values in well-formed metadata are errors of these two.
    let _: Result<_, _> = tokenizer_spec(&file);
    Model::from_file(file).is_ok()
}

/// Where the tensor data begins, about: most mutations belong before it.
fn directory_length(bytes: &[u8]) -> usize {
    let file = GgufFile::parse(bytes).expect("an undamaged file");
    file.tensors().iter().map(|tensor| tensor.data.start).min().expect("it has tensors")
}

fn mutate(bytes: &mut Vec<u8>, directory: usize, random: &mut Random) {
    let at = random.below(directory);
    match random.below(7) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            for _ in 0..1 + random.below(8) {
                bytes[random.below(directory)] ^= 1 << random.below(8);
            }
        }
        2 | 3 => {
            let hostile = HOSTILE[random.below(HOSTILE.len())].to_le_bytes();
            let width = [4, 8][random.below(2)];
            overwrite(bytes, at, &hostile[..width]);
        }
        4 => {
            let length = random.below(64);
            bytes.drain(at..(at + length).min(directory));
        }
        5 => {
            let copied = bytes[at..(at + random.below(256)).min(directory)].to_vec();
            bytes.splice(at..at, copied);
        }
        _ => {
            let noise = random.next_u64().to_le_bytes();
            overwrite(bytes, at, &noise[..1 + random.below(8)]);
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let end = (at + with.len()).min(bytes.len());
    bytes[at..end].copy_from_slice(&with[..end - at]);
}

#[test]
fn damaged_files_are_refused_or_open() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let limit = getrlimit(Resource::As);
        let lowered = rustix::process::Rlimit { current: Some(ADDRESS_SPACE), ..limit };
        setrlimit(Resource::As, lowered).expect("a limit may be lowered");
    }
    let mut random = Random::new(0x6b5f);
    let originals: Vec<Vec<u8>> =
        TINY_ARCHITECTURES.iter().map(|arch| tiny_model(arch, &TinyOptions::smallest())).collect();
    let directories: Vec<usize> = originals.iter().map(|bytes| directory_length(bytes)).collect();
    let mut opened = 0;
    for mutation in 0..MUTATIONS {
        let which = mutation % originals.len();
        let mut bytes = originals[which].clone();
        for _ in 0..1 + random.below(2) {
            let directory = directories[which].min(bytes.len()).max(1);
            if !bytes.is_empty() {
                mutate(&mut bytes, directory, &mut random);
            }
        }
        let start = Instant::now();
        opened += usize::from(read_all(bytes));
        assert!(start.elapsed() < LONGEST, "mutation {mutation} took {:?}", start.elapsed());
    }
    // A test in which every file is refused at once would prove little.
    assert!((500..MUTATIONS - 500).contains(&opened), "{opened} of {MUTATIONS} opened");
}
