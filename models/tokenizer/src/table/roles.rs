//! Which tokens end a generation, and which types a model file got wrong.
//!
//! Model files often lack the ids of their end tokens, or mark them as ordinary text, so they are recognised by name.
//! The names and their order are those of llama.cpp's `llama_vocab::impl::load`, so that both stop at the same token.

use super::Kind;
use crate::spec::TokenizerSpec;
use std::collections::{BTreeSet, HashMap};

/// Texts that mark the end of a turn when the model file names no such token.
const END_OF_TURN: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// Texts that mark the end of a message when the model file names no such token.
const END_OF_MESSAGE: &[&str] = &["<|eom_id|>"];

/// Fill-in-the-middle markers that a model must not go past: padding, repository name, file separator.
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REPOSITORY: &[&str] =
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_SEPARATOR: &[&str] = &["<|file_sep|>"];

/// Fill-in-the-middle markers that only get their type corrected.
const FIM_MARKERS: &[&[&str]] = &[
    &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ],
    &[
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ],
    &[
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ],
];

/// Texts that end a generation wherever they occur.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Structure of the harmony format, which is shown to the reader.
const ALWAYS_SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Corrects `kinds` and returns the tokens that end a generation.
///
/// `ids` maps the text of every token to its id; `bos` and `eos` are already resolved.
pub(super) fn resolve(
    spec: &TokenizerSpec,
    ids: &HashMap<&[u8], u32>,
    eos: Option<u32>,
    kinds: &mut [Kind],
) -> BTreeSet<u32> {
    let mut roles = Roles { ids, kinds };
    let named = &spec.roles;
    let turn = named.eot.or_else(|| roles.mark_first(END_OF_TURN));
    let message = named.eom.or_else(|| roles.mark_first(END_OF_MESSAGE));
    for names in FIM_MARKERS {
        roles.mark_first(names);
    }
    let markers = [
        named.fim_pad.or_else(|| roles.mark_first(FIM_PAD)),
        named.fim_rep.or_else(|| roles.mark_first(FIM_REPOSITORY)),
        named.fim_sep.or_else(|| roles.mark_first(FIM_SEPARATOR)),
    ];
    let mut ends: BTreeSet<u32> = markers.into_iter().flatten().collect();
    for name in END_OF_GENERATION {
        ends.extend(roles.mark(name));
    }
    for name in ALWAYS_SHOWN {
        roles.set(name, Kind::USER_DEFINED);
    }
    ends.extend([eos, turn, message].into_iter().flatten());
    roles.unmark_continuations(&mut ends);
    ends
}

struct Roles<'a> {
    ids: &'a HashMap<&'a [u8], u32>,
    kinds: &'a mut [Kind],
}

impl Roles<'_> {
    fn id(&self, name: &str) -> Option<u32> {
        self.ids.get(name.as_bytes()).copied()
    }

    fn set(&mut self, name: &str, kind: Kind) {
        if let Some(slot) = self.id(name).and_then(|id| self.kinds.get_mut(id as usize)) {
            *slot = kind;
        }
    }

    /// Makes the token a control token, if there is one of this name.
    fn mark(&mut self, name: &str) -> Option<u32> {
        let id = self.id(name)?;
        let kind = self.kinds.get_mut(id as usize)?;
        *kind = kind.and(Kind::CONTROL);
        Some(id)
    }

    /// Marks the first of `names` that the vocabulary has.
    fn mark_first(&mut self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.mark(name))
    }

    /// Takes back ends that two families use inside a reply: `<|end|>` closes a channel where `<|return|>` (harmony) or
    /// `<|flush|>` (solar) closes the reply, and `</s>` is ordinary text beside `<|tool_response>` or `<|plamo:eos|>`.
    fn unmark_continuations(&mut self, ends: &mut BTreeSet<u32>) {
        let has = |name: &str| self.id(name).is_some_and(|id| ends.contains(&id));
        let call = has("<|call|>") || has("<|calls|>");
        let channels = has("<|end|>") && call && (has("<|return|>") || has("<|flush|>"));
        let plain_s = has("</s>") && (has("<|tool_response>") || has("<|plamo:eos|>"));
        for (applies, name, kind) in
            [(channels, "<|end|>", Kind::USER_DEFINED), (plain_s, "</s>", Kind::NORMAL)]
        {
            if applies && let Some(id) = self.id(name) {
                ends.remove(&id);
                self.set(name, kind);
            }
        }
    }
}
