//! A plan without a model: its code says that each token is followed by the next id.

use std::mem::offset_of;
use std::path::{Path, PathBuf};

use onebit_plan::PlanWriter;
use onebit_plan::abi::StepContext;
use onebit_plan::manifest::{Entry, Manifest, Memory, ModelInfo, Region, Requirement, SegmentKind};
use onebit_plan::trust::{KeyId, TrustStore};
use onebit_test_support::bare_manifest;
use onebit_tokenizer::{RoleIds, TokenizerSpec, build, token_type};
use onebitc::sign::SecretKey;

/// ASCII from `!` to `~`, space, line break, `~~`, and `<|end|>` or, where nothing ends texts,
/// `~~~`: the tokenizer takes a control token of the former name for an end, whatever the roles.
pub const VOCABULARY: u32 = 98;
/// `<|end|>` or `~~~`
pub const END: u32 = 97;

/// Writes the plan, signed with a key that the folder `keys` beside it trusts. Without a token that ends texts, counting goes on from `!` for ever.
pub fn counting_plan(folder: &Path, context: u32, end: Option<u32>) -> PathBuf {
    let path = folder.join("counting.plan");
    let mut writer = PlanWriter::create(&path).unwrap();
    for (kind, bytes) in [
        (SegmentKind::CpuCode, code()),
        (SegmentKind::Tokenizer, tokenizer(end)),
        (SegmentKind::Weights, vec![1; 100]),
    ] {
        writer.begin_segment(kind).unwrap();
        writer.write(&bytes).unwrap();
        writer.end_segment().unwrap();
    }
    writer.finish_signed(manifest(context), Some(&key())).unwrap();
    TrustStore::new(folder.join("keys")).add(&key().public_key()).unwrap();
    path
}

/// The key that signs plans in tests.
pub fn key() -> SecretKey {
    SecretKey::from_seed(KeyId([7; 8]), [7; 32]).unwrap()
}

fn manifest(context: u32) -> Manifest {
    let entry =
        |name: &str, max_rows| Entry { name: name.into(), offset: 0, max_rows, ..Entry::default() };
    let bare = bare_manifest();
    Manifest {
        model: ModelInfo {
            name: "counting".into(),
            vocabulary: VOCABULARY,
            context,
            trained_context: context,
            layers: 0,
            ..bare.model
        },
        requirements: vec![Requirement::Architecture("x86_64".into())],
        memory: Memory { slots: 8, ..bare.memory },
        entries: vec![entry("step8", 8), entry("step1", 1)],
        regions: vec![Region {
            name: "@count".into(),
            target: "cpu".into(),
            ops: Vec::new(),
            weight_bytes: 100,
            macs: 0,
            reads: Vec::new(),
        }],
        ..bare
    }
}

fn tokenizer(end: Option<u32>) -> Vec<u8> {
    let ascii = ('!'..='~').map(String::from);
    let last = if end.is_some() { "<|end|>" } else { "~~~" };
    let others = ["\u{120}", "\u{10a}", "~~", last].map(String::from);
    let tokens: Vec<Vec<u8>> = ascii.chain(others).map(String::into_bytes).collect();
    let mut types = vec![token_type::NORMAL; tokens.len()];
    if end.is_some() {
        types[END as usize] = token_type::CONTROL;
    }
    build(&TokenizerSpec {
        model: "gpt2".into(),
        tokens,
        types,
        merges: vec![b"~ ~".to_vec()],
        roles: RoleIds { eos: end, ..RoleIds::default() },
        chat_template: Some(
            "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}a"
                .into(),
        ),
        ..TokenizerSpec::default()
    })
    .unwrap()
}

/// x86-64 code: the first thread gives every output row the logit 10 for the token after its own
/// (0 after the last) and 0 for all others.
fn code() -> Vec<u8> {
    const THREAD: u8 = offset_of!(StepContext, thread) as u8;
    const OUTPUT_ROWS: u8 = offset_of!(StepContext, output_rows) as u8;
    const OUTPUTS: u8 = offset_of!(StepContext, outputs) as u8;
    const TOKENS: u8 = offset_of!(StepContext, tokens) as u8;
    const LOGITS: u8 = offset_of!(StepContext, logits) as u8;
    #[rustfmt::skip]
    let mut code = vec![
        0x83, 0x7f, THREAD, 0x00,                       // cmp dword [rdi + thread], 0
        0x75, 0x4a,                                     // jne end
        0x44, 0x8b, 0x47, OUTPUT_ROWS,                  // mov r8d, [rdi + output_rows]
        0x48, 0x8b, 0x77, OUTPUTS,                      // mov rsi, [rdi + outputs]
        0x48, 0x8b, 0x57, TOKENS,                       // mov rdx, [rdi + tokens]
        0x4c, 0x8b, 0x4f, LOGITS,                       // mov r9, [rdi + logits]
        0x45, 0x85, 0xc0,                               // row: test r8d, r8d
        0x74, 0x35,                                     // je end
        0x8b, 0x06,                                     // mov eax, [rsi]
        0x48, 0x83, 0xc6, 0x04,                         // add rsi, 4
        0x44, 0x8b, 0x1c, 0x82,                         // mov r11d, [rdx + rax * 4]
        0x41, 0xff, 0xc3,                               // inc r11d
        0x41, 0x81, 0xfb, 0x00, 0x00, 0x00, 0x00,       // cmp r11d, vocabulary
        0x72, 0x03,                                     // jb inside
        0x45, 0x31, 0xdb,                               // xor r11d, r11d
        0x4c, 0x89, 0xcf,                               // inside: mov rdi, r9
        0xb9, 0x00, 0x00, 0x00, 0x00,                   // mov ecx, vocabulary
        0x31, 0xc0,                                     // xor eax, eax
        0xf3, 0xab,                                     // rep stosd
        0x43, 0xc7, 0x04, 0x99, 0x00, 0x00, 0x20, 0x41, // mov [r9 + r11 * 4], 10.0
        0x49, 0x89, 0xf9,                               // mov r9, rdi
        0x41, 0xff, 0xc8,                               // dec r8d
        0xeb, 0xc6,                                     // jmp row
        0xc3,                                           // end: ret
    ];
    for at in [0x2b, 0x38] {
        code[at..at + 4].copy_from_slice(&VOCABULARY.to_le_bytes());
    }
    code
}
