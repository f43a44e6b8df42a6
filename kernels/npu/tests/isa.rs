//! The instruction coder against itself: identity on any bits, every form, whole programs.

use onebit_aie::isa::{
    Bundle, Instruction, IsaError, Op, Operand, Slot, assemble, disassemble, table,
};
use proptest::prelude::*;

#[test]
fn forms_name_operations() {
    let mut forms = 0;
    for (slot, form) in table::forms() {
        forms += 1;
        if !form.contains('$') {
            let instruction = Instruction::new(form, &[]).expect("no operands to fit");
            assert_eq!((instruction.slot(), instruction.form()), (slot, form));
        }
    }
    assert!(forms > 180, "{forms}");
}

#[test]
fn operands_have_names() {
    let instruction = Instruction::parse("vlda x3, [p1], #128").unwrap();
    assert_eq!(instruction.form(), "vlda $d, [$p], #$imm");
    assert_eq!(instruction.operand("imm"), Some(Operand::Immediate(128)));
    let Some(Operand::Register(register)) = instruction.operand("d") else { panic!() };
    assert_eq!(register.to_string(), "x3");
    assert_eq!(instruction.operand("none"), None);
    let [p, imm, d] = ["p", "imm", "d"].map(|name| instruction.operand(name).unwrap());
    assert_eq!(Instruction::new(instruction.form(), &[p, imm, d]), Some(instruction.clone()));
    assert_eq!(Instruction::new("vlda $d, [$p], #$imm", &[p, d, imm]), None);
    let quarter = Instruction::parse("vlda bmlh2, [p1], #128").unwrap();
    assert_eq!(quarter.form(), instruction.form());
    let b = quarter.operand("d").unwrap();
    assert_eq!(Instruction::new("vlda $d, [$p], #$imm", &[p, imm, b]), Some(quarter));
    assert_eq!(Instruction::new("no such form", &[]), None);
}

#[test]
fn numbers_outside_their_field_are_refused() {
    for text in [
        "vlda x3, [p1], #130",
        "vlda x3, [p1], #512",
        "vlda x12, [p1], #64",
        "lda r0, [sp, #0]",
        "lda r0, [sp, #-2052]",
        "add r0, r1, #64",
        "add r0, r1, #-65",
        "acq #64, r0",
        "movx r0, #1024",
        "mac r1, r2, r3, r4",
        "vmac dm5, dm0, x0, x1, r0",
        "vmac dm0, dm0, x0, x1",
        "vmac dm0, dm0, x0, x1, r0, r0",
        "nopxx",
        "add r00, r1, r2",
    ] {
        let error = assemble(text, 0).unwrap_err();
        assert!(matches!(error, IsaError::Syntax { line: 1, .. }), "{text}: {error}");
    }
}

#[test]
fn words_take_the_format_of_their_slots() {
    let lengths = [
        ("nop", 2),
        ("mova r0, #1", 4),
        ("mova r0, #1; vldb x0, [p0], #64", 6),
        ("mova r0, #1; vmac dm0, dm0, x0, x1, r0", 8),
        ("mova r0, #1; mov r1, r2; vmac dm0, dm0, x0, x1, r0", 10),
        ("vldb x0, [p0], #64; nops; add r1, r2, r3; mov r4, r5", 12),
        ("nopa; vldb x0, [p0], #64; add r1, r2, r3; mov r4, r5; nopv", 14),
        ("nopa; vldb x0, [p0], #64; nops; add r1, r2, r3; mov r4, r5; nopv", 16),
        ("nopa; nopb; nops; movxm r0, #7; nopv", 16),
        // No format has just these: filled up.
        ("vldb x0, [p0], #64; nops; nopv; mova r0, #1; mov r4, r5", 16),
    ];
    for (text, length) in lengths {
        let code = assemble(text, 0).unwrap();
        assert_eq!(code.len(), length, "{text}");
        let lines = disassemble(&code).unwrap();
        assert_eq!(lines.len(), 1, "{text}");
        assert_eq!(assemble(&lines[0].bundle.to_string(), 0), Ok(code));
    }
    let full = assemble(".full\nnop\nmova r0, #1\n.exact\nnop", 0).unwrap();
    assert_eq!(full.len(), 16 + 16 + 2);
    let full = disassemble(&full).unwrap();
    assert_eq!(full[0].bundle.to_string(), "nopa; nopb; nops; nopx; nopm; nopv");
    assert_eq!(full[1].to_string(), "   10: mova r0, #1; nopb; nops; nopx; nopm; nopv");
}

#[test]
fn labels_are_byte_offsets() {
    let text = "
        // Counts down from three.
            movx r0, #3
        loop:
            add r0, r0, #-1
            nop // one of five words that a taken branch still runs
            jnz r0, #@loop
        end:
            j #@end
    ";
    let listing: Vec<String> = disassemble(&assemble(text, 0x100).unwrap())
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        listing,
        [
            "    0: movx r0, #3",
            "    4: add r0, r0, #-1",
            "    8: nop",
            "    a: jnz r0, #260",
            "   10: j #272",
        ]
    );
    let error = assemble("nop\nj #@nowhere", 0).unwrap_err();
    let IsaError::Syntax { line, reason, .. } = error else { panic!("{error}") };
    assert_eq!((line, reason.as_str()), (2, "there is no label `nowhere`"));
}

#[test]
fn bad_words_are_refused_with_their_place() {
    assert_eq!(
        disassemble(&[0, 0, 0x18]),
        Err(IsaError::Truncated { offset: 2, expected: 4, found: 1 })
    );
    // A 2-byte word has no operation: all its bits are unused and zero.
    assert_eq!(disassemble(&[0, 0, 0x10, 0]), Err(IsaError::NoFormat { offset: 2, word: 0x10 }));
    let op = |text| Op::parse(text).unwrap();
    let twice = Bundle::new(vec![op("mova r0, #1"), op("mova r1, #1")]);
    assert_eq!(twice, Err(IsaError::SlotTaken { slot: Slot::Lda }));
    let odd = Bundle::new(["nopa", "nopb", "nops", "nopm", "nopv"].map(op).to_vec());
    let slots = vec![Slot::Lda, Slot::Ldb, Slot::St, Slot::Mv, Slot::Vec];
    assert_eq!(odd, Err(IsaError::NoSuchFormat { slots }));
}

#[test]
fn unknown_operations_stay_as_they_are() {
    let op = Op::parse(".mv 0x3ffff").unwrap();
    assert!(matches!(op, Op::Unknown { slot: Slot::Mv, bits: 0x3ffff }));
    assert_eq!(op.to_string(), ".mv 0x3ffff");
    assert_eq!(Op::parse(".mv 0x400000"), None);
    assert_eq!(Op::parse(".nowhere 0x1"), None);
    let code = assemble(".mv 0x3ffff", 0).unwrap();
    assert_eq!(disassemble(&code).unwrap()[0].bundle.ops(), [op]);
    // Bits of a known operation are the operation.
    assert_eq!(Op::parse(".alu 0x0").unwrap().to_string(), "nopx");
}

proptest! {
    #[test]
    fn what_is_decoded_encodes_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 16)) {
        if let Ok(bundle) = Bundle::decode(&bytes, 0) {
            let again = bundle.encode();
            prop_assert_eq!(&again[..], &bytes[..bundle.byte_len()]);
            let text = bundle.to_string();
            prop_assert_eq!(assemble(&text, 0).unwrap(), again, "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,80}") {
        let _ = assemble(&text, 0);
    }

    #[test]
    fn text_near_operations_is_read_or_refused(
        words in proptest::collection::vec(
            prop_oneof![
                Just("vmac"), Just("dm0,"), Just("x0,"), Just("r0"), Just("[p0],"), Just("#64"), Just(";"),
                Just("@a"), Just(":"), Just("$d"), Just("lda.2d"), Just("\n"), Just(".full"), Just("é"),
            ],
            0..12,
        ),
    ) {
        let _ = assemble(&words.join(" "), u32::MAX);
    }
}
