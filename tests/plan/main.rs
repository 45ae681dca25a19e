//! Given what is observed, what is planned, and what the user then reads.

mod given;

mod annotations;
mod applications;
mod connections;
mod credentials;
mod discovery;
mod doctor;
mod grants;
mod init;
mod invariants;
mod issuers;
mod pods;
mod reader_role;
mod removal;
mod report;
mod status;
