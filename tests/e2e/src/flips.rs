//! Turns single bits of a signed plan round, one at a time, and tells what notices: opening it, its
//! signature, or the hash of its weights.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use onebit_plan::header::HEADER_BYTES;
use onebit_plan::trust::{Trust, TrustedKeys};
use onebit_plan::{PlanError, PlanFile};
use onebit_test_support::Random;

/// What became of the flips in one part of the file.
#[derive(Debug)]
pub struct Tally {
    /// `header`, `manifest`, `Weights`, `padding after Weights`, `signature`.
    pub part: String,
    pub bits: u64,
    /// How often each check was the first to notice.
    pub noticed: BTreeMap<String, u64>,
    /// Flips that no check noticed.
    pub missed: Vec<u64>,
}

/// Flips `flips` bits of the plan at `path`, the same number in each part; a part with fewer bits
/// has each of them flipped, over and over. The file is as it was afterwards.
///
/// # Errors
/// What the system refuses.
///
/// # Panics
/// When the plan as it is does not open, has no signature of `keys`, or damaged weights.
pub fn flip(path: &Path, keys: &TrustedKeys, flips: u64) -> io::Result<Vec<Tally>> {
    assert_eq!(first_to_notice(path, keys), None, "the plan is wrong before any flip");
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let parts = parts(&PlanFile::open(path).expect("it was opened before"));
    let share = flips.div_ceil(parts.len() as u64);
    let mut random = Random::new(0x0f11);
    let mut tallies = Vec::new();
    for (part, range) in parts {
        let bits = (range.end - range.start) * 8;
        let mut tally = Tally { part, bits, noticed: BTreeMap::new(), missed: Vec::new() };
        for index in 0..share {
            let bit = if bits <= share { index % bits } else { random.next_u64() % bits };
            let at = range.start + bit / 8;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at)?;
            match first_to_notice(path, keys) {
                Some(check) => *tally.noticed.entry(check).or_default() += 1,
                None => tally.missed.push(range.start * 8 + bit),
            }
            file.write_all_at(&byte, at)?;
        }
        tallies.push(tally);
    }
    assert_eq!(first_to_notice(path, keys), None, "the flips were taken back");
    Ok(tallies)
}

/// A table of the tallies.
pub fn report(tallies: &[Tally]) -> String {
    let mut text = String::new();
    for Tally { part, bits, noticed, missed } in tallies {
        text += &format!("{part} ({bits} bits): {} missed\n", missed.len());
        for (check, count) in noticed {
            text += &format!("  {count:>8}  {check}\n");
        }
    }
    let flips: u64 = tallies.iter().flat_map(|tally| tally.noticed.values()).sum();
    let missed: usize = tallies.iter().map(|tally| tally.missed.len()).sum();
    text + &format!("{} flips, {missed} missed\n", flips + missed as u64)
}

/// A copy of a plan that the key of tests signed.
pub fn signed_copy(plan: &Path, copy: &Path) -> Result<TrustedKeys, PlanError> {
    let key = crate::test_key();
    fs::copy(plan, copy).map_err(|source| PlanError::Io {
        action: "copy to",
        path: copy.to_owned(),
        source,
    })?;
    onebit_plan::sign_plan(copy, copy, &*key)?;
    Ok(TrustedKeys::from_iter([key.public_key()]))
}

/// The parts of the file, in order, without those that are empty.
fn parts(plan: &PlanFile) -> Vec<(String, Range<u64>)> {
    let mut parts = vec![("header".to_owned(), 0..HEADER_BYTES as u64)];
    let mut last = "the header".to_owned();
    let mut end = HEADER_BYTES as u64;
    for segment in &plan.manifest().segments {
        parts.push((format!("padding after {last}"), end..segment.offset));
        last = format!("{:?}", segment.kind);
        end = segment.offset + segment.length;
        parts.push((last.clone(), segment.offset..end));
    }
    let manifest = plan.unsigned_length() - plan.signed_message()[1].len() as u64;
    parts.push((format!("padding after {last}"), end..manifest));
    parts.push(("manifest".into(), manifest..plan.unsigned_length()));
    parts.push(("signature".into(), plan.unsigned_length()..plan.file_length()));
    parts.retain(|(_, range)| !range.is_empty());
    parts
}

/// The name of the first check that refuses the plan.
fn first_to_notice(path: &Path, keys: &TrustedKeys) -> Option<String> {
    let plan = match PlanFile::open(path) {
        Ok(plan) => plan,
        Err(error) => return Some(format!("open: {}", name(&error))),
    };
    match plan.trust(keys) {
        Trust::Trusted(_) => {}
        Trust::Unsigned => return Some("signature: none".into()),
        Trust::UnknownKey(_) => return Some("signature: of an unknown key".into()),
        Trust::Invalid(_) => return Some("signature: not of this plan".into()),
    }
    plan.verify_weights().err().map(|error| format!("--check-weights: {}", name(&error)))
}

/// A check by the place that its error names, without numbers.
fn name(error: &PlanError) -> String {
    match error {
        PlanError::NotAPlan { .. } => "magic".into(),
        PlanError::Version { .. } => "format version".into(),
        PlanError::Hash { segment, .. } => format!("hash of {segment:?}"),
        PlanError::Malformed { place, .. } => {
            place.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().trim_end().into()
        }
        PlanError::Io { .. } | PlanError::NotAFile { .. } => format!("unexpected: {error}"),
    }
}
