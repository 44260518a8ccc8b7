//! What a process costs this machine: its CPU time and memory, as Linux tells them in /proc.

use std::{collections::HashMap, fs, path::PathBuf, time::Duration};

use crate::cli::{Failure, dev::Running};

/// A process of this machine.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: u32,
}

/// CPU time of each thread so far, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Cpu(HashMap<u32, u64>);

impl Process {
    /// The server's: the one that was named, or else the one that `tidings serve --dev` notes here. `Err` says why there is none
    /// to look at.
    pub(super) fn of_server(
        named: Option<u32>,
        running: Option<&Running>,
    ) -> Result<Result<Self, String>, Failure> {
        if let Some(pid) = named {
            let process = Self { pid };
            return match process.cpu() {
                Some(_) => Ok(Ok(process)),
                None => Err(Failure::usage(format!(
                    "--server-pid {pid}: /proc/{pid} does not tell its CPU time: is the server's process on this machine, and is this Linux?"
                ))),
            };
        }
        let Some(running) = running else {
            return Ok(Err(
                "the server is not the one of certs/dev/server.json; pass --server-pid where it runs on this machine".to_owned(),
            ));
        };
        let Some(pid) = running.pid else {
            return Ok(Err(
                "certs/dev/server.json names no process; pass --server-pid".to_owned(),
            ));
        };
        let process = Self { pid };
        Ok(if process.is_server() {
            Ok(process)
        } else {
            Err(format!(
                "certs/dev/server.json names process {pid}, which is no `tidings serve` on this machine; pass --server-pid"
            ))
        })
    }

    /// This process.
    pub(super) fn own() -> Self {
        Self {
            pid: std::process::id(),
        }
    }

    /// Whether it is a `tidings serve`: a number in a file may be that of another process by now.
    fn is_server(&self) -> bool {
        let named =
            fs::read_to_string(self.path("comm")).is_ok_and(|name| name.trim() == "tidings");
        let arguments = fs::read(self.path("cmdline")).unwrap_or_default();
        named
            && arguments
                .split(|&byte| byte == 0)
                .any(|argument| argument == b"serve")
    }

    /// Bytes of memory in use (VmRSS).
    pub(super) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(self.path("status")).ok()?;
        kilobytes(&status, "VmRSS:")
    }

    /// CPU time so far. That of threads that have ended is not in it: a server keeps its own.
    pub(super) fn cpu(&self) -> Option<Cpu> {
        let mut threads = HashMap::new();
        for thread in fs::read_dir(self.path("task")).ok()? {
            let thread = thread.ok()?;
            let Some(number) = thread
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // Time on a CPU, time in a queue for one, turns. A thread that ends meanwhile has no such file.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
            threads.insert(number, nanoseconds);
        }
        (!threads.is_empty()).then_some(Cpu(threads))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }
}

impl Cpu {
    /// CPU time since.
    pub(super) fn since(&self, before: &Self) -> Duration {
        let spent = self.0.iter().map(|(thread, now)| {
            let then = before.0.get(thread).copied().unwrap_or(0);
            now.saturating_sub(then)
        });
        Duration::from_nanos(spent.sum())
    }
}

/// Memory of a client here with its connection, and of each stream: twice the 56 KiB and 5 KiB that were measured between 100
/// and 2,000 clients, because what is on its way takes room, too.
const CLIENT: u64 = 112 * 1024;
const STREAM: u64 = 10 * 1024;

/// Whether this machine has the memory for so many clients, where it says what it has.
pub(super) fn enough_memory(clients: usize, subscriptions: usize) -> Result<(), Failure> {
    let available = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| kilobytes(&text, "MemAvailable:"));
    available.map_or(Ok(()), |available| {
        enough(clients, subscriptions, available)
    })
}

fn enough(clients: usize, subscriptions: usize, available: u64) -> Result<(), Failure> {
    let one = CLIENT + STREAM * subscriptions as u64;
    let needed = one.saturating_mul(clients as u64);
    if needed <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / (1 << 30) as f64;
    Err(Failure::usage(format!(
        "--clients {clients} with --subscriptions {subscriptions} needs about {:.1} GiB here, and {:.1} GiB are available: pass --clients {} or fewer, or use several machines",
        gib(needed),
        gib(available),
        available / one
    )))
}

/// A line such as `VmRSS:  1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_beyond_the_memory_are_refused_with_a_number_that_fits() {
        assert!(enough(10, 1, 10 * (CLIENT + STREAM)).is_ok());
        let failure = enough(11, 1, 10 * (CLIENT + STREAM)).unwrap_err();
        assert!(
            failure.reasons[0].contains("pass --clients 10 or fewer"),
            "{failure:?}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_works_is_seen_to() {
        let own = Process::own();
        let before = own.cpu().unwrap();
        let mut work = 0_u64;
        while own.cpu().unwrap().since(&before) < Duration::from_millis(5) {
            work = work.wrapping_add(1);
        }
        assert!(work > 0 && own.memory().unwrap() > 100_000);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_no_server_is_not_taken_for_one() {
        assert!(!Process::own().is_server());
        let running = |pid| Running {
            pid,
            ..Running::new(
                "127.0.0.1:1".parse().unwrap(),
                None,
                crate::transport::Sha256([0; 32]),
            )
        };
        for (pid, wanted) in [
            (Some(std::process::id()), "no `tidings serve`"),
            (None, "no process"),
        ] {
            let found = Process::of_server(None, Some(&running(pid))).unwrap();
            assert!(found.is_err_and(|why| why.contains(wanted)));
        }
        let failure = Process::of_server(Some(0), None).unwrap_err();
        assert!(failure.reasons[0].contains("--server-pid 0"), "{failure:?}");
    }
}
