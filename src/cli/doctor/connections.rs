//! Each connection as Airflow will read it: what is written, and what the pods read instead.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    environment::{Environment, Origin, Source},
    finding::{Finding, Level, Read},
    object::Seen,
    written::Written,
};
use crate::{
    api::{ConditionType, Connection, SecretFormat},
    observe::reader_role_name,
    plan::Progress,
    secrets::{Content, WantedSecret, variable, wanted_secrets},
};

const CHECK: &str = "connection";
/// What sets Airflow's own secrets backend, for all of it and for its workers.
/// <https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html>
pub(super) const BACKENDS: [&str; 2] = [
    "AIRFLOW__SECRETS__BACKEND",
    "AIRFLOW__WORKERS__SECRETS_BACKEND",
];
const KUBERNETES_BACKEND: &str =
    "airflow.providers.cncf.kubernetes.secrets.kubernetes_secrets_backend.KubernetesSecretsBackend";
const FILE_BACKEND: &str = "airflow.secrets.local_filesystem.LocalFilesystemBackend";
/// With one of these in `extra` a hook signs in by a secret.
const OTHER_CREDENTIALS: [&str; 9] = [
    "account_key",
    "client_secret",
    "connection_string",
    "key_json",
    "key_path",
    "sas_token",
    "shared_access_key",
    "tenantId",
    "tenant_id",
];
/// With any other key Airflow drops the connection.
/// <https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#json-format-example>
const FIELDS: [&str; 8] = [
    "conn_type",
    "description",
    "extra",
    "host",
    "login",
    "password",
    "port",
    "schema",
];

/// What was read for the connections of an object.
#[derive(Clone, Debug)]
pub struct Reading {
    /// By the name of a Secret that is the object's own, what it holds.
    pub secrets: BTreeMap<String, Read<Written>>,
    /// The environments of the containers that run Airflow.
    pub environments: Read<Vec<Environment>>,
    /// The variables of what they take variables from.
    pub sources: BTreeMap<Source, Read<BTreeMap<String, Option<String>>>>,
}

/// Whether Airflow reads each connection, and what in it.
#[must_use]
pub fn check(seen: &Seen, reading: &Reading) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.plan.halted.is_some() || seen.snapshot.is_deleting() {
        return findings;
    }
    for wanted in wanted_secrets(&seen.snapshot.object) {
        let of_secret = secret(seen, &wanted);
        let is_well = of_secret.is_none();
        findings.extend(of_secret);
        if let Some(Err(unread)) = reading.secrets.get(&wanted.name) {
            findings.push(Finding::unread(CHECK, unread));
        }
        for connection in connections(&wanted) {
            let read = match reading.secrets.get(&wanted.name) {
                Some(Ok(written)) => read(seen, &wanted, connection, written),
                _ => None,
            };
            let hidden = hidden(reading, &wanted, connection);
            if is_well || read.as_ref().is_some_and(|f| f.level != Level::Ok) || hidden.is_some() {
                findings.extend(hidden.or(read));
            }
        }
    }
    if let Some(progress) = &seen.plan.reader_role {
        findings.extend(part(
            seen,
            progress,
            format!("role/{}", reader_role_name(&seen.snapshot.object)),
            "is not as it should be",
        ));
    }
    findings.extend(backend(seen, reading));
    for (source, read) in &reading.sources {
        if let Err(unread) = read {
            let finding = Finding::unread(CHECK, unread);
            findings.push(Finding {
                what: format!(
                    "cannot be looked at, although pods take variables from {source}: one of them may hide a connection"
                ),
                ..finding
            });
        }
    }
    if let Err(unread) = &reading.environments {
        findings.push(Finding::unread(CHECK, unread));
    }
    findings
}

fn connections<'a>(wanted: &WantedSecret<'a>) -> &'a [Connection] {
    match wanted.content {
        Content::Environment(connections) | Content::File(connections) => connections,
        Content::Backend(connection) => std::slice::from_ref(connection),
        Content::KeyVault(_) => &[],
    }
}

/// What is wrong with a Secret.
fn secret(seen: &Seen, wanted: &WantedSecret) -> Option<Finding> {
    let mut secrets = seen.plan.secrets.iter();
    let planned = secrets.find(|planned| planned.name == wanted.name)?;
    let object = format!("secret/{}", wanted.name);
    part(
        seen,
        &planned.progress,
        object,
        "does not hold what it should: it is missing, or was changed by hand",
    )
}

fn part(seen: &Seen, progress: &Progress, object: String, what: &str) -> Option<Finding> {
    match progress {
        Progress::Holds => None,
        Progress::Pending(step) => Some(seen.pending(CHECK, object, what, *step)),
        Progress::Blocked(problem) | Progress::Unverified(problem) => {
            Some(seen.problem(CHECK, object, ConditionType::ConnectionsWritten, problem))
        }
    }
}

/// What Airflow reads there.
fn read(
    seen: &Seen,
    wanted: &WantedSecret,
    connection: &Connection,
    written: &Written,
) -> Option<Finding> {
    let id = &connection.id;
    let found = |level, what: String| Finding::ok(CHECK, id, what).at(level);
    let key = match wanted.content {
        Content::Environment(_) => variable(id),
        Content::Backend(_) | Content::File(_) => id.clone(),
        Content::KeyVault(_) => return None,
    };
    let put_back = || seen.look_again();
    let told = match written.connections.get(&key)? {
        Ok(told) => told,
        Err(why) => {
            return Some(
                found(
                    Level::Error,
                    format!("Airflow cannot read it in Secret {}", wanted.name),
                )
                .why(why)
                .fix(put_back()),
            );
        }
    };
    let among = |keys: &BTreeSet<String>, names: &[&str]| -> Vec<String> {
        let named = keys.iter().filter(|key| names.contains(&key.as_str()));
        named.cloned().collect()
    };
    let unknown: Vec<&str> = told
        .fields
        .iter()
        .map(String::as_str)
        .filter(|field| !FIELDS.contains(field))
        .collect();
    if !unknown.is_empty() {
        return Some(
            found(Level::Error, format!("holds a field {}", unknown.join(", ")))
                .why("Airflow drops a connection with a field that it does not know, and says that it is not defined")
                .fix(put_back()),
        );
    }
    let mut secrets = among(&told.extras, &OTHER_CREDENTIALS);
    secrets.extend(among(&told.fields, &["password"]));
    if !secrets.is_empty() {
        return Some(
            found(Level::Error, format!("holds {}", secrets.join(", ")))
                .why("With that its hook signs in by a secret, not by the identity")
                .fix(put_back()),
        );
    }
    let ids = seen.plan.ids?;
    let client = ids.client.to_string();
    let tenant = ids.tenant.to_string();
    for (what, found_id, wanted_id) in [
        ("client ID", &told.client_id, &client),
        ("tenant ID", &told.tenant_id, &tenant),
    ] {
        if found_id.as_ref() != Some(wanted_id) {
            let has = found_id.as_deref().unwrap_or("none");
            return Some(
                found(
                    Level::Error,
                    format!("has {what} {has} instead of {wanted_id}"),
                )
                .why("Unless both are the identity's, its hook takes another identity")
                .fix(put_back()),
            );
        }
    }
    let extras: Vec<&str> = told.extras.iter().map(String::as_str).collect();
    let place = match wanted.content {
        Content::Environment(_) => format!("variable {key} of Secret {}", wanted.name),
        _ => format!("Secret {}", wanted.name),
    };
    Some(found(
        Level::Ok,
        format!(
            "{place}: type {}, extra {}, with the identity's present IDs",
            told.conn_type,
            extras.join(", ")
        ),
    ))
}

/// Where pods take a connection from instead.
fn hidden(reading: &Reading, wanted: &WantedSecret, connection: &Connection) -> Option<Finding> {
    if !matches!(wanted.content, Content::Environment(_)) {
        return None;
    }
    let key = variable(&connection.id);
    let ours = Source::Secret(wanted.name.clone());
    let mut instead: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for environment in reading.environments.iter().flatten() {
        match environment.origin(&key, &reading.sources, &ours) {
            Some(Origin::Own) => instead.entry("its own env".into()).or_default(),
            Some(Origin::From(source)) if source != ours => {
                instead.entry(source.to_string()).or_default()
            }
            Some(Origin::From(_)) | None => continue,
        }
        .insert(&environment.pod);
    }
    let (from, pods) = instead.pop_first()?;
    let pods: Vec<&str> = pods.into_iter().collect();
    Some(
        Finding::ok(
            CHECK,
            &connection.id,
            format!("{key} comes from {from} in pods {}", pods.join(", ")),
        )
        .at(Level::Error)
        .why(format!(
            "So Airflow never reads that of Secret {}",
            wanted.name
        ))
        .fix(format!(
            "Take {key} out of {from} in Airflow's Helm values, or give the connection another ID"
        )),
    )
}

/// Airflow's secrets backend, which is asked before the environment.
fn backend(seen: &Seen, reading: &Reading) -> Option<Finding> {
    let spec = &seen.snapshot.object.spec;
    if spec.connections.is_empty() {
        return None;
    }
    let wanted = match spec.connection_secret.format {
        SecretFormat::Environment => None,
        SecretFormat::SecretsBackend => Some(KUBERNETES_BACKEND),
        SecretFormat::File => Some(FILE_BACKEND),
    };
    let environments = reading.environments.as_ref().ok()?;
    let classes = |environment: &Environment| -> BTreeSet<String> {
        let values = BACKENDS.iter();
        values
            .filter_map(|name| environment.value(name, &reading.sources))
            .collect()
    };
    let found = |what: String| Finding::ok(CHECK, seen.object(), what).at(Level::Warning);
    match wanted {
        Some(class) => {
            let without: BTreeSet<&str> = environments
                .iter()
                .filter(|environment| !classes(environment).contains(class))
                .map(|environment| environment.pod.as_str())
                .collect();
            (!without.is_empty()).then(|| {
                let pods: Vec<&str> = without.into_iter().collect();
                found(format!(
                    "{} is not {class} in pods {}",
                    BACKENDS[0],
                    pods.join(", ")
                ))
                .why("Unless their airflow.cfg says so, Airflow does not read the connections")
                .fix(format!(
                    "In Airflow's Helm values: env: [{{name: {}, value: {class}}}]; docs/connections.md, How Airflow reads them",
                    BACKENDS[0]
                ))
            })
        }
        None if spec.key_vault_backend.is_some() => None,
        None => {
            let others: BTreeSet<String> = environments.iter().flat_map(classes).collect();
            (!others.is_empty()).then(|| {
                let others: Vec<String> = others.into_iter().collect();
                found(format!("Airflow asks {} first", others.join(", ")))
                    .why("A connection of the same ID there hides that of the environment")
                    .fix("Look there for the IDs of spec.connections")
            })
        }
    }
}
