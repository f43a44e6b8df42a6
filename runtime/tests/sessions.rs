//! Sessions and the generation queue over a driver whose every logit depends on the whole history
//! of its slot, so that any mix-up of rows, slots or positions shows.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use onebit_rt::Error;
use onebit_rt::driver::{Driver, Limits, Row, RowCheck};
use onebit_rt::generate::{Finish, Observer, Request, generate};
use onebit_rt::perplexity;
use onebit_rt::sampler::{Sampling, SplitMix64, greedy};
use onebit_rt::session::{Outputs, Session};

const LIMITS: Limits = Limits { vocabulary: 50, context: 64, slots: 32, max_rows: 32 };
const END: u32 = 49;

struct Fake {
    limits: Limits,
    check: RowCheck,
    cache: Vec<Vec<u32>>,
    steps: Vec<usize>,
    /// Steps that it runs at once without a look at tokens.
    ahead: usize,
    /// Calls that asked for work.
    calls: Rc<Cell<usize>>,
}

impl Fake {
    fn session(limits: Limits) -> Session {
        Self::session_ahead(limits, 0).0
    }

    fn session_ahead(limits: Limits, ahead: usize) -> (Session, Rc<Cell<usize>>) {
        let calls = Rc::new(Cell::new(0));
        let cache = vec![vec![0; limits.context as usize]; limits.slots as usize];
        let check = RowCheck::new(limits);
        let (steps, shared) = (Vec::new(), Rc::clone(&calls));
        (Session::new(Box::new(Self { limits, check, cache, steps, ahead, calls: shared })), calls)
    }

    /// Writes the rows into the cache and gives the logits of those that want them.
    fn run(&mut self, rows: &[Row], logits: &mut [f32]) {
        let mut out = logits.chunks_exact_mut(self.limits.vocabulary as usize);
        for row in rows {
            let history = &mut self.cache[row.slot as usize];
            history[row.position as usize] = row.token;
            if row.output {
                let seed = history[..=row.position as usize]
                    .iter()
                    .fold(17_u64, |hash, &token| SplitMix64(hash ^ u64::from(token)).bits());
                let mut random = SplitMix64(seed);
                out.next().unwrap().fill_with(|| random.unit() as f32 * 8.0);
            }
        }
    }
}

impl Driver for Fake {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn step(&mut self, rows: &[Row], logits: &mut [f32]) -> Result<(), Error> {
        self.check.check(rows, logits.len())?;
        self.steps.push(rows.len());
        self.calls.set(self.calls.get() + 1);
        self.run(rows, logits);
        Ok(())
    }

    fn decode_ahead(
        &mut self,
        rows: &[Row],
        steps: usize,
        picks: &mut [u32],
    ) -> Result<usize, Error> {
        let width = self.limits.vocabulary as usize;
        let mut logits = vec![0.0; rows.len() * width];
        self.check.check(rows, logits.len())?;
        let last = rows.iter().map(|row| row.position).max().unwrap();
        let steps = steps.min(self.ahead).min((self.limits.context - last) as usize);
        self.calls.set(self.calls.get() + usize::from(steps > 0));
        let mut rows = rows.to_vec();
        for picks in picks.chunks_exact_mut(rows.len()).take(steps) {
            self.run(&rows, &mut logits);
            for ((row, pick), logits) in rows.iter_mut().zip(picks).zip(logits.chunks(width)) {
                *pick = greedy(logits);
                (row.token, row.position) = (*pick, row.position + 1);
            }
        }
        Ok(steps)
    }
}

#[derive(Default)]
struct Record {
    tokens: Vec<Vec<u32>>,
    finishes: Vec<Option<Finish>>,
    stop_after: Option<usize>,
}

impl Record {
    fn of(requests: usize) -> Self {
        Self {
            tokens: vec![Vec::new(); requests],
            finishes: vec![None; requests],
            stop_after: None,
        }
    }
}

impl Observer for Record {
    fn token(&mut self, index: usize, token: u32) -> ControlFlow<()> {
        self.tokens[index].push(token);
        match self.stop_after {
            Some(count) if self.tokens[index].len() >= count => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn finished(&mut self, index: usize, why: Finish) {
        assert_eq!(self.finishes[index].replace(why), None, "request {index} finished twice");
    }
}

fn request(index: u32) -> Request {
    let mut random = SplitMix64(u64::from(index));
    let length = 1 + random.bits() % 40;
    let prompt = (0..length).map(|_| (random.bits() % 49) as u32).collect();
    let sampling = match index % 2 {
        0 => Sampling::GREEDY,
        _ => Sampling {
            temperature: 0.9,
            top_k: 20,
            repeat_penalty: 1.2,
            seed: u64::from(index),
            ..Sampling::GREEDY
        },
    };
    Request { prompt, sampling, limit: Some(15) }
}

fn run(limits: Limits, requests: &[Request]) -> Record {
    let mut session = Fake::session(limits);
    let mut record = Record::of(requests.len());
    let timing = generate(&mut session, requests, &|token| token == END, &mut record).unwrap();
    assert_eq!(timing.prompt_tokens, requests.iter().map(|r| r.prompt.len()).sum::<usize>());
    record
}

#[test]
fn a_batch_gives_what_solo_runs_give() {
    let requests: Vec<Request> = (0..40).map(request).collect();
    let alone: Vec<Record> =
        requests.iter().map(|r| run(LIMITS, std::slice::from_ref(r))).collect();
    for (slots, max_rows) in [(32, 32), (32, 7), (5, 512), (1, 1)] {
        let record = run(Limits { slots, max_rows, ..LIMITS }, &requests);
        for (index, alone) in alone.iter().enumerate() {
            assert_eq!(record.tokens[index], alone.tokens[0], "{slots} slots, {max_rows} rows");
            assert_eq!(record.finishes[index], alone.finishes[0]);
        }
    }
}

/// Steps that a driver runs ahead change neither tokens nor ends, whoever shares the session.
#[test]
fn running_ahead_changes_nothing_but_the_number_of_calls() {
    let mixed: Vec<Request> = (0..40).map(request).collect();
    let greedy: Vec<Request> = mixed.iter().step_by(2).cloned().collect();
    for (requests, limit) in [(&greedy, Some(15)), (&greedy, None), (&mixed, Some(15))] {
        let requests: Vec<Request> =
            requests.iter().map(|it| Request { limit, ..it.clone() }).collect();
        for (slots, max_rows) in [(32, 32), (5, 512), (1, 1)] {
            let limits = Limits { slots, max_rows, ..LIMITS };
            let run = |ahead| {
                let (mut session, calls) = Fake::session_ahead(limits, ahead);
                let mut record = Record::of(requests.len());
                let is_end = |token| token == END;
                let timing = generate(&mut session, &requests, &is_end, &mut record).unwrap();
                (record, timing.generated, timing.decoded, calls.get())
            };
            let (plain, generated, decoded, calls) = run(0);
            for ahead in [2, 7, 16, 100] {
                let (record, found, found_decoded, fewer) = run(ahead);
                assert_eq!(record.tokens, plain.tokens, "{ahead} ahead, {slots} slots");
                assert_eq!(record.finishes, plain.finishes);
                assert_eq!((found, found_decoded), (generated, decoded));
                // Sequences that are not greedy have nobody wait for them.
                let all_greedy = requests.iter().all(|it| it.sampling == Sampling::GREEDY);
                let most = calls - usize::from(all_greedy);
                assert!(fewer <= most, "{fewer} calls, {calls} without");
            }
        }
    }
}

/// A caller may push something else than what the driver picked.
#[test]
fn what_ran_ahead_is_dropped_when_another_token_follows() {
    let continuation = |ahead, most| {
        let (mut session, _) = Fake::session_ahead(LIMITS, ahead);
        let slot = session.open(Sampling::GREEDY).unwrap();
        session.push(slot, &[1], Outputs::Next).unwrap();
        let mut tokens = Vec::new();
        for step in 0..20 {
            session.step_ahead(most).unwrap();
            assert!(session.has_logits(slot));
            let drawn = session.sample(slot).unwrap();
            assert_eq!(session.length(slot), step + 1);
            tokens.push(if step % 5 == 3 { (drawn + 1) % 50 } else { drawn });
            session.push(slot, &tokens[step..], Outputs::Next).unwrap();
        }
        tokens
    };
    assert_eq!(continuation(16, 16), continuation(0, 1));
    let (mut session, _) = Fake::session_ahead(LIMITS, 16);
    let slot = session.open(Sampling::GREEDY).unwrap();
    session.push(slot, &[1], Outputs::Next).unwrap();
    session.step_ahead(16).unwrap();
    let pick = session.sample(slot).unwrap();
    session.push(slot, &[pick], Outputs::All).unwrap();
    session.step_ahead(16).unwrap();
    assert_eq!(session.outputs().len(), 1, "logits are there for those who look");
    session.step().unwrap();
    assert!(!session.has_logits(slot), "nothing waits, nothing is known");
}

#[test]
fn continuations_end_for_every_reason() {
    let base = Request { prompt: vec![1, 2, 3], ..request(0) };
    let limited = run(LIMITS, &[Request { limit: Some(2), ..base.clone() }]);
    assert_eq!((limited.tokens[0].len(), limited.finishes[0]), (2, Some(Finish::Limit)));
    let none = run(LIMITS, &[Request { limit: Some(0), ..base.clone() }]);
    assert_eq!((none.tokens[0].len(), none.finishes[0]), (0, Some(Finish::Limit)));

    let mut session = Fake::session(LIMITS);
    let endless = Request { limit: None, ..base.clone() };
    let mut record = Record::of(1);
    generate(&mut session, std::slice::from_ref(&endless), &|_| false, &mut record).unwrap();
    // The last token drawn is not in the cache, so one more than the room is drawn.
    assert_eq!(record.tokens[0].len(), 64 - 3 + 1);
    assert_eq!(record.finishes[0], Some(Finish::ContextFull));

    let mut record = Record::of(1);
    generate(&mut session, std::slice::from_ref(&endless), &|_| true, &mut record).unwrap();
    assert_eq!((record.tokens[0].len(), record.finishes[0]), (0, Some(Finish::EndOfText)));

    let mut record = Record { stop_after: Some(4), ..Record::of(40) };
    generate(&mut session, &vec![endless; 40], &|_| false, &mut record).unwrap();
    assert!(record.finishes.iter().all(|&why| why == Some(Finish::Stopped)));
    let free = (0..32).filter(|_| session.open(Sampling::GREEDY).is_ok()).count();
    assert_eq!(free, 32, "every slot was given back");
}

#[test]
fn prompts_that_cannot_run_are_refused_before_the_first_step() {
    let mut session = Fake::session(LIMITS);
    let mut refuse = |prompt: Vec<u32>| {
        let requests = [request(0), Request { prompt, ..request(0) }];
        let mut record = Record::of(2);
        let error = generate(&mut session, &requests, &|_| false, &mut record).unwrap_err();
        assert!(record.tokens[0].is_empty());
        error
    };
    assert!(matches!(refuse(vec![]), Error::EmptyPrompt { index: 1 }));
    assert!(matches!(refuse(vec![1; 65]), Error::ContextFull { adding: 65, .. }));
    assert!(matches!(refuse(vec![50]), Error::Token { token: 50, .. }));
}

#[test]
fn running_sequences_move_while_a_prompt_is_read() {
    let mut session = Fake::session(Limits { max_rows: 8, ..LIMITS });
    let running = session.open(Sampling::GREEDY).unwrap();
    let prompt = session.open(Sampling::GREEDY).unwrap();
    session.push(prompt, &[5; 30], Outputs::Last).unwrap();
    for step in 0..4 {
        session.push(running, &[step], Outputs::Last).unwrap();
        let rows = session.step().unwrap();
        assert_eq!((rows.rows, rows.prompt_rows), (8, 7));
        assert!(session.has_logits(running));
        assert!(!session.has_logits(prompt));
    }
    assert_eq!(session.step().unwrap().rows, 2);
    assert!(session.has_logits(prompt));
    assert!(matches!(session.sample(running), Err(Error::NoLogits { .. })));
    assert_eq!(session.step().unwrap().rows, 0);
}

#[test]
fn outputs_are_those_that_were_asked_for() {
    let mut session = Fake::session(Limits { max_rows: 4, ..LIMITS });
    let slot = session.open(Sampling::GREEDY).unwrap();
    session.push(slot, &[1, 2, 3], Outputs::None).unwrap();
    session.step().unwrap();
    assert!(session.outputs().is_empty());
    session.push(slot, &[4, 5, 6, 7, 8, 9], Outputs::All).unwrap();
    let mut positions = Vec::new();
    let mut last = Vec::new();
    while session.waiting(slot) > 0 {
        session.step().unwrap();
        positions.extend(session.outputs().iter().map(|output| output.position));
        last = session.logits(session.outputs().len() - 1).to_vec();
    }
    assert_eq!(positions, [3, 4, 5, 6, 7, 8]);
    assert_eq!(session.sample(slot).unwrap(), greedy(&last));
    assert_eq!(session.length(slot), 9);
    session.close(slot).unwrap();
    assert!(matches!(session.push(slot, &[1], Outputs::Last), Err(Error::Slot { .. })));
}

#[test]
fn slots_run_out_by_name() {
    let mut session = Fake::session(Limits { slots: 2, ..LIMITS });
    session.open(Sampling::GREEDY).unwrap();
    let second = session.open(Sampling::GREEDY).unwrap();
    assert!(matches!(session.open(Sampling::GREEDY), Err(Error::NoSlot { slots: 2 })));
    session.close(second).unwrap();
    assert_eq!(session.open(Sampling::GREEDY).unwrap(), second);
    let bad = Sampling { top_p: 2.0, ..Sampling::GREEDY };
    assert!(matches!(session.open(bad), Err(Error::Sampling { option: "--top-p", .. })));
}

#[test]
fn perplexity_scores_the_second_half_of_each_chunk() {
    let tokens: Vec<u32> = (0..50).map(|i| i * 7 % 50).collect();
    let mut session = Fake::session(Limits { max_rows: 6, ..LIMITS });
    let mut chunks = 0;
    let score = perplexity::score(&mut session, &tokens, 16, Some(0), &mut |_, _| {
        chunks += 1;
        ControlFlow::Continue(())
    });
    let score = score.unwrap();
    assert_eq!((chunks, score.count), (3, 3 * 7));

    let mut by_hand = perplexity::Score::default();
    for chunk in tokens.chunks_exact(16) {
        let mut session = Fake::session(LIMITS);
        let slot = session.open(Sampling::GREEDY).unwrap();
        session.push(slot, &[0], Outputs::None).unwrap();
        session.push(slot, &chunk[1..], Outputs::All).unwrap();
        session.step().unwrap();
        for index in 8..15 {
            by_hand.add(session.logits(index), chunk[index + 1]);
        }
    }
    assert!((score.sum - by_hand.sum).abs() < 1e-9);
    assert_eq!(score.count, by_hand.count);
}

/// A device whose arithmetic overflowed.
struct Overflowed(Limits);

impl Driver for Overflowed {
    fn limits(&self) -> Limits {
        self.0
    }

    fn step(&mut self, _: &[Row], logits: &mut [f32]) -> Result<(), Error> {
        logits.fill(f32::NAN);
        Ok(())
    }
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let mut session = Session::new(Box::new(Overflowed(LIMITS)));
    for sampling in [Sampling::GREEDY, Sampling { temperature: 1.0, ..Sampling::GREEDY }] {
        let slot = session.open(sampling).unwrap();
        session.push(slot, &[1, 2], Outputs::Last).unwrap();
        session.step().unwrap();
        let error = session.sample(slot).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        session.close(slot).unwrap();
    }
}
