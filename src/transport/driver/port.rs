//! What other tasks and threads ask of a driver.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::Waker,
};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use super::{connection::Shared, ids::Ids};
use crate::transport::admission::Admission;

/// Datagrams for a worker that reached another and were not fetched yet. Above it they are lost, as on any way.
const MAX_FORWARDED: usize = 1024;

/// The way to one worker's driver.
pub(in crate::transport) struct Port {
    pub(super) ids: Ids,
    pub(super) admission: Admission,
    state: Mutex<State>,
    /// Every worker's, in the order of their numbers.
    siblings: OnceLock<Vec<Weak<Self>>>,
}

#[derive(Default)]
struct State {
    /// Connections that somebody wrote to or closed; each stands here once.
    ready: VecDeque<Arc<Shared>>,
    forwarded: Vec<Datagram>,
    refuse: bool,
    /// The driver's task, while it sleeps.
    sleeper: Option<Waker>,
}

/// A datagram that was received.
pub(super) struct Datagram {
    pub(super) remote: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) data: BytesMut,
}

/// What is to be done besides driving connections.
pub(super) struct Orders {
    pub(super) forwarded: Vec<Datagram>,
    /// Let nobody in any more.
    pub(super) refuse: bool,
}

impl Port {
    /// The ports of all workers of a server.
    pub(in crate::transport) fn all(workers: u8, admission: &Admission) -> Vec<Arc<Self>> {
        let ports: Vec<_> = Ids::of_port(workers)
            .map(|ids| {
                Arc::new(Self {
                    ids,
                    admission: admission.clone(),
                    state: Mutex::default(),
                    siblings: OnceLock::new(),
                })
            })
            .collect();
        for port in &ports {
            let _ = port
                .siblings
                .set(ports.iter().map(Arc::downgrade).collect());
        }
        ports
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, change: impl FnOnce(&mut State)) {
        let sleeper = {
            let mut state = self.lock();
            change(&mut state);
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// The connection is to be driven.
    pub(super) fn push(&self, connection: Arc<Shared>) {
        self.order(|state| state.ready.push_back(connection));
    }

    /// Lets nobody in any more.
    pub(in crate::transport) fn refuse(&self) {
        self.order(|state| state.refuse = true);
    }

    /// Hands a datagram to the worker whose connection it is for.
    pub(super) fn forward(&self, owner: u8, datagram: Datagram) {
        let owner = self
            .siblings
            .get()
            .and_then(|siblings| siblings.get(usize::from(owner))?.upgrade());
        if let Some(owner) = owner {
            owner.order(|state| {
                if state.forwarded.len() < MAX_FORWARDED {
                    state.forwarded.push(datagram);
                }
            });
        }
    }

    /// What is to be done. Until [`register`](Self::register) nobody is woken for more.
    pub(super) fn take(&self, ready: &mut VecDeque<Arc<Shared>>) -> Orders {
        let mut state = self.lock();
        state.sleeper = None;
        if ready.is_empty() {
            std::mem::swap(ready, &mut state.ready);
        } else {
            ready.append(&mut state.ready);
        }
        Orders {
            forwarded: std::mem::take(&mut state.forwarded),
            refuse: std::mem::take(&mut state.refuse),
        }
    }

    /// Whether nobody asks for anything.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.forwarded.is_empty() && !state.refuse
    }

    /// Wakes `task` at the next order; says whether there is one already.
    pub(super) fn register(&self, task: &Waker) -> bool {
        let mut state = self.lock();
        if !state.ready.is_empty() || !state.forwarded.is_empty() || state.refuse {
            return true;
        }
        state.sleeper = Some(task.clone());
        false
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
