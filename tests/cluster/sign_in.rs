//! How the operator itself signs in to Azure, by flag or by environment.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, routing::get};
use lab::{Lab, LabOptions, OperatorOptions, identities::ADMIN};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::world::{World, awi, run};

/// A token that the emulator takes, got by another way than the operator's own.
async fn access_token(lab: &Lab) -> String {
    let assertion = lab.mint_azure_admin_token().await.unwrap();
    let scope = format!("{}/.default", lab.emulator().url());
    let answer = lab
        .emulator()
        .exchange(ADMIN.client_id, &assertion, &scope)
        .await
        .unwrap();
    answer.access_token
}

fn expiry() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_secs() + 3600
}

async fn becomes_ready(lab: &Lab, options: OperatorOptions, name: &str) {
    let operator = lab.start_operator(awi(), options).await.unwrap();
    let world = World::of(lab, &operator, name).await;
    world.grant(json!({})).await;
    world.release(&["worker"]).await;
    world.ready(json!({})).await;
}

#[test]
fn the_azure_cli_and_a_managed_identity_do_as_well_as_workload_identity() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let token = access_token(&lab).await;

        // What `az account get-access-token` prints.
        let bin = lab.scratch().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let answer = json!({ "accessToken": token, "expires_on": expiry(), "tokenType": "Bearer" });
        let az = bin.join("az");
        std::fs::write(&az, format!("#!/bin/sh\ncat <<'E'\n{answer}\nE\n")).unwrap();
        std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let options = OperatorOptions {
            extra_args: vec!["--azure-credential".into(), "azure-cli".into()],
            env: vec![
                ("PATH".into(), path),
                ("AZURE_FEDERATED_TOKEN_FILE".into(), String::new()),
            ],
            ..OperatorOptions::default()
        };
        becomes_ready(&lab, options, "azure-cli").await;

        // What App Service, and whatever speaks its protocol, serves to a managed identity.
        let answer = json!({ "access_token": token, "expires_on": expiry().to_string(), "resource": "", "token_type": "Bearer" });
        let app = Router::new()
            .route(
                "/token",
                get(|State(answer): State<Value>| async { Json(answer) }),
            )
            .with_state(answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        let options = OperatorOptions {
            env: vec![
                ("AWI_AZURE_CREDENTIAL".into(), "managed-identity".into()),
                ("IDENTITY_ENDPOINT".into(), endpoint),
                ("IDENTITY_HEADER".into(), "secret".into()),
            ],
            ..OperatorOptions::default()
        };
        becomes_ready(&lab, options, "managed-identity").await;
    });
}

#[test]
fn a_sign_in_that_entra_refuses_is_told_and_got_over() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        lab.azure().await.unwrap(); // the lab's own sign-in, before the door is shut
        let refused = json!({ "operation": "token", "status": 401, "code": "invalid_client", "message": "AADSTS700213: No matching federated identity record found", "action": "respond" });
        lab.emulator().fault(&refused).await.unwrap();
        let operator = lab
            .start_operator(awi(), OperatorOptions::default())
            .await
            .unwrap();
        let world = World::of(&lab, &operator, "sign-in").await;
        world.grant(json!({})).await;
        // Whatever it hears of late would be one more try in vain, and the next so much later.
        world.installed(&["worker"]).await;
        world.prod(json!({})).await;
        let message = world
            .until("prod", "IdentityResolved", "False", "AzureUnauthenticated")
            .await;
        assert!(message.contains("AADSTS700213"), "{message}");
        lab.emulator().clear_faults().await.unwrap();
        world.until("prod", "Ready", "True", "Done").await;
    });
}

/// An HTTP proxy that tunnels, and tells where to.
async fn proxy() -> (String, Arc<Mutex<BTreeSet<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let tunnels = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = tunnels.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut client = BufReader::new(stream);
                let mut line = String::new();
                client.read_line(&mut line).await.unwrap();
                let target = line.split(' ').nth(1).unwrap().to_owned();
                while !line.trim().is_empty() {
                    line.clear();
                    client.read_line(&mut line).await.unwrap();
                }
                seen.lock().unwrap().insert(target.clone());
                let mut server = TcpStream::connect(target).await.unwrap();
                let accepted = b"HTTP/1.1 200 Connection established\r\n\r\n";
                client.write_all(accepted).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (url, tunnels)
}

#[test]
fn azure_is_reached_through_a_proxy() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let (proxy, tunnels) = proxy().await;
        let options = OperatorOptions {
            env: vec![
                ("HTTPS_PROXY".into(), proxy),
                ("NO_PROXY".into(), String::new()),
            ],
            ..OperatorOptions::default()
        };
        becomes_ready(&lab, options, "proxied").await;
        let url = lab.emulator().url();
        let azure = url.trim_start_matches("https://").trim_end_matches('/');
        let tunnels = tunnels.lock().unwrap();
        assert!(tunnels.contains(azure), "{tunnels:?}");
    });
}
