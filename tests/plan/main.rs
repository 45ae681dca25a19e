//! Given what is observed, what is planned, and what the user then reads.

mod given;

mod accounts;
mod connections;
mod credentials;
mod discovery;
mod grants;
mod invariants;
mod issuers;
mod removal;
mod status;
