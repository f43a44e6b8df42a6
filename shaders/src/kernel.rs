//! A kernel as WGSL, and the builder that puts one together.

use std::fmt::Write;

use onebit_ir::rows::ArgId;
use onebit_plan::gpu::{GpuSlot, IMMEDIATE_BYTES, binding};

/// What a word of a kernel's immediates says. The compiler fills it in for each dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// First 16-byte word of a weight matrix in the window of its binding.
    Weights { binding: u32 },
    /// First word of what an argument of a row program is bound to: in the arena, the logits or
    /// the vectors for floats, in 16-byte words of the arena for records. `program` counts the
    /// kernel's row programs, in the order that its builder documents.
    Arg { program: usize, arg: ArgId },
    /// First 16-byte word of the activations' records in the arena.
    Records,
    /// First word of a product's input floats in the arena.
    Floats,
    /// First 16-byte word of the weights that are read ahead, in the window of their binding.
    Next,
    /// First word of attention's partial results in the arena, a multiple of 4.
    Partials,
    /// First word of result `index` in its binding; 16-byte words for records.
    Out { index: usize },
}

/// A kernel in WGSL, with what a dispatch of it binds.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Says kind and shape; equal names stand for equal kernels.
    pub name: String,
    pub wgsl: String,
    /// Invocations of a workgroup: `[x, 1, 1]`.
    pub workgroup: u32,
    /// Ascending by binding.
    pub slots: Vec<GpuSlot>,
    /// One for each word.
    pub immediates: Vec<Immediate>,
    /// What it was printed from, for additions.
    source: Source,
}

/// 16-byte words between two that are read ahead: a sector of 32 bytes is the least that caches
/// fetch from memory.
const AHEAD_STRIDE: u32 = 2;
/// Loads that an invocation has under way at once when it reads ahead.
const AHEAD_LOADS: u32 = 4;

impl Kernel {
    /// The kernel with workgroups behind its own that bring the first `words` 16-byte words of
    /// [`binding::NEXT`], from [`Immediate::Next`] on, into the device's cache: weights that the
    /// next dispatch will read. `groups` are its own workgroups; returns those to dispatch.
    ///
    /// # Panics
    /// With workgroups more than one deep.
    pub fn looking_ahead(self, groups: [u32; 3], words: u32) -> (Self, [u32; 3]) {
        let [x, y, 1] = groups else { panic!("the kernel has no depth to spare") };
        let Self { name, workgroup, mut source, .. } = self;
        let next = source.read(binding::NEXT);
        let base = source.immediate(Immediate::Next);
        let arena = source.write(binding::ARENA);
        let (reads, layer) = (words.div_ceil(AHEAD_STRIDE), x * y * workgroup);
        let layers = reads.div_ceil(AHEAD_LOADS * layer);
        // All loads are under way before the first is waited for. Those behind the last are of it.
        let load = |i: u32| {
            let at = format!("min(i + {}u, {}u)", i * layers * layer, reads - 1);
            format!("let seen{i} = {next}[{base} + {at} * {AHEAD_STRIDE}u].x;\n")
        };
        let loads: String = (0..AHEAD_LOADS).map(load).collect();
        let seen: Vec<String> = (0..AHEAD_LOADS).map(|i| format!("seen{i}")).collect();
        // Nobody reads word 0 of the arena. That it may be written is what keeps the loads.
        let text = format!(
            "if (group.z > 0u) {{
let i = (((group.z - 1u) * {y}u + group.y) * {x}u + group.x) * {workgroup}u + lane;
{loads}if (({}) == 0xa5c3e187u) {{ {arena}[0] = i; }}
return;
}}
",
            seen.join(" | ")
        );
        source.body.insert_str(0, &text);
        let name = format!("{name}-ahead{words}x{}", x * y);
        (source.finish(name, workgroup), [x, y, 1 + layers])
    }
}

/// A kernel while it is written.
///
/// The entry point has `group: vec3<u32>` (workgroup), `lane: u32` (invocation in the workgroup),
/// `lanes: u32` (subgroup size) and `sub: u32` (subgroup in the workgroup); immediates are fields
/// of `p`. `WORKGROUP` is the number of invocations. Invocations of a subgroup follow each other:
/// `lane == sub * lanes + subgroup_invocation_id`, which full subgroups of a one-dimensional
/// workgroup have on every driver known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    requires: Vec<&'static str>,
    slots: Vec<GpuSlot>,
    immediates: Vec<Immediate>,
    declarations: Vec<String>,
    body: String,
}

/// Name and type of each binding in WGSL.
const BINDINGS: [(&str, &str); binding::COUNT as usize] = [
    ("weights", "array<vec4<u32>>"),
    ("second", "array<vec4<u32>>"),
    ("vectors", "array<f32>"),
    ("arena", "array<u32>"),
    ("records", "array<vec4<u32>>"),
    ("cache", "array<vec4<u32>>"),
    ("step", "array<u32>"),
    ("logits", "array<f32>"),
    ("rope", "array<f32>"),
    ("next", "array<vec4<u32>>"),
];

impl Source {
    /// Name of the WGSL variable at `number`; declares it.
    pub fn read(&mut self, number: u32) -> &'static str {
        self.slot(number, false)
    }

    /// As [`Source::read`], for a binding that is written, too.
    pub fn write(&mut self, number: u32) -> &'static str {
        self.slot(number, true)
    }

    fn slot(&mut self, number: u32, writes: bool) -> &'static str {
        match self.slots.iter_mut().find(|slot| slot.binding == number) {
            Some(slot) => slot.writes |= writes,
            None => self.slots.push(GpuSlot { binding: number, writes }),
        }
        BINDINGS[number as usize].0
    }

    /// The WGSL expression of an immediate, a `u32`.
    ///
    /// # Panics
    /// With more immediates than every device has: a builder asked for too many.
    pub fn immediate(&mut self, immediate: Immediate) -> String {
        let known = self.immediates.iter().position(|&known| known == immediate);
        let index = known.unwrap_or_else(|| {
            self.immediates.push(immediate);
            self.immediates.len() - 1
        });
        assert!(index < IMMEDIATE_BYTES / 4, "a kernel has too many immediates");
        format!("p.w{index}")
    }

    /// Adds a declaration of module scope, once.
    pub fn declare(&mut self, declaration: impl Into<String>) {
        let declaration = declaration.into();
        if !self.declarations.contains(&declaration) {
            self.declarations.push(declaration);
        }
    }

    /// Asks for a WGSL extension: `enable f16;` and the like, once.
    pub fn require(&mut self, directive: &'static str) {
        if !self.requires.contains(&directive) {
            self.requires.push(directive);
        }
    }

    /// Adds statements to the entry point.
    pub fn line(&mut self, statements: impl AsRef<str>) {
        self.body.push_str(statements.as_ref());
        self.body.push('\n');
    }

    /// The finished kernel.
    pub fn finish(mut self, name: String, workgroup: u32) -> Kernel {
        self.slots.sort_by_key(|slot| slot.binding);
        let wgsl = self.wgsl(workgroup).expect("writing to a string cannot fail");
        let (slots, immediates) = (self.slots.clone(), self.immediates.clone());
        Kernel { name, wgsl, workgroup, slots, immediates, source: self }
    }

    fn wgsl(&self, workgroup: u32) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        for directive in &self.requires {
            writeln!(out, "{directive}")?;
        }
        for slot in &self.slots {
            let (name, ty) = BINDINGS[slot.binding as usize];
            let access = if slot.writes { "read_write" } else { "read" };
            let number = slot.binding;
            writeln!(out, "@group(0) @binding({number}) var<storage, {access}> {name}: {ty};")?;
        }
        if !self.immediates.is_empty() {
            writeln!(out, "struct Immediates {{")?;
            for index in 0..self.immediates.len() {
                writeln!(out, "    w{index}: u32,")?;
            }
            writeln!(out, "}}\nvar<immediate> p: Immediates;")?;
        }
        writeln!(out, "const WORKGROUP: u32 = {workgroup}u;")?;
        for declaration in &self.declarations {
            writeln!(out, "{declaration}")?;
        }
        writeln!(
            out,
            "@compute @workgroup_size({workgroup})\nfn main(\n    @builtin(workgroup_id) group: vec3<u32>,\n    \
             @builtin(local_invocation_index) lane: u32,\n    @builtin(subgroup_size) lanes: u32,\n    \
             @builtin(subgroup_id) sub: u32,\n) {{\n{}}}",
            self.body
        )?;
        Ok(out)
    }
}
