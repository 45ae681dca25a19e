//! The guide's way, for scale: a loop over Microsoft's SDK and kubectl.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::identities::{ADMIN, EXCHANGE_AUDIENCE};
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    fleet::Fleet,
    report::{Goal, Report},
    stage::Stage,
};

/// `ours` is what the operator takes for one object of a fleet, in seconds.
pub async fn measure(report: &mut Report, objects: usize, ours: f64) -> Result<()> {
    let stage = Stage::set(&[]).await?;
    let fleet = Fleet::of("hand", objects);
    fleet.prepare(&stage.lab, &stage.client).await?;
    let lab = &stage.lab;
    let token = lab.scratch().join("hand.token");
    std::fs::write(
        &token,
        lab.mint_token("default", "lab-admin", EXCHANGE_AUDIENCE)
            .await?,
    )?;
    let wanted: Vec<_> = fleet
        .members()
        .map(|member| {
            json!({
                "name": member.name, "namespace": member.namespace, "identity": member.identity,
                "accounts": member.accounts(fleet.accounts),
            })
        })
        .collect();
    let python = lab::python("conformance", "tests/conformance/requirements.txt")?;
    let mut child = Command::new(python)
        .arg(lab::repository().join("tests/bench/src/by_hand.py"))
        .args(["--url", lab.emulator().url().trim_end_matches('/')])
        .arg("--ca")
        .arg(lab.emulator().ca_path())
        .args(["--tenant", lab.emulator().tenant_id()])
        .args(["--client", ADMIN.client_id])
        .arg("--token-file")
        .arg(&token)
        .args(["--issuer", lab.issuer()])
        .arg("--kubectl")
        .arg(lab.binaries().join("kubectl"))
        .env("KUBECONFIG", lab.kubeconfig())
        .env("KUBECACHEDIR", lab.kubectl_cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin
        .write_all(serde_json::to_string(&wanted)?.as_bytes())
        .await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "by_hand.py: {}", output.status);
    let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let each = seconds / objects as f64;
    report.add(
        "objects done as the guide does it, one after the other: time ÷ ours",
        each / ours,
        "",
        Some(Goal::AtLeast(10.0)),
        format!("{each:.2} s ÷ {ours:.3} s for each object; by hand {objects} of them were done"),
    );
    Ok(())
}
