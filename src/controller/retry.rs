//! When an object gets its next pass.

use std::time::Duration;

use crate::problem::{Problem, Retry};

/// The time until the next pass. `attempts` counts the passes with problems before this one;
/// `jitter` is between 0 and 1 and keeps objects from coming all at once.
#[must_use]
pub fn delay(problems: &[Problem], attempts: u32, resync: Duration, jitter: f64) -> Duration {
    let spread = |delay: Duration, by: f64| delay.mul_f64(1.0 + by * jitter);
    let resync = spread(resync, 0.1);
    problems
        .iter()
        .filter_map(|problem| {
            let by = match problem.retry {
                Retry::After(_) => 0.1,
                Retry::OnChange | Retry::Slow | Retry::Backoff => 0.5,
            };
            Some(spread(problem.retry.wait(attempts)?, by))
        })
        .fold(resync, Duration::min)
}

/// Passes that may write something, shortly after one another, before it looks as if somebody
/// undid it again and again; a new object with everything to do needs two or three.
const CALM: u32 = 8;

/// How long an object rests after so many passes that wrote something: whoever undoes what we
/// write, we never fight at full speed.
#[must_use]
pub fn rest(writes: u32) -> Duration {
    let beyond = writes.checked_sub(CALM).filter(|beyond| *beyond > 0);
    let wait = beyond.and_then(|beyond| Retry::Backoff.wait(beyond));
    wait.unwrap_or_default()
}

/// Whether the pass counts as an attempt that did not succeed.
#[must_use]
pub fn is_attempt(problems: &[Problem]) -> bool {
    problems
        .iter()
        .any(|problem| problem.retry != Retry::OnChange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;
    use proptest::prelude::*;

    const RESYNC: Duration = Duration::from_secs(300);

    fn problem(retry: Retry) -> Problem {
        Problem {
            reason: Reason::AzureUnavailable,
            message: String::new(),
            retry,
        }
    }

    #[test]
    fn the_most_urgent_problem_decides() {
        let table = [
            (vec![], 0, RESYNC),
            (vec![Retry::OnChange], 0, RESYNC),
            (vec![Retry::Slow], 0, Duration::from_secs(5)),
            (vec![Retry::Slow], 3, Duration::from_secs(40)),
            (vec![Retry::Backoff], 0, Duration::from_millis(500)),
            (vec![Retry::Backoff], 4, Duration::from_secs(8)),
            (vec![Retry::Backoff], 40, Duration::from_secs(30)),
            (
                vec![Retry::After(Duration::from_secs(17))],
                9,
                Duration::from_secs(17),
            ),
            (
                vec![Retry::Slow, Retry::Backoff, Retry::OnChange],
                0,
                Duration::from_millis(500),
            ),
        ];
        for (retries, attempts, expected) in table {
            let problems: Vec<_> = retries.iter().copied().map(problem).collect();
            assert_eq!(
                delay(&problems, attempts, RESYNC, 0.0),
                expected,
                "{retries:?} {attempts}"
            );
        }
    }

    #[test]
    fn what_waits_for_a_change_is_no_failed_attempt() {
        assert!(!is_attempt(&[]));
        assert!(!is_attempt(&[problem(Retry::OnChange)]));
        assert!(is_attempt(&[
            problem(Retry::OnChange),
            problem(Retry::Slow)
        ]));
    }

    #[test]
    fn a_fight_over_an_object_slows_down_and_honest_work_does_not() {
        assert_eq!(rest(0), Duration::ZERO);
        assert_eq!(rest(CALM), Duration::ZERO);
        assert_eq!(rest(CALM + 1), Duration::from_secs(1));
        assert_eq!(rest(CALM + 3), Duration::from_secs(4));
        assert_eq!(rest(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn jitter_only_ever_adds() {
        assert_eq!(delay(&[], 0, RESYNC, 1.0), Duration::from_secs(330));
        let backoff = delay(&[problem(Retry::Backoff)], 0, RESYNC, 1.0);
        assert_eq!(backoff, Duration::from_millis(750));
    }

    proptest! {
        #[test]
        fn there_is_always_a_next_pass_and_never_a_hot_loop(attempts: u32, jitter in 0.0..1.0f64, secs in 1u64..10_000) {
            let resync = Duration::from_secs(secs);
            for retry in [Retry::OnChange, Retry::Slow, Retry::Backoff] {
                let delay = delay(&[problem(retry)], attempts, resync, jitter);
                prop_assert!(delay >= Duration::from_millis(500).min(resync));
                prop_assert!(delay <= resync.mul_f64(1.1));
            }
        }
    }
}
