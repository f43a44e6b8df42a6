use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::text::parse;
use crate::verify;

/// Weights whose element i is a fixed function of the name and i; counts the rows it gave, and
/// fails for one name.
#[derive(Default)]
struct Pattern {
    given: AtomicUsize,
    missing: Mutex<&'static str>,
}

impl WeightSource for Pattern {
    fn rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightError> {
        if name == *self.missing.lock().unwrap() {
            return Err(WeightError { name: name.into(), reason: "is not there".into() });
        }
        self.given.fetch_add(rows.len(), Ordering::Relaxed);
        let seed: usize = name.bytes().map(usize::from).sum();
        let width = out.len() / rows.len();
        for (i, x) in out.iter_mut().enumerate() {
            let mixed = (seed + rows.start * width + i).wrapping_mul(2_654_435_761) >> 7;
            *x = (mixed % 257) as f32 / 128.0 - 1.0;
        }
        Ok(())
    }
}

/// Two layers with grouped heads, the second with a window and a soft cap.
const MODEL: &str = r#"graph @model {
  %tokens = tokens
  %positions = positions
  %table = weight "embd" : f16[300, 16]
  %x = embed %table, %tokens
  %n1 = weight "n1" : f32[16]
  %h1 = rms_norm(eps=1e-5) %x, %n1
  %qkv = weight "qkv" : f16[32, 16]
  %p1 = linear %h1, %qkv
  %q1 = slice(start=0, len=16) %p1
  %k1 = slice(start=16, len=8) %p1
  %v1 = slice(start=24, len=8) %p1
  %qh1 = split_heads(heads=4) %q1
  %kh1 = split_heads(heads=2) %k1
  %vh1 = split_heads(heads=2) %v1
  %qr1 = rope(neox, dims=4, base=100) %qh1, %positions
  %kr1 = rope(neox, dims=4, base=100) %kh1, %positions
  %a1 = attention(layer=0, scale=0.5) %qr1, %kr1, %vh1
  %m1 = merge_heads %a1
  %x1 = add %x, %m1
  %wq = weight "wq" : f16[16, 16]
  %wk = weight "wk" : f16[4, 16]
  %wv = weight "wv" : f16[4, 16]
  %q2 = linear %x1, %wq
  %k2 = linear %x1, %wk
  %v2 = linear %x1, %wv
  %qh2 = split_heads(heads=4) %q2
  %kh2 = split_heads(heads=1) %k2
  %vh2 = split_heads(heads=1) %v2
  %a2 = attention(layer=7, scale=0.5, window=3, softcap=2) %qh2, %kh2, %vh2
  %m2 = merge_heads %a2
  %x2 = add %x1, %m2
  %last = select_outputs %x2
  %logits = linear %last, %table
  output %logits
}"#;

fn options() -> InterpOptions {
    InterpOptions {
        context: NonZeroU32::new(16).unwrap(),
        slots: NonZeroU32::new(3).unwrap(),
        cache: CacheKind::F32,
        weight_memory: usize::MAX,
    }
}

fn row(token: u32, position: u32, slot: u32) -> Row {
    Row { token, position, slot, output: true }
}

fn with_model<T>(options: InterpOptions, check: impl FnOnce(&mut Interp<'_>) -> T) -> T {
    let graph = parse(MODEL).unwrap();
    let info = verify(&graph).unwrap();
    let source = Pattern::default();
    check(&mut Interp::new(&graph, &info, &source, options))
}

/// Logits of each position of `tokens`, one row a step.
fn solo(tokens: &[u32]) -> Vec<Vec<f32>> {
    with_model(options(), |interp| {
        let steps = (0..).zip(tokens).map(|(p, &token)| interp.step(&[row(token, p, 0)]).unwrap());
        steps.collect()
    })
}

#[test]
fn a_batch_gives_what_its_rows_give_alone() {
    let sequences: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6], &[7, 7], &[299, 0, 12]];
    with_model(options(), |interp| {
        // Sequence 0 as a chunk of four and then two; the others interleaved with it, row by row.
        let first: Vec<Row> = vec![
            row(1, 0, 1),
            row(7, 0, 0),
            row(2, 1, 1),
            row(3, 2, 1),
            row(299, 0, 2),
            row(4, 3, 1),
        ];
        let second = vec![row(0, 1, 2), row(5, 4, 1), row(6, 5, 1), row(7, 1, 0), row(12, 2, 2)];
        let sequence_of_slot = [1, 0, 2];
        for rows in [first, second] {
            let logits = interp.step(&rows).unwrap();
            for (row, logits) in rows.iter().zip(logits.chunks_exact(300)) {
                let alone = solo(sequences[sequence_of_slot[row.slot as usize]]);
                assert_eq!(logits, alone[row.position as usize], "{row:?}");
            }
        }
    });
}

#[test]
fn going_back_forgets_what_came_after() {
    with_model(options(), |interp| {
        for (position, token) in (0..).zip([1, 2, 90, 91, 92]) {
            interp.step(&[row(token, position, 0)]).unwrap();
        }
        let back = interp.step(&[row(3, 2, 0), row(4, 3, 0)]).unwrap();
        let alone = solo(&[1, 2, 3, 4]);
        assert_eq!(back, [alone[2].clone(), alone[3].clone()].concat());
        // Position 4 held token 92 before; only 4 may follow now.
        let error = interp.step(&[row(1, 5, 0)]).unwrap_err();
        assert_eq!(error.to_string(), "row 0: position 5 in slot 0, expected 0 to 4");
    });
}

#[test]
fn only_rows_that_want_logits_give_them() {
    let alone = solo(&[5, 6]);
    with_model(options(), |interp| {
        let rows = [Row { output: false, ..row(5, 0, 0) }, row(6, 1, 0)];
        assert_eq!(interp.step(&rows).unwrap(), alone[1]);
        let silent = [Row { output: false, ..row(5, 0, 1) }];
        assert!(interp.step(&silent).unwrap().is_empty());
    });
}

#[test]
fn memory_for_weights_changes_no_result() {
    let rows: Vec<Row> = (0..5).map(|p| row(p * 50, p, 0)).collect();
    let expected = with_model(options(), |interp| interp.step(&rows).unwrap());
    for weight_memory in [0, 1000, 20_000] {
        let options = InterpOptions { weight_memory, ..options() };
        assert_eq!(with_model(options, |interp| interp.step(&rows).unwrap()), expected);
    }
}

#[test]
fn kept_weights_are_decoded_once_and_a_looked_up_table_row_by_row() {
    let graph = parse(
        "graph @g {\n%t = tokens\n%e = weight \"e\" : f16[300, 4]\n%x = embed %e, %t\n\
         %w = weight \"w\" : f16[8, 4]\n%y = linear %x, %w\noutput %y\n}",
    )
    .unwrap();
    let info = verify(&graph).unwrap();
    let source = Pattern::default();
    let mut interp = Interp::new(&graph, &info, &source, options());
    interp.step(&[row(1, 0, 0), row(2, 1, 0)]).unwrap();
    assert_eq!(source.given.load(Ordering::Relaxed), 2 + 8);
    interp.step(&[row(3, 2, 0)]).unwrap();
    assert_eq!(source.given.load(Ordering::Relaxed), 2 + 8 + 1);
}

#[test]
fn an_f16_cache_rounds_and_stays_near() {
    let rows: Vec<Row> = (0..6).map(|p| row(p + 20, p, 0)).collect();
    let exact = with_model(options(), |interp| interp.step(&rows).unwrap());
    let rounded = InterpOptions { cache: CacheKind::F16, ..options() };
    let rounded = with_model(rounded, |interp| interp.step(&rows).unwrap());
    assert_ne!(exact, rounded);
    // f16 keeps 11 bits: keys and values of magnitude below 8 move by at most 2^-9.
    for (a, b) in exact.iter().zip(&rounded) {
        assert!((a - b).abs() <= 0.02 * a.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn the_observer_sees_every_f32_value_in_order() {
    let graph = parse(MODEL).unwrap();
    let info = verify(&graph).unwrap();
    let source = Pattern::default();
    let mut seen = Vec::new();
    let mut interp = Interp::new(&graph, &info, &source, options());
    interp.observe(|value, data| seen.push((value, data.len())));
    interp.step(&[row(1, 0, 0), row(2, 1, 0)]).unwrap();
    drop(interp);
    let computed = |value: &&ValueId| graph.ty(**value).elem == Elem::F32;
    let size = |value: &ValueId| {
        let constant = graph.ty(*value).shape.iter().map(|dim| match dim {
            Dim::Size(n) => *n,
            Dim::Rows | Dim::Outputs => 2,
        });
        (*value, constant.product())
    };
    let expected: Vec<(ValueId, usize)> = info.order().iter().filter(computed).map(size).collect();
    assert_eq!(seen, expected);
}

#[test]
fn bad_rows_are_errors_and_change_nothing() {
    let cases: [(&[Row], &str); 7] = [
        (&[], "a step has at least one row"),
        (&[row(0, 0, 3)], "row 0: slot 3 is not below 3, the number of slots"),
        (&[row(0, 16, 0)], "row 0: position 16 is not below the context of 16"),
        (&[row(0, 2, 0)], "row 0: position 2 in slot 0, expected 0 to 1"),
        (&[row(0, 1, 0), row(0, 1, 0)], "row 1: position 1 in slot 0, expected 2"),
        (&[row(0, 1, 0), row(0, 0, 0)], "row 1: position 0 in slot 0, expected 2"),
        (
            &[row(0, 1, 0), row(300, 0, 1)],
            "row 1: token 300 is not below 300, the embedding's row count",
        ),
    ];
    with_model(options(), |interp| {
        interp.step(&[row(9, 0, 0)]).unwrap();
        for (rows, expected) in cases {
            assert_eq!(interp.step(rows).unwrap_err().to_string(), expected);
        }
        assert_eq!(interp.step(&[row(8, 1, 0)]).unwrap(), solo(&[9, 8])[1]);
    });
}

#[test]
fn a_weight_that_cannot_be_given_ends_the_slots_before_the_step() {
    let graph = parse(MODEL).unwrap();
    let info = verify(&graph).unwrap();
    let source = Pattern::default();
    let options = InterpOptions { weight_memory: 0, ..options() };
    let mut interp = Interp::new(&graph, &info, &source, options);
    for (position, token) in (0..).zip([1, 2, 90, 91]) {
        interp.step(&[row(token, position, 0)]).unwrap();
    }
    // Layer 0 stores the rows, layer 7 never gets to.
    *source.missing.lock().unwrap() = "wv";
    let error = interp.step(&[row(3, 2, 0), row(4, 3, 0)]).unwrap_err();
    assert_eq!(error.to_string(), "weight \"wv\": is not there");
    *source.missing.lock().unwrap() = "";
    let error = interp.step(&[row(4, 3, 0)]).unwrap_err();
    assert_eq!(error.to_string(), "row 0: position 3 in slot 0, expected 0 to 2");
    assert_eq!(interp.step(&[row(3, 2, 0)]).unwrap(), solo(&[1, 2, 3])[2]);
}

/// Of the weights only a q8_0 one has blocks; its products round, others do not.
#[test]
fn rounding_is_of_one_slot_and_of_products_with_blocks() {
    let text = "graph @g {\n%t = tokens\n%e = weight \"e\" : f16[300, 32]\n%x = embed %e, %t\n\
                %w = weight \"w\" : q8_0[8, 32]\n%v = weight \"v\" : f16[8, 32]\n\
                %y = linear %x, %w\n%z = linear %x, %v\noutput %y, %z\n}";
    let graph = parse(text).unwrap();
    let info = verify(&graph).unwrap();
    let source = Pattern::default();
    for weight_memory in [0, usize::MAX] {
        let options = InterpOptions { weight_memory, ..options() };
        let rows = [row(3, 0, 0), row(3, 0, 1)];
        let plain = Interp::new(&graph, &info, &source, options).run(&rows).unwrap();
        let mut interp = Interp::new(&graph, &info, &source, options);
        interp.round(1, |row| row.iter_mut().for_each(|x| *x = x.round()));
        let rounded = interp.run(&rows).unwrap();
        assert_eq!(rounded[0][..8], plain[0][..8], "the other slot");
        assert_ne!(rounded[0][8..], plain[0][8..], "the slot");
        assert_eq!(rounded[1], plain[1], "floats");
    }
}
