//! One credential that is wanted: kept, repaired, renamed or created, or left to its owner.

use super::{
    super::{Action, Plan, Progress, Unless},
    limit::{LIMIT, users},
    ownership::{is_adoptable, is_touchable},
};
use crate::{
    api::{CredentialRecord, ExistingCredentials, Reason},
    azure::CredentialProperties,
    model::{CredentialName, FederatedCredential, IdentityId, Issuer, Subject},
    observe::Snapshot,
    problem::{Problem, Retry},
};

/// A credential that is wanted, and everything that decides what to do for it.
pub(super) struct Candidate<'a> {
    pub snapshot: &'a Snapshot,
    pub identity: &'a IdentityId,
    pub issuer: &'a Issuer,
    pub subject: &'a Subject,
    pub name: CredentialName,
    pub live: &'a [FederatedCredential],
}

impl Candidate<'_> {
    pub fn decide(self, plan: &mut Plan) -> (Option<String>, Progress) {
        let subject = self.subject.to_string();
        let same_tuple = self
            .live
            .iter()
            .find(|c| c.trusts(self.issuer.as_str(), &subject));
        let same_name = self.live.iter().find(|c| c.is_named(self.name.as_str()));
        // Azure takes one credential per issuer and subject, whatever its name.
        let Some(found) = same_tuple.or(same_name) else {
            return self.create(plan);
        };
        let lets_us_in = same_tuple.is_some();
        if lets_us_in && found.audiences == [self.snapshot.audience.clone()] {
            return self.keep(found, plan);
        }
        let is_to_be_repaired = if lets_us_in {
            self.is_ours(found) || self.is_marked_ours(found) || self.adopts(found)
        } else {
            // Two that chose the same names must not take them from each other in turns.
            self.is_ours(found) && !self.snapshot.is_claimed(self.identity, found)
        };
        if is_to_be_repaired {
            return self.repair(found, plan);
        }
        let message = if lets_us_in {
            format!(
                "Credential {name} of identity {identity} trusts {subject}, but with audience {audience:?} instead of {ours:?}, and it is not ours. Set spec.federation.existingCredentials to Adopt, or delete it: {delete}",
                delete = self.identity.az_delete(&found.name),
                name = found.name,
                identity = self.identity,
                audience = found.audiences,
                ours = self.snapshot.audience,
            )
        } else {
            format!(
                "Identity {identity} already has a credential {name}, which trusts {theirs} of issuer {issuer}, and it is not ours. It is left alone. Set spec.federation.credentialName to another name, or delete it: {delete}",
                delete = self.identity.az_delete(&found.name),
                identity = self.identity,
                name = found.name,
                theirs = found.subject,
                issuer = found.issuer,
            )
        };
        (
            Some(found.name.clone()),
            Progress::Blocked(conflict(message)),
        )
    }

    /// It is there. Under our name it is ours; under another it is used as it is, unless we
    /// wrote it and the name was changed since.
    fn keep(self, found: &FederatedCredential, plan: &mut Plan) -> (Option<String>, Progress) {
        let adopts = self.adopts(found);
        if adopts && found.is_marked == Some(false) {
            return self.repair(found, plan); // takes our description
        }
        // Nobody else derives our name; one that the user chose may be the user's work.
        let derived = CredentialName::derived(self.issuer, self.subject);
        let is_derived = derived == self.name && found.is_named(derived.as_str());
        if adopts || found.is_marked.unwrap_or(is_derived) {
            plan.records.insert(self.record(&found.name));
        }
        if adopts || found.is_named(self.name.as_str()) {
            return (Some(found.name.clone()), Progress::Holds);
        }
        let is_shared = self.snapshot.is_claimed(self.identity, found);
        let name_is_free = !self.live.iter().any(|c| c.is_named(self.name.as_str()));
        if self.is_ours(found) && !is_shared && name_is_free {
            return self.rename(found, plan);
        }
        (Some(found.name.clone()), Progress::Holds)
    }

    /// Ours, but somebody changed it.
    fn repair(self, found: &FederatedCredential, plan: &mut Plan) -> (Option<String>, Progress) {
        match found.name.parse() {
            Ok(name) => Self { name, ..self }.write(Vec::new(), plan),
            // Azure has it, so it is valid; if not, it is nothing that we wrote.
            Err(invalid) => (
                Some(found.name.clone()),
                Progress::Blocked(conflict(invalid.to_string())),
            ),
        }
    }

    /// The old one has to go first: Azure refuses a second credential for one subject.
    fn rename(self, found: &FederatedCredential, plan: &mut Plan) -> (Option<String>, Progress) {
        let record = self.record(&found.name);
        let delete = plan.delete_credential(
            self.snapshot,
            self.identity,
            record,
            found,
            Unless::Wanted,
            Vec::new(),
        );
        self.write(vec![delete], plan)
    }

    fn create(self, plan: &mut Plan) -> (Option<String>, Progress) {
        let planned = plan
            .steps
            .iter()
            .filter(|step| matches!(&step.action, Action::PutCredential { name, .. } if !self.live.iter().any(|c| c.is_named(name.as_str()))))
            .count();
        if self.live.len() + planned >= LIMIT {
            let problem = Problem {
                reason: Reason::LimitReached,
                message: format!(
                    "Identity {identity} carries {count} of at most {LIMIT} federated credentials; there is no room for {subject}. They are used by {users}. Delete one that nobody needs ({list}), or use one identity per Airflow.",
                    list = self.identity.az_list(),
                    identity = self.identity,
                    count = self.live.len(),
                    subject = self.subject,
                    users = users(self.issuer, self.live),
                ),
                retry: Retry::Slow,
            };
            return (Some(self.name.to_string()), Progress::Blocked(problem));
        }
        self.write(Vec::new(), plan)
    }

    fn write(self, after: Vec<usize>, plan: &mut Plan) -> (Option<String>, Progress) {
        plan.records.insert(self.record(self.name.as_str()));
        let properties = CredentialProperties {
            issuer: self.issuer.to_string(),
            subject: self.subject.to_string(),
            audiences: vec![self.snapshot.audience.clone()],
        };
        let name = self.name.to_string();
        let action = Action::PutCredential {
            identity: self.identity.clone(),
            replaces: self
                .live
                .iter()
                .find(|c| c.is_named(self.name.as_str()))
                .cloned(),
            name: self.name,
            properties,
        };
        (Some(name), Progress::Pending(plan.push(action, after)))
    }

    fn is_ours(&self, live: &FederatedCredential) -> bool {
        let recorded = self
            .snapshot
            .records()
            .any(|(identity, record)| identity == *self.identity && live.is_named(&record.name));
        recorded && is_touchable(self.snapshot, live)
    }

    /// Whether a description says that we wrote it, although nothing is on record.
    fn is_marked_ours(&self, live: &FederatedCredential) -> bool {
        live.is_marked == Some(true) && is_touchable(self.snapshot, live)
    }

    /// Whether one that somebody else wrote for this account becomes ours.
    fn adopts(&self, found: &FederatedCredential) -> bool {
        let policy = self.snapshot.object.spec.federation.existing_credentials;
        // Applications take names that managed identities do not; those are used as they are.
        let is_named_well = found.name.parse::<CredentialName>().is_ok();
        policy == ExistingCredentials::Adopt && is_named_well && is_adoptable(self.snapshot, found)
    }

    /// The record that is there, whatever its letter case, or a new one.
    fn record(&self, name: &str) -> CredentialRecord {
        let subject = self.subject.to_string();
        let recorded = self.snapshot.records().find(|(identity, record)| {
            identity == self.identity
                && record.name.eq_ignore_ascii_case(name)
                && record.issuer == self.issuer.as_str()
                && record.subject == subject
        });
        if let Some((_, record)) = recorded {
            return record.clone();
        }
        CredentialRecord {
            identity: self.identity.to_string(),
            name: name.to_owned(),
            issuer: self.issuer.to_string(),
            subject,
        }
    }
}

fn conflict(message: String) -> Problem {
    Problem {
        reason: Reason::Conflict,
        message,
        retry: Retry::Slow,
    }
}
