//! A namespace `airflow` with an Airflow of that name in it, and an Azure: all in this process, so
//! that a pass of the operator's takes no time. What is written goes nowhere.

use std::{convert::Infallible, sync::Arc, time::Duration};

use airflow_workload_identity::{
    api::{AirflowWorkloadIdentity, AzureIdentityGrant},
    azure::{Identities, MaxAge},
    issuers::IssuerHistory,
    mandate::Mandate,
    observe::{
        Grants, Guarded, IssuerSource, Objects, Snapshot, Sources, Stores, Watched, observe,
    },
};
use async_trait::async_trait;
use azure_core::http::{AsyncRawResponse, HttpClient, Request, StatusCode, headers::Headers};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Namespace, ServiceAccount},
};
use kube::{Client, ResourceExt, client::Body, core::PartialObjectMeta};
use serde_json::{Value, json};
use tower::service_fn;

use crate::{
    answers::{client, run},
    given,
};

/// What is told of an object is at most so old; nothing gets old here.
const MAX_AGE: MaxAge = MaxAge::strictly(Duration::from_secs(600));

/// What the operator sees, when these objects and grants are there.
pub fn seen(
    object: &AirflowWorkloadIdentity,
    objects: Vec<Guarded<AirflowWorkloadIdentity>>,
    grants: &[Guarded<AzureIdentityGrant>],
) -> Snapshot {
    run(async {
        let cluster = Client::new(service_fn(cluster), "airflow");
        let issuer = given::issuer();
        let azure = client(Arc::new(Azure));
        let sources = Sources {
            stores: stores(objects, grants),
            identities: Arc::new(Identities::new(azure, Arc::new(Mandate::elected()))),
            issuer: Arc::new(IssuerSource::new(Some(issuer.clone()))),
            exchanges: None,
            history: Arc::new(IssuerHistory::assumed(
                cluster.clone(),
                "operator",
                [issuer].into(),
            )),
            audience: given::AUDIENCE.into(),
            client: cluster,
        };
        observe(&sources, object, MAX_AGE).await
    })
}

fn stores(
    objects: Vec<Guarded<AirflowWorkloadIdentity>>,
    grants: &[Guarded<AzureIdentityGrant>],
) -> Stores {
    let named = |name: &str, labels: Value| json!({ "metadata": { "name": name, "namespace": "airflow", "uid": format!("uid-of-{name}"), "labels": labels } });
    let component = |component: &str| json!({ "tier": "airflow", "release": "airflow", "component": component });
    let workload = |name: &str| {
        let mut workload = named(&format!("airflow-{name}"), component(name));
        workload["spec"] = json!({
            "selector": {},
            "template": { "spec": { "serviceAccountName": format!("airflow-{name}"), "containers": [] } },
        });
        workload
    };
    let accounts: [PartialObjectMeta<ServiceAccount>; 4] = [
        read(named("default", json!({}))),
        read(named("airflow-scheduler", component("scheduler"))),
        read(named("airflow-worker", component("worker"))),
        read(named("dags", json!({ "team": "data" }))),
    ];
    let namespace: Namespace =
        read(json!({ "metadata": { "name": "airflow", "labels": { "team": "data" } } }));
    let scheduler: Deployment = read(workload("scheduler"));
    let worker: StatefulSet = read(workload("worker"));
    Stores {
        objects: Objects::listed(objects),
        grants: Grants::listed(grants),
        namespaces: Watched::listed(&[namespace], |namespace| namespace.labels().clone()),
        accounts: Watched::listed(&accounts, |account| account.into()),
        secrets: Watched::default(),
        deployments: Watched::listed(&[scheduler], |scheduler| scheduler.into()),
        stateful_sets: Watched::listed(&[worker], |worker| worker.into()),
        configs: Vec::new(),
        pods: Watched::default(),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// An API server that has nothing of what is not watched.
async fn cluster(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
    const LISTS: [&str; 5] = ["secrets", "pods", "roles", "rolebindings", "configmaps"];
    let path = request.uri().path();
    let is_list = LISTS.iter().any(|kind| path.ends_with(&format!("/{kind}")));
    let (status, body) = if is_list {
        let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": [] });
        (200, list)
    } else {
        let missing = json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404 });
        (404, missing)
    };
    let mut response = http::Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// An Azure that knows every identity; on each there are two credentials of ours and a foreign one.
#[derive(Debug)]
struct Azure;

#[async_trait]
impl HttpClient for Azure {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let one = |name: &str, issuer: &str, account: &str| {
            let subject = format!("system:serviceaccount:airflow:{account}");
            let properties =
                json!({ "issuer": issuer, "subject": subject, "audiences": [given::AUDIENCE] });
            json!({ "name": name, "properties": properties })
        };
        let issuer = given::issuer().to_string();
        let body = if request
            .url()
            .path()
            .ends_with("/federatedIdentityCredentials")
        {
            json!({ "value": [
                one(&given::derived("airflow-worker"), &issuer, "airflow-worker"),
                one("prod-scheduler", &issuer, "airflow-scheduler"),
                one("aks-identity-binding", "https://oidc.example/other/", "airflow-worker"),
            ] })
        } else {
            json!({ "properties": { "clientId": given::CLIENT, "tenantId": given::TENANT } })
        };
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            body.to_string(),
        ))
    }
}
