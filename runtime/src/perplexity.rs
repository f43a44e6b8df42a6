//! Perplexity of a text as llama.cpp's `llama-perplexity` defines it.
//!
//! The tokens are cut into chunks of n; a rest is left out. In each chunk, run by itself from an
//! empty cache, the first token gives way to BOS where the tokenizer adds one, and the
//! predictions of the tokens n/2 + 1 .. n are scored. The error is the standard error of the mean
//! log-likelihood, carried through the exponential. Source: llama.cpp tools/perplexity.

use std::ops::ControlFlow;

use crate::Error;
use crate::sampler::Sampling;
use crate::session::{Outputs, Session};

/// Sums over the scored tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    pub count: u64,
    /// Negative log-likelihoods, in nats.
    pub sum: f64,
    /// Their squares.
    pub squares: f64,
}

impl Score {
    /// Adds the prediction of `token` by a row of logits.
    pub fn add(&mut self, logits: &[f32], token: u32) {
        let value = negative_log_likelihood(logits, token);
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// exp of the mean negative log-likelihood.
    pub fn perplexity(&self) -> f64 {
        (self.sum / self.count as f64).exp()
    }

    /// Standard error of [`Score::perplexity`]; `None` for less than two tokens.
    pub fn error(&self) -> Option<f64> {
        let mean = self.sum / self.count as f64;
        let variance = self.squares / self.count as f64 - mean * mean;
        (self.count > 1 && variance >= 0.0)
            .then(|| (variance / (self.count - 1) as f64).sqrt() * self.perplexity())
    }
}

/// `ln(sum(exp(logits))) - logits[token]`, stable for any logits.
pub fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - top).exp())).sum();
    sum.ln() - f64::from(logits[token as usize] - top)
}

/// Scores `tokens` in chunks of `chunk`. `bos` replaces the first token of each chunk.
/// `progress` sees the running score after each chunk and may end the run.
///
/// # Errors
/// [`Error::ContextFull`] when a chunk does not fit the context, tokens outside the vocabulary.
/// Fewer than one whole chunk of two tokens gives an empty score.
pub fn score(
    session: &mut Session,
    tokens: &[u32],
    chunk: usize,
    bos: Option<u32>,
    progress: &mut dyn FnMut(usize, &Score) -> ControlFlow<()>,
) -> Result<Score, Error> {
    let mut score = Score::default();
    if chunk < 2 {
        return Ok(score);
    }
    for (index, tokens) in tokens.chunks_exact(chunk).enumerate() {
        score_chunk(session, tokens, bos, &mut score)?;
        if progress(index, &score).is_break() {
            break;
        }
    }
    Ok(score)
}

fn score_chunk(
    session: &mut Session,
    tokens: &[u32],
    bos: Option<u32>,
    score: &mut Score,
) -> Result<(), Error> {
    let slot = session.open(Sampling::GREEDY)?;
    let first = tokens.len() / 2;
    let start = bos.unwrap_or(tokens[0]);
    session.push(slot, &[start], Outputs::None)?;
    session.push(slot, &tokens[1..first.max(1)], Outputs::None)?;
    while session.waiting(slot) > 0 {
        session.step()?;
    }
    // The last token predicts what lies beyond the chunk, so it need not run.
    session.push(slot, &tokens[first.max(1)..tokens.len() - 1], Outputs::All)?;
    while session.waiting(slot) > 0 {
        session.step()?;
        for (index, output) in session.outputs().iter().enumerate() {
            score.add(session.logits(index), tokens[output.position as usize + 1]);
        }
    }
    session.close(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_give_the_vocabulary_as_perplexity() {
        let mut score = Score::default();
        for token in 0..4 {
            score.add(&[7.0; 4], token);
        }
        assert!((score.perplexity() - 4.0).abs() < 1e-9);
        assert!(score.error().is_none_or(|error| error < 1e-6));
    }

    #[test]
    fn likelihoods_are_stable_for_large_logits() {
        let value = negative_log_likelihood(&[1000.0, 999.0], 1);
        assert!((value - (1.0 + (-1.0_f64).exp().ln_1p())).abs() < 1e-6);
    }

    #[test]
    fn the_error_is_that_of_the_mean() {
        // Likelihoods of 1 and 3 nats: mean 2, variance 1, error 1 / sqrt(1).
        let score = Score { count: 2, sum: 4.0, squares: 10.0 };
        assert!((score.error().unwrap() - 2.0_f64.exp()).abs() < 1e-9);
    }
}
