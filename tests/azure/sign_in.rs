//! What becomes of Entra's answers to a sign-in.

use airflow_workload_identity::azure::{AccountToken, AzureError, AzureErrorKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{Server, client};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl";

async fn exchange(status: u16, body: Value) -> Result<(), AzureError> {
    let server = Server::answering([(status, None, body)]);
    let account = AccountToken::new("of an account".into());
    client(server)
        .exchange(Uuid::from_u128(1), Uuid::from_u128(2), account)
        .await
}

#[tokio::test]
async fn a_refusal_keeps_its_number_whatever_its_words() {
    for words in [
        "\r\nTrace ID: 1\r\nTimestamp: 2",
        " \"x\" \\",
        " Trace ID: 1",
    ] {
        let description = format!("AADSTS700016: Application 'x' was not found.{words}");
        let body = json!({ "error": "unauthorized_client", "error_codes": [700_016, 7], "error_description": description });
        let error = exchange(400, body).await.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Unauthenticated, "{error}");
        assert_eq!(error.status, Some(400));
        assert_eq!(error.code.as_deref(), Some("700016,7"));
        let begin = "AADSTS700016: Application 'x' was not found.";
        assert!(error.message.starts_with(begin), "{error}");
    }
}

#[tokio::test]
async fn a_token_that_lives_for_ever_is_an_error_and_no_panic() {
    let lives = |seconds: i64| json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": seconds });
    assert_eq!(exchange(200, lives(3599)).await, Ok(()));
    for seconds in [i64::MAX, i64::MIN, -1, 400_000_000_000] {
        let error = exchange(200, lives(seconds)).await.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_a_token_is_none_and_not_repeated() {
    for body in [
        json!(TOKEN),
        json!([TOKEN]),
        json!({ "token": TOKEN, "expires_in": 3599 }),
        json!({}),
        json!({ "access_token": "x", "expires_in": TOKEN }),
        json!({ "access_token": { TOKEN: 1 }, "expires_in": 1 }),
    ] {
        let error = exchange(200, body.clone()).await.unwrap_err();
        assert_eq!(error.kind, AzureErrorKind::Unavailable);
        assert!(!format!("{error:?}").contains(TOKEN), "{error}");
        assert!(error.message.contains("cannot be read"), "{error}");
    }
}
