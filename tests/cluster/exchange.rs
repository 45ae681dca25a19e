//! Whether Entra takes the accounts' tokens, tried with real ones.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use lab::{
    AuditEntry, Lab, LabOptions, Operator, OperatorOptions,
    proxy::{Fate, Proxy},
};
use serde_json::{Value, json};

use crate::world::{World, all, awi, often, run};

const CONDITION: &str = "ExchangeVerified";

fn verifying(more: &[&str]) -> OperatorOptions {
    let mut options = often();
    let more = ["--verify-exchange"].iter().chain(more);
    options.extra_args.extend(more.map(ToString::to_string));
    // As much as anybody would have it say.
    options.env.push(("RUST_LOG".into(), "debug".into()));
    options
}

async fn allow_tokens(lab: &Lab) {
    let role = "deploy/components/exchange-verification/role.yaml";
    lab.apply(&lab::repository().join(role)).await.unwrap();
}

/// A release whose accounts have credentials that somebody else wrote some time ago.
async fn with_foreign_credentials<'a>(
    lab: &'a Lab,
    operator: &'a Operator,
    name: &str,
    issuer: &str,
    components: &[&str],
) -> World<'a> {
    let world = World::of(lab, operator, name).await;
    let azure = world.azure().await;
    for component in components {
        let subject = format!("system:serviceaccount:{name}:airflow-{component}");
        let credential = format!("by-hand-{component}");
        azure
            .put_credential(&world.identity, &credential, issuer, &subject)
            .await
            .unwrap();
    }
    world.grant(json!({})).await;
    world.installed(components).await;
    world
}

/// Waits until the condition is so, and its message says this.
async fn until_told(world: &World<'_>, status: &str, reason: &str, part: &str) {
    world
        .until_told("prod", CONDITION, status, reason, part)
        .await;
}

fn by_operator(entry: &AuditEntry) -> bool {
    let account = ":airflow-workload-identity:airflow-workload-identity";
    entry.user.ends_with(account)
}

/// One refusal of the token endpoint.
fn refusal(code: &str) -> Value {
    json!({ "operation": "token", "times": 3, "status": 401, "code": "invalid_client", "message": format!("AADSTS{code}: refused.") })
}

#[test]
fn each_refusal_of_entras_is_told_then_that_it_takes_the_token_and_no_token_shows() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        lab.azure().await.unwrap(); // the lab's own sign-in, before the door is shut
        let operator = lab.start_operator(awi(), verifying(&[])).await.unwrap();
        let (name, issuer) = ("exchange", lab.issuer());
        let world = with_foreign_credentials(&lab, &operator, name, issuer, &["worker"]).await;

        world.ready(json!({})).await;
        let value = "exchangeVerification.enabled=true";
        until_told(&world, "Unknown", "TokenRequestForbidden", value).await;

        let refusals = [
            ("70021", "NoMatchingCredential"),
            ("70025", "NoCredentials"),
            ("700211", "IssuerNotTrusted"),
            ("700212", "AudienceNotTrusted"),
            ("700213", "SubjectNotTrusted"),
            ("7002138", "SubjectCaseDiffers"),
            ("700016", "ClientNotFound"),
            ("7000272", "SigningKeyUnknown"),
            ("700024", "TokenTimeInvalid"),
            ("50166", "IssuerUnreachable"),
            ("501661", "IssuerUnreachable"),
            ("90061", "IssuerUnreachable"),
            ("7002381", "EntraPolicy"),
            ("4711", "ExchangeRefused"),
        ];
        for (code, _) in refusals {
            lab.emulator().fault(&refusal(code)).await.unwrap();
        }
        for status in [429, 503] {
            let fault = json!({ "operation": "token", "times": 3, "status": status, "code": "temporarily_unavailable" });
            lab.emulator().fault(&fault).await.unwrap();
        }
        allow_tokens(&lab).await;
        for (code, reason) in refusals {
            until_told(&world, "False", reason, &format!("AADSTS{code}: ")).await;
            world.until("prod", "Ready", "True", "Done").await;
        }
        until_told(&world, "Unknown", "AzureThrottled", "429").await;
        until_told(&world, "Unknown", "AzureUnavailable", "503").await;
        // By the emulator's own judgement of a real token.
        until_told(&world, "True", "Done", "").await;
        let metrics = operator.get("/metrics").await.unwrap().1;
        let counted = r#"awi_azure_requests_total{operation="token.exchange",code="200"} 1"#;
        assert!(metrics.contains(counted), "{metrics}");

        // It stands: three resyncs try and write nothing.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (audited, asked) = (lab.audit_log().unwrap().len(), exchanges(&lab).await);
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(exchanges(&lab).await, asked);
        let entries = lab.audit_log().unwrap().split_off(audited);
        let writes = entries.iter().filter(|e| by_operator(e) && e.is_write());
        assert_eq!(writes.count(), 0);

        // A rival deletes it; Entra takes its time to learn of the operator's own.
        let slow = json!({ "propagationMs": 45_000 });
        lab.emulator().config(&slow).await.unwrap();
        let azure = world.azure().await;
        azure
            .delete_credential(&world.identity, "by-hand-worker")
            .await
            .unwrap();
        until_told(&world, "Unknown", "Propagating", "written just now").await;
        until_told(&world, "Unknown", "Propagating", "AADSTS70025").await;
        until_told(&world, "True", "Done", "").await;

        let events = "get events.events.k8s.io -o yaml";
        for output in [
            operator.log(),
            world.kubectl("get awi -o yaml").await.unwrap(),
            world.kubectl(events).await.unwrap(),
            operator.get("/metrics").await.unwrap().1,
        ] {
            assert!(output.contains("exchange"), "{output}");
            // What each JWT begins with.
            assert!(!output.contains("eyJ"), "{output}");
        }
        let events = world.event_reasons("prod").await;
        assert!(events.contains(&"SubjectNotTrusted".into()), "{events:?}");
        assert!(!events.contains(&"Propagating".into()), "{events:?}");
    });
}

/// How often the token endpoint was asked.
async fn exchanges(lab: &Lab) -> usize {
    let requests = lab.emulator().requests(0).await.unwrap();
    let tokens = requests.iter();
    let tokens = tokens.filter(|request| request.operation.as_deref() == Some("token"));
    tokens.count()
}

#[test]
fn a_credential_that_was_written_anew_is_tried_anew_even_if_no_status_tells_of_it() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        allow_tokens(&lab).await;
        let proxy = Proxy::start(&lab).unwrap();
        let operator = lab.start_operator(awi(), verifying(&[]).through(&proxy));
        let operator = operator.await.unwrap();
        let world = World::of(&lab, &operator, "anew").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        until_told(&world, "True", "Done", "").await;

        // The first status after the credential was written again is refused.
        let stage = AtomicU8::new(0);
        proxy.rule(move |seen| {
            let is_status = seen.method == "PATCH" && seen.path.ends_with("/anew/airflowworkloadidentities/prod/status");
            if seen.method == "PUT" && seen.path.contains("/federatedIdentityCredentials/") {
                let _ = stage.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
            } else if is_status && stage.compare_exchange(1, 2, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                let refused = json!({ "kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409 });
                return Fate::answer(409, &[], refused.to_string());
            }
            Fate::Pass
        });
        let azure = world.azure().await;
        let [credential] = &azure.list_credentials(&world.identity).await.unwrap()[..] else {
            panic!("one credential")
        };
        azure
            .delete_credential(&world.identity, &credential.name)
            .await
            .unwrap();
        until_told(&world, "Unknown", "Propagating", "written just now").await;
        until_told(&world, "True", "Done", "").await;
    });
}

#[test]
fn an_entra_that_is_away_is_asked_for_one_account_only() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        lab.azure().await.unwrap(); // as above
        let operator = lab.start_operator(awi(), verifying(&[])).await.unwrap();
        let components = ["scheduler", "triggerer", "worker"];
        let (name, issuer) = ("away", lab.issuer());
        let world = with_foreign_credentials(&lab, &operator, name, issuer, &components).await;
        world.ready(json!({})).await;
        let away =
            json!({ "operation": "token", "status": 503, "code": "temporarily_unavailable" });
        lab.emulator().fault(&away).await.unwrap();
        allow_tokens(&lab).await;
        until_told(&world, "Unknown", "AzureUnavailable", "503").await;
        let tried = || {
            let entries = lab.audit_log().unwrap().into_iter();
            let tokens = entries.filter(|e| by_operator(e) && e.subresource == "token");
            let got = tokens.filter(|entry| !entry.is_forbidden);
            got.map(|entry| entry.name).collect::<Vec<_>>()
        };
        world
            .eventually("it is tried again", async || {
                (tried().len() > 1).then_some(())
            })
            .await;
        let names = tried();
        assert!(names.iter().all(|n| n == "airflow-scheduler"), "{names:?}");

        lab.emulator().clear_faults().await.unwrap();
        until_told(&world, "True", "Done", "").await;
        assert_eq!(tried().split_off(tried().len() - 3), all(&components));
    });
}

#[test]
fn an_issuer_that_is_not_the_tokens_is_found_out_and_without_the_flag_nothing_is_told() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        allow_tokens(&lab).await;
        let issuer = "https://another.example/";
        let options = verifying(&["--issuer", issuer]);
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let name = "wrong-issuer";
        let world = with_foreign_credentials(&lab, &operator, name, issuer, &["worker"]).await;
        world.ready(json!({})).await;
        until_told(&world, "False", "IssuerNotTrusted", "AADSTS700211").await;
        // The issuer that the token has, and the one that the operator was told.
        until_told(&world, "False", "IssuerNotTrusted", lab.issuer()).await;
        until_told(&world, "False", "IssuerNotTrusted", issuer).await;
        drop(world);
        drop(operator);

        let mut options = often();
        options.extra_args.push(format!("--issuer={issuer}"));
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::existing(&lab, &operator, "wrong-issuer").await;
        world
            .becomes(false, async || {
                let status = world.get("prod").await.unwrap().status.unwrap();
                status.conditions.iter().any(|c| c.type_ == CONDITION)
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
    });
}
