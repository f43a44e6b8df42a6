//! Whether our device computes what our processor computes, on one plan.
//!
//! Logits of the same random tokens are compared on both: how far apart they are, and whether the
//! most likely token is the same wherever its lead is more than what they are apart. `onebit-rt bench`
//! ties decoding, alone and in a batch, to those logits: every token it times is read back as a
//! prompt on the same device. Greedy text is compared as well and told; with random weights leads are
//! small, so texts may part where logits nearly tie, and then that alone is no fault.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use onebit_test_support::Random;
use serde::{Deserialize, Serialize};

use super::programs::Programs;
use super::subject::Subject;
use super::{Options, Place};

/// Tokens whose logits are compared: more than one step takes.
const POSITIONS: usize = 48;
/// Largest median over positions of the normalised mean square error. Our processor and llama.cpp
/// alike are up to 2.2e-3 from exact arithmetic on the formats in use; two such errors that have
/// nothing to do with each other add.
const ERROR_LIMIT: f64 = 4.4e-3;
/// A lead counts when it is more than this many times the root mean square difference of a
/// position's logits: differences of two of them are half as often.
const LEAD: f64 = 6.0;
/// Tokens of greedy text.
const TEXT_TOKENS: &str = "48";
const PROMPT: &str = "The history of measurement is";

/// What the comparison found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenCheck {
    pub positions: usize,
    /// Positions at which both sides' most likely token is the same.
    pub same: usize,
    /// Positions at which it is not although the processor's lead counts.
    pub wrong: usize,
    /// Normalised mean square error: median over positions, and the largest.
    pub median_error: f64,
    pub largest_error: f64,
    /// Words of greedy text that are equal from the start, and all of the processor's.
    pub words: (usize, usize),
    /// Words that llama.cpp's greedy text on the same device shares with ours from the start.
    pub peer_words: Option<usize>,
}

impl TokenCheck {
    /// Why no figure of this model may be printed.
    pub fn fault(&self) -> Option<String> {
        if self.wrong > 0 {
            return Some(format!("{} of {} tokens are wrong", self.wrong, self.positions));
        }
        if self.median_error <= ERROR_LIMIT {
            return None;
        }
        Some(format!("logits are {:.1e} apart, at most {ERROR_LIMIT:.1e}", self.median_error))
    }
}

/// Compares our processor with the device that is measured.
pub fn check(
    programs: &Programs<'_>,
    subject: &Subject,
    plan: &Path,
    options: &Options,
) -> Result<TokenCheck> {
    let mut random = Random::new(3);
    let tokens: Vec<String> =
        (0..POSITIONS).map(|_| random.below(subject.vocabulary as usize).to_string()).collect();
    let logits = |place: Place| -> Result<Vec<f32>> {
        let path = options.work.join(format!("logits-{place:?}.npy"));
        let mut command = programs.our_command("logits", plan, place);
        command.args(["--tokens", &tokens.join(",")]).arg("-o").arg(&path);
        programs.output(&mut command)?;
        let values = npy(&fs::read(&path)?)?;
        fs::remove_file(&path)?;
        Ok(values)
    };
    let text = |place: Place| -> Result<String> {
        let mut command = programs.our_command("run", plan, place);
        command.args(["-p", PROMPT, "-n", TEXT_TOKENS, "--temp", "0", "--no-stats"]);
        Ok(programs.output(&mut command)?.stdout)
    };
    let device = options.place();
    let mut found = compare(&logits(Place::Cpu)?, &logits(device)?)?;
    let (expected, ours) = (text(Place::Cpu)?, text(device)?);
    found.words = (equal_words(&expected, &ours), expected.split_whitespace().count());
    // Only to see that both sides read the file alike: nothing hangs on it.
    let mut peer = programs.peer_command("llama-completion", subject);
    peer.args(["-p", PROMPT, "-n", TEXT_TOKENS, "--temp", "0", "-no-cnv", "--no-display-prompt"]);
    let peer = programs.output(&mut peer).ok();
    found.peer_words = peer.map(|ended| equal_words(&ended.stdout, &ours));
    Ok(found)
}

fn compare(expected: &[f32], found: &[f32]) -> Result<TokenCheck> {
    if expected.len() != found.len() || !expected.len().is_multiple_of(POSITIONS) {
        bail!("{} logits beside {}", found.len(), expected.len());
    }
    let columns = expected.len() / POSITIONS;
    let rows = expected.chunks_exact(columns).zip(found.chunks_exact(columns));
    let (mut same, mut wrong) = (0, 0);
    let mut errors = Vec::new();
    for (expected, found) in rows {
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
        let apart = squares(&mut expected.iter().zip(found).map(|(&x, &y)| f64::from(x - y)));
        errors.push(apart / squares(&mut expected.iter().map(|&x| f64::from(x))));
        let (first, second) = (largest(expected), largest(found));
        let lead = f64::from(expected[first] - expected[second]);
        let noise = LEAD * (apart / columns as f64).sqrt();
        if !apart.is_finite() || (first != second && lead > noise) {
            wrong += 1;
        } else if first == second {
            same += 1;
        }
    }
    errors.sort_by(f64::total_cmp);
    Ok(TokenCheck {
        positions: POSITIONS,
        same,
        wrong,
        median_error: errors[POSITIONS / 2],
        largest_error: errors[POSITIONS - 1],
        words: (0, 0),
        peer_words: None,
    })
}

/// The place of the largest value, the first of equals.
fn largest(values: &[f32]) -> usize {
    let better =
        |best: usize, place: usize| if values[place] > values[best] { place } else { best };
    (0..values.len()).reduce(better).unwrap_or(0)
}

fn equal_words(left: &str, right: &str) -> usize {
    let pairs = left.split_whitespace().zip(right.split_whitespace());
    pairs.take_while(|(left, right)| left == right).count()
}

/// Values of a NumPy file of version 1 with `<f4` elements.
fn npy(bytes: &[u8]) -> Result<Vec<f32>> {
    let length = bytes.get(8..10).context("a NumPy file without a header")?;
    let start = 10 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    let header = bytes.get(10..start).context("a NumPy file that ends in its header")?;
    if !bytes.starts_with(b"\x93NUMPY\x01") || !header.windows(3).any(|part| part == b"<f4") {
        bail!("not a NumPy file of f32 values");
    }
    let (values, rest) = bytes[start..].as_chunks::<4>();
    if !rest.is_empty() {
        bail!("a NumPy file that ends in a value");
    }
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(change: impl Fn(usize, &mut [f32])) -> Vec<f32> {
        let mut random = Random::new(1);
        let mut values: Vec<f32> = (0..POSITIONS * 100).map(|_| random.normal()).collect();
        for (position, row) in values.chunks_exact_mut(100).enumerate() {
            row[position] = 9.0;
            change(position, row);
        }
        values
    }

    #[test]
    fn tells_noise_from_wrong_tokens() {
        let expected = logits(|_, _| {});
        let found = compare(&expected, &expected).unwrap();
        assert_eq!((found.same, found.wrong, found.fault()), (POSITIONS, 0, None));

        let near = logits(|_, row| row.iter_mut().for_each(|x| *x *= 1.01));
        let found = compare(&expected, &near).unwrap();
        assert_eq!((found.same, found.fault()), (POSITIONS, None));
        assert!((found.median_error - 1e-4).abs() < 1e-6, "{}", found.median_error);

        let one = logits(|position, row| {
            if position == 7 {
                row.swap(7, 8);
            }
        });
        let found = compare(&expected, &one).unwrap();
        assert_eq!((found.same, found.wrong), (POSITIONS - 1, 1));
        assert_eq!(found.fault().unwrap(), "1 of 48 tokens are wrong");

        let far = logits(|_, row| row.iter_mut().for_each(|x| *x *= 1.1));
        assert!(compare(&expected, &far).unwrap().fault().unwrap().contains("apart"));
        let broken = logits(|position, row| row[99] = if position == 7 { f32::NAN } else { 0.0 });
        assert_eq!(compare(&expected, &broken).unwrap().wrong, 1);
        assert!(compare(&expected, &near[100..]).is_err());
    }

    #[test]
    fn near_ties_may_go_either_way() {
        let tie = |by: f32| {
            logits(move |position, row| {
                row[position + 1] = 9.0 - by;
                row.iter_mut().enumerate().for_each(|(i, x)| *x += 0.01 * (i % 3) as f32);
            })
        };
        let plain = logits(|position, row| row[position + 1] = 9.0 - 0.001);
        let found = compare(&plain, &tie(0.001)).unwrap();
        assert!(found.same < POSITIONS && found.wrong == 0, "{found:?}");
    }

    #[test]
    fn reads_values_and_words() {
        let mut file = b"\x93NUMPY\x01\x00\x06\x00'<f4'\n".to_vec();
        file.extend(1.5f32.to_le_bytes());
        assert_eq!(npy(&file).unwrap(), [1.5]);
        file.pop();
        assert!(npy(&file).is_err());
        assert!(npy(b"no").is_err());
        assert_eq!(equal_words("a b c", " a b d"), 2);
    }
}
