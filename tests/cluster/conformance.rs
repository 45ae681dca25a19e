//! Microsoft's own clients find that the emulator behaves like Azure.

use std::process::Command;

use lab::{Lab, LabOptions, identities::EXCHANGE_AUDIENCE};

use crate::world::{resource_id, run};

/// Runs a script as the lab's own account in Azure, which the emulator is told to trust. `more` are
/// arguments, given the file with another account's token.
async fn checked(script: &str, more: impl FnOnce(String) -> Vec<String>) {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let token = async |account: &str| {
        let token = lab.mint_token("default", account, EXCHANGE_AUDIENCE).await;
        let file = lab.scratch().join(format!("{account}.token"));
        std::fs::write(&file, token.unwrap()).unwrap();
        file.display().to_string()
    };
    let (right, wrong) = (token("lab-admin").await, token("default").await);
    let emulator = lab.emulator();
    let python = lab::python("conformance", "tests/conformance/requirements.txt").unwrap();
    let output = Command::new(python)
        .arg(lab::repository().join("tests/conformance").join(script))
        .args(["--url", emulator.url()])
        .args(["--tenant", emulator.tenant_id()])
        .args(["--client", lab::identities::ADMIN.client_id])
        .arg("--ca")
        .arg(emulator.ca_path())
        .args(["--token-file", &right])
        .args(more(wrong))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" 0 failed"), "{text}");
}

#[test]
fn azure_mgmt_msi_and_azure_identity_agree_with_the_emulator() {
    run(checked("conformance.py", |wrong| {
        let identity = resource_id("conformance");
        ["--identity", &identity, "--wrong-token-file", &wrong]
            .map(str::to_owned)
            .into()
    }));
}

#[test]
fn msgraph_agrees_with_the_emulator() {
    run(checked("graph.py", |_| Vec::new()));
}
