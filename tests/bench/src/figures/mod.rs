//! What is measured, a file for each.

pub mod account;
pub mod by_hand;
pub mod cold;
pub mod growth;
pub mod latency;
pub mod rest;
pub mod rounds;
pub mod shapes;
pub mod throttle;
