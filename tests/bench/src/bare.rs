//! A client that sends what has to be sent, and nothing else: it looks at nothing, remembers nothing and repairs
//! nothing. What it takes is what the control plane and Azure take.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use airflow_workload_identity::{
    api::{
        AirflowWorkloadIdentity, AirflowWorkloadIdentityStatus, CLIENT_ID_ANNOTATION, FINALIZER,
        OPERATOR, TENANT_ID_ANNOTATION,
    },
    model::{CredentialName, Subject},
};
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PartialObjectMetaExt, Patch, PatchParams, PostParams},
};
use lab::{
    Lab,
    identities::{ADMIN, EXCHANGE_AUDIENCE, TENANT_ID},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::fleet::{Fleet, Member};

const API_VERSION: &str = "2024-11-30";

/// Both APIs' clients, with connections that are kept.
pub struct Bare {
    client: Client,
    azure: reqwest::Client,
    url: String,
    token: String,
    issuer: String,
}

/// What the bare client knows of an identity; one write at a time is all that Azure takes.
#[derive(Default)]
struct Identity {
    listed: OnceCell<()>,
    client_id: OnceCell<String>,
    turn: Mutex<()>,
}

impl Bare {
    pub async fn new(lab: &Lab, client: Client) -> Result<Self> {
        let ca = std::fs::read(lab.emulator().ca_path())?;
        let azure = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca)?])
            .no_proxy()
            .build()?;
        let url = lab.emulator().url().trim_end_matches('/').to_owned();
        let assertion = lab.mint_azure_admin_token().await?;
        let scope = format!("{url}/.default");
        let token = lab
            .emulator()
            .exchange(ADMIN.client_id, &assertion, &scope)
            .await?;
        Ok(Self {
            client,
            azure,
            url,
            token: token.access_token,
            issuer: lab.issuer().to_owned(),
        })
    }

    /// Everything that a fleet takes from nothing to ready, so many objects at a time; the status of each as it
    /// was once written.
    pub async fn converge(
        &self,
        fleet: &Fleet,
        at_once: usize,
        status: &AirflowWorkloadIdentityStatus,
    ) -> Result<Duration> {
        let work = async |member: Member, identity: Arc<Identity>| {
            self.object(&member, fleet.accounts, &identity, status)
                .await
        };
        for_each(fleet, at_once, work).await
    }

    /// Everything that one more account of each object takes.
    pub async fn add_account(
        &self,
        fleet: &Fleet,
        at_once: usize,
        status: &AirflowWorkloadIdentityStatus,
    ) -> Result<Duration> {
        let work = async |member: Member, identity: Arc<Identity>| {
            // Known already, and any is as long.
            let client_id = status.client_id.as_deref().context("no client ID")?;
            self.list(&member, &identity).await?;
            self.status(&member, &begun(status)).await?;
            let account = &member.accounts(fleet.accounts + 1)[fleet.accounts];
            self.federate(&member, account, &identity).await?;
            self.annotate(&member, account, client_id).await?;
            self.status(&member, status).await?;
            Ok(())
        };
        for_each(fleet, at_once, work).await
    }

    async fn object(
        &self,
        member: &Member,
        accounts: usize,
        identity: &Identity,
        status: &AirflowWorkloadIdentityStatus,
    ) -> Result<()> {
        let client_id = self.client_id(member, identity).await?;
        let api: Api<AirflowWorkloadIdentity> = self.api(member);
        let finalizer = Patch::Merge(json!({ "metadata": { "finalizers": [FINALIZER] } }));
        api.patch_metadata(&member.name, &params(), &finalizer)
            .await?;
        let object = self.status(member, &begun(status)).await?;
        for account in member.accounts(accounts) {
            self.federate(member, account, identity).await?;
            self.annotate(member, account, &client_id).await?;
        }
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(format!("{}-airflow-connections", member.name)),
                owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(
                "AIRFLOW_CONN_AZURE_DEFAULT".into(),
                ByteString(vec![b'x'; 100]),
            )])),
            ..Secret::default()
        };
        self.api::<Secret>(member)
            .create(&PostParams::default(), &secret)
            .await?;
        self.status(member, status).await?;
        Ok(())
    }

    async fn status(
        &self,
        member: &Member,
        status: &AirflowWorkloadIdentityStatus,
    ) -> Result<AirflowWorkloadIdentity> {
        let patch = Patch::Merge(json!({ "status": status }));
        Ok(self
            .api(member)
            .patch_status(&member.name, &params(), &patch)
            .await?)
    }

    async fn annotate(&self, member: &Member, account: &str, client_id: &str) -> Result<()> {
        let annotations = BTreeMap::from([
            (CLIENT_ID_ANNOTATION.to_owned(), client_id.to_owned()),
            (TENANT_ID_ANNOTATION.to_owned(), TENANT_ID.to_owned()),
        ]);
        let patch = ObjectMeta {
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }
        .into_request_partial::<ServiceAccount>();
        let params = PatchParams::apply(&format!("{OPERATOR}/{}", member.name));
        self.api::<ServiceAccount>(member)
            .patch_metadata(account, &params, &Patch::Apply(&patch))
            .await?;
        Ok(())
    }

    async fn federate(&self, member: &Member, account: &str, identity: &Identity) -> Result<()> {
        let subject = Subject::new(&member.namespace, account);
        let name = CredentialName::derived(&self.issuer.parse()?, &subject);
        let path = format!("{}/federatedIdentityCredentials/{name}", member.identity);
        let body = json!({ "properties": {
            "issuer": self.issuer, "subject": subject.to_string(), "audiences": [EXCHANGE_AUDIENCE],
        }});
        let _turn = identity.turn.lock().await;
        self.ask(Method::PUT, &path, Some(&body)).await.map(drop)
    }

    /// The credentials of an identity, once for all its objects.
    async fn list(&self, member: &Member, identity: &Identity) -> Result<()> {
        let read = async || {
            let list = format!("{}/federatedIdentityCredentials", member.identity);
            self.ask(Method::GET, &list, None).await.map(drop)
        };
        identity.listed.get_or_try_init(read).await.copied()
    }

    /// The identity itself and its credentials, once for all its objects.
    async fn client_id(&self, member: &Member, identity: &Identity) -> Result<String> {
        let read = async || {
            self.list(member, identity).await?;
            let found = self.ask(Method::GET, &member.identity, None).await?;
            let client_id = found["properties"]["clientId"].as_str();
            anyhow::Ok(
                client_id
                    .context("an identity without a client ID")?
                    .to_owned(),
            )
        };
        identity.client_id.get_or_try_init(read).await.cloned()
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path}?api-version={API_VERSION}", self.url);
        let mut request = self.azure.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "{path} answered {status}");
        Ok(answer.json().await?)
    }

    fn api<K>(&self, member: &Member) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &member.namespace)
    }
}

/// Does the work of each object, so many at a time, and says how long it took.
async fn for_each(
    fleet: &Fleet,
    at_once: usize,
    work: impl AsyncFn(Member, Arc<Identity>) -> Result<()>,
) -> Result<Duration> {
    let identities: BTreeMap<String, Arc<Identity>> = fleet
        .members()
        .map(|member| (member.identity, Arc::default()))
        .collect();
    let start = Instant::now();
    let all = fleet.members().map(|member| {
        let identity = Arc::clone(&identities[&member.identity]);
        work(member, identity)
    });
    stream::iter(all)
        .buffer_unordered(at_once)
        .try_collect::<()>()
        .await?;
    Ok(start.elapsed())
}

/// The status before the last effect, so that the one after it is a change.
fn begun(status: &AirflowWorkloadIdentityStatus) -> AirflowWorkloadIdentityStatus {
    let mut begun = status.clone();
    for condition in &mut begun.conditions {
        condition.status = "False".into();
    }
    begun
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(OPERATOR.into()),
        ..PatchParams::default()
    }
}
