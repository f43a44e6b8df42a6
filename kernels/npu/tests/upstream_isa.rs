//! Encodings that llvm-aie's tests expect of its assembler, as facts with their file.
//!
//! Files are relative to llvm-aie's `llvm/test/CodeGen/AIE/aie2p/BinaryOutput/`. Each line is the
//! bytes of one instruction word and its text as `llvm-objdump` prints it. A line is checked both
//! ways: the bytes read as the text, the text assembles to the bytes.

use onebit_aie::isa::{Bundle, Op, assemble, disassemble};

#[rustfmt::skip]
const EXPECTED: &[(&str, &[(&str, &str)])] = &[
    ("abs.mir", &[("18 10 c1 16", "abs r0, r27"), ("18 10 ad 14", "abs r22, r18")]),
    ("acq.mir", &[
        ("18 08 07 10", "acq.cond #0, r16, r26"),
        ("18 f8 c6 17", "acq.cond #62, r15, r26"),
        ("18 d8 d6 17", "acq.cond r31, r13, r26"),
        ("18 28 96 16", "acq.cond r26, r2, r26"),
        ("18 f8 23 10", "acq #1, r31"),
        ("18 08 e3 17", "acq #63, r16"),
        ("18 68 53 13", "acq r13, r22"),
        ("18 58 13 12", "acq r8, r21"),
    ]),
    ("add.mir", &[
        ("18 80 e9 1b", "add.nc srssign0, r19, #0"),
        ("98 00 96 1f", "add.nc r30, r12, #1"),
        ("98 3f 2c 1a", "add.nc srfpcnvfl2fx, r24, #127"),
        ("18 c0 fd 1c", "add.nc sp, r27, #-128"),
        ("18 80 ca 18", "add.nc dc0, r21, #0"),
        ("18 40 74 1d", "add.nc lc, r8, #-128"),
        ("18 c0 4f 1c", "add.nc dn4, r31, #-128"),
        ("18 40 0d 1a", "add.nc m2, r26, #-128"),
        ("18 80 79 1b", "add.nc le, r19, #0"),
        ("58 09 97 18", "add.nc r2, r14, r2"),
        ("58 39 2b 1d", "add.nc srms0, r22, r14"),
        ("18 07 30 16", "add r24, r24, #1"),
        ("18 ff 32 14", "add r25, r16, #63"),
        ("18 03 d7 17", "add r11, r31, #-64"),
        ("98 70 d3 15", "add r9, r23, r23"),
        ("98 00 07 17", "add r3, r28, r16"),
    ]),
    ("ashl.mir", &[
        ("98 0e b7 16", "ashl r27, r26, r16"),
        ("98 1e d4 12", "ashl r10, r11, r1"),
    ]),
    ("clz.mir", &[("18 30 28 13", "clz r20, r12"), ("18 30 7c 15", "clz r30, r21")]),
    ("done.mir", &[("18 00 08 10", "done")]),
    ("extend.mir", &[
        ("18 90 a6 17", "extend.u8 r19, r30"),
        ("18 90 80 10", "extend.u8 r0, r2"),
        ("18 70 ee 13", "extend.s16 r23, r15"),
    ]),
    ("j.mir", &[
        ("18 00 20 10", "j p0"),
        ("18 c0 21 10", "j p7"),
        ("84 00 80 ff ff 07", "j #1048575"),
        ("84 00 00 ff ff 07", "j #1048574"),
    ]),
    ("jl.mir", &[
        ("18 80 30 10", "jl p2"),
        ("04 01 80 ff ff 07", "jl #1048575"),
        ("04 01 00 00 00 00", "jl #0"),
    ]),
    ("jnz.mir", &[
        ("84 01 40 ff ff 17", "jnz r2, #1048574"),
        ("84 01 c0 00 00 a8", "jnz r21, #1"),
        ("84 01 40 00 00 f8", "jnz r31, #0"),
    ]),
    ("lda.mir", &[
        ("98 1a 28 06", "lda.u16 r0, [p6], m1"),
        ("98 1a 8d 06", "lda.u16 r8, [p6], #-16"),
        ("98 fa 7c 04", "lda.u16 r7, [p4], #14"),
        ("98 2a 43 01", "lda.u8 r25, [p1, dj2]"),
        ("98 8a e2 03", "lda.u8 r20, [p3, dj7]"),
        ("98 8a 16 06", "lda.u8 r20, [p6, #1]"),
        ("98 2a 75 01", "lda.u8 r9, [p1, #7]"),
        ("98 ca 87 00", "lda.u8 r30, [p0, #-8]"),
        ("98 6a c8 06", "lda.u8 r3, [p6], m6"),
        ("98 0a 8f 07", "lda.u8 r24, [p7], #-8"),
    ]),
    ("lt.mir", &[("98 0a f1 17", "lt r24, r31, r16"), ("98 ca f6 11", "lt r27, r7, r12")]),
    ("ltu.mir", &[
        ("98 fc ac 16", "ltu r22, r26, r15"),
        ("98 1c cc 10", "ltu r6, r3, r1"),
    ]),
    ("mac.mir", &[
        ("18 36 0e 17", "mac r7, r7, r28, r3"),
        ("18 86 f6 16", "mac r27, r27, r27, r8"),
    ]),
    ("mov.mir", &[
        ("b8 00 f8 1c", "mov sp, #-1024"),
        ("b8 fe 17 1a", "mov r8, #1023"),
        ("b8 fe 77 1b", "mov le, #1023"),
        ("b8 00 f8 18", "mov ls, #-1024"),
        ("b8 fe 67 1f", "mov p7, #1023"),
        ("b8 00 e0 18", "mov s0, #0"),
        ("b8 00 b0 19", "mov crfpnlfmask, #0"),
    ]),
    ("mova.mir", &[
        ("18 88 00 00", "mova r17, #0"),
        ("18 5c 01 00", "mova dc2, #1"),
        ("18 00 ff 03", "mova r0, #1023"),
        ("18 7a 01 00", "mova p3, #1"),
        ("18 d4 ff 03", "mova dj6, #1023"),
        ("18 24 00 04", "mova m1, #-1024"),
        ("18 ac 01 00", "mova dn5, #1"),
        ("18 2a 00 00", "mova lc, #0"),
    ]),
    ("movs.mir", &[
        ("18 0b 1b 0e", "movs dc6, r27"),
        ("18 4b 67 0f", "movs m7, m1"),
        ("18 4b 10 0b", "movs dc3, dc4"),
        ("18 8b 0c 0d", "movs dc5, p3"),
        ("18 4b 02 0a", "movs dc2, dn0"),
        ("18 4b 69 09", "movs m1, dj2"),
        ("18 4b 99 09", "movs p1, dj6"),
    ]),
    ("movx.mir", &[
        ("18 fd ce 13", "movx r7, #1023"),
        ("18 01 1c 14", "movx r14, #-1024"),
        ("18 fd c1 13", "movx lc, #1023"),
        ("18 00 59 10", "movx crf2imask, #1"),
        ("18 40 9c 17", "movx packsign1, #30"),
        ("18 c0 de 17", "movx crscden, #31"),
        ("18 80 9b 17", "movx crsat, #30"),
        ("18 00 1b 10", "movx crsrsmode, #0"),
        ("18 c0 78 10", "movx srssign0, r1"),
        ("18 80 3a 17", "movx crrnd, r28"),
        ("18 c0 fd 17", "movx unpacksign1, r31"),
    ]),
    ("movxm.mir", &[
        ("44 00 20 0d 00 80", "movxm r26, #-2147483648"),
        ("44 02 a0 0d 00 00", "movxm r27, #1"),
        ("44 00 60 09 00 00", "movxm crfpcnvfl2fxmask, #0"),
        ("44 fe 1f ff ff 7f", "movxm dj7, #2147483647"),
        ("44 00 e0 01 00 00", "movxm ls, #0"),
        ("44 fe ff f4 ff 7f", "movxm crsat, #2147483647"),
        ("44 00 c0 02 00 80", "movxm p1, #-2147483648"),
        ("44 00 e0 0e 00 80", "movxm lr, #-2147483648"),
        ("44 00 c0 05 00 80", "movxm s1, #-2147483648"),
    ]),
    ("mul.mir", &[("98 ff c6 10", "mul r3, r3, r15"), ("98 5f 51 17", "mul r8, r29, r21")]),
    ("ne.mir", &[("98 38 bd 13", "ne r30, r14, r19"), ("98 88 03 16", "ne r1, r24, r24")]),
    ("or.mir", &[("98 b5 8c 12", "or r6, r10, r11"), ("98 85 8a 14", "or r5, r18, r8")]),
    ("padda.mir", &[
        ("98 67 30 07", "padda.2d [p7], d1"),
        ("98 67 58 02", "padda.3d [p2], d2"),
        ("98 67 88 04", "padda [p4], m4"),
        ("98 67 8c 06", "padda [p6], #-512"),
        ("98 67 7c 05", "padda [p5], #448"),
    ]),
    ("paddb.mir", &[
        ("18 90 6b 3c", "paddb [p4], m3"),
        ("18 90 8b 38", "paddb [p0], m4"),
    ]),
    ("padds.mir", &[
        ("18 5b 90 0c", "padds.2d [p4], d4"),
        ("18 5b 38 0a", "padds.3d [p2], d1"),
        ("18 5b 68 0c", "padds [p4], m3"),
        ("18 5b 8c 0d", "padds [p5], #-512"),
    ]),
    ("paddxm.mir", &[
        ("c4 01 00 00 04 60", "paddxm [sp], m3"),
        ("c4 01 00 00 00 80", "paddxm [sp], #-262144"),
        ("c4 01 00 00 f8 7f", "paddxm [sp], #262080"),
    ]),
    ("rel.mir", &[
        ("18 f8 d4 15", "rel.cond r23, r15, r26"),
        ("18 a8 e0 17", "rel #63, r10"),
        ("18 e8 20 10", "rel #1, r14"),
        ("18 58 10 16", "rel r24, r5"),
    ]),
    ("ret.mir", &[("18 00 28 10", "ret lr")]),
    ("sel.mir", &[
        ("18 7a 2d 12", "sel.nez r22, r8, r23, r27"),
        ("18 9a 03 11", "sel.nez r1, r4, r25, r27"),
    ]),
    ("st.mir", &[
        ("98 be 59 0a", "st.tm.3d r13, [p2], d2"),
        ("98 9e 80 09", "st.tm r4, [p1, dj4]"),
        ("98 fe 74 0b", "st.tm r7, [p3, #28]"),
        ("98 be 28 0f", "st.tm r5, [p7], m1"),
        ("98 1e 7f 0e", "st.tm r24, [p6], #28"),
        ("98 09 62 0d", "st eh8, [p5, dj3]"),
        ("98 41 03 0f", "st dj6, [p7, dj0]"),
        ("98 e1 21 0a", "st dc3, [p2, dj1]"),
        ("98 a9 81 09", "st el6, [p1, dj4]"),
        ("98 39 a0 0b", "st lr, [p3, dj5]"),
        ("98 19 74 09", "st p0, [p1, #28]"),
        ("98 b1 07 0a", "st r29, [p2, #0]"),
        ("98 91 eb 08", "st r28, [p0], m7"),
    ]),
    ("vadd.mir", &[
        ("78 9d 23 1a", "vadd.16 x4, x4, x7"),
        ("78 1d 30 1d", "vadd.16 x10, x6, x0"),
        ("78 ad 5b 1a", "vadd.32 x4, x11, x7"),
        ("78 0d 08 1a", "vadd.8 x4, x1, x0"),
        ("08 3d 30 ab", "vadd dm3, dm1, dm4, r21"),
        ("08 3d 0c 92", "vadd dm2, dm0, dm3, r18"),
        ("48 3d 84 5b", "vadd.f dm3, dm4, dm1, r11"),
        ("48 3d 50 bc", "vadd.f dm4, dm2, dm4, r23"),
    ]),
    ("vband.mir", &[
        ("78 2b 32 1b", "vband x6, x6, x4"),
        ("78 ab 5c 19", "vband x2, x11, x9"),
    ]),
    ("vbcst.mir", &[
        ("f8 72 14 1a", "vbcst.8 x4, r5"),
        ("f8 72 f5 18", "vbcst.16 x1, r29"),
        ("f8 72 86 18", "vbcst.32 x1, r1"),
        ("f8 72 56 18", "vbcst.32 x0, r21"),
    ]),
    ("vclr.mir", &[
        ("08 1d e0 03", "vclr dm3"),
        ("08 1d e0 04", "vclr dm4"),
    ]),
    ("vlda.mir", &[
        ("98 f9 76 02", "vlda wl11, [p2, #224]"),
        ("98 45 06 00", "vlda wh9, [sp, #-16352]"),
        ("98 35 81 04", "vlda bmlh2, [p4, dj4]"),
        ("98 55 06 03", "vlda bmhl4, [p3, #0]"),
        ("98 75 28 03", "vlda bmhh0, [p3], m1"),
        ("98 b5 8c 06", "vlda bmlh1, [p6], #-512"),
        ("98 cd 01 00", "vlda bmhl3, [sp, #-32768]"),
        ("98 5b 41 02", "vlda x5, [p2, dj2]"),
        ("98 1b 75 00", "vlda x4, [p0, #448]"),
        ("98 db 28 01", "vlda x3, [p1], m1"),
        ("98 9b 1d 06", "vlda x6, [p6], #64"),
        ("98 fb fa 07", "vlda x11, [sp, #-128]"),
    ]),
    ("vldb.mir", &[
        ("18 74 c0 3c", "vldb x1, [p4, dj6]"),
        ("18 b4 16 3d", "vldb x10, [p5, #64]"),
        ("18 f4 84 3a", "vldb x3, [p2, #-512]"),
        ("18 f4 8a 38", "vldb x11, [p0], m4"),
        ("18 74 8e 3e", "vldb x9, [p6], #-512"),
        ("18 84 0a 3d", "vldb wh10, [p5], m0"),
        ("18 04 8e 3e", "vldb wh8, [p6], #-256"),
    ]),
    ("vmac.mir", &[
        ("08 41 0c 4a", "vmac dm2, dm0, x6, x2, r9"),
        ("08 01 46 b4", "vmac dm4, dm2, x3, x0, r22"),
        ("08 c1 56 f4", "vmac dm4, dm2, x11, x6, r30"),
        ("48 81 86 42", "vmac.f dm2, dm4, x3, x4, r8"),
        ("48 d1 84 5c", "vmac.f dm4, dm4, y1, y3, r11"),
        ("48 51 91 44", "vmac.f dm4, dm4, y4, y5, r8"),
        ("48 11 54 a2", "vmac.f dm2, dm2, y5, y0, r20"),
        ("48 69 56 b1", "vmac.f dm1, dm2, ex11, ex3, r22"),
        ("48 09 01 e2", "vmac.f dm2, dm0, ex0, ex8, r28"),
        ("48 49 75 4c", "vmac.f dm4, dm3, ex10, ex10, r9"),
    ]),
    ("vmov.mir", &[
        ("08 1d 60 01", "vmov.d dm1, dm3"),
        ("08 1d 20 04", "vmov.d dm4, dm1"),
        ("f8 8a 92 1a", "vmov cmh2, cmh4"),
        ("f8 8a 06 1b", "vmov cml3, cmh1"),
        ("f8 22 90 19", "vmov wh3, wh8"),
        ("f8 22 05 19", "vmov wh2, wl2"),
        ("f8 22 55 1b", "vmov wl6, wl10"),
        ("f8 12 ce 19", "vmov bmhh1, bmhl3"),
        ("f8 92 b0 18", "vmov x1, x8"),
        ("f8 12 25 18", "vmov x0, bmlh1"),
        ("f8 92 14 1c", "vmov bmll4, x10"),
        ("f8 5c 04 1b", "vmov ex6, ex2"),
        ("f8 5c 96 1a", "vmov ex5, ex11"),
        ("f8 92 39 19", "vmov x2, sfh"),
        ("f8 92 72 19", "vmov lfl0, x9"),
        ("f8 92 6c 1c", "vmov lfh1, x6"),
        ("f8 92 8d 1b", "vmov bmhl3, sfl"),
        ("f8 12 71 1a", "vmov lfe, bmlh4"),
        ("f8 92 d5 1b", "vmov bmhh3, lfl1"),
        ("f8 12 69 1b", "vmov sfl, bmlh2"),
        ("f8 92 61 1d", "vmov lfl1, lfh0"),
        ("f8 12 73 1e", "vmov sfh, bmhh4"),
        ("f8 92 51 18", "vmov bmlh0, lfh1"),
        ("f8 92 c9 18", "vmov bmhh0, lfe"),
        ("f8 92 62 18", "vmov lfh0, x1"),
    ]),
    ("vmul.mir", &[
        ("08 21 ec 4c", "vmul dm4, x6, x1, r9"),
        ("08 81 f4 41", "vmul dm1, x10, x4, r8"),
        ("48 c1 f4 3a", "vmul.f dm2, x10, x6, r7"),
    ]),
    ("vshift.mir", &[
        ("d8 5a 9b 19", "vshift x3, x3, x6, r22"),
        ("d8 02 00 1b", "vshift x6, x0, x0, r0"),
    ]),
    ("vshuffle.mir", &[
        ("d8 39 54 19", "vshuffle bmhl0, x10, x8, r14"),
        ("d8 a9 32 1e", "vshuffle bmll3, x6, x5, r10"),
        ("78 38 20 18", "vshuffle x0, x4, x0, r14"),
        ("78 f8 34 1d", "vshuffle x10, x6, x9, r30"),
    ]),
    ("vst.mir", &[
        ("18 05 1e 0d", "vst.srs.4x dm4, s0, srssign1, [p5], #64"),
        ("18 15 8d 0a", "vst.srs.4x dm2, s2, srssign1, [p2], #-512"),
        ("98 0a 22 0b", "vst wh8, [p3, dj1]"),
        ("98 aa 84 0b", "vst wl2, [p3, #-256]"),
        ("98 9a 06 08", "vst wh10, [sp, #-16352]"),
        ("98 06 40 0d", "vst bmll0, [p5, dj2]"),
        ("98 c6 14 0b", "vst bmhl1, [p3, #64]"),
        ("98 46 6a 09", "vst bmhl4, [p1], m3"),
        ("98 a6 7c 09", "vst bmlh1, [p1], #448"),
        ("98 b6 04 08", "vst bmlh1, [sp, #-32704]"),
        ("18 13 22 09", "vst x8, [p1, dj1]"),
        ("18 d3 04 0f", "vst x3, [p7, #0]"),
        ("18 d3 69 0a", "vst x7, [p2], m3"),
        ("18 13 1e 0e", "vst x8, [p6], #64"),
        ("18 f3 fd 0f", "vst x7, [sp, #-64]"),
    ]),
    ("vconv.mir", &[
        ("18 96 40 09", "vconv.bf16.fp32 wl2, bmll1"),
        ("18 36 01 0a", "vconv.bf16.fp32 wh4, bmlh2"),
        ("18 f6 81 0d", "vconv.bf16.fp32 wh11, bmhh3"),
        ("18 56 41 0b", "vconv.bf16.fp32 wl6, bmhl2"),
        ("18 56 12 0d", "vconv.bf16.fp32 x10, cmh4"),
        ("18 96 90 08", "vconv.bf16.fp32 x1, cml1"),
        ("18 d6 90 0d", "vconv.bf16.fp32 x11, cmh1"),
        ("18 96 89 09", "vconv.bfp16ebs16.ebs8 ex3, ex6"),
        ("18 d6 0a 0d", "vconv.bfp16ebs16.ebs8 ex10, ex11"),
        ("18 76 0a 0b", "vconv.bfp16ebs16.fp32 ex6, dm4"),
        ("18 76 88 0d", "vconv.bfp16ebs16.fp32 ex11, dm0"),
        ("18 b6 08 0d", "vconv.bfp16ebs8.fp32 ex10, dm1"),
        ("18 36 8a 0a", "vconv.bfp16ebs8.fp32 ex5, dm4"),
        ("f8 32 17 18", "vconv.fp32.bf16 bmll0, wl11"),
        ("f8 32 d4 19", "vconv.fp32.bf16 bmhh1, wh10"),
        ("f8 32 8b 1c", "vconv.fp32.bf16 bmhl4, wl5"),
        ("f8 8a 8f 1c", "vconv.fp32.bf16 cmh4, x7"),
        ("f8 8a 0d 18", "vconv.fp32.bf16 cml0, x6"),
        ("f8 8a 97 18", "vconv.fp32.bf16 cmh0, x11"),
    ]),
    ("vlda-conv.mir", &[
        ("98 89 04 00", "vlda.conv.fp32.bf16 bmll1, [p0, #0]"),
        ("98 89 35 02", "vlda.conv.fp32.bf16 bmll3, [p2, #96]"),
        ("98 09 c5 05", "vlda.conv.fp32.bf16 bmll2, [p5, #-128]"),
        ("98 c9 60 06", "vlda.conv.fp32.bf16 bmhl1, [p6, dj3]"),
        ("98 09 8a 04", "vlda.conv.fp32.bf16 bmll4, [p4], m4"),
        ("98 09 8e 07", "vlda.conv.fp32.bf16 bmll4, [p7], #-256"),
        ("98 e9 90 01", "vlda.2d.conv.fp32.bf16 bmhh1, [p1], d4"),
        ("98 69 79 04", "vlda.3d.conv.fp32.bf16 bmhh2, [p4], d3"),
        ("98 ab 35 02", "vlda.conv.fp32.bf16 cml3, [p2, #192]"),
        ("98 eb 60 06", "vlda.conv.fp32.bf16 cmh1, [p6, dj3]"),
        ("98 2b 8a 04", "vlda.conv.fp32.bf16 cml4, [p4], m4"),
        ("98 eb 7d 03", "vlda.conv.fp32.bf16 cmh3, [p3], #448"),
        ("98 2b 90 01", "vlda.2d.conv.fp32.bf16 cml0, [p1], d4"),
        ("98 6b 78 04", "vlda.3d.conv.fp32.bf16 cmh0, [p4], d3"),
    ]),
    ("vexp2.mir", &[
        ("f8 f2 50 1b", "vexp2 wl6, bmll2"),
        ("f8 f2 92 1d", "vexp2 wh11, bmlh2"),
        ("f8 f2 a6 1a", "vexp2 wh5, bmhh4"),
    ]),
    ("vmax.mir", &[
        ("58 30 1a 1a", "vmax_lt.16 x4, r16, x3, x4, vaddsign0"),
        ("58 b2 45 1b", "vmax_lt.16 x6, r16, x8, x11, vaddsign1"),
        ("58 90 8c 1c", "vmax_lt.32 x9, r16, x1, x9, vaddsign0"),
        ("58 12 5d 19", "vmax_lt.32 x2, r16, x11, x10, vaddsign1"),
        ("58 50 9d 1d", "vmax_lt.8 x11, r17:r16, x3, x10, vaddsign0"),
        ("58 52 34 1d", "vmax_lt.8 x10, r17:r16, x6, x8, vaddsign1"),
        ("f8 ec 3a 18", "vmax_lt.bf16 x0, r16, x7, x5"),
        ("f8 6c 89 1d", "vmax_lt.bf16 x11, r16, x1, x2"),
    ]),
];

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
}

#[test]
fn bytes_read_as_upstream_prints_them() {
    for (file, lines) in EXPECTED {
        for (hex, text) in *lines {
            let bundle = Bundle::decode(&bytes(hex), 0).unwrap();
            assert!(matches!(bundle.ops(), [Op::Known(_)]), "{file}: {hex} is {bundle}");
            assert_eq!(bundle.to_string(), *text, "{file}: {hex}");
            assert_eq!(bundle.encode(), bytes(hex), "{file}: {text}");
        }
    }
}

#[test]
fn text_assembles_to_the_bytes_upstream_expects() {
    for (file, lines) in EXPECTED {
        for (hex, text) in *lines {
            assert_eq!(assemble(text, 0), Ok(bytes(hex)), "{file}: {text}");
        }
    }
}

/// Words of NOPs only: `nop.mir`, and `nopa.mir` to `nopxm.mir`. Upstream's checks leave the text
/// between the names open; here it is ours.
#[test]
fn nops_of_each_slot_and_of_several() {
    let cases = [
        ("98 67 01 00", "nopa"),
        ("18 10 00 38", "nopb"),
        ("18 5b 01 08", "nops"),
        ("18 00 00 10", "nopx"),
        ("f8 4a 03 18", "nopm"),
        ("08 1c 00 00", "nopv"),
        ("04 00 00 00 00 00", "nopxm"),
        ("00 00", "nop"),
        ("ba 00 00 00 00 00 00 f0 2c 00", "nopa; nopxm"),
        ("26 1c 00 00 8e ad 00 20 00 f0 2c 00", "nopa; nopb; nops; nopv"),
        ("26 1c 00 00 e2 4a 03 20 00 f0 2c 00", "nopa; nopb; nopm; nopv"),
        ("7e 60 2b 00 af 34 00 00 00 20 00 f0 2c 00", "nopa; nopb; nops; nopx; nopm"),
        ("e1 00 00 78 a5 01 00 00 00 5b 01 20 00 f0 2c 00", "nopa; nopb; nops; nopx; nopm; nopv"),
    ];
    for (hex, text) in cases {
        assert_eq!(Bundle::decode(&bytes(hex), 0).unwrap().to_string(), text);
        assert_eq!(assemble(text, 0), Ok(bytes(hex)), "{text}");
    }
}

#[test]
fn there_are_enough_of_them() {
    let lines: Vec<_> = EXPECTED.iter().flat_map(|(_, lines)| lines.iter()).collect();
    assert!(lines.len() >= 255, "{}", lines.len());
    let code: Vec<u8> = lines.iter().flat_map(|(hex, _)| bytes(hex)).collect();
    assert_eq!(disassemble(&code).unwrap().len(), lines.len());
}
