//! A link that is up.

use std::{
    io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde::Serialize;

use crate::{
    awake::Awake,
    forward::Forwarder,
    namespace::{self, Held},
    path,
    report::Report,
    sys,
};

pub use crate::namespace::{End, Note, find, sweep};

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// 10.77.0.1
    Server,
    /// 10.77.0.2
    Client,
}

/// What a link is to be like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Its name; `None` makes one up.
    pub name: Option<String>,
    /// What each direction does.
    #[serde(flatten)]
    pub path: path::Config,
    /// TCP's congestion control at both ends, whatever this machine prefers.
    pub tcp_congestion: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The name cannot be part of a namespace's name.
    #[error("{0:?} is no name for a link: use 1 to 32 lower-case letters, digits and -")]
    Name(String),
    /// A link of this name is up.
    #[error("a link named {0} is up: end it, or choose another --name")]
    NameTaken(String),
    /// There is no such link.
    #[error("{}", no_link(asked.as_deref(), up))]
    NoLink {
        /// The name, if one was asked for.
        asked: Option<String>,
        /// Those that are up.
        up: Vec<String>,
    },
    /// The note of the link cannot be kept.
    #[error("cannot write {path}: {source}; run this as root")]
    Note {
        /// Where it should stand.
        path: PathBuf,
        /// Why it does not.
        source: io::Error,
    },
    /// `ip` cannot be run.
    #[error("cannot run `ip`: {0}; install iproute2")]
    NoIp(io::Error),
    /// `ip` refuses.
    #[error(
        "`{command}` failed: {said}; this needs root, network namespaces, and for --tcp-congestion one that `sysctl net.ipv4.tcp_available_congestion_control` lists"
    )]
    Ip {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// There is no TUN device.
    #[error(
        "cannot make a TUN device from /dev/net/tun: {0}; run this as root, and in a container pass --device /dev/net/tun and --cap-add NET_ADMIN"
    )]
    Tun(io::Error),
    /// A setting of the kernel is refused.
    #[error(
        "cannot set {key} to {value} inside the namespace: {source}; run this as root, with /proc/sys writable"
    )]
    Setting {
        /// Its path below /proc/sys/net.
        key: String,
        /// The value.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// A namespace cannot be entered.
    #[error("cannot enter the namespace {namespace}: {source}; run this as root")]
    Enter {
        /// Its name.
        namespace: String,
        /// Why not.
        source: io::Error,
    },
    /// The link's thread cannot be started.
    #[error("cannot start the link's thread: {0}")]
    Thread(io::Error),
}

/// A link that is up. Dropping it ends the processes inside its namespaces and removes them.
#[derive(Debug)]
pub struct Link {
    // Before the namespaces, so that no thread carries packets of a link that is going.
    forwarder: Forwarder,
    held: Held,
    config: path::Config,
    _awake: Awake,
}

impl Link {
    /// Makes two namespaces and joins them. It sweeps away what killed links have left.
    ///
    /// # Errors
    /// Needs root, `/dev/net/tun` and `ip`; the error says which is missing.
    pub fn up(config: &Config) -> Result<Self, LinkError> {
        let name = config.name.clone().unwrap_or_else(made_up);
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(legal) {
            return Err(LinkError::Name(name));
        }
        let held = Held::make(&name)?;
        let (server, server_device) = sys::open_tun().map_err(LinkError::Tun)?;
        let (client, client_device) = sys::open_tun().map_err(LinkError::Tun)?;
        held.attach(&held.note.server, &server_device, &config.tcp_congestion)?;
        held.attach(&held.note.client, &client_device, &config.tcp_congestion)?;
        let forwarder = Forwarder::start(config.path, server, client).map_err(LinkError::Thread)?;
        Ok(Self {
            forwarder,
            held,
            config: config.path,
            _awake: Awake::start().map_err(LinkError::Thread)?,
        })
    }

    /// Its names and addresses.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.held.note
    }

    /// The address of one end.
    #[must_use]
    pub const fn address(&self, side: Side) -> Ipv4Addr {
        self.note().end(side).address
    }

    /// Runs `work` on a thread whose sockets are at one end, and waits for it. Threads and processes that `work` starts are there
    /// as well; the processes end with the link.
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn enter<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        namespace::enter(self.note().end(side), work)
    }

    /// The longest that a packet and its answer are on the way, but for pauses of the machine.
    pub(crate) fn longest(&self) -> Duration {
        2 * (self.config.delay + self.config.queue)
    }

    /// What was carried so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.forwarder.report()
    }
}

impl Note {
    /// One end.
    #[must_use]
    pub const fn end(&self, side: Side) -> &End {
        match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        }
    }

    /// Moves the calling thread to one end.
    ///
    /// # Errors
    /// Where the namespace cannot be entered.
    pub fn move_here(&self, side: Side) -> Result<(), LinkError> {
        let end = self.end(side);
        namespace::open(end)
            .and_then(|file| sys::enter_namespace(&file))
            .map_err(|source| LinkError::Enter {
                namespace: end.namespace.clone(),
                source,
            })
    }
}

/// A name that no other link of this machine has.
fn made_up() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

fn no_link(asked: Option<&str>, up: &[String]) -> String {
    let up = if up.is_empty() {
        "none is up: start one with `tidings-link up`".to_owned()
    } else {
        format!("those that are up: {}", up.join(", "))
    };
    match asked {
        Some(name) => format!("no link is named {name}; {up}"),
        None => format!("name one link with --link; {up}"),
    }
}
