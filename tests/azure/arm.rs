//! The Azure Resource Manager client, against answers that no well-behaved server gives.

use std::time::Duration;

use airflow_workload_identity::{azure::AzureErrorKind, model::FederatedCredential};
use serde_json::{Value, json};

use crate::client::{ID, Server, client, id};

fn page(name: &str, next: Option<&str>) -> Value {
    let properties = json!({ "issuer": "i", "subject": "s", "audiences": ["a"] });
    json!({ "value": [{ "name": name, "properties": properties }], "nextLink": next })
}

fn names(credentials: Vec<FederatedCredential>) -> Vec<String> {
    credentials
        .into_iter()
        .map(|credential| credential.name)
        .collect()
}

#[tokio::test]
async fn all_pages_are_read_and_links_followed_as_they_stand() {
    let link = "https://management.azure.com/anything?$skiptoken=a%2Fb";
    let server = Server::answering([
        (200, None, page("one", Some(link))),
        (200, None, page("two", None)),
    ]);
    assert_eq!(
        names(client(server.clone()).credentials(&id()).await.unwrap()),
        ["one", "two"]
    );
    assert_eq!(server.asked()[1], link);
}

#[tokio::test]
async fn a_token_never_follows_a_link_to_another_host() {
    for link in [
        "https://evil.example/page",
        "https://management.azure.com.evil.example/page",
        "https://management.azure.com@evil.example/page",
        "https://management.azure.com:8443/page",
        "http://management.azure.com/page",
        "//evil.example/page",
        "not a url",
    ] {
        let server = Server::answering([(200, None, page("one", Some(link)))]);
        let error = client(server.clone()).credentials(&id()).await.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Unexpected, "{link}");
        assert_eq!(server.asked().len(), 1, "{link} was followed");
    }
}

#[tokio::test]
async fn a_list_that_does_not_end_is_given_up() {
    let again = format!("https://management.azure.com{ID}/federatedIdentityCredentials");
    let server = Server::answering([(200, None, page("one", Some(&again)))]);
    let error = client(server.clone()).credentials(&id()).await.unwrap_err();
    assert!(error.message.contains("does not end"), "{error}");
    assert!(server.asked().len() <= 100);
}

#[tokio::test]
async fn a_credential_without_a_subject_hides_no_other() {
    let flexible = json!({ "value": [
        { "name": "flexible", "properties": { "issuer": "i", "audiences": ["a"], "claimsMatchingExpression": {} } },
        { "name": "plain", "properties": { "issuer": "i", "subject": "s", "audiences": ["a"] } },
    ]});
    let server = Server::answering([(200, None, flexible)]);
    assert_eq!(
        names(client(server.clone()).credentials(&id()).await.unwrap()),
        ["flexible", "plain"]
    );
}

#[tokio::test]
async fn an_error_says_what_azure_said_and_how_long_to_wait() {
    let body = json!({ "error": { "code": "TooManyRequests", "message": "slow down" } });
    let server = Server::answering([(429, Some("17"), body)]);
    let error = client(server.clone()).identity(&id()).await.unwrap_err();
    assert_eq!(error.kind, AzureErrorKind::Throttled);
    assert_eq!(error.retry_after, Some(Duration::from_secs(17)));
    assert_eq!(error.to_string(), "429 TooManyRequests: slow down");
    assert_eq!(
        server.asked().len(),
        1,
        "the client does not try again by itself"
    );
}

#[tokio::test]
async fn no_answer_stops_the_work_for_ever() {
    for (retry_after, seconds) in [
        ("18446744073709551615", Some(300)),
        ("90000", Some(300)),
        ("0", None),
        ("-1", None),
        ("soon", None),
    ] {
        let server = Server::answering([(429, Some(retry_after), json!({}))]);
        let error = client(server.clone()).identity(&id()).await.unwrap_err();
        assert_eq!(
            error.retry_after,
            seconds.map(Duration::from_secs),
            "{retry_after}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_an_error_and_no_panic() {
    for (status, body) in [
        (200, json!("text")),
        (200, json!({ "properties": { "clientId": "no uuid" } })),
        (200, json!({})),
        (502, json!("<html>")),
        (403, json!({ "error": null })),
    ] {
        let server = Server::answering([(status, None, body.clone())]);
        assert!(
            client(server.clone()).identity(&id()).await.is_err(),
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn the_request_names_identity_and_version() {
    let gone = json!({ "error": { "code": "ResourceNotFound", "message": "gone" } });
    let server = Server::answering([(404, None, gone)]);
    let error = client(server.clone()).identity(&id()).await.unwrap_err();
    assert_eq!(error.kind, AzureErrorKind::NotFound);
    assert_eq!(
        server.asked(),
        [format!(
            "https://management.azure.com{ID}?api-version=2024-11-30"
        )]
    );
}

#[tokio::test]
async fn whether_one_may_write_is_what_some_role_allows_and_does_not_take_out() {
    let role = |actions: &[&str], not: &[&str]| json!({ "actions": actions, "notActions": not, "dataActions": ["*"] });
    let managed = ID.parse().unwrap();
    for (roles, expected) in [
        (vec![role(&["*/read"], &[])], false),
        (
            vec![
                role(&["*"], &["*/write"]),
                role(&["Microsoft.ManagedIdentity/*"], &[]),
            ],
            true,
        ),
        (vec![], false),
    ] {
        let server = Server::answering([(200, None, json!({ "value": roles }))]);
        let may_write = client(server.clone()).may_write(&managed).await;
        assert_eq!(may_write, Ok(expected), "{roles:?}");
        assert_eq!(
            server.asked(),
            [format!(
                "https://management.azure.com{ID}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
            )]
        );
    }
}
