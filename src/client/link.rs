//! One connection: `Hello`, the control stream, and the streams that the server opens.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Acknowledgement, ClientError, Welcomed,
    builder::{Settings, Token},
    driver::Command,
    registry::{Incoming, Registry},
};
use crate::{
    transport::{
        Closed, Connection, FrameError, FrameReader, RecvStream, SendStream,
        dial::{Target, dial},
    },
    wire::{
        ChannelName, Code, Position, Retry, UserId, VERSION,
        frame::{Frame, Hello, Ping, Publish, Subscribe, Unsubscribe, Welcome},
    },
};

/// Time that the header of a stream may take; the stream is given up after it.
const HEADER: Duration = Duration::from_secs(10);
/// Bytes of requests that wait to be written; above it no further request is taken.
const OUTGOING: usize = 256 * 1024;

/// An open session.
pub(super) struct Link {
    connection: Connection,
    reader: FrameReader,
    writer: SendStream,
    outgoing: Vec<Bytes>,
    pending: HashMap<u64, Pending>,
    last_request: u64,
    automatic: Vec<(ChannelName, u64, Position)>,
    max_frame: usize,
    headers: FuturesUnordered<BoxFuture<'static, Option<Incoming>>>,
}

/// Who waits for an answer.
enum Pending {
    Publish(oneshot::Sender<Result<Acknowledgement, ClientError>>),
    Subscribe { name: ChannelName, claim: u64 },
    Ping(oneshot::Sender<Result<(), ClientError>>),
    Nobody,
}

/// Why a link is over.
pub(super) enum Over {
    /// User code wants it.
    Asked,
    /// The connection is gone.
    Lost(Closed),
    /// The server said what it may not, or cannot serve this client now.
    Given(Code, String),
}

impl Link {
    /// Connects and says `Hello`, within the deadline.
    pub(super) async fn connect(
        target: &Target,
        settings: &Settings,
    ) -> Result<(Self, Welcomed), ClientError> {
        let token = match &settings.token {
            Token::None => None,
            Token::Fixed(token) => Some(token.clone()),
            Token::Asked(ask) => Some(ask().await.map_err(ClientError::Token)?),
        };
        let connection = dial(
            target,
            &settings.trust,
            settings.max_streams,
            settings.deadline,
        )
        .await?;
        match timeout(
            settings.deadline,
            Self::greet(connection.clone(), token, settings),
        )
        .await
        {
            Ok(done) => done,
            Err(_) => {
                connection.close(Code::CLOSED, "no Welcome in time");
                Err(ClientError::Protocol("no Welcome came in time".to_owned()))
            }
        }
    }

    async fn greet(
        connection: Connection,
        token: Option<String>,
        settings: &Settings,
    ) -> Result<(Self, Welcomed), ClientError> {
        let (mut writer, recv) = connection.open_bi().await.map_err(refused)?;
        let hello = Hello {
            version: VERSION,
            token,
            client: settings.name.clone(),
            features: Vec::new(),
        };
        let written = writer.write_all(&mut [Frame::from(hello).encode()]).await;
        let mut reader = FrameReader::new(recv, settings.max_frame);
        let welcome = match (written, read_welcome(&mut reader).await) {
            (Ok(()), Ok(Some(welcome))) => welcome,
            (Ok(()), Err(error)) => {
                connection.close(Code::PROTOCOL_VIOLATION, &error);
                return Err(ClientError::Protocol(error));
            }
            // The reason stands in the close of the connection.
            _ => return Err(refused(connection.closed().await)),
        };
        let automatic = welcome.subscriptions.iter().filter_map(|subscription| {
            let name = ChannelName::parse(&subscription.channel).ok()?;
            Some((name, subscription.subscription, subscription.position))
        });
        let automatic: Vec<_> = automatic.collect();
        let welcomed = Welcomed {
            session: format!("{:016x}", welcome.session),
            user: welcome.user.and_then(|user| UserId::parse(&user).ok()),
            server: welcome.server,
            limits: welcome.limits,
            subscriptions: automatic.iter().map(|(name, ..)| name.clone()).collect(),
            transport: connection.transport(),
        };
        let link = Self {
            connection,
            reader,
            writer,
            outgoing: Vec::new(),
            pending: HashMap::new(),
            last_request: 0,
            automatic,
            max_frame: settings.max_frame,
            headers: FuturesUnordered::new(),
        };
        Ok((link, welcomed))
    }

    /// Serves user code until the connection is over.
    pub(super) async fn run(
        &mut self,
        registry: &Registry,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Over {
        registry.connected(std::mem::take(&mut self.automatic));
        self.ask(registry);
        loop {
            let room = self.outgoing.iter().map(Bytes::len).sum::<usize>() < OUTGOING;
            // Reading goes on while writing waits: a server that waits to write answers does not read requests.
            tokio::select! {
                written = self.writer.write_all(&mut self.outgoing), if !self.outgoing.is_empty() => match written {
                    Ok(()) => self.outgoing.clear(),
                    Err(_) => return Over::Lost(self.connection.closed().await),
                },
                read = self.reader.next() => match read {
                    Ok(Some(raw)) => match Frame::decode(&raw) {
                        Ok(Some(frame)) => if let Some(over) = self.answer(registry, frame) { return over },
                        Ok(None) => {}
                        Err(error) => return Over::Given(Code::PROTOCOL_VIOLATION, error.to_string()),
                    },
                    Err(FrameError::Decode(error)) => return Over::Given(Code::PROTOCOL_VIOLATION, error.to_string()),
                    Ok(None) | Err(FrameError::Reset(_) | FrameError::Closed) => {
                        return Over::Lost(self.connection.closed().await);
                    }
                },
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => self.headers.push(read_header(stream, self.max_frame).boxed()),
                    Err(closed) => return Over::Lost(closed),
                },
                Some(incoming) = self.headers.next(), if !self.headers.is_empty() => {
                    if let Some(incoming) = incoming {
                        registry.arrived(incoming);
                    }
                },
                () = registry.released.notified() => self.give_up(registry),
                command = commands.recv(), if room => match command {
                    None => return Over::Asked,
                    Some(command) => self.carry_out(registry, command),
                },
            }
        }
    }

    /// Fails what waits for an answer, and tells the server.
    pub(super) async fn close(self, code: Code, reason: &str) {
        for pending in self.pending.into_values() {
            let error = ClientError::Interrupted(reason.to_owned());
            match pending {
                Pending::Publish(answer) => drop(answer.send(Err(error))),
                Pending::Ping(answer) => drop(answer.send(Err(error))),
                // The registry asks again on the next connection.
                Pending::Subscribe { .. } | Pending::Nobody => {}
            }
        }
        self.connection.close_and_linger(code, reason).await;
    }

    fn request(&mut self, pending: Pending, frame: impl FnOnce(u64) -> Frame) {
        self.last_request += 1;
        self.pending.insert(self.last_request, pending);
        self.outgoing.push(frame(self.last_request).encode());
    }

    fn carry_out(&mut self, registry: &Registry, command: Command) {
        // What was dropped before the command was given ends before it begins.
        self.give_up(registry);
        match command {
            Command::Publish {
                name,
                message,
                answer,
            } => {
                let channel = name.to_string();
                self.request(Pending::Publish(answer), |request| {
                    Publish {
                        request,
                        channel,
                        message,
                    }
                    .into()
                });
            }
            Command::Ping { answer } => {
                self.request(Pending::Ping(answer), |request| Ping { request }.into())
            }
            Command::Subscribe => self.ask(registry),
        }
    }

    fn ask(&mut self, registry: &Registry) {
        for (name, claim) in registry.to_ask() {
            let channel = name.to_string();
            self.request(Pending::Subscribe { name, claim }, |request| {
                Subscribe { request, channel }.into()
            });
        }
    }

    fn give_up(&mut self, registry: &Registry) {
        for subscription in registry.to_end() {
            self.request(Pending::Nobody, |request| {
                Unsubscribe {
                    request,
                    subscription,
                }
                .into()
            });
        }
    }

    fn answer(&mut self, registry: &Registry, frame: Frame) -> Option<Over> {
        match frame {
            Frame::Subscribed(subscribed) => {
                if let Some(Pending::Subscribe { name, claim }) =
                    self.pending.remove(&subscribed.request)
                {
                    registry.subscribed(&name, claim, subscribed.subscription, subscribed.position);
                }
            }
            Frame::Published(published) => {
                if let Some(Pending::Publish(answer)) = self.pending.remove(&published.request) {
                    let _ = answer.send(Ok(Acknowledgement {
                        position: published.position,
                        level: published.level,
                    }));
                }
            }
            Frame::Pong(pong) => {
                if let Some(Pending::Ping(answer)) = self.pending.remove(&pong.request) {
                    let _ = answer.send(Ok(()));
                }
            }
            Frame::Unsubscribed(unsubscribed) => drop(self.pending.remove(&unsubscribed.request)),
            Frame::Failed(failed) => {
                let (code, reason) = (failed.code, failed.reason);
                match self.pending.remove(&failed.request) {
                    Some(Pending::Publish(answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    Some(Pending::Ping(answer)) => {
                        let _ = answer.send(Err(ClientError::Request { code, reason }));
                    }
                    // A server that is going away: the subscription is asked for again on the next connection.
                    Some(Pending::Subscribe { .. }) if code == Code::GOING_AWAY => {}
                    Some(Pending::Subscribe { name, claim }) => {
                        registry.refused(&name, claim, code, reason)
                    }
                    Some(Pending::Nobody) | None => {}
                }
            }
            // The streams say when they end, and the connection with which code.
            Frame::GoAway(_) => {}
            other => {
                let reason = format!("{} is not for a server to send now", other.name());
                return Some(Over::Given(Code::UNEXPECTED_FRAME, reason));
            }
        }
        None
    }
}

impl Over {
    /// Whether to connect again, and what to tell those who wait.
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Asked => Retry::No,
            Self::Lost(closed) => closed.code.map_or(Retry::Backoff, Code::retry),
            Self::Given(code, _) => code.retry(),
        }
    }

    /// Code and words.
    pub(super) fn reason(&self) -> (Option<Code>, String) {
        match self {
            Self::Asked => (Some(Code::CLOSED), "closed by this client".to_owned()),
            Self::Lost(closed) => (closed.code, closed.reason.clone()),
            Self::Given(code, reason) => (Some(*code), reason.clone()),
        }
    }
}

fn refused(closed: Closed) -> ClientError {
    match closed.code {
        Some(code) => ClientError::Refused {
            code,
            reason: closed.reason,
        },
        None => ClientError::Protocol(closed.reason),
    }
}

/// `Ok(None)` where the connection ended instead.
async fn read_welcome(reader: &mut FrameReader) -> Result<Option<Welcome>, String> {
    loop {
        match reader.next().await {
            Ok(Some(raw)) => match Frame::decode(&raw) {
                Ok(Some(Frame::Welcome(welcome))) => return Ok(Some(welcome)),
                Ok(Some(other)) => return Err(format!("{} came before Welcome", other.name())),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            },
            Err(FrameError::Decode(error)) if error != crate::wire::DecodeError::Truncated => {
                return Err(error.to_string());
            }
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

async fn read_header(stream: RecvStream, max_frame: usize) -> Option<Incoming> {
    let mut reader = FrameReader::new(stream, max_frame);
    let header = async {
        loop {
            match Frame::decode(&reader.next().await.ok()??) {
                Ok(Some(Frame::Header(header))) => return Some(header),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return None,
            }
        }
    };
    let header = timeout(HEADER, header).await.ok().flatten()?;
    Some(Incoming { header, reader })
}
