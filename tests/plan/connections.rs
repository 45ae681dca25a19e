//! The connection Secret.

use std::collections::BTreeMap;

use airflow_workload_identity::observe::Snapshot;
use airflow_workload_identity::{
    api::Reason,
    observe::{Existing, SecretState},
    plan::{Action, Progress, plan},
};
use serde_json::{Value, json};

use crate::given::*;

fn written(world: &Snapshot) -> BTreeMap<String, Value> {
    let steps = plan(world).steps;
    let data = steps.into_iter().find_map(|step| match step.action {
        Action::WriteSecret { data, .. } => Some(data),
        _ => None,
    });
    let parse = |value: Vec<u8>| serde_json::from_slice(&value).unwrap();
    data.unwrap()
        .into_iter()
        .map(|(key, value)| (key, parse(value.0)))
        .collect()
}

#[test]
fn the_default_is_one_azure_connection_with_both_ids() {
    assert_eq!(
        written(&fresh()),
        BTreeMap::from([(
            "AIRFLOW_CONN_AZURE_DEFAULT".to_owned(),
            json!({ "conn_type": "azure", "extra": { "managed_identity_client_id": CLIENT, "workload_identity_tenant_id": TENANT } }),
        )])
    );
}

#[test]
fn what_the_user_sets_is_written_and_nothing_else() {
    let mut world = fresh();
    world.object = object(json!({ "connections": [
        { "id": "Lake", "azure": { "subscriptionId": "33333333-3333-3333-3333-333333333333", "useAzureIdentityObject": true } },
    ]}));
    assert_eq!(
        written(&world),
        BTreeMap::from([(
            "AIRFLOW_CONN_LAKE".to_owned(),
            json!({ "conn_type": "azure", "extra": {
            "managed_identity_client_id": CLIENT, "workload_identity_tenant_id": TENANT,
            "subscriptionId": "33333333-3333-3333-3333-333333333333", "use_azure_identity_object": true,
        } }),
        )])
    );
}

#[test]
fn a_changed_secret_is_put_back() {
    let edits: [fn(&mut SecretState); 2] = [
        |state| {
            if let SecretState::Ours { checksum, .. } = state {
                *checksum = "other".into();
            }
        },
        |state| {
            if let SecretState::Ours { is_marked, .. } = state {
                *is_marked = false;
            }
        },
    ];
    for edit in edits {
        let mut world = converged();
        edit(world.secret.as_mut().unwrap());
        assert_eq!(
            planned(&world),
            ["write Secret prod-airflow-connections with AIRFLOW_CONN_AZURE_DEFAULT"]
        );
    }
}

#[test]
fn a_secret_that_someone_else_made_is_left_alone() {
    let mut world = fresh();
    world.secret = Ok(SecretState::Foreign);
    let plan = plan(&world);
    let Progress::Blocked(problem) = plan.secret.clone().unwrap().progress else {
        panic!("{plan:?}")
    };
    assert_eq!(problem.reason, Reason::Conflict);
    assert!(problem.message.contains("spec.connectionSecret.name"));
    assert!(!planned(&world).iter().any(|s| s.contains("Secret")));
}

#[test]
fn a_renamed_secret_exists_before_the_old_one_goes() {
    let mut world = converged();
    world.object.spec.connection_secret.name = Some("new".into());
    world.secret = Ok(SecretState::Absent);
    world.stale_secrets = vec![Existing {
        name: "prod-airflow-connections".into(),
        uid: "uid-of-old".into(),
    }];
    assert_eq!(
        planned(&world),
        [
            "write Secret new with AIRFLOW_CONN_AZURE_DEFAULT",
            "delete Secret prod-airflow-connections"
        ]
    );
    assert_eq!(plan(&world).steps[1].after, [0]);
}

#[test]
fn a_plan_never_shows_a_value() {
    let text = format!("{:?}", plan(&fresh()));
    assert!(!text.contains("conn_type"), "{text}");
}
