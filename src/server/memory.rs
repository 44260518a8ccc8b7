//! How much memory this process may use.

use std::{fs, path::Path};

/// Address space of an idle server: code, stacks of threads and reserves of the allocator have 470 MiB on two cores.
const RESERVED: usize = 512 << 20;

/// Limit where nothing says how much memory there is.
const UNKNOWN: usize = 1 << 30;

/// Default of [`Limits::memory`](super::Limits::memory): half of the smallest of the machine's memory, the limits of the control groups
/// (versions 1 and 2) that this process is in, and its resource limits of address space and data, less what an idle server has of
/// those. The other half is for what is not
/// counted: buffers of busy connections, handshakes, and what the allocator loses.
pub(super) fn default_limit() -> usize {
    let read = |path: &Path| fs::read_to_string(path).ok();
    available(&read).map_or(UNKNOWN, |available| available / 2)
}

/// The smallest limit that the files of `/proc` and `/sys` name, in bytes.
fn available(read: &dyn Fn(&Path) -> Option<String>) -> Option<usize> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine(&text));
    let process = read(Path::new("/proc/self/limits")).and_then(|text| resource_limit(&text));
    let groups = read(Path::new("/proc/self/cgroup")).and_then(|text| group_limit(&text, read));
    [machine, process, groups].into_iter().flatten().min()
}

/// `MemTotal:       24567890 kB`
fn machine(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// `Max address space         1600000000           1600000000           bytes`: the first number is the soft limit.
fn resource_limit(limits: &str) -> Option<usize> {
    let limit = |line: &str| {
        let rest = ["Max address space", "Max data size"]
            .iter()
            .find_map(|name| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let limit: usize = limits.lines().filter_map(limit).min()?;
    Some(limit.saturating_sub(RESERVED).max(limit / 8))
}

/// The limits of a process's groups and of those that they are in: `0::/system.slice/tidings.service` (version 2) and
/// `4:memory:/docker/1234` (version 1). Inside a container the group may be the root of what is mounted.
fn group_limit(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<usize> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let root = Path::new(root);
        let group = root.join(path.trim_start_matches('/'));
        for folder in group
            .ancestors()
            .take_while(|folder| folder.starts_with(root))
        {
            // "max" where there is no limit.
            let limit = read(&folder.join(file)).and_then(|text| text.trim().parse().ok());
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Option<usize> {
        let files: HashMap<_, _> = files.iter().copied().collect();
        available(&|path| Some((*files.get(path.to_str()?)?).to_owned()))
    }

    #[test]
    fn smallest_limit_of_machine_groups_and_process_counts() {
        let meminfo = ("/proc/meminfo", "MemTotal:    2000000 kB\nMemFree:  1 kB\n");
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[meminfo]), Some(2_048_000_000));
        let unlimited = "Limit    Soft Limit   Hard Limit   Units\nMax address space         unlimited            unlimited            bytes\n";
        let limited = "Max data size             unlimited            unlimited            bytes\nMax address space         1600000000           unlimited            bytes\n";
        assert_eq!(
            found(&[meminfo, ("/proc/self/limits", unlimited)]),
            Some(2_048_000_000)
        );
        assert_eq!(
            found(&[meminfo, ("/proc/self/limits", limited)]),
            Some(1_600_000_000 - (512 << 20))
        );
        let second = ("/proc/self/cgroup", "0::/a.slice/b.service\n");
        for (file, limit) in [
            (
                "/sys/fs/cgroup/a.slice/b.service/memory.max",
                "1000000000\n",
            ),
            ("/sys/fs/cgroup/a.slice/memory.max", "1000000000\n"),
            ("/sys/fs/cgroup/memory.max", "1000000000\n"),
        ] {
            assert_eq!(
                found(&[meminfo, second, (file, limit)]),
                Some(1_000_000_000)
            );
            assert_eq!(
                found(&[meminfo, second, (file, "max\n")]),
                Some(2_048_000_000)
            );
        }
        let first = ("/proc/self/cgroup", "5:cpu:/x\n4:blkio,memory:/docker/1\n");
        for file in [
            "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
            // Inside the container.
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ] {
            assert_eq!(
                found(&[meminfo, first, (file, "900000000\n")]),
                Some(900_000_000)
            );
            // No limit, as version 1 writes it.
            let none = (file, "9223372036854771712\n");
            assert_eq!(found(&[meminfo, first, none]), Some(2_048_000_000));
        }
        for broken in ["", "MemTotal: x kB", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(found(&[("/proc/meminfo", broken)]), None, "{broken}");
        }
    }

    #[test]
    fn a_machine_that_runs_this_test_has_memory() {
        assert!(default_limit() > 1 << 20);
    }
}
