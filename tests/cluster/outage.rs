//! The API server or Azure is gone for a while: nothing is lost, and nobody restarts anything.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lab::{
    Lab, LabOptions, OperatorOptions,
    identities::OPERATOR,
    proxy::{Fate, Proxy, Side},
    repository,
};
use serde_json::json;

use crate::world::{World, all, awi, often, own, run};

#[test]
fn azure_down() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "azure-down").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;

        let down = json!({ "operation": "*", "status": 503, "code": "ServiceUnavailable", "message": "down", "action": "respond" });
        lab.emulator().fault(&down).await.unwrap();
        world
            .until_told("prod", "Ready", "False", "AzureUnavailable", "503")
            .await;
        let accounts = world.accounts("prod").await;
        assert!(
            accounts
                .iter()
                .all(|account| account.federated && account.annotated),
            "{accounts:?}"
        );

        // What needs no Azure goes on; what does, waits.
        world
            .kubectl("delete secret prod-airflow-connections")
            .await
            .unwrap();
        world
            .eventually("the Secret is back", async || {
                world.secret("prod-airflow-connections").await
            })
            .await;
        world.release(&["triggerer"]).await;
        lab.emulator().clear_faults().await.unwrap();
        world.until("prod", "Ready", "True", "Done").await;
        world
            .becomes(all(&["scheduler", "triggerer", "worker"]), async || {
                world.federated().await
            })
            .await;
    });
}

#[test]
fn api_server_gone_for_a_minute() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "no-api-server").await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "worker"]).await;
        world.ready(json!({})).await;
        let name = world.credential_name("airflow-worker");

        lab.stop_apiserver().await;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        lab.start_apiserver().await.unwrap();
        world
            .azure()
            .await
            .delete_credential(&world.identity, &name)
            .await
            .unwrap();
        world.release(&["triggerer"]).await;
        world
            .becomes(all(&["scheduler", "triggerer", "worker"]), async || {
                world.federated().await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;

        let log = operator.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(
            log.lines().count() < 500,
            "a hot loop: {} lines",
            log.lines().count()
        );
    });
}

#[test]
fn etcd_dies_and_the_api_server_comes_back_with_another_certificate() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "restarts").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let serves = async |accounts: &[&str]| {
            world.lose_credential("airflow-worker").await;
            world
                .becomes(all(accounts), async || world.federated().await)
                .await;
            world.until("prod", "Ready", "True", "Done").await;
        };

        lab.stop_etcd().await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        lab.start_etcd().await.unwrap();
        world.release(&["triggerer"]).await;
        serves(&["triggerer", "worker"]).await;

        lab.stop_apiserver().await;
        lab.renew_certificate().unwrap();
        lab.start_apiserver().await.unwrap();
        world.release(&["scheduler"]).await;
        serves(&["scheduler", "triggerer", "worker"]).await;

        let log = operator.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(log.lines().count() < 500, "a hot loop: {log}");
    });
}

#[test]
fn the_operators_own_tokens_expire_and_are_replaced() {
    run(async {
        let (lab, operator) = own(often()).await;
        let world = World::of(&lab, &operator, "expired").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;
        let worker = all(&["worker"]);
        let is_served = async || world.federated().await;

        // Azure takes its token no longer, before its time: there are others to be had.
        let expire = async || {
            lab.emulator()
                .expire_tokens(OPERATOR.client_id)
                .await
                .unwrap();
        };
        expire().await;
        world.lose_credential("airflow-worker").await;
        world.becomes(worker.clone(), is_served).await;

        // Nor does Entra take the one of its pod, until the kubelet has brought another.
        operator.write_exchange_token("expired").unwrap();
        expire().await;
        let message = world
            .until("prod", "Ready", "False", "AzureUnauthenticated")
            .await;
        assert!(message.contains("operator's own sign-in"), "{message}");
        lab.renew_tokens(&operator).await.unwrap();
        world.until("prod", "Ready", "True", "Done").await;

        // The account that the API server knew it by is another one now.
        let account = repository().join("deploy/base/service-account.yaml");
        lab.kubectl(&["delete", "--filename", account.to_str().unwrap()])
            .await
            .unwrap();
        lab.apply(&account).await.unwrap();
        // The API server remembers for ten seconds whose token it has seen.
        tokio::time::sleep(std::time::Duration::from_secs(12)).await;
        world.release(&["triggerer"]).await;
        world
            .eventually("the log tells", async || {
                operator.log().contains("401 Unauthorized").then_some(())
            })
            .await;
        lab.renew_tokens(&operator).await.unwrap();
        // It reads the file once a minute.
        tokio::time::sleep(std::time::Duration::from_secs(50)).await;
        world
            .becomes(all(&["triggerer", "worker"]), is_served)
            .await;
        world.until("prod", "Ready", "True", "Done").await;

        let log = operator.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(log.lines().count() < 500, "a hot loop: {log}");
    });
}

#[test]
fn names_that_do_not_resolve() {
    run(async {
        // RFC 6761: nobody ever has it.
        let nowhere = || Some("https://nowhere.invalid".to_owned());
        let options = OperatorOptions {
            azure: nowhere(),
            ..often()
        };
        let (lab, operator) = own(options).await;
        let world = World::of(&lab, &operator, "unresolved").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.prod(json!({})).await;
        let message = world
            .until("prod", "Ready", "False", "AzureUnavailable")
            .await;
        assert!(message.contains("nowhere.invalid"), "{message}");

        let options = OperatorOptions {
            api_server: nowhere(),
            ..often()
        };
        let astray = lab.start_operator(awi(), options).await.unwrap();
        world
            .eventually("it says why it is not ready", async || {
                let (status, why) = astray.get("/readyz").await.unwrap();
                (status == 503 && why.contains("lookup")).then_some(())
            })
            .await;
        for operator in [&operator, &astray] {
            let log = operator.log();
            assert!(!log.contains("panicked"), "{log}");
            assert!(log.lines().count() < 200, "a hot loop: {log}");
        }
    });
}

#[test]
fn names_that_resolve_no_longer_and_then_again() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let proxy = Proxy::start(&lab).unwrap();
        let hosts = lab.scratch().join("hosts");
        let name_servers_answer = |answer: bool| {
            let names = "127.0.0.1 kubernetes.default.svc localhost\n";
            std::fs::write(&hosts, if answer { names } else { "" }).unwrap();
        };
        name_servers_answer(true);
        let options = OperatorOptions {
            api_server: Some(
                proxy
                    .cluster_url()
                    .replace("127.0.0.1", "kubernetes.default.svc"),
            ),
            azure: Some(proxy.azure_url().replace("127.0.0.1", "localhost")),
            hosts: Some(hosts.clone()),
            ..often()
        };
        let operator = lab.start_operator(awi(), options).await.unwrap();
        let world = World::of(&lab, &operator, "names").await;
        world.grant(json!({})).await;
        world.release(&["worker"]).await;
        world.ready(json!({})).await;

        // Whoever has a connection needs no name: each that is used breaks.
        name_servers_answer(false);
        proxy.rule(|seen| match seen.side {
            Side::Azure => Fate::Reset,
            Side::Cluster => Fate::Pass,
        });
        world
            .eventually("the condition tells", async || {
                let conditions = world.get("prod").await?.status?.conditions;
                let told = |c: &Condition| {
                    c.reason == "AzureUnavailable" && c.message.contains("lookup address")
                };
                conditions.iter().any(told).then_some(())
            })
            .await;
        proxy.rule(|_| Fate::Reset);
        proxy.cut();
        world.release(&["triggerer"]).await;
        world
            .eventually("the log tells", async || {
                let log = operator.log();
                let mut lines = log.lines();
                let told = |line: &str| line.contains("watch") && line.contains("lookup");
                lines.any(told).then_some(())
            })
            .await;
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        let lines = operator.log().lines().count();
        assert!(lines < 200, "a hot loop: {}", operator.log());

        name_servers_answer(true);
        proxy.rule(|_| Fate::Pass);
        world
            .becomes(all(&["triggerer", "worker"]), async || {
                world.federated().await
            })
            .await;
        world.until("prod", "Ready", "True", "Done").await;
        assert!(!operator.log().contains("panicked"), "{}", operator.log());
    });
}
