//! Pre-tokenizers: how a BPE model cuts text into the words that merges may not cross.
//!
//! A model file only names its pre-tokenizer; [`PRE_TOKENIZERS`] lists what the names mean. The published definitions are
//! regular expressions, applied one after the other to the pieces the ones before left; here they are scanners
//! (`scan.rs`), which are linear in any text and need no compilation when a plan is opened. Where llama.cpp reads an
//! expression differently from its publisher, this follows llama.cpp (`src/llama-vocab.cpp`, `src/unicode.cpp`), which
//! is what the model files are made for. The exception are letters and numbers that Unicode 16 added: llama.cpp's tables
//! do not have them yet and treat them as symbols.

mod class;
mod scan;

use class::Class;
use scan::{Contractions, LLAMA3, Letters, Words, run_of};
use std::ops::Range;

/// One expression of a pre-tokenizer. What it does not match stays a piece of its own.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// `[class]{1,limit}`, after an optional character of `lead`.
    Runs { lead: Lead, class: Class, limit: usize },
    /// `[0-9][0-9][0-9]`
    DigitTriples,
    /// `\s+$`
    TrailingSpace,
    /// `[^\n]+|[\n]+`
    Lines,
    /// GPT-2's words.
    Gpt2,
    /// Llama 3's words and their relatives.
    Words(Words),
    /// DeepSeek V3's words.
    DeepSeekV3,
}

/// What may come before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    Nothing,
    /// ` ?`
    Space,
    /// `\s?`
    WhiteSpace,
}

/// A way to cut text into words.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    /// What the table stores; never reused for something else.
    pub code: u32,
    /// The values of `tokenizer.ggml.pre` that mean it.
    names: &'static [&'static str],
    stages: &'static [Stage],
    /// A word that is a token is taken whole, whatever the merges say.
    pub whole_words: bool,
    /// Texts begin with BOS unless the model file says otherwise.
    pub add_bos: bool,
}

const fn each(class: Class) -> Stage {
    Stage::Runs { lead: Lead::Nothing, class, limit: 1 }
}

const fn runs(class: Class) -> Stage {
    Stage::Runs { lead: Lead::Nothing, class, limit: usize::MAX }
}

const fn spaced_runs(class: Class) -> Stage {
    Stage::Runs { lead: Lead::WhiteSpace, class, limit: usize::MAX }
}

const NUMBER_TRIPLES: Stage =
    Stage::Runs { lead: Lead::Nothing, class: class::is_number, limit: 3 };
const BLOOM_WORDS: Stage =
    Stage::Runs { lead: Lead::Space, class: class::is_bloom_word, limit: usize::MAX };
const QWEN2: Words = Words { digits: 1, ..LLAMA3 };

/// The common case of a row.
const PLAIN: PreTokenizer =
    PreTokenizer { code: 0, names: &[], stages: &[], whole_words: false, add_bos: false };

/// Every named pre-tokenizer.
const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        code: 1,
        names: &["default"],
        stages: &[
            runs(class::is_default_punctuation),
            Stage::Gpt2,
            runs(class::is_number),
            Stage::DigitTriples,
        ],
        ..PLAIN
    },
    PreTokenizer {
        code: 2,
        names: &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        stages: &[Stage::Gpt2],
        ..PLAIN
    },
    PreTokenizer {
        code: 3,
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        stages: &[each(class::is_number), Stage::Gpt2],
        ..PLAIN
    },
    PreTokenizer {
        code: 4,
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        stages: &[Stage::Words(LLAMA3)],
        whole_words: true,
        add_bos: true,
    },
    PreTokenizer {
        code: 5,
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        stages: &[Stage::Words(LLAMA3)],
        ..PLAIN
    },
    PreTokenizer {
        code: 6,
        names: &["glm4", "glm5"],
        stages: &[Stage::Words(LLAMA3)],
        whole_words: true,
        ..PLAIN
    },
    PreTokenizer {
        code: 7,
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        stages: &[Stage::Words(QWEN2)],
        ..PLAIN
    },
    PreTokenizer {
        code: 8,
        names: &["qwen35"],
        stages: &[Stage::Words(Words { letters: Letters::Marked, ..QWEN2 })],
        ..PLAIN
    },
    PreTokenizer {
        code: 9,
        names: &["tekken"],
        stages: &[Stage::Words(Words {
            contractions: Contractions::Joined,
            letters: Letters::Cased,
            digits: 1,
            tail: "\r\n/",
        })],
        whole_words: true,
        add_bos: true,
    },
    PreTokenizer {
        code: 10,
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: &[Stage::Words(Words {
            contractions: Contractions::Suffix,
            letters: Letters::Cased,
            digits: 3,
            tail: "\r\n/",
        })],
        ..PLAIN
    },
    PreTokenizer {
        code: 11,
        names: &["deepseek-llm"],
        stages: &[
            each(class::is_newline),
            spaced_runs(class::is_deepseek_letter),
            spaced_runs(class::is_deepseek_punctuation),
            Stage::TrailingSpace,
            runs(class::is_deepseek_cjk),
            runs(class::is_number),
        ],
        ..PLAIN
    },
    PreTokenizer {
        code: 12,
        names: &["deepseek-coder"],
        stages: &[
            each(class::is_newline),
            spaced_runs(class::is_letter),
            spaced_runs(class::is_punctuation),
            runs(class::is_deepseek_cjk),
            each(class::is_number),
        ],
        ..PLAIN
    },
    PreTokenizer {
        code: 13,
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        stages: &[NUMBER_TRIPLES, runs(class::is_deepseek_v3_cjk), Stage::DeepSeekV3],
        ..PLAIN
    },
    PreTokenizer {
        code: 14,
        names: &["falcon"],
        stages: &[runs(class::is_falcon_punctuation), Stage::Gpt2, Stage::DigitTriples],
        ..PLAIN
    },
    PreTokenizer {
        code: 15,
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        stages: &[BLOOM_WORDS],
        ..PLAIN
    },
    PreTokenizer {
        code: 16,
        names: &["viking"],
        stages: &[BLOOM_WORDS, each(class::is_number)],
        ..PLAIN
    },
    PreTokenizer {
        code: 17,
        names: &["seed-coder"],
        stages: &[Stage::Words(Words { tail: "", ..QWEN2 })],
        ..PLAIN
    },
    PreTokenizer {
        code: 18,
        names: &["minicpm5"],
        stages: &[NUMBER_TRIPLES, Stage::Words(Words { digits: usize::MAX, ..LLAMA3 })],
        whole_words: true,
        ..PLAIN
    },
    PreTokenizer {
        code: 19,
        names: &["ufakzeka"],
        stages: &[Stage::Words(Words { contractions: Contractions::Joined, ..QWEN2 })],
        ..PLAIN
    },
    PreTokenizer {
        code: 20,
        names: &["laguna"],
        stages: &[Stage::Lines, Stage::Words(QWEN2)],
        ..PLAIN
    },
];

/// Lines, the only cut that BPE over characters makes.
pub(crate) const LINES: PreTokenizer =
    PreTokenizer { code: 21, names: &["gemma4"], stages: &[Stage::Lines], ..PLAIN };

/// The pre-tokenizer a model file names.
pub(crate) fn by_name(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
}

/// The pre-tokenizer a table names.
pub(crate) fn by_code(code: u32) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().chain([&LINES]).find(|pre| pre.code == code)
}

/// All names, for messages.
pub(crate) fn names() -> String {
    let names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).copied().collect();
    names.join(", ")
}

impl PreTokenizer {
    /// Cuts `text` into words: adjacent, in order, none empty.
    pub fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for stage in self.stages {
            let mut finer = Vec::with_capacity(pieces.len());
            for piece in pieces {
                stage.cut(&text[piece.clone()], piece.start, &mut finer);
            }
            pieces = finer;
        }
        pieces
    }
}

impl Stage {
    /// Appends the matches in `piece` and what lies between them.
    fn cut(&self, piece: &str, offset: usize, words: &mut Vec<Range<usize>>) {
        if let Self::TrailingSpace = self {
            let end = offset + piece.trim_end().len();
            let parts = [offset..end, end..offset + piece.len()];
            words.extend(parts.into_iter().filter(|part| !part.is_empty()));
            return;
        }
        let (mut unmatched, mut at) = (0, 0);
        while let Some(first) = piece[at..].chars().next() {
            let length = self.next(&piece[at..]);
            if length == 0 {
                at += first.len_utf8();
                continue;
            }
            if unmatched < at {
                words.push(offset + unmatched..offset + at);
            }
            words.push(offset + at..offset + at + length);
            at += length;
            unmatched = at;
        }
        if unmatched < at {
            words.push(offset + unmatched..offset + at);
        }
    }

    /// The length of the match at the start of `rest`, 0 if there is none.
    fn next(&self, rest: &str) -> usize {
        match *self {
            Self::Runs { lead, class, limit } => led_run(rest, lead, class, limit),
            Self::DigitTriples => {
                if run_of(rest, |c| c.is_ascii_digit(), 3) == 3 {
                    3
                } else {
                    0
                }
            }
            Self::Lines => {
                let newline = rest.starts_with('\n');
                run_of(rest, |c| (c == '\n') == newline, usize::MAX)
            }
            // `cut` does it: it needs the end of the piece.
            Self::TrailingSpace => 0,
            Self::Gpt2 => scan::gpt2(rest),
            Self::Words(words) => words.next(rest),
            Self::DeepSeekV3 => scan::deepseek_v3(rest),
        }
    }
}

fn led_run(rest: &str, lead: Lead, class: Class, limit: usize) -> usize {
    let led = match (lead, rest.chars().next()) {
        (Lead::Space, Some(' ')) => 1,
        (Lead::WhiteSpace, Some(c)) if c.is_whitespace() => c.len_utf8(),
        _ => 0,
    };
    match run_of(&rest[led..], class, limit) {
        0 if led > 0 => run_of(rest, class, limit),
        0 => 0,
        length => led + length,
    }
}

#[cfg(test)]
mod tests;
