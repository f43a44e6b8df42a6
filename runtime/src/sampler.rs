//! From logits to a token: repeat penalty, top-k, top-p, min-p, temperature, one draw.
//!
//! The filters run in this order, which is also llama.cpp's default one. Everything is
//! deterministic: candidates are ordered by logit, equal logits by token, and the draw comes from
//! SplitMix64 (Steele, Lea, Flood 2014), whose only state is a 64-bit counter.

use std::cmp::Ordering;

use crate::Error;

/// How to choose tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token (the lowest id of equals); higher is more varied.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the smallest set of most likely tokens whose probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least p times as likely as the most likely; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 is off.
    pub repeat_penalty: f32,
    /// How many of the sequence's last tokens the penalty looks at, prompt included.
    pub repeat_last_n: u32,
    /// Start of the random sequence.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        repeat_last_n: 64,
        seed: 0,
    };

    /// Checks every option's range.
    ///
    /// # Errors
    /// [`Error::Sampling`] naming the option.
    pub fn validate(&self) -> Result<(), Error> {
        let unit = 0.0..=1.0;
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let rules: [(&'static str, f32, bool, &'static str); 4] = [
            (
                "--temp",
                self.temperature,
                self.temperature.is_finite() && self.temperature >= 0.0,
                "0 or more",
            ),
            ("--top-p", self.top_p, unit.contains(&self.top_p), "0 to 1"),
            ("--min-p", self.min_p, unit.contains(&self.min_p), "0 to 1"),
            ("--repeat-penalty", self.repeat_penalty, positive(self.repeat_penalty), "above 0"),
        ];
        for (option, value, valid, expected) in rules {
            if !valid {
                return Err(Error::Sampling { option, found: value.to_string(), expected });
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    logit: f32,
    token: u32,
}

impl Candidate {
    /// Most likely first, then the lowest token.
    fn order(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

/// One sequence's sampler: options, random state, recent tokens. Allocates nothing after the
/// first draws.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: Sampling,
    random: SplitMix64,
    /// The last `repeat_last_n` tokens, as a ring.
    recent: Vec<u32>,
    oldest: usize,
    candidates: Vec<Candidate>,
    distinct: Vec<u32>,
}

impl Sampler {
    /// A sampler at the start of a sequence. Options are taken as they are, see
    /// [`Sampling::validate`].
    pub fn new(options: Sampling) -> Self {
        Self {
            options,
            random: SplitMix64(options.seed),
            recent: Vec::new(),
            oldest: 0,
            candidates: Vec::new(),
            distinct: Vec::new(),
        }
    }

    /// Whether it always draws the token with the highest logit, whatever came before.
    pub fn is_greedy(&self) -> bool {
        let Sampling { temperature, repeat_penalty, repeat_last_n, .. } = self.options;
        temperature == 0.0 && (repeat_penalty == 1.0 || repeat_last_n == 0)
    }

    /// Notes a token of the sequence, from the prompt or drawn.
    pub fn accept(&mut self, token: u32) {
        let capacity = self.options.repeat_last_n as usize;
        if self.options.repeat_penalty == 1.0 || capacity == 0 {
            return;
        }
        if self.recent.len() < capacity {
            self.recent.push(token);
        } else {
            self.recent[self.oldest] = token;
            self.oldest = (self.oldest + 1) % capacity;
        }
    }

    /// Draws a token. `logits` has one value per token and is changed where the penalty applies.
    /// NaN is never drawn.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        self.penalise(logits);
        if self.options.temperature == 0.0 {
            return greedy(logits);
        }
        self.most_likely(logits);
        if self.candidates.is_empty() {
            return greedy(logits);
        }
        self.cut_top_p();
        self.cut_min_p();
        self.draw()
    }

    fn penalise(&mut self, logits: &mut [f32]) {
        let penalty = self.options.repeat_penalty;
        self.distinct.clone_from(&self.recent);
        self.distinct.sort_unstable();
        self.distinct.dedup();
        for &token in &self.distinct {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Fills `candidates` with the top k, sorted. One pass over the vocabulary: a buffer of 2 k
    /// is cut to its best k whenever it is full, which raises the bar for what follows.
    fn most_likely(&mut self, logits: &[f32]) {
        let k = match self.options.top_k as usize {
            0 => logits.len(),
            k => k.min(logits.len()),
        };
        let candidates = &mut self.candidates;
        candidates.clear();
        let mut bar = f32::NEG_INFINITY;
        for (token, &logit) in (0_u32..).zip(logits) {
            if logit > bar {
                candidates.push(Candidate { logit, token });
                if candidates.len() >= 2 * k {
                    candidates.select_nth_unstable_by(k - 1, Candidate::order);
                    candidates.truncate(k);
                    bar = candidates[k - 1].logit;
                }
            }
        }
        candidates.sort_unstable_by(Candidate::order);
        candidates.truncate(k);
    }

    fn cut_top_p(&mut self) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let best = self.candidates[0].logit;
        let weight = |c: &Candidate| f64::from(c.logit - best).exp();
        let total: f64 = self.candidates.iter().map(weight).sum();
        let mut reached = 0.0;
        let keep = self.candidates.iter().position(|candidate| {
            reached += weight(candidate);
            reached >= f64::from(self.options.top_p) * total
        });
        self.candidates.truncate(keep.map_or(usize::MAX, |last| last + 1));
    }

    fn cut_min_p(&mut self) {
        if self.options.min_p <= 0.0 {
            return;
        }
        let bar = self.candidates[0].logit + self.options.min_p.ln();
        let keep = self.candidates.partition_point(|candidate| candidate.logit >= bar);
        self.candidates.truncate(keep.max(1));
    }

    fn draw(&mut self) -> u32 {
        let best = self.candidates[0].logit;
        let temperature = f64::from(self.options.temperature);
        let weight = |c: &Candidate| (f64::from(c.logit - best) / temperature).exp();
        let total: f64 = self.candidates.iter().map(weight).sum();
        let mut left = self.random.unit() * total;
        for candidate in &self.candidates {
            left -= weight(candidate);
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding can leave a crumb above the last candidate.
        self.candidates[self.candidates.len() - 1].token
    }
}

/// The token with the highest logit, the lowest of equals; 0 when there is none.
pub fn greedy(logits: &[f32]) -> u32 {
    const CHUNK: u32 = 1024;
    let mut best = Candidate { logit: f32::NEG_INFINITY, token: 0 };
    for (index, chunk) in (0_u32..).zip(logits.chunks(CHUNK as usize)) {
        if largest(chunk) <= best.logit {
            continue;
        }
        for (token, &logit) in (index * CHUNK..).zip(chunk) {
            if logit > best.logit {
                best = Candidate { logit, token };
            }
        }
    }
    best.token
}

/// The largest number, kept in lanes so that the loop becomes vector instructions: a vocabulary
/// is read once for every token.
fn largest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (body, tail) = logits.as_chunks::<16>();
    for sixteen in body {
        for (lane, &logit) in lanes.iter_mut().zip(sixteen) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let rest = lanes.iter().chain(tail);
    rest.fold(f32::NEG_INFINITY, |best, &logit| if logit > best { logit } else { best })
}

/// SplitMix64: full period, passes BigCrush, one addition and two multiplications a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A multiple of 2^-53 in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [1.0, 3.0, -2.0, 3.0, 2.0, f32::NAN];

    fn draws(options: Sampling, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(options);
        (0..count).map(|_| sampler.sample(&mut LOGITS.clone())).collect()
    }

    fn warm() -> Sampling {
        Sampling { temperature: 1.0, seed: 3, ..Sampling::GREEDY }
    }

    fn support(options: Sampling) -> Vec<u32> {
        let mut tokens = draws(options, 2000);
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    #[test]
    fn splitmix_matches_its_published_sequence() {
        let mut random = SplitMix64(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(draws(Sampling::GREEDY, 3), [1, 1, 1]);
        assert_eq!(greedy(&[f32::NAN, f32::NEG_INFINITY]), 0);
        assert_eq!(greedy(&[]), 0);
    }

    #[test]
    fn greedy_finds_the_largest_anywhere() {
        for (length, places) in [(3, vec![2]), (40, vec![17, 33]), (5000, vec![1023, 1024, 4999])] {
            let mut logits: Vec<f32> = (0..length).map(|i| ((i * 37) % 11) as f32).collect();
            logits[0] = f32::NAN;
            for &place in &places {
                logits[place] = 12.0;
            }
            assert_eq!(greedy(&logits), places[0] as u32);
        }
    }

    #[test]
    fn each_filter_keeps_its_set() {
        assert_eq!(support(warm()), [0, 1, 2, 3, 4], "NaN is never drawn");
        assert_eq!(support(Sampling { top_k: 1, ..warm() }), [1]);
        assert_eq!(support(Sampling { top_k: 3, ..warm() }), [1, 3, 4]);
        assert_eq!(support(Sampling { top_p: 0.5, ..warm() }), [1, 3]);
        assert_eq!(support(Sampling { top_p: 0.0, ..warm() }), [1]);
        assert_eq!(support(Sampling { min_p: 0.3, ..warm() }), [1, 3, 4]);
        assert_eq!(support(Sampling { min_p: 1.0, ..warm() }), [1, 3]);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let options = Sampling { temperature: 2.0, top_k: 3, ..warm() };
        let count = draws(options, 20_000).iter().filter(|&&token| token == 4).count();
        let expected = (-0.5_f64).exp() / (2.0 + (-0.5_f64).exp());
        assert!((count as f64 / 20_000.0 - expected).abs() < 0.01, "{count}");
    }

    #[test]
    fn a_seed_fixes_the_draws() {
        assert_eq!(draws(warm(), 50), draws(warm(), 50));
        assert_ne!(draws(warm(), 50), draws(Sampling { seed: 4, ..warm() }, 50));
    }

    #[test]
    fn top_k_equals_a_full_sort() {
        let mut random = SplitMix64(9);
        let mut logits: Vec<f32> = (0..5000).map(|_| (random.bits() % 700) as f32).collect();
        let mut sorted: Vec<Candidate> =
            (0..).zip(&logits).map(|(token, &logit)| Candidate { logit, token }).collect();
        sorted.sort_by(Candidate::order);
        for k in [1, 2, 40, 2499, 5000, 9000] {
            let mut sampler = Sampler::new(Sampling { top_k: k, ..warm() });
            sampler.sample(&mut logits);
            assert_eq!(sampler.candidates, sorted[..sorted.len().min(k as usize)], "k = {k}");
        }
    }

    #[test]
    fn the_penalty_sees_the_last_n_tokens() {
        let options = Sampling { repeat_penalty: 2.0, repeat_last_n: 2, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(options);
        let mut next = |token| {
            sampler.accept(token);
            sampler.sample(&mut LOGITS.clone())
        };
        assert_eq!(next(1), 3, "1 is penalised");
        assert_eq!(next(3), 4, "1 and 3 are penalised");
        assert_eq!(next(4), 1, "1 has left the window");
    }

    #[test]
    fn options_out_of_range_are_named() {
        assert!(warm().validate().is_ok());
        let bad = [
            (Sampling { temperature: -1.0, ..warm() }, "--temp"),
            (Sampling { temperature: f32::NAN, ..warm() }, "--temp"),
            (Sampling { top_p: 1.5, ..warm() }, "--top-p"),
            (Sampling { min_p: -0.1, ..warm() }, "--min-p"),
            (Sampling { repeat_penalty: 0.0, ..warm() }, "--repeat-penalty"),
        ];
        for (options, name) in bad {
            assert!(options.validate().unwrap_err().to_string().starts_with(name));
        }
    }
}
