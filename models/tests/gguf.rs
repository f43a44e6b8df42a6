//! The GGUF reader: what it gives, and what it says about files that are wrong.

use onebit_ir::quant::Format;
use onebit_models::gguf::{Array, GgufFile, Value};
use onebit_models::tokenizer_spec;
use onebit_test_support::{GgufWriter, MetadataValue, VocabularyKind, quantize, tiny_vocabulary};

fn error(bytes: impl Into<Vec<u8>>) -> String {
    GgufFile::parse(bytes).expect_err("this file is wrong").to_string()
}

/// Asserts that the message has all `parts`.
fn check(bytes: impl Into<Vec<u8>>, parts: &[&str]) {
    let message = error(bytes);
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

/// `GGUF` and little-endian numbers after it.
fn header(version: u32, tensors: u64, entries: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes
}

fn one_tensor() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.tensor_f32("a", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    writer
}

#[test]
fn values_come_back() {
    let mut writer = GgufWriter::new();
    writer.set("u", 7u32).set("i", -7i32).set("f", 0.5f32).set("b", true).set("s", "text");
    writer.set("bytes", vec![0xff, 0xfe]);
    writer.set("list", [1i32, 2, 3].into_iter().collect::<MetadataValue>());
    let nested = (0..2).map(|i| [i, i + 1].into_iter().collect::<MetadataValue>());
    writer.set("nested", MetadataValue::Array(nested.collect()));
    writer.set("empty", MetadataValue::Array(vec![]));
    let file = GgufFile::parse(writer.finish()).unwrap();
    assert_eq!(file.version(), 3);
    assert_eq!(file.require::<u32>("u").unwrap(), 7);
    assert_eq!(file.require::<i32>("i").unwrap(), -7);
    assert_eq!(file.require::<f32>("f").unwrap(), 0.5);
    assert!(file.require::<bool>("b").unwrap());
    assert_eq!(file.require::<&str>("s").unwrap(), "text");
    assert_eq!(file.require::<&[u8]>("bytes").unwrap(), [0xff, 0xfe]);
    assert_eq!(file.require::<Vec<usize>>("list").unwrap(), [1, 2, 3]);
    assert!(file.require::<Array<'_>>("empty").unwrap().is_empty());
    let nested: Vec<Vec<i32>> = file.require("nested").unwrap();
    assert_eq!(nested, [[0, 1], [1, 2]]);
    assert_eq!(file.metadata("absent"), None);
    assert_eq!(file.get::<u32>("absent").unwrap(), None);
    assert_eq!(file.keys().count(), 9);
}

#[test]
fn getters_name_the_key_and_both_types() {
    let mut writer = GgufWriter::new();
    writer.set("i", -7i32).set("s", vec![0xff]);
    let file = GgufFile::parse(writer.finish()).unwrap();
    let message = file.require::<u32>("i").unwrap_err().to_string();
    assert!(message.contains("\"i\" is i32 -7, expected an integer of 0 to"), "{message}");
    let message = file.require::<&str>("s").unwrap_err().to_string();
    assert!(message.contains("\"s\" is string \"\\xff\", expected a UTF-8 string"), "{message}");
    let message = file.require::<f32>("f").unwrap_err().to_string();
    assert!(message.contains("\"f\" (a float) is missing"), "{message}");
}

#[test]
fn tensors_come_back_outermost_first() {
    let mut writer = one_tensor();
    let row = quantize(Format::Q8_0, &[1.0; 64]);
    writer.tensor("b", Format::Q8_0, &[64], row.clone());
    let bytes = writer.finish();
    let file = GgufFile::parse(bytes.as_slice()).unwrap();
    let a = file.tensor("a").unwrap();
    assert_eq!((a.format, a.shape.as_slice(), a.elements()), (Format::F32, &[2, 3][..], 6));
    assert_eq!(file.data(a)[4..8], 2.0f32.to_le_bytes());
    let b = file.tensor("b").unwrap();
    assert_eq!(file.data(b), row);
    assert_eq!(b.data.start % 32, 0);
    assert!(file.tensor("c").is_none());
    assert_eq!(file.tensors().len(), 2);
}

#[test]
fn files_are_mapped_and_their_pages_may_go() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), one_tensor().finish()).unwrap();
    let gguf = GgufFile::open(file.path()).unwrap();
    let before = gguf.bytes().to_vec();
    gguf.advise_dont_need(0..usize::MAX);
    gguf.advise_dont_need(usize::MAX..usize::MAX);
    gguf.advise_dont_need(3..3);
    assert_eq!(gguf.bytes(), before);
}

#[test]
fn paths_that_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let message = GgufFile::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("not a regular file"), "{message}");
    let message = GgufFile::open(folder.path().join("none")).unwrap_err().to_string();
    assert!(message.contains("cannot open") && message.contains("none"), "{message}");
    std::fs::write(folder.path().join("empty"), []).unwrap();
    let message = GgufFile::open(folder.path().join("empty")).unwrap_err().to_string();
    assert!(message.contains("not a GGUF file"), "{message}");
}

#[test]
fn vocabulary_only_files_open() {
    for kind in [VocabularyKind::Bpe, VocabularyKind::SentencePiece] {
        let vocabulary = tiny_vocabulary(kind, 320);
        let mut writer = GgufWriter::new();
        vocabulary.write(&mut writer);
        let spec = tokenizer_spec(&GgufFile::parse(writer.finish()).unwrap()).unwrap();
        assert_eq!(spec.tokens, vocabulary.tokens);
        assert_eq!(spec.types, vocabulary.types);
        assert_eq!(spec.scores, vocabulary.scores);
        assert_eq!(spec.merges.len(), vocabulary.merges.len());
        assert_eq!(spec.roles.eos, Some(vocabulary.eos));
        assert_eq!(spec.add_bos, Some(kind == VocabularyKind::SentencePiece));
    }
}

#[test]
fn version_2_opens() {
    let mut bytes = one_tensor().finish();
    bytes[4] = 2;
    assert_eq!(GgufFile::parse(bytes).unwrap().version(), 2);
}

#[test]
fn headers_that_are_wrong() {
    check([], &["not a GGUF file"]);
    check(*b"GG", &["not a GGUF file"]);
    check(*b"PK\x03\x04 and more", &["not a GGUF file", "50"]);
    check(*b"GGUF\x03\x00", &["version at byte 4", "only 2 follow"]);
    check(header(1, 0, 0), &["version 1 is not supported", "2 or 3"]);
    check(header(4, 0, 0), &["version 4 is not supported"]);
    check(header(3u32.swap_bytes(), 0, 0), &["big-endian", "gguf_convert_endian.py"]);
    check(header(3, 0, u64::MAX), &["metadata key at byte 24"]);
    check(header(3, u64::MAX, 0), &["tensor name at byte 24"]);
}

#[test]
fn entries_that_are_wrong() {
    let mut writer = GgufWriter::new();
    writer.push("twice", 1u32).push("twice", 2u32);
    check(writer.finish(), &["\"twice\" stands twice", "byte 45"]);

    let mut bytes = header(3, 0, 1);
    bytes.extend(u64::MAX.to_le_bytes());
    check(bytes.clone(), &["metadata key at byte 32 needs 18446744073709551615 bytes"]);

    bytes.truncate(24);
    bytes.extend(1u64.to_le_bytes());
    bytes.push(0xff);
    check(bytes.clone(), &["metadata key at byte 24 is \"\\xff\", expected UTF-8"]);

    bytes[32] = b'k';
    bytes.extend(13u32.to_le_bytes());
    check(bytes.clone(), &["\"k\": value type at byte 33 is 13"]);

    // An array of u64 with a length that overflows in bytes.
    bytes.truncate(33);
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(10u32.to_le_bytes());
    bytes.extend((1u64 << 61).to_le_bytes());
    check(bytes, &["\"k\": array at byte", "damaged"]);
}

#[test]
fn arrays_may_not_nest_deeply() {
    let nest = |levels: usize| {
        let value = (0..levels).fold(MetadataValue::U32(1), |v, _| MetadataValue::Array(vec![v]));
        let mut writer = GgufWriter::new();
        writer.set("deep", value);
        writer.finish()
    };
    GgufFile::parse(nest(4)).unwrap();
    check(nest(5), &["\"deep\"", "nested too deeply"]);
    check(nest(500), &["\"deep\"", "nested too deeply"]);
}

#[test]
fn parts_of_split_models() {
    let mut writer = one_tensor();
    writer.set("split.count", 1u32);
    GgufFile::parse(writer.finish()).unwrap();
    writer.set("split.count", 3u32);
    check(writer.finish(), &["one of 3 parts", "llama-gguf-split --merge"]);
}

#[test]
fn alignments() {
    let mut writer = one_tensor();
    writer.set("general.alignment", 32u32);
    GgufFile::parse(writer.finish()).unwrap();
    for alignment in [0u32, 3, 1 << 31] {
        writer.set("general.alignment", alignment);
        check(writer.finish(), &["general.alignment", "a power of two"]);
    }
    writer.set("general.alignment", "wide");
    check(writer.finish(), &["general.alignment", "string \"wide\""]);
}

#[test]
fn tensors_that_are_wrong() {
    let record = |type_id: u32, shape: &[u64], offset: u64| {
        let mut writer = one_tensor();
        writer.record("b", type_id, shape, offset);
        writer.finish()
    };
    let mut twice = one_tensor();
    twice.record("a", 0, &[1], 32);
    check(twice.finish(), &["tensor \"a\" stands twice"]);
    // 4 is a removed type.
    check(record(4, &[32], 32), &["tensor \"b\": type 4", "q4_0"]);
    check(record(0, &[1; 5], 32), &["tensor \"b\"", "dimension count", "at most 4"]);
    check(record(0, &[2, 0], 32), &["tensor \"b\"", "dimension", "not 0"]);
    check(record(2, &[2, 33], 32), &["tensor \"b\"", "[33, 2] elements of q4_0", "whole blocks"]);
    check(record(0, &[1 << 40, 1 << 40], 32), &["tensor \"b\"", "fewer than 2^64"]);
    check(record(0, &[1], 4), &["tensor \"b\"", "multiple of the alignment"]);
    check(record(0, &[1], 1 << 40), &["tensor \"b\"", "of a file of"]);
    check(record(0, &[1], u64::MAX - 31), &["tensor \"b\"", "of a file of"]);
    check(record(0, &[1 << 50], 32), &["tensor \"b\"", "incomplete"]);
    check(record(0, &[1], 0), &["\"b\" and \"a\" overlap"]);
}

#[test]
fn descriptions_stay_short() {
    let mut writer = GgufWriter::new();
    writer.set("long", "x".repeat(10_000).as_str());
    let file = GgufFile::parse(writer.finish()).unwrap();
    assert!(file.metadata("long").unwrap().describe().len() < 100);
    assert_eq!(Value::U8(3).describe(), "u8 3");
}
