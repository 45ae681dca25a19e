//! Given what is observed, what is planned, and what the user then reads.

mod given;

mod annotations;
mod applications;
mod connections;
mod credentials;
mod discovery;
mod exchange;
mod grants;
mod invariants;
mod issuers;
mod reader_role;
mod removal;
mod status;
