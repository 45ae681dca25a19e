//! The real Kubernetes control plane, the Azure emulator and the operator as child processes.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use lab::{Lab, LabOptions};
//!
//! let lab = Lab::start(LabOptions::default()).await?;
//! println!("{}", lab.kubectl(&["get", "namespaces"]).await?);
//! # Ok(())
//! # }
//! ```

#![allow(clippy::missing_errors_doc, reason = "every error is a failed test")]

mod audit;
mod azure;
mod binaries;
mod control_plane;
mod emulator;
mod http;
pub mod identities;
mod kubeconfig;
mod lab;
mod manifest;
mod node;
mod operator;
mod outputs;
mod pki;
mod process;
pub mod proxy;
mod python;
mod reaper;
mod webhook;

pub use audit::{AuditEntry, parse_audit_log};
pub use azure::{Azure, Credential};
pub use binaries::{go_module, repository, tool, workspace_binary};
pub use emulator::{AzureRequest, Counts, Emulator, TokenAnswer};
pub use lab::{Lab, LabOptions};
pub use manifest::merge;
pub use node::Node;
pub use operator::{Operator, OperatorOptions};
pub use outputs::keep_output;
pub use process::tail;
pub use python::python;
pub use webhook::AzureWebhook;
