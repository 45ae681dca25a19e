//! What a request asks for.

use http::{Request, header};
use serde_json::Value;

use super::{
    kinds::{KINDS, Kind, NAMESPACES, kind_of},
    refusal::Refusal,
};

/// A request's path and query, understood.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub kind: &'static Kind,
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
    pub subresource: Option<&'a str>,
    pub query: Query,
    /// Whether only the metadata is asked for.
    pub metadata_only: bool,
}

/// The parameters that are known.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub labels: String,
    pub fields: String,
    pub limit: usize,
    pub continue_: String,
    pub version: String,
    pub version_match: String,
    pub manager: String,
    pub force: bool,
    pub watch: bool,
    pub bookmarks: bool,
    pub propagation: String,
    pub grace: Option<u64>,
}

impl Query {
    fn read(query: &str) -> Self {
        let mut read = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_true = || value == "true" || value == "1";
            match key.as_ref() {
                "labelSelector" => read.labels = value.into_owned(),
                "fieldSelector" => read.fields = value.into_owned(),
                "limit" => read.limit = value.parse().unwrap_or_default(),
                "continue" => read.continue_ = value.into_owned(),
                "resourceVersion" => read.version = value.into_owned(),
                "resourceVersionMatch" => read.version_match = value.into_owned(),
                "fieldManager" => read.manager = value.into_owned(),
                "force" => read.force = is_true(),
                "watch" => read.watch = is_true(),
                "allowWatchBookmarks" => read.bookmarks = is_true(),
                "propagationPolicy" => read.propagation = value.into_owned(),
                "gracePeriodSeconds" => read.grace = value.parse().ok(),
                _ => {}
            }
        }
        read
    }
}

impl<'a> Target<'a> {
    pub fn of(request: &'a Request<Vec<u8>>) -> Result<Self, Refusal> {
        let unknown = Refusal::unknown_path;
        let mut path = request
            .uri()
            .path()
            .split('/')
            .filter(|part| !part.is_empty());
        let (group, version) = match path.next() {
            Some("api") => ("", path.next().ok_or_else(unknown)?),
            Some("apis") => {
                let group = path.next().ok_or_else(unknown)?;
                (group, path.next().ok_or_else(unknown)?)
            }
            _ => return Err(unknown()),
        };
        let parts: Vec<&str> = path.collect();
        let plain = |plural: &str| kind_of(group, version, plural).ok_or_else(unknown);
        let (kind, namespace, rest) = match parts.as_slice() {
            ["namespaces", rest @ ..] if rest.len() < 2 && group.is_empty() => {
                (&KINDS[NAMESPACES], None, rest)
            }
            ["namespaces", _, "status" | "finalize"] if group.is_empty() => {
                (&KINDS[NAMESPACES], None, &parts[1..])
            }
            ["namespaces", namespace, plural, rest @ ..] => {
                let kind = plain(plural)?;
                if !kind.namespaced {
                    return Err(unknown());
                }
                (kind, Some(*namespace), rest)
            }
            [plural, rest @ ..] => {
                let kind = plain(plural)?;
                if kind.namespaced && !rest.is_empty() {
                    return Err(unknown());
                }
                (kind, None, rest)
            }
            [] => return Err(unknown()),
        };
        let accepted = request.headers().get(header::ACCEPT);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        Ok(Self {
            kind,
            namespace,
            name: rest.first().copied(),
            subresource: rest.get(1).copied(),
            query: Query::read(request.uri().query().unwrap_or_default()),
            metadata_only: accepted.is_some_and(|types| types.contains("as=PartialObjectMetadata")),
        })
    }
}

/// Who a request's changes are booked on, if it does not say.
pub(super) fn user_agent(request: &Request<Vec<u8>>) -> &str {
    let agent = request.headers().get(header::USER_AGENT);
    agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default()
}

/// A body's media type.
pub(super) fn content_type(request: &Request<Vec<u8>>) -> &str {
    let type_ = request.headers().get(header::CONTENT_TYPE);
    let type_ = type_
        .and_then(|type_| type_.to_str().ok())
        .unwrap_or_default();
    type_.split(';').next().unwrap_or_default().trim()
}

pub(super) fn json(request: &Request<Vec<u8>>) -> Result<Value, Refusal> {
    serde_json::from_slice(request.body()).map_err(|error| {
        Refusal::bad_request(format!("the body of the request is no JSON: {error}"))
    })
}
