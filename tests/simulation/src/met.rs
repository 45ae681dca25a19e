//! What runs have to meet now and then: a fault that never comes proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use strum::VariantArray;

use crate::api_server::{ApiServer, Change};
use crate::weather::What;

/// Something that may happen in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum Event {
    Crash,
    Stop,
    Pause,
    CutFromCluster,
    CutFromAzure,
    HistoryForgotten,
    ClockJump,
    IssuerMoved,
    LeaderChanged,
    WatchBroken,
    WatchExpired,
    /// A request of the operator's to change something was not answered, ...
    WriteUnanswered,
    /// ... arrived twice, ...
    WriteTwice,
    /// ... or was done, and answered with an error.
    WriteDoubted,
    /// The API server answered 409, ...
    ClusterConflict,
    /// ... or Azure did.
    AzureConflict,
    AzureThrottled,
    /// Entra took an account's token, ...
    Exchanged,
    /// ... or did not.
    NotExchanged,
    /// The operator took a credential from an identity that its object has left for another one.
    IdentityLeft,
    /// The operator deleted a Secret of an object that stays, ...
    SecretGivenUp,
    /// ... or its Role.
    RoleGivenUp,
    /// A write waited for Azure, and meanwhile the grant for it went, ...
    GrantTakenMeanwhile,
    /// ... somebody changed the credential that it was about, ...
    CredentialChangedMeanwhile,
    /// ... or declared the annotation that was to be put right after it.
    AnnotationDeclaredMeanwhile,
    /// In the end an object was ready, ...
    EndedReady,
    /// ... was suspended, ...
    EndedSuspended,
    /// ... had an account that no grant covers, ...
    EndedNotGranted,
    /// ... or one whose credential's name somebody else has.
    EndedInConflict,
    /// The operator has no role for it.
    ListForbidden,
    PutForbidden,
    DeleteForbidden,
}

/// How often each has happened.
#[derive(Clone, Debug, Default)]
pub struct Met(BTreeMap<Event, u64>);

impl Met {
    pub fn add(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }

    /// What became of a write, wherever it went.
    pub fn add_write(&mut self, what: What) {
        match what {
            What::LostThere | What::LostBack | What::Silence => self.add(Event::WriteUnanswered),
            What::Twice => self.add(Event::WriteTwice),
            What::Doubted(_) => self.add(Event::WriteDoubted),
            What::Passes | What::Refused(..) => {}
        }
    }

    /// What the operator changed in the cluster.
    pub fn add_change(&mut self, api: &ApiServer, change: &Change) {
        let (Some(before), None) = (&change.before, &change.after) else {
            return;
        };
        let event = match change.plural {
            "secrets" => Event::SecretGivenUp,
            "roles" => Event::RoleGivenUp,
            _ => return,
        };
        let owner = &before["metadata"]["ownerReferences"][0]["uid"];
        let mut objects = api.list("airflowworkloadidentities");
        let stays = objects.any(|object| {
            let metadata = &object["metadata"];
            metadata["uid"] == *owner && metadata["deletionTimestamp"].is_null()
        });
        if stays {
            self.add(event);
        }
    }

    /// Those of another run, too.
    pub fn merge(&mut self, other: &Self) {
        for (event, count) in &other.0 {
            *self.0.entry(*event).or_default() += count;
        }
    }

    /// What has never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<Event> {
        let mut all = Event::VARIANTS.to_vec();
        all.retain(|event| !self.0.contains_key(event));
        all
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self
            .0
            .iter()
            .map(|(event, count)| format!("{event:?} {count}"));
        f.write_str(&all.collect::<Vec<_>>().join(", "))
    }
}
