//! The API server's audit log.

use anyhow::{Context, Result};
use serde::Deserialize;

/// A request that the API server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// RFC 3339, with microseconds.
    pub time: String,
    pub verb: String,
    pub request_uri: String,
    pub user: String,
    pub user_agent: String,
    /// Of the object that the request is about; empty where there is none.
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The HTTP status.
    pub code: u16,
    /// Whether the user lacked the right.
    pub is_forbidden: bool,
}

impl AuditEntry {
    /// Whether it may have changed something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// One line of JSON per request; the last one may still be in the writing.
pub fn parse_audit_log(log: &str) -> Result<Vec<AuditEntry>> {
    log.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| {
            let event: Event =
                serde_json::from_str(line).with_context(|| format!("audit line {line}"))?;
            Ok(event.into())
        })
        .collect()
}

/// What is read of `audit.k8s.io/v1` `Event`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage_timestamp: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(default, rename = "authorization.k8s.io/decision")]
    decision: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        Self {
            time: event.stage_timestamp,
            verb: event.verb,
            request_uri: event.request_uri,
            user: event.user.username,
            user_agent: event.user_agent,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            code: event.response_status.code,
            is_forbidden: event.annotations.decision == "forbid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditEntry, parse_audit_log as parse};

    const PATCH: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/airflow/serviceaccounts/airflow-worker?fieldManager=awi","verb":"patch","user":{"username":"system:serviceaccount:awi:awi","groups":["system:authenticated"]},"sourceIPs":["127.0.0.1"],"userAgent":"awi/0.1.0","objectRef":{"resource":"serviceaccounts","namespace":"airflow","name":"airflow-worker","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.100000Z","annotations":{}}"#;
    const VERSION: &str = r#"{"stage":"ResponseComplete","requestURI":"/version","verb":"get","user":{"username":"admin"},"responseStatus":{"code":200},"stageTimestamp":"2026-01-01T00:00:00.100000Z"}"#;
    const REFUSED: &str = r#"{"stage":"ResponseComplete","requestURI":"/apis/apps/v1/deployments","verb":"list","user":{"username":"awi"},"objectRef":{"resource":"deployments","apiGroup":"apps","apiVersion":"v1"},"responseStatus":{"code":403},"stageTimestamp":"2026-01-01T00:00:00.100000Z","annotations":{"authorization.k8s.io/decision":"forbid"}}"#;

    #[test]
    fn requests_are_read_and_a_line_in_the_writing_is_not() {
        let entries = parse(&format!("{PATCH}\n{VERSION}\n{REFUSED}\n{{\"stage\":")).unwrap();
        assert_eq!(
            entries[0],
            AuditEntry {
                time: "2026-01-01T00:00:00.100000Z".into(),
                verb: "patch".into(),
                request_uri:
                    "/api/v1/namespaces/airflow/serviceaccounts/airflow-worker?fieldManager=awi"
                        .into(),
                user: "system:serviceaccount:awi:awi".into(),
                user_agent: "awi/0.1.0".into(),
                group: String::new(),
                resource: "serviceaccounts".into(),
                subresource: String::new(),
                namespace: "airflow".into(),
                name: "airflow-worker".into(),
                code: 200,
                is_forbidden: false,
            }
        );
        assert!(entries[0].is_write());
        assert!(!entries[1].is_write());
        assert_eq!(
            (entries[2].group.as_str(), entries[2].is_forbidden),
            ("apps", true)
        );
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn what_is_not_an_audit_event_is_an_error() {
        assert!(parse("nonsense\n").is_err());
    }
}
