//! Azure Resource Manager: managed identities and their federated credentials.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use axum::Json;
use axum::http::uri::PathAndQuery;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::arm_error::ArmError;
use crate::bearer::Caller;
use crate::identity::Identity;
use crate::paging::{Page, PageRequest};
use crate::resource_id::IdentityId;
use crate::route::Route;
use crate::store::Written;
use crate::throttle::Kind;
use crate::validation;

/// Versions of the managed identity API with federated credentials that tools use today.
const API_VERSIONS: [&str; 5] = [
    "2023-01-31",
    "2024-11-30",
    "2025-01-31-preview",
    "2025-05-31-preview",
    "2026-05-31",
];

/// Versions of the part of `Microsoft.Authorization` that lists permissions.
const PERMISSION_VERSIONS: [&str; 3] = ["2015-07-01", "2018-07-01", "2022-04-01"];

/// A request to ARM from a caller whose token was accepted.
pub struct ArmRequest<'a> {
    /// HTTP method.
    pub method: &'a Method,
    /// Path and query.
    pub uri: &'a Uri,
    /// Decoded query.
    pub query: &'a HashMap<String, String>,
    /// What the path names.
    pub route: &'a Route,
    /// Body.
    pub body: &'a [u8],
    /// Who asks.
    pub caller: &'a Caller,
    /// URL of this server as the client wrote it.
    pub own_url: &'a str,
    /// Arrival.
    pub now: Instant,
}

impl ArmRequest<'_> {
    /// Carries out the request.
    pub fn answer(&self, app: &App) -> Result<Response, ArmError> {
        self.check_api_version()?;
        if app.settings().throttle {
            self.check_limits(app)?;
        }
        match self.route {
            Route::Subscriptions if self.method == Method::GET => Ok(self.subscriptions(app)),
            Route::Identities(scope) if self.method == Method::GET => {
                let page = self.page(app)?;
                Ok(self.list(app.store().identities(scope, &page)))
            }
            Route::Identity(id) => self.identity(app, id),
            Route::Credentials(id) if self.method == Method::GET => {
                let page = self.page(app)?;
                let page = app.store().credentials(id, &page)?;
                Ok(self.list(page))
            }
            Route::Credential(id, name) => self.credential(app, id, name),
            Route::Permissions(id) if self.method == Method::GET => {
                app.store().identity(id)?;
                Ok(ok(permissions()))
            }
            Route::Subscriptions
            | Route::Identities(_)
            | Route::Credentials(_)
            | Route::Permissions(_) => Err(self.method_not_allowed()),
            Route::CloudMetadata
            | Route::OpenIdConfiguration { .. }
            | Route::Token { .. }
            | Route::Graph(_)
            | Route::Unknown => Err(ArmError::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("This emulator has nothing at '{}'.", self.uri.path()),
            )),
        }
    }

    fn identity(&self, app: &App, id: &IdentityId) -> Result<Response, ArmError> {
        match *self.method {
            Method::GET => Ok(ok(app.store().identity(id)?.resource())),
            Method::PUT => self.put_identity(app, id),
            Method::PATCH => self.patch_identity(app, id),
            Method::DELETE => app.store().delete_identity(id).map(deleted),
            _ => Err(self.method_not_allowed()),
        }
    }

    fn put_identity(&self, app: &App, id: &IdentityId) -> Result<Response, ArmError> {
        #[derive(Deserialize)]
        struct Body {
            location: Option<String>,
            #[serde(default)]
            tags: BTreeMap<String, String>,
        }
        let body: Body = serde_json::from_slice(self.body).map_err(ArmError::invalid_content)?;
        let location = body.location.ok_or_else(|| {
            ArmError::new(
                StatusCode::BAD_REQUEST,
                "LocationRequired",
                "The location property is required for this definition.",
            )
        })?;
        let mut store = app.store();
        let written = if let Ok(identity) = store.identity_mut(id) {
            identity.tags = body.tags;
            Written::Updated
        } else {
            let mut identity = Identity::new(id.clone(), location, self.caller.tenant);
            identity.tags = body.tags;
            store.insert(identity);
            Written::Created
        };
        Ok(put(written, store.identity(id)?.resource()))
    }

    fn patch_identity(&self, app: &App, id: &IdentityId) -> Result<Response, ArmError> {
        #[derive(Deserialize)]
        struct Body {
            tags: Option<BTreeMap<String, String>>,
        }
        let body: Body = serde_json::from_slice(self.body).map_err(ArmError::invalid_content)?;
        let mut store = app.store();
        let identity = store.identity_mut(id)?;
        if let Some(tags) = body.tags {
            identity.tags = tags;
        }
        Ok(ok(identity.resource()))
    }

    fn credential(&self, app: &App, id: &IdentityId, name: &str) -> Result<Response, ArmError> {
        let busy = app.settings().write_time();
        match *self.method {
            Method::GET => app.store().credential(id, name).map(ok),
            Method::PUT => {
                validation::name(name)?;
                let trust = validation::body(self.body)?;
                let (written, resource) = app
                    .store()
                    .put_credential(id, name, trust, busy, self.now)?;
                Ok(put(written, resource))
            }
            Method::DELETE => app
                .store()
                .delete_credential(id, name, busy, self.now)
                .map(deleted),
            _ => Err(self.method_not_allowed()),
        }
    }

    fn subscriptions(&self, app: &App) -> Response {
        let subscriptions: Vec<Value> = app
            .store()
            .subscriptions()
            .into_iter()
            .filter(|(_, tenant)| *tenant == self.caller.tenant)
            .map(|(id, tenant)| {
                json!({
                    "id": format!("/subscriptions/{id}"),
                    "subscriptionId": id,
                    "tenantId": tenant,
                    "displayName": "Emulated",
                    "state": "Enabled",
                })
            })
            .collect();
        ok(json!({ "value": subscriptions }))
    }

    fn check_api_version(&self) -> Result<(), ArmError> {
        let version = self.query.get("api-version").ok_or_else(|| {
            ArmError::new(
                StatusCode::BAD_REQUEST,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        })?;
        let (provider, versions) = match self.route {
            // They belong to another provider, with versions of its own.
            Route::Subscriptions => return Ok(()),
            Route::Permissions(_) => ("Microsoft.Authorization", PERMISSION_VERSIONS.as_slice()),
            _ => ("Microsoft.ManagedIdentity", API_VERSIONS.as_slice()),
        };
        if versions.contains(&version.as_str()) {
            return Ok(());
        }
        Err(ArmError::new(
            StatusCode::BAD_REQUEST,
            "InvalidResourceType",
            format!(
                "The resource type could not be found in the namespace '{provider}' for api version '{version}'. \
                 The supported api-versions are '{}'.",
                versions.join(",")
            ),
        ))
    }

    /// Requests for credentials count against their identity: Microsoft's
    /// table names limits per resource, without saying what credentials count as.
    fn check_limits(&self, app: &App) -> Result<(), ArmError> {
        let (resource, is_list) = match self.route {
            Route::Identities(scope) => (scope.key(), true),
            Route::Credentials(id) => (id.key(), true),
            Route::Identity(id) | Route::Credential(id, _) => (id.key(), false),
            _ => return Ok(()),
        };
        let kind = match *self.method {
            Method::GET if is_list => Kind::List,
            Method::GET => Kind::Get,
            Method::DELETE => Kind::Delete,
            _ => Kind::Put,
        };
        app.throttle()
            .take(kind, resource, self.now)
            .map_err(ArmError::too_many_requests)
    }

    fn page(&self, app: &App) -> Result<PageRequest, ArmError> {
        let option = |name| self.query.get(name).map(String::as_str);
        PageRequest::new(
            option("$top"),
            option("$skiptoken"),
            app.settings().page_size,
        )
    }

    fn list(&self, page: Page<Value>) -> Response {
        let mut body = json!({ "value": page.items });
        if let Some(token) = page.next {
            body["nextLink"] = self.next_link(&token).into();
        }
        ok(body)
    }

    /// This request's URL with another `$skiptoken`.
    fn next_link(&self, token: &str) -> String {
        let path = self.uri.path_and_query().map_or("", PathAndQuery::path);
        let kept = self
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|option| {
                let name = option.split('=').next().unwrap_or_default();
                !matches!(name, "$skiptoken" | "%24skiptoken")
            });
        let token = format!("$skiptoken={token}");
        let query = kept.chain([token.as_str()]).collect::<Vec<_>>().join("&");
        format!("{}{path}?{query}", self.own_url)
    }

    fn method_not_allowed(&self) -> ArmError {
        ArmError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!(
                "The resource does not support the method '{}'.",
                self.method
            ),
        )
    }
}

/// Every identity may do everything here, as the role Owner has it.
fn permissions() -> Value {
    json!({ "value": [{ "actions": ["*"], "notActions": [], "dataActions": [], "notDataActions": [] }] })
}

fn ok(resource: Value) -> Response {
    Json(resource).into_response()
}

fn put(written: Written, resource: Value) -> Response {
    let status = match written {
        Written::Created => StatusCode::CREATED,
        Written::Updated => StatusCode::OK,
    };
    (status, Json(resource)).into_response()
}

fn deleted(existed: bool) -> Response {
    let status = if existed {
        StatusCode::OK
    } else {
        StatusCode::NO_CONTENT
    };
    status.into_response()
}
