//! The token with the largest logit of each output, and the step buffer's advance to the next
//! token: two dispatches.
//!
//! Logits compare as integers: a key grows with the number, both zeros have one key, and what is
//! no number has key 0, below that of -inf. So no driver's way with NaN matters.

use onebit_plan::gpu::{GPU_AHEAD, GPU_ROWS, binding, step};

use crate::kernel::{Immediate, Kernel, Source};

/// Invocations of a workgroup: eight for each row of the largest step.
const WORKGROUP: u32 = 8 * GPU_ROWS as u32;
/// Logits of a workgroup.
const CHUNK: u32 = 2048;

/// Chunks of a row of logits.
fn chunks(vocabulary: u32) -> u32 {
    vocabulary.div_ceil(CHUNK)
}

/// Bytes that [`candidates`] leaves in the arena: key and token, `u32[rows][chunks][2]`.
pub fn candidate_bytes(vocabulary: u32, rows: u32) -> u64 {
    u64::from(rows) * u64::from(chunks(vocabulary)) * 8
}

/// Workgroups of [`candidates`].
pub fn candidate_groups(vocabulary: u32, rows: u32) -> [u32; 3] {
    [chunks(vocabulary), rows, 1]
}

/// The best of each chunk of each output's logits, to `Out { index: 0 }` in the arena.
pub fn candidates(vocabulary: u32) -> Kernel {
    let mut source = Source::default();
    let logits = source.read(binding::LOGITS);
    let arena = source.write(binding::ARENA);
    let step = source.read(binding::STEP);
    let out = source.immediate(Immediate::Out { index: 0 });
    declare(&mut source);
    source.declare(format!("var<workgroup> bests: array<vec2<u32>, {}>;", WORKGROUP / 8));
    let (each, count) = (CHUNK / WORKGROUP, chunks(vocabulary));
    source.line(format!(
        "if group.y >= {step}[{}] {{ return; }}
var best = vec2<u32>(0u, 0xffffffffu);",
        step::OUTPUT_ROWS
    ));
    for i in 0..each {
        source.line(format!(
            "{{
    let token = group.x * {CHUNK}u + {}u + lane;
    let logit = {logits}[group.y * {vocabulary}u + min(token, {}u)];
    best = better(best, vec2<u32>(select(0u, key(logit), token < {vocabulary}u), token));
}}",
            i * WORKGROUP,
            vocabulary - 1
        ));
    }
    source.line(format!(
        "best = best_of_eight(best);
if (lane & 7u) == 0u {{ bests[lane / 8u] = best; }}
workgroupBarrier();
if lane < 8u {{
    best = bests[lane];
    for (var i = lane + 8u; i < {}u; i += 8u) {{ best = better(best, bests[i]); }}
    best = best_of_eight(best);
    if lane == 0u {{
        let at = {out} + (group.y * {count}u + group.x) * 2u;
        {arena}[at] = best.x;
        {arena}[at + 1u] = best.y;
    }}
}}",
        WORKGROUP / 8
    ));
    source.finish(format!("candidates-{vocabulary}"), WORKGROUP)
}

/// The best of the candidates, which `Immediate::Partials` has the first word of, to the step
/// buffer: the pick, the next token and position of the output's row, and the cycle. A row that
/// has no pick goes on with token 0. Dispatch one workgroup.
pub fn winners(vocabulary: u32) -> Kernel {
    let mut source = Source::default();
    let arena = source.read(binding::ARENA);
    let step = source.write(binding::STEP);
    let from = source.immediate(Immediate::Partials);
    declare(&mut source);
    let count = chunks(vocabulary);
    let (tokens, positions, picks) = (step::TOKENS, step::POSITIONS, step::PICKS);
    let (outputs, rows, cycle) = (step::OUTPUTS, step::OUTPUT_ROWS, step::CYCLE);
    source.line(format!(
        "let output = lane / 8u;
let cycle = {step}[{cycle}];
let live = output < {step}[{rows}];
var best = vec2<u32>(0u, 0xffffffffu);
if live {{
    for (var c = lane & 7u; c < {count}u; c += 8u) {{
        let at = {from} + (output * {count}u + c) * 2u;
        best = better(best, vec2<u32>({arena}[at], {arena}[at + 1u]));
    }}
}}
best = best_of_eight(best);
workgroupBarrier();
if live && (lane & 7u) == 0u {{
    let row = {step}[{outputs}u + output];
    {step}[{picks}u + cycle % {GPU_AHEAD}u * {GPU_ROWS}u + output] = best.y;
    {step}[{tokens}u + row] = select(best.y, 0u, best.x == 0u);
    {step}[{positions}u + row] += 1u;
}}
if lane == 0u {{ {step}[{cycle}] = cycle + 1u; }}"
    ));
    source.finish(format!("winners-{vocabulary}"), WORKGROUP)
}

/// Declares candidates: pairs of key and token.
fn declare(source: &mut Source) {
    source.declare(
        "fn key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let magnitude = bits & 0x7fffffffu;
    let ordered = select(bits ^ 0x80000000u, ~bits, bits > 0x80000000u);
    return select(select(ordered, 0x80000000u, magnitude == 0u), 0u, magnitude > 0x7f800000u);
}
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let second = b.x > a.x || (b.x == a.x && b.y < a.y && b.x > 0u);
    return select(a, b, second);
}
fn best_of_eight(mine: vec2<u32>) -> vec2<u32> {
    var best = mine;
    best = better(best, subgroupShuffleXor(best, 1u));
    best = better(best, subgroupShuffleXor(best, 2u));
    best = better(best, subgroupShuffleXor(best, 4u));
    return best;
}",
    );
}
