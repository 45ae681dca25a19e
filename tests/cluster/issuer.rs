//! The issuer comes from the operator's flag or the API server, and exit messages say what to do.

use lab::{Lab, LabOptions, OperatorOptions};
use serde_json::json;

use crate::world::{World, awi, run};

#[test]
fn the_flag_is_taken_byte_for_byte_and_wrong_flags_end_with_a_message() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let with = |args: &[&str]| OperatorOptions {
            extra_args: args.iter().map(ToString::to_string).collect(),
            ..OperatorOptions::default()
        };
        let table: [(&[&str], &str); 4] = [
            (
                &["--issuer", "http://plain.example"],
                "must be an https URL",
            ),
            (
                &["--federation-audience", "x", "--issuer", "https://a b"],
                "white space",
            ),
            (&["--azure-timeout", "soon"], "for example 30s or 5m"),
            (
                &["--azure-credential", "password"],
                "[possible values: auto, workload-identity, managed-identity, azure-cli]",
            ),
        ];
        for (args, message) in table {
            let mut operator = lab.start_operator(awi(), with(args)).await.unwrap();
            let ended = operator.ended().await.unwrap();
            assert!(!ended.success());
            assert!(
                operator.log().contains(message),
                "{args:?}: {}",
                operator.log()
            );
        }

        let issuer = "https://westeurope.oic.prod-aks.azure.com/tenant/cluster/";
        let operator = lab
            .start_operator(awi(), with(&["--issuer", issuer]))
            .await
            .unwrap();
        let world = World::of(&lab, &operator, "flag").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let credentials = world.credentials_of(&world.identity).await;
        assert!(
            credentials
                .values()
                .all(|credential| credential.issuer == issuer),
            "{credentials:?}"
        );
    });
}

#[test]
fn a_rotated_issuer_moves_every_credential_and_leaves_none_behind() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let with = |issuer: &str| OperatorOptions {
            extra_args: ["--issuer", issuer].map(str::to_owned).into(),
            ..OperatorOptions::default()
        };
        let (blue, green) = ("https://oidc.example/blue/", "https://oidc.example/green/");
        let mut operator = lab.start_operator(awi(), with(blue)).await.unwrap();
        let names = {
            let world = World::of(&lab, &operator, "rotated").await;
            world.grant(json!({})).await;
            world.installed(&["scheduler", "worker"]).await;
            world.ready(json!({})).await;
            // Those of another cluster are none of ours, whatever the name.
            let theirs = "https://oidc.example/theirs/";
            let subject = "system:serviceaccount:rotated:airflow-worker";
            let azure = world.azure().await;
            azure
                .put_credential(&world.identity, "theirs", theirs, subject)
                .await
                .unwrap();
            world.credentials_of(&world.identity).await
        };
        assert_eq!(names.len(), 3);

        operator.stop().await.unwrap();
        let operator = lab.start_operator(awi(), with(green)).await.unwrap();
        let world = World::existing(&lab, &operator, "rotated").await;
        let issuers = async || {
            let all = world.credentials_of(&world.identity).await;
            let mut issuers: Vec<String> = all.into_values().map(|c| c.issuer).collect();
            issuers.sort();
            issuers
        };
        let expected = [green, green, "https://oidc.example/theirs/"];
        world
            .becomes(expected.map(str::to_owned).to_vec(), issuers)
            .await;

        // In the order: first written, then deleted.
        let requests = lab.emulator().requests(0).await.unwrap();
        let writes: Vec<&str> = requests
            .iter()
            .filter(|request| request.is_operators())
            .filter_map(|request| request.operation.as_deref())
            .filter(|operation| matches!(*operation, "credential.put" | "credential.delete"))
            .collect();
        let (put, delete) = ("credential.put", "credential.delete");
        assert_eq!(writes, [put, put, put, put, delete, delete]);
    });
}
