//! The operator against a Kubernetes and an Azure in memory, with virtual time: one seed decides
//! everything that happens, so that what fails once fails again.

pub mod api_server;
mod azure;
mod chance;
mod cluster;
mod entra;
mod met;
mod names;
mod operators;
mod people;
mod rest;
mod rules;
mod run;
mod weather;
mod world;

pub use met::{Event, Met};
pub use run::{Failure, Report, prepare, run};
