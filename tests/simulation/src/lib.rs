//! The operator against a Kubernetes and an Azure in memory, with virtual time.

pub mod api_server;
