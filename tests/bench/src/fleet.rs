//! Many objects: teams with a namespace and an identity each, a grant for each team, and in each namespace some
//! objects with ServiceAccounts of their own.

use airflow_workload_identity::api::{
    AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, AzureIdentityGrant,
};
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use lab::{Lab, identities::SUBSCRIPTION_ID};
use serde_json::{Value, json};

/// Requests at a time, of who only prepares.
const AT_ONCE: usize = 32;

/// Components of Airflow's whose ServiceAccounts an object names.
const COMPONENTS: [&str; 5] = [
    "scheduler",
    "triggerer",
    "worker",
    "dag-processor",
    "api-server",
];

/// How many, and how they belong together.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// What its names begin with.
    pub name: &'static str,
    pub objects: usize,
    /// Of each object.
    pub accounts: usize,
    /// Objects of each identity.
    pub sharing: usize,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Member {
    pub namespace: String,
    pub name: String,
    /// Its resource ID.
    pub identity: String,
    /// All that it may have one day; the fleet says how many it has.
    accounts: Vec<String>,
}

impl Fleet {
    /// As the goals name it: four objects share an identity, and have four accounts each.
    pub fn of(name: &'static str, objects: usize) -> Self {
        Self {
            name,
            objects,
            accounts: 4,
            sharing: 4,
        }
    }

    /// What it is, in words.
    pub fn title(&self) -> String {
        let (objects, accounts, identities) = (self.objects, self.accounts, self.identities());
        format!("{objects} objects × {accounts} accounts over {identities} identities")
    }

    pub fn identities(&self) -> usize {
        self.objects.div_ceil(self.sharing)
    }

    pub fn credentials(&self) -> usize {
        self.objects * self.accounts
    }

    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        (0..self.objects).map(|n| {
            let team = n / self.sharing;
            let name = format!("airflow-{}", n % self.sharing);
            Member {
                namespace: self.namespace(team),
                identity: self.identity(team),
                accounts: COMPONENTS
                    .map(|component| format!("{name}-{component}"))
                    .into(),
                name,
            }
        })
    }

    fn namespace(&self, team: usize) -> String {
        format!("{}-{team}", self.name)
    }

    fn identity(&self, team: usize) -> String {
        format!(
            "/subscriptions/{SUBSCRIPTION_ID}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/team-{team}",
            self.name
        )
    }

    /// The object as its user applies it, with so many accounts.
    pub fn object(member: &Member, accounts: usize) -> Result<AirflowWorkloadIdentity> {
        object(&json!({
            "metadata": { "name": member.name, "namespace": member.namespace },
            "spec": {
                "identity": { "managedIdentity": { "resourceId": member.identity } },
                "airflow": { "serviceAccounts": member.accounts(accounts) },
            },
        }))
    }

    /// All that is there before the objects are: identities, namespaces, grants and ServiceAccounts.
    pub async fn prepare(&self, lab: &Lab, client: &Client) -> Result<()> {
        let azure = lab.azure().await?;
        let teams = 0..self.identities();
        let identities = teams.clone().map(|team| {
            let azure = &azure;
            async move { azure.put_identity(&self.identity(team)).await.map(drop) }
        });
        all(identities).await?;
        let spaces = teams.map(|team| async move {
            let name = self.namespace(team);
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            };
            let namespace = Namespace {
                metadata,
                ..Namespace::default()
            };
            create(&Api::all(client.clone()), &namespace).await?;
            let grant: AzureIdentityGrant = object(&json!({
                "metadata": { "name": name },
                "spec": {
                    "identities": [{ "resourceId": self.identity(team) }],
                    "namespaces": { "names": [name] },
                },
            }))?;
            create(&Api::all(client.clone()), &grant).await
        });
        all(spaces).await?;
        // One more than the objects ask for at first.
        let members = self.members().map(|member| async move {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &member.namespace);
            for name in &member.accounts {
                let metadata = ObjectMeta {
                    name: Some(name.clone()),
                    ..ObjectMeta::default()
                };
                create(
                    &accounts,
                    &ServiceAccount {
                        metadata,
                        ..ServiceAccount::default()
                    },
                )
                .await?;
            }
            Ok(())
        });
        all(members).await
    }

    /// The objects themselves.
    pub async fn apply(&self, client: &Client) -> Result<()> {
        let members = self.members().map(|member| async move {
            let api = Api::namespaced(client.clone(), &member.namespace);
            create(&api, &Self::object(&member, self.accounts)?).await
        });
        all(members).await
    }

    /// How many of them are ready as they are now.
    pub async fn ready(&self, client: &Client) -> Result<usize> {
        let api: Api<AirflowWorkloadIdentity> = Api::all(client.clone());
        let all = api.list(&Default::default()).await?;
        let prefix = format!("{}-", self.name);
        let ours = all.iter().filter(|object| {
            let namespace = object.metadata.namespace.as_deref();
            namespace.is_some_and(|namespace| namespace.starts_with(&prefix))
        });
        Ok(ours.filter(|object| is_ready(object)).count())
    }

    /// The status of its first object.
    pub async fn status_of_first(&self, client: &Client) -> Result<AirflowWorkloadIdentityStatus> {
        let first = self.members().next().context("an empty fleet")?;
        let api: Api<AirflowWorkloadIdentity> = Api::namespaced(client.clone(), &first.namespace);
        let status = api.get(&first.name).await?.status;
        status.context("it has no status")
    }
}

impl Member {
    pub fn accounts(&self, count: usize) -> &[String] {
        &self.accounts[..count]
    }
}

/// Whether the status is of this spec, and says `Ready`.
pub fn is_ready(object: &AirflowWorkloadIdentity) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.status == "True"
            && condition.observed_generation == object.metadata.generation
    })
}

fn object<T: serde::de::DeserializeOwned>(manifest: &Value) -> Result<T> {
    Ok(serde_json::from_value(manifest.clone())?)
}

async fn create<K>(api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    api.create(&PostParams::default(), object).await?;
    Ok(())
}

async fn all(work: impl Iterator<Item = impl Future<Output = Result<()>>>) -> Result<()> {
    stream::iter(work)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
