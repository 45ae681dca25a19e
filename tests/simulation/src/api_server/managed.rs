//! The book of who manages which fields: `metadata.managedFields`.

use serde_json::{Value, json};

use super::{
    fields::Fields,
    kinds::Kind,
    merge::{compare, fields_of, merge, without},
    refusal::Refusal,
};

/// What all writes of one request have in common.
pub(super) struct Writer<'a> {
    pub kind: &'static Kind,
    pub subresource: Option<&'a str>,
    pub manager: &'a str,
    /// As it is written down, to the second.
    pub now: &'a str,
}

/// What one manager manages by one operation.
#[derive(Clone, Debug)]
struct Entry {
    manager: String,
    applies: bool,
    version: String,
    subresource: String,
    time: Option<String>,
    fields: Fields,
}

impl Entry {
    fn read(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let applies = match json["operation"].as_str()? {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        Some(Self {
            manager: text("manager"),
            applies,
            version: text("apiVersion"),
            subresource: text("subresource"),
            time: json["time"].as_str().map(str::to_owned),
            fields: Fields::from_json(&json["fieldsV1"]),
        })
    }

    fn written(&self) -> Value {
        let mut json = json!({
            "apiVersion": self.version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json(),
            "manager": self.manager,
            "operation": if self.applies { "Apply" } else { "Update" },
        });
        if !self.subresource.is_empty() {
            json["subresource"] = self.subresource.as_str().into();
        }
        if let Some(time) = &self.time {
            json["time"] = time.as_str().into();
        }
        json
    }

    /// Its name in messages.
    fn named(&self) -> String {
        let mut name = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            name = format!("{name} with subresource {:?}", self.subresource);
        }
        if self.applies {
            return name;
        }
        format!("{name} using {}", self.version)
    }
}

fn read(object: &Value) -> Vec<Entry> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries: Option<Vec<Entry>> = entries.into_iter().flatten().map(Entry::read).collect();
    entries.unwrap_or_default()
}

fn write(object: &mut Value, mut entries: Vec<Entry>) {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    entries.sort_by(|a, b| {
        (b.applies.cmp(&a.applies))
            .then_with(|| a.time.cmp(&b.time))
            .then_with(|| a.manager.cmp(&b.manager))
            .then_with(|| a.version.cmp(&b.version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    let entries = entries.iter().map(Entry::written).collect();
    metadata.insert("managedFields".into(), entries);
}

impl Writer<'_> {
    /// Books what a create, an update or a patch changes.
    pub fn update(&self, live: &Value, new: &mut Value) {
        let mut entries = match &new["metadata"]["managedFields"] {
            _ if self.subresource.is_some() => read(live),
            Value::Array(given) if given.is_empty() || *given == [json!({})] => Vec::new(),
            Value::Array(_) => {
                let given = read(new);
                if given.is_empty() { read(live) } else { given }
            }
            _ => read(live),
        };
        if let Some(metadata) = new["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        // Once nobody is known to manage anything, it is not known who manages what is new.
        if entries.is_empty() && live["metadata"].get("uid").is_some() {
            return;
        }
        let mut difference = compare(self.kind.schema(), live, new);
        self.leave_out(&mut difference.removed);
        self.leave_out(&mut difference.modified);
        self.leave_out(&mut difference.added);
        let mut mine = difference.modified;
        mine.union(&difference.added);
        for entry in &mut entries {
            entry.fields.subtract(&mine);
            entry.fields.subtract(&difference.removed);
        }
        strip(&mut mine);
        if !mine.is_empty() {
            let version = self.kind.api_version();
            let subresource = self.subresource.unwrap_or_default();
            let is_mine = |entry: &Entry| {
                !entry.applies
                    && entry.manager == self.manager
                    && entry.version == version
                    && entry.subresource == subresource
            };
            let before = entries.iter().position(is_mine);
            if let Some(before) = before {
                mine.union(&entries.swap_remove(before).fields);
            }
            entries.push(Entry {
                manager: self.manager.to_owned(),
                applies: false,
                version,
                subresource: subresource.to_owned(),
                time: Some(self.now.to_owned()),
                fields: mine,
            });
        }
        entries.retain(|entry| !entry.fields.is_empty());
        write(new, entries);
    }

    /// An object whose managers nobody knows, with all that is in it booked on one that stands for them.
    fn before_first_apply(&self, live: &Value) -> Option<Value> {
        let metadata = &live["metadata"];
        if metadata.get("managedFields").is_some() || metadata.get("uid").is_none() {
            return None;
        }
        let mut booked = live.clone();
        let before = Self {
            manager: "before-first-apply",
            ..*self
        };
        before.update(self.kind.zero(), &mut booked);
        Some(booked)
    }

    /// The live object with the configuration applied to it.
    pub fn apply(&self, live: &Value, applied: &Value, force: bool) -> Result<Value, Refusal> {
        let schema = self.kind.schema();
        let first = self.before_first_apply(live);
        let live = first.as_ref().unwrap_or(live);
        let mut entries = read(live);
        let subresource = self.subresource.unwrap_or_default();
        let is_mine = |entry: &Entry| {
            entry.applies && entry.manager == self.manager && entry.subresource == subresource
        };
        let mut live = live.clone();
        if let Some(metadata) = live["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        drop_nulls(&mut live);
        let merged = merge(schema, &live, applied);
        let mut mine = fields_of(schema, applied);
        self.leave_out(&mut mine);
        let last = entries
            .iter()
            .position(is_mine)
            .map(|before| entries.swap_remove(before));
        let mut new = match &last {
            Some(last) if !last.fields.is_empty() => {
                let others = entries.iter().map(|entry| &entry.fields);
                self.pruned(&merged, &last.fields, &mine, others)
            }
            _ => merged,
        };
        let mut difference = compare(schema, &live, &new);
        self.leave_out(&mut difference.removed);
        self.leave_out(&mut difference.modified);
        self.leave_out(&mut difference.added);
        let is_same = new == live;
        drop_nulls(&mut new);
        let mut taken = difference.modified;
        taken.union(&difference.added);
        let mut conflicts = Vec::new();
        for entry in &mut entries {
            let mut both = entry.fields.clone();
            both.intersect(&taken);
            let name = entry.named();
            conflicts.extend(both.paths().into_iter().map(|path| (name.clone(), path)));
            entry.fields.subtract(&both);
            entry.fields.subtract(&difference.removed);
        }
        if !force && !conflicts.is_empty() {
            return Err(Refusal::owned_by_others(&conflicts));
        }
        strip(&mut mine);
        let time = if is_same {
            last.and_then(|last| last.time)
        } else {
            Some(self.now.to_owned())
        };
        entries.push(Entry {
            manager: self.manager.to_owned(),
            applies: true,
            version: self.kind.api_version(),
            subresource: subresource.to_owned(),
            time,
            fields: mine,
        });
        entries.retain(|entry| !entry.fields.is_empty());
        write(&mut new, entries);
        Ok(new)
    }

    /// Without what was applied last time, is not any longer, and is nobody else's.
    fn pruned<'a>(
        &self,
        merged: &Value,
        last: &Fields,
        mine: &Fields,
        others: impl Iterator<Item = &'a Fields>,
    ) -> Value {
        let schema = self.kind.schema();
        let named = |mut fields: Fields| {
            fields.name_parents(schema);
            fields
        };
        let last = named(last.clone());
        let all = named(fields_of(schema, merged));
        let kept = |value: &Value| named(fields_of(schema, value));

        // What others own is put back.
        let mut owned = mine.clone();
        others.for_each(|fields| owned.union(fields));
        let mut gone = all.clone();
        gone.subtract(&kept(&without(schema, merged, &last)));
        gone.subtract(&named(owned));
        let pruned = without(schema, merged, &gone);

        // And what was below something that was applied, but not itself.
        let mut gone = all;
        gone.subtract(&kept(&pruned));
        gone.intersect(&last);
        without(schema, merged, &gone)
    }

    /// What this endpoint does not write.
    fn leave_out(&self, fields: &mut Fields) {
        if fields.is_empty() {
            return;
        }
        let kind = self.kind;
        match self.subresource {
            None if kind.has_status => fields.cut(&["status"]),
            Some("status") if kind.custom => {
                fields.cut(&["metadata"]);
                fields.cut(&["spec"]);
            }
            Some("status") => {
                fields.cut(&["spec"]);
                match kind.plural {
                    "pods" => {
                        fields.cut(&["metadata", "deletionTimestamp"]);
                        fields.cut(&["metadata", "ownerReferences"]);
                    }
                    "deployments" => fields.cut(&["metadata", "labels"]),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// What nobody manages.
fn strip(fields: &mut Fields) {
    for path in [&["apiVersion"], &["kind"], &["metadata"]] {
        fields.drop_member(path);
    }
    for field in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        fields.drop_member(&["metadata", field]);
    }
}

/// What is null is not there.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
