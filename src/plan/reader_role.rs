//! The Role that lets Airflow's pods list the Secrets with the connections, when asked for, and for
//! no account longer than it is granted.

use std::collections::BTreeSet;

use super::{Action, Plan, Progress};
use crate::{
    api::Reason,
    observe::{ReaderRole, Snapshot, reader_role_name, wants_reader_role},
    problem::{Problem, Retry},
};

/// Plans the Role for the accounts that are granted, or its end.
pub(super) fn plan(snapshot: &Snapshot, plan: &mut Plan) {
    let accounts: BTreeSet<String> = plan.accounts.iter().map(|a| a.name.clone()).collect();
    if !wants_reader_role(&snapshot.object) || accounts.is_empty() {
        remove(snapshot, plan);
        return;
    }
    let name = reader_role_name(&snapshot.object);
    let progress = match &snapshot.reader_role {
        Ok(Some(ReaderRole::Ours {
            accounts: bound,
            is_right: true,
        })) if *bound == accounts => Progress::Holds,
        Ok(Some(ReaderRole::Foreign)) => Progress::Blocked(Problem {
            reason: Reason::Conflict,
            message: format!(
                "Role or RoleBinding {name} exists and was not made for this object. It is left alone. Delete it, or set spec.connectionSecret.readerRole to false: kubectl delete role,rolebinding {name} -n {namespace}",
                namespace = snapshot.namespace,
            ),
            retry: Retry::Backoff,
        }),
        Ok(_) => {
            Progress::Pending(plan.push(Action::WriteReaderRole { name, accounts }, Vec::new()))
        }
        Err(problem) => Progress::Blocked(problem.clone()),
    };
    plan.reader_role = Some(progress);
}

/// Plans its end, if it is there and ours.
fn remove(snapshot: &Snapshot, plan: &mut Plan) {
    let progress = match &snapshot.reader_role {
        Ok(None | Some(ReaderRole::Foreign)) => return,
        // It never was.
        Ok(Some(ReaderRole::Incomplete)) if !is_on_record(snapshot) => return,
        Ok(Some(ReaderRole::Ours { .. } | ReaderRole::Incomplete)) => {
            let name = reader_role_name(&snapshot.object);
            Progress::Pending(plan.push(Action::DeleteReaderRole { name }, Vec::new()))
        }
        Err(problem) => Progress::Blocked(problem.clone()),
    };
    plan.reader_role = Some(progress);
}

/// While the object is suspended: takes it from accounts that are no longer granted.
pub(super) fn revoke(snapshot: &Snapshot, plan: &mut Plan) {
    let is_granted = |account: &String| match &snapshot.identity {
        Ok(identity) => snapshot.covers(identity, account),
        Err(_) => false,
    };
    let (bound, is_right) = match &snapshot.reader_role {
        Ok(Some(ReaderRole::Ours { accounts, is_right })) => (accounts.clone(), *is_right),
        // What is left of one that was to go.
        Ok(Some(ReaderRole::Incomplete)) if is_on_record(snapshot) => {
            let asked_for = snapshot.discovery.accounts.iter();
            (
                asked_for.map(|account| account.name.clone()).collect(),
                false,
            )
        }
        _ => return,
    };
    let accounts: BTreeSet<String> = bound.iter().filter(|a| is_granted(a)).cloned().collect();
    let name = reader_role_name(&snapshot.object);
    let action = if accounts == bound {
        return;
    } else if accounts.is_empty() || !is_right {
        // One that somebody changed is not repaired now.
        Action::DeleteReaderRole { name }
    } else {
        Action::WriteReaderRole { name, accounts }
    };
    plan.push(action, Vec::new());
}

fn is_on_record(snapshot: &Snapshot) -> bool {
    let status = snapshot.object.status.as_ref();
    status.is_some_and(|status| status.reader_role)
}
