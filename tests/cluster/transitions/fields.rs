//! Every field of a spec, as the schema has it, and other values that it can take.

use lab::repository;
use serde_json::{Value, json};

// Stand for what each namespace has of its own.
pub const IDENTITY: &str = "<identity>";
pub const OTHER_IDENTITY: &str = "<other identity>";
pub const CLIENT_ID: &str = "<client ID>";
pub const TENANT_ID: &str = "<tenant ID>";
pub const APPLICATION: &str = "<application>";
pub const OTHER_APPLICATION: &str = "<other application>";

/// A field below `spec`, such as `connections[].adls.account`.
pub struct Field {
    pub path: String,
    schema: Value,
    is_required: bool,
}

/// Another value of a field, or none; and what else has to change for the spec to stay valid.
#[derive(Clone)]
pub struct Change {
    pub field: String,
    edits: Vec<(String, Option<Value>)>,
}

impl Change {
    pub fn apply(&self, spec: &mut Value) {
        for (path, value) in &self.edits {
            edit(spec, &segments(path), value.as_ref());
        }
    }

    pub fn describe(&self) -> String {
        let edits: Vec<String> = self
            .edits
            .iter()
            .map(|(path, value)| match value {
                Some(value) => format!("{path}={value}"),
                None => format!("no {path}"),
            })
            .collect();
        edits.join(", ")
    }
}

impl Field {
    /// All fields that the schema of the spec has.
    pub fn all() -> Vec<Self> {
        let file = repository().join("crds/airflowworkloadidentities.yaml");
        let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let spec = crd
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
            .unwrap();
        let mut fields = Vec::new();
        walk("", spec, &mut fields);
        fields
    }

    /// Whether it is nothing but the fields beneath it, and cannot be left out.
    pub fn is_only_its_parts(&self) -> bool {
        let has_parts = self.schema.get("properties").is_some();
        has_parts && (self.is_required || self.path.ends_with("[]"))
    }

    /// The changes of this field that `spec` may take; the schema has the last word.
    pub fn changes(&self, spec: &Value) -> Vec<Change> {
        let Some(place) = place(spec, &segments(&self.path)) else {
            return Vec::new();
        };
        let now = at(spec, &place);
        let place = place.join(".");
        let mut edits = self.others(now, &place, spec);
        if now.is_some() && !self.is_required {
            edits.push(vec![(place, None)]);
        }
        let change = |edits| Change {
            field: self.path.clone(),
            edits,
        };
        edits.into_iter().map(change).collect()
    }

    /// What makes it another, each.
    fn others(
        &self,
        now: Option<&Value>,
        place: &str,
        spec: &Value,
    ) -> Vec<Vec<(String, Option<Value>)>> {
        let gone = |path: &str| (path.to_owned(), None);
        let set = |path: &str, value: Value| (path.to_owned(), Some(value));
        let beside = |name: &str| format!("{}.{name}", place.rsplit_once('.').unwrap().0);
        let selector = |field: &str, value: Value| {
            let mut edits = vec![set(&format!("airflow.{field}"), value)];
            if field == "workloadSelector" {
                edits.extend([
                    gone("airflow.helmRelease"),
                    gone("airflow.stackableCluster"),
                ]);
            }
            vec![edits]
        };
        let one_of = |field: &str, value: &str| {
            let all = ["helmRelease", "stackableCluster", "workloadSelector"];
            let others = all.iter().filter(|other| **other != field);
            let mut edits: Vec<_> = others
                .map(|other| gone(&format!("airflow.{other}")))
                .collect();
            edits.push(set(place, json!(value)));
            vec![edits]
        };
        let expression = |operator: &str| {
            let mut expression = json!({ "key": "team", "operator": operator });
            if operator.ends_with("In") {
                expression["values"] = json!(["data", "web"]);
            }
            json!({ "matchExpressions": [expression] })
        };
        let by_label = json!({ "matchLabels": { "team": "web" } });
        match self.path.as_str() {
            "identity.managedIdentity" => {
                let managed = json!({ "resourceId": IDENTITY });
                vec![vec![gone("identity.application"), set(place, managed)]]
            }
            "identity.managedIdentity.resourceId" => {
                vec![vec![
                    set(place, json!(OTHER_IDENTITY)),
                    gone("identity.clientId"),
                ]]
            }
            "identity.application" => vec![vec![
                gone("identity.managedIdentity"),
                gone("identity.clientId"),
                set("identity.tenantId", json!(TENANT_ID)),
                set(place, json!({ "appId": APPLICATION })),
            ]],
            "identity.application.appId" => vec![vec![set(place, json!(OTHER_APPLICATION))]],
            // The right one, and a wrong one.
            "identity.clientId" => [json!(CLIENT_ID), json!(OTHER_UUID)]
                .map(|id| vec![set(place, id)])
                .into(),
            "identity.tenantId" => [json!(TENANT_ID), json!(OTHER_UUID)]
                .map(|id| vec![set(place, id)])
                .into(),
            "airflow.components" | "airflow.components[]" => {
                vec![vec![set(
                    "airflow.components",
                    json!(["dag-processor", "worker"]),
                )]]
            }
            "airflow.serviceAccounts" | "airflow.serviceAccounts[]" => {
                vec![vec![set(
                    "airflow.serviceAccounts",
                    json!(["extra-two", "not-there"]),
                )]]
            }
            "airflow.helmRelease" => one_of("helmRelease", "other"),
            "airflow.stackableCluster" => one_of("stackableCluster", "cluster"),
            path if path.ends_with("Selector.matchExpressions[].key") => {
                let mut other = expression("In");
                other["matchExpressions"][0]["key"] = json!("group");
                selector(second(path), other)
            }
            path if path.ends_with("Selector.matchExpressions[].values")
                || path.ends_with("Selector.matchExpressions[].values[]") =>
            {
                let mut other = expression("In");
                other["matchExpressions"][0]["values"] = json!(["web"]);
                selector(second(path), other)
            }
            path if path.contains("Selector.matchExpressions") => ["NotIn", "Exists"]
                .into_iter()
                .flat_map(|operator| selector(second(path), expression(operator)))
                .collect(),
            path if path.contains("Selector") => selector(second(path), by_label),
            "connections" => {
                let other = json!([{ "id": "only", "wasb": { "account": "only" } }]);
                vec![vec![set(place, json!([]))], vec![set(place, other)]]
            }
            "connections[].id" => vec![vec![set(place, json!("renamed"))]],
            "connections[].extra" => {
                vec![vec![set(
                    place,
                    json!([{ "name": "read_timeout", "value": 7 }]),
                )]]
            }
            "connections[].extra[].name" => vec![vec![set(place, json!("connection_timeout"))]],
            "connections[].extra[].value" => vec![vec![set(place, json!({ "a": [1, null] }))]],
            path if path.starts_with("connections[].") && path.ends_with(".account") => {
                vec![vec![
                    set(place, json!("secondlake")),
                    gone(&beside("accountUrl")),
                ]]
            }
            path if path.starts_with("connections[].") && path.ends_with(".accountUrl") => {
                let url = json!("https://second.example.net");
                vec![vec![set(place, url), gone(&beside("account"))]]
            }
            path if path.starts_with("connections[].") && segments(path).len() == 2 => {
                become_of_type(second(path), spec).into_iter().collect()
            }
            "connectionSecret.format" => self
                .enumerated(now)
                .into_iter()
                .map(|format| {
                    vec![
                        gone("keyVaultBackend"),
                        gone("connectionSecret.readerRole"),
                        set(place, format),
                    ]
                })
                .collect(),
            "connectionSecret.readerRole" if now != Some(&json!(true)) => vec![vec![
                gone("keyVaultBackend"),
                set("connectionSecret.format", json!("SecretsBackend")),
                set(place, json!(true)),
            ]],
            "keyVaultBackend" => vec![vec![
                set(
                    place,
                    json!({ "vaultUrl": "https://second.vault.azure.net" }),
                ),
                set("connectionSecret.format", json!("Environment")),
                gone("connectionSecret.readerRole"),
            ]],
            path => {
                let mut values = self.enumerated(now);
                match (self.schema["type"].as_str(), self.schema["format"].as_str()) {
                    (Some("boolean"), _) => values.push(json!(now != Some(&json!(true)))),
                    (_, Some("uuid")) => values.push(json!(OTHER_UUID)),
                    _ if values.is_empty() => values.extend(text(path)),
                    _ => {}
                }
                values
                    .into_iter()
                    .map(|value| vec![set(place, value)])
                    .collect()
            }
        }
    }

    /// The other values of an enumeration.
    fn enumerated(&self, now: Option<&Value>) -> Vec<Value> {
        let now = now.or(self.schema.get("default"));
        let values = self.schema["enum"].as_array().into_iter().flatten();
        values
            .filter(|value| Some(*value) != now)
            .cloned()
            .collect()
    }
}

/// Makes the first connection that is of another type one of this type.
fn become_of_type(kind: &str, spec: &Value) -> Option<Vec<(String, Option<Value>)>> {
    let example = example(kind)?;
    let other = spec["connections"]
        .as_array()?
        .iter()
        .find(|c| c.get(kind).is_none())?;
    let at = |field: &str| format!("connections.#{}.{field}", key(other).unwrap());
    let fields = other.as_object()?.keys();
    let others = fields.filter(|field| *field != "id");
    let gone = others.map(|field| (at(field), None));
    Some(gone.chain([(at(kind), Some(example))]).collect())
}

const OTHER_UUID: &str = "bbbbbbbb-0000-4000-8000-00000000000b";

/// Another value of a text, by the field's name.
fn text(path: &str) -> Option<Value> {
    let value = match path.rsplit('.').next()? {
        "endpoint" | "clusterUrl" | "workspaceUrl" | "vaultUrl" => "https://second.example.net",
        "server" | "host" => "second.example.net",
        "registry" => "secondregistry",
        "resourceGroup" | "collection" | "database" | "partitionKey" | "factory" | "name"
        | "credentialName" | "configPrefix" | "connectionsPrefix" | "variablesPrefix" => "second",
        _ => return None,
    };
    Some(json!(value))
}

/// Objects to start from: the smallest; and such that, between them, every field is set in one.
pub fn bases() -> Vec<(&'static str, Value)> {
    let managed = json!({ "resourceId": IDENTITY });
    let expressions = json!([{ "key": "team", "operator": "In", "values": ["data"] }]);
    vec![
        (
            "smallest",
            json!({ "identity": { "managedIdentity": managed } }),
        ),
        (
            "all connections",
            json!({
                "identity": {
                    "managedIdentity": managed,
                    "clientId": CLIENT_ID,
                    "tenantId": TENANT_ID,
                },
                "airflow": {
                    "helmRelease": "airflow",
                    "components": ["scheduler", "worker"],
                    "serviceAccounts": ["extra-one"],
                    "serviceAccountSelector": {
                        "matchLabels": { "team": "data" },
                        "matchExpressions": expressions,
                    },
                },
                "federation": {
                    "credentialName": "first",
                    // Not Adopt: that keeps the names that it finds, also those that a stop has left.
                    "existingCredentials": "Use",
                    "deletionPolicy": "Delete",
                },
                "connections": connections(),
                "connectionSecret": {
                    "name": "first",
                    "format": "SecretsBackend",
                    "readerRole": true,
                },
                "pods": { "connections": "InjectAll", "restart": "OnChange" },
                "suspend": false,
            }),
        ),
        (
            "key vault",
            json!({
                "identity": { "managedIdentity": managed },
                "airflow": {
                    "workloadSelector": {
                        "matchLabels": { "team": "data" },
                        "matchExpressions": expressions,
                    },
                },
                "keyVaultBackend": {
                    "vaultUrl": "https://first.vault.azure.net",
                    "connectionsPrefix": "first",
                    "variablesPrefix": "first",
                    "configPrefix": "first",
                },
            }),
        ),
        (
            "application",
            json!({
                "identity": {
                    "application": { "appId": APPLICATION },
                    "tenantId": TENANT_ID,
                },
                "airflow": { "helmRelease": "airflow" },
                "connectionSecret": { "format": "File" },
            }),
        ),
    ]
}

/// A connection of every type, with every field.
fn connections() -> Value {
    let subscription = "aaaaaaaa-0000-4000-8000-00000000000a";
    let group = "first";
    json!([
        { "id": "azure_default", "azure": { "subscriptionId": subscription, "useAzureIdentityObject": false } },
        { "id": "adls", "adls": { "account": "firstlake" }, "extra": [{ "name": "read_timeout", "value": 5 }] },
        { "id": "adls_url", "adls": { "accountUrl": "https://first.dfs.core.windows.net" } },
        { "id": "agents", "aiAgents": { "endpoint": "https://first.example.net/api/projects/one" } },
        { "id": "batch", "batch": { "accountUrl": "https://first.example.net" } },
        { "id": "compute", "compute": { "subscriptionId": subscription } },
        { "id": "instance", "containerInstance": { "subscriptionId": subscription } },
        { "id": "registry", "containerRegistry": { "registry": "firstregistry", "server": "first.example.net", "subscriptionId": subscription, "resourceGroup": group } },
        { "id": "volume", "containerVolume": { "subscriptionId": subscription, "resourceGroup": group } },
        { "id": "cosmos", "cosmos": { "endpoint": "https://first.example.net", "subscriptionId": subscription, "resourceGroup": group, "database": "first", "collection": "first", "partitionKey": "first" } },
        { "id": "explorer", "dataExplorer": { "clusterUrl": "https://first.example.net" } },
        { "id": "factory", "dataFactory": { "subscriptionId": subscription, "resourceGroup": group, "factory": "first" } },
        { "id": "share", "fileshare": { "account": "firstshare" } },
        { "id": "share_url", "fileshare": { "accountUrl": "https://first.file.core.windows.net" } },
        { "id": "bus", "serviceBus": { "host": "first.example.net" } },
        { "id": "synapse", "synapse": { "workspaceUrl": "https://first.example.net", "subscriptionId": subscription } },
        { "id": "wasb", "wasb": { "account": "firstblob" } },
        { "id": "wasb_url", "wasb": { "accountUrl": "https://first.blob.core.windows.net" } },
    ])
}

/// What a connection of this type looks like.
fn example(kind: &str) -> Option<Value> {
    let connections = connections();
    let mut examples = connections.as_array()?.iter();
    examples.find_map(|connection| connection.get(kind).cloned())
}

fn walk(path: &str, schema: &Value, fields: &mut Vec<Field>) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let parts = schema["properties"].as_object().into_iter().flatten();
    let parts = parts.map(|(name, schema)| {
        let path = [path, name].join(if path.is_empty() { "" } else { "." });
        (path, required.contains(&json!(name)), schema)
    });
    let items = schema
        .get("items")
        .map(|items| (format!("{path}[]"), true, items));
    for (path, is_required, schema) in parts.chain(items) {
        walk(&path, schema, fields);
        fields.push(Field {
            path,
            schema: schema.clone(),
            is_required,
        });
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('.').collect()
}

fn second(path: &str) -> &str {
    path.split('.').nth(1).unwrap()
}

/// Where in `here` a field is, or would be: each element of a list by its key, behind a `#`.
fn place(here: &Value, path: &[&str]) -> Option<Vec<String>> {
    let Some((first, rest)) = path.split_first() else {
        return Some(Vec::new());
    };
    let Some(list) = first.strip_suffix("[]").filter(|_| !rest.is_empty()) else {
        let nothing = Value::Null;
        let beneath = place(here.get(first).unwrap_or(&nothing), rest)?;
        return Some([vec![(*first).to_owned()], beneath].concat());
    };
    let elements = here.get(list)?.as_array()?;
    let has = |element: &&Value| {
        let place = place(element, rest);
        place.is_some_and(|place| at(element, &place).is_some())
    };
    let of_type = |element: &&Value| element.get(rest[0]).is_some();
    let any = elements.first().filter(|_| rest.len() == 1);
    let element = elements
        .iter()
        .find(has)
        .or_else(|| elements.iter().find(of_type))
        .or(any)?;
    let key = match key(element) {
        Some(key) => format!("#{key}"),
        // Lists of selectors: their only element.
        None => "0".to_owned(),
    };
    Some([vec![list.to_owned(), key], place(element, rest)?].concat())
}

fn key(element: &Value) -> Option<&str> {
    ["id", "name"]
        .iter()
        .find_map(|key| element.get(key)?.as_str())
}

fn at<'a>(here: &'a Value, place: &[String]) -> Option<&'a Value> {
    place
        .iter()
        .try_fold(here, |here, step| match step.strip_prefix('#') {
            Some(wanted) => here.as_array()?.iter().find(|e| key(e) == Some(wanted)),
            None => here
                .get(step)
                .or_else(|| here.get(step.parse::<usize>().ok()?)),
        })
}

/// Sets or removes what is there. What lies in an element that is gone stays gone.
fn edit(here: &mut Value, place: &[&str], value: Option<&Value>) {
    let [first, rest @ ..] = place else { return };
    if let Some(wanted) = first.strip_prefix('#') {
        let elements = here.as_array_mut().into_iter().flatten();
        for element in elements.filter(|element| key(element) == Some(wanted)) {
            edit(element, rest, value);
        }
        return;
    }
    if here.is_null() {
        *here = json!({});
    }
    let Some(fields) = here.as_object_mut() else {
        return;
    };
    match (rest, value) {
        ([], Some(value)) => {
            fields.insert((*first).to_owned(), value.clone());
        }
        ([], None) => {
            fields.remove(*first);
        }
        (rest, Some(_)) => {
            // A list's elements cannot be made up.
            let is_list = rest[0].starts_with('#');
            if !is_list || fields.contains_key(*first) {
                edit(fields.entry(*first).or_insert(Value::Null), rest, value);
            }
        }
        (rest, None) => {
            if let Some(part) = fields.get_mut(*first) {
                edit(part, rest, None);
            }
        }
    }
}
