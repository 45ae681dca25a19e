//! Given what is observed, what is planned, and what the user then reads.

#![allow(clippy::too_many_lines, reason = "tables")]

mod given;

mod annotations;
mod applications;
mod connections;
mod credentials;
mod discovery;
mod doctor;
mod exchange;
mod grants;
mod init;
mod invariants;
mod issuers;
mod pods;
mod reader_role;
mod removal;
mod report;
mod sharing;
mod status;
mod unreadable;
