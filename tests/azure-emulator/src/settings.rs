//! What can be set at start by flags, and later through `/admin/config`.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings in force.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Answer 429 beyond the request limits that Microsoft documents per resource.
    #[arg(long)]
    pub throttle: bool,
    /// Time every answer takes.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub latency_ms: u64,
    /// Time a write of a federated credential takes on top, in which the
    /// identity refuses other such writes.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub write_window_ms: u64,
    /// Time until the token endpoint knows a new or changed federated credential.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub propagation_ms: u64,
    /// Most items in one page of a list.
    #[arg(long, value_name = "N", default_value = "100")]
    pub page_size: NonZeroUsize,
}

impl Settings {
    /// Time every answer takes.
    pub fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms)
    }

    /// Time for which a write of a federated credential is in flight.
    pub fn write_time(&self) -> Duration {
        self.latency() + Duration::from_millis(self.write_window_ms)
    }

    /// Time until the token endpoint knows a credential.
    pub fn propagation(&self) -> Duration {
        Duration::from_millis(self.propagation_ms)
    }

    /// Takes over the values that are present.
    pub fn apply(&mut self, change: &SettingsChange) {
        self.throttle = change.throttle.unwrap_or(self.throttle);
        self.latency_ms = change.latency_ms.unwrap_or(self.latency_ms);
        self.write_window_ms = change.write_window_ms.unwrap_or(self.write_window_ms);
        self.propagation_ms = change.propagation_ms.unwrap_or(self.propagation_ms);
        self.page_size = change.page_size.unwrap_or(self.page_size);
    }
}

/// A partial change of the settings; an unknown field is an error, so that a typo shows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingsChange {
    /// See [`Settings::throttle`].
    pub throttle: Option<bool>,
    latency_ms: Option<u64>,
    write_window_ms: Option<u64>,
    propagation_ms: Option<u64>,
    page_size: Option<NonZeroUsize>,
}
