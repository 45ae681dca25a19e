//! What differs from run to run in a process, made a function of the seed: the operating system's
//! randomness, on which the order of hash maps and all jitter rest, and the wall clock. Both are
//! C functions that the executable's own take the place of, as madsim does it.
//! <https://github.com/madsim-rs/madsim>

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

/// 2026-01-01T00:00:00Z, in seconds since 1970.
const EPOCH: u64 = 1_767_225_600;

thread_local! {
    /// None: the system's own. A thread of its own for each run, as the standard library asks
    /// only once per thread.
    static ENTROPY: RefCell<Option<fastrand::Rng>> = const { RefCell::new(None) };
    static CLOCK: Cell<Option<Clock>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    /// In milliseconds.
    skew: i64,
}

/// From now on this thread has no chance but the seed's. Before it has made any hash map.
pub fn seed(seed: u64) {
    ENTROPY.set(Some(fastrand::Rng::with_seed(seed)));
    // For libraries that use it with a generator of its own per thread.
    fastrand::seed(seed);
}

/// Hash maps of kube's stores: all in one order, whatever the seed. For the whole process, before the
/// first of them is made.
pub fn fix_stores() {
    struct Fixed;
    impl ahash::random_state::RandomSource for Fixed {
        fn gen_hasher_seed(&self) -> usize {
            1
        }
    }
    let _ = ahash::random_state::set_random_source(Fixed);
    // Its keys are drawn once per process.
    ENTROPY.set(Some(fastrand::Rng::with_seed(0)));
    let _ = ahash::RandomState::new();
    ENTROPY.set(None);
}

/// From now on this thread's wall clock goes with tokio's.
pub fn start_clock() {
    let start = Instant::now();
    CLOCK.set(Some(Clock { start, skew: 0 }));
}

/// Sets this thread's wall clock to another time.
pub fn jump(by_milliseconds: i64) {
    if let Some(clock) = CLOCK.get() {
        let skew = clock.skew + by_milliseconds;
        CLOCK.set(Some(Clock { skew, ..clock }));
    }
}

fn wall() -> Option<Duration> {
    let clock = CLOCK.get()?;
    let now = Duration::from_secs(EPOCH) + clock.start.elapsed();
    let skew = Duration::from_millis(clock.skew.unsigned_abs());
    Some(if clock.skew < 0 {
        now.saturating_sub(skew)
    } else {
        now + skew
    })
}

/// # Safety
/// `buffer` has room for `length` bytes: getrandom(2).
#[expect(unsafe_code, reason = "the C function's signature")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let seeded = ENTROPY.with_borrow_mut(|entropy| entropy.as_mut().map(|rng| rng.fill(bytes)));
    let filled = match seeded {
        Some(()) => Ok(length),
        None => rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty()),
    };
    filled.map_or(-1, |filled| filled.try_into().unwrap_or(-1))
}

/// # Safety
/// `time` points to a timespec: clock_gettime(2).
#[expect(unsafe_code, reason = "the C function's signature")]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: i32, time: *mut rustix::time::Timespec) -> i32 {
    use rustix::time::{ClockId, Timespec};
    let now = match (clock, wall()) {
        (0, Some(wall)) => Timespec {
            tv_sec: wall.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wall.subsec_nanos().into(),
        },
        (0, None) => rustix::time::clock_gettime(ClockId::Realtime),
        _ => rustix::time::clock_gettime(ClockId::Monotonic),
    };
    // SAFETY: the caller's promise.
    unsafe { time.write(now) };
    0
}
