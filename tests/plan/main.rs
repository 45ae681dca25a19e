//! Given what is observed, what is planned, and what the user then reads.

mod given;

mod accounts;
mod connections;
mod credentials;
mod grants;
mod invariants;
mod removal;
mod status;
