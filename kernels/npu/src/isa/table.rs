//! The operations of the core, a row each.
//!
//! A row is slot, text and bits; `Pattern::new` says how bits are written. `@` in text and bits
//! stands for the six ways to address memory (`@x4`: offsets in steps of 4 bytes), `%` for the four
//! ways to move a pointer. Rows are those that matrix kernels of the Peano compiler and of this
//! project use, and the ones that are most frequent in other compiled programs; what else the core can do stays undecoded, see [`super::Op::Unknown`].

use std::sync::LazyLock;

use super::Slot::{self, Alu, Lda, Ldb, Lng, Mv, St, Vec as Mul};
use super::pattern::Pattern;

/// Every form of every operation.
pub(super) fn patterns() -> &'static [Pattern] {
    static PATTERNS: LazyLock<Vec<Pattern>> =
        LazyLock::new(|| ROWS.iter().flat_map(expand).collect());
    &PATTERNS
}

/// The [forms](super::Instruction::form) of all operations, each with its slot.
pub fn forms() -> impl Iterator<Item = (Slot, &'static str)> {
    patterns().iter().map(|pattern| (pattern.slot, pattern.syntax.as_str()))
}

type Row = (Slot, &'static str, &'static str);

/// Ways to address memory: what is added to the mnemonic, the text, the bits but for the step.
const ADDRESSES: [(&str, &str, &str); 6] = [
    ("", "[$p, #$imm]", "p.p i4STEP.imm 01"),
    ("", "[$p], #$imm", "p.p i4STEP.imm 11"),
    ("", "[$p, $dj]", "p.p dj.dj 000"),
    ("", "[$p], $m", "p.p m.m 010"),
    (".2d", "[$p], $mod", "p.p d.mod 100"),
    (".3d", "[$p], $mod", "p.p ?1 d3.mod 110"),
];

/// Ways to move a pointer, likewise.
const MOVES: [(&str, &str, &str); 4] = [
    ("", "[$p], #$imm", "p.p i4x64.imm 11"),
    ("", "[$p], $m", "p.p m.m 010"),
    (".2d", "[$p], $mod", "p.p d.mod 100"),
    (".3d", "[$p], $mod", "p.p ?1 d3.mod 110"),
];

fn expand(row: &Row) -> Vec<Pattern> {
    let (slot, text, layout) = *row;
    let one = |ways: &[(&str, &str, &str)], mark: char| {
        let (bits_of_way, rest) = layout.split_once(' ').unwrap_or((layout, ""));
        let step = &bits_of_way[1..];
        let form = |(suffix, address, bits): &(&str, &str, &str)| {
            let text = text.replacen(mark, suffix, 1).replacen(mark, address, 1);
            let layout = format!("{} {rest}", bits.replace("STEP", step));
            Pattern::new(slot, &text, &layout)
        };
        ways.iter().map(form).collect()
    };
    match layout.as_bytes()[0] {
        b'@' => one(&ADDRESSES, '@'),
        b'%' => one(&MOVES, '%'),
        _ => vec![Pattern::new(slot, text, layout)],
    }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Scalar unit.
    (Alu, "nopx", "?5 000 ?4 0 000 0000"),
    (Alu, "add $d, $s0, $s1", "r.s0 r.d r.s1 0000 1"),
    (Alu, "sub $d, $s0, $s1", "r.s0 r.d r.s1 0001 1"),
    (Alu, "adc $d, $s0, $s1", "r.s0 r.d r.s1 0010 1"),
    (Alu, "sbc $d, $s0, $s1", "r.s0 r.d r.s1 0011 1"),
    (Alu, "and $d, $s0, $s1", "r.s0 r.d r.s1 0100 1"),
    (Alu, "or $d, $s0, $s1", "r.s0 r.d r.s1 0101 1"),
    (Alu, "xor $d, $s0, $s1", "r.s0 r.d r.s1 0110 1"),
    (Alu, "eq $d, $s0, $s1", "r.s0 r.d r.s1 0111 1"),
    (Alu, "ne $d, $s0, $s1", "r.s0 r.d r.s1 1000 1"),
    (Alu, "ge $d, $s0, $s1", "r.s0 r.d r.s1 1001 1"),
    (Alu, "lt $d, $s0, $s1", "r.s0 r.d r.s1 1010 1"),
    (Alu, "geu $d, $s0, $s1", "r.s0 r.d r.s1 1011 1"),
    (Alu, "ltu $d, $s0, $s1", "r.s0 r.d r.s1 1100 1"),
    (Alu, "lshl $d, $s0, $s1", "r.s0 r.d r.s1 1101 1"),
    (Alu, "ashl $d, $s0, $s1", "r.s0 r.d r.s1 1110 1"),
    (Alu, "add $d, $s0, #$imm", "r.s0 r.d i7.imm 110"),
    (Alu, "clb $d, $s0", "r.s0 r.d 0000 10 0000"),
    (Alu, "clz $d, $s0", "r.s0 r.d 0001 10 0000"),
    (Alu, "extend.s8 $d, $s0", "r.s0 r.d 0010 10 0000"),
    (Alu, "extend.s16 $d, $s0", "r.s0 r.d 0011 10 0000"),
    (Alu, "extend.u8 $d, $s0", "r.s0 r.d 0100 10 0000"),
    (Alu, "extend.u16 $d, $s0", "r.s0 r.d 0101 10 0000"),
    (Alu, "eqz $d, $s0", "r.s0 r.d 0110 10 0000"),
    (Alu, "nez $d, $s0", "r.s0 r.d 0111 10 0000"),
    (Alu, "abs $d, $s0", "r.s0 r.d 1000 10 0000"),
    (Alu, "popcount $d, $s0", "r.s0 r.d 1001 10 0000"),
    (Alu, "mul $d, $s0, $s1", "r.s0 r.d r.s1 1 1111"),
    (Alu, "mac $d, $d, $s0, $s1", "r.s0 r.d r.s1 0 1100"),
    (Alu, "msc $d, $d, $s0, $s1", "r.s0 r.d r.s1 1 1100"),
    (Alu, "divs $d, r31, $s0, $s1", "r.s0 r.d r.s1 1 1000"),
    (Alu, "sel.eqz $d, $s0, $s1, r27", "r.s0 r.d r.s1 0 0100"),
    (Alu, "sel.nez $d, $s0, $s1, r27", "r.s0 r.d r.s1 1 0100"),
    (Alu, "acq #$id, $s", "u6.id 0 ?1 01 r.s 1 0000"),
    (Alu, "acq $id, $s", "r.id ?1 1 ?1 01 r.s 1 0000"),
    (Alu, "acq.cond #$id, $s, r26", "u6.id 0 ?1 11 r.s 1 0000"),
    (Alu, "acq.cond $id, $s, r26", "r.id ?1 1 ?1 11 r.s 1 0000"),
    (Alu, "rel #$id, $s", "u6.id 0 ?1 00 r.s 1 0000"),
    (Alu, "rel $id, $s", "r.id ?1 1 ?1 00 r.s 1 0000"),
    (Alu, "rel.cond #$id, $s, r26", "u6.id 0 ?1 10 r.s 1 0000"),
    (Alu, "rel.cond $id, $s, r26", "r.id ?1 1 ?1 10 r.s 1 0000"),
    (Alu, "movx $d, #$i", "i11.i[10:6] movx.d i11.i[5:0] 010"),
    (Alu, "movx $d, #$i", "u5.i 011 cr.d 000 0000"),
    (Alu, "movx $d, $s", "r.s 111 cr.d 000 0000"),
    (Alu, "done", "?5 001 ?5 000 0000"),
    (Alu, "event #0", "00 ?3 010 ?5 000 0000"),
    (Alu, "event #1", "01 ?3 010 ?5 000 0000"),
    (Alu, "event.warning", "10 ?3 010 ?5 000 0000"),
    (Alu, "event.error", "11 ?3 010 ?5 000 0000"),
    (Alu, "ret lr", "?5 101 ?5 000 0000"),
    (Alu, "j $a", "?5 100 ?2 p.a 000 0000"),
    (Alu, "jl $a", "?5 110 ?2 p.a 000 0000"),
    (Alu, "jnzd $d, $s0, $a", "r.s0 r.d p.a 100 0000"),

    // Long immediates.
    (Lng, "nopxm", "?39 000"),
    (Lng, "movxm $d, #$i", "i32.i[31:12] mvd.d i32.i[11:0] 001"),
    (Lng, "j #$i", "?5 u20.i ?14 010"),
    (Lng, "jl #$i", "?5 u20.i ?14 100"),
    (Lng, "jnz $s0, #$i", "r.s0 u20.i 1 ?13 110"),
    (Lng, "jz $s0, #$i", "r.s0 u20.i 0 ?13 110"),
    (Lng, "paddxm [sp], $m", "m.m ?10 1 ?25 111"),
    (Lng, "paddxm [sp], #$imm", "i13x64.imm 0 ?25 111"),

    // Moves.
    (Mv, "nopm", "?9 1101001010111"),
    (Mv, "mov $d, $s", "mvd.d mvs.s 00000111"),
    (Mv, "mov $d, #$i", "mvd.d i11.i 0101"),
    (Mv, "add.nc $d, $s0, #$imm", "mvd.d r.s0 i8.imm 00"),
    (Mv, "add.nc $d, $s0, $s1", "mvd.d r.s0 r.s1 01010"),
    (Mv, "vmov $d, $s", "bmx.d bmx.s 0010010111"),
    (Mv, "vmov $d, $s", "w.d 0 w.s 00100010111"),
    (Mv, "vmov $d, $s", "cm.d ?2 cm.s 010001010111"),
    (Mv, "vmov $d, $s", "ex.d ?2 ex.s ?2 1011100111"),
    (Mv, "vconv.fp32.bf16 $d, $s", "bm.d ?1 w.s 00110010111"),
    (Mv, "vconv.fp32.bf16 $d, $s", "cm.d ?2 x.s 110001010111"),
    (Mv, "vexp2 $d, $s", "w.d bm.s 0 11110010111"),
    (Mv, "vtanh $d, $s", "w.d bm.s 1 11110010111"),
    (Mv, "vups.2x $d, $s, $shift, upssign0", "bm.d ?1 w.s s.shift 0 10000111"),
    (Mv, "vups.2x $d, $s, $shift, upssign1", "bm.d ?1 w.s s.shift 1 10000111"),
    (Mv, "vups.2x $d, $s, $shift, upssign0", "cm.d ?2 x.s ?1 s.shift 0 11000111"),
    (Mv, "vups.2x $d, $s, $shift, upssign1", "cm.d ?2 x.s ?1 s.shift 1 11000111"),
    (Mv, "vups.4x $d, $s, $shift, upssign0", "cm.d ?2 w.s s.shift 0 01000111"),
    (Mv, "vups.4x $d, $s, $shift, upssign1", "cm.d ?2 w.s s.shift 1 01000111"),
    (Mv, "vups.4x $d, $s, $shift, upssign0", "dm.d ?3 x.s ?1 s.shift 0 00100111"),
    (Mv, "vups.4x $d, $s, $shift, upssign1", "dm.d ?3 x.s ?1 s.shift 1 00100111"),
    (Mv, "vshuffle $d, $s1, $s2, $c", "x.d x.s1 x.s2 r.c 00011"),
    (Mv, "vshuffle $d, $s1, $s2, $c", "bms.d x.s1 x.s2 r.c 01110"),
    (Mv, "vshift $d, $s1, $s2, $c", "x.d x.s1 x.s2 r.c 10110"),
    (Mv, "vadd.8 $d, $s1, $s2", "x.d x.s1 x.s2 0001101011"),
    (Mv, "vadd.16 $d, $s1, $s2", "x.d x.s1 x.s2 0011101011"),
    (Mv, "vadd.32 $d, $s1, $s2", "x.d x.s1 x.s2 0101101011"),
    (Mv, "vsub.8 $d, $s1, $s2", "x.d x.s1 x.s2 1001101011"),
    (Mv, "vsub.16 $d, $s1, $s2", "x.d x.s1 x.s2 1011101011"),
    (Mv, "vsub.32 $d, $s1, $s2", "x.d x.s1 x.s2 1101101011"),
    (Mv, "vband $d, $s1, $s2", "x.d x.s1 x.s2 0101011011"),
    (Mv, "vbor $d, $s1, $s2", "x.d x.s1 x.s2 1101011011"),
    (Mv, "vmax_lt.8 $d, r17:r16, $s1, $s2, vaddsign0", "x.d x.s1 x.s2 10 100 0 0010"),
    (Mv, "vmax_lt.8 $d, r17:r16, $s1, $s2, vaddsign1", "x.d x.s1 x.s2 10 100 1 0010"),
    (Mv, "vmax_lt.16 $d, r16, $s1, $s2, vaddsign0", "x.d x.s1 x.s2 01 100 0 0010"),
    (Mv, "vmax_lt.16 $d, r16, $s1, $s2, vaddsign1", "x.d x.s1 x.s2 01 100 1 0010"),
    (Mv, "vmax_lt.32 $d, r16, $s1, $s2, vaddsign0", "x.d x.s1 x.s2 00 100 0 0010"),
    (Mv, "vmax_lt.32 $d, r16, $s1, $s2, vaddsign1", "x.d x.s1 x.s2 00 100 1 0010"),
    (Mv, "vmax_lt.bf16 $d, r16, $s1, $s2", "x.d x.s1 x.s2 1 101100111"),
    (Mv, "vmin_ge.8 $d, r17:r16, $s1, $s2, vaddsign0", "x.d x.s1 x.s2 10 011 0 0010"),
    (Mv, "vmin_ge.8 $d, r17:r16, $s1, $s2, vaddsign1", "x.d x.s1 x.s2 10 011 1 0010"),
    (Mv, "vmin_ge.16 $d, r16, $s1, $s2, vaddsign0", "x.d x.s1 x.s2 01 011 0 0010"),
    (Mv, "vmin_ge.16 $d, r16, $s1, $s2, vaddsign1", "x.d x.s1 x.s2 01 011 1 0010"),
    (Mv, "vmin_ge.32 $d, r16, $s1, $s2, vaddsign0", "x.d x.s1 x.s2 00 011 0 0010"),
    (Mv, "vmin_ge.32 $d, r16, $s1, $s2, vaddsign1", "x.d x.s1 x.s2 00 011 1 0010"),
    (Mv, "vmin_ge.bf16 $d, r16, $s1, $s2", "x.d x.s1 x.s2 0 101100111"),
    (Mv, "vbcst.8 $d, $s", "x.d r.s 0001110010111"),
    (Mv, "vbcst.16 $d, $s", "x.d r.s 0101110010111"),
    (Mv, "vbcst.32 $d, $s", "x.d r.s 1001110010111"),
    (Mv, "mov.d1 $d, $s", "r.d 00 mvs.s 0 0101011"),
    (Mv, "mov.d2 $d, $s", "r.d 00 mvs.s 1 0101011"),
    (Mv, "mov.d3 $d, $s", "r.d 01 mvs.s 0 0101011"),
    (Mv, "mov.d4 $d, $s", "r.d 01 mvs.s 1 0101011"),
    (Mv, "mov.d5 $d, $s", "r.d 10 mvs.s 0 0101011"),
    (Mv, "mov.d6 $d, $s", "r.d 10 mvs.s 1 0101011"),

    // Load unit A.
    (Lda, "nopa", "?10 1011001111"),
    (Lda, "lda@ $d, @", "@x4 mem.d 1101"),
    (Lda, "lda $d, [sp, #$imm]", "b9x4.imm mem.d 0010"),
    (Lda, "lda@.s8 $d, @", "@x1 r.d 00 0101"),
    (Lda, "lda@.u8 $d, @", "@x1 r.d 01 0101"),
    (Lda, "lda@.s16 $d, @", "@x2 r.d 10 0101"),
    (Lda, "lda@.u16 $d, @", "@x2 r.d 11 0101"),
    (Lda, "lda.tm@ $d, @", "@x4 r.d 100111"),
    (Lda, "st@.s8 $s, @", "@x1 r.s 0 01110"),
    (Lda, "st@.s16 $s, @", "@x2 r.s 1 01110"),
    (Lda, "mova $d, #$i", "i11.i mova.d 00"),
    (Lda, "mov $d, ss", "0 ?8 r.d 000111"),
    (Lda, "mov.nb $d, ss", "1 ?8 r.d 000111"),
    (Lda, "padda% %", "% ?1 0011001111"),
    (Lda, "vlda@ $d, @", "@x64 x.d 0110111"),
    (Lda, "vlda@ $d, @", "@x64 bm.d 101011"),
    (Lda, "vlda@ $d, @", "@x32 w.d 110011"),
    (Lda, "vlda@.conv.fp32.bf16 $d, @", "@x32 bm.d 010011"),
    (Lda, "vlda@.conv.fp32.bf16 $d, @", "@x64 cm.d 1010111"),
    (Lda, "vlda@.ups.2x $d, $shift, upssign0, @", "@x32 bm.d s.shift 0 001"),
    (Lda, "vlda@.ups.2x $d, $shift, upssign1, @", "@x32 bm.d s.shift 1 001"),
    (Lda, "vlda@.ups.2x $d, $shift, upssign0, @", "@x64 cm.d s.shift 0 0110"),
    (Lda, "vlda@.ups.2x $d, $shift, upssign1, @", "@x64 cm.d s.shift 1 0110"),
    (Lda, "vlda@.ups.4x $d, $shift, upssign0, @", "@x32 cm.d s.shift 0 1010"),
    (Lda, "vlda@.ups.4x $d, $shift, upssign1, @", "@x32 cm.d s.shift 1 1010"),
    (Lda, "vlda@.ups.4x $d, $shift, upssign0, @", "@x64 dm.d s.shift 0 11110"),
    (Lda, "vlda@.ups.4x $d, $shift, upssign1, @", "@x64 dm.d s.shift 1 11110"),
    (Lda, "vlda $d, [sp, #$imm]", "b9x64.imm x.d 1110111"),
    (Lda, "vlda $d, [sp, #$imm]", "b9x64.imm bm.d 011011"),
    (Lda, "vlda $d, [sp, #$imm]", "b9x32.imm w.d 001011"),

    // Load unit B.
    (Ldb, "nopb", "?7 000000 ?1 100"),
    (Ldb, "paddb% %", "% 11100100"),
    (Ldb, "vldb@ $d, @", "@x64 x.d 1101"),
    (Ldb, "vldb@ $d, @", "@x32 w.d 001"),

    // Store unit.
    (St, "nops", "?10 1010110110"),
    (St, "st@ $s, @", "@x4 mem.s 0011"),
    (St, "st $s, [sp, #$imm]", "b9x4.imm mem.s 1011"),
    (St, "st.tm@ $s, @", "@x4 r.s 111101"),
    (St, "movs $d, $s", "movsd.d movss.s 0010110"),
    (St, "mov ms, $s", "000 101 ?3 ms.s 0100"),
    (St, "mov.tlast ms, $s", "001 101 ?3 ms.s 0100"),
    (St, "mov.nb ms, $s", "100 101 ?3 ms.s 0100"),
    (St, "mov.nb.tlast ms, $s", "101 101 ?3 ms.s 0100"),
    (St, "padds% %", "% ?1 0010110110"),
    (St, "vst@ $s, @", "@x64 x.s 0100110"),
    (St, "vst@ $s, @", "@x64 bm.s 001101"),
    (St, "vst@ $s, @", "@x32 w.s 010101"),
    (St, "vst $s, [sp, #$imm]", "b9x64.imm x.s 1100110"),
    (St, "vst $s, [sp, #$imm]", "b9x64.imm bm.s 101101"),
    (St, "vst $s, [sp, #$imm]", "b9x32.imm w.s 110101"),
    (St, "vst@.conv.bf16.fp32 $s, @", "@x64 cm.s 1000110"),
    (St, "vst@.pack $s, packsign0, @", "@x32 x.s 0 000101"),
    (St, "vst@.pack $s, packsign1, @", "@x32 x.s 1 000101"),
    (St, "vst@.pack $s, packsign0, @", "@x64 y.s ?1 0 011101"),
    (St, "vst@.pack $s, packsign1, @", "@x64 y.s ?1 1 011101"),
    (St, "vst@.srs.2x $s, $shift, srssign0, @", "@x32 bm.s s.shift 0 001"),
    (St, "vst@.srs.2x $s, $shift, srssign1, @", "@x32 bm.s s.shift 1 001"),
    (St, "vst@.srs.2x $s, $shift, srssign0, @", "@x64 cm.s 1 s.shift 0 000"),
    (St, "vst@.srs.2x $s, $shift, srssign1, @", "@x64 cm.s 1 s.shift 1 000"),
    (St, "vst@.srs.4x $s, $shift, srssign0, @", "@x32 cm.s 0 s.shift 0 000"),
    (St, "vst@.srs.4x $s, $shift, srssign1, @", "@x32 cm.s 0 s.shift 1 000"),
    (St, "vst@.srs.4x $s, $shift, srssign0, @", "@x64 dm.s ?2 s.shift 0 010"),
    (St, "vst@.srs.4x $s, $shift, srssign1, @", "@x64 dm.s ?2 s.shift 1 010"),

    (St, "vconv.bf16.fp32 $d, $s", "w.d 0000 bm.s 1 01100"),
    (St, "vconv.bf16.fp32 $d, $s", "x.d ?1 0100 cm.s ?1 1 01100"),
    (St, "vconv.bfp16ebs16.ebs8 $d, $s", "ex.d ?1 0010 ex.s 0 1 01100"),
    (St, "vconv.bfp16ebs16.fp32 $d, $s", "ex.d ?1 0010 dm.s 11 1 01100"),
    (St, "vconv.bfp16ebs8.fp32 $d, $s", "ex.d ?1 0010 dm.s 01 1 01100"),

    // Accumulators.
    (Mul, "nopv", "?15 0000 111 00 00"),
    (Mul, "vmov.d $d, $s", "?5 dm.d dm.s ?4 0000 111 01 00"),
    (Mul, "vadd $d, $a, $b, $c", "r.c dm.d dm.a dm.b 000 0111101 00"),
    (Mul, "vadd.f $d, $a, $b, $c", "r.c dm.d dm.a dm.b 000 0111101 01"),
    (Mul, "vsub $d, $a, $b, $c", "r.c dm.d dm.a dm.b ?4 1111 11 ?1 0"),
    (Mul, "vsub.f $d, $a, $b, $c", "r.c dm.d dm.a dm.b ?4 1111 11 ?1 1"),
    (Mul, "vclr $d", "?5 dm.d 111 ?4 0000 111 01 00"),
    (Mul, "vmac.f $d, $a, $s1, $s2, $c", "r.c dm.d dm.a x.s1 x.s2 000 0 1 ?1 1"),
    (Mul, "vmac.f $d, $a, $s1, $s2, $c", "r.c dm.d dm.a y.s1 ?1 y.s2 ?1 100 0 1 ?1 1"),
    (Mul, "vmac.f $d, $a, $s1, $s2, $c", "r.c dm.d dm.a ex.s1 ex.s2 010 0 1 ?1 1"),
    (Mul, "vmac $d, $a, $s1, $s2, $c", "r.c dm.d dm.a x.s1 x.s2 000 0 1 ?1 0"),
    (Mul, "vmul.f $d, $s1, $s2, $c", "r.c dm.d 111 x.s1 x.s2 000 0 1 ?1 1"),
    (Mul, "vmul $d, $s1, $s2, $c", "r.c dm.d 111 x.s1 x.s2 000 0 1 ?1 0"),
];

#[cfg(test)]
mod tests {
    use super::patterns;
    use crate::isa::{Instruction, Operand};

    /// Fillings of a pattern's free bits, the same on every run.
    fn fillings(free: u64) -> impl Iterator<Item = u64> {
        let mut state = 0x243f_6a88_85a3_08d3u64;
        (0..400).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 20) & free
        })
    }

    #[test]
    fn every_row_is_one_operation_one_number_one_text() {
        for pattern in patterns() {
            let free = !pattern.mask & ((1 << pattern.slot.width()) - 1);
            let mut met = 0;
            for bits in fillings(free).map(|filling| pattern.value | filling) {
                let Some(operands) = pattern.decode(bits) else { continue };
                met += 1;
                assert_eq!(pattern.encode(&operands), Some(bits), "{}", pattern.syntax);
                let instruction = Instruction::decode(pattern.slot, bits).expect("of this row");
                assert_eq!(instruction.form(), pattern.syntax, "{bits:#x} is of two rows");
                assert_eq!(instruction.bits(), bits);
                let text = instruction.to_string();
                assert_eq!(Instruction::parse(&text), Some(instruction), "{text}");
            }
            assert!(met > 0, "no number is of `{}`", pattern.syntax);
        }
    }

    #[test]
    fn operands_of_the_wrong_kind_or_number_are_refused() {
        for pattern in patterns().iter().filter(|pattern| !pattern.fields.is_empty()) {
            assert_eq!(pattern.encode(&[]), None, "{}", pattern.syntax);
            let far = vec![Operand::Immediate(1 << 40); pattern.fields.len()];
            assert_eq!(pattern.encode(&far), None, "{}", pattern.syntax);
        }
    }
}
