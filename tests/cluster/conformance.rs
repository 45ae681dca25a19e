//! Microsoft's own clients find that the emulator behaves like Azure.

use std::process::Command;

use lab::{Lab, LabOptions, identities::EXCHANGE_AUDIENCE};

use crate::world::{resource_id, run};

#[test]
fn azure_mgmt_msi_and_azure_identity_agree_with_the_emulator() {
    run(async {
        let lab = Lab::start(LabOptions::default()).await.unwrap();
        let token = |account: &'static str, file: &'static str| {
            let lab = &lab;
            async move {
                let token = lab
                    .mint_token("default", account, EXCHANGE_AUDIENCE)
                    .await
                    .unwrap();
                let file = lab.scratch().join(file);
                std::fs::write(&file, token).unwrap();
                file
            }
        };
        // The lab's own account in Azure; the emulator is told to trust it.
        let right = token("lab-admin", "right.token").await;
        let wrong = token("default", "wrong.token").await;
        let python = lab::python("conformance", "tests/conformance/requirements.txt").unwrap();
        let emulator = lab.emulator();
        let output = Command::new(python)
            .arg(lab::repository().join("tests/conformance/conformance.py"))
            .args([
                "--url",
                emulator.url(),
                "--tenant",
                emulator.tenant_id(),
                "--client",
                lab::identities::ADMIN.client_id,
            ])
            .args(["--identity", &resource_id("conformance")])
            .arg("--ca")
            .arg(emulator.ca_path())
            .arg("--token-file")
            .arg(right)
            .arg("--wrong-token-file")
            .arg(wrong)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        assert!(
            output.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            text.lines()
                .last()
                .is_some_and(|line| line.ends_with(" 0 failed")),
            "{text}"
        );
    });
}
