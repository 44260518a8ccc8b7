//! A worker: one thread with its part of the UDP port, its connections and their sessions. Workers share the broker and nothing else
//! that is used for each message.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context as Task, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    heartbeat::{Heartbeat, Heartbeats},
    tcp,
};
use crate::{
    broker::Audience,
    session::{self, Context, Home},
    transport::{
        Connection, Permit, Prefix, Upgrade,
        listener::{self, Arrival, Binding},
        peer_log::{Excerpt, Throttle, throttled},
    },
    wire::Code,
};

/// Polls of tasks between two looks at what the system has for us. The runtime's own 61 would let a socket's buffer run over while
/// thousands of connections are served.
const EVENT_INTERVAL: u32 = 16;
/// TCP connections accepted in one turn, before connections and sessions have theirs.
const CALLERS_PER_TURN: usize = 32;
/// What is told to who is cut off.
pub(super) const SHUTTING_DOWN: &str = "the server is shutting down";
/// Beyond the grace: for last words on the way.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all workers of a server share.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) context: Arc<Context>,
    /// Bounds of clients that come over TCP.
    pub(super) tcp: Arc<tcp::Config>,
    /// Lets the workers begin.
    pub(super) begin: CancellationToken,
    /// Ends them at once.
    pub(super) abort: CancellationToken,
}

/// The workers of a server. Dropping it ends them at once.
#[derive(Debug)]
pub(super) struct Workers {
    common: Common,
    threads: Vec<JoinHandle<()>>,
    heartbeats: Vec<Arc<Heartbeat>>,
    ends: FuturesUnordered<oneshot::Receiver<()>>,
}

impl Workers {
    /// Starts a thread for each part of the port; they begin to serve with [`Common::begin`].
    pub(super) fn start(bindings: Vec<Binding>, common: Common) -> std::io::Result<Self> {
        let mut workers = Self {
            common,
            threads: Vec::new(),
            heartbeats: Vec::new(),
            ends: FuturesUnordered::new(),
        };
        for (number, binding) in bindings.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENT_INTERVAL)
                .build();
            let common = workers.common.clone();
            let (ready, started) = std::sync::mpsc::channel();
            let (done, ended) = oneshot::channel::<()>();
            let heartbeat = Arc::new(Heartbeat::default());
            workers.heartbeats.push(Arc::clone(&heartbeat));
            let runtime = runtime?;
            let thread = std::thread::Builder::new()
                .name(format!("tidings-{number}"))
                .spawn(move || {
                    runtime.block_on(async {
                        match binding.start() {
                            Ok(worker) => {
                                let _ = ready.send(Ok(()));
                                run(worker, common, &heartbeat).await;
                            }
                            Err(error) => drop(ready.send(Err(error))),
                        }
                    });
                    // Whatever user code still runs ends here.
                    drop(runtime);
                    drop(done);
                })?;
            workers.threads.push(thread);
            workers.ends.push(ended);
            let lost = || std::io::Error::other("its thread ended at once");
            started.recv().map_err(|_| lost())??;
        }
        Ok(workers)
    }

    /// The heartbeats of the workers.
    #[cfg_attr(
        not(feature = "http"),
        allow(dead_code, reason = "the HTTP API alone checks heartbeats")
    )]
    pub(super) fn heartbeats(&self) -> Heartbeats {
        self.heartbeats.iter().cloned().collect()
    }

    /// Waits for the end of one; returns at once where there is none.
    pub(super) async fn one_ended(&mut self) {
        let _ = self.ends.next().await;
    }

    /// Waits for the end of all. They end by themselves: after [`Context::drain`], when the last session is over or the grace is.
    pub(super) async fn all_ended(&mut self) {
        while self.ends.next().await.is_some() {}
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.common.abort.cancel();
        let give_up = Instant::now() + LAST_WORDS;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < give_up {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                tracing::error!("a worker does not end: user code blocks it");
            } else if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

async fn run(mut worker: listener::Worker, common: Common, heartbeat: &Heartbeat) {
    let home = Arc::new(Home {
        audience: Audience::new(),
        drain: common.context.drain.child_token(),
        runtime: Handle::current(),
    });
    let mut tasks = Tasks::default();
    let serve = async {
        common.begin.cancelled().await;
        serve(&mut worker, &mut tasks, &home, &common, heartbeat).await;
    };
    let aborted = common.abort.run_until_cancelled(serve).await.is_none();
    // What is left is cut off, and told so. Before its session is dropped, which would close it as if all were well.
    worker.close(Code::GOING_AWAY, SHUTTING_DOWN);
    tasks.end().await;
    let idle = poll_fn(|cx| {
        worker.poll(cx);
        // Who ended us at once does not wait for answers.
        if worker.is_idle() || aborted && worker.is_flushed() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let _ = timeout(LAST_WORDS, idle).await;
    home.audience.close();
}

/// What a worker's clients run in.
#[derive(Default)]
struct Tasks {
    sessions: JoinSet<()>,
    /// Those that came over TCP, and what tells them that they have to end at once.
    callers: JoinSet<()>,
    over: CancellationToken,
}

impl Tasks {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.callers.is_empty()
    }

    fn poll(&mut self, cx: &mut Task<'_>) {
        for tasks in [&mut self.sessions, &mut self.callers] {
            while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
                log(ended);
            }
        }
    }

    /// Cuts off whoever is left. Callers say their last words themselves.
    async fn end(&mut self) {
        self.over.cancel();
        self.sessions.abort_all();
        while let Some(ended) = self.sessions.join_next().await {
            log(ended);
        }
        let last_words = async {
            while let Some(ended) = self.callers.join_next().await {
                log(ended);
            }
        };
        let _ = timeout(LAST_WORDS, last_words).await;
        self.callers.abort_all();
        while let Some(ended) = self.callers.join_next().await {
            log(ended);
        }
    }
}

/// Serves until the server drains and the last session is over, or the grace is.
async fn serve(
    worker: &mut listener::Worker,
    tasks: &mut Tasks,
    home: &Arc<Home>,
    common: &Common,
    heartbeat: &Heartbeat,
) {
    // A task of its own would be one more queue for each message: readers are told and connections driven in one turn.
    let turn = |cx: &mut Task<'_>, worker: &mut listener::Worker, tasks: &mut Tasks| {
        heartbeat.beat(cx);
        home.audience.poll(cx);
        worker.poll(cx);
        while let Some(arrival) = worker.next_arrival() {
            let session = one(arrival, common.clone(), Arc::clone(home));
            tasks.sessions.spawn(session);
        }
        let mut accepted = 0;
        while let Some(caller) = worker.next_caller(cx) {
            let over = tasks.over.clone();
            let evictions = caller.evictions();
            let session = tcp::one(caller, common.clone(), Arc::clone(home), over);
            let task = tasks.callers.spawn(session);
            for eviction in evictions {
                let task = task.clone();
                eviction.set(move || task.abort());
            }
            accepted += 1;
            if accepted == CALLERS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        tasks.poll(cx);
    };
    let draining = poll_fn(|cx| {
        turn(cx, worker, tasks);
        Poll::<()>::Pending
    });
    let _ = home.drain.run_until_cancelled(draining).await;
    worker.close_tcp();
    let grace = common.context.config.grace.saturating_add(LAST_WORDS);
    let drained = poll_fn(|cx| {
        turn(cx, worker, tasks);
        if tasks.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    if timeout(grace, drained).await.is_err() {
        tracing::warn!("sessions were cut off at the end of the grace");
    }
}

fn log(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session panicked");
    }
}

/// Limits of the log lines about clients that become no session.
pub(super) static HANDSHAKES: Throttle = Throttle::new("failed handshakes");
static FULL: Throttle = Throttle::new("sessions beyond the limit");

async fn one(arrival: Arrival, common: Common, home: Arc<Home>) {
    let remote = arrival.remote_address();
    let handshake = {
        let unfinished = arrival.unfinished();
        tokio::select! {
            handshake = Box::pin(arrival.handshake()) => handshake,
            // It comes back, here or elsewhere.
            () = home.drain.cancelled() => {
                return unfinished.close(Code::GOING_AWAY, SHUTTING_DOWN);
            }
        }
    };
    match handshake {
        Ok((connection, permit, upgrade)) => {
            let prefix = Some(remote.into());
            serve_one(connection, permit, upgrade, prefix, common, home).await;
        }
        Err(error) => {
            let error = error.to_string();
            throttled!(HANDSHAKES, info, %remote, error = %Excerpt(&error), "no connection");
        }
    }
}

/// A session, where there is a place for it. `prefix` is the network address that its place counts for.
pub(super) async fn serve_one(
    connection: Connection,
    permit: Permit,
    upgrade: Option<Upgrade>,
    prefix: Option<Prefix>,
    common: Common,
    home: Arc<Home>,
) {
    let context = common.context;
    if let Err(close) = context.sessions.may_enter(prefix) {
        let remote = connection.remote_address();
        throttled!(FULL, warn, %remote, reason = close.reason, "no place for a session");
        let refusal = connection.close_and_linger(close.code, &close.reason);
        return Box::pin(refusal).await;
    }
    session::serve(connection, permit, upgrade, prefix, context, home).await;
}
