//! Creating, replacing, patching and deleting.

use std::sync::Arc;

use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Answer, core_event,
    kinds::{KINDS, Kind, NAMESPACES, PODS, SERVICE_ACCOUNTS},
    managed::Writer,
    read::object_answer,
    refusal::{Cause, Refusal},
    request::{self, Target},
    store::{Author, Store, key},
    strategy::{before_create, before_update, decode, remove, set},
};

/// How something is to be deleted.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    pub uid: Option<String>,
    pub version: Option<String>,
    pub propagation: String,
    pub grace: Option<u64>,
}

/// As it is written down.
pub(super) fn time(now: Timestamp) -> String {
    let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
    seconds.to_string()
}

/// What a request's changes are booked on.
fn manager<'a>(request: &'a Request<Vec<u8>>, target: &'a Target) -> &'a str {
    let agent = request::user_agent(request).split('/').next();
    let given = [Some(target.query.manager.as_str()), agent];
    let given = given.into_iter().flatten().find(|name| !name.is_empty());
    given.unwrap_or("unknown")
}

fn author<'a>(
    request: &'a Request<Vec<u8>>,
    target: &'a Target<'a>,
    verb: &'static str,
) -> Author<'a> {
    Author {
        user_agent: request::user_agent(request),
        manager: manager(request, target),
        verb,
        subresource: target.subresource,
    }
}

fn writer<'a>(target: &Target<'a>, author: &Author<'a>, now: &'a str) -> Writer<'a> {
    Writer {
        kind: target.kind,
        subresource: target.subresource,
        manager: author.manager,
        now,
    }
}

impl Store {
    pub fn create(
        &mut self,
        request: &Request<Vec<u8>>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let kind = target.kind;
        if target.name.is_some() || kind.namespaced && target.namespace.is_none() {
            return Err(Refusal::no_such_method());
        }
        let author = author(request, target, "create");
        let now = time(now);
        let mut object = request::json(request)?;
        decode(kind, &mut object)?;
        place(&mut object, target)?;
        writer(target, &author, &now).update(kind.zero(), &mut object);
        let created = self.insert(&author, kind, object, &now)?;
        Ok(object_answer(201, target, &created))
    }

    /// A new object, all of whose fields are set but for those that the server sets.
    fn insert(
        &mut self,
        author: &Author,
        kind: &'static Kind,
        object: Value,
        now: &str,
    ) -> Result<Arc<Value>, Refusal> {
        let mut object = core_event::stored(kind, object);
        let text = |object: &Value, key: &str| object["metadata"][key].as_str().map(str::to_owned);
        let namespace = text(&object, "namespace");
        let given = text(&object, "name").filter(|name| !name.is_empty());
        if let Some(namespace) = &namespace {
            self.admit(kind, namespace, given.as_deref().unwrap_or_default())?;
        }
        if kind.store == PODS {
            self.give_account(&mut object)?;
        }
        let name = match (given, text(&object, "generateName")) {
            (Some(name), _) => name,
            (None, Some(prefix)) => format!("{prefix}{}", self.new_suffix()),
            (None, None) => String::new(),
        };
        let metadata = &mut object["metadata"];
        set(
            metadata,
            "name",
            Some(name.as_str().into()).filter(|_| !name.is_empty()),
        );
        metadata["creationTimestamp"] = now.into();
        for key in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
        ] {
            remove(metadata, key);
        }
        metadata["uid"] = self.new_uid().into();
        before_create(kind, &mut object)?;
        if let Some(found) = self.get(kind, &key(namespace.as_deref(), &name)) {
            let is_going = found["metadata"].get("deletionTimestamp").is_some();
            return Err(Refusal::already_exists(kind, &name, is_going));
        }
        Ok(self.put(author, kind, object))
    }

    /// Nothing is created in a namespace that is not there, or ends.
    fn admit(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        let namespaces = &KINDS[NAMESPACES];
        let found = self.get(namespaces, namespace);
        let found = found.ok_or_else(|| Refusal::not_found(namespaces, namespace))?;
        if found["status"]["phase"] != "Terminating" {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let causes = [Cause::namespace_ends(namespace)];
        Err(Refusal::forbidden(kind, name, &why, &causes))
    }

    /// A pod has an account, which is there.
    fn give_account(&self, pod: &mut Value) -> Result<(), Refusal> {
        if !pod["spec"]["serviceAccountName"].is_string() {
            pod["spec"]["serviceAccountName"] = "default".into();
            pod["spec"]["serviceAccount"] = "default".into();
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let account = text(&pod["spec"]["serviceAccountName"]);
        let namespace = text(&pod["metadata"]["namespace"]);
        let accounts = &KINDS[SERVICE_ACCOUNTS];
        if self
            .get(accounts, &key(Some(&namespace), &account))
            .is_some()
        {
            return Ok(());
        }
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
        );
        let name = text(&pod["metadata"]["name"]);
        Err(Refusal::forbidden(&KINDS[PODS], &name, &why, &[]))
    }

    pub fn replace(
        &mut self,
        request: &Request<Vec<u8>>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let (kind, name) = existing(target)?;
        let author = author(request, target, "update");
        let now = time(now);
        let mut object = request::json(request)?;
        decode(kind, &mut object)?;
        place(&mut object, target)?;
        let given = object["metadata"]["name"].as_str().unwrap_or_default();
        if given.is_empty() {
            object["metadata"]["name"] = name.into();
        } else if given != name {
            return Err(wrong_name(given, name));
        }
        let stored = self.get(kind, &key(target.namespace, name));
        let stored = stored
            .ok_or_else(|| Refusal::not_found(kind, name))?
            .clone();
        if let Some(uid) = object["metadata"]["uid"].as_str()
            && stored["metadata"]["uid"] != uid
        {
            let found = stored["metadata"]["uid"].as_str().unwrap_or_default();
            let prefix = registry(kind);
            let at = key(target.namespace, name);
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {prefix}{at}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
            );
            return Err(Refusal::conflict(kind, name, &why));
        }
        let live = core_event::view(kind, &stored);
        writer(target, &author, &now).update(&live, &mut object);
        let updated = self.update(&author, target, &stored, object)?;
        Ok(object_answer(200, target, &updated))
    }

    pub fn patch(
        &mut self,
        request: &Request<Vec<u8>>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let now = time(now);
        match request::content_type(request) {
            "application/merge-patch+json" => self.merge_patch(request, target, &now),
            "application/apply-patch+yaml" => self.apply(request, target, &now),
            _ => Err(Refusal::unsupported_media_type(
                "application/merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    fn merge_patch(
        &mut self,
        request: &Request<Vec<u8>>,
        target: &Target,
        now: &str,
    ) -> Result<Answer, Refusal> {
        let (kind, name) = existing(target)?;
        let author = author(request, target, "patch");
        let patch = request::json(request)?;
        let stored = self.get(kind, &key(target.namespace, name));
        let stored = stored
            .ok_or_else(|| Refusal::not_found(kind, name))?
            .clone();
        let live = core_event::view(kind, &stored);
        let mut object = live.clone().into_owned();
        merge(&mut object, patch);
        decode(kind, &mut object)?;
        if object == *live {
            return Ok(object_answer(200, target, &stored));
        }
        writer(target, &author, now).update(&live, &mut object);
        same_place(&mut object, target)?;
        let updated = self.update(&author, target, &stored, object)?;
        Ok(object_answer(200, target, &updated))
    }

    fn apply(
        &mut self,
        request: &Request<Vec<u8>>,
        target: &Target,
        now: &str,
    ) -> Result<Answer, Refusal> {
        let (kind, name) = existing(target)?;
        if target.query.manager.is_empty() {
            let why = "is required for apply patch";
            let causes = [Cause::required_because("fieldManager", why)];
            return Err(Refusal::invalid_kind(
                "meta.k8s.io",
                "PatchOptions",
                "",
                &causes,
            ));
        }
        let author = author(request, target, "apply");
        let applied = request::json(request)?;
        if applied["apiVersion"] != kind.api_version().as_str() {
            let text = |key: &str| applied[key].as_str().unwrap_or_default();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let slash = if version.contains('/') { "" } else { "/" };
            let why = format!("invalid object type: {slash}{version}, Kind={kind}");
            return Err(Refusal::bad_request(why));
        }
        if applied["metadata"].get("managedFields").is_some() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let writer = writer(target, &author, now);
        let stored = self.get(kind, &key(target.namespace, name)).cloned();
        let live = stored.as_ref().map(|stored| core_event::view(kind, stored));
        let before = live.as_deref().unwrap_or(kind.zero());
        let mut object = writer.apply(before, &applied, target.query.force)?;
        decode(kind, &mut object)?;
        let Some(stored) = &stored else {
            if let Some(uid) = object["metadata"]["uid"].as_str() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Refusal::conflict(kind, name, &why));
            }
            if target.subresource.is_some() {
                return Err(Refusal::not_found(kind, name));
            }
            same_place(&mut object, target)?;
            let created = self.insert(&author, kind, object, now)?;
            return Ok(object_answer(201, target, &created));
        };
        same_place(&mut object, target)?;
        let updated = self.update(&author, target, stored, object)?;
        Ok(object_answer(200, target, &updated))
    }

    /// Stores what became of an object, unless nothing did.
    fn update(
        &mut self,
        author: &Author,
        target: &Target,
        old: &Arc<Value>,
        new: Value,
    ) -> Result<Arc<Value>, Refusal> {
        let (kind, name) = existing(target)?;
        let mut new = core_event::stored(kind, new);
        let given = new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if given.is_empty() || given == "0" {
            if kind.custom || kind.plural == "leases" {
                let why = "must be specified for an update";
                let causes = [Cause::invalid("metadata.resourceVersion", "0", why)];
                return Err(Refusal::invalid_kind(
                    kind.group,
                    kind.plural,
                    name,
                    &causes,
                ));
            }
        } else if old["metadata"]["resourceVersion"] != given {
            return Err(Refusal::outdated(kind, name));
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        before_update(kind, target.subresource, &mut new, old)?;
        keep_times(&mut new, old);
        let metadata = &old["metadata"];
        let grace = &metadata["deletionGracePeriodSeconds"];
        let is_due = metadata.get("deletionTimestamp").is_some()
            && (grace.is_null() || *grace == 0)
            && new["metadata"].get("finalizers").is_none();
        if is_due && kind.store != NAMESPACES {
            self.remove(author, kind, old);
            return Ok(Arc::new(new));
        }
        if new == **old {
            return Ok(old.clone());
        }
        Ok(self.put(author, kind, new))
    }

    pub fn delete(
        &mut self,
        request: &Request<Vec<u8>>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let (kind, name) = existing(target)?;
        let author = author(request, target, "delete");
        let options = match request.body().as_slice() {
            [] => Value::Null,
            _ => request::json(request)?,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let orphans = options["orphanDependents"] == true;
        let deletion = Deletion {
            uid: text(&options["preconditions"]["uid"]),
            version: text(&options["preconditions"]["resourceVersion"]),
            propagation: match text(&options["propagationPolicy"]) {
                Some(policy) => policy,
                None if orphans => "Orphan".into(),
                None => target.query.propagation.clone(),
            },
            grace: options["gracePeriodSeconds"]
                .as_u64()
                .or(target.query.grace),
        };
        match self.delete_one(&author, kind, target.namespace, name, &deletion, now)? {
            Deleted::Going(object) => Ok(object_answer(200, target, &object)),
            Deleted::Gone(last) if kind.returns_deleted => Ok(object_answer(200, target, &last)),
            Deleted::Gone(last) => {
                let mut details = json!({ "name": name, "kind": kind.plural });
                if !kind.group.is_empty() {
                    details["group"] = kind.group.into();
                }
                details["uid"] = last["metadata"]["uid"].clone();
                let status = json!({
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "details": details,
                });
                Ok(Answer::json(200, &status))
            }
        }
    }

    pub fn delete_one(
        &mut self,
        author: &Author,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        deletion: &Deletion,
        now: Timestamp,
    ) -> Result<Deleted, Refusal> {
        let old = self.get(kind, &key(namespace, name));
        let old = old.ok_or_else(|| Refusal::not_found(kind, name))?.clone();
        check_preconditions(kind, name, &old, deletion)?;
        let is_going = old["metadata"].get("deletionTimestamp").is_some();
        if kind.store == NAMESPACES {
            return Ok(self.end_namespace(author, kind, &old, now));
        }
        let mut new = Value::clone(&old);
        let grace = if kind.store == PODS {
            match pod_grace(&old, deletion) {
                Some(grace) => Some(grace),
                None => return Ok(Deleted::Going(old)),
            }
        } else {
            None
        };
        finalizers_for(&mut new, deletion);
        let has_finalizers = new["metadata"].get("finalizers").is_some();
        let metadata = &mut new["metadata"];
        if let Some(grace) = grace.filter(|grace| *grace > 0) {
            let end = now + jiff::SignedDuration::from_secs(i64::try_from(grace).unwrap_or(30));
            metadata["deletionTimestamp"] = time(end).into();
            metadata["deletionGracePeriodSeconds"] = grace.into();
        } else if has_finalizers || grace.is_some() {
            if !is_going || grace.is_some() {
                metadata["deletionTimestamp"] = time(now).into();
            }
            metadata["deletionGracePeriodSeconds"] = 0.into();
        }
        if let (false, Some(generation)) = (is_going, metadata["generation"].as_i64()) {
            metadata["generation"] = (generation + 1).into();
        }
        let is_graceful = grace.is_some_and(|grace| grace > 0);
        if has_finalizers || grace.is_some() {
            let marked = if new == *old {
                old.clone()
            } else {
                self.put(author, kind, new)
            };
            if has_finalizers || is_graceful {
                return Ok(Deleted::Going(marked));
            }
        }
        Ok(Deleted::Gone(self.remove(author, kind, &old)))
    }

    /// A namespace ends when nothing is in it any longer.
    fn end_namespace(
        &mut self,
        author: &Author,
        kind: &Kind,
        old: &Arc<Value>,
        now: Timestamp,
    ) -> Deleted {
        if old["metadata"].get("deletionTimestamp").is_some() {
            return Deleted::Going(old.clone());
        }
        let mut new = Value::clone(old);
        new["metadata"]["deletionTimestamp"] = time(now).into();
        new["status"]["phase"] = "Terminating".into();
        Deleted::Going(self.put(author, kind, new))
    }
}

/// What became of what was deleted.
pub(super) enum Deleted {
    /// Somebody has to do something first.
    Going(Arc<Value>),
    /// It is gone; this is what it was.
    Gone(Value),
}

fn check_preconditions(
    kind: &Kind,
    name: &str,
    object: &Value,
    deletion: &Deletion,
) -> Result<(), Refusal> {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    if let Some(uid) = deletion.uid.as_deref().filter(|uid| *uid != text("uid")) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Refusal::conflict_of_kind(kind.group, kind.kind, name, &why));
    }
    let version = deletion.version.as_deref();
    if let Some(version) = version.filter(|version| *version != text("resourceVersion")) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            text("resourceVersion")
        );
        return Err(Refusal::conflict_of_kind(kind.group, kind.kind, name, &why));
    }
    Ok(())
}

/// How long a pod has to end; none if it is ending already, and soon enough.
fn pod_grace(pod: &Value, deletion: &Deletion) -> Option<u64> {
    let is_scheduled = pod["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    let has_ended = pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
    let asked = deletion.grace;
    if pod["metadata"].get("deletionTimestamp").is_some() {
        let left = pod["metadata"]["deletionGracePeriodSeconds"]
            .as_u64()
            .unwrap_or_default();
        return match asked {
            _ if left == 0 => Some(0),
            Some(asked) if asked < left => Some(asked),
            _ => None,
        };
    }
    if !is_scheduled || has_ended {
        return Some(0);
    }
    asked
        .or(pod["spec"]["terminationGracePeriodSeconds"].as_u64())
        .or(Some(30))
}

/// The finalizers by which the garbage collector is told what becomes of what the object owns.
fn finalizers_for(object: &mut Value, deletion: &Deletion) {
    const FOREGROUND: &str = "foregroundDeletion";
    let asked = match deletion.propagation.as_str() {
        "Orphan" => Some("orphan"),
        "Foreground" => Some(FOREGROUND),
        "Background" => None,
        _ => return,
    };
    let metadata = &mut object["metadata"];
    let finalizers = metadata["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut finalizers: Vec<Value> = finalizers
        .into_iter()
        .filter(|finalizer| finalizer != "orphan" && finalizer != FOREGROUND)
        .collect();
    finalizers.extend(asked.map(Value::from));
    set(
        metadata,
        "finalizers",
        Some(finalizers.into()).filter(|f: &Value| *f != json!([])),
    );
}

/// The kind and the name of what is to be changed.
fn existing<'a>(target: &Target<'a>) -> Result<(&'static Kind, &'a str), Refusal> {
    let kind = target.kind;
    match target.subresource {
        None => {}
        Some("status") if kind.has_status => {}
        Some(_) => return Err(Refusal::unknown_path()),
    }
    let name = target.name.ok_or_else(Refusal::no_such_method)?;
    Ok((kind, name))
}

/// The object is in the namespace that the request names.
fn place(object: &mut Value, target: &Target) -> Result<(), Refusal> {
    let given = object["metadata"]["namespace"].as_str();
    match (given, target.namespace) {
        (Some(given), Some(asked)) if given != asked => Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        (_, asked) => {
            set(&mut object["metadata"], "namespace", asked.map(Into::into));
            Ok(())
        }
    }
}

fn same_place(object: &mut Value, target: &Target) -> Result<(), Refusal> {
    place(object, target)?;
    let (given, name) = (&object["metadata"]["name"], target.name.unwrap_or_default());
    if given != name {
        return Err(wrong_name(given.as_str().unwrap_or_default(), name));
    }
    Ok(())
}

fn wrong_name(given: &str, name: &str) -> Refusal {
    if given.is_empty() {
        return Refusal::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ));
    }
    Refusal::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    ))
}

/// Where etcd keeps a kind.
fn registry(kind: &Kind) -> String {
    match kind.group {
        "" | "apps" | "rbac.authorization.k8s.io" => format!("/registry/{}/", kind.plural),
        "events.k8s.io" => "/registry/events/".into(),
        "coordination.k8s.io" => "/registry/leases/".into(),
        group => format!("/registry/{group}/{}/", kind.plural),
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7386>
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            remove(target, &key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// A write that changes nothing but when somebody last wrote changes nothing.
fn keep_times(new: &mut Value, old: &Value) {
    let books = |object: &Value| object["metadata"]["managedFields"].as_array().cloned();
    let (Some(ours), Some(theirs)) = (books(new), books(old)) else {
        return;
    };
    let without_time = |entries: &[Value]| -> Vec<Value> {
        let mut entries = entries.to_vec();
        for entry in &mut entries {
            remove(entry, "time");
        }
        entries
    };
    if ours == theirs || without_time(&ours) != without_time(&theirs) {
        return;
    }
    let mut kept = new.clone();
    kept["metadata"]["managedFields"] = theirs.into();
    if kept == *old {
        *new = kept;
    }
}
