//! The end of recorded credentials that nobody wants any longer.

use super::{
    super::{Action, Plan, Progress},
    ownership::is_touchable,
};
use crate::{
    api::{ConditionType, CredentialRecord, DeletionPolicy},
    azure::AzureErrorKind,
    model::{IdentityId, Subject},
    observe::Snapshot,
    problem::Problem,
};

/// Plans their deletion. One that is no longer granted goes at once. One that is replaced by
/// another on a new identity goes last, when everything points to the new one; and not while the
/// new identity cannot take over.
pub(in crate::plan) fn delete(snapshot: &Snapshot, plan: &mut Plan) {
    revoke(snapshot, plan);
    let Ok(current) = &snapshot.identity else {
        return; // what is wanted is not known
    };
    let retain = snapshot.object.spec.federation.deletion_policy == DeletionPolicy::Retain;
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
        let is_asked_for = snapshot
            .discovery
            .accounts
            .iter()
            .any(|a| Some(a.name.as_str()) == account);
        if !is_asked_for {
            plan.drop_credential(snapshot, &identity, record, retain, Vec::new());
        } else if plan.has_successor(record) {
            plan.drop_credential(
                snapshot,
                &identity,
                record,
                retain,
                everything_before.clone(),
            );
        }
    }
}

/// Plans the deletion of those that are no longer granted, whatever the object says of keeping
/// credentials.
pub(in crate::plan) fn revoke(snapshot: &Snapshot, plan: &mut Plan) {
    for (identity, record) in snapshot.records() {
        if is_revoked(snapshot, &identity, record) && !plan.is_being_replaced(record) {
            plan.drop_credential(snapshot, &identity, record, false, Vec::new());
        }
    }
}

fn is_revoked(snapshot: &Snapshot, identity: &IdentityId, record: &CredentialRecord) -> bool {
    let account = Subject::account_in(&record.subject, &snapshot.namespace);
    !account.is_some_and(|account| snapshot.covers(identity, account))
}

impl Plan {
    /// Deletes a recorded credential if it is there and ours; else forgets it.
    pub(in crate::plan) fn drop_credential(
        &mut self,
        snapshot: &Snapshot,
        identity: &IdentityId,
        record: &CredentialRecord,
        retain: bool,
        after: Vec<usize>,
    ) {
        if self.is_overwritten(identity, record) {
            self.forgotten.insert(record.clone());
            return;
        }
        if !snapshot.is_ours(&record.issuer) && !snapshot.is_deleting() {
            return; // perhaps it will be known again that the cluster once had this issuer
        }
        if retain {
            self.forgotten.insert(record.clone());
            return;
        }
        let listed = snapshot.azure.get(identity).map(|view| &view.credentials);
        let live = match listed {
            Some(Ok(credentials)) => credentials.iter().find(|c| c.is_named(&record.name)),
            Some(Err(error)) if error.kind == AzureErrorKind::NotFound => None,
            Some(Err(error)) => {
                let what = format!("cannot list the credentials of identity {identity}");
                let problem = Problem::azure(&what, identity, error);
                self.blocked
                    .entry(ConditionType::CredentialsFederated)
                    .or_insert(problem);
                return;
            }
            None => None,
        };
        let claimed = snapshot
            .claimed_by_others
            .iter()
            .any(|(other, name)| other == identity && name.eq_ignore_ascii_case(&record.name));
        match live {
            Some(live) if !claimed && is_touchable(snapshot, live) => {
                let action = Action::DeleteCredential {
                    record: record.clone(),
                    seen: live.clone(),
                    identity: identity.clone(),
                };
                self.push(action, after);
            }
            _ => {
                self.forgotten.insert(record.clone());
            }
        }
    }

    fn is_being_replaced(&self, record: &CredentialRecord) -> bool {
        self.steps.iter().any(|step| {
            matches!(&step.action, Action::DeleteCredential { record: deleted, .. } if deleted == record)
        })
    }

    /// Whether the credential becomes another's under the same name: the chosen names do when
    /// the cluster's issuer changes.
    fn is_overwritten(&self, identity: &IdentityId, record: &CredentialRecord) -> bool {
        self.steps.iter().any(|step| match &step.action {
            Action::PutCredential {
                identity: of, name, ..
            } => of == identity && name.as_str().eq_ignore_ascii_case(&record.name),
            _ => false,
        })
    }

    /// Whether an account goes by this credential.
    fn wants(&self, record: &CredentialRecord, snapshot: &Snapshot) -> bool {
        let issuer = snapshot.issuer.as_ref();
        if issuer.is_ok_and(|issuer| issuer.as_str() != record.issuer) {
            return false;
        }
        let mut names = self
            .accounts
            .iter()
            .filter_map(|a| a.credential_name.as_ref());
        names.any(|name| name.eq_ignore_ascii_case(&record.name))
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
