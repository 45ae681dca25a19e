//! One lab and one operator for all tests; a namespace, an identity and a grant for each.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

use airflow_workload_identity::{
    api::{AirflowWorkloadIdentity, CredentialRecord, ServiceAccountStatus},
    model::{CredentialName, Subject},
};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client, api::ListParams};
use lab::{Azure, Credential, Lab, LabOptions, Operator, OperatorOptions, merge};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::OnceCell};

pub const CLIENT_ID: &str = "azure.workload.identity/client-id";
pub const TENANT_ID: &str = "azure.workload.identity/tenant-id";
const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
/// Long, for a machine that does many things at once.
const LIMIT: Duration = Duration::from_secs(90);

/// Clients belong to the runtime that made them, so all tests share one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHARED: OnceCell<(Lab, Operator)> = OnceCell::const_new();

pub fn run(test: impl Future<Output = ()>) {
    RUNTIME.block_on(test);
}

pub fn awi() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_awi"))
}

/// How often the shared operator compares with Azure.
pub fn often() -> OperatorOptions {
    OperatorOptions {
        resync: "2s".into(),
        extra_args: ["--azure-timeout", "10s"].map(str::to_owned).into(),
        ..OperatorOptions::default()
    }
}

/// The same for one that gives up no request to Azure: what it sends next could overlap with that.
pub fn patient() -> OperatorOptions {
    OperatorOptions {
        extra_args: Vec::new(),
        ..often()
    }
}

/// A lab and an operator of a test's own.
pub async fn own(options: OperatorOptions) -> (Lab, Operator) {
    let lab = Lab::start(LabOptions::default()).await.unwrap();
    let operator = lab.start_operator(awi(), options).await.unwrap();
    (lab, operator)
}

async fn shared() -> &'static (Lab, Operator) {
    SHARED
        .get_or_init(|| async {
            // Writes to one identity that overlap at all are refused.
            let emulator_args = ["--write-window-ms", "30"].map(str::to_owned).into();
            let lab = Lab::start(LabOptions {
                emulator_args,
                ..LabOptions::default()
            })
            .await
            .unwrap();
            let operator = lab.start_operator(awi(), often()).await.unwrap();
            (lab, operator)
        })
        .await
}

/// What one test sees.
pub struct World<'a> {
    pub lab: &'a Lab,
    operator: &'a Operator,
    pub client: Client,
    pub ns: String,
    /// The resource ID of the test's own identity.
    pub identity: String,
    pub client_id: String,
    pub tenant_id: String,
}

impl World<'static> {
    /// In the shared lab: the namespace `name` with an identity of the same name, granted, and
    /// an Airflow release `airflow` with scheduler, triggerer and worker, which the operator has heard of.
    pub async fn new(name: &str) -> Self {
        let world = Self::bare(name).await;
        world.grant(json!({})).await;
        world.installed(&["scheduler", "triggerer", "worker"]).await;
        world
    }

    /// The same without grant and release.
    pub async fn bare(name: &str) -> Self {
        let (lab, operator) = shared().await;
        World::of(lab, operator, name).await
    }
}

impl<'a> World<'a> {
    /// In a lab of the test's own.
    pub async fn of(lab: &'a Lab, operator: &'a Operator, name: &str) -> World<'a> {
        lab.kubectl(&["create", "namespace", name]).await.unwrap();
        Self::existing(lab, operator, name).await
    }

    /// The same, in a namespace that is there already.
    pub async fn existing(lab: &'a Lab, operator: &'a Operator, name: &str) -> World<'a> {
        let identity = resource_id(name);
        let made = lab
            .azure()
            .await
            .unwrap()
            .put_identity(&identity)
            .await
            .unwrap();
        let text = |field: &str| made["properties"][field].as_str().unwrap().to_owned();
        World {
            client: lab.client().await.unwrap(),
            ns: name.to_owned(),
            client_id: text("clientId"),
            tenant_id: text("tenantId"),
            identity,
            lab,
            operator,
        }
    }

    pub async fn azure(&self) -> Azure<'_> {
        self.lab.azure().await.unwrap()
    }

    pub async fn kubectl(&self, args: &str) -> anyhow::Result<String> {
        let mut args: Vec<&str> = args.split(' ').collect();
        args.extend(["-n", &self.ns]);
        self.lab.kubectl(&args).await
    }

    /// Applies a manifest as a user would; the API server's refusal is the error.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<String> {
        let name = format!("{}.json", uuid::Uuid::new_v4());
        let file = self.lab.scratch().join(name);
        std::fs::write(&file, manifest.to_string())?;
        self.lab
            .kubectl(&["apply", "-f", file.to_str().unwrap()])
            .await
    }

    /// A grant of the test's identity to its namespace, with `spec` merged over it.
    pub async fn grant(&self, spec: Value) {
        let mut grant = json!({
            "apiVersion": "airflow-workload-identity.io/v1alpha1",
            "kind": "AzureIdentityGrant",
            "metadata": { "name": self.ns },
            "spec": { "identities": [{ "resourceId": self.identity }], "namespaces": { "names": [self.ns] } },
        });
        merge(&mut grant["spec"], spec);
        self.apply(&grant).await.unwrap();
    }

    /// Accounts and workloads of release `airflow`, as the official chart lays them out.
    pub async fn release(&self, components: &[&str]) {
        let of_each = components.iter().flat_map(|component| {
            let account = format!("airflow-{component}");
            [
                self.account_manifest(&account, &labels("airflow", component)),
                self.workload_manifest(component, "airflow", &account),
            ]
        });
        self.apply(&list(of_each)).await.unwrap();
    }

    /// The same, and the operator has heard of it.
    pub async fn installed(&self, components: &[&str]) {
        self.release(components).await;
        self.heard().await;
    }

    pub async fn account(&self, name: &str, labels: &Value) {
        let account = self.account_manifest(name, labels);
        self.apply(&account).await.unwrap();
    }

    pub async fn workload(&self, component: &str, release: &str, account: &str) {
        let workload = self.workload_manifest(component, release, account);
        self.apply(&workload).await.unwrap();
    }

    fn account_manifest(&self, name: &str, labels: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": self.ns, "labels": labels },
        })
    }

    fn workload_manifest(&self, component: &str, release: &str, account: &str) -> Value {
        let kind = if component == "worker" {
            "StatefulSet"
        } else {
            "Deployment"
        };
        let labels = labels(release, component);
        let mut workload = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": { "name": format!("{release}-{component}"), "namespace": self.ns, "labels": labels },
            "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": { "serviceAccountName": account, "containers": [{ "name": component, "image": "apache/airflow:3.2.2" }] },
            }},
        });
        if kind == "StatefulSet" {
            workload["spec"]["serviceName"] = json!(component);
        }
        workload
    }

    /// The object `name` with the test's identity, and `spec` merged over the smallest one.
    pub fn object(&self, name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "airflow-workload-identity.io/v1alpha1",
            "kind": "AirflowWorkloadIdentity",
            "metadata": { "name": name, "namespace": self.ns },
            "spec": {
                "identity": { "managedIdentity": { "resourceId": self.identity } },
                "airflow": { "helmRelease": "airflow" },
            },
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Applies the object `prod`.
    pub async fn prod(&self, spec: Value) {
        self.apply(&self.object("prod", spec)).await.unwrap();
    }

    /// Applies the object `prod` and waits until it is ready.
    pub async fn ready(&self, spec: Value) {
        self.prod(spec).await;
        self.until("prod", "Ready", "True", "Done").await;
    }

    pub async fn get(&self, name: &str) -> Option<AirflowWorkloadIdentity> {
        let api: Api<AirflowWorkloadIdentity> = Api::namespaced(self.client.clone(), &self.ns);
        api.get_opt(name).await.unwrap()
    }

    /// Waits until a condition, of the current generation and after a whole pass, has this status
    /// and reason; returns its message.
    pub async fn until(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        self.until_told(name, type_, status, reason, "").await
    }

    /// The same where one reason has several messages, some of which come first: waits for the one with these words.
    pub async fn until_told(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
        words: &str,
    ) -> String {
        let what = format!("{name}: {type_}={status} {reason} {words}");
        self.eventually(&what, async || {
            let object = self.get(name).await?;
            let whole = object.status?;
            // Recorded before the writes.
            if json!(whole).to_string().contains("It is being written") {
                return None;
            }
            let condition = whole.conditions.into_iter().find(|c| c.type_ == type_)?;
            let current = condition.observed_generation == object.metadata.generation;
            let is_so = condition.status == status && condition.reason == reason;
            (current && is_so && condition.message.contains(words)).then_some(condition.message)
        })
        .await
    }

    /// Waits for something to be there; shows object and log if it does not come.
    pub async fn eventually<T>(&self, what: &str, check: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = check().await {
                return found;
            }
            if start.elapsed() > LIMIT {
                let object = self.kubectl("get awi -o yaml").await.unwrap_or_default();
                let log = self.operator.log();
                let concerns = |line: &&str| line.contains(&self.ns) || !line.contains("pass{");
                let log: Vec<_> = log.lines().filter(concerns).collect();
                let log = log.join("\n");
                // What is missing comes last: where only the end of a long output is kept, that is there.
                panic!("{object}\n{log}\n{what}: not within {LIMIT:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `read` gives `expected`.
    pub async fn becomes<T: PartialEq + Debug>(&self, expected: T, read: impl AsyncFn() -> T) {
        let what = format!("becomes {expected:?}");
        self.eventually(&what, async || (read().await == expected).then_some(()))
            .await;
    }

    pub async fn accounts(&self, name: &str) -> Vec<ServiceAccountStatus> {
        self.get(name)
            .await
            .unwrap()
            .status
            .unwrap()
            .service_accounts
    }

    pub async fn records(&self, name: &str) -> Vec<CredentialRecord> {
        self.get(name).await.unwrap().status.unwrap().credentials
    }

    /// The client ID that a ServiceAccount carries, or nothing.
    pub async fn client_id_of(&self, account: &str) -> Option<String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.ns);
        let account = api.get_opt(account).await.unwrap()?;
        account
            .metadata
            .annotations
            .unwrap_or_default()
            .get(CLIENT_ID)
            .cloned()
    }

    /// All annotations of Azure's, per account that has any.
    pub async fn annotations(&self) -> BTreeMap<String, [Option<String>; 2]> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.ns);
        let accounts = api.list(&ListParams::default()).await.unwrap();
        let read = |account: ServiceAccount| {
            let annotations = account.metadata.annotations.unwrap_or_default();
            let found = [CLIENT_ID, TENANT_ID].map(|key| annotations.get(key).cloned());
            found
                .iter()
                .any(Option::is_some)
                .then(|| (account.metadata.name.unwrap(), found))
        };
        accounts.into_iter().filter_map(read).collect()
    }

    /// What the credentials on an identity trust, by name.
    pub async fn credentials_of(&self, identity: &str) -> BTreeMap<String, Credential> {
        let list = self.azure().await.list_credentials(identity).await.unwrap();
        list.into_iter()
            .map(|credential| (credential.name.clone(), credential))
            .collect()
    }

    /// The accounts that the test's identity trusts.
    pub async fn federated(&self) -> Vec<String> {
        self.federated_on(&self.identity).await
    }

    pub async fn federated_on(&self, identity: &str) -> Vec<String> {
        let prefix = format!("system:serviceaccount:{}:", self.ns);
        let mut accounts: Vec<String> = self
            .credentials_of(identity)
            .await
            .into_values()
            .filter(|credential| credential.issuer == self.lab.issuer())
            .filter_map(|credential| Some(credential.subject.strip_prefix(&prefix)?.to_owned()))
            .collect();
        accounts.sort();
        accounts
    }

    /// Deletes an account's credential behind the operator's back.
    pub async fn lose_credential(&self, account: &str) {
        let name = self.credential_name(account);
        let azure = self.azure().await;
        // Again, where Azure says that somebody else writes just now.
        self.eventually("the credential is gone", async || {
            azure.delete_credential(&self.identity, &name).await.ok()
        })
        .await;
    }

    /// The derived name of an account's credential.
    pub fn credential_name(&self, account: &str) -> String {
        let issuer = self.lab.issuer().parse().unwrap();
        CredentialName::derived(&issuer, &Subject::new(&self.ns, account)).to_string()
    }

    /// The connections in a Secret, parsed.
    pub async fn connections(&self, secret: &str) -> Option<BTreeMap<String, Value>> {
        let data = self.secret(secret).await?.data.unwrap_or_default();
        Some(
            data.into_iter()
                .map(|(key, value)| (key, serde_json::from_slice(&value.0).unwrap_or_default()))
                .collect(),
        )
    }

    pub async fn secret(&self, name: &str) -> Option<Secret> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.ns);
        api.get_opt(name).await.unwrap()
    }

    /// Deletes an object without waiting for its end.
    pub async fn delete(&self, name: &str) {
        self.kubectl(&format!("delete awi {name} --wait=false"))
            .await
            .unwrap();
    }

    pub async fn until_gone(&self, name: &str) {
        self.eventually(&format!("{name} is gone"), async || {
            self.get(name).await.is_none().then_some(())
        })
        .await;
    }

    /// Reasons of the events about an object.
    pub async fn event_reasons(&self, name: &str) -> Vec<String> {
        let field = format!(
            "get events --field-selector involvedObject.name={name} -o jsonpath={{.items[*].reason}}"
        );
        let reasons = self.kubectl(&field).await.unwrap();
        reasons.split_whitespace().map(str::to_owned).collect()
    }

    /// Exchanges a token of an account for one of the test's identity; the error is Entra's.
    pub async fn exchange(&self, account: &str) -> anyhow::Result<()> {
        let token = self
            .lab
            .mint_token(&self.ns, account, lab::identities::EXCHANGE_AUDIENCE)
            .await?;
        let scope = "https://storage.azure.com/.default";
        self.lab
            .emulator()
            .exchange(&self.client_id, &token, scope)
            .await
            .map(drop)
    }
}

pub fn resource_id(name: &str) -> String {
    format!(
        "{SUBSCRIPTION}/resourceGroups/data/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )
}

/// All of them as one manifest.
pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>() })
}

/// What the chart puts on everything that belongs to a component.
pub fn labels(release: &str, component: &str) -> Value {
    json!({ "tier": "airflow", "component": component, "release": release, "chart": "airflow-1.22.0", "heritage": "Helm" })
}

pub fn all(accounts: &[&str]) -> Vec<String> {
    accounts
        .iter()
        .map(|account| format!("airflow-{account}"))
        .collect()
}
