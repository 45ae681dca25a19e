//! A Secret with connections, as Airflow reads it. No value of it is kept but what is no secret: types
//! and the IDs of the identity.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Map, Value};

use crate::secrets::{BACKEND_KEY, Content, FILE_KEY, WantedSecret};

/// What a Secret holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The connections, by variable or by ID; or why Airflow cannot read one.
    pub connections: BTreeMap<String, Result<Told, String>>,
}

/// What a connection says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Airflow's connection type.
    pub conn_type: String,
    /// Its fields.
    pub fields: BTreeSet<String>,
    /// The fields of its `extra`.
    pub extras: BTreeSet<String>,
    /// The client ID of the identity.
    pub client_id: Option<String>,
    /// The tenant ID of the identity.
    pub tenant_id: Option<String>,
}

impl Written {
    /// What a Secret holds that was written for this.
    #[must_use]
    pub fn of(secret: &Secret, wanted: &WantedSecret) -> Self {
        let nothing = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&nothing);
        let connections = match wanted.content {
            Content::Environment(_) => data
                .iter()
                .map(|(key, value)| (key.clone(), parsed(value).and_then(told)))
                .collect(),
            Content::Backend(connection) => data
                .get(BACKEND_KEY)
                .map(|value| (connection.id.clone(), parsed(value).and_then(told)))
                .into_iter()
                .collect(),
            Content::File(_) => match data.get(FILE_KEY).map(parsed) {
                Some(Ok(Value::Object(all))) => {
                    all.into_iter().map(|(id, one)| (id, told(one))).collect()
                }
                _ => BTreeMap::new(),
            },
            Content::KeyVault(_) => BTreeMap::new(),
        };
        Self { connections }
    }
}

/// serde's own message may repeat what it read.
fn parsed(value: &ByteString) -> Result<Value, String> {
    serde_json::from_slice(&value.0).map_err(|_| "It is no JSON".to_owned())
}

fn told(connection: Value) -> Result<Told, String> {
    let Value::Object(connection) = connection else {
        return Err("It is no JSON object".into());
    };
    let extra = match connection.get("extra") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(extra)) => extra.clone(),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|_| "Its extra is no JSON object".to_owned())?
        }
        Some(_) => return Err("Its extra is no JSON object".into()),
    };
    let text = |of: &Map<String, Value>, key: &str| of.get(key)?.as_str().map(str::to_owned);
    Ok(Told {
        conn_type: text(&connection, "conn_type").ok_or("It has no conn_type")?,
        fields: connection.keys().cloned().collect(),
        client_id: text(&extra, "managed_identity_client_id"),
        tenant_id: text(&extra, "workload_identity_tenant_id"),
        extras: extra.into_iter().map(|(key, _)| key).collect(),
    })
}
