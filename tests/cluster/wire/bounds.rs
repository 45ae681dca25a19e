//! How many requests may meet a fault while it lasts, which is some half a minute.

/// 0.5, 1, 2 and 4 seconds and more lie between, and what creates an object looks at it a few times.
pub const BACKOFF: usize = 10;
/// The same, and each waits for six seconds before.
pub const HANGS: usize = 6;
/// 5 and 10 seconds and more.
pub const SLOW: usize = 4;
/// What is told of a list that does not end, and how many pages of it are read in one look.
pub const ENDLESS: &str = "does not end";
pub const ENDLESS_PAGES: usize = 50;
pub const PAGES: usize = SLOW * ENDLESS_PAGES;
/// For twenty seconds, with pauses that grow to five; and then again from the start.
pub const BUSY: usize = 26;
/// Four seconds and more lie between.
pub const PACED: usize = 8;
/// As often as Entra says, for half a minute.
pub const ASKED: usize = 36;
/// As Azure says twice, and then four seconds and more lie between.
pub const ASKED_TWICE: usize = 10;
/// It was done: what is looked at again is there.
pub const ONCE: usize = 1;
