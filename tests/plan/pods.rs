//! What running pods lack, and which workloads are restarted for it.

use std::collections::BTreeMap;

use airflow_workload_identity::{
    api::{Injection, ServiceAccountStatus},
    apply::Outcome,
    observe::{Pod, PodContainer, PodOwner, Restartable, SecretState, Snapshot},
    plan::plan,
    status::status,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::given::*;

/// A change to the world.
type Edit = fn(&mut Snapshot);

const SCHEDULER: &str = "airflow-scheduler";

fn account(world: &Snapshot) -> ServiceAccountStatus {
    let status = world.object.status.clone().unwrap();
    let mut accounts = status.service_accounts.into_iter();
    accounts.find(|account| account.name == SCHEDULER).unwrap()
}

fn injection(world: &Snapshot) -> Injection {
    account(world).injection.unwrap()
}

fn deployment() -> PodOwner {
    PodOwner::Deployment("airflow-scheduler".into())
}

/// A pod as it starts now, with everything.
fn new_pod(world: &Snapshot) -> Pod {
    let injection = injection(world);
    Pod {
        name: "airflow-scheduler-0".into(),
        created: hours(12),
        label: Some("true".into()),
        connections: Some(injection.checksum),
        container: PodContainer {
            name: "scheduler".into(),
            audience: Some(AUDIENCE.into()),
            client_id: Some(CLIENT.into()),
            secrets: injection.secrets.into_iter().collect(),
        },
        is_skipped: false,
        owner: Some(deployment()),
        owner_uid: Some("uid-of-replica-set".into()),
    }
}

/// A pod that started before there was an object.
fn old_pod(world: &Snapshot) -> Pod {
    Pod {
        created: hours(-1),
        label: None,
        ..new_pod(world)
    }
}

/// A converged world with this pod of the scheduler's account, which a Deployment made.
fn running(spec: serde_json::Value, pod: impl Fn(&Snapshot) -> Pod) -> Snapshot {
    let mut world = fresh();
    world.object = object(spec);
    settle(&mut world);
    world.pods = [(SCHEDULER.to_owned(), vec![pod(&world)])].into();
    let restartable = Restartable {
        uid: "uid-of-deployment".into(),
        account: SCHEDULER.into(),
        restarted_for: None,
    };
    world.restartable = [(deployment(), restartable)].into();
    world
}

/// The condition: status, reason and message.
fn injected(world: &Snapshot) -> (String, String, String) {
    let plan = plan(world);
    let status = status(world, &plan, &Outcome::default(), world.now);
    let mut conditions = status.conditions.into_iter();
    let found = conditions
        .find(|condition| condition.type_ == "PodsInjected")
        .unwrap();
    (found.status, found.reason, found.message)
}

#[test]
fn a_pod_that_has_everything_is_no_news() {
    let (status, reason, _) = injected(&running(json!({}), new_pod));
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Done"));
    let mut world = converged();
    world.pods = BTreeMap::new();
    assert_eq!(injected(&world).0, "True", "no pod lacks nothing");
}

#[test]
fn each_thing_that_a_pod_lacks_has_its_reason_and_the_way_out() {
    type PodEdit = fn(&mut Pod);
    let restart = "kubectl rollout restart -n airflow deployment/airflow-scheduler";
    let table: [(PodEdit, &str, &[&str]); 13] = [
        (
            |pod| pod.label = None,
            "PolicyMissing",
            &[
                "podPolicy.enabled",
                "azure.workload.identity/use: \"true\"",
                "extraEnvFrom",
                "prod-airflow-connections",
                restart,
            ],
        ),
        (
            |pod| {
                pod.label = None;
                pod.created = hours(0);
            },
            "PodsOutdated",
            &["azure.workload.identity/use", restart],
        ),
        (
            |pod| pod.container.audience = None,
            "WebhookMissing",
            &["--enable-workload-identity", restart],
        ),
        (
            |pod| {
                pod.container.audience = None;
                pod.created = hours(-1);
            },
            "PodsOutdated",
            &[restart],
        ),
        (
            |pod| {
                pod.container.audience = None;
                pod.is_skipped = true;
            },
            "ContainerSkipped",
            &[
                "container scheduler",
                "azure.workload.identity/skip-containers",
            ],
        ),
        (
            |pod| pod.container.audience = Some("api://Other".into()),
            "AudienceDiffers",
            &["api://Other", AUDIENCE, "azure.federationAudience"],
        ),
        (
            |pod| pod.container.client_id = None,
            "PodsOutdated",
            &[CLIENT, restart],
        ),
        (
            |pod| pod.container.client_id = Some("other".into()),
            "PodsOutdated",
            &["client ID other instead of", CLIENT, restart],
        ),
        (
            |pod| pod.container.secrets.clear(),
            "PolicyMissing",
            &["Without the connections", "extraEnvFrom"],
        ),
        (
            |pod| {
                pod.container.secrets.clear();
                pod.created = hours(-1);
            },
            "PodsOutdated",
            &["Without the connections", restart],
        ),
        (
            |pod| pod.connections = Some("before".into()),
            "PodsOutdated",
            &["connections as they were before", restart],
        ),
        (
            |pod| pod.owner = Some(PodOwner::StatefulSet("airflow-worker".into())),
            "Done",
            &[],
        ),
        (
            |pod| {
                pod.label = None;
                pod.owner = None;
            },
            "PolicyMissing",
            &["end with their tasks"],
        ),
    ];
    for (edit, expected, says) in table {
        let world = running(json!({}), |world| {
            let mut pod = new_pod(world);
            edit(&mut pod);
            pod
        });
        let (_, reason, message) = injected(&world);
        assert_eq!(reason, expected, "{message}");
        for words in says {
            assert!(message.contains(words), "{words} is not in: {message}");
        }
    }
}

#[test]
fn pods_are_counted_and_the_first_of_them_named() {
    let mut world = running(json!({}), old_pod);
    let pods = (0..8).map(|n| Pod {
        name: format!("pod-{n}"),
        ..old_pod(&world)
    });
    world.pods = [(SCHEDULER.to_owned(), pods.collect())].into();
    let (_, _, message) = injected(&world);
    assert!(
        message.contains("(8): pod-0, pod-1, pod-2, pod-3, pod-4 and 3 more."),
        "{message}"
    );
}

#[test]
fn a_pod_whose_owner_wants_no_identity_in_it_is_only_mentioned() {
    let world = running(json!({}), |world| Pod {
        label: Some("false".into()),
        container: PodContainer::default(),
        ..old_pod(world)
    });
    let (status, _, message) = injected(&world);
    assert_eq!(status, "True");
    assert!(message.contains("airflow-scheduler-0"), "{message}");
}

#[test]
fn what_keeps_new_pods_from_it_is_told_before_what_a_restart_mends() {
    let mut world = running(json!({}), old_pod);
    let late = Pod {
        name: "late".into(),
        created: hours(12),
        ..old_pod(&world)
    };
    let pods = world.pods.get_mut(SCHEDULER).unwrap();
    pods.push(late);
    let (_, reason, message) = injected(&world);
    assert_eq!(reason, "PolicyMissing");
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn only_what_pods_take_as_variables_is_told_to_be_set_by_hand() {
    let late = |world: &Snapshot| Pod {
        created: hours(12),
        ..old_pod(world)
    };
    for spec in [
        json!({ "connections": [] }),
        json!({ "pods": { "connections": "None" } }),
        json!({ "connectionSecret": { "format": "SecretsBackend" } }),
    ] {
        let (_, _, message) = injected(&running(spec.clone(), late));
        assert!(!message.contains("extraEnvFrom"), "{spec}: {message}");
    }
}

#[test]
fn pods_that_lack_something_do_not_make_the_object_less_ready() {
    let world = running(json!({}), old_pod);
    let status = status(&world, &plan(&world), &Outcome::default(), world.now);
    assert_eq!(status.conditions[0].type_, "Ready");
    assert_eq!(status.conditions[0].status, "True");
}

#[test]
fn what_new_pods_get_has_a_beginning_that_moves_only_when_it_changes() {
    let since = |world: &mut Snapshot, edit: fn(&mut Snapshot)| {
        edit(world);
        let status = status(world, &plan(world), &Outcome::default(), hours(5));
        let mut accounts = status.service_accounts.into_iter();
        let account = accounts.find(|account| account.name == SCHEDULER);
        account
            .and_then(|account| account.injection)
            .map(|injection| injection.since.0)
    };
    let table: [(&str, Edit, Option<Timestamp>); 7] = [
        ("nothing happened", |_| (), Some(hours(0))),
        (
            "Azure is away",
            |world| unreachable(world, "airflow"),
            Some(hours(0)),
        ),
        ("the grant went", |world| world.grants.clear(), None),
        (
            "connections are not injected any longer",
            |world| {
                let status = world.object.status.take();
                world.object = object(json!({ "pods": { "connections": "None" } }));
                world.object.status = status;
            },
            Some(hours(5)),
        ),
        (
            "the connections cannot be written",
            |world| secret(world, SecretState::Foreign),
            Some(hours(0)),
        ),
        (
            "the identity was made anew",
            |world| {
                let view = world.azure.get_mut(&id("airflow")).unwrap();
                view.identity.as_mut().unwrap().client_id = TENANT.parse().unwrap();
            },
            Some(hours(5)),
        ),
        (
            "the account is another one of that name",
            |world| {
                crate::given::account(world, SCHEDULER, |state| state.uid = "another".into());
            },
            Some(hours(5)),
        ),
    ];
    for (what, edit, expected) in table {
        assert_eq!(since(&mut converged(), edit), expected, "{what}");
    }
}

#[test]
fn a_clock_that_was_ahead_keeps_no_restart_back() {
    let mut world = on_change(old_pod);
    let known = world.object.status.as_mut().unwrap();
    for account in &mut known.service_accounts {
        account.injection.as_mut().unwrap().since.0 = hours(10_000);
    }
    world.now = hours(5);
    let told = status(&world, &plan(&world), &Outcome::default(), world.now);
    world.object.status = Some(told);
    assert_eq!(injection(&world).since.0, hours(5));
    world.now = hours(6);
    assert_eq!(planned(&world).len(), 1, "{:?}", planned(&world));
}

fn on_change(pod: impl Fn(&Snapshot) -> Pod) -> Snapshot {
    running(json!({ "pods": { "restart": "OnChange" } }), pod)
}

#[test]
fn what_runs_pods_that_started_too_early_is_restarted_once() {
    let mut world = on_change(old_pod);
    assert_eq!(planned(&world), ["restart deployment/airflow-scheduler"]);
    assert!(plan(&world).look_again.is_some());
    settle(&mut world);
    // Even if its pods lack the same for ever.
    assert_eq!(planned(&world), [""; 0]);
}

#[test]
fn a_further_change_is_worth_a_further_restart() {
    let mut world = on_change(new_pod);
    assert_eq!(planned(&world), [""; 0]);
    let status = world.object.status.as_mut().unwrap();
    let scheduler = status
        .service_accounts
        .iter_mut()
        .find(|a| a.name == SCHEDULER);
    let injection = scheduler.unwrap().injection.as_mut().unwrap();
    injection.since.0 = hours(13);
    let pods = world.pods.get_mut(SCHEDULER).unwrap();
    pods[0].connections = Some("before".into());
    world
        .restartable
        .get_mut(&deployment())
        .unwrap()
        .restarted_for = Some(hours(0).to_string());
    assert_eq!(planned(&world), ["restart deployment/airflow-scheduler"]);
}

#[test]
fn nothing_is_restarted_when() {
    let table: [(&str, Edit); 11] = [
        ("nobody asked for it", |world| {
            world.object.spec.pods = Default::default();
        }),
        ("the object is suspended", |world| {
            world.object.spec.suspend = true;
        }),
        ("the object is being deleted", |world| {
            world.object.metadata.deletion_timestamp = Some(long_ago());
        }),
        ("it was restarted for this already", |world| {
            let change = injection(world).since.0.to_string();
            world
                .restartable
                .get_mut(&deployment())
                .unwrap()
                .restarted_for = Some(change);
        }),
        ("the connections are about to change", |world| {
            secret(world, SecretState::Absent);
        }),
        ("Entra may not know the credential everywhere", |world| {
            let subject = account(world).subject;
            world.settling.insert(subject);
        }),
        ("API servers may not know the status yet", |world| {
            world.now = injection(world).since.0 + SignedDuration::from_secs(4);
        }),
        (
            "pods started after and lack the label all the same",
            |world| {
                let pods = world.pods.get_mut(SCHEDULER).unwrap();
                pods[0].created = hours(12);
            },
        ),
        ("the workload runs under another account", |world| {
            let workload = world.restartable.get_mut(&deployment()).unwrap();
            workload.account = "airflow-redis".into();
        }),
        ("the pod only says that a StatefulSet made it", |world| {
            let set = PodOwner::StatefulSet("airflow-worker".into());
            let workload = world.restartable.remove(&deployment()).unwrap();
            world.restartable.insert(set.clone(), workload);
            let pods = world.pods.get_mut(SCHEDULER).unwrap();
            pods[0].owner = Some(set);
            pods[0].owner_uid = Some("made up".into());
        }),
        ("no workload made the pod", |world| {
            let pods = world.pods.get_mut(SCHEDULER).unwrap();
            pods[0].owner = None;
        }),
    ];
    for (when, edit) in table {
        let mut world = on_change(old_pod);
        edit(&mut world);
        let planned = planned(&world);
        assert!(
            !planned.iter().any(|step| step.contains("restart")),
            "{when}: {planned:?}"
        );
    }
}
