//! `awi init`: who followed the guide by hand gets the objects that say the same.

use serde_json::json;

use crate::{
    person::Person,
    world::{CLIENT_ID, TENANT_ID, World, all, run},
};

const USUAL: [&str; 3] = ["scheduler", "triggerer", "worker"];

/// The guide's loop, and the annotations that the guide has in its Helm values.
async fn follow_the_guide(world: &World<'_>, annotations: &[(&str, &str)]) {
    let azure = world.azure().await;
    for account in all(&USUAL) {
        let subject = format!("system:serviceaccount:{}:{account}", world.ns);
        azure
            .put_credential(&world.identity, &account, world.lab.issuer(), &subject)
            .await
            .unwrap();
        for (key, value) in annotations {
            world
                .kubectl(&format!("annotate serviceaccount {account} {key}={value}"))
                .await
                .unwrap();
        }
    }
}

#[test]
fn what_it_prints_adopts_what_the_guide_made_and_changes_nothing_else() {
    run(async {
        let world = World::bare("init-guide").await;
        world
            .release(&["api-server", "scheduler", "triggerer", "worker"])
            .await;
        let ids = [
            (CLIENT_ID, world.client_id.as_str()),
            (TENANT_ID, world.tenant_id.as_str()),
        ];
        follow_the_guide(&world, &ids).await;
        let person = Person::new(&world).await;
        let credentials = world.credentials_of(&world.identity).await;
        let annotations = world.annotations().await;
        let journal = world.lab.emulator().counts().await.unwrap().total;

        let init = format!("init -n init-guide --identity {}", world.identity);
        let printed = person.awi(&init);
        assert_eq!(printed.code, 0, "{printed:?}");
        for words in [
            "(federated credentials: 3, annotations of ServiceAccounts: 3), and changes nothing else.",
            "kind: AzureIdentityGrant",
            "left out: airflow-api-server (api-server)",
            "helmRelease: airflow",
            "credentialName: airflow",
        ] {
            assert!(printed.out.contains(words), "{words}: {printed:?}");
        }
        assert!(
            !printed.out.contains("components:\n"),
            "they are the default: {printed:?}"
        );
        let file = world.lab.scratch().join("init-guide.yaml");
        std::fs::write(&file, &printed.out).unwrap();

        // `awi plan` says the same before it is applied.
        person.may_grant(&world).await;
        let plan = format!("plan -n init-guide -f {}", file.display());
        let planned = world
            .eventually("the right has got around", async || {
                Some(person.awi(&plan)).filter(|printed| printed.code != 1)
            })
            .await;
        assert_eq!(planned.code, 2, "{planned:?}");
        let adopt = |name: &str| {
            format!(
                "  = adopt federated credential airflow-{name} for system:serviceaccount:init-guide:airflow-{name}: it stays as it is, and becomes this object's"
            )
        };
        let annotate = |name: &str| {
            format!(
                "  = adopt the annotations of ServiceAccount airflow-{name}: they stay as they are, and become this object's, too"
            )
        };
        let expected: Vec<String> = [
            "AirflowWorkloadIdentity airflow in namespace init-guide (not applied yet)".to_owned(),
            "  + add finalizer airflow-workload-identity.io/cleanup".to_owned(),
        ]
        .into_iter()
        .chain(USUAL.map(adopt))
        .chain(USUAL.map(annotate))
        .chain(
            [
                "",
                "1 to create, 0 to change, 0 to delete, 6 to adopt, 0 to leave; nothing stands in the way.",
            ]
            .map(str::to_owned),
        )
        .collect();
        // The pods of this world have no label from Helm values; that is no change of the operator's.
        let (notes, lines): (Vec<&str>, Vec<&str>) = planned
            .out
            .lines()
            .partition(|line| line.starts_with("  note: "));
        assert_eq!(lines, expected);
        assert!(
            notes.len() == 1 && notes[0].contains("kubectl rollout restart"),
            "{notes:?}"
        );

        world.heard().await;
        world
            .kubectl(&format!("apply -f {}", file.display()))
            .await
            .unwrap();
        world.until("airflow", "Ready", "True", "Done").await;
        assert_eq!(world.credentials_of(&world.identity).await, credentials);
        assert_eq!(world.annotations().await, annotations);
        assert_eq!(world.records("airflow").await.len(), 3);
        let requests = world.lab.emulator().requests(journal).await.unwrap();
        let written: Vec<_> = requests
            .iter()
            .filter(|r| r.path.contains("/init-guide") && r.method != "GET")
            .collect();
        assert!(written.is_empty(), "{written:?}");
        let planned = person.awi(&plan);
        let first = planned.out.lines().next();
        assert_eq!(first, Some("No changes: airflow is as it should be."));

        // Once is enough.
        let again = person.awi(&format!("{init} --name another"));
        assert_eq!(again.code, 1);
        assert!(
            again.err.contains("kubectl awi plan airflow -n init-guide"),
            "{again:?}"
        );
        assert_eq!(person.writes(&world), []);
    });
}

#[test]
fn what_it_would_change_all_the_same_is_told() {
    run(async {
        let world = World::bare("init-half").await;
        world.grant(json!({})).await;
        world.release(&USUAL).await;
        // As the guide's shorter form has it: the webhook knows the tenant.
        follow_the_guide(&world, &[(CLIENT_ID, &world.client_id)]).await;
        let person = Person::new(&world).await;
        let printed = person.awi(&format!(
            "init -n init-half --identity {} --name mine",
            world.identity
        ));
        assert_eq!(printed.code, 0, "{printed:?}");
        for words in [
            "# Applying this adopts what is there (federated credentials: 3, annotations of ServiceAccounts: 0), and does more:",
            &format!(
                "#   ~ annotate ServiceAccount airflow-worker with client ID {}",
                world.client_id
            ),
            "# The identity is granted to these accounts already.",
            "  name: mine\n",
        ] {
            assert!(printed.out.contains(words), "{words}: {printed:?}");
        }
        assert!(!printed.out.contains("AzureIdentityGrant\n"), "{printed:?}");
        assert_eq!(person.writes(&world), []);
    });
}

#[test]
fn where_there_is_nothing_to_adopt_or_the_identity_cannot_be_read_it_says_so() {
    run(async {
        let world = World::bare("init-none").await;
        world.release(&USUAL).await;
        let person = Person::new(&world).await;
        let missing = crate::world::resource_id("init-missing");
        let table = [
            (world.identity.as_str(), "there is nothing to adopt"),
            (&missing, "cannot read identity /subscriptions/"),
            ("airflow", "must be /subscriptions/<id>"),
        ];
        for (identity, words) in table {
            let printed = person.awi(&format!("init -n init-none --identity {identity}"));
            assert_eq!((printed.code, printed.out.as_str()), (1, ""), "{printed:?}");
            assert!(printed.err.contains(words), "{words}: {printed:?}");
        }
    });
}
