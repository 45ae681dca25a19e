//! Microsoft Graph: applications and their federated credentials.
//! <https://learn.microsoft.com/graph/api/resources/federatedidentitycredential>

use std::time::Instant;

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::application::{Application, Change, CredentialKey, not_found};
use crate::arm_error::ArmError;
use crate::bearer::Caller;

/// What a path below `/v1.0` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphRoute {
    /// `/applications`
    Applications,
    /// One application.
    Application(ApplicationKey),
    /// The credentials of an application.
    Credentials(ApplicationKey),
    /// One credential.
    Credential(ApplicationKey, CredentialKey),
}

/// How a path names an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplicationKey {
    /// `/applications/{id}`
    Id(String),
    /// `/applications(appId='{appId}')`
    AppId(String),
}

const CREDENTIALS: &str = "federatedIdentityCredentials";

impl GraphRoute {
    /// Reads the segments after `/v1.0`.
    pub fn parse(segments: &[&str]) -> Option<Self> {
        let (application, rest) = match segments {
            ["applications"] => return Some(Self::Applications),
            ["applications", id, rest @ ..] => (ApplicationKey::Id((*id).to_owned()), rest),
            [first, rest @ ..] => {
                let key = keyed(first, "applications", "appId")?;
                (ApplicationKey::AppId(key), rest)
            }
            [] => return None,
        };
        match rest {
            [] => Some(Self::Application(application)),
            [kind] if *kind == CREDENTIALS => Some(Self::Credentials(application)),
            [kind, id] if *kind == CREDENTIALS => Some(Self::Credential(
                application,
                CredentialKey::Id((*id).to_owned()),
            )),
            [one] => {
                let name = keyed(one, CREDENTIALS, "name")?;
                Some(Self::Credential(application, CredentialKey::Name(name)))
            }
            _ => None,
        }
    }

    /// Name of the operation, for the journal and for faults.
    pub fn operation(&self, method: &Method) -> String {
        let verb = method.as_str().to_ascii_lowercase();
        match self {
            Self::Applications | Self::Application(_) => format!("application.{verb}"),
            Self::Credentials(_) if method == Method::GET => "applicationCredential.list".into(),
            Self::Credentials(_) | Self::Credential(..) => format!("applicationCredential.{verb}"),
        }
    }
}

/// The value in `word(key='value')`.
fn keyed(segment: &str, word: &str, key: &str) -> Option<String> {
    segment
        .strip_prefix(word)?
        .strip_prefix('(')?
        .strip_prefix(key)?
        .strip_prefix("='")?
        .strip_suffix("')")
        .filter(|value| !value.contains('\''))
        .map(str::to_owned)
}

/// A request to Graph from a caller whose token was accepted.
pub struct GraphRequest<'a> {
    /// HTTP method.
    pub method: &'a Method,
    /// What the path names.
    pub route: &'a GraphRoute,
    /// The header `Prefer`.
    pub prefer: Option<&'a str>,
    /// Body.
    pub body: &'a [u8],
    /// Who asks.
    pub caller: &'a Caller,
    /// Arrival.
    pub now: Instant,
}

impl GraphRequest<'_> {
    /// Carries out the request.
    pub fn answer(&self, app: &App) -> Result<Response, ArmError> {
        match (self.route, self.method) {
            (GraphRoute::Applications, &Method::POST) => self.create_application(app),
            (GraphRoute::Application(key), &Method::GET) => {
                self.with(app, key, |application| Ok(ok(application.resource())))
            }
            (GraphRoute::Application(key), &Method::DELETE) => {
                let id = self.with(app, key, |application| Ok(application.id))?;
                app.store().delete_application(id);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            (GraphRoute::Credentials(key), &Method::GET) => self.with(app, key, |application| {
                Ok(ok(json!({ "value": application.credentials() })))
            }),
            (GraphRoute::Credentials(key), &Method::POST) => self.create(app, key),
            (GraphRoute::Credential(key, credential), &Method::GET) => {
                self.with(app, key, |application| {
                    application.credential(credential).map(ok)
                })
            }
            (GraphRoute::Credential(key, credential), &Method::PATCH) => {
                self.patch(app, key, credential)
            }
            (GraphRoute::Credential(key, credential), &Method::DELETE) => {
                self.with(app, key, |application| {
                    application.delete(credential)?;
                    Ok(StatusCode::NO_CONTENT.into_response())
                })
            }
            _ => Err(ArmError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "Request_BadRequest",
                "Specified HTTP method is not allowed for the request target.",
            )),
        }
    }

    fn create_application(&self, app: &App) -> Result<Response, ArmError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            display_name: String,
        }
        let Body { display_name } = self.json()?;
        let application = Application::new(display_name, self.caller.tenant);
        let resource = application.resource();
        app.store().insert_application(application);
        Ok((StatusCode::CREATED, Json(resource)).into_response())
    }

    fn create(&self, app: &App, key: &ApplicationKey) -> Result<Response, ArmError> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            name: String,
            #[serde(flatten)]
            change: Change,
        }
        let Body { name, change } = self.json()?;
        self.with(app, key, |application| {
            let created = application.create(&name, change, self.now)?;
            Ok((StatusCode::CREATED, Json(created)).into_response())
        })
    }

    /// Update; or, if the client prefers that and names it, creation.
    fn patch(
        &self,
        app: &App,
        key: &ApplicationKey,
        credential: &CredentialKey,
    ) -> Result<Response, ArmError> {
        let change: Change = self.json()?;
        let creates = self.prefer.is_some_and(|prefer| {
            prefer
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case("create-if-missing"))
        });
        self.with(app, key, |application| match credential {
            CredentialKey::Name(name) if creates && application.credential(credential).is_err() => {
                let created = application.create(name, change, self.now)?;
                Ok((StatusCode::CREATED, Json(created)).into_response())
            }
            _ => {
                application.update(credential, change, self.now)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
        })
    }

    fn with<T>(
        &self,
        app: &App,
        key: &ApplicationKey,
        act: impl FnOnce(&mut Application) -> Result<T, ArmError>,
    ) -> Result<T, ArmError> {
        let mut store = app.store();
        let found = store.applications_mut().find(|application| match key {
            ApplicationKey::Id(id) => application.id.to_string() == id.to_ascii_lowercase(),
            ApplicationKey::AppId(id) => application.app_id.to_string() == id.to_ascii_lowercase(),
        });
        act(found
            .filter(|application| application.caller.tenant == self.caller.tenant)
            .ok_or_else(not_found)?)
    }

    fn json<'b, T: Deserialize<'b>>(&'b self) -> Result<T, ArmError> {
        serde_json::from_slice(self.body).map_err(ArmError::invalid_content)
    }
}

fn ok(resource: Value) -> Response {
    Json(resource).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_applications_and_credentials_by_id_or_key() {
        let by_id = || ApplicationKey::Id("1".into());
        let by_app = || ApplicationKey::AppId("2".into());
        let table: [(&[&str], Option<GraphRoute>); 8] = [
            (&["applications"], Some(GraphRoute::Applications)),
            (
                &["applications", "1"],
                Some(GraphRoute::Application(by_id())),
            ),
            (
                &["applications(appId='2')"],
                Some(GraphRoute::Application(by_app())),
            ),
            (
                &["applications(appId='2')", CREDENTIALS],
                Some(GraphRoute::Credentials(by_app())),
            ),
            (
                &[
                    "applications",
                    "1",
                    "federatedIdentityCredentials(name='fic')",
                ],
                Some(GraphRoute::Credential(
                    by_id(),
                    CredentialKey::Name("fic".into()),
                )),
            ),
            (
                &["applications", "1", CREDENTIALS, "3"],
                Some(GraphRoute::Credential(
                    by_id(),
                    CredentialKey::Id("3".into()),
                )),
            ),
            (&["applications(appId='2'x')"], None),
            (&["servicePrincipals", "1"], None),
        ];
        for (segments, route) in table {
            assert_eq!(GraphRoute::parse(segments), route, "{segments:?}");
        }
    }
}
