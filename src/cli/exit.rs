//! The exit codes of the commands that look, for scripts.

use std::process::ExitCode;

/// What a command that looks found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing to do, and nothing wrong.
    Nothing,
    /// Something would change.
    Changes,
    /// Something stands in the way.
    Problems,
}

/// 1 is every command's own failure.
impl From<Found> for ExitCode {
    fn from(found: Found) -> Self {
        Self::from(match found {
            Found::Nothing => 0,
            Found::Changes => 2,
            Found::Problems => 3,
        })
    }
}
