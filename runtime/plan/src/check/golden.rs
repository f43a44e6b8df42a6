//! What must hold of golden vectors, so that nothing they say is an index out of range.

use super::{equal, range};
use crate::PlanError;
use crate::abi::TILE_ROWS;
use crate::golden::{
    GOLDEN_GROUP, GOLDEN_GROUPS, GOLDEN_TOKENS, GOLDEN_TOP, Golden, GoldenSums, GoldenValue,
    SKETCH_GROUP,
};
use crate::manifest::Manifest;

pub(crate) fn golden(manifest: &Manifest, golden: &Golden) -> Result<(), PlanError> {
    let vocabulary = manifest.model.vocabulary;
    let tokens = u32::try_from(golden.tokens.len()).unwrap_or(u32::MAX);
    range("golden tokens", tokens, (GOLDEN_TOKENS as u32).min(manifest.model.context))?;
    let top = u32::try_from(golden.top.len()).unwrap_or(u32::MAX);
    range("golden logits", top, GOLDEN_TOP as u32)?;
    let ids = golden.top.iter().map(|top| top.token);
    if let Some(token) = golden.tokens.iter().copied().chain(ids).find(|&it| it >= vocabulary) {
        let expected = format!("below {vocabulary}");
        return Err(PlanError::malformed("golden token", expected, token));
    }
    let Some(logits) = golden.values.last() else {
        return Err(PlanError::malformed("golden values", "at least one", "none"));
    };
    equal("columns of the golden logits", vocabulary.into(), logits.columns.into())?;
    golden.values.iter().try_for_each(value)?;
    golden.sums.iter().try_for_each(|it| sums(manifest, it))
}

fn value(value: &GoldenValue) -> Result<(), PlanError> {
    let sums = (value.columns as usize).div_ceil(SKETCH_GROUP);
    let place = format!("sums of golden value {}", value.value);
    equal(&place, sums as u64, value.sketch.sums.len() as u64)
}

fn sums(manifest: &Manifest, sums: &GoldenSums) -> Result<(), PlanError> {
    let weights = manifest.weights.len();
    let Some(record) = manifest.weights.get(sums.weight as usize) else {
        let expected = format!("one of {weights} weights");
        return Err(PlanError::malformed("golden sums", expected, sums.weight));
    };
    let place = format!("golden sums of {:?}", record.tensors);
    let first = u64::from(sums.tile) * TILE_ROWS as u64;
    let Some(rows) = u64::from(record.rows).checked_sub(first).filter(|&rows| rows > 0) else {
        let expected = format!("a tile of {} rows", record.rows);
        return Err(PlanError::malformed(place, expected, sums.tile));
    };
    let groups = u32::try_from(sums.groups.len()).unwrap_or(u32::MAX);
    range(&place, groups, GOLDEN_GROUPS as u32)?;
    let all = record.columns / GOLDEN_GROUP as u32;
    if let Some(group) = sums.groups.iter().find(|&&group| group >= all) {
        return Err(PlanError::malformed(place, format!("groups below {all}"), group));
    }
    let expected = u64::from(groups) * rows.min(TILE_ROWS as u64);
    equal(&place, expected, sums.sums.len() as u64)
}
