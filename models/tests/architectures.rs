//! Every architecture's tiny model becomes a verified graph; models that do not fit are refused.

use onebit_ir::interp::WeightSource;
use onebit_ir::quant::{FORMATS, Format};
use onebit_ir::{AttentionSpec, Dim, Elem, Function, Graph, Op, RopeScaling, RopeSpec, RopeStyle};
use onebit_models::arch::ARCHITECTURES;
use onebit_models::gguf::GgufFile;
use onebit_models::{Model, ModelError};
use onebit_test_support::{
    GgufWriter, Head, MetadataValue, TINY_ARCHITECTURES, TinyOptions, tiny_model, tiny_writer,
};

fn model(writer: &GgufWriter) -> Result<Model, ModelError> {
    Model::from_file(GgufFile::parse(writer.finish()).expect("a well-formed file"))
}

fn model_of(writer: &GgufWriter) -> Model {
    model(writer).unwrap_or_else(|error| panic!("{error}"))
}

fn tiny(arch: &str, options: &TinyOptions) -> Model {
    model_of(&tiny_writer(arch, options))
}

fn smallest(arch: &str, layers: usize) -> Model {
    tiny(arch, &TinyOptions { layers, ..TinyOptions::smallest() })
}

fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
    graph.values().filter(|&value| is(graph.op(value))).count()
}

fn attentions(model: &Model) -> Vec<AttentionSpec> {
    let graph = model.graph();
    let spec = |value| match graph.op(value) {
        Op::Attention(spec) => Some(*spec),
        _ => None,
    };
    graph.values().filter_map(spec).collect()
}

/// Of the query heads of each layer.
fn ropes(model: &Model) -> Vec<RopeSpec> {
    let graph = model.graph();
    let spec = |value| match graph.op(value) {
        Op::Rope(spec) => Some(*spec),
        _ => None,
    };
    graph.values().filter_map(spec).step_by(2).collect()
}

fn refused(writer: &GgufWriter, parts: &[&str]) {
    let message = model(writer).expect_err("this model does not fit").to_string();
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

#[test]
fn every_architecture_builds() {
    for spec in ARCHITECTURES {
        assert!(TINY_ARCHITECTURES.contains(&spec.name), "no tiny model of {}", spec.name);
    }
    for arch in TINY_ARCHITECTURES {
        for head in [Head::Tied, Head::Untied] {
            let model = tiny(arch, &TinyOptions { head, ..TinyOptions::default() });
            let graph = model.graph();
            let &[logits] = graph.outputs() else { panic!("{arch}: one output") };
            assert_eq!(graph.ty(logits).shape, [Dim::Outputs, Dim::Size(320)], "{arch}");
            assert_eq!(graph.ty(logits).elem, Elem::F32);
            assert_eq!(count(graph, |op| *op == Op::SelectOutputs), 1, "{arch}");
            assert_eq!(attentions(&model).len(), 2, "{arch}");
            assert_eq!(model.vocabulary(), 320);
            assert_eq!(model.trained_context(), 128);
            assert_eq!(model.name(), format!("tiny {arch}"));
            assert!(model.parameters() > 1_000_000, "{arch}");
            model.tokenizer_spec().unwrap();
        }
    }
}

#[test]
fn every_format_builds_and_gives_rows() {
    for info in FORMATS {
        let model = tiny("llama", &TinyOptions::of_format(info.format));
        let mut two_rows = vec![0.0; 512];
        model.rows("blk.1.ffn_up.weight", 1..3, &mut two_rows).unwrap();
        let mut row = vec![0.0; 256];
        model.rows("blk.1.ffn_up.weight", 2..3, &mut row).unwrap();
        assert_eq!(row, two_rows[256..], "{}", info.name);
        assert!(row.iter().any(|&x| x != 0.0), "{}", info.name);
    }
}

#[test]
fn rows_that_are_not_there() {
    let model = smallest("llama", 1);
    let mut out = vec![0.0; 16];
    model.rows("output_norm.weight", 0..1, &mut out).unwrap();
    model.rows("token_embd.weight", 319..320, &mut out).unwrap();
    assert!(model.rows("output_norm.weight", 1..2, &mut out).is_err());
    assert!(model.rows("token_embd.weight", 320..321, &mut out).is_err());
    assert!(model.rows("token_embd.weight", 0..2, &mut out).is_err());
    assert!(model.rows("none", 0..1, &mut out).is_err());
}

#[test]
fn models_open_from_disk() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), tiny_model("qwen3", &TinyOptions::smallest())).unwrap();
    assert_eq!(Model::open(file.path()).unwrap().architecture(), "qwen3");
}

#[test]
fn tied_heads_read_the_embedding_table_once() {
    let model = smallest("llama", 1);
    let is_table = |op: &Op| matches!(op, Op::Weight(name) if name == "token_embd.weight");
    assert_eq!(count(model.graph(), is_table), 1);
}

#[test]
fn llama_rotates_neighbours_and_takes_frequency_factors() {
    let rope = ropes(&smallest("llama", 1))[0];
    assert_eq!((rope.style, rope.dims, rope.base), (RopeStyle::Norm, 8, 10_000.0));
    let with_factors = smallest("llama3", 2);
    let graph = with_factors.graph();
    for value in graph.values().filter(|&value| matches!(graph.op(value), Op::Rope(_))) {
        assert_eq!(graph.inputs(value).len(), 3);
    }
}

#[test]
fn biases_are_taken_where_they_are() {
    let biased = |model: &Model| {
        let graph = model.graph();
        let linears = graph.values().filter(|&value| *graph.op(value) == Op::Linear);
        linears.filter(|&linear| graph.inputs(linear).len() == 3).count()
    };
    let qwen2 = smallest("qwen2", 1);
    assert_eq!(biased(&qwen2), 3);
    assert_eq!(ropes(&qwen2)[0].style, RopeStyle::Neox);

    let mut writer = tiny_writer("llama", &TinyOptions::smallest());
    writer.tensor_f32("blk.0.attn_output.bias", &[16], &[0.5; 16]);
    writer.tensor_f32("blk.0.ffn_down.bias", &[16], &[0.5; 16]);
    assert_eq!(biased(&model_of(&writer)), 2);
}

#[test]
fn qwen3_norms_heads() {
    let graph_of = |arch| count(smallest(arch, 1).graph(), |op| matches!(op, Op::RmsNorm { .. }));
    assert_eq!(graph_of("qwen2"), 3);
    assert_eq!(graph_of("qwen3"), 5);
}

#[test]
fn gemma3_has_a_global_layer_in_six() {
    let model = smallest("gemma3", 12);
    for (layer, (attention, rope)) in attentions(&model).iter().zip(ropes(&model)).enumerate() {
        let global = layer % 6 == 5;
        assert_eq!(attention.window, (!global).then_some(16), "layer {layer}");
        assert_eq!(rope.base, 10_000.0);
        assert_eq!(attention.scale, 1.0 / 8f32.sqrt());
    }
    let graph = model.graph();
    assert_eq!(count(graph, |op| *op == Op::Scale { factor: 4.0 }), 1);
    assert_eq!(count(graph, |op| *op == Op::Gated(Function::GeluTanh)), 12);
    assert_eq!(count(graph, |op| matches!(op, Op::RmsNorm { .. })), 12 * 6 + 1);
    assert_eq!(count(graph, |op| matches!(op, Op::SoftCap { .. })), 0);
}

#[test]
fn gemma3_scales_and_rebases_global_layers_only() {
    let mut writer = tiny_writer("gemma3", &TinyOptions { layers: 6, ..TinyOptions::smallest() });
    writer.set("gemma3.rope.freq_base", 1e6f32);
    writer.set("gemma3.rope.scaling.type", "linear").set("gemma3.rope.scaling.factor", 8.0f32);
    let ropes = ropes(&model_of(&writer));
    assert_eq!((ropes[4].base, ropes[4].scaling), (10_000.0, RopeScaling::None));
    assert_eq!((ropes[5].base, ropes[5].scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
}

#[test]
fn gemma3_without_a_window_is_global() {
    let mut writer = tiny_writer("gemma3", &TinyOptions::smallest());
    writer.unset("gemma3.attention.sliding_window").set("gemma3.rope.freq_base", 1e6f32);
    let model = model_of(&writer);
    assert_eq!(attentions(&model)[0].window, None);
    assert_eq!(ropes(&model)[0].base, 1e6);
}

#[test]
fn window_patterns_of_the_file_win() {
    let options = TinyOptions { layers: 3, ..TinyOptions::smallest() };
    let mut writer = tiny_writer("gemma3", &options);
    let windows = |writer: &GgufWriter| {
        attentions(&model_of(writer)).iter().map(|a| a.window.is_some()).collect::<Vec<bool>>()
    };
    writer.set("gemma3.attention.sliding_window_pattern", 2u32);
    assert_eq!(windows(&writer), [true, false, true]);
    let pattern = [false, true, true].into_iter().collect::<MetadataValue>();
    writer.set("gemma3.attention.sliding_window_pattern", pattern);
    assert_eq!(windows(&writer), [false, true, true]);
}

#[test]
fn gemma2_caps_scores_and_logits() {
    let model = smallest("gemma2", 2);
    let found: Vec<_> = attentions(&model).iter().map(|a| (a.window, a.softcap)).collect();
    assert_eq!(found, [(Some(16), Some(50.0)), (None, Some(50.0))]);
    assert_eq!(count(model.graph(), |op| *op == Op::SoftCap { cap: 30.0 }), 1);
}

#[test]
fn bitnet_scales_products_and_norms_inside() {
    let model = smallest("bitnet", 1);
    assert_eq!(count(model.graph(), |op| matches!(op, Op::Scale { .. })), 7);
    assert_eq!(count(model.graph(), |op| matches!(op, Op::RmsNorm { .. })), 5);
    assert_eq!(count(model.graph(), |op| *op == Op::Gated(Function::Silu)), 1);
    let squared = smallest("bitnet-b1.58", 1);
    assert_eq!(count(squared.graph(), |op| *op == Op::Gated(Function::ReluSquared)), 1);
}

#[test]
fn models_that_do_not_fit() {
    let fresh = || tiny_writer("llama", &TinyOptions::smallest());
    let mut writer = fresh();
    writer.set("general.architecture", "mamba");
    refused(&writer, &["\"mamba\" is not supported", "llama, qwen2, qwen3, gemma2, gemma3"]);

    let mut writer = fresh();
    writer.remove_tensor("blk.0.attn_q.weight");
    refused(&writer, &["\"blk.0.attn_q.weight\" [16, 16] is missing", "\"llama\""]);

    let mut writer = fresh();
    writer.set("llama.feed_forward_length", 64u32);
    refused(&writer, &["\"blk.0.ffn_gate.weight\" is [32, 16]", "ask for [64, 16]"]);

    let mut writer = fresh();
    writer.tensor_f32("blk.0.attn_sinks.weight", &[2], &[0.0; 2]);
    writer.tensor_f32("blk.1.attn_norm.weight", &[16], &[0.0; 16]);
    refused(&writer, &["\"blk.0.attn_sinks.weight\" and 1 others have no place"]);

    let mut writer = fresh();
    writer.set("llama.expert_count", 8u32);
    refused(&writer, &["\"llama.expert_count\" is 8: a mixture of experts is not supported"]);

    let mut vocabulary_only = GgufWriter::new();
    vocabulary_only.set("general.architecture", "llama");
    refused(&vocabulary_only, &["no tensors, only a vocabulary"]);

    refused(&GgufWriter::new(), &["\"general.architecture\"", "missing"]);
}

#[test]
fn layers_may_differ() {
    let options = TinyOptions { layers: 2, ..TinyOptions::smallest() };
    let mut writer = tiny_writer("llama", &options);
    writer.set("llama.feed_forward_length", [32usize, 48].into_iter().collect::<MetadataValue>());
    for part in ["ffn_gate", "ffn_up", "ffn_down"] {
        let name = format!("blk.1.{part}.weight");
        let shape = if part == "ffn_down" { [16, 48] } else { [48, 16] };
        writer.remove_tensor(&name).tensor(&name, Format::F32, &shape, vec![0; 16 * 48 * 4]);
    }
    model_of(&writer);
}
