//! The two annotations on each ServiceAccount.
//!
//! Server-side apply without force, so that an annotation that someone else declared is a
//! conflict and stays. One exception: what was ours and was changed by hand (`kubectl annotate`
//! takes the field over) is drift, and drift is repaired. Whoever declares the field by
//! server-side apply is never overruled: the two would fight for ever.

use super::{Action, Ids, Plan, Progress, waiting};
use crate::{
    api::{
        CLIENT_ID_ANNOTATION, ConditionType, OPERATOR, Reason, TENANT_ID_ANNOTATION,
        account_field_manager,
    },
    azure::{AzureErrorKind, View},
    model::Subject,
    observe::{AccountState, Annotation, Existing, Snapshot},
    problem::Problem,
};

/// Plans the annotations of every account whose credential is in place or on its way, and takes
/// them back from every other.
pub(super) fn plan(snapshot: &Snapshot, plan: &mut Plan) {
    for position in 0..plan.accounts.len() {
        let account = &plan.accounts[position];
        let after = match &account.credential {
            Progress::Holds | Progress::Unverified(_) => Vec::new(),
            Progress::Pending(step) => vec![*step],
            Progress::Blocked(_) => continue,
        };
        let name = account.name.clone();
        let observed = snapshot.discovery.accounts.iter().find(|a| a.name == name);
        let progress = match (observed.and_then(|a| a.state.as_ref()), plan.ids) {
            (Some(state), Some(ids)) => annotate(snapshot, &name, state, ids, after, plan),
            (Some(_), None) => waiting("The identity must be known first."),
            (None, _) => Progress::Blocked(Problem::on_change(
                Reason::ServiceAccountMissing,
                format!(
                    "ServiceAccount {name} does not exist in namespace {namespace} yet. It is annotated as soon as it does.",
                    namespace = snapshot.namespace
                ),
            )),
        };
        plan.accounts[position].annotation = progress;
    }
    release(snapshot, plan);
}

/// Takes the annotations back from accounts that left the object or are no longer granted.
pub(super) fn release(snapshot: &Snapshot, plan: &mut Plan) {
    let manager = account_field_manager(&snapshot.name());
    let dropped = snapshot.discovery.accounts.iter().filter_map(|account| {
        let is_planned_for = plan
            .accounts
            .iter()
            .any(|planned| planned.name == account.name);
        let state = account
            .state
            .as_ref()
            .filter(|state| state.is_managed_by(&manager))?;
        let keeps_it = is_planned_for || is_held_by_former_identity(snapshot, &account.name, state);
        (!keeps_it).then(|| Existing {
            name: account.name.clone(),
            uid: state.uid.clone(),
        })
    });
    let mut accounts: Vec<Existing> = dropped.collect();
    match &snapshot.left_behind {
        Ok(left) => {
            let others = left.iter().filter(|left| !accounts.contains(left));
            let others: Vec<Existing> = others.cloned().collect();
            accounts.extend(others);
        }
        Err(problem) => {
            plan.blocked
                .insert(ConditionType::ServiceAccountsAnnotated, problem.clone());
        }
    }
    for account in accounts {
        plan.push(Action::Release { account }, Vec::new());
    }
}

/// Whether the account is annotated with an identity that the spec named before, and still has a
/// granted credential there, as far as can be seen: it goes by that one until the new identity can
/// take over.
fn is_held_by_former_identity(snapshot: &Snapshot, account: &str, state: &AccountState) -> bool {
    let subject = Subject::new(&snapshot.namespace, account).to_string();
    let goes_by = |view: &View| match &view.identity {
        Ok(identity) => state.client_id.value.as_deref() == Some(&*identity.client_id.to_string()),
        Err(error) => error.kind != AzureErrorKind::NotFound,
    };
    let may_have = |view: &View, name: &str| match &view.credentials {
        Ok(listed) => listed
            .iter()
            .any(|c| c.is_named(name) && c.subject == subject),
        Err(error) => error.kind != AzureErrorKind::NotFound,
    };
    !snapshot.is_deleting()
        && snapshot.records().any(|(identity, record)| {
            record.subject == subject
                && snapshot.covers(&identity, account)
                && snapshot.azure.get(&identity).is_some_and(|view| {
                    goes_by(view)
                        && (may_have(view, &record.name) || snapshot.is_hidden(&identity, &subject))
                })
        })
}

fn annotate(
    snapshot: &Snapshot,
    account: &str,
    state: &AccountState,
    ids: Ids,
    after: Vec<usize>,
    plan: &mut Plan,
) -> Progress {
    let manager = account_field_manager(&snapshot.name());
    let wanted = [
        (
            CLIENT_ID_ANNOTATION,
            &state.client_id,
            ids.client.to_string(),
        ),
        (
            TENANT_ID_ANNOTATION,
            &state.tenant_id,
            ids.tenant.to_string(),
        ),
    ];
    let holds = |(_, found, value): &(&str, &Annotation, String)| {
        found.value.as_ref() == Some(value) && found.owners.iter().any(|o| o.manager == manager)
    };
    if wanted.iter().all(holds) {
        return Progress::Holds;
    }
    let was_ours = annotated_before(snapshot, account, &state.uid) || state.is_managed_by(&manager);
    let mut repair = None;
    for (key, found, value) in &wanted {
        let Some(differs) = found.value.as_ref().filter(|found| *found != value) else {
            continue;
        };
        for owner in found.owners.iter().filter(|owner| owner.manager != manager) {
            if owner.applies || !was_ours {
                return Progress::Blocked(conflict(
                    &snapshot.namespace,
                    account,
                    key,
                    differs,
                    &owner.manager,
                ));
            }
            repair = Some(state.version);
        }
    }
    let action = Action::Annotate {
        account: Existing {
            name: account.to_owned(),
            uid: state.uid.clone(),
        },
        ids,
        repair,
    };
    Progress::Pending(plan.push(action, after))
}

/// Whether this very account, and not a former one of that name, carried our annotations.
fn annotated_before(snapshot: &Snapshot, account: &str, uid: &str) -> bool {
    snapshot.object.status.as_ref().is_some_and(|status| {
        status
            .service_accounts
            .iter()
            .any(|a| a.name == account && a.annotated && a.uid.as_deref() == Some(uid))
    })
}

fn conflict(namespace: &str, account: &str, key: &str, value: &str, manager: &str) -> Problem {
    let other = manager
        .strip_prefix(OPERATOR)
        .and_then(|rest| rest.strip_prefix('/'));
    let (who, advice) = match other {
        Some(object) => (
            format!("AirflowWorkloadIdentity {object}"),
            "An account carries one client ID: take it out of one of the two objects.".to_owned(),
        ),
        None => (
            format!("{manager:?}"),
            format!(
                "It is left alone. Remove it there (for Airflow's chart: <component>.serviceAccount.annotations), or here: kubectl annotate serviceaccount {account} -n {namespace} {key}-"
            ),
        ),
    };
    Problem::on_change(
        Reason::Conflict,
        format!("ServiceAccount {account} has {key}={value}, set by {who}. {advice}"),
    )
}
