//! Many prompts to many continuations: a queue of requests over the slots of a session.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::Error;
use crate::driver::Limits;
use crate::sampler::Sampling;
use crate::session::{Outputs, Session, SlotId};

/// One prompt to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// At least one token.
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    /// Most new tokens; `None` goes on to the end of the text or of the context.
    pub limit: Option<usize>,
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model drew an end token, which is not reported as a token.
    EndOfText,
    Limit,
    ContextFull,
    /// The observer asked to stop.
    Stopped,
}

/// Who receives the tokens.
pub trait Observer {
    /// A new token of request `index`. Breaking ends all requests.
    fn token(&mut self, index: usize, token: u32) -> ControlFlow<()>;
    /// Request `index` is complete.
    fn finished(&mut self, index: usize, why: Finish);
    /// Asked before every step; breaking ends all requests.
    fn proceed(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What was run and how long it took. A step counts as prefill when it holds prompt rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    pub prompt_tokens: usize,
    pub prefill: Duration,
    /// All tokens drawn, end tokens included.
    pub generated: usize,
    /// Tokens drawn by steps without prompt rows.
    pub decoded: usize,
    pub decode: Duration,
    pub first_token: Option<Instant>,
}

struct Running {
    request: usize,
    slot: SlotId,
    produced: usize,
    limit: usize,
}

/// Continues every request until it ends. Requests beyond the free slots wait for one. A request's
/// tokens do not depend on the others.
///
/// # Errors
/// Before the first step: an empty prompt, one that does not fit the context, a token outside the
/// vocabulary, an option out of range. Later: what the driver refuses.
pub fn generate(
    session: &mut Session,
    requests: &[Request],
    is_end: &dyn Fn(u32) -> bool,
    observer: &mut dyn Observer,
) -> Result<Timing, Error> {
    check(session, requests)?;
    let mut queue: VecDeque<usize> = (0..requests.len()).collect();
    let mut running = Vec::new();
    let mut timing = Timing::default();
    let result = loop {
        if let Err(error) = admit(session, requests, &mut queue, &mut running, &mut timing) {
            break Err(error);
        }
        if running.is_empty() {
            break Ok(timing);
        }
        if observer.proceed().is_break() {
            break Ok(timing);
        }
        match turn(session, &mut running, &mut timing, is_end, observer) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break Ok(timing),
            Err(error) => break Err(error),
        }
    };
    for left in running {
        session.close(left.slot)?;
        observer.finished(left.request, Finish::Stopped);
    }
    for index in queue {
        observer.finished(index, Finish::Stopped);
    }
    result
}

fn check(session: &Session, requests: &[Request]) -> Result<(), Error> {
    let Limits { vocabulary, context, .. } = session.limits();
    for (index, request) in requests.iter().enumerate() {
        request.sampling.validate()?;
        let adding = request.prompt.len();
        if adding == 0 {
            return Err(Error::EmptyPrompt { index });
        }
        if adding > context as usize {
            return Err(Error::ContextFull { held: 0, adding, context });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
    }
    Ok(())
}

/// Gives waiting requests the free slots.
fn admit(
    session: &mut Session,
    requests: &[Request],
    queue: &mut VecDeque<usize>,
    running: &mut Vec<Running>,
    timing: &mut Timing,
) -> Result<(), Error> {
    while let Some(&index) = queue.front() {
        let request = &requests[index];
        let slot = match session.open(request.sampling) {
            Ok(slot) => slot,
            Err(Error::NoSlot { .. }) if !running.is_empty() => return Ok(()),
            Err(error) => return Err(error),
        };
        let limit = request.limit.unwrap_or(usize::MAX);
        running.push(Running { request: index, slot, produced: 0, limit });
        queue.pop_front();
        session.push(slot, &request.prompt, Outputs::Next)?;
        timing.prompt_tokens += request.prompt.len();
    }
    Ok(())
}

/// One step and the tokens it gives.
fn turn(
    session: &mut Session,
    running: &mut Vec<Running>,
    timing: &mut Timing,
    is_end: &dyn Fn(u32) -> bool,
    observer: &mut dyn Observer,
) -> Result<ControlFlow<()>, Error> {
    let start = Instant::now();
    // Nobody asks for more tokens than the sequence that ends first.
    let most = running.iter().map(|it| it.limit.saturating_sub(it.produced)).min().unwrap_or(1);
    let rows = session.step_ahead(most)?;
    let mut drawn = 0;
    let mut flow = ControlFlow::Continue(());
    let mut index = 0;
    while index < running.len() {
        let sequence = &mut running[index];
        if !session.has_logits(sequence.slot) {
            index += 1;
            continue;
        }
        let why = if sequence.limit == 0 {
            Some(Finish::Limit)
        } else {
            let token = session.sample(sequence.slot)?;
            drawn += 1;
            timing.first_token.get_or_insert_with(Instant::now);
            extend(session, sequence, token, is_end(token), observer, &mut flow)?
        };
        if let Some(why) = why {
            let ended = running.remove(index);
            session.close(ended.slot)?;
            observer.finished(ended.request, why);
        } else {
            index += 1;
        }
        if flow.is_break() {
            break;
        }
    }
    timing.generated += drawn;
    if rows.prompt_rows > 0 {
        timing.prefill += start.elapsed();
    } else {
        timing.decode += start.elapsed();
        timing.decoded += drawn;
    }
    Ok(flow)
}

/// Reports a drawn token and queues it, unless the sequence ends with it.
fn extend(
    session: &mut Session,
    sequence: &mut Running,
    token: u32,
    end: bool,
    observer: &mut dyn Observer,
    flow: &mut ControlFlow<()>,
) -> Result<Option<Finish>, Error> {
    if end {
        return Ok(Some(Finish::EndOfText));
    }
    *flow = observer.token(sequence.request, token);
    sequence.produced += 1;
    if sequence.produced == sequence.limit {
        return Ok(Some(Finish::Limit));
    }
    match session.push(sequence.slot, &[token], Outputs::Next) {
        Ok(()) => Ok(None),
        Err(Error::ContextFull { .. }) => Ok(Some(Finish::ContextFull)),
        Err(error) => Err(error),
    }
}
