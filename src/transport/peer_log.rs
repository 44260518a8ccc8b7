//! Log lines that peers cause: bounded in number by a [`Throttle`], and in what they quote by an [`Excerpt`].

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most bytes of a value of a peer that one log line quotes.
pub(crate) const MAX_EXCERPT: usize = 256;

/// Text of a peer for a log line: quoted, with control and invisible characters escaped, and cut after [`MAX_EXCERPT`] bytes.
pub(crate) struct Excerpt<'a>(pub(crate) &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.floor_char_boundary(MAX_EXCERPT);
        write!(f, "{:?}", &self.0[..length])?;
        if length < self.0.len() {
            write!(f, " (the first {length} of {} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

/// Limit of the log lines of one kind: a burst, then so many a second. Lines beyond it are logged at debug level, and counted
/// until [`report`]. One for the process, whatever the number of servers and clients in it.
#[derive(Debug)]
pub(crate) struct Throttle {
    // Only a server reports.
    #[cfg_attr(not(feature = "server"), allow(dead_code))]
    what: &'static str,
    burst: u32,
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Lines that may be logged at once.
    left: u32,
    /// When `left` was brought up to date; None before the first line.
    since: Option<Instant>,
    suppressed: u64,
    registered: bool,
}

/// The throttles that ever suppressed a line: as many as the code has, at most.
static SUPPRESSING: Mutex<Vec<&'static Throttle>> = Mutex::new(Vec::new());

impl Throttle {
    /// A limit of 20 lines at once and 2 a second, for lines about `what`.
    pub(crate) const fn new(what: &'static str) -> Self {
        Self::with_rate(what, 20, 2)
    }

    pub(crate) const fn with_rate(what: &'static str, burst: u32, per_second: u32) -> Self {
        Self {
            what,
            burst,
            per_second,
            state: Mutex::new(State {
                left: burst,
                since: None,
                suppressed: 0,
                registered: false,
            }),
        }
    }

    /// Counts a line. True if it is within the limit.
    pub(crate) fn admit(&'static self) -> bool {
        let (admitted, first) = self.admit_at(Instant::now());
        if first {
            let mut all = SUPPRESSING.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(self);
        }
        admitted
    }

    /// Also true, second, for the first line that is not admitted.
    fn admit_at(&self, now: Instant) -> (bool, bool) {
        let mut state = self.lock();
        let since = *state.since.get_or_insert(now);
        let step = Duration::from_secs(1) / self.per_second;
        let earned = now.saturating_duration_since(since).as_nanos() / step.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if state.left.saturating_add(earned) >= self.burst {
            state.left = self.burst;
            state.since = Some(now);
        } else {
            state.left += earned;
            state.since = Some(since + step * earned);
        }
        if state.left > 0 {
            state.left -= 1;
            return (true, false);
        }
        state.suppressed += 1;
        let first = !std::mem::replace(&mut state.registered, true);
        (false, first)
    }

    #[cfg(any(feature = "server", test))]
    fn take_suppressed(&self) -> u64 {
        std::mem::take(&mut self.lock().suppressed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs how many lines of each kind were suppressed since the last report.
#[cfg(feature = "server")]
pub(crate) fn report() {
    let all = SUPPRESSING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for throttle in all {
        let suppressed = throttle.take_suppressed();
        if suppressed > 0 {
            tracing::info!(suppressed, of = throttle.what, "log lines suppressed");
        }
    }
}

/// An event at a level while its [`Throttle`] admits it, and at debug level beyond.
macro_rules! throttled {
    ($throttle:expr, $level:ident, $($event:tt)+) => {
        if $throttle.admit() {
            tracing::$level!($($event)+);
        } else {
            tracing::debug!($($event)+);
        }
    };
}
pub(crate) use throttled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_then_the_rate_and_the_rest_is_counted() {
        let throttle = Throttle::with_rate("tests", 5, 2);
        let start = Instant::now();
        let admitted = |at| {
            (0..10)
                .filter(|_| throttle.admit_at(start + Duration::from_millis(at)).0)
                .count()
        };
        assert_eq!(admitted(0), 5);
        assert_eq!(admitted(400), 0);
        assert_eq!(admitted(1100), 2);
        assert_eq!(admitted(1499), 0);
        assert_eq!(admitted(1500), 1);
        assert_eq!(admitted(100_000), 5);
        assert_eq!(throttle.take_suppressed(), 60 - 13);
        assert_eq!(throttle.take_suppressed(), 0);
        // A clock that went back earns nothing.
        assert_eq!(admitted(0), 0);
    }

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        let shown = |text: &str| Excerpt(text).to_string();
        assert_eq!(shown("plain é"), "\"plain é\"");
        assert_eq!(
            shown("a\nb\r\u{1b}[2J\u{9b}\0\u{7f}\"\u{202e}\u{2028}"),
            r#""a\nb\r\u{1b}[2J\u{9b}\0\u{7f}\"\u{202e}\u{2028}""#
        );
        let long = shown(&"é".repeat(10_000));
        assert_eq!(long.chars().filter(|c| *c == 'é').count(), MAX_EXCERPT / 2);
        assert!(long.ends_with(" (the first 256 of 20000 bytes)"), "{long}");
        // Not in the middle of a character.
        assert!(shown(&format!("x{}", "é".repeat(200))).contains("first 255 of"));
    }
}
