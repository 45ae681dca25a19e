//! Stands in for Azure in tests and demos: the part of Azure Resource Manager
//! that holds managed identities, the part of Microsoft Graph that holds
//! applications, and the part of Entra that exchanges a `ServiceAccount` token
//! for an access token. See the crate's README.

#![allow(
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "for this project's tests"
)]

mod admin;
pub mod app;
mod application;
mod arm;
mod arm_error;
pub mod assertion;
pub mod bearer;
mod entra;
mod faults;
pub mod gateway;
mod graph;
pub mod identity;
pub mod issuers;
mod journal;
pub mod oauth_error;
mod paging;
mod resource_id;
mod route;
pub mod seed;
pub mod settings;
pub mod store;
mod throttle;
pub mod tls;
mod validation;
