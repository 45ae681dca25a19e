//! Microsoft Graph: applications by client ID, credentials by name, ownership by description.

use airflow_workload_identity::{
    azure::{AzureClient, AzureErrorKind, Cloud, CloudName, CredentialProperties, Overrides},
    model::{CredentialName, FederatedCredential, IdentityId},
};
use azure_core::http::{Body, Method, Transport, headers::HeaderName};
use serde_json::{Value, json};

use crate::client::{Server, Token, client};

const APP: &str = "aaaaaaaa-0000-0000-0000-00000000000a";
const URL: &str =
    "https://graph.microsoft.com/v1.0/applications(appId='aaaaaaaa-0000-0000-0000-00000000000a')";
const MARK: &str = "Managed by airflow-workload-identity";

fn id() -> IdentityId {
    IdentityId::Application(APP.parse().unwrap())
}

fn name() -> CredentialName {
    "awi-airflow-worker".parse().unwrap()
}

fn properties() -> CredentialProperties {
    CredentialProperties {
        issuer: "https://oidc.example/".into(),
        subject: "system:serviceaccount:airflow:worker".into(),
        audiences: vec!["api://AzureADTokenExchange".into()],
    }
}

#[tokio::test]
async fn an_application_is_read_by_its_client_id_and_has_no_tenant() {
    let server = Server::answering([(200, None, json!({ "appId": APP }))]);
    let found = client(server.clone()).identity(&id()).await.unwrap();
    assert_eq!(found.client_id.to_string(), APP);
    assert_eq!(found.tenant_id, None);
    assert_eq!(server.asked(), [format!("{URL}?%24select=appId")]);
}

#[tokio::test]
async fn a_credential_is_written_by_name_with_our_description() {
    let mut created = json!(properties());
    created["name"] = json!(name().as_str());
    for (status, body) in [(204, Value::Null), (201, created)] {
        let server = Server::answering([(status, None, body)]);
        let written = client(server.clone())
            .put_credential(&id(), &name(), &properties())
            .await
            .unwrap();
        assert_eq!(written.is_marked, Some(true));
        let request = server.last();
        assert_eq!(request.method(), Method::Patch);
        let prefer = HeaderName::from_static("prefer");
        let prefer = request.headers().get_optional_str(&prefer);
        assert_eq!(prefer, Some("create-if-missing"));
        assert_eq!(
            server.asked(),
            [format!(
                "{URL}/federatedIdentityCredentials(name='awi-airflow-worker')"
            )]
        );
        let Body::Bytes(body) = request.body() else {
            panic!("a stream")
        };
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["description"], MARK);
        assert_eq!(body["subject"], "system:serviceaccount:airflow:worker");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_graphs_is_no_proof_of_a_credential() {
    for body in [json!("signed in"), json!({ "id": "1" })] {
        let server = Server::answering([(200, None, body)]);
        let written = client(server)
            .put_credential(&id(), &name(), &properties())
            .await;
        let error = written.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Unavailable);
        assert!(error.message.contains("cannot be read"), "{error}");
    }
}

#[tokio::test]
async fn all_pages_are_read_and_the_description_tells_whose_each_is() {
    let next = format!("{URL}/federatedIdentityCredentials?$skiptoken=x");
    let one = |name: &str, description: Value| json!({ "id": "1", "name": name, "issuer": "i", "subject": "s", "audiences": ["a"], "description": description });
    let flexible =
        json!({ "name": "flexible", "issuer": "i", "subject": null, "audiences": ["a"] });
    let server = Server::answering([
        (
            200,
            None,
            json!({ "value": [one("ours", json!(MARK)), one("none", Value::Null)], "@odata.nextLink": next }),
        ),
        (
            200,
            None,
            json!({ "value": [one("theirs", json!("Terraform")), flexible] }),
        ),
    ]);
    let found = client(server.clone()).credentials(&id()).await.unwrap();
    let marks: Vec<_> = found
        .iter()
        .map(
            |FederatedCredential {
                 name, is_marked, ..
             }| (name.as_str(), *is_marked),
        )
        .collect();
    assert_eq!(
        marks,
        [
            ("ours", Some(true)),
            ("none", Some(false)),
            ("theirs", Some(false)),
            ("flexible", Some(false))
        ]
    );
    assert_eq!(server.asked()[1], next);
}

#[tokio::test]
async fn a_credential_is_deleted_by_name() {
    let server = Server::answering([(204, None, Value::Null)]);
    let deleted = client(server.clone()).delete_credential(&id(), "fic").await;
    assert_eq!(deleted, Ok(()));
    assert_eq!(server.last().method(), Method::Delete);
    assert_eq!(
        server.asked(),
        [format!("{URL}/federatedIdentityCredentials(name='fic')")]
    );
}

#[tokio::test]
async fn an_answer_with_a_body_is_no_proof_of_a_deletion() {
    for id in [id(), crate::client::id()] {
        let server = Server::answering([(200, None, json!("signed in"))]);
        let deleted = client(server).delete_credential(&id, "fic").await;
        let error = deleted.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Unavailable, "{id}");
        assert!(error.message.contains("cannot be read"), "{error}");
    }
}

#[tokio::test]
async fn graphs_errors_are_understood() {
    for (status, code, message, kind) in [
        (
            403,
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
            AzureErrorKind::Forbidden,
        ),
        (
            404,
            "Request_ResourceNotFound",
            "Resource does not exist",
            AzureErrorKind::NotFound,
        ),
        (
            400,
            "InvalidFederatedIdentityCredentialValue",
            "The combination of issuer and subject must be unique on the app.",
            AzureErrorKind::DuplicateSubject,
        ),
        (
            429,
            "TooManyRequests",
            "slow down",
            AzureErrorKind::Throttled,
        ),
    ] {
        let body = json!({ "error": { "code": code, "message": message, "innerError": {} } });
        let server = Server::answering([(status, None, body)]);
        let error = client(server).credentials(&id()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{code}");
    }
}

#[tokio::test]
async fn nothing_is_sent_unless_the_operator_may_touch_applications() {
    let server = Server::answering([(200, None, json!({ "appId": APP }))]);
    let cloud = Cloud::new(CloudName::Public, Overrides::default()).unwrap();
    let transport = Transport::new(server.clone());
    let client = AzureClient::new(&cloud, None, &transport, &Token::shared());
    let off = AzureErrorKind::ApplicationsOff;
    assert_eq!(client.identity(&id()).await.unwrap_err().kind, off);
    assert_eq!(client.credentials(&id()).await.unwrap_err().kind, off);
    let put = client.put_credential(&id(), &name(), &properties()).await;
    assert_eq!(put.unwrap_err().kind, off);
    let deleted = client.delete_credential(&id(), "fic").await;
    assert_eq!(deleted.unwrap_err().kind, off);
    assert!(server.asked().is_empty());
}
