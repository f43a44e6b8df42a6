//! Hyper-parameters: defaults, per-layer values, context extension, and errors that name the key.

use onebit_ir::RopeScaling;
use onebit_models::gguf::GgufFile;
use onebit_models::hparams::{HParams, HParamsError, LayerSizes, WindowPattern};
use onebit_test_support::{GgufWriter, MetadataValue};

/// The fewest keys that describe a model, of an architecture nobody knows.
fn minimal() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", "any");
    writer.set("any.context_length", 4096u32);
    writer.set("any.embedding_length", 64u32);
    writer.set("any.block_count", 2u32);
    writer.set("any.feed_forward_length", 160u32);
    writer.set("any.attention.head_count", 8u32);
    writer.set("any.attention.layer_norm_rms_epsilon", 1e-6f32);
    writer.set("any.vocab_size", 1000u32);
    writer
}

fn read(writer: &GgufWriter) -> Result<HParams, HParamsError> {
    HParams::read(&GgufFile::parse(writer.finish()).expect("a well-formed file"))
}

/// What is read after `key` is set to `value`.
fn with(key: &str, value: impl Into<MetadataValue>) -> Result<HParams, HParamsError> {
    read(minimal().set(key, value))
}

/// Asserts that `key` set to `value` is an error that names the key and has `part`.
fn refused(key: &str, value: impl Into<MetadataValue>, part: &str) {
    let message = with(key, value).expect_err(key).to_string();
    assert!(message.contains(&format!("\"{key}\"")), "{key} is not in: {message}");
    assert!(message.contains(part), "\"{part}\" is not in: {message}");
}

fn array<T: Into<MetadataValue>>(values: impl IntoIterator<Item = T>) -> MetadataValue {
    values.into_iter().collect()
}

#[test]
fn defaults() {
    let hparams = read(&minimal()).unwrap();
    let sizes = LayerSizes { heads: 8, kv_heads: 8, feed_forward: 160 };
    assert_eq!(hparams.layers, [sizes; 2]);
    assert_eq!((hparams.context, hparams.width, hparams.vocabulary), (4096, 64, 1000));
    assert_eq!((hparams.key_dim, hparams.value_dim, hparams.rope.dims), (8, 8, 8));
    assert_eq!((hparams.rope.base, hparams.rope.scaling), (10_000.0, RopeScaling::None));
    assert_eq!((hparams.window, hparams.window_pattern), (None, None));
    assert_eq!((hparams.attention_softcap, hparams.logit_softcap), (None, None));
}

#[test]
fn keys_that_must_be_there() {
    for key in [
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
        "vocab_size",
    ] {
        let key = format!("any.{key}");
        let message = read(minimal().unset(&key)).expect_err(&key).to_string();
        assert!(
            message.contains(&format!("\"{key}\"")) && message.contains("missing"),
            "{message}"
        );
    }
}

#[test]
fn token_strings_count_before_vocab_size() {
    let tokens = array(["a", "b", "c"]);
    assert_eq!(with("tokenizer.ggml.tokens", tokens).unwrap().vocabulary, 3);
    let none = MetadataValue::Array(vec![]);
    assert_eq!(with("tokenizer.ggml.tokens", none).unwrap().vocabulary, 1000);
}

#[test]
fn sizes_per_layer() {
    let hparams = with("any.feed_forward_length", array([96u32, 160])).unwrap();
    assert_eq!(hparams.layers[0].feed_forward, 96);
    assert_eq!(hparams.layers[1].feed_forward, 160);
    let hparams = with("any.attention.head_count_kv", array([8i32, 2])).unwrap();
    assert_eq!(hparams.layers[1].kv_heads, 2);
    refused("any.feed_forward_length", array([1u32, 2, 3]), "each of 2 layers");
    refused("any.feed_forward_length", array([96u32, 0]), "is 0, expected 1 to");
    refused("any.attention.head_count", array([8i32, -1]), "array of 2 i32");
}

#[test]
fn sizes_out_of_range() {
    refused("any.block_count", 0u32, "expected 1 to 4096");
    refused("any.block_count", u32::MAX, "expected 1 to 4096");
    refused("any.context_length", u32::MAX, "expected 1 to");
    refused("any.embedding_length", MetadataValue::U64(u64::MAX), "expected 1 to");
    refused("any.embedding_length", -64i32, "i32 -64");
    refused("any.embedding_length", "wide", "string \"wide\"");
    refused("any.attention.head_count", 0u32, "expected 1 to");
    refused("any.attention.head_count_kv", 3u32, "a divisor of 8 heads");
    refused("any.attention.layer_norm_rms_epsilon", f32::NAN, "finite");
    refused("any.attn_logit_softcapping", f32::INFINITY, "finite");
    refused("any.rope.dimension_count", 7u32, "an even number of at most 8");
    refused("any.rope.dimension_count", 16u32, "an even number of at most 8");
    refused("any.rope.freq_base", -1.0f32, "0 or more");
}

#[test]
fn experts_are_refused() {
    refused("any.expert_count", 8u32, "mixture of experts");
    with("any.expert_count", 0u32).unwrap();
}

#[test]
fn head_sizes() {
    let mut writer = minimal();
    writer.set("any.attention.key_length", 16u32).set("any.attention.value_length", 32u32);
    let hparams = read(&writer).unwrap();
    assert_eq!((hparams.key_dim, hparams.value_dim, hparams.rope.dims), (16, 32, 16));
    writer.set("any.rope.dimension_count", 4u32);
    assert_eq!(read(&writer).unwrap().rope.dims, 4);
}

#[test]
fn zero_means_absent() {
    assert_eq!(with("any.attention.sliding_window", 0u32).unwrap().window, None);
    assert_eq!(with("any.final_logit_softcapping", 0.0f32).unwrap().logit_softcap, None);
    assert_eq!(with("any.attention.scale", 0.0f32).unwrap().attention_scale, None);
    assert_eq!(with("any.final_logit_softcapping", 30.0f32).unwrap().logit_softcap, Some(30.0));
}

#[test]
fn window_patterns() {
    const KEY: &str = "any.attention.sliding_window_pattern";
    assert_eq!(with(KEY, 6u32).unwrap().window_pattern, Some(WindowPattern::Period(6)));
    let listed = with(KEY, array([true, false])).unwrap().window_pattern;
    assert_eq!(listed, Some(WindowPattern::Layers(vec![true, false])));
    refused(KEY, 0u32, "expected 1 to");
    refused(KEY, array([true]), "each of 2 layers");
}

#[test]
fn linear_scaling() {
    let linear = Ok(RopeScaling::Linear { factor: 4.0 });
    let scaling = |writer: &GgufWriter| read(writer).map(|h| h.rope.scaling).map_err(|_| ());
    assert_eq!(scaling(minimal().set("any.rope.scale_linear", 4.0f32)), linear);
    assert_eq!(scaling(minimal().set("any.rope.scaling.factor", 4.0f32)), linear);
    assert_eq!(scaling(minimal().set("any.rope.scaling.factor", 1.0f32)), Ok(RopeScaling::None));
    let mut writer = minimal();
    writer.set("any.rope.scaling.type", "none").set("any.rope.scaling.factor", 4.0f32);
    assert_eq!(scaling(&writer), Ok(RopeScaling::None));
    refused("any.rope.scaling.type", "longrope", "context extension");
}

#[test]
fn yarn_scaling() {
    let mut writer = minimal();
    writer.set("any.rope.scaling.type", "yarn").set("any.rope.scaling.factor", 4.0f32);
    let mut expected = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 4096,
        ext_factor: 1.0,
        attn_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    assert_eq!(read(&writer).unwrap().rope.scaling, expected);
    writer.set("any.rope.scaling.original_context_length", 1024u32);
    writer.set("any.rope.scaling.yarn_ext_factor", -1.0f32);
    if let RopeScaling::Yarn { original_context, .. } = &mut expected {
        *original_context = 1024;
    }
    assert_eq!(read(&writer).unwrap().rope.scaling, expected);
    writer.set("any.rope.scaling.original_context_length", 0u32);
    assert!(read(&writer).unwrap_err().to_string().contains("original_context_length"));
}
