//! What a process used, from /proc.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::Nanos;

/// A process to be watched.
#[derive(Debug, Clone, Copy)]
pub struct Process(u32);

impl Process {
    /// The process with this number.
    #[must_use]
    pub const fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This process.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Nanoseconds that its threads were on a CPU. Threads that have ended are not in it: the servers that are measured keep
    /// theirs.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(self) -> io::Result<Nanos> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0))? {
            // A thread may end between the two reads.
            if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
                sum += field(&text, 0).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    /// Bytes of its resident memory, counted page by page: `statm` is kept per CPU and lags.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0))?;
        let line = text.lines().find(|line| line.starts_with("Rss:"));
        let kilobytes = line.and_then(|line| field(line, 1));
        kilobytes
            .map(|size| size * 1024)
            .ok_or_else(|| io::Error::other(format!("no Rss in /proc/{}/smaps_rollup", self.0)))
    }
}

/// Raises this process's limit of open files as far as it goes: thousands of connections pass the usual 1,024.
///
/// # Errors
/// The system says no.
pub fn permit_files() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

fn field(text: &str, index: usize) -> Option<u64> {
    text.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_of_a_process_are_seen() {
        let process = Process::own();
        let (cpu, memory) = (process.cpu().unwrap(), process.memory().unwrap());
        let mut block = vec![1_u8; 32 << 20];
        for round in 0..20_u8 {
            block
                .iter_mut()
                .for_each(|byte| *byte = byte.wrapping_mul(3) ^ round);
        }
        assert!(process.cpu().unwrap() > cpu);
        assert!(process.memory().unwrap() >= memory + (16 << 20));
        assert_ne!(block[5], 1);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Process::new(u32::MAX).cpu().is_err());
    }
}
