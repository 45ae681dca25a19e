//! Builds snapshots: a converged world, and the ways in which it can differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use airflow_workload_identity::{
    api::{
        AirflowWorkloadIdentity, AzureIdentityGrantSpec, Component, CredentialRecord, FINALIZER,
        account_field_manager,
    },
    apply::{Outcome, StepResult},
    azure::{AzureError, AzureErrorKind, AzureIdentity, Unsettled, View},
    model::{CredentialName, FederatedCredential, IdentityId, Issuer, Subject},
    observe::{
        Account, AccountState, Annotation, Discovery, FieldOwner, Grants, Install, InstallSelector,
        Objects, ReaderRole, SecretState, Snapshot, Stores, Watched,
    },
    plan::{Action, Finalizer, Plan, Progress, plan},
    problem::Problem,
    status::status,
};
use jiff::Timestamp;
use serde_json::{Value, json};

pub const AUDIENCE: &str = "api://AzureADTokenExchange";
pub const CLIENT: &str = "11111111-1111-1111-1111-111111111111";
pub const TENANT: &str = "22222222-2222-2222-2222-222222222222";

pub fn id(name: &str) -> IdentityId {
    format!("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}").parse().unwrap()
}

pub fn issuer() -> Issuer {
    "https://oidc.example/cluster/".parse().unwrap()
}

pub fn derived(account: &str) -> String {
    CredentialName::derived(&issuer(), &Subject::new("airflow", account)).to_string()
}

pub fn credential(name: &str, account: &str) -> FederatedCredential {
    FederatedCredential {
        name: name.into(),
        issuer: issuer().to_string(),
        subject: format!("system:serviceaccount:airflow:{account}"),
        audiences: vec![AUDIENCE.into()],
        is_marked: None,
    }
}

pub fn record(identity: &str, name: &str, account: &str) -> CredentialRecord {
    CredentialRecord {
        identity: id(identity).to_string(),
        name: name.into(),
        issuer: issuer().to_string(),
        subject: format!("system:serviceaccount:airflow:{account}"),
    }
}

pub fn owned_by(manager: &str, applies: bool, value: &str) -> Annotation {
    Annotation {
        value: Some(value.into()),
        owners: vec![FieldOwner {
            manager: manager.into(),
            applies,
        }],
    }
}

/// A granted object `prod` in namespace `airflow` for identity `airflow` and the accounts
/// `airflow-scheduler` and `airflow-worker`, before anything was done for it.
pub fn fresh() -> Snapshot {
    let account = |name: &str, component| Account {
        name: name.into(),
        components: [component].into(),
        state: Some(AccountState {
            uid: format!("uid-of-{name}"),
            ..AccountState::default()
        }),
    };
    let identity = AzureIdentity {
        client_id: CLIENT.parse().unwrap(),
        tenant_id: Some(TENANT.parse().unwrap()),
    };
    let view = View {
        identity: Ok(identity),
        credentials: Ok(Vec::new()),
        age: Duration::ZERO,
        unsettled: Unsettled::Nothing,
    };
    Snapshot {
        object: object(json!({})),
        namespace: "airflow".into(),
        identity: Ok(id("airflow")),
        grants: BTreeMap::from([(id("airflow"), vec![grant_of("airflow")])]),
        issuer: Ok(issuer()),
        history: [issuer()].into(),
        audience: AUDIENCE.into(),
        azure: BTreeMap::from([(id("airflow"), view)]),
        discovery: Discovery {
            installs: [release("airflow")].into(),
            install: Some(release("airflow")),
            accounts: vec![
                account("airflow-scheduler", Component::Scheduler),
                account("airflow-worker", Component::Worker),
            ],
            of_install: ["airflow-scheduler", "airflow-worker"]
                .map(str::to_owned)
                .into(),
            ..Discovery::default()
        },
        left_behind: Ok(Vec::new()),
        claimed_by_others: Vec::new(),
        settling: BTreeSet::new(),
        secrets: BTreeMap::new(),
        rival_secrets: BTreeMap::new(),
        reader_role: Ok(None),
        stale_secrets: Vec::new(),
        pods: BTreeMap::new(),
        restartable: BTreeMap::new(),
        now: hours(24),
        exchanges: None,
    }
}

/// So many hours after the first pass of these tests.
pub fn hours(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hours)
}

/// The same, after everything was done.
pub fn converged() -> Snapshot {
    let mut world = fresh();
    settle(&mut world);
    world
}

/// An object with `spec` merged over the smallest one.
pub fn object(spec: Value) -> AirflowWorkloadIdentity {
    let mut object = json!({
        "apiVersion": "airflow-workload-identity.io/v1alpha1",
        "kind": "AirflowWorkloadIdentity",
        "metadata": { "name": "prod", "namespace": "airflow", "uid": "uid-of-prod", "generation": 1 },
        "spec": {
            "identity": { "managedIdentity": { "resourceId": id("airflow").to_string() } },
            "airflow": { "helmRelease": "airflow", "components": ["scheduler", "worker"] },
        },
    });
    let Value::Object(spec) = spec else {
        panic!("a spec is an object")
    };
    for (key, value) in spec {
        object["spec"][key] = value;
    }
    serde_json::from_value(object).unwrap()
}

/// A Helm release.
pub fn release(name: &str) -> Install {
    Install {
        selector: InstallSelector::HelmRelease,
        name: name.into(),
    }
}

/// Changes what is known of the Secret with the connections.
pub fn secret(world: &mut Snapshot, state: SecretState) {
    let name = "prod-airflow-connections".to_owned();
    world.secrets.insert(name, Ok(state));
}

/// A grant of the identity to the namespace.
pub fn grant_of(identity: &str) -> AzureIdentityGrantSpec {
    serde_json::from_value(json!({
        "identities": [{ "resourceId": id(identity).to_string() }],
        "namespaces": { "names": ["airflow"] },
    }))
    .unwrap()
}

/// The object names another identity, which Azure knows and which has no credentials yet.
pub fn move_to(world: &mut Snapshot, identity: &str) {
    let view = View {
        credentials: Ok(Vec::new()),
        ..world.azure[&id("airflow")].clone()
    };
    world.azure.insert(id(identity), view);
    world.grants.insert(id(identity), vec![grant_of(identity)]);
    world.identity = Ok(id(identity));
}

/// Changes the credentials that Azure lists for an identity.
pub fn azure(
    world: &mut Snapshot,
    identity: &str,
    edit: impl FnOnce(&mut Vec<FederatedCredential>),
) {
    edit(live(world, &id(identity)));
}

/// The credentials that Azure lists for any identity.
pub fn live<'a>(
    world: &'a mut Snapshot,
    identity: &IdentityId,
) -> &'a mut Vec<FederatedCredential> {
    let view = world.azure.get_mut(identity).unwrap();
    view.credentials.as_mut().unwrap()
}

/// Changes what an account carries.
pub fn account(world: &mut Snapshot, name: &str, edit: impl FnOnce(&mut AccountState)) {
    let account = world
        .discovery
        .accounts
        .iter_mut()
        .find(|a| a.name == name)
        .unwrap();
    edit(account.state.as_mut().unwrap());
}

/// Carries out what is planned, as if every step succeeded, until there is nothing to do.
pub fn settle(world: &mut Snapshot) {
    for hour in 0..3 {
        let now = hours(hour);
        let plan = plan(world);
        if plan.finalizer == Finalizer::Add {
            world.object.metadata.finalizers = Some(vec![FINALIZER.into()]);
        }
        for step in &plan.steps {
            take(world, &step.action);
        }
        let results = vec![StepResult::Done; plan.steps.len()];
        let outcome = Outcome {
            results,
            ..Outcome::default()
        };
        world.object.status = Some(status(world, &plan, &outcome, now));
    }
}

fn take(world: &mut Snapshot, action: &Action) {
    let manager = account_field_manager(&world.name());
    match action {
        Action::PutCredential {
            identity,
            name,
            properties,
            ..
        } => {
            let list = live(world, identity);
            list.retain(|credential| !credential.is_named(name.as_str()));
            assert!(
                !list
                    .iter()
                    .any(|c| c.trusts(&properties.issuer, &properties.subject)),
                "Azure refuses a second credential for {}",
                properties.subject,
            );
            list.push(FederatedCredential {
                name: name.to_string(),
                issuer: properties.issuer.clone(),
                subject: properties.subject.clone(),
                audiences: properties.audiences.clone(),
                is_marked: matches!(identity, IdentityId::Application(_)).then_some(true),
            });
        }
        Action::DeleteCredential {
            record, identity, ..
        } => live(world, identity).retain(|c| !c.is_named(&record.name)),
        Action::Annotate {
            account: existing,
            ids,
            ..
        } => account(world, &existing.name, |state| {
            state.client_id = owned_by(&manager, true, &ids.client.to_string());
            state.tenant_id = owned_by(&manager, true, &ids.tenant.to_string());
        }),
        Action::Release { account: existing } => {
            let left_behind = world.left_behind.as_mut().unwrap();
            left_behind.retain(|left| left != existing);
            if let Some(account) = world
                .discovery
                .accounts
                .iter_mut()
                .find(|a| a.name == existing.name)
            {
                account.state = Some(AccountState {
                    uid: existing.uid.clone(),
                    ..AccountState::default()
                });
            }
        }
        Action::WriteSecret { name, checksum, .. } => {
            let state = SecretState::Ours {
                uid: format!("uid-of-{name}"),
                checksum: checksum.clone(),
                is_marked: true,
                resource_version: Some("1".into()),
            };
            world.secrets.insert(name.clone(), Ok(state));
        }
        Action::WriteReaderRole { accounts, .. } => {
            world.reader_role = Ok(Some(ReaderRole::Ours {
                accounts: accounts.clone(),
                is_right: true,
            }));
        }
        Action::DeleteReaderRole { .. } => world.reader_role = Ok(None),
        Action::Restart {
            workload, change, ..
        } => {
            let restarted = world.restartable.get_mut(workload).unwrap();
            restarted.restarted_for = Some(change.clone());
        }
        Action::DeleteSecret(secret) => {
            world.secrets.remove(&secret.name);
            world.stale_secrets.retain(|stale| stale != secret);
        }
        Action::LeaveCredential { .. } => {}
    }
}

/// Azure does not answer for this identity; what was known of it still is.
pub fn unreachable(world: &mut Snapshot, identity: &str) {
    let view = world.azure.get_mut(&id(identity)).unwrap();
    view.credentials = Err(azure_error(AzureErrorKind::Unavailable));
}

pub fn azure_error(kind: AzureErrorKind) -> AzureError {
    AzureError {
        kind,
        status: None,
        code: None,
        message: "no answer".into(),
        retry_after: None,
    }
}

/// What is planned, in words.
pub fn planned(world: &Snapshot) -> Vec<String> {
    plan(world)
        .steps
        .iter()
        .map(|step| step.action.to_string())
        .collect()
}

/// The problem that keeps the account from being federated or annotated.
pub fn problem_of(plan: &Plan, account: &str) -> Option<Problem> {
    let account = plan.accounts.iter().find(|a| a.name == account)?;
    [&account.credential, &account.annotation]
        .into_iter()
        .find_map(|progress| match progress {
            Progress::Blocked(problem) | Progress::Unverified(problem) => Some(problem.clone()),
            Progress::Holds | Progress::Pending(_) => None,
        })
}

/// When objects of these tests are deleted.
pub fn long_ago() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH)
}

/// A cluster in which nothing is watched.
pub fn nothing_watched() -> Stores {
    Stores {
        objects: Objects::listed(Vec::new()),
        grants: Grants::default(),
        namespaces: Watched::default(),
        accounts: Watched::default(),
        secrets: Watched::default(),
        deployments: Watched::default(),
        stateful_sets: Watched::default(),
        configs: Vec::new(),
        pods: Watched::default(),
    }
}
