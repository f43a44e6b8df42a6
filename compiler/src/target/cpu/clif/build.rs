//! Compiling functions for one machine, and small builders shared by all of them.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Function, InstBuilder, MemFlagsData, SourceLoc, Value, types};
use cranelift_codegen::isa::{self, CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Final, MachSrcLoc};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use target_lexicon::Triple;

use crate::error::CompileError;

/// CPU features that x86-64 code may use, by `is_x86_feature_detected!` name, and Cranelift's
/// settings for them: the x86-64-v3 level.
const X86_FEATURES: &[(&str, &[&str])] = &[
    ("sse4.2", &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_cmpxchg16b"]),
    ("popcnt", &["has_popcnt"]),
    ("avx", &["has_avx"]),
    ("avx2", &["has_avx2"]),
    ("fma", &["has_fma"]),
    ("bmi1", &["has_bmi1"]),
    ("bmi2", &["has_bmi2"]),
    ("lzcnt", &["has_lzcnt"]),
];

/// Code of a function.
pub struct Code {
    pub bytes: Vec<u8>,
    /// What its parts were made for, ascending.
    pub places: Vec<Place>,
}

/// Bytes of a function between two marks that the generator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub start: u32,
    pub end: u32,
    pub mark: u32,
}

/// Marks the code that follows, see [`Place`].
pub fn mark(b: &mut FunctionBuilder<'_>, mark: u32) {
    b.set_srcloc(SourceLoc::new(mark));
}

/// A code generator for one instruction set.
pub struct Machine {
    isa: OwnedTargetIsa,
    context: FunctionBuilderContext,
}

impl Machine {
    /// For `x86_64` or `aarch64`, by Rust's `std::env::consts::ARCH` names.
    pub fn new(architecture: &str) -> Result<Self, CompileError> {
        let error = |reason: String| CompileError::Target { target: architecture.into(), reason };
        let name = format!("{architecture}-unknown-linux-gnu");
        let triple: Triple = name.parse().map_err(|_| error("unknown architecture".into()))?;
        let mut flags = settings::builder();
        for (key, value) in [("opt_level", "speed"), ("enable_verifier", "true")] {
            flags.set(key, value).map_err(|e| error(e.to_string()))?;
        }
        let mut builder = isa::lookup(triple).map_err(|e| error(e.to_string()))?;
        if architecture == "x86_64" {
            for setting in X86_FEATURES.iter().flat_map(|(_, settings)| *settings) {
                builder.enable(setting).map_err(|e| error(e.to_string()))?;
            }
        }
        let isa = builder.finish(settings::Flags::new(flags)).map_err(|e| error(e.to_string()))?;
        Ok(Self { isa, context: FunctionBuilderContext::new() })
    }

    /// CPU features the receiving machine must have.
    pub fn required_features(&self) -> Vec<String> {
        match self.isa.triple().architecture {
            target_lexicon::Architecture::X86_64 => {
                X86_FEATURES.iter().map(|(name, _)| (*name).to_owned()).collect()
            }
            _ => Vec::new(),
        }
    }

    pub fn call_conv(&self) -> CallConv {
        self.isa.default_call_conv()
    }

    /// Compiles the function that `body` builds. `name` is for errors.
    ///
    /// # Errors
    /// When Cranelift cannot compile it, or its code needs a relocation: a bug of the generator.
    pub fn compile(
        &mut self,
        name: &str,
        signature: ir::Signature,
        body: impl FnOnce(&mut FunctionBuilder<'_>, &[Value]),
    ) -> Result<Code, CompileError> {
        let error = |reason: String| CompileError::Codegen { function: name.into(), reason };
        let mut function = Function::with_name_signature(ir::UserFuncName::default(), signature);
        let mut b = FunctionBuilder::new(&mut function, &mut self.context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params = b.block_params(entry).to_vec();
        body(&mut b, &params);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(self.isa.frontend_config());
        let mut context = Context::for_function(function);
        let compiled = context
            .compile(self.isa.as_ref(), &mut ControlPlane::default())
            .map_err(|e| error(format!("{:?}", e.inner)))?;
        if compiled.buffer.relocs().is_empty() {
            let sources = compiled.buffer.get_srclocs_sorted().iter();
            let marked = sources.filter(|source| !source.loc.is_default());
            let place = |source: &MachSrcLoc<Final>| Place {
                start: source.start,
                end: source.end,
                mark: source.loc.bits(),
            };
            Ok(Code { bytes: compiled.code_buffer().to_vec(), places: marked.map(place).collect() })
        } else {
            Err(error("the code needs a relocation".into()))
        }
    }
}

/// Accesses never trap: the runtime checked every buffer against the plan.
pub fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// `for i in (start..end).step_by(step)`, all i64.
pub fn for_range(
    b: &mut FunctionBuilder<'_>,
    (start, end): (Value, Value),
    step: i64,
    mut body: impl FnMut(&mut FunctionBuilder<'_>, Value),
) {
    let header = b.create_block();
    let inner = b.create_block();
    let exit = b.create_block();
    b.append_block_param(header, types::I64);
    b.ins().jump(header, &[start.into()]);
    b.switch_to_block(header);
    let i = b.block_params(header)[0];
    let more = b.ins().icmp(IntCC::SignedLessThan, i, end);
    b.ins().brif(more, inner, &[], exit, &[]);
    b.switch_to_block(inner);
    body(b, i);
    let next = b.ins().iadd_imm_s(i, step);
    b.ins().jump(header, &[next.into()]);
    b.switch_to_block(exit);
}

pub fn int(b: &mut FunctionBuilder<'_>, value: usize) -> Value {
    let value = i64::try_from(value).expect("offsets fit i64");
    b.ins().iconst(types::I64, value)
}

/// `base + index * scale`
pub fn indexed(b: &mut FunctionBuilder<'_>, base: Value, index: Value, scale: usize) -> Value {
    let scale = i64::try_from(scale).expect("strides fit i64");
    let offset = b.ins().imul_imm_s(index, scale);
    b.ins().iadd(base, offset)
}

/// `base + bytes`
pub fn offset(b: &mut FunctionBuilder<'_>, base: Value, bytes: usize) -> Value {
    let bytes = i64::try_from(bytes).expect("offsets fit i64");
    if bytes == 0 { base } else { b.ins().iadd_imm_s(base, bytes) }
}

/// Four copies of a constant.
pub fn splat(b: &mut FunctionBuilder<'_>, value: f32) -> Value {
    let scalar = b.ins().f32const(value);
    b.ins().splat(types::F32X4, scalar)
}

/// Reinterprets the 16 bytes of a vector.
pub fn cast(b: &mut FunctionBuilder<'_>, ty: ir::Type, value: Value) -> Value {
    let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
    b.ins().bitcast(ty, flags, value)
}
