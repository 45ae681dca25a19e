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
