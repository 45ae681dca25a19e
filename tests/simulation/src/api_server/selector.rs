//! Label and field selectors.

use serde_json::{Map, Value};

use super::{kinds::Kind, refusal::Refusal};

/// What a list or a watch is limited to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    labels: Vec<(String, Operator)>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    pub fn read(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        Ok(Self {
            labels: read_labels(labels)?,
            fields: read_fields(kind, fields)?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = object["metadata"]["labels"].as_object();
        self.labels
            .iter()
            .all(|(key, operator)| operator.holds(key, labels))
            && self.fields.iter().all(|(path, equal, value)| {
                let found = path.split('.').fold(object, |value, key| &value[key]);
                (found.as_str().unwrap_or_default() == value) == *equal
            })
    }
}

impl Operator {
    fn holds(&self, key: &str, labels: Option<&Map<String, Value>>) -> bool {
        let found = labels
            .and_then(|labels| labels.get(key))
            .and_then(Value::as_str);
        let is_in =
            |values: &[String]| found.is_some_and(|found| values.iter().any(|v| v == found));
        match self {
            Self::In(values) => is_in(values),
            Self::NotIn(values) => !is_in(values),
            Self::Exists => found.is_some(),
            Self::Missing => found.is_none(),
        }
    }
}

fn read_labels(text: &str) -> Result<Vec<(String, Operator)>, Refusal> {
    let mut rest = text.trim();
    let mut read = Vec::new();
    while !rest.is_empty() {
        let end = end_of_requirement(rest);
        read.push(requirement(rest[..end].trim(), text)?);
        rest = rest[end..].trim_start_matches(',').trim();
    }
    Ok(read)
}

/// A comma in parentheses separates values, not requirements.
fn end_of_requirement(text: &str) -> usize {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        *c == ',' && depth == 0
    });
    end.map_or(text.len(), |(at, _)| at)
}

fn requirement(text: &str, all: &str) -> Result<(String, Operator), Refusal> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let of = |key: &str, operator| Ok((key.trim().to_owned(), operator));
    if let Some((key, value)) = text.split_once("!=") {
        return of(key, Operator::NotIn(one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return of(key, Operator::In(one(value)));
    }
    if let Some((head, values)) = text.split_once('(') {
        let values = values.trim_end_matches(')').split(',');
        let values = values.map(|value| value.trim().to_owned()).collect();
        return match head.trim().rsplit_once(' ') {
            Some((key, "in")) => of(key, Operator::In(values)),
            Some((key, "notin")) => of(key, Operator::NotIn(values)),
            _ => Err(Refusal::bad_request(format!(
                "unable to parse requirement: {all}"
            ))),
        };
    }
    match text.strip_prefix('!') {
        Some(key) => of(key, Operator::Missing),
        None => of(text, Operator::Exists),
    }
}

fn read_fields(kind: &Kind, text: &str) -> Result<Vec<(String, bool, String)>, Refusal> {
    let mut read = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let equals = || part.split_once("==").or_else(|| part.split_once('='));
        let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = equals() {
            (path, true, value)
        } else {
            let why = format!("invalid selector: '{text}'; can't understand '{part}'");
            return Err(Refusal::bad_request(why));
        };
        if !is_selectable(kind, path) {
            return Err(Refusal::bad_request(format!(
                "field label not supported: {path}"
            )));
        }
        read.push((path.to_owned(), equal, value.to_owned()));
    }
    Ok(read)
}

fn is_selectable(kind: &Kind, path: &str) -> bool {
    match path {
        "metadata.name" => true,
        "metadata.namespace" => kind.namespaced,
        "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.schedulerName"
        | "spec.serviceAccountName"
        | "status.phase" => {
            kind.plural == "pods" || kind.plural == "namespaces" && path == "status.phase"
        }
        "type" => kind.plural == "secrets" || kind.plural == "events",
        "reason"
        | "regarding.name"
        | "regarding.namespace"
        | "involvedObject.name"
        | "involvedObject.namespace" => kind.plural == "events",
        _ => false,
    }
}
