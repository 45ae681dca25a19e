//! The operator as users run it: the binary, on the real API server, against the Azure emulator.

#![allow(clippy::too_many_lines, reason = "tables")]

mod heard;
mod world;

mod airflow;
mod applications;
mod az;
mod bad_input;
mod chart;
mod conflicts;
mod conformance;
mod cost;
mod crowd;
mod deploy;
mod doctor;
mod drift;
mod exchange;
mod gitops;
mod init;
mod installs;
mod issuer;
mod leader;
mod lifecycle;
mod logs;
mod main_job;
mod metrics;
mod monitoring;
mod outage;
mod person;
mod plan;
mod pod_policy;
mod pods;
mod probes;
mod schema;
mod secrets;
mod shutdown;
mod sign_in;
mod steady_state;
mod tenancy;
mod traces;
mod transitions;
mod unreadable;
mod wire;
