//! The end of recorded credentials that nobody wants any longer.

use super::{
    super::{Action, LOOK_AGAIN, Plan, Progress, Unless},
    ownership::is_touchable,
};
use crate::{
    api::{ConditionType, CredentialRecord, DeletionPolicy, Reason},
    azure::AzureErrorKind,
    model::{FederatedCredential, IdentityId, Subject},
    observe::Snapshot,
    problem::{Problem, Retry},
};

/// What may stay on an identity although the object does not want it any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Keep {
    /// Nothing: no grant covers it.
    Nothing,
    /// What another object wants.
    Claimed,
    /// Everything: the user said so.
    All,
}

impl Keep {
    /// What the object asks for.
    pub fn of(snapshot: &Snapshot) -> Self {
        let policy = snapshot.object.spec.federation.deletion_policy;
        if policy == DeletionPolicy::Retain || snapshot.is_abandoned() {
            Self::All
        } else {
            Self::Claimed
        }
    }
}

/// Plans their deletion. One that is no longer granted goes at once. One that is replaced by
/// another on a new identity goes last, when everything points to the new one; and not while the
/// new identity cannot take over.
pub(in crate::plan) fn delete(snapshot: &Snapshot, plan: &mut Plan) {
    revoke(snapshot, plan);
    let Ok(current) = &snapshot.identity else {
        return; // what is wanted is not known
    };
    let keep = Keep::of(snapshot);
    let everything_before: Vec<usize> = (0..plan.steps.len()).collect();
    for (identity, record) in snapshot.records() {
        let is_wanted = identity == *current && plan.wants(record, snapshot);
        if is_wanted || plan.is_being_replaced(record) {
            continue;
        }
        if is_revoked(snapshot, &identity, record) {
            continue; // gone already
        }
        let account = Subject::account_in(&record.subject, &snapshot.namespace);
        let is_asked_for = account.is_some_and(|account| snapshot.discovery.asks_for(account));
        if !is_asked_for {
            plan.drop_credential(snapshot, &identity, record, keep, Vec::new());
        } else if plan.has_successor(record) {
            plan.drop_credential(snapshot, &identity, record, keep, everything_before.clone());
        }
    }
}

/// Plans the deletion of those that are no longer granted, whatever the object says of keeping
/// credentials.
pub(in crate::plan) fn revoke(snapshot: &Snapshot, plan: &mut Plan) {
    for (identity, record) in snapshot.records() {
        if is_revoked(snapshot, &identity, record) && !plan.is_being_replaced(record) {
            // Whoever else has it on record may not keep it either.
            plan.drop_credential(snapshot, &identity, record, Keep::Nothing, Vec::new());
        }
    }
}

fn is_revoked(snapshot: &Snapshot, identity: &IdentityId, record: &CredentialRecord) -> bool {
    let account = Subject::account_in(&record.subject, &snapshot.namespace);
    !account.is_some_and(|account| snapshot.covers(identity, account))
}

impl Plan {
    /// Deletes a recorded credential if it is there, ours, and nobody else's; else leaves or forgets it.
    pub(in crate::plan) fn drop_credential(
        &mut self,
        snapshot: &Snapshot,
        identity: &IdentityId,
        record: &CredentialRecord,
        keep: Keep,
        after: Vec<usize>,
    ) {
        if self.is_taken_over(snapshot, identity, record) {
            self.forgotten.insert(record.clone());
            return;
        }
        if !snapshot.is_ours(&record.issuer) && !snapshot.is_deleting() {
            return; // perhaps it will be known again that the cluster once had this issuer
        }
        let leave = |to_another| Action::LeaveCredential {
            record: record.clone(),
            identity: identity.clone(),
            to_another,
        };
        if keep == Keep::All {
            self.push(leave(None), after);
            return;
        }
        let listed = snapshot.azure.get(identity).map(|view| &view.credentials);
        let live = match listed {
            Some(Ok(credentials)) => credentials.iter().find(|c| c.is_named(&record.name)),
            Some(Err(error)) if error.kind == AzureErrorKind::NotFound => None,
            Some(Err(error)) => {
                let what = format!("cannot list the credentials of identity {identity}");
                let mut problem = Problem::azure(&what, identity, error);
                if !snapshot.is_deleting() && keep != Keep::Nothing {
                    problem.message = format!(
                        "{message} It still carries credential {name}, which is no longer wanted. To leave it there: {let_go}",
                        message = problem.message,
                        name = record.name,
                        let_go = snapshot.abandon_command(),
                    );
                }
                self.blocked
                    .entry(ConditionType::CredentialsFederated)
                    .or_insert(problem);
                return;
            }
            None => None,
        };
        let is_listed = matches!(listed, Some(Ok(_)));
        if live.is_none() && is_listed && snapshot.is_hidden(identity, &record.subject) {
            let message = format!(
                "Microsoft Graph does not list credential {name} yet, which was written minutes ago. It is deleted when it shows.",
                name = record.name,
            );
            self.wait_for_credential(message);
            return;
        }
        let ours = live.filter(|live| is_touchable(snapshot, live));
        if ours.is_none() && is_listed && snapshot.is_unsettled(identity, &record.name) {
            self.look_for_again(
                snapshot,
                &format!("Credential {} is not there.", record.name),
            );
            return;
        }
        let is_past = self.is_past(snapshot, identity, record);
        let may_be_kept = keep == Keep::Claimed && !is_past;
        match ours {
            Some(live) if may_be_kept && snapshot.is_claimed(identity, live) => {
                self.push(leave(Some(live.clone())), after);
            }
            Some(live) => {
                let unless = match keep {
                    Keep::Nothing => Unless::Granted,
                    Keep::Claimed if !is_past => Unless::Wanted,
                    Keep::Claimed | Keep::All => Unless::Nothing,
                };
                let record = record.clone();
                self.delete_credential(snapshot, identity, record, live, unless, after);
            }
            None => {
                self.forgotten.insert(record.clone());
            }
        }
    }

    /// Deletes what is there; and lets it go from the record, unless a write of before may bring it back.
    pub(super) fn delete_credential(
        &mut self,
        snapshot: &Snapshot,
        identity: &IdentityId,
        record: CredentialRecord,
        seen: &FederatedCredential,
        unless: Unless,
        after: Vec<usize>,
    ) -> usize {
        let may_return = snapshot.is_unsettled(identity, &record.name);
        if may_return {
            self.look_for_again(snapshot, &format!("Credential {} is deleted.", record.name));
        }
        let action = Action::DeleteCredential {
            record,
            seen: seen.clone(),
            identity: identity.clone(),
            may_return,
            unless,
        };
        self.push(action, after)
    }

    /// Only an object that goes waits for a credential that nobody wants and that is not there.
    fn look_for_again(&mut self, snapshot: &Snapshot, what: &str) {
        if snapshot.is_deleting() {
            let seconds = LOOK_AGAIN.as_secs();
            self.wait_for_credential(format!(
                "{what} A write that was under way when the operator started, or gave it up, may still bring it: it is looked for again after {seconds} seconds.",
            ));
        } else {
            self.look_again = Some(LOOK_AGAIN);
        }
    }

    fn wait_for_credential(&mut self, message: String) {
        let problem = Problem {
            reason: Reason::Waiting,
            message,
            retry: Retry::After(LOOK_AGAIN),
        };
        self.blocked
            .entry(ConditionType::CredentialsFederated)
            .or_insert(problem);
    }

    /// Whether the cluster has another issuer now, and the account a credential for that one, or gets it:
    /// then nobody goes by this one, or two objects would each leave it to the other.
    fn is_past(
        &self,
        snapshot: &Snapshot,
        identity: &IdentityId,
        record: &CredentialRecord,
    ) -> bool {
        let Ok(issuer) = &snapshot.issuer else {
            return false;
        };
        let listed = snapshot.azure.get(identity).map(|view| &view.credentials);
        let mut live = listed.into_iter().flatten().flatten();
        issuer.as_str() != record.issuer
            && (self.has_successor(record)
                || live.any(|live| live.trusts(issuer.as_str(), &record.subject)))
    }

    fn is_being_replaced(&self, record: &CredentialRecord) -> bool {
        self.steps.iter().any(|step| {
            matches!(&step.action, Action::DeleteCredential { record: deleted, .. } if deleted == record)
        })
    }

    /// Whether the credential is, or becomes, another under the same name: the chosen names do
    /// when the cluster's issuer changes, or the account of a component; and back.
    fn is_taken_over(
        &self,
        snapshot: &Snapshot,
        identity: &IdentityId,
        record: &CredentialRecord,
    ) -> bool {
        let is_overwritten = self.steps.iter().any(|step| match &step.action {
            Action::PutCredential {
                identity: of, name, ..
            } => of == identity && name.as_str().eq_ignore_ascii_case(&record.name),
            _ => false,
        });
        let issuer = snapshot.issuer.as_ref();
        let has_other_issuer = issuer.is_ok_and(|issuer| issuer.as_str() != record.issuer);
        let serves_another = snapshot.identity.as_ref() == Ok(identity)
            && self.accounts.iter().any(|account| {
                let name = account.credential_name.as_ref();
                (account.subject.to_string() != record.subject || has_other_issuer)
                    && !matches!(account.credential, Progress::Blocked(_))
                    && name.is_some_and(|name| name.eq_ignore_ascii_case(&record.name))
            });
        is_overwritten || serves_another
    }

    /// Whether an account goes by this credential.
    fn wants(&self, record: &CredentialRecord, snapshot: &Snapshot) -> bool {
        let issuer = snapshot.issuer.as_ref();
        if issuer.is_ok_and(|issuer| issuer.as_str() != record.issuer) {
            return false;
        }
        self.accounts.iter().any(|account| {
            let name = account.credential_name.as_ref();
            account.subject.to_string() == record.subject
                && name.is_some_and(|name| name.eq_ignore_ascii_case(&record.name))
        })
    }

    /// Whether the record's subject has a credential on the current identity, or gets one now;
    /// and its account's annotation goes by it.
    fn has_successor(&self, record: &CredentialRecord) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|account| {
            account.subject.to_string() == record.subject
                && [&account.credential, &account.annotation]
                    .iter()
                    .all(|part| matches!(part, Progress::Holds | Progress::Pending(_)))
        })
    }
}
