//! The client for Azure Resource Manager and Microsoft Graph, and the owner of each identity, against scripted answers.

mod arm;
mod client;
mod graph;
mod identities;
mod sign_in;
