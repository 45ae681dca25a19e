//! The Kubernetes operator that makes Airflow on Azure passwordless.
//!
//! Data flows one way, and each arrow is one function:
//!
//! ```text
//! watch → observe → Snapshot → plan → Plan → apply → Outcome → status
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`api`] | the custom resources, as users write and read them |
//! | [`model`] | parsed vocabulary: resource IDs, issuers, subjects, federated credentials |
//! | [`azure`] | the clients for Resource Manager and Microsoft Graph, and the owner of each identity; knows nothing of Kubernetes |
//! | [`grant`] | who may federate what |
//! | [`secrets`] | which Secrets an object asks for |
//! | [`pods`] | what a pod must have, and what it lacks |
//! | [`issuers`] | the issuers that the cluster has had |
//! | [`exchange`] | why Entra takes no token of an account |
//! | [`problem`] | what stands in the way, and when it is worth another try |
//! | [`observe`] | reads the cluster and Azure; never writes |
//! | [`plan`] | pure: what has to be done, and what stands in the way |
//! | [`apply`] | the effects, one result per step |
//! | [`status`] | pure: what the user reads |
//! | [`controller`] | watches, retries, and the loop around all of that |
//! | [`client`] | how the API server is asked |
//! | [`mandate`] | whether this process may write |
//! | [`leader`] | which of several replicas works |
//! | [`health`] | whether this process is ready, and alive |
//! | [`metrics`] | what is measured by looking |
//! | [`operator`] | all of that, put together |
//! | [`serve`] | metrics and probes over HTTP |
//! | [`cli`] | the `awi` command |

#![warn(missing_docs)]

pub mod api;
pub mod apply;
pub mod azure;
pub mod cli;
pub mod client;
pub mod controller;
pub mod exchange;
pub mod grant;
pub mod health;
pub mod issuers;
pub mod leader;
pub mod mandate;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod operator;
pub mod plan;
pub mod pods;
pub mod problem;
pub mod secrets;
pub mod serve;
pub mod status;
