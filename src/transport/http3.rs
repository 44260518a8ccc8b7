//! WebTransport over HTTP/3, server side (PROTOCOL §2.2): one session on the connection.
//!
//! web-transport's own session reads the CONNECT stream in a task of its own and without a bound, before anybody is
//! authenticated. Here nothing runs by itself: whoever waits for the end reads that stream, and flow control holds the rest.

use std::{
    sync::{OnceLock, PoisonError},
    time::Duration,
};

use quinn::ConnectionError;
use tokio::{io::AsyncReadExt, sync::Mutex, time::timeout};
use web_transport_quinn::{
    http::StatusCode,
    proto::{ConnectRequest, ConnectResponse, Frame, Settings},
};

use super::{
    Closed, LINGER, RecvStream, SendStream, StreamError,
    capsules::{Capsules, Head, close_frame},
    closed, cut_off, driver,
};
use crate::wire::Code;

/// Most bytes of each of SETTINGS and CONNECT, with what HTTP/3 permits before them.
const MAX_HANDSHAKE: u64 = 32 * 1024;
/// Bytes asked of the CONNECT stream at a time.
const CHUNK: usize = 2 * 1024;
/// Shortest time that the peer has to answer the close capsule, which otherwise is three round trips.
const MIN_ANSWER: Duration = Duration::from_millis(100);
/// Codes of RFC 9114 §8.1.
const H3_NO_ERROR: u32 = 0x100;
const H3_REQUEST_REJECTED: u32 = 0x10b;
/// The session is the first bidirectional stream of the connection: we take no other.
const SESSION: u64 = 0;

/// A CONNECT that is not answered yet.
pub(super) struct Request {
    connection: driver::Connection,
    settings: (driver::SendStream, driver::RecvStream),
    send: driver::SendStream,
    recv: driver::RecvStream,
    pub(super) connect: ConnectRequest,
}

/// An accepted session.
pub(super) struct Http3 {
    pub(super) connection: driver::Connection,
    /// HTTP/3 wants them open as long as the connection.
    _settings: (driver::SendStream, driver::RecvStream),
    /// Taken by the close capsule.
    connect_send: std::sync::Mutex<Option<driver::SendStream>>,
    connect_recv: Mutex<(driver::RecvStream, Capsules)>,
    accepting: Mutex<Option<Accepting>>,
    /// How it ended: the first word counts.
    end: OnceLock<Closed>,
}

/// A stream whose header has not come yet.
struct Accepting {
    send: driver::SendStream,
    recv: driver::RecvStream,
    head: Head,
}

/// Closes when it is dropped, however its owner ends.
struct CloseOnDrop<'a> {
    connection: &'a driver::Connection,
    code: Code,
    reason: &'a str,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.connection.close(self.code, self.reason);
    }
}

fn lost(error: ConnectionError) -> String {
    in_words(&error)
}

impl Request {
    /// SETTINGS of both sides, and the client's CONNECT. It has no deadline of its own.
    pub(super) async fn accept(connection: driver::Connection) -> Result<Self, String> {
        let ours = async {
            let mut stream = connection.open_uni_stream().await.map_err(lost)?;
            let mut settings = Settings::default();
            settings.enable_webtransport(1);
            let written = settings.write(&mut stream).await;
            written.map_err(|error| in_words(&error))?;
            Ok(stream)
        };
        let theirs = async {
            let mut stream = connection.accept_uni().await.map_err(lost)?;
            let settings = Settings::read(&mut (&mut stream).take(MAX_HANDSHAKE)).await;
            let settings = settings.map_err(|error| format!("SETTINGS: {}", in_words(&error)))?;
            // That takes HTTP datagrams, too (RFC 9297 §2.1.1).
            if settings.supports_webtransport() == 0 {
                return Err("the client does not announce WebTransport".to_owned());
            }
            Ok(stream)
        };
        let settings = tokio::try_join!(ours, theirs)?;
        let (send, mut recv) = connection.accept_bi().await.map_err(lost)?;
        let connect = ConnectRequest::read(&mut (&mut recv).take(MAX_HANDSHAKE)).await;
        Ok(Self {
            connect: connect.map_err(|error| format!("CONNECT: {}", in_words(&error)))?,
            connection,
            settings,
            send,
            recv,
        })
    }

    /// Answers with another status than 200 and ends the connection, which is the client's to do first.
    pub(super) async fn reject(mut self, status: StatusCode) {
        let response = ConnectResponse::new(status);
        if response.write(&mut self.send).await.is_ok() {
            self.send.finish();
            let _ = timeout(LINGER, self.connection.closed()).await;
        }
        self.connection.close_unmapped(H3_NO_ERROR.into(), "");
    }

    /// Answers with 200.
    pub(super) async fn respond(mut self, response: ConnectResponse) -> Result<Http3, String> {
        let written = response.write(&mut self.send).await;
        written.map_err(|error| in_words(&error))?;
        Ok(Http3 {
            connection: self.connection,
            _settings: self.settings,
            connect_send: std::sync::Mutex::new(Some(self.send)),
            connect_recv: Mutex::new((self.recv, Capsules::default())),
            accepting: Mutex::default(),
            end: OnceLock::new(),
        })
    }
}

impl Http3 {
    /// The next bidirectional stream of the session, in the order in which the client opened them. Cancel safe.
    pub(super) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        let mut accepting = self.accepting.lock().await;
        loop {
            let Some(stream) = &mut *accepting else {
                let (send, recv) = match self.connection.accept_bi().await {
                    Ok(streams) => streams,
                    Err(error) => return Err(self.ended(error)),
                };
                let head = Head::default();
                *accepting = Some(Accepting { send, recv, head });
                continue;
            };
            let head = stream.read_head().await;
            let Some(Accepting { send, recv, .. }) = accepting.take() else {
                continue;
            };
            let (mut send, mut recv) = (
                SendStream::server(send, true),
                RecvStream::server(recv, true),
            );
            if head == Ok((Frame::WEBTRANSPORT.0.into_inner(), SESSION)) {
                return Ok((send, recv));
            }
            // Another request, or a stream of a session that is not there.
            send.reset_unmapped(H3_REQUEST_REJECTED);
            recv.stop_unmapped(H3_REQUEST_REJECTED);
        }
    }

    /// Waits for the end, and meanwhile reads the CONNECT stream. Cancel safe.
    pub(super) async fn closed(&self) -> Closed {
        if self.end.get().is_none() {
            tokio::select! {
                biased;
                end = self.peers_end() => {
                    // After a close of ours it says nothing new, and the connection ends as that one says.
                    if self.end.set(end.clone()).is_ok() {
                        let code = end.code.unwrap_or(Code::CLOSED);
                        self.connection.close(code, &end.reason);
                    }
                }
                _ = self.connection.closed() => {}
            }
        }
        let error = self.connection.closed().await;
        self.ended(error)
    }

    /// Waits for the end of the CONNECT stream, or for what the peer says there of the session's. Cancel safe.
    async fn peers_end(&self) -> Closed {
        let mut connect = self.connect_recv.lock().await;
        let (stream, capsules) = &mut *connect;
        loop {
            match stream.read_chunk(CHUNK).await {
                Ok(Some(chunk)) => {
                    if let Some(closed) = capsules.read(&chunk) {
                        return closed;
                    }
                }
                // The connection's own end says why.
                Err(driver::ReadError::Closed) => std::future::pending().await,
                Ok(None) | Err(driver::ReadError::Reset(_)) => return cut_off(),
            }
        }
    }

    fn ended(&self, error: ConnectionError) -> Closed {
        self.end.get_or_init(|| closed(error.into())).clone()
    }

    /// Whether this is the first word of an end.
    fn is_first(&self) -> bool {
        match self.connection.close_reason() {
            Some(error) => {
                self.ended(error);
                false
            }
            None => self.end.set(cut_off()).is_ok(),
        }
    }

    /// Ends the connection at once.
    #[cfg(feature = "client")]
    pub(super) fn close(&self, code: Code, reason: &str) {
        if self.is_first() {
            self.connection.close(code, reason);
        }
    }

    /// Ends the session, and the connection when the client has had time to read why: where its transport tells it of no code
    /// but the session's, it has to read the capsule first. That it was received is not enough, so the client's close counts.
    pub(super) async fn close_and_linger(&self, code: Code, reason: &str) {
        if !self.is_first() {
            let _ = timeout(LINGER, self.connection.closed()).await;
            return;
        }
        let connection = &self.connection;
        let _close = CloseOnDrop {
            connection,
            code,
            reason,
        };
        let send = self
            .connect_send
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let answer = (connection.rtt() * 3).max(MIN_ANSWER).min(LINGER);
        let _ = timeout(answer, async {
            let frame = close_frame(code, reason).into();
            if let Some(mut send) = send
                && send.write_chunks(&mut [frame]).await.is_ok()
            {
                send.finish();
                connection.closed().await;
            }
        })
        .await;
    }
}

impl Drop for Http3 {
    /// Streams that are still held somewhere do not keep the connection.
    fn drop(&mut self) {
        self.connection.close(Code::CLOSED, "");
    }
}

impl Accepting {
    /// Kind and session. Cancel safe.
    async fn read_head(&mut self) -> Result<(u64, u64), StreamError> {
        // Byte by byte: what follows is the session's.
        loop {
            match self.recv.read_chunk(1).await {
                Ok(Some(read)) => {
                    if let Some(head) = self.head.take(&mut &read[..]) {
                        return Ok(head);
                    }
                }
                Ok(None) | Err(_) => return Err(StreamError::Closed),
            }
        }
    }
}

/// An error with what caused it: web-transport's own text leaves the cause out.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[cfg(test)]
#[cfg(feature = "client")]
mod tests;
