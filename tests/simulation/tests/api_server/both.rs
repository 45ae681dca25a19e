//! The same requests to the real API server and to the one in memory, and what their answers differ in.

use std::collections::BTreeMap;

use http::Request;
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::{Map, Value, json};
use simulation::api_server::ApiServer;

pub const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// One request, and what of its answers is compared.
pub struct Step {
    method: &'static str,
    path: String,
    type_: &'static str,
    accept: &'static str,
    body: Option<Value>,
    agent: &'static str,
    saved_as: Option<&'static str>,
    only: Option<&'static [&'static str]>,
}

/// `<name/metadata/uid>` in a path or a body is that of the answer that was saved under `name`.
fn step(method: &'static str, path: impl Into<String>, type_: &'static str, body: Value) -> Step {
    Step {
        method,
        path: path.into(),
        type_,
        accept: JSON,
        body: (!body.is_null()).then_some(body),
        agent: "people/1.0",
        saved_as: None,
        only: None,
    }
}

pub fn get(path: impl Into<String>) -> Step {
    step("GET", path, JSON, Value::Null)
}

pub fn create(path: impl Into<String>, body: Value) -> Step {
    step("POST", path, JSON, body)
}

pub fn replace(path: impl Into<String>, body: Value) -> Step {
    step("PUT", path, JSON, body)
}

pub fn patch(path: impl Into<String>, body: Value) -> Step {
    step("PATCH", path, MERGE, body)
}

pub fn apply(path: impl Into<String>, body: Value) -> Step {
    step("PATCH", path, APPLY, body)
}

pub fn delete(path: impl Into<String>, options: Value) -> Step {
    step("DELETE", path, JSON, options)
}

impl Step {
    pub fn save(mut self, name: &'static str) -> Self {
        self.saved_as = Some(name);
        self
    }

    /// Compares only these parts, and the status code.
    pub fn only(mut self, pointers: &'static [&'static str]) -> Self {
        self.only = Some(pointers);
        self
    }

    pub fn by(mut self, agent: &'static str) -> Self {
        self.agent = agent;
        self
    }

    pub fn metadata(mut self) -> Self {
        self.accept = PARTIAL;
        self
    }

    pub fn metadata_list(mut self) -> Self {
        self.accept = PARTIAL_LIST;
        self
    }
}

/// What one of the two said so far.
#[derive(Default)]
struct Side {
    saved: BTreeMap<&'static str, Value>,
    /// Uids, versions and generated names, by what they are called in comparisons.
    labels: BTreeMap<String, String>,
}

pub struct Both {
    client: Client,
    pub memory: ApiServer,
    real_side: Side,
    memory_side: Side,
    /// All that differs, in words.
    pub differences: Vec<String>,
}

impl Both {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            memory: ApiServer::new(),
            real_side: Side::default(),
            memory_side: Side::default(),
            differences: Vec::new(),
        }
    }

    pub async fn run(&mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.ask(step).await;
        }
    }

    pub async fn ask(&mut self, step: Step) {
        let (code, mut real) = self.real(&step).await;
        let (memory_code, mut memory) = self.in_memory(&step);
        let what = format!("{} {}", step.method, step.path);
        if let Some(name) = step.saved_as {
            self.real_side.saved.insert(name, real.clone());
            self.memory_side.saved.insert(name, memory.clone());
        }
        if code != memory_code {
            let (real, memory) = (&real["message"], &memory["message"]);
            self.differences.push(format!(
                "{what}: {code} {real}, in memory {memory_code} {memory}"
            ));
            return;
        }
        let Some(parts) = step.only else {
            self.real_side.normalise(&mut real);
            self.memory_side.normalise(&mut memory);
            diff(&what, "", Some(&real), Some(&memory), &mut self.differences);
            return;
        };
        let picked = |side: &mut Side, whole: &Value| -> Value {
            let parts = parts.iter().map(|part| {
                // As it is in the whole, so that it is known by its key.
                let (at, key) = part.rsplit_once('/').unwrap();
                let value = whole.pointer(at).and_then(|above| above.get(key));
                let mut value = json!({ key: value });
                side.normalise(&mut value);
                (part.to_string(), value)
            });
            Value::Object(parts.collect())
        };
        let real = picked(&mut self.real_side, &real);
        let memory = picked(&mut self.memory_side, &memory);
        diff(&what, "", Some(&real), Some(&memory), &mut self.differences);
    }

    /// Asks both until both have the status code.
    pub async fn until(&mut self, path: &str, code: u16) {
        for _ in 0..1200 {
            let step = get(path);
            self.memory.collect_garbage(Timestamp::now());
            if self.real(&step).await.0 == code && self.in_memory(&step).0 == code {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        self.differences
            .push(format!("GET {path}: not {code} with both"));
    }

    /// As if both had answered this.
    pub fn remember(&mut self, name: &'static str, answer: &Value) {
        for side in [&mut self.real_side, &mut self.memory_side] {
            side.saved.insert(name, answer.clone());
        }
    }

    /// Compares all events since the list that was saved under `since`.
    pub async fn watch(&mut self, path: &str, since: &str, metadata: bool) {
        let what = format!("watch {path}");
        let from = |side: &Side| side.saved[since]["metadata"]["resourceVersion"].clone();
        let request = |from: &Value| {
            let joint = if path.contains('?') { '&' } else { '?' };
            let from = from.as_str().unwrap();
            let path = format!("{path}{joint}watch=true&timeoutSeconds=1&resourceVersion={from}");
            let mut step = get(path);
            if metadata {
                step = step.metadata();
            }
            step
        };
        let step = request(&from(&self.real_side));
        let built = self.real_side.request(&step).map(Body::from);
        let answer = self.client.send(built).await.unwrap();
        let bytes = answer.into_body().collect_bytes().await.unwrap();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let mut real: Value = lines
            .map(|line| serde_json::from_slice::<Value>(line).unwrap())
            .collect();

        let step = request(&from(&self.memory_side));
        let watch = ApiServer::watch(&self.memory_side.request(&step)).unwrap();
        let events = self
            .memory
            .events(&watch, watch.from, self.memory.version());
        let lines = match events {
            Ok(events) => events.into_iter().map(|(_, line)| line).collect(),
            Err(expired) => vec![expired.event],
        };
        let mut memory: Value = lines
            .iter()
            .map(|line| serde_json::from_slice::<Value>(line).unwrap())
            .collect();
        self.real_side.normalise(&mut real);
        self.memory_side.normalise(&mut memory);
        diff(&what, "", Some(&real), Some(&memory), &mut self.differences);
    }

    async fn real(&mut self, step: &Step) -> (u16, Value) {
        let request = self.real_side.request(step).map(Body::from);
        let answer = self.client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect_bytes().await.unwrap();
        (code, read(&bytes))
    }

    fn in_memory(&mut self, step: &Step) -> (u16, Value) {
        let request = self.memory_side.request(step);
        let answer = self.memory.answer(&request, Timestamp::now());
        (answer.status().as_u16(), read(answer.body()))
    }
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

impl Side {
    fn request(&self, step: &Step) -> Request<Vec<u8>> {
        let body = step.body.as_ref().map(Value::to_string).unwrap_or_default();
        Request::builder()
            .method(step.method)
            .uri(self.filled(&step.path))
            .header("Content-Type", step.type_)
            .header("Accept", step.accept)
            .header("User-Agent", step.agent)
            .body(self.filled(&body).into_bytes())
            .unwrap()
    }

    fn filled(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            let (reference, after) = after.split_once('>').unwrap();
            let (name, pointer) = reference.split_once('/').unwrap();
            let value = self.saved[name].pointer(&format!("/{pointer}"));
            let value = value.and_then(Value::as_str);
            filled.push_str(before);
            filled.push_str(value.unwrap_or_else(|| panic!("no {reference}")));
            rest = after;
        }
        filled + rest
    }

    /// Calls uids, versions and times by what both can have in common.
    fn normalise(&mut self, value: &mut Value) {
        let is_list = value["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        if is_list {
            value["metadata"]["resourceVersion"] = "a list's".into();
        }
        self.walk(value);
    }

    fn walk(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                self.generated_name(map);
                let keys: Vec<String> = map
                    .keys()
                    .filter(|key| key.contains("uid"))
                    .cloned()
                    .collect();
                for key in keys {
                    let value = map.remove(&key).unwrap_or_default();
                    map.insert(self.text(&key), value);
                }
                for (key, value) in map {
                    match (key.as_str(), &mut *value) {
                        ("uid", Value::String(uid)) => *uid = self.label("uid", uid),
                        ("resourceVersion", Value::String(version)) if version != "a list's" => {
                            *version = self.label("version", version);
                        }
                        ("continue", Value::String(text)) if !text.is_empty() => {
                            *text = "some".into();
                        }
                        ("token", Value::String(text)) => *text = "opaque".into(),
                        ("managedFields", Value::Array(entries)) => {
                            entries.sort_by_key(|entry| {
                                ["operation", "manager", "apiVersion", "subresource"]
                                    .map(|key| entry[key].to_string())
                            });
                            for entry in entries {
                                self.walk(entry);
                            }
                        }
                        (_, value) => self.walk(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }

    fn generated_name(&mut self, metadata: &mut Map<String, Value>) {
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        if let (Some(prefix), Some(name)) = (text("generateName"), text("name"))
            && let Some(suffix) = name.strip_prefix(&prefix)
        {
            assert_eq!(suffix.len(), 5, "{name}");
            let label = self.label("name", &name);
            metadata.insert("name".into(), label.into());
        }
    }

    fn label(&mut self, what: &str, found: &str) -> String {
        let next = self
            .labels
            .values()
            .filter(|label| label.starts_with(what))
            .count()
            + 1;
        let label = || format!("{what} {next}");
        self.labels
            .entry(found.to_owned())
            .or_insert_with(label)
            .clone()
    }

    fn text(&self, text: &str) -> String {
        let is_time = text.len() >= 20 && text.ends_with('Z') && text.parse::<Timestamp>().is_ok();
        if is_time {
            return format!("a time of {} characters", text.len());
        }
        let mut text = text.to_owned();
        // Only where they are parts of messages.
        for (found, label) in self.labels.iter().filter(|(found, _)| found.len() > 20) {
            text = text.replace(found, label);
        }
        for (before, after) in [("(", ")"), (": ", ""), ("version: ", " ")] {
            text = without_numbers(&text, before, after);
        }
        text
    }
}

/// Versions in messages.
fn without_numbers(text: &str, before: &str, after: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        done.push_str(head);
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        rest = tail;
        if digits > 0 && tail[digits..].starts_with(after) {
            done.push('N');
            rest = &tail[digits..];
        }
    }
    done + rest
}

fn diff(what: &str, at: &str, real: Option<&Value>, memory: Option<&Value>, out: &mut Vec<String>) {
    if real == memory {
        return;
    }
    match (real, memory) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                diff(what, &format!("{at}/{key}"), a.get(key), b.get(key), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                diff(
                    what,
                    &format!("{at}/{index}"),
                    a.get(index),
                    b.get(index),
                    out,
                );
            }
        }
        _ => {
            let text = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            out.push(format!(
                "{what} at {at}:\n    {}\n    in memory {}",
                text(real),
                text(memory)
            ));
        }
    }
}

/// An object's name, and more of its metadata.
pub fn named(name: &str, more: Value) -> Value {
    let mut metadata = json!({ "name": name });
    if let (Value::Object(metadata), Value::Object(more)) = (&mut metadata, more) {
        metadata.extend(more);
    }
    metadata
}
