//! The outside of a SPIR-V module: header, lengths of instructions, the one entry point. What the
//! instructions do is as trusted as native code.
//!
//! Numbers are those of the SPIR-V specification 1.6, sections 2.3, 3.3, 3.6 and 3.49.5.

use crate::PlanError;

const MAGIC: u32 = 0x0723_0203;
/// 1.6, and the universal limit of ids (section 2.17).
const VERSION_LIMIT: u32 = 0x0001_0600;
const BOUND_LIMIT: u32 = 0x3f_ffff;
const OP_ENTRY_POINT: u32 = 15;
const OP_EXECUTION_MODE: u32 = 16;
const OP_FUNCTION_END: u32 = 56;
const MODEL_GL_COMPUTE: u32 = 5;
const MODE_LOCAL_SIZE: u32 = 17;

/// Checks the bytes of a module whose workgroups have `[workgroup, 1, 1]` invocations.
pub(super) fn module(place: &str, bytes: &[u8], workgroup: u32) -> Result<(), PlanError> {
    let words: Vec<u32> = bytes.chunks_exact(4).map(word).collect();
    let wrong = |what: &str, expected: &str, found: String| {
        PlanError::malformed(format!("{what} of {place}"), expected, found)
    };
    let [magic, version, _, bound, schema, code @ ..] = words.as_slice() else {
        return Err(wrong("header", "five words", format!("{}", words.len())));
    };
    if *magic != MAGIC {
        return Err(wrong("magic", "0x07230203", format!("{magic:#010x}")));
    }
    if *version & 0xff00_00ff != 0 || !(0x0001_0000..=VERSION_LIMIT).contains(version) {
        return Err(wrong("SPIR-V version", "1.0 to 1.6", format!("{version:#010x}")));
    }
    if !(1..=BOUND_LIMIT).contains(bound) {
        let expected = format!("1..={BOUND_LIMIT}");
        return Err(wrong("bound of ids", &expected, bound.to_string()));
    }
    if *schema != 0 {
        return Err(wrong("schema", "0", schema.to_string()));
    }
    let (mut entries, mut sizes, mut last) = (Vec::new(), Vec::new(), 0);
    for instruction in (Instructions { rest: code }) {
        let Some([first, operands @ ..]) = instruction else {
            return Err(wrong("instructions", "lengths that fill the module", "others".into()));
        };
        last = first & 0xffff;
        match (last, operands) {
            (OP_ENTRY_POINT, operands) => entries.push(operands),
            (OP_EXECUTION_MODE, [_, MODE_LOCAL_SIZE, size @ ..]) => sizes.push(size),
            _ => {}
        }
    }
    if last != OP_FUNCTION_END {
        return Err(wrong("end", "the end of a function", format!("instruction {last}")));
    }
    match entries.as_slice() {
        [[MODEL_GL_COMPUTE, _, name @ ..]] if is_main(name) => {}
        found => {
            let found = format!("{} entry points, or another one", found.len());
            return Err(wrong("entry points", "one for GLCompute with the name main", found));
        }
    }
    if sizes != [&[workgroup, 1, 1]] {
        let expected = format!("[[{workgroup}, 1, 1]]");
        return Err(wrong("local size", &expected, format!("{sizes:?}")));
    }
    Ok(())
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[i]))
}

/// Whether a literal string is `main`: its bytes and the zero after them.
fn is_main(name: &[u32]) -> bool {
    name.starts_with(&[u32::from_le_bytes(*b"main"), 0])
}

/// Instructions one after the other; `None` for one whose length is wrong, which is the last.
struct Instructions<'a> {
    rest: &'a [u32],
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Option<&'a [u32]>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = (self.rest.first()? >> 16) as usize;
        if length == 0 || length > self.rest.len() {
            self.rest = &[];
            return Some(None);
        }
        let (instruction, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Some(instruction))
    }
}
