//! What the API server answers when it does not do what it is asked: a `Status`.

use serde_json::{Map, Value, json};

use super::kinds::Kind;

/// A `Status` that tells of a failure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Refusal {
    pub fn code(&self) -> u16 {
        self.code
    }

    pub fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    fn about(code: u16, reason: &'static str, message: String, kind: &Kind, name: &str) -> Self {
        Self {
            code,
            reason,
            message,
            details: Some(details(name, kind.group, kind.plural)),
        }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self {
            code: 400,
            reason: "BadRequest",
            message: message.into(),
            details: None,
        }
    }

    /// There is no such path.
    pub fn unknown_path() -> Self {
        Self {
            code: 404,
            reason: "NotFound",
            message: "the server could not find the requested resource".into(),
            details: Some(json!({})),
        }
    }

    pub fn no_such_method() -> Self {
        Self {
            code: 405,
            reason: "MethodNotAllowed",
            message: "the server does not allow this method on the requested resource".into(),
            details: Some(json!({})),
        }
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self {
            code: 415,
            reason: "UnsupportedMediaType",
            message: format!(
                "the body of the request was in an unknown format - accepted media types include: {accepted}"
            ),
            details: None,
        }
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.qualified());
        Self::about(404, "NotFound", message, kind, name)
    }

    pub fn already_exists(kind: &Kind, name: &str, is_going: bool) -> Self {
        let going = if is_going {
            "object is being deleted: "
        } else {
            ""
        };
        let message = format!("{going}{} \"{name}\" already exists", kind.qualified());
        Self::about(409, "AlreadyExists", message, kind, name)
    }

    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let what = kind.qualified();
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::about(409, "Conflict", message, kind, name)
    }

    /// The object has another version than the request says.
    pub fn outdated(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// As [`Self::conflict`], but it names the kind where the real one does.
    pub fn conflict_of_kind(group: &str, kind: &str, name: &str, why: &str) -> Self {
        let what = qualified(kind, group);
        Self {
            code: 409,
            reason: "Conflict",
            message: format!("Operation cannot be fulfilled on {what} \"{name}\": {why}"),
            details: Some(details(name, group, kind)),
        }
    }

    pub fn forbidden(kind: &Kind, name: &str, why: &str, causes: &[Cause]) -> Self {
        let what = kind.qualified();
        let mut refusal = Self::about(
            403,
            "Forbidden",
            format!("{what} \"{name}\" is forbidden: {why}"),
            kind,
            name,
        );
        if let Some(details) = refusal.details.as_mut().filter(|_| !causes.is_empty()) {
            details["causes"] = causes.iter().map(Cause::body).collect();
        }
        refusal
    }

    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        Self::invalid_kind(kind.group, kind.kind, name, causes)
    }

    pub fn invalid_kind(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for cause in causes {
            let text = format!("{}: {}", cause.field, cause.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let text = match texts.as_slice() {
            [one] => one.clone(),
            _ => format!("[{}]", texts.join(", ")),
        };
        let mut details = details(name, group, kind);
        details["causes"] = causes.iter().map(Cause::body).collect();
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("{} \"{name}\" is invalid: {text}", qualified(kind, group)),
            details: Some(details),
        }
    }

    /// By (manager as it is written in messages, path).
    pub fn owned_by_others(conflicts: &[(String, String)]) -> Self {
        let message = if let [(manager, path)] = conflicts {
            format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
        } else {
            let mut managers: Vec<&String> = conflicts.iter().map(|(m, _)| m).collect();
            managers.sort();
            managers.dedup();
            let mut lines = Vec::new();
            for manager in managers {
                lines.push(format!("conflicts with {manager}:"));
                let theirs = conflicts.iter().filter(|(of, _)| of == manager);
                lines.extend(theirs.map(|(_, path)| format!("- {path}")));
            }
            let count = conflicts.len();
            format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
        };
        let causes = conflicts.iter().map(|(manager, path)| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {manager}"),
                "field": path,
            })
        });
        Self {
            code: 409,
            reason: "Conflict",
            message,
            details: Some(json!({ "causes": causes.collect::<Vec<_>>() })),
        }
    }

    /// What a watcher or a page of a list asks for is not known any longer.
    pub fn expired(message: String) -> Self {
        Self {
            code: 410,
            reason: "Expired",
            message,
            details: None,
        }
    }

    /// What is asked for has yet to come.
    pub fn too_large_version(asked: u64, current: u64) -> Self {
        Self {
            code: 504,
            reason: "Timeout",
            message: format!("Timeout: Too large resource version: {asked}, current: {current}"),
            details: Some(json!({
                "causes": [{
                    "reason": "ResourceVersionTooLarge",
                    "message": "Too large resource version",
                }],
                "retryAfterSeconds": 1,
            })),
        }
    }
}

fn details(name: &str, group: &str, kind: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.into(), value.into());
        }
    }
    Value::Object(details)
}

fn qualified(kind: &str, group: &str) -> String {
    if group.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}.{group}")
    }
}

impl Cause {
    fn new(reason: &'static str, field: &str, message: String) -> Self {
        Self {
            reason,
            message,
            field: field.to_owned(),
        }
    }

    fn body(&self) -> Value {
        json!({ "reason": self.reason, "message": self.message, "field": self.field })
    }

    pub fn required(field: &str) -> Self {
        Self::new("FieldValueRequired", field, "Required value".into())
    }

    pub fn required_because(field: &str, why: &str) -> Self {
        Self::new(
            "FieldValueRequired",
            field,
            format!("Required value: {why}"),
        )
    }

    pub fn invalid(field: &str, value: &str, why: &str) -> Self {
        let message = format!("Invalid value: {value}: {why}");
        Self::new("FieldValueInvalid", field, message)
    }

    pub fn forbidden(field: &str, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    pub fn immutable(field: &str, value: &str) -> Self {
        Self::invalid(field, value, "field is immutable")
    }

    pub fn keeps_rules_from_being_checked(&self) -> bool {
        let may_be = [
            "FieldValueInvalid",
            "FieldValueDuplicate",
            "FieldValueForbidden",
        ];
        !may_be.contains(&self.reason)
    }

    /// What is said after all others of our own kinds.
    pub fn rules_unchecked() -> Self {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        Self::invalid("<nil>", "null", why)
    }

    pub fn namespace_ends(namespace: &str) -> Self {
        let message = format!("namespace {namespace} is being terminated");
        Self::new("NamespaceTerminating", "metadata.namespace", message)
    }

    pub fn wrong_type(field: &str, value: &Value, type_: &str) -> Self {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let why = format!("{field} in body must be of type {type_}: \"{found}\"");
        let message = format!("Invalid value: \"{found}\": {why}");
        Self::new("FieldValueTypeInvalid", field, message)
    }

    pub fn unsupported(field: &str, value: &Value, supported: &[Value]) -> Self {
        let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            supported.join(", ")
        );
        Self::new("FieldValueNotSupported", field, message)
    }

    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self::new(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {value}"),
        )
    }

    pub fn too_few(field: &str, count: u64, least: u64) -> Self {
        let why = format!("{field} in body should have at least {least} items");
        Self::invalid(field, &count.to_string(), &why)
    }

    pub fn too_many(field: &str, count: u64, most: u64) -> Self {
        let message = format!("Too many: {count}: must have at most {most} items");
        Self::new("FieldValueTooMany", field, message)
    }

    pub fn too_short(field: &str, value: &str, least: u64) -> Self {
        let why = format!("{field} in body should be at least {least} chars long");
        Self::invalid(field, &format!("{value:?}"), &why)
    }

    pub fn too_long(field: &str, most: u64) -> Self {
        let message = format!("Too long: may not be more than {most} bytes");
        Self::new("FieldValueTooLong", field, message)
    }

    pub fn no_match(field: &str, value: &str, pattern: &str) -> Self {
        let why = format!("{field} in body should match '{pattern}'");
        Self::invalid(field, &format!("{value:?}"), &why)
    }

    pub fn wrong_format(field: &str, value: &str, format: &str) -> Self {
        let why = format!("{field} in body must be of type {format}: {value:?}");
        let message = format!("Invalid value: {value:?}: {why}");
        Self::new("FieldValueTypeInvalid", field, message)
    }
}
