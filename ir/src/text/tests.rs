use proptest::prelude::*;

use super::*;
use crate::op::{AttentionSpec, Function, Op, RopeScaling, RopeSpec, RopeStyle};
use crate::quant::Format;
use crate::types::{Dim, TensorType};
use crate::{Graph, ValueId};

fn problem(text: &str) -> String {
    parse(text).expect_err("no graph").to_string()
}

#[test]
fn every_reader_makes_the_op_of_its_name() {
    let attributes = [
        ("rms_norm", "(eps=1)"),
        ("scale", "(factor=1)"),
        ("gated", "(silu)"),
        ("softcap", "(cap=1)"),
        ("split_heads", "(heads=1)"),
        ("slice", "(start=0, len=1)"),
        ("rope", "(norm, dims=2, base=1)"),
        ("attention", "(layer=0, scale=1)"),
    ];
    for name in op_names() {
        let attributes = attributes.iter().find(|(op, _)| *op == name).map_or("", |(_, a)| a);
        // But for the leaves, arguments are missing; the type error names the op that was read.
        match parse(&format!("graph @g {{\n%x = {name}{attributes}\n}}")) {
            Ok(graph) => assert_eq!(graph.op(graph.values().next().unwrap()).name(), name),
            Err(ParseError { problem: Problem::Type(error), .. }) => assert_eq!(error.op, name),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    let cases = [
        ("", "1:1: expected `graph`, found the end of the text"),
        ("graph g {", "1:7: expected the graph's `@name`, found `g`"),
        ("graph @g { %0", "1:12: expected a new line after `{`, found `%0`"),
        ("graph @g {\n}\n}", "3:1: expected nothing after `}`, found `}`"),
        (
            "graph @g {\n tokens\n}",
            "2:2: expected `%value = op`, one `output` line, or `}`, found `tokens`",
        ),
        (
            "graph @g {\n %0 = tokens extra\n}",
            "2:14: expected `,`, `: type` or a new line, found `extra`",
        ),
        ("graph @g {\n %0 = tokens\n %0 = tokens\n}", "3:2: %0 is defined twice"),
        ("graph @g {\n %0 = silu %1\n}", "2:12: %1 is not defined above"),
        ("graph @g {\n %0 = sigmoid\n}", "2:7: no op is called `sigmoid`"),
        (
            "graph @g {\n %0 = tokens : i32[T, 4]\n}",
            "2:16: the result is i32[T], but i32[T, 4] is written",
        ),
        ("graph @g {\n %0 = tokens : q4_0[T]\n}", "2:16: expected `f32` or `i32`, found `q4_0`"),
        (
            "graph @g {\n %0 = weight \"é\"\n}",
            "2:7: a weight needs its type: `weight \"name\" : f16[N, K]`",
        ),
        (
            "graph @g {\n %0 = weight \"é : f16[2]\n}",
            "2:14: the text is not closed on its line; expected `\"`",
        ),
        (
            "graph @g {\n %0 = weight \"é\\n\" : f16[2]\n}",
            "2:16: expected one of the escapes \\\", \\\\ and \\u{hex}",
        ),
        (
            "graph @g {\n %0 = weight \"é\" : q9[2]\n}",
            "2:20: expected a block format such as `f16` or `q4_k`, found `q9`",
        ),
        (
            "graph @g {\n %0 = weight \"w\" : f16[x]\n}",
            "2:24: expected a dimension: a size, `T` or `R`, found `x`",
        ),
        ("graph @g {\n %0 = scale\n}", "2:7: scale needs the attribute factor=.."),
        ("graph @g {\n %0 = scale(factor=x)\n}", "2:20: factor is a f32, found `x`"),
        ("graph @g {\n %0 = scale(factor)\n}", "2:13: factor is a f32, found ``"),
        ("graph @g {\n %0 = scale(factor=1, 2)\n}", "2:23: expected an attribute, found `2`"),
        ("graph @g {\n %0 = scale(factor=1, bias=2)\n}", "2:23: scale takes no attribute `bias`"),
        (
            "graph @g {\n %0 = gated\n}",
            "2:7: gated needs the attribute silu or gelu_tanh or relu_squared",
        ),
        ("graph @g {\n %0 = split_heads(heads=-1)\n}", "2:25: heads is a usize, found `-1`"),
        ("graph @g {\n output %0\n}", "2:9: %0 is not defined above"),
        ("graph @g {\n ~\n}", "2:2: no token starts with '~'"),
        ("graph @ {\n}", "1:7: expected a name after the sigil"),
        ("graph @g {\n %0 = add\n}", "2:7: add: takes 2 arguments, found 0"),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn hostile_sizes_are_type_errors() {
    let text = format!(
        "graph @g {{\n %t = tokens\n %e = weight \"e\" : f32[1, 2]\n %x = embed %e, %t\n \
         %w = weight \"w\" : f32[{0}, 2]\n %y = stacked_linear %x, %w, %w\n}}",
        usize::MAX
    );
    assert_eq!(problem(&text), "6:7: stacked_linear: the result's width overflows");
}

#[test]
fn names_and_places_of_a_text_are_kept() {
    let text = "; header\n\ngraph @\"a b\" {\n  %tok = tokens ; ids\n\n  %w = weight \"q\\\"\\u{1}\" : \
                f16[3, 2]\n  %x-1 = embed %w, %tok\n  output %x-1, %x-1\n}\n";
    let (graph, positions) = parse_located(text).unwrap();
    assert_eq!(graph.name(), "a b");
    let lines: Vec<u32> = positions.iter().map(|at| at.line).collect();
    assert_eq!(lines, [4, 6, 7]);
    assert_eq!(
        graph.to_string(),
        "graph @\"a b\" {\n  %0 = tokens : i32[T]\n  %1 = weight \"q\\\"\\u{1}\" : f16[3, 2]\n  %2 = \
         embed %1, %0 : f32[T, 2]\n  output %2, %2\n}\n"
    );
}

#[test]
fn a_rewritten_graph_prints_arguments_before_users() {
    let mut graph =
        parse("graph @g {\n%t = tokens\n%e = weight \"e\" : f32[3, 2]\n%x = embed %e, %t\n%y = silu %x\noutput %y\n}")
            .unwrap();
    let x = graph.values().nth(2).unwrap();
    let scaled = graph.add(Op::Scale { factor: 2.0 }, &[x]).unwrap();
    graph.replace_uses(x, scaled);
    let text = graph.to_string();
    assert!(text.find("%4 = scale").unwrap() < text.find("%3 = silu").unwrap(), "{text}");
    let again = parse(&text).unwrap();
    assert!(again.same_structure(&graph) && graph.same_structure(&again));
    let dense = again.to_string();
    assert_eq!(parse(&dense).unwrap().to_string(), dense);
}

/// An op and, per argument, a number that picks one of the values before it.
fn any_op() -> impl Strategy<Value = (Op, Vec<usize>)> {
    let function = || proptest::sample::select(Function::ALL.to_vec());
    let number = || any::<f32>().prop_filter("NaN is not equal to itself", |x| !x.is_nan());
    let scaling = prop_oneof![
        Just(RopeScaling::None),
        number().prop_map(|factor| RopeScaling::Linear { factor }),
        (number(), any::<u32>(), number(), number()).prop_map(|(factor, context, a, b)| {
            RopeScaling::Yarn {
                factor,
                original_context: context,
                ext_factor: a,
                attn_factor: b,
                beta_fast: b,
                beta_slow: a,
            }
        }),
    ];
    let rope = (proptest::sample::select(RopeStyle::ALL.to_vec()), number(), scaling)
        .prop_map(|(style, base, scaling)| Op::Rope(RopeSpec { style, dims: 2, base, scaling }));
    let attention = (any::<u32>(), number(), any::<Option<u32>>(), number()).prop_map(
        |(layer, scale, window, cap)| {
            let softcap = window.map(|_| cap);
            Op::Attention(AttentionSpec { layer, scale, window, softcap })
        },
    );
    let op = prop_oneof![
        Just(Op::Tokens),
        Just(Op::Positions),
        any::<String>().prop_map(Op::Weight),
        Just(Op::Embed),
        Just(Op::Linear),
        Just(Op::StackedLinear),
        Just(Op::AddBias),
        number().prop_map(|eps| Op::RmsNorm { eps }),
        Just(Op::Add),
        Just(Op::Mul),
        number().prop_map(|factor| Op::Scale { factor }),
        function().prop_map(Op::Unary),
        function().prop_map(Op::Gated),
        number().prop_map(|cap| Op::SoftCap { cap }),
        Just(Op::SplitHeads { heads: 2 }),
        Just(Op::MergeHeads),
        Just(Op::Slice { start: 0, len: 4 }),
        rope,
        attention,
        Just(Op::SelectOutputs),
    ];
    (op, proptest::collection::vec(any::<usize>(), 0..4))
}

/// Adds what fits of `ops` to a graph that has an argument for each.
fn grow(name: &str, ops: Vec<(Op, Vec<usize>)>) -> Graph {
    let mut graph = Graph::new(name);
    let tokens = graph.add(Op::Tokens, &[]).unwrap();
    let positions = graph.add(Op::Positions, &[]).unwrap();
    let matrix = graph.weight("m", TensorType::weight(Format::Q8_0, &[4, 4]));
    let vector = graph.weight("v", TensorType::weight(Format::F32, &[4]));
    let x = graph.add(Op::Embed, &[matrix, tokens]).unwrap();
    let heads = graph.add(Op::SplitHeads { heads: 2 }, &[x]).unwrap();
    let mut values = vec![tokens, positions, matrix, vector, x, heads];
    for (op, picks) in ops {
        let inputs: Vec<ValueId> = match op {
            Op::Rope(_) => vec![heads, positions],
            Op::Attention(_) => vec![heads; 3],
            Op::Linear | Op::StackedLinear => vec![x, matrix],
            Op::AddBias | Op::RmsNorm { .. } => vec![x, vector],
            _ => picks.iter().map(|pick| values[pick % values.len()]).collect(),
        };
        match op {
            Op::Weight(name) => values.push(graph.weight(
                name,
                TensorType::new(crate::Elem::Block(Format::Iq2Xxs), [Dim::Size(256)]),
            )),
            op => values.extend(graph.add(op, &inputs)),
        }
    }
    graph.set_outputs(values.split_off(values.len() - 2));
    graph
}

proptest! {
    #[test]
    fn parse_of_print_is_the_same_graph(
        name in any::<String>(),
        ops in proptest::collection::vec(any_op(), 0..40),
    ) {
        let graph = grow(&name, ops);
        let text = graph.to_string();
        let parsed = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert!(parsed.same_structure(&graph), "{text}\n{parsed}");
        prop_assert_eq!(parsed.to_string(), text);
    }

    #[test]
    fn no_text_panics(text in "[graph@%{}()=:, \\[\\]\"\\\\;0-9a-zT\n]{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_damaged_text_panics(
        ops in proptest::collection::vec(any_op(), 0..10),
        at in any::<proptest::sample::Index>(),
        with in any::<char>(),
    ) {
        let mut text: Vec<char> = grow("g", ops).to_string().chars().collect();
        let at = at.index(text.len());
        text[at] = with;
        let _ = parse(&text.into_iter().collect::<String>());
    }
}
