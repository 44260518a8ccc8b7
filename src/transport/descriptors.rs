//! File descriptors: how many this process may have, and who may use them.

/// Descriptors of a server without connections: standard streams, runtimes, listeners, files of certificates.
const FIXED: usize = 24;
/// Descriptors of a worker: its runtime's, and its sockets.
const PER_WORKER: usize = 8;
/// Most descriptors that are kept for the HTTP API: its connections, and those that are about to end.
const MOST_RESERVED: usize = 1024 + 64;
/// Limits that systems accept where they refuse the hard limit: macOS accepts no more than `OPEN_MAX`.
#[cfg(unix)]
const FALLBACKS: [u64; 2] = [65_536, 10_240];

/// Shares of the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// TCP connections of clients.
    pub(crate) clients: usize,
    /// Connections of the HTTP API.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "there is no API"))]
    pub(crate) api: usize,
}

impl Budget {
    /// Shares of today's limit.
    pub(crate) fn new(workers: u8) -> Self {
        Self::of(limit(), workers)
    }

    fn of(limit: Option<u64>, workers: u8) -> Self {
        let limit = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let free = limit.saturating_sub(FIXED + PER_WORKER * usize::from(workers));
        let reserved = (free / 4).min(MOST_RESERVED);
        Self {
            clients: (free - reserved).max(1),
            api: (reserved.saturating_sub(reserved / 8)).clamp(8, 1024),
        }
    }
}

/// Raises the limit of open files of this process as far as the system lets it. Returns the limit; `None` where there is none.
#[cfg(unix)]
#[cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "an application has its own")
)]
pub(crate) fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let known = getrlimit(Resource::Nofile);
    let hard = known.maximum.unwrap_or(u64::MAX);
    for wanted in [hard, FALLBACKS[0].min(hard), FALLBACKS[1].min(hard)] {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: known.maximum,
        };
        if known.current.is_none_or(|current| current >= wanted)
            || setrlimit(Resource::Nofile, raised).is_ok()
        {
            break;
        }
    }
    limit()
}

/// Raises nothing where there is no such limit.
#[cfg(not(unix))]
#[cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "an application has its own")
)]
pub(crate) const fn raise_limit() -> Option<u64> {
    None
}

/// Limit of open files of this process; `None` where there is none.
fn limit() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn clients_never_get_what_the_api_needs() {
        for limit in [0, 32, 64, 256, 1024, 20_000, 1 << 40] {
            for workers in [1, 2, 64] {
                let budget = Budget::of(Some(limit), workers);
                assert!(budget.clients >= 1 && (8..=1024).contains(&budget.api));
                if limit >= 1024 {
                    let others = 24 + 8 * u64::from(workers) + budget.api as u64;
                    assert!(
                        budget.clients as u64 + others < limit,
                        "{budget:?} of {limit}"
                    );
                }
            }
        }
        let small = Budget::of(Some(256), 2);
        assert_eq!((small.clients, small.api), (162, 48));
        assert_eq!(Budget::of(None, 1).api, 952);
    }
}
