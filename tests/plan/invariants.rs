//! What holds in every world.

use airflow_workload_identity::{
    api::CredentialRecord,
    model::{FederatedCredential, Subject},
    observe::Snapshot,
    plan::{Action, plan},
};
use proptest::prelude::*;

use crate::given::*;

/// A credential that somebody, perhaps we, has put on the identity.
fn any_credential() -> impl Strategy<Value = FederatedCredential> {
    let name = prop_oneof![
        Just(derived("airflow-worker")),
        Just(derived("airflow-scheduler")),
        Just("aks-identity-binding".to_owned()),
        "[a-z]{3,5}",
    ];
    let issuer = prop_oneof![
        Just(issuer().to_string()),
        Just("https://oidc.example/other/".to_owned())
    ];
    let subject = (
        prop_oneof![Just("airflow"), Just("other")],
        prop_oneof![Just("airflow-worker"), Just("airflow-scheduler"), Just("x")],
    )
        .prop_map(|(namespace, account)| Subject::new(namespace, account).to_string());
    let audience = prop_oneof![Just(AUDIENCE.to_owned()), Just("api://other".to_owned())];
    (name, issuer, subject, audience).prop_map(|(name, issuer, subject, audience)| {
        FederatedCredential {
            name,
            issuer,
            subject,
            audiences: vec![audience],
            is_marked: None,
        }
    })
}

/// Any set of credentials that Azure would have taken: no name and no tuple twice.
fn any_list() -> impl Strategy<Value = Vec<FederatedCredential>> {
    prop::collection::vec(any_credential(), 0..8).prop_map(|all| {
        let mut list: Vec<FederatedCredential> = Vec::new();
        for credential in all {
            if !list.iter().any(|c| {
                c.is_named(&credential.name) || c.trusts(&credential.issuer, &credential.subject)
            }) {
                list.push(credential);
            }
        }
        list
    })
}

/// A world with any credentials, and a status that may record any of them, rightly or not.
fn any_world() -> impl Strategy<Value = Snapshot> {
    (
        any_list(),
        prop::collection::vec(any_credential(), 0..4),
        any::<[bool; 4]>(),
    )
        .prop_map(
            |(list, recorded, [converged_before, granted, deleting, worker])| {
                let mut world = if converged_before {
                    converged()
                } else {
                    fresh()
                };
                azure(&mut world, "airflow", |current| *current = list);
                let status = world.object.status.get_or_insert_default();
                status
                    .credentials
                    .extend(recorded.into_iter().map(|c| CredentialRecord {
                        identity: id("airflow").to_string(),
                        name: c.name,
                        issuer: c.issuer,
                        subject: c.subject,
                    }));
                if !granted {
                    world.grants.clear();
                }
                if deleting {
                    world.object.metadata.deletion_timestamp = Some(long_ago());
                }
                if !worker {
                    world.discovery.accounts.pop();
                }
                world
            },
        )
}

fn live(world: &Snapshot) -> Vec<FederatedCredential> {
    world.azure[&id("airflow")].credentials.clone().unwrap()
}

fn is_foreign(credential: &FederatedCredential) -> bool {
    credential.issuer != issuer().as_str()
        || Subject::account_in(&credential.subject, "airflow").is_none()
        || credential.name == "aks-identity-binding"
}

proptest! {
    #[test]
    fn nothing_foreign_is_ever_touched(mut world in any_world()) {
        let foreign: Vec<_> = live(&world).into_iter().filter(is_foreign).collect();
        settle(&mut world);
        for credential in foreign {
            prop_assert!(live(&world).contains(&credential), "{credential:?} was touched");
        }
    }

    #[test]
    fn nothing_that_is_not_on_record_is_deleted(world in any_world()) {
        let recorded: Vec<_> = world.records().map(|(_, record)| record.name.to_ascii_lowercase()).collect();
        for step in plan(&world).steps {
            if let Action::DeleteCredential { record, .. } = step.action {
                prop_assert!(recorded.contains(&record.name.to_ascii_lowercase()));
            }
        }
    }

    #[test]
    fn every_write_is_on_record_before_it_is_made(world in any_world()) {
        let plan = plan(&world);
        for step in &plan.steps {
            if let Action::PutCredential { name, .. } = &step.action {
                prop_assert!(plan.records.iter().any(|record| record.name == name.as_str()));
            }
        }
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(mut world in any_world()) {
        settle(&mut world);
        prop_assert_eq!(planned(&world), Vec::<String>::new());
    }

    #[test]
    fn without_a_grant_nothing_is_given(mut world in any_world()) {
        world.grants.clear();
        for step in plan(&world).steps {
            let gives = matches!(step.action, Action::PutCredential { .. } | Action::Annotate { .. } | Action::WriteSecret { .. });
            prop_assert!(!gives, "{}", step.action);
        }
    }
}
