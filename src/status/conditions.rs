//! Conditions as the API server stores them.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/condition/>

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{truncated, verdict::Verdict};
use crate::api::{ConditionType, Reason};

/// Longest message; what is longer helps nobody.
const MESSAGE: usize = 8 * 1024;

/// The conditions of a status in the making. Times of those that do not change are kept.
pub(super) struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    all: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(before: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            before,
            generation,
            now,
            all: Vec::new(),
        }
    }

    pub(super) fn all(self) -> Vec<Condition> {
        self.all
    }

    /// Keeps all but `Ready` as they were.
    pub(super) fn keep_all(&mut self) {
        let steps = self
            .before
            .iter()
            .filter(|c| c.type_ != ConditionType::Ready.to_string());
        self.all = steps.cloned().collect();
    }

    /// Says nothing of this one any longer.
    pub(super) fn drop(&mut self, type_: ConditionType) {
        let type_ = type_.to_string();
        self.all.retain(|condition| condition.type_ != type_);
    }

    pub(super) fn set(&mut self, type_: ConditionType, verdict: &Verdict) {
        let (status, reason, message) = match verdict {
            Verdict::True(message) => ("True", Reason::Done, message),
            Verdict::False(problem) => ("False", problem.reason, &problem.message),
            Verdict::Unknown(problem) => ("Unknown", problem.reason, &problem.message),
        };
        let type_ = type_.to_string();
        let since = self
            .before
            .iter()
            .find(|before| before.type_ == type_ && before.status == status)
            .map_or(Time(self.now), |before| before.last_transition_time.clone());
        let condition = Condition {
            type_,
            status: status.into(),
            reason: reason.to_string(),
            message: truncated(message, MESSAGE),
            observed_generation: self.generation,
            last_transition_time: since,
        };
        let mut all = self.all.iter_mut();
        if let Some(kept) = all.find(|kept| kept.type_ == condition.type_) {
            *kept = condition;
        } else if condition.type_ == ConditionType::Ready.to_string() {
            // Set last, and read first.
            self.all.insert(0, condition);
        } else {
            self.all.push(condition);
        }
    }
}
