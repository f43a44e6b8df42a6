//! Timed runs and the checks of their tokens.
//!
//! Checks use another path than the timed run: a prompt is repeated in pieces of another size, and
//! generated tokens are read back as a prompt, each sequence alone, where every prediction must be
//! the token that the timed run drew. Both must agree exactly, since a row's result depends on its
//! own sequence only. Only where the driver says that its steps round differently by their size do
//! differences that [`ties`] takes for rounding count as agreement, and the report says how many.

use std::time::{Duration, Instant};

use onebit_rt::Error;
use onebit_rt::sampler::{Sampling, SplitMix64, greedy};
use onebit_rt::session::{Outputs, Session, SlotId};

use super::ties;

/// Tokens that a generating sequence begins with.
const SEED_TOKENS: usize = 8;
/// Rows of a step when a prompt is repeated in pieces: odd, so that it divides no usual length.
const PIECE: usize = 27;

/// What all tests share.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub repetitions: usize,
    /// Tokens that a sequence generates.
    pub generate: usize,
}

/// A test's runs.
pub struct Test {
    pub name: String,
    pub prompt: usize,
    pub generate: usize,
    pub sequences: usize,
    pub samples: Vec<Duration>,
    /// What was found right, or what was wrong.
    pub check: Result<String, String>,
}

impl Test {
    /// Tokens of one run.
    pub fn tokens(&self) -> usize {
        self.prompt + self.generate * self.sequences
    }

    /// Tokens per second of each run.
    pub fn rates(&self) -> Vec<f64> {
        let tokens = self.tokens() as f64;
        self.samples.iter().map(|time| tokens / time.as_secs_f64()).collect()
    }
}

/// Time to read a prompt of `length` random tokens.
pub fn prompt(session: &mut Session, sizes: Sizes, length: usize) -> Result<Test, Error> {
    let tokens = random_tokens(session, length, 0);
    let (expected, _) = read(session, &tokens, length)?;
    let mut samples = Vec::new();
    let mut same = true;
    for _ in 0..sizes.repetitions {
        let (logits, time) = read(session, &tokens, length)?;
        same &= logits == expected;
        samples.push(time);
    }
    let (pieces, _) = read(session, &tokens, PIECE)?;
    let near = !session.is_uniform() && ties::are_near(&expected, &pieces);
    let check = match (same, pieces == expected) {
        (true, true) => Ok(format!("last logits equal bit for bit, whole and in {PIECE}s")),
        (true, false) if near => Ok(format!("last logits near those of {PIECE}s, by rounding")),
        (false, _) => Err("the runs' logits differ".into()),
        (_, false) => Err(format!("the logits differ from those of pieces of {PIECE} tokens")),
    };
    let name = format!("pp{length}");
    Ok(Test { name, prompt: length, generate: 0, sequences: 1, samples, check })
}

/// Time of greedy decoding in `sequences` sequences at once, and the tokens. `alone` are the
/// tokens of a run of the first sequence by itself.
pub fn decode(
    session: &mut Session,
    sizes: Sizes,
    sequences: usize,
    alone: Option<&[u32]>,
) -> Result<(Test, Vec<Vec<u32>>), Error> {
    let prompts: Vec<Vec<u32>> =
        (1..).take(sequences).map(|seed| random_tokens(session, SEED_TOKENS, seed)).collect();
    let (expected, _) = generate(session, &prompts, sizes.generate)?;
    let mut samples = Vec::new();
    let mut same = true;
    for _ in 0..sizes.repetitions {
        let (tokens, time) = generate(session, &prompts, sizes.generate)?;
        same &= tokens == expected;
        samples.push(time);
    }
    let check = if !same {
        Err("the runs' tokens differ".to_owned())
    } else if session.is_uniform() && alone.is_some_and(|alone| alone != expected[0]) {
        // Behind a near tie, runs of other sizes are other texts; reading back compares all.
        Err("sequence 1 differs from its run alone".to_owned())
    } else {
        read_back(session, &prompts, &expected)?
    };
    let name = if sequences == 1 {
        format!("tg{}", sizes.generate)
    } else {
        format!("tg{} x {sequences}", sizes.generate)
    };
    let test = Test { name, prompt: 0, generate: sizes.generate, sequences, samples, check };
    Ok((test, expected))
}

/// Tokens below the vocabulary, the same in every run.
fn random_tokens(session: &Session, count: usize, seed: u64) -> Vec<u32> {
    let vocabulary = u64::from(session.limits().vocabulary);
    let mut random = SplitMix64(seed);
    (0..count).map(|_| (random.bits() % vocabulary) as u32).collect()
}

/// Runs a prompt in pieces of at most `piece` tokens; the last logits and the time.
fn read(
    session: &mut Session,
    tokens: &[u32],
    piece: usize,
) -> Result<(Vec<f32>, Duration), Error> {
    let slot = session.open(Sampling::GREEDY)?;
    let start = Instant::now();
    for tokens in tokens.chunks(piece) {
        session.push(slot, tokens, Outputs::Last)?;
        finish(session, slot)?;
    }
    let time = start.elapsed();
    let logits = session.logits(0).to_vec();
    session.close(slot)?;
    Ok((logits, time))
}

/// Greedy tokens of all sequences, one step a token. The prompts are read before the clock starts.
fn generate(
    session: &mut Session,
    prompts: &[Vec<u32>],
    count: usize,
) -> Result<(Vec<Vec<u32>>, Duration), Error> {
    let mut slots = Vec::new();
    let mut first = Vec::new();
    for prompt in prompts {
        let slot = session.open(Sampling::GREEDY)?;
        session.push(slot, prompt, Outputs::Last)?;
        finish(session, slot)?;
        first.push(session.sample(slot)?);
        slots.push(slot);
    }
    let mut tokens: Vec<Vec<u32>> = first.into_iter().map(|token| vec![token]).collect();
    let start = Instant::now();
    for step in 0..count {
        for (&slot, tokens) in slots.iter().zip(&tokens) {
            session.push(slot, &tokens[step..], Outputs::Next)?;
        }
        session.step_ahead(count - step)?;
        for (&slot, tokens) in slots.iter().zip(&mut tokens) {
            tokens.push(session.sample(slot)?);
        }
    }
    let time = start.elapsed();
    for slot in slots {
        session.close(slot)?;
    }
    Ok((tokens, time))
}

/// Reads each sequence alone as a prompt and compares every prediction with the generated token.
fn read_back(
    session: &mut Session,
    prompts: &[Vec<u32>],
    generated: &[Vec<u32>],
) -> Result<Result<String, String>, Error> {
    let uniform = session.is_uniform();
    let (mut equal, mut near) = (0, 0);
    for (index, (prompt, tokens)) in prompts.iter().zip(generated).enumerate() {
        let slot = session.open(Sampling::GREEDY)?;
        session.push(slot, &prompt[..prompt.len() - 1], Outputs::None)?;
        finish(session, slot)?;
        let read: Vec<u32> = prompt[prompt.len() - 1..].iter().chain(tokens).copied().collect();
        // The last token's successor was never drawn.
        session.push(slot, &read[..tokens.len()], Outputs::All)?;
        while session.waiting(slot) > 0 {
            session.step()?;
            for (output, at) in session.outputs().iter().enumerate() {
                let place = at.position as usize + 1 - prompt.len();
                let logits = session.logits(output);
                if greedy(logits) == tokens[place] {
                    equal += 1;
                } else if !uniform && ties::is_near_tie(logits, tokens[place]) {
                    near += 1;
                } else {
                    let sequence = index + 1;
                    return Ok(Err(format!("sequence {sequence} differs at token {place}")));
                }
            }
        }
        session.close(slot)?;
    }
    let (count, compared) = (prompts.len(), equal + near);
    if ties::are_too_many(near, compared) {
        return Ok(Err(format!(
            "{near} of {compared} tokens are near ties, too many for rounding"
        )));
    }
    let tokens = match uniform {
        true => format!("{equal} tokens equal"),
        false => format!("{equal} of {compared} tokens equal, {near} near ties"),
    };
    Ok(Ok(match count {
        1 => format!("{tokens} in all runs and when read back"),
        _ => format!("{tokens} in all runs and when each of {count} is read back alone"),
    }))
}

fn finish(session: &mut Session, slot: SlotId) -> Result<(), Error> {
    while session.waiting(slot) > 0 {
        session.step()?;
    }
    Ok(())
}
