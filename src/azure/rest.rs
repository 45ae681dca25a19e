//! Azure's REST APIs on `azure_core`'s pipeline: sign-in, errors, lists of many pages.

use std::{sync::Arc, time::Duration};

use azure_core::{
    credentials::TokenCredential,
    error::ErrorResponse,
    http::{
        ClientMethodOptions, Method, Pipeline, PipelineSendOptions, Request, Transport, Url,
        UserAgentOptions,
        headers::HeaderName,
        policies::{Policy, auth::BearerTokenAuthorizationPolicy},
    },
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    AzureError, AzureErrorKind, Cloud,
    calls::{Calls, Operation},
    credential,
    error::without_tokens,
};

const RETRY_AFTER: HeaderName = HeaderName::from_static("retry-after");
/// No answer of Azure's stops the work on an identity for longer than this, in seconds.
const LONGEST_WAIT: u64 = 300;
/// Azure allows 20 credentials; a list of more pages than this never ends.
const MAX_PAGES: usize = 50;

/// One API of one cloud, for one principal.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    endpoint: Url,
    pipeline: Pipeline,
    calls: Calls,
}

impl Rest {
    /// `scope` is that of the API's tokens.
    pub fn new(
        endpoint: &Url,
        scope: String,
        cloud: &Cloud,
        transport: &Transport,
        credential: Arc<dyn TokenCredential>,
        calls: Calls,
    ) -> Self {
        let auth: Arc<dyn Policy> =
            Arc::new(BearerTokenAuthorizationPolicy::new(credential, [scope]));
        let mut options = credential::options(cloud, transport);
        options.user_agent = UserAgentOptions {
            // At most 24 characters, or azure_core panics.
            application_id: Some("airflow-wi-operator".into()),
        };
        Self {
            endpoint: endpoint.clone(),
            pipeline: Pipeline::new(
                option_env!("CARGO_PKG_NAME"),
                option_env!("CARGO_PKG_VERSION"),
                options,
                Vec::new(),
                vec![auth],
                None,
            ),
            calls,
        }
    }

    /// The URL of a path of the API.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        url
    }

    pub async fn read<T: DeserializeOwned>(
        &self,
        operation: Operation,
        url: Url,
    ) -> Result<T, AzureError> {
        let request = Request::new(url, Method::Get);
        let body = self.send(operation, request).await?;
        parse(&body)
    }

    /// All pages of a list.
    pub async fn list<T: DeserializeOwned>(
        &self,
        operation: Operation,
        mut url: Url,
    ) -> Result<Vec<T>, AzureError> {
        let path = url.path().to_owned();
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let page: Page<T> = self.read(operation, url).await?;
            all.extend(page.value);
            match page.next_link.filter(|link| !link.is_empty()) {
                Some(link) => url = self.same_host(&link)?,
                None => return Ok(all),
            }
        }
        Err(AzureError::new(
            AzureErrorKind::Unexpected,
            format!("the list {path} does not end"),
        ))
    }

    /// Returns the body of an answer that says that it went well.
    pub async fn send(
        &self,
        operation: Operation,
        request: Request,
    ) -> Result<Vec<u8>, AzureError> {
        self.calls.measure(operation, self.answer(request)).await
    }

    async fn answer(&self, mut request: Request) -> Result<(u16, Vec<u8>), AzureError> {
        let options = PipelineSendOptions {
            skip_checks: true,
            ..PipelineSendOptions::default()
        };
        let context = ClientMethodOptions::default().context;
        let response = self
            .pipeline
            .send(&context, &mut request, Some(options))
            .await?;
        let status = response.status();
        let body = response.body().as_ref();
        if status.is_success() {
            return Ok((u16::from(status), body.to_vec()));
        }
        let detail = serde_json::from_slice::<ErrorResponse>(body)
            .ok()
            .and_then(|response| response.error);
        let (code, message) = detail.map(|d| (d.code, d.message)).unwrap_or_default();
        let code = without_tokens(&code.unwrap_or_default());
        let message = message.unwrap_or_else(|| status.canonical_reason().into_owned());
        let message = without_tokens(&message);
        Err(AzureError {
            kind: AzureErrorKind::of_response(u16::from(status), &code, &message),
            status: Some(u16::from(status)),
            code: Some(code),
            message,
            retry_after: response
                .headers()
                .get_optional_str(&RETRY_AFTER)
                .and_then(|value| value.parse().ok())
                .filter(|seconds| *seconds > 0)
                .map(|seconds: u64| Duration::from_secs(seconds.min(LONGEST_WAIT))),
        })
    }

    /// A link to the next page is followed as it stands, but a token never goes to another host.
    fn same_host(&self, link: &str) -> Result<Url, AzureError> {
        Url::parse(link)
            .ok()
            .filter(|url| url.origin() == self.endpoint.origin())
            .ok_or_else(|| {
                AzureError::new(
                    AzureErrorKind::Unexpected,
                    format!(
                        "the next page of a list is not at {}; not followed",
                        self.endpoint
                    ),
                )
            })
    }
}

#[derive(Deserialize)]
struct Page<T> {
    value: Vec<T>,
    /// Resource Manager's name of it, and Graph's.
    #[serde(rename = "nextLink", alias = "@odata.nextLink")]
    next_link: Option<String>,
}

/// The answer to a deletion has no body. One that has is not Azure's, and proves nothing.
pub(super) fn no_body(body: &[u8]) -> Result<(), AzureError> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    Err(AzureError::new(
        AzureErrorKind::Unavailable,
        "Azure's answer cannot be read: a deletion is answered without a body, and this has one",
    ))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, AzureError> {
    serde_json::from_slice(body).map_err(|error| {
        AzureError::new(
            AzureErrorKind::Unavailable,
            without_tokens(&format!("Azure's answer cannot be read: {error}")),
        )
    })
}
