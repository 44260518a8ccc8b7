//! Moves bytes between a WebSocket and the state of its connection.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message},
};

use super::{
    Shared,
    state::{Fault, code},
};
use crate::transport::{
    Closed, LINGER, cut_off,
    quiet::{quiet, quietly},
};

/// Messages that are read in one turn.
const MESSAGES: usize = 32;
/// A busy connection's round trip is measured this often.
const MEASURE: Duration = Duration::from_secs(10);

/// A peer that gives up sooner is itself given up after this.
const LEAST_IDLE: Duration = Duration::from_secs(3);

/// A peer that gives up sooner is not asked for a sign of life more often than every third of this.
const SHORTEST_IDLE: Duration = Duration::from_millis(300);

/// When which side says something unasked, or gives up.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Times {
    /// Silence after which the peer is given up.
    pub(in crate::transport) idle: Duration,
    /// The peer is asked for a sign of life this often.
    pub(in crate::transport) keep_alive: Option<Duration>,
}

/// Serves a connection until it is over and its last words are out, or the peer is gone. Dropping it cuts the connection off.
pub(in crate::transport) async fn pump<S>(
    socket: WebSocketStream<S>,
    shared: Arc<Shared>,
    times: Times,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = CutOff(shared);
    let now = Instant::now();
    let mut pump = Pump {
        socket,
        shared: &shared.0,
        times,
        heard: now,
        pinged: None,
        pings: 0,
        unflushed: false,
        gone: false,
        ended: false,
        stuck: None,
        last: None,
        timer: Box::pin(sleep_until(now)),
    };
    std::future::poll_fn(|cx| pump.poll(cx)).await;
    if pump.gone {
        return;
    }
    let mut socket = pump.socket;
    // The peer's last words are read, and the rest of what cannot be: the system would throw ours away.
    let farewell = async {
        let _ = socket.close(None).await;
        let mut came = socket.next().await;
        while let Some(Ok(_)) = came {
            came = socket.next().await;
        }
        if let Some(Err(_)) = came {
            let mut nobodys = [0; 1024];
            let raw = socket.get_mut();
            while raw.read(&mut nobodys).await.is_ok_and(|read| read > 0) {}
        }
    };
    let _ = timeout(LINGER, quietly(farewell)).await;
}

/// However the pump ends, nobody waits for it.
struct CutOff(Arc<Shared>);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.cut_off(cut_off());
    }
}

struct Pump<'a, S> {
    socket: WebSocketStream<S>,
    shared: &'a Arc<Shared>,
    times: Times,
    /// When the peer was last heard.
    heard: Instant,
    /// When a ping was sent that is not answered; otherwise when the last one was.
    pinged: Option<Instant>,
    pings: u64,
    /// A record may not have left yet, since when.
    unflushed: bool,
    stuck: Option<Instant>,
    /// The socket is of no use any more.
    gone: bool,
    /// Nothing that can be read follows: the peer has closed the WebSocket, or is in the middle of what is too large.
    ended: bool,
    /// It is over, and last words that have not left until then never will.
    last: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever changes something from here on wakes us.
        self.shared.pump.register(cx.waker());
        self.keep_time(cx);
        self.read(cx);
        self.dispatch();
        while !self.gone && self.write(cx) {
            self.dispatch();
        }
        if self.gone || self.is_over() {
            // Who waits is told now: nobody polls after this.
            self.dispatch();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn is_over(&self) -> bool {
        !self.unflushed && self.shared.lock().error.is_some()
    }

    fn lose(&mut self, reason: String) {
        self.gone = true;
        self.shared.cut_off(Closed { code: None, reason });
    }

    fn dispatch(&self) {
        let mut wakers = Vec::new();
        self.shared.dispatch(&mut self.shared.lock(), &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives a silent peer up, and asks one whose silence is long or whose round trip is old.
    fn keep_time(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = Instant::now();
            // A peer that takes nothing is as good as one that says nothing.
            let heard = self.stuck.map_or(self.heard, |stuck| stuck.min(self.heard));
            let (over, theirs) = {
                let state = self.shared.lock();
                (state.error.is_some(), state.peer_idle())
            };
            // As RFC 9000 §10.1 has it, the shorter of both.
            let idle = theirs.map_or(self.times.idle, |theirs| {
                self.times.idle.min(theirs.max(LEAST_IDLE))
            });
            let mut next = heard + idle;
            if over {
                next = *self.last.get_or_insert(now + LINGER);
            }
            if now >= next {
                let reason = "nothing was heard from the peer within the idle timeout";
                return self.lose(reason.to_owned());
            }
            if let Some(keep_alive) = self.times.keep_alive {
                let shortest = theirs.map_or(idle, |theirs| idle.min(theirs.max(SHORTEST_IDLE)));
                let due = self.pinged.unwrap_or(self.heard) + keep_alive.min(shortest / 3);
                if now >= due {
                    self.ping(now);
                    continue;
                }
                next = next.min(due);
            }
            self.timer.as_mut().reset(next);
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    fn ping(&mut self, now: Instant) {
        self.pings += 1;
        self.pinged = Some(now);
        self.shared.lock().ping(self.pings);
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        // Not for ever, where a peer floods: others have their turn.
        for _ in 0..MESSAGES {
            if self.gone || self.ended {
                return;
            }
            match quiet(|| self.socket.poll_next_unpin(cx)) {
                Poll::Ready(Some(Ok(message))) => {
                    self.heard = Instant::now();
                    self.take(message);
                }
                Poll::Ready(Some(Err(Error::Capacity(_)))) => {
                    self.ended = true;
                    let fault = Fault::new(code::FRAME_ENCODING, "a record above 16,382 bytes");
                    return self.shared.lock().fail(fault);
                }
                Poll::Ready(Some(Err(Error::Io(_))) | None) => {
                    return self.lose(cut_off().reason);
                }
                Poll::Ready(Some(Err(error))) => {
                    return self.lose(format!("the WebSocket failed: {error}"));
                }
                Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Binary(record) => self.receive(record),
            Message::Text(_) => {
                let fault = Fault::new(code::FRAME_ENCODING, "a text message");
                self.shared.lock().fail(fault);
            }
            // Without a word of QMux it says nothing. It is answered like our own.
            Message::Close(_) => {
                self.ended = true;
                self.shared.lock().leave();
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    fn receive(&mut self, record: Bytes) {
        let mut state = self.shared.lock();
        let waits = state.pinged.is_some();
        state.receive(record);
        if waits
            && state.pinged.is_none()
            && let Some(pinged) = self.pinged
        {
            let rtt = u64::try_from(pinged.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.shared.rtt.store(rtt, Ordering::Relaxed);
        }
    }

    /// Sends a record; whether there may be another. One that has not left holds the next back: what that will say is chosen then.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.unflushed {
            match quiet(|| self.socket.poll_flush_unpin(cx)) {
                Poll::Ready(Ok(())) => (self.unflushed, self.stuck) = (false, None),
                Poll::Ready(Err(_)) => {
                    self.lose(cut_off().reason);
                    return false;
                }
                Poll::Pending => {
                    self.stuck.get_or_insert_with(Instant::now);
                    return false;
                }
            }
        }
        let record = self.shared.lock().transmit();
        let Some(record) = record else {
            return false;
        };
        let message = Message::Binary(record);
        if quiet(|| self.socket.start_send_unpin(message)).is_err() {
            self.lose(cut_off().reason);
            return false;
        }
        self.unflushed = true;
        let now = Instant::now();
        if self.pinged.is_none_or(|pinged| now >= pinged + MEASURE) && self.shared.lock().is_begun()
        {
            self.ping(now);
        }
        true
    }
}
