//! Watches.

use http::{Method, Request};
use serde_json::Value;

use super::{
    ApiServer, core_event, kinds::Kind, read::object_bytes, refusal::Refusal, request::Target,
    selector::Selector, store::Change,
};

/// What a watch is for.
#[derive(Clone, Debug)]
pub struct Watch {
    kind: &'static Kind,
    selector: Selector,
    /// The plural of the kind.
    pub plural: &'static str,
    /// All namespaces, if there is none.
    pub namespace: Option<String>,
    /// Whether it wants nothing but metadata.
    pub metadata_only: bool,
    /// It knows what was until then. 0: it knows nothing.
    pub from: u64,
    /// Whether it takes bookmarks.
    pub bookmarks: bool,
}

/// What was asked for is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The event that says so, in a line of JSON. It is the watch's last.
    pub event: Vec<u8>,
}

impl ApiServer {
    /// If the request is a watch: what it is for. None also if it is refused: then [`Self::answer`]
    /// says why.
    #[must_use]
    pub fn watch(request: &Request<Vec<u8>>) -> Option<Watch> {
        let target = Target::of(request).ok()?;
        let query = &target.query;
        if !query.watch || request.method() != Method::GET || target.name.is_some() {
            return None;
        }
        Some(Watch {
            kind: target.kind,
            selector: Selector::read(target.kind, &query.labels, &query.fields).ok()?,
            plural: target.kind.plural,
            namespace: target.namespace.map(str::to_owned),
            metadata_only: target.metadata_only,
            from: query.version.parse().unwrap_or_default(),
            bookmarks: query.bookmarks,
        })
    }

    /// A watch's events after a version, and not beyond another, each a line of JSON with its
    /// version. After 0, they begin with all that is there.
    ///
    /// # Errors
    /// That version is forgotten.
    pub fn events(
        &self,
        watch: &Watch,
        after: u64,
        until: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, Expired> {
        if after == 0 {
            let until = until.min(self.version());
            let all = self
                .store
                .selected(watch.kind, watch.namespace.as_deref(), until);
            let all = all.values().filter(|object| watch.selects(object));
            return Ok(all
                .map(|object| (until, watch.line("ADDED", object)))
                .collect());
        }
        if after < self.store.compacted() {
            let newest = self.store.compacted();
            let message = format!("too old resource version: {after} ({newest})");
            let status = Refusal::expired(message).body();
            return Err(Expired {
                event: line("ERROR", status.to_string().as_bytes()),
            });
        }
        let changes = self.store.changes_after(after).iter();
        let changes = changes.take_while(|change| change.version <= until);
        Ok(changes
            .filter_map(|change| Some((change.version, watch.event(change)?)))
            .collect())
    }

    /// The bookmark that tells a watch that it knows all until a version; none if it takes none.
    #[must_use]
    pub fn bookmark(watch: &Watch, version: u64) -> Option<Vec<u8>> {
        let mut object = watch.kind.zero().clone();
        object["apiVersion"] = watch.kind.api_version().into();
        object["kind"] = watch.kind.kind.into();
        object["metadata"] = serde_json::json!({ "resourceVersion": version.to_string() });
        watch.bookmarks.then(|| watch.line("BOOKMARK", &object))
    }
}

impl Watch {
    /// What it makes of a change, if anything.
    fn event(&self, change: &Change) -> Option<Vec<u8>> {
        let is_here = self.namespace.is_none() || self.namespace == change.namespace;
        if change.store != self.kind.store || !is_here {
            return None;
        }
        let selected = |object: &Option<_>| -> bool {
            object
                .as_ref()
                .is_some_and(|object: &std::sync::Arc<Value>| self.selects(object))
        };
        match (selected(&change.before), selected(&change.after)) {
            (false, true) => Some(self.line("ADDED", change.after.as_deref()?)),
            (true, true) => Some(self.line("MODIFIED", change.after.as_deref()?)),
            (true, false) => {
                // As it was, with the version of its end.
                let mut last = change.before.as_deref()?.clone();
                last["metadata"]["resourceVersion"] = change.version.to_string().into();
                Some(self.line("DELETED", &last))
            }
            (false, false) => None,
        }
    }

    fn selects(&self, object: &Value) -> bool {
        self.selector.is_empty() || self.selector.matches(&core_event::view(self.kind, object))
    }

    fn line(&self, type_: &str, object: &Value) -> Vec<u8> {
        line(type_, &object_bytes(self.kind, self.metadata_only, object))
    }
}

fn line(type_: &str, object: &[u8]) -> Vec<u8> {
    let mut line = format!("{{\"type\":\"{type_}\",\"object\":").into_bytes();
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line
}
