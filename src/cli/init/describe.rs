//! From what is there to the object that says the same. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::json;

use crate::{
    api::{Airflow, AirflowWorkloadIdentity, Component},
    model::{FederatedCredential, IdentityId, Issuer, ResourceId, Subject},
    observe::{AccountState, Discovery, Install, Stores, is_account_name},
    plan::Ids,
};

/// What Azure and the cluster say.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The namespace.
    pub namespace: String,
    /// The identity.
    pub identity: ResourceId,
    /// Its client and tenant ID.
    pub ids: Ids,
    /// Its credentials, whoever wrote them.
    pub credentials: Vec<FederatedCredential>,
    /// The cluster's issuer.
    pub issuer: Issuer,
    /// The audience of federated credentials.
    pub audience: String,
}

/// The object, and what its owner should know of it.
#[derive(Clone, Debug)]
pub struct Description {
    /// It asks for nothing but what is there.
    pub object: AirflowWorkloadIdentity,
    /// Whether the identity is granted to all its accounts already.
    pub is_granted: bool,
    /// Sentences.
    pub remarks: Vec<String>,
}

/// Describes what is federated in the namespace, as the object `name` or, without one, under the
/// name of its Airflow.
///
/// # Errors
/// There is nothing to describe; the message says what there is instead.
pub fn describe(facts: &Facts, stores: &Stores, name: Option<&str>) -> anyhow::Result<Description> {
    let scene = Scene::new(facts, stores)?;
    let mut remarks = Vec::new();
    let trusted = scene.trusted(&mut remarks);
    let accounts = scene.without_clashes(&trusted, &mut remarks);
    if accounts.is_empty() {
        bail!(
            "identity {identity} has no federated credential that an account of namespace {namespace} can use in this cluster, whose issuer is {issuer}: there is nothing to adopt. The README begins with an object for a new start. {remarks}",
            identity = facts.identity,
            namespace = facts.namespace,
            issuer = facts.issuer,
            remarks = remarks.join(" "),
        );
    }
    let (install, airflow) = scene.airflow(&accounts, &mut remarks);
    scene.tell_of_others(install.as_ref(), &accounts, &mut remarks);

    let mut object = scene.smallest.clone();
    object.metadata.name = Some(match (name, install) {
        (Some(name), _) => name.to_owned(),
        (None, Some(install)) => install.name,
        (None, None) => facts.namespace.clone(),
    });
    object.spec.federation.credential_name = scene.prefix(&airflow, &trusted);
    object.spec.airflow = airflow;

    let identity = IdentityId::from(facts.identity.clone());
    let is_granted = accounts
        .iter()
        .all(|account| stores.is_granted(&identity, &facts.namespace, account));
    Ok(Description {
        object,
        is_granted,
        remarks,
    })
}

struct Scene<'a> {
    facts: &'a Facts,
    stores: &'a Stores,
    smallest: AirflowWorkloadIdentity,
}

impl<'a> Scene<'a> {
    fn new(facts: &'a Facts, stores: &'a Stores) -> anyhow::Result<Self> {
        let smallest = serde_json::from_value(json!({
            "metadata": { "name": "new", "namespace": facts.namespace },
            "spec": {
                "identity": { "managedIdentity": { "resourceId": facts.identity.as_str() } },
                "federation": { "existingCredentials": "Adopt" },
                "connections": [],
            },
        }));
        Ok(Self {
            facts,
            stores,
            smallest: smallest.context("cannot make an object")?,
        })
    }

    /// What the operator would find with this `spec.airflow`.
    fn discover(&self, airflow: Airflow) -> Discovery {
        let mut object = self.smallest.clone();
        object.spec.airflow = airflow;
        self.stores.discover(&self.facts.namespace, &object)
    }

    /// The accounts that the identity trusts in this cluster, each with its credential's name.
    fn trusted(&self, remarks: &mut Vec<String>) -> BTreeMap<String, String> {
        let Facts {
            issuer, audience, ..
        } = self.facts;
        let mut trusted = BTreeMap::new();
        let mut elsewhere: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for credential in &self.facts.credentials {
            let FederatedCredential {
                name,
                issuer: its_issuer,
                subject,
                audiences,
                ..
            } = credential;
            let Some(account) = Subject::account_in(subject, &self.facts.namespace) else {
                continue;
            };
            let slash = |issuer: &str| issuer.trim_end_matches('/').to_owned();
            if its_issuer == issuer.as_str() {
                if !is_account_name(account) {
                    remarks.push(format!("Credential {name} trusts {subject}, which no ServiceAccount can be: it is left out."));
                } else if audiences != std::slice::from_ref(audience) {
                    remarks.push(format!("Credential {name} of ServiceAccount {account} has audience {audiences:?} instead of {audience}, so it lets nobody in: it is left out. With {account} in spec.airflow.serviceAccounts the operator corrects it."));
                } else {
                    trusted.insert(account.to_owned(), name.clone());
                }
            } else if slash(its_issuer) == slash(issuer.as_str()) {
                remarks.push(format!("Credential {name} of ServiceAccount {account} has issuer {its_issuer} instead of {issuer}, so it lets nobody in: it is left alone. With {account} in spec.airflow.serviceAccounts the operator writes another."));
            } else {
                elsewhere.entry(its_issuer).or_default().push(name);
            }
        }
        for (its_issuer, names) in elsewhere {
            remarks.push(format!(
                "For a namespace {namespace} of another cluster, whose issuer is {its_issuer}, and left alone: credential {names}.",
                namespace = self.facts.namespace,
                names = names.join(", "),
            ));
        }
        trusted
    }

    /// Those accounts that carry no other identity.
    fn without_clashes(
        &self,
        trusted: &BTreeMap<String, String>,
        remarks: &mut Vec<String>,
    ) -> BTreeSet<String> {
        let named = self.discover(Airflow {
            service_accounts: trusted.keys().cloned().collect(),
            ..Airflow::default()
        });
        let mut accounts = BTreeSet::new();
        // Without a name, the accounts of the one Airflow are found.
        let named = named.accounts.into_iter();
        for account in named.filter(|account| trusted.contains_key(&account.name)) {
            let other = account
                .state
                .as_ref()
                .and_then(|state| self.other_id(state));
            match other {
                None => {
                    accounts.insert(account.name);
                }
                Some(other) => remarks.push(format!(
                    "ServiceAccount {name} has a credential on this identity, but carries {other}: it is left out. Correct its annotations first, if it is to use this identity (client ID {client}).",
                    name = account.name,
                    client = self.facts.ids.client,
                )),
            }
        }
        accounts
    }

    /// An annotation that names another identity.
    fn other_id(&self, state: &AccountState) -> Option<String> {
        let Ids { client, tenant } = self.facts.ids;
        let annotations = [
            ("client ID", &state.client_id.value, client),
            ("tenant ID", &state.tenant_id.value, tenant),
        ];
        annotations.into_iter().find_map(|(what, found, ours)| {
            let other = found.as_ref().filter(|found| **found != ours.to_string())?;
            Some(format!("{what} {other}"))
        })
    }

    /// The `spec.airflow` that means exactly these accounts, and the Airflow that it names.
    fn airflow(
        &self,
        accounts: &BTreeSet<String>,
        remarks: &mut Vec<String>,
    ) -> (Option<Install>, Airflow) {
        let by_name = Airflow {
            service_accounts: accounts.iter().cloned().collect(),
            ..Airflow::default()
        };
        let installs = self.discover(Airflow::default()).installs;
        let concerned: Vec<&Install> = installs
            .iter()
            .filter(|install| !self.all_of(install).of_install.is_disjoint(accounts))
            .collect();
        let install = match concerned.as_slice() {
            [install] => (*install).clone(),
            [] => {
                remarks.push("No Airflow was recognised that runs under these accounts, so they are named one by one.".into());
                return (None, by_name);
            }
            several => {
                let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                remarks.push(format!(
                    "These accounts belong to several Airflows ({}), so they are named one by one.",
                    names.join("; ")
                ));
                return (None, by_name);
            }
        };
        let (own, more): (BTreeSet<String>, BTreeSet<String>) = accounts
            .iter()
            .cloned()
            .partition(|account| self.all_of(&install).of_install.contains(account));
        let Some(components) = self.components(&install, &own) else {
            remarks.push(format!("The components of {install} do not tell these accounts from others that have no credential, so they are named one by one."));
            return (Some(install), by_name);
        };
        if !more.is_empty() {
            remarks.push(format!(
                "Not found by a component of {install}, and so named: {}.",
                list(&more)
            ));
        }
        let airflow = Airflow {
            components,
            service_accounts: more.into_iter().collect(),
            ..naming(&install)
        };
        (Some(install), airflow)
    }

    /// The components that take in these accounts of an Airflow and no others, if there are such.
    fn components(&self, install: &Install, own: &BTreeSet<String>) -> Option<Vec<Component>> {
        let all = self.all_of(install);
        let accounts = all.accounts.iter().filter(|a| own.contains(&a.name));
        let exact: BTreeSet<Component> = accounts.flat_map(|a| &a.components).copied().collect();
        let usual = Airflow::default().components;
        let is_usual = usual.iter().all(|component| exact.contains(component));
        let exact = exact.into_iter().collect();
        let candidates = is_usual.then_some(usual).into_iter().chain([exact]);
        candidates.into_iter().find(|components| {
            let airflow = Airflow {
                components: components.clone(),
                ..naming(install)
            };
            self.discover(airflow).of_install == *own
        })
    }

    /// Everything that an Airflow runs under.
    fn all_of(&self, install: &Install) -> Discovery {
        self.discover(Airflow {
            components: Component::ALL.to_vec(),
            ..naming(install)
        })
    }

    /// The accounts of the same Airflow that nothing is federated for.
    fn tell_of_others(
        &self,
        install: Option<&Install>,
        accounts: &BTreeSet<String>,
        remarks: &mut Vec<String>,
    ) {
        let Some(install) = install else { return };
        let all = self.all_of(install);
        let others = all.accounts.iter().filter(|account| {
            all.of_install.contains(&account.name) && !accounts.contains(&account.name)
        });
        let others: Vec<String> = others
            .map(|account| {
                let components: BTreeSet<&str> =
                    account.components.iter().map(|c| c.as_str()).collect();
                let carries = account.state.as_ref().is_some_and(|state| {
                    let client = self.facts.ids.client.to_string();
                    state.client_id.value == Some(client)
                });
                let but = if carries {
                    ", although it carries the client ID"
                } else {
                    ""
                };
                format!("{} ({}{but})", account.name, list(&components))
            })
            .collect();
        if !others.is_empty() {
            remarks.push(format!(
                "{install} has more accounts, which this identity lets not in, and which are left out: {}. To give them the identity, too, add to spec.airflow.components.",
                others.join(", ")
            ));
        }
    }

    /// What the names of all credentials begin with, if they are `<prefix>-<component>`.
    fn prefix(&self, airflow: &Airflow, trusted: &BTreeMap<String, String>) -> Option<String> {
        let found = self.discover(airflow.clone()).accounts;
        let prefixes: Option<BTreeSet<&str>> = found
            .iter()
            .map(|account| {
                let suffix = match account.components.first() {
                    Some(component) if account.components.len() == 1 => component.as_str(),
                    _ => &account.name,
                };
                let name = trusted.get(&account.name)?;
                name.strip_suffix(suffix)?.strip_suffix('-')
            })
            .collect();
        // As the schema has it.
        let one = prefixes?.into_iter().collect::<Vec<_>>();
        match one.as_slice() {
            [prefix] if (3..=80).contains(&prefix.len()) => Some((*prefix).to_owned()),
            _ => None,
        }
    }
}

fn naming(install: &Install) -> Airflow {
    let named = install.to_status();
    Airflow {
        helm_release: named.helm_release,
        stackable_cluster: named.stackable_cluster,
        ..Airflow::default()
    }
}

fn list<T: AsRef<str>>(names: &BTreeSet<T>) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(", ")
}
