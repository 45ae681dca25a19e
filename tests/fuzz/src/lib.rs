//! What must hold whatever comes in. Each module has one function `check`, which panics if it does
//! not: a fuzzer calls it with millions of inputs, a test with those that are kept in `corpus`.

#![allow(clippy::missing_panics_doc, reason = "to panic is what they are for")]

mod answers;
pub mod arm;
pub mod assertion;
pub mod connections;
#[path = "../../plan/given.rs"]
#[allow(dead_code, reason = "what tests of the plan need beside")]
mod given;
pub mod graph;
pub mod object;
pub mod resource_id;
mod schema;
pub mod sign_in;
mod world;

/// Takes any input.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Check); 7] = [
    ("arm", arm::check),
    ("assertion", assertion::check),
    ("connections", connections::check),
    ("graph", graph::check),
    ("object", object::check),
    ("resource_id", resource_id::check),
    ("sign_in", sign_in::check),
];
