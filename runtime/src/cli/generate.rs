//! `onebit-rt run`.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onebit_rt::generate::{Request, Timing, generate};
use onebit_rt::sampler::Sampling;
use onebit_tokenizer::{EncodeOptions, Tokenizer};

use super::args::{Run, SamplingOptions};
use super::clock::Clock;
use super::failure::Failure;
use super::screen::{Screen, note};
use super::{chat, interrupt, load, tokenize};

/// Continues the prompts and prints them.
pub fn run(options: &Run, clock: &Clock) -> Result<ExitCode, Failure> {
    let plan = load::open(&options.machine)?;
    let tokenizer = load::tokenizer(&plan)?;
    let sampling = sampling(&options.sampling);
    sampling.validate()?;
    let requests = requests(options, &tokenizer, sampling)?;
    let at_once = options.parallel.map_or(requests.len(), |count| count.get() as usize);
    let slots = u32::try_from(at_once.min(requests.len())).unwrap_or(u32::MAX);
    let mut loaded = load::load(&plan, &options.machine, slots)?;
    interrupt::watch()?;

    let mut screen = Screen::new(tokenizer, requests.len());
    let is_end = |token| tokenizer.is_end_of_generation(token);
    let timing = generate(&mut loaded.session, &requests, &is_end, &mut screen)?;
    let context_full = screen.context_full();
    screen.result()?;
    if context_full {
        let context = plan.manifest().model.context;
        note(format_args!("note: stopped at the plan's context of {context} tokens\n"));
    }
    if !options.no_stats {
        statistics(&timing, clock, &loaded.device, &sampling);
    }
    Ok(match interrupt::requested() {
        true => ExitCode::from(interrupt::EXIT_CODE),
        false => ExitCode::SUCCESS,
    })
}

fn sampling(options: &SamplingOptions) -> Sampling {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Sampling {
        temperature: options.temp,
        top_k: options.top_k,
        top_p: options.top_p,
        min_p: options.min_p,
        repeat_penalty: options.repeat_penalty,
        repeat_last_n: options.repeat_last_n,
        seed: options.seed.unwrap_or_else(|| u64::from(clock().subsec_nanos())),
    }
}

/// One request for each prompt; with `--parallel` one prompt becomes as many, each with the next
/// seed.
fn requests(
    options: &Run,
    tokenizer: &Tokenizer<'_>,
    sampling: Sampling,
) -> Result<Vec<Request>, Failure> {
    let mut prompts = Vec::new();
    for text in texts(options)? {
        prompts.push(encode(options, tokenizer, &text)?);
    }
    if let (Some(count), [prompt]) = (options.parallel, prompts.as_slice()) {
        prompts = vec![prompt.clone(); count.get() as usize];
    }
    let request = |(index, prompt)| Request {
        prompt,
        sampling: Sampling { seed: sampling.seed.wrapping_add(index), ..sampling },
        limit: options.n_predict,
    };
    Ok((0..).zip(prompts).map(request).collect())
}

fn texts(options: &Run) -> Result<Vec<String>, Failure> {
    if let Some(path) = &options.prompts {
        let text = fs::read_to_string(path).map_err(Failure::io("read", path))?;
        let lines: Vec<String> =
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if lines.is_empty() {
            let message = format!("{} has no prompt", path.display());
            return Err(Failure::other(message, "write one prompt on each line"));
        }
        return Ok(lines);
    }
    if options.prompt.is_empty() {
        return Ok(vec![tokenize::standard_input()?]);
    }
    Ok(options.prompt.clone())
}

/// A prompt's tokens. Markers in it count as such, so that templates can be written by hand.
fn encode(options: &Run, tokenizer: &Tokenizer<'_>, text: &str) -> Result<Vec<u32>, Failure> {
    if options.chat {
        return chat::encode(tokenizer, options.system.as_deref(), text);
    }
    Ok(tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true }))
}

fn statistics(timing: &Timing, clock: &Clock, device: &str, sampling: &Sampling) {
    let rate = |tokens: usize, time: Duration| match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => tokens as f64 / seconds,
    };
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let prefill = rate(timing.prompt_tokens, timing.prefill);
    note(format_args!(
        "\nprompt       {:>6} tokens {:>10.1} ms {prefill:>9.1} tok/s\n",
        timing.prompt_tokens,
        milliseconds(timing.prefill),
    ));
    let decode = rate(timing.decoded, timing.decode);
    note(format_args!(
        "decode       {:>6} tokens {:>10.1} ms {decode:>9.1} tok/s\n",
        timing.decoded,
        milliseconds(timing.decode),
    ));
    if let Some(first) = timing.first_token {
        let first = milliseconds(clock.until(first));
        note(format_args!("first token  {first:>24.1} ms after the process began\n"));
    }
    note(format_args!("device       {device}\n"));
    if sampling.temperature > 0.0 {
        note(format_args!("seed         {}\n", sampling.seed));
    }
}
