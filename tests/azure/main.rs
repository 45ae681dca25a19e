//! The client for Azure Resource Manager and the owner of each identity, against scripted answers.

mod arm;
mod client;
mod identities;
