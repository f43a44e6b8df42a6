//! Keys and values into the cache.

use onebit_plan::gpu::binding;

use super::{
    AttentionError, Operand, Shape, check, declare_bases, declare_row, fingerprint, form, operand,
};
use crate::kernel::{Kernel, Source};

/// Invocations of a workgroup.
const WORKGROUP: u32 = 64;

/// Writes the keys and values of all rows of a step. Dispatch `[kv_heads, rows, 1]` workgroups.
///
/// Programs of the kernel: 1 is `k`, 2 is `v`; an operand of floats has the argument 0.
///
/// # Errors
/// Shapes and programs that the kernel cannot have.
pub fn cache_write(
    shape: &Shape,
    k: Operand<'_>,
    v: Operand<'_>,
) -> Result<Kernel, AttentionError> {
    check(shape)?;
    let mut source = Source::default();
    let operands =
        [operand::keys(shape).bring(k, WORKGROUP)?, operand::values(shape).bring(v, WORKGROUP)?];
    source.line("let row = group.y;\nlet kv = group.x;");
    operands.iter().for_each(|operand| operand.read(&mut source));
    declare_row(&mut source);
    declare_bases(&mut source, shape);
    operands.iter().for_each(|operand| operand.read_rotation(&mut source));
    operands.iter().for_each(|operand| operand.emit(&mut source));
    form::quantise(&mut source, shape);
    store(&mut source, shape);
    let Shape { kv_heads, key_dim, value_dim, .. } = shape;
    let digest = fingerprint(&format!("{shape:?} {k:?} {v:?}"));
    let name = format!("cache-{kv_heads}x{key_dim}x{value_dim}-{digest:016x}");
    Ok(source.finish(name, WORKGROUP))
}

/// Stores the row's own key and value, after [`form::quantise`].
pub fn store(source: &mut Source, shape: &Shape) {
    let cache = source.write(binding::CACHE);
    for (letter, base, dim) in [("k", "keys", shape.key_dim), ("v", "values", shape.value_dim)] {
        let of_row = form::record_words(shape, dim);
        let word = form::own_word(source, shape, letter, dim);
        source.line(format!(
            "for (var w = lane; w < {of_row}u; w += WORKGROUP) {{
    {cache}[{base} + position * {of_row}u + w] = {word};
}}"
        ));
    }
}
