//! Plans whose code may run.

use std::ops::Deref;
use std::sync::Arc;

use super::{TrustError, TrustedKeys};
use crate::PlanFile;

/// A plan whose code may run here, because of a key or of somebody's word. Drivers take nothing
/// else, so that none can be loaded before someone asked. Clones are of one map.
#[derive(Clone)]
pub struct AllowedPlan(Arc<PlanFile>);

impl AllowedPlan {
    /// A plan that one of these keys signed.
    ///
    /// # Errors
    /// As of [`PlanFile::require_trust`].
    pub fn signed(plan: impl Into<Arc<PlanFile>>, keys: &TrustedKeys) -> Result<Self, TrustError> {
        let plan = plan.into();
        plan.require_trust(keys)?;
        Ok(Self(plan))
    }

    /// Any plan. Whoever calls this answers for all that the plan's code may do: it has been asked
    /// for, as by `--allow-untrusted`, or the caller made the plan.
    pub fn untrusted(plan: impl Into<Arc<PlanFile>>) -> Self {
        Self(plan.into())
    }
}

impl Deref for AllowedPlan {
    type Target = PlanFile;

    fn deref(&self) -> &PlanFile {
        &self.0
    }
}
