//! Network namespaces and their devices: made with `ip`, noted on disk, and removed whatever happens.
//!
//! A link is noted in a file that its process holds locked. So a file that can be locked belongs to a process that was killed,
//! and what it notes is swept away by the next link.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{link::LinkError, sys};

/// Where links are noted.
const NOTES: &str = "/run/tidings-link";
/// Where `ip` keeps the names of namespaces.
const NAMESPACES: &str = "/run/netns";
/// The device inside each namespace.
pub(crate) const DEVICE: &str = "link0";
/// That of Ethernet: what the Internet carries.
pub(crate) const MTU: usize = 1500;
/// Packets that the kernel keeps for the emulator; the usual 500 are 6 ms of a gigabit.
const DEVICE_QUEUE: &str = "10000";
/// Time that processes inside have to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a link that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The link's name.
    pub name: String,
    /// Who runs it.
    pub process: u32,
    /// The side of the server.
    pub server: End,
    /// The side of the client.
    pub client: End,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The name of its namespace, as `ip netns` lists it.
    pub namespace: String,
    /// Its address on the link.
    pub address: Ipv4Addr,
}

impl Note {
    /// The same addresses for every link: nobody outside its two namespaces sees them.
    pub(crate) fn new(name: &str) -> Self {
        let end = |side, last| End {
            namespace: format!("tidings-{name}-{side}"),
            address: Ipv4Addr::new(10, 77, 0, last),
        };
        Self {
            name: name.to_owned(),
            process: std::process::id(),
            server: end("server", 1),
            client: end("client", 2),
        }
    }

    fn ends(&self) -> [&End; 2] {
        [&self.server, &self.client]
    }
}

/// A note that this process holds. Dropping it removes the namespaces, the processes in them, and the note.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) note: Note,
    _lock: File,
}

impl Held {
    /// Takes the name, sweeps what killed links have left, and makes two empty namespaces.
    pub(crate) fn make(name: &str) -> Result<Self, LinkError> {
        let turn = turn()?;
        sweep_now();
        let lock = lock(name)?;
        drop(turn);
        let held = Self {
            note: Note::new(name),
            _lock: lock,
        };
        for end in held.note.ends() {
            ip(["netns", "add", &end.namespace])?;
            settle(end)?;
        }
        Ok(held)
    }

    /// Gives an end its TUN device, which the kernel named `device` here. TCP over it has this congestion control: by its route,
    /// because the setting of a namespace takes only what the whole machine allows to everybody.
    pub(crate) fn attach(
        &self,
        end: &End,
        device: &str,
        congestion: &str,
    ) -> Result<(), LinkError> {
        let namespace = end.namespace.as_str();
        let address = end.address.to_string();
        let [server, client] = self.note.ends();
        let other = if end == server { client } else { server }
            .address
            .to_string();
        let mtu = MTU.to_string();
        ip(["link", "set", device, "netns", namespace])?;
        ip(["-n", namespace, "link", "set", device, "name", DEVICE])?;
        ip(["-n", namespace, "link", "set", DEVICE, "mtu", &mtu])?;
        ip([
            "-n",
            namespace,
            "link",
            "set",
            DEVICE,
            "txqueuelen",
            DEVICE_QUEUE,
        ])?;
        ip(["-n", namespace, "address", "add", &address, "dev", DEVICE])?;
        ip(["-n", namespace, "link", "set", "lo", "up"])?;
        ip(["-n", namespace, "link", "set", DEVICE, "up"])?;
        ip([
            "-n", namespace, "route", "add", &other, "dev", DEVICE, "src", &address, "congctl",
            congestion,
        ])
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        remove(&self.note);
    }
}

/// The namespace's file, to enter it.
pub(crate) fn open(end: &End) -> io::Result<File> {
    File::open(Path::new(NAMESPACES).join(&end.namespace))
}

/// Runs `work` on a thread inside a namespace; what it starts is inside as well.
pub(crate) fn enter<T: Send>(end: &End, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = open(end)?;
    thread::scope(|scope| {
        scope
            .spawn(move || {
                sys::enter_namespace(&namespace)?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The link of this name, or the only one that is up.
///
/// # Errors
/// [`LinkError::NoLink`] with the names that there are.
pub fn find(name: Option<&str>) -> Result<Note, LinkError> {
    let turn = turn()?;
    let up: Vec<Note> = notes()
        .into_iter()
        .filter(|path| File::open(path).is_ok_and(|file| file.try_lock().is_err()))
        .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
        .collect();
    drop(turn);
    let names: Vec<String> = up.iter().map(|note| note.name.clone()).collect();
    let mut fitting = up
        .into_iter()
        .filter(|note| name.is_none_or(|name| name == note.name));
    match (fitting.next(), fitting.next()) {
        (Some(note), None) => Ok(note),
        _ => Err(LinkError::NoLink {
            asked: name.map(str::to_owned),
            up: names,
        }),
    }
}

/// Removes what links of killed processes have left; the names of those links.
///
/// # Errors
/// Where the notes of links cannot be reached.
pub fn sweep() -> Result<Vec<String>, LinkError> {
    let _turn = turn()?;
    Ok(sweep_now())
}

fn sweep_now() -> Vec<String> {
    let mut swept = Vec::new();
    for path in notes() {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if file.try_lock().is_err() {
            continue;
        }
        // From the name alone: whoever was killed may not have written anything yet.
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        remove(&Note::new(name));
        swept.push(name.to_owned());
    }
    swept
}

fn notes() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(NOTES) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("json")))
        .collect()
}

fn note_path(name: &str) -> PathBuf {
    Path::new(NOTES).join(format!("{name}.json"))
}

/// Waits for the turn to read or change the notes: held for moments, by every process that does.
fn turn() -> Result<File, LinkError> {
    let path = Path::new(NOTES).join("turn");
    fs::create_dir_all(NOTES)
        .and_then(|()| File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| LinkError::Note { path, source })
}

/// Takes the note of this name and writes it. In a turn.
fn lock(name: &str) -> Result<File, LinkError> {
    let path = note_path(name);
    let fail = |source| LinkError::Note {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LinkError::NameTaken(name.to_owned())),
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    let text = serde_json::to_vec(&Note::new(name)).map_err(|error| fail(error.into()))?;
    file.set_len(0)
        .and_then(|()| file.write_all(&text))
        .map_err(fail)?;
    Ok(file)
}

/// What both ends need before they have a device. No IPv6: its neighbours' talk would take numbers of the loss sequence.
fn settle(end: &End) -> Result<(), LinkError> {
    let write = |key: &str, value: &str| {
        fs::write(format!("/proc/sys/net/{key}"), value).map_err(|source| LinkError::Setting {
            key: key.to_owned(),
            value: value.to_owned(),
            source,
        })
    };
    enter(end, || {
        if Path::new("/proc/sys/net/ipv6").exists() {
            write("ipv6/conf/all/disable_ipv6", "1")?;
            write("ipv6/conf/default/disable_ipv6", "1")?;
        }
        Ok(())
    })
    .map_err(|source| LinkError::Enter {
        namespace: end.namespace.clone(),
        source,
    })?
}

/// Removes all that a note may stand for. What is not there is no error.
fn remove(note: &Note) {
    for end in note.ends() {
        end_processes(&end.namespace);
        if Path::new(NAMESPACES).join(&end.namespace).exists()
            && let Err(error) = ip(["netns", "delete", &end.namespace])
        {
            eprintln!("tidings-link: {error}");
        }
    }
    let _ = fs::remove_file(note_path(&note.name));
}

/// Ends what runs inside a namespace: its network is gone.
fn end_processes(namespace: &str) {
    let inside = || -> Vec<i32> {
        let output = Command::new("ip")
            .args(["netns", "pids", namespace])
            .stderr(Stdio::null())
            .output();
        output.map_or_else(
            |_| Vec::new(),
            |output| {
                String::from_utf8_lossy(&output.stdout)
                    .lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|process| *process != std::process::id().cast_signed())
                    .collect()
            },
        )
    };
    let deadline = Instant::now() + PATIENCE;
    let mut signal = libc::SIGTERM;
    loop {
        let processes = inside();
        if processes.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            if signal == libc::SIGKILL {
                eprintln!("tidings-link: {processes:?} in {namespace} do not end");
                return;
            }
            signal = libc::SIGKILL;
        }
        for process in processes {
            let _ = sys::signal(process, signal);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn ip<const N: usize>(arguments: [&str; N]) -> Result<(), LinkError> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(LinkError::NoIp)?;
    if output.status.success() {
        return Ok(());
    }
    Err(LinkError::Ip {
        command: format!("ip {}", arguments.join(" ")),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
