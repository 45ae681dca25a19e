//! The Airflow release, and what the operator made of it.

use std::fmt::Write;

use anyhow::{Result, bail};
use lab::identities::AIRFLOW;
use lab::{Lab, repository};

use crate::screen::Screen;

pub(crate) async fn install(lab: &Lab) -> Result<()> {
    lab.apply(&repository().join("tests/lab/airflow-release.yaml"))
        .await?;
    Ok(())
}

pub(crate) async fn apply_samples(lab: &Lab) -> Result<()> {
    let samples = repository().join("deploy/samples");
    for sample in ["grant.yaml", "airflow-workload-identity.yaml"] {
        lab.apply(&samples.join(sample)).await?;
    }
    Ok(())
}

pub(crate) async fn wait_until_ready(lab: &Lab) -> Result<()> {
    wait_for(lab, "Ready").await
}

/// Everything that gets the identity, and waits until it has it.
pub(crate) async fn restart(lab: &Lab) -> Result<()> {
    let workloads = [
        "rollout",
        "restart",
        "-n",
        "airflow",
        "deployment/airflow-scheduler",
        "statefulset/airflow-triggerer",
        "statefulset/airflow-worker",
    ];
    lab.kubectl(&workloads).await?;
    wait_for(lab, "PodsInjected").await
}

/// Fails with what the object says about it.
async fn wait_for(lab: &Lab, condition: &str) -> Result<()> {
    let wait = [
        "wait",
        &format!("--for=condition={condition}"),
        "awi/prod",
        "-n",
        "airflow",
        "--timeout=120s",
    ];
    let Err(error) = lab.kubectl(&wait).await else {
        return Ok(());
    };
    let format = r#"jsonpath={range .status.conditions[*]}  {.type}={.status} {.reason}: {.message}{"\n"}{end}"#;
    let conditions = lab
        .kubectl(&["get", "awi", "prod", "-n", "airflow", "-o", format])
        .await?;
    bail!("{error:#}\nIts conditions:\n{}", conditions.trim_end())
}

pub(crate) async fn show_objects(screen: &Screen, lab: &Lab) -> Result<()> {
    show_kubectl(
        screen,
        lab,
        "Is it ready?",
        &["get", "awi", "-n", "airflow"],
    )
    .await?;
    show_kubectl(
        screen,
        lab,
        "Which ServiceAccounts have the identity?",
        &[
            "get",
            "sa",
            "-n",
            "airflow",
            "-o",
            r"custom-columns=NAME:.metadata.name,CLIENT-ID:.metadata.annotations.azure\.workload\.identity/client-id",
        ],
    )
    .await?;
    show_kubectl(
        screen,
        lab,
        "What does Airflow connect with?",
        &[
            "get",
            "secret",
            "prod-airflow-connections",
            "-n",
            "airflow",
            "-o",
            r#"go-template={{range $key, $value := .data}}{{$key}}={{base64decode $value}}{{"\n"}}{{end}}"#,
        ],
    )
    .await?;
    show_kubectl(
        screen,
        lab,
        "Do the pods have it? (nothing of Airflow's own values was changed)",
        &[
            "get",
            "pods",
            "-n",
            "airflow",
            "-o",
            r#"custom-columns=NAME:.metadata.name,AZURE_CLIENT_ID:.spec.containers[0].env[?(@.name=="AZURE_CLIENT_ID")].value,TOKEN:.spec.containers[0].env[?(@.name=="AZURE_FEDERATED_TOKEN_FILE")].value,CONNECTIONS:.spec.containers[0].envFrom[0].secretRef.name"#,
        ],
    )
    .await
}

/// As `az … -o table` prints them.
pub(crate) async fn show_credentials(screen: &Screen, lab: &Lab) -> Result<()> {
    let credentials = lab
        .azure()
        .await?
        .list_credentials(&AIRFLOW.resource_id())
        .await?;
    let mut table = String::new();
    writeln!(table, "{:<44} {:<52} ISSUER", "NAME", "SUBJECT")?;
    for one in credentials {
        writeln!(table, "{:<44} {:<52} {}", one.name, one.subject, one.issuer)?;
    }
    let command = format!(
        "az identity federated-credential list -g {} --identity-name {}",
        AIRFLOW.resource_group, AIRFLOW.name
    );
    screen.answer(
        "Whom does Azure trust? (the emulator's answer to the same request)",
        &command,
        &table,
    );
    Ok(())
}

async fn show_kubectl(screen: &Screen, lab: &Lab, question: &str, args: &[&str]) -> Result<()> {
    let answer = lab.kubectl(args).await?;
    let command: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    screen.answer(question, &format!("kubectl {}", command.join(" ")), &answer);
    Ok(())
}

/// As one would type it in a shell.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
    if arg.chars().all(plain) {
        arg.to_owned()
    } else {
        format!("'{arg}'")
    }
}
