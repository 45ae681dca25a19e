//! What a scenario has to come to, by what its user asked for and the documents promise. The operator has no say in it:
//! not by its code, not by its records, not by what it did the time before.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use lab::Credential;
use serde_json::Value;

use crate::{
    picture::{Key, Named, Picture, is_of_others},
    scenario::BLUE,
    stage::{ACCOUNTS, Stage},
};

/// The accounts that an object has by default.
pub const ALL: &[&str] = &["airflow-scheduler", "airflow-triggerer", "airflow-worker"];
pub const WORKER: &[&str] = &["airflow-worker"];

#[derive(Clone, Copy)]
pub struct End {
    /// The status and the reason of `Ready`; none: there is no object.
    ready: Option<&'static str>,
    /// The accounts that a credential lets in, but for credentials of others.
    let_in: &'static [&'static str],
    /// The accounts that carry client and tenant ID.
    annotated: &'static [&'static str],
    /// Whose credentials, client and tenant ID these are, and which the Secrets name.
    identity: Which,
    issuer: Issuer,
    names: Names,
    secrets: &'static [Secret],
    /// The accounts that a Role lets list Secrets; none: there is no Role.
    readers: &'static [&'static str],
}

/// Its name and its keys.
type Secret = (&'static str, &'static [&'static str]);

/// One of the stage's identities.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    First,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub enum Issuer {
    Blue,
    Green,
}

/// How credentials are called.
#[derive(Clone, Copy)]
pub enum Names {
    /// `awi-…`, and the rest is the operator's affair.
    Derived,
    /// As the guide does it: `chosen-<component>`.
    Chosen,
    /// As the az loop called those that it wrote; the rest is derived.
    OfLoop,
}

const BOTH: [Which; 2] = [Which::First, Which::Other];
const DERIVED: &str = "awi-…";
/// The Role, and its binding.
const READER: &str = "prod-airflow-connections-reader";
const DEFAULT: &str = "AIRFLOW_CONN_AZURE_DEFAULT";
const LAKE: &str = "AIRFLOW_CONN_LAKE";

/// There is no object, and nothing of the operator's.
pub const NOTHING: End = End {
    ready: None,
    let_in: &[],
    annotated: &[],
    identity: Which::First,
    issuer: Issuer::Blue,
    names: Names::Derived,
    secrets: &[],
    readers: &[],
};

/// The smallest object, ready.
pub const PLAIN: End = End {
    ready: Some("True Done"),
    let_in: ALL,
    annotated: ALL,
    secrets: &[("prod-airflow-connections", &[DEFAULT])],
    ..NOTHING
};

/// With two connections for the Kubernetes secrets backend, and the Role that it takes.
pub const BACKEND: End = End {
    secrets: &[
        ("prod-airflow-connections-azure-default", &["value"]),
        ("prod-airflow-connections-lake", &["value"]),
    ],
    readers: ALL,
    ..PLAIN
};

/// The same, suspended, and then no longer granted: annotations and Secrets stay as they are.
pub const CUT_OFF: End = End {
    ready: Some("False Suspended"),
    let_in: &[],
    readers: &[],
    ..BACKEND
};

/// With the same two as variables.
pub const TWO: End = End {
    secrets: &[("prod-airflow-connections", &[DEFAULT, LAKE])],
    ..PLAIN
};

/// The credentials alone.
pub const RETAINED: End = End {
    let_in: ALL,
    ..NOTHING
};

/// One Secret, of the user's choice.
pub const CONNS: &[Secret] = &[("conns", &[DEFAULT])];
/// The same, for connections in a file.
pub const FILE: &[Secret] = &[("conns", &["connections.json"])];
/// And what Airflow's Key Vault backend takes.
pub const KEY_VAULT: &[Secret] = &[
    ("prod-airflow-connections", &[DEFAULT]),
    (
        "prod-airflow-key-vault",
        &[
            "AIRFLOW__SECRETS__BACKEND",
            "AIRFLOW__SECRETS__BACKEND_KWARGS",
        ],
    ),
];

/// The same, but for one thing.
impl End {
    pub fn told(self, ready: &'static str) -> Self {
        let ready = Some(ready);
        Self { ready, ..self }
    }

    /// For these accounts, and no others.
    pub fn of(self, accounts: &'static [&'static str]) -> Self {
        Self {
            let_in: accounts,
            annotated: accounts,
            ..self
        }
    }

    pub fn on(self, identity: Which) -> Self {
        Self { identity, ..self }
    }

    pub fn issued_by(self, issuer: Issuer) -> Self {
        Self { issuer, ..self }
    }

    pub fn named(self, names: Names) -> Self {
        Self { names, ..self }
    }

    pub fn read_by(self, readers: &'static [&'static str]) -> Self {
        Self { readers, ..self }
    }

    pub fn with(self, secrets: &'static [Secret]) -> Self {
        Self { secrets, ..self }
    }
}

impl End {
    /// What is missing, and what should not be there.
    pub fn wrongs(&self, picture: &Picture, stage: &Stage) -> Vec<String> {
        let (expected, found) = (self.lines(), found(picture, stage));
        let missing = expected.difference(&found);
        let excess = found.difference(&expected);
        missing
            .map(|line| format!("it should be so, and is not: {line}"))
            .chain(excess.map(|line| format!("it is so, and should not be: {line}")))
            .collect()
    }

    /// A line for each thing that has to be there. No two are alike: Azure takes one credential for an account and an
    /// issuer.
    fn lines(&self) -> BTreeSet<String> {
        let (identity, issuer) = (self.identity, format!("{:?}", self.issuer));
        let let_in = self.let_in.iter().map(|account| {
            let name = self.names.of(account);
            of_credential(identity, &name, &issuer, account)
        });
        let annotated = self.annotated.iter();
        let annotated = annotated.map(|account| of_account(account, &format!("{identity:?}")));
        let secrets = self.secrets.iter();
        let secrets = secrets.map(|(name, keys)| of_secret(name, keys, &[identity]));
        let role = [
            of_role(READER, "list secrets"),
            of_role(&format!("{READER} binding"), &self.readers.join(" ")),
        ];
        let role = role.into_iter().filter(|_| !self.readers.is_empty());
        [of_ready(self.ready)]
            .into_iter()
            .chain(let_in)
            .chain(annotated)
            .chain(secrets)
            .chain(role)
            .collect()
    }
}

impl Names {
    fn of(self, account: &str) -> String {
        let component = account.trim_start_matches("airflow-");
        match self {
            Self::Chosen => format!("chosen-{component}"),
            Self::OfLoop if ["scheduler", "worker"].contains(&component) => {
                format!("loop-{component}")
            }
            Self::Derived | Self::OfLoop => DERIVED.into(),
        }
    }
}

/// The same lines, for what there is.
fn found(picture: &Picture, stage: &Stage) -> BTreeSet<String> {
    let credentials = picture.credentials.iter();
    let credentials = credentials.filter(|(key, _)| !is_of_others(key));
    [found_ready(picture)]
        .into_iter()
        .chain(credentials.map(|(key, credential)| found_credential(stage, key, credential)))
        .chain(
            ACCOUNTS
                .iter()
                .filter_map(|account| found_account(picture, stage, account)),
        )
        .chain(
            picture
                .secrets_of_ours()
                .map(|(name, secret)| found_secret(stage, name, secret)),
        )
        .chain(
            picture
                .roles_of_ours()
                .map(|(name, role)| found_role(name, role)),
        )
        .collect()
}

fn found_ready(picture: &Picture) -> String {
    let Some(object) = &picture.object else {
        return of_ready(None);
    };
    let conditions = list(&object["status"]["conditions"]);
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    let of = |field| ready.map_or("?", |ready| text(&ready[field]));
    of_ready(Some(&format!("{} {}", of("status"), of("reason"))))
}

fn found_credential(stage: &Stage, (place, name): &Key, credential: &Credential) -> String {
    let name = if name.starts_with("awi-") {
        DERIVED
    } else {
        name
    };
    let issuer = match &credential.issuer {
        blue if blue == BLUE => "Blue",
        green if *green == stage.green() => "Green",
        another => another,
    };
    let (subject, audiences) = (&credential.subject, &credential.audiences);
    let own = format!("system:serviceaccount:{}:", stage.ns);
    let mut account = subject.strip_prefix(&own).unwrap_or(subject).to_owned();
    if *audiences != ["api://AzureADTokenExchange"] {
        account = format!("{account}, with audience {audiences:?},");
    }
    of_credential(BOTH[*place], name, issuer, &account)
}

fn found_account(picture: &Picture, stage: &Stage, account: &str) -> Option<String> {
    let annotations = &picture.accounts[account]["metadata"]["annotations"];
    let ids = ["client-id", "tenant-id"]
        .map(|id| text(&annotations[format!("azure.workload.identity/{id}")]));
    let whose = BOTH.into_iter().find(|which| {
        let identity = &stage.identities[*which as usize];
        ids == [&*identity.client_id, &*identity.tenant_id]
    });
    let whose = whose.map_or(ids.join(" "), |which| format!("{which:?}"));
    (ids != ["", ""]).then(|| of_account(account, &whose))
}

fn found_secret(stage: &Stage, name: &str, secret: &Value) -> String {
    let data: Named<ByteString> =
        serde_json::from_value(secret["data"].clone()).unwrap_or_default();
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    let named = BOTH.into_iter().filter(|which| {
        let client_id = &stage.identities[*which as usize].client_id;
        let mut values = data.values();
        values.any(|value| String::from_utf8_lossy(&value.0).contains(client_id))
    });
    of_secret(name, &keys, &named.collect::<Vec<_>>())
}

/// Or a `RoleBinding`.
fn found_role(name: &str, role: &Value) -> String {
    let words = |list: &[Value]| list.iter().map(text).collect::<Vec<_>>().join(" ");
    let rules = list(&role["rules"]).iter();
    let rules = rules.map(|rule| {
        [list(&rule["verbs"]), list(&rule["resources"])]
            .map(words)
            .join(" ")
    });
    let subjects = list(&role["subjects"]).iter();
    let subjects = subjects.map(|subject| text(&subject["name"]).to_owned());
    of_role(name, &rules.chain(subjects).collect::<Vec<_>>().join(" "))
}

fn of_ready(ready: Option<&str>) -> String {
    ready.map_or("there is no object".into(), |ready| {
        format!("Ready is {ready}")
    })
}

fn of_credential(identity: Which, name: &str, issuer: &str, account: &str) -> String {
    format!("{account} is let in on {identity:?} by {name}, issuer {issuer}")
}

fn of_account(account: &str, whose: &str) -> String {
    format!("{account} carries the IDs of {whose}")
}

fn of_secret(name: &str, keys: &[&str], named: &[Which]) -> String {
    format!("Secret {name} with {}, for {named:?}", keys.join(" and "))
}

fn of_role(name: &str, what: &str) -> String {
    format!("Role {name}: {what}")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
