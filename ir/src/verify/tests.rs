use super::*;
use crate::text::parse;

const CHAIN: &str = "graph @g {\n%t = tokens\n%e = weight \"e\" : f32[3, 2]\n%x = embed %e, %t\n\
                     %y = silu %x\n%z = scale(factor=2) %y\noutput %z, %y\n}";

fn values(graph: &Graph) -> Vec<ValueId> {
    graph.values().collect()
}

#[test]
fn info_counts_arguments_and_outputs() {
    let graph = parse(CHAIN).unwrap();
    let info = verify(&graph).unwrap();
    let [tokens, table, x, y, z] = values(&graph)[..] else { panic!("five values") };
    assert_eq!(info.order(), [tokens, table, x, y, z]);
    assert_eq!(info.use_counts(), [1, 1, 1, 2, 1]);
    assert_eq!(info.weights().collect::<Vec<_>>(), [("e", table)]);
    assert!(info.layers().is_empty());
}

#[test]
fn a_cycle_is_named_by_one_of_its_values() {
    let mut graph = parse(CHAIN).unwrap();
    let [_, _, x, y, z] = values(&graph)[..] else { panic!("five values") };
    let after = graph.add(Op::Unary(crate::Function::Silu), &[z]).unwrap();
    // y now reads z, which reads y; `after` only waits for them.
    graph.replace_uses(x, z);
    let error = verify(&graph).unwrap_err();
    assert!(matches!(error, VerifyError::Cycle(v) if v == y || v == z), "{error} {after}");
    assert_eq!(error.value().map(|v| v == y || v == z), Some(true));
    assert!(!graph.same_structure(&graph));
    assert!(graph.to_string().contains("%3 = silu %4"), "a cycle still prints");
}

#[test]
fn a_type_that_an_edit_made_stale_is_found() {
    let mut graph = parse(CHAIN).unwrap();
    let [tokens, _, x, y, _] = values(&graph)[..] else { panic!("five values") };
    let wide = graph.weight("w", TensorType::weight(crate::quant::Format::F32, &[3, 4]));
    let wide = graph.add(Op::Embed, &[wide, tokens]).unwrap();
    graph.replace_uses(x, wide);
    let error = verify(&graph).unwrap_err();
    assert_eq!(error.value(), Some(y));
    assert_eq!(error.to_string(), "%3: is f32[T, 2], but its arguments give f32[T, 4]");
}

#[test]
fn an_output_that_was_removed_is_found() {
    let mut graph = parse(CHAIN).unwrap();
    let [_, _, x, y, z] = values(&graph)[..] else { panic!("five values") };
    graph.set_outputs(vec![x]);
    assert_eq!(graph.remove_dead(), 2);
    assert!(!graph.contains(y));
    graph.set_outputs(vec![z]);
    assert_eq!(verify(&graph).unwrap_err(), VerifyError::MissingOutput(z));
}

#[test]
fn layers_say_what_their_caches_hold() {
    let graph = parse(
        "graph @g {\n%t = tokens\n%e = weight \"e\" : f32[3, 24]\n%x = embed %e, %t\n\
         %a = slice(start=0, len=16) %x\n%b = slice(start=0, len=8) %x\n\
         %q = split_heads(heads=4) %a\n%k = split_heads(heads=2) %b\n\
         %l1 = attention(layer=5, scale=1) %q, %k, %k\n%l0 = attention(layer=2, scale=1) %q, %q, %q\n\
         %m = merge_heads %l1\noutput %m, %l0\n}",
    )
    .unwrap();
    let info = verify(&graph).unwrap();
    let shapes = info.layers().iter().map(|l| (l.layer, l.kv_heads, l.key_dim, l.value_dim));
    assert_eq!(shapes.collect::<Vec<_>>(), [(2, 4, 4, 4), (5, 2, 4, 4)]);
}
