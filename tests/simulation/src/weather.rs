//! How the network and both services behave: drawn from the seed, request by request.

use std::time::Duration;

use fastrand::Rng;

/// How likely it is that something happens to a request, in thousandths, and how long it is on its
/// way at most, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    trouble: u32,
    slow: u32,
    way: u64,
}

/// A long delay, in milliseconds.
const LONG: u64 = 6_000;
/// Trouble that writes get through, in thousandths.
const WORST: u32 = 500;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// On its way there.
    pub before: Duration,
    /// On the way back.
    pub after: Duration,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It arrives, and so does the answer.
    Passes,
    /// The connection breaks before it arrives.
    LostThere,
    /// It arrives, and the connection breaks before the answer does.
    LostBack,
    /// It arrives, and the answer never does.
    Silence,
    /// It arrives twice: somebody between repeats what was not answered.
    Twice,
    /// The service answers with this HTTP status and does nothing.
    Refused(u16, Option<u32>),
    /// It is carried out, and a gateway answers that it does not know.
    Doubted(u16),
}

impl Weather {
    /// Nothing happens, and nothing takes long.
    pub const CALM: Self = Self {
        trouble: 0,
        slow: 0,
        way: 6,
    };

    pub fn draw(rng: &mut Rng) -> Self {
        Self {
            trouble: [0, 10, 40, 120, 300][rng.usize(..5)],
            slow: [0, 10, 60][rng.usize(..3)],
            way: [5, 20, 200][rng.usize(..3)],
        }
    }

    /// The longest delay.
    pub fn longest(self) -> Duration {
        Duration::from_millis(if self.slow > 0 { LONG } else { self.way })
    }

    /// A delay, now and then a long one.
    pub fn delay(self, rng: &mut Rng) -> Duration {
        let most = if rng.u32(..1000) < self.slow {
            LONG
        } else {
            self.way
        };
        Duration::from_millis(rng.u64(1..=most))
    }

    /// Of a request: writes are few, and fare worse.
    pub fn fate(self, rng: &mut Rng, is_write: bool) -> Fate {
        let trouble = if is_write {
            (self.trouble * 4).min(WORST)
        } else {
            self.trouble
        };
        let what = if rng.u32(..1000) < trouble {
            let status = [429, 500, 502, 503][rng.usize(..4)];
            match rng.u32(..8) {
                0 => What::LostThere,
                1 => What::LostBack,
                2 => What::Silence,
                3 => What::Twice,
                4 => What::Doubted(504),
                5 => What::Refused(409, None),
                6 => What::Refused(status, Some(rng.u32(1..20))),
                _ => What::Refused(status, None),
            }
        } else {
            What::Passes
        };
        Fate {
            before: self.delay(rng),
            after: self.delay(rng),
            what,
        }
    }

    /// Whether a watch breaks before its next event.
    pub fn breaks_watch(self, rng: &mut Rng) -> bool {
        rng.u32(..1000) < self.trouble / 2
    }
}
