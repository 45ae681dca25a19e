//! The calls to Azure, counted and timed.

use std::{fmt, future::Future};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;
use tracing::Instrument;

use super::AzureError;

/// What is asked of Azure; the same words for Resource Manager and Graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    ReadIdentity,
    ListCredentials,
    PutCredential,
    DeleteCredential,
    ListPermissions,
    ExchangeToken,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ReadIdentity => "identity.get",
            Self::ListCredentials => "credentials.list",
            Self::PutCredential => "credential.put",
            Self::DeleteCredential => "credential.delete",
            Self::ListPermissions => "permissions.list",
            Self::ExchangeToken => "token.exchange",
        }
    }
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: Operation,
    /// The HTTP status, or `none`.
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    operation: Operation,
}

/// All calls of one client.
#[derive(Clone, Debug)]
pub struct Calls {
    total: Family<Answered, Counter>,
    duration: Family<Asked, Histogram, fn() -> Histogram>,
}

impl Default for Calls {
    fn default() -> Self {
        // From a near answer to one that takes as long as the default timeout allows.
        let buckets = || Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        Self {
            total: Family::default(),
            duration: Family::new_with_constructor(buckets),
        }
    }
}

impl Calls {
    /// Makes them part of what is measured.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "azure_requests",
            "Requests to Azure, by HTTP status; none if there was no answer",
            self.total.clone(),
        );
        registry.register_with_unit(
            "azure_request_duration",
            "How long requests to Azure took",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// Makes one call. It returns the HTTP status with what it brought.
    pub(super) async fn measure<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<(u16, T), AzureError>>,
    ) -> Result<T, AzureError> {
        let started = Instant::now();
        let span = tracing::debug_span!("azure", operation = operation.as_str());
        let result = call.instrument(span).await;
        let asked = Asked { operation };
        let duration = self.duration.get_or_create(&asked);
        duration.observe(started.elapsed().as_secs_f64());
        let code = match &result {
            Ok((status, _)) => Some(*status),
            Err(error) => error.status,
        };
        let code = code.map_or_else(|| "none".into(), |code| code.to_string());
        let answered = Answered { operation, code };
        self.total.get_or_create(&answered).inc();
        result.map(|(_, value)| value)
    }
}
