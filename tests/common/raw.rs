//! A client that sends what it is told to, right or wrong, and shows what it gets.

mod dial;

use bytes::Bytes;
use quinn::ConnectionError;
use tidings::{
    Code, Message,
    client::{self, Client, Transport},
    testing::TestServer,
    wire::{
        Decoder, HistoryQuery, Publication, Start, VERSION,
        frame::{
            Frame, Header, Hello, HistoryPage, Ping, PresencePage, Publish, Published, ReadHistory,
            ReadPresence, Subscribe, SubscribeFrom, Subscribed, Unsubscribe, Welcome,
        },
    },
};
use web_transport_quinn::{
    ReadError, RecvStream, SendStream, Session, SessionError, WebTransportError, proto,
};

pub(crate) use dial::{Dial, client_crypto};

use super::{publication, text};

/// What the server answers a fault with.
pub(crate) type Refusal = (Code, String);

/// Checks the code of a refusal, and that its reason names what is wrong.
#[track_caller]
pub(crate) fn assert_refusal(what: &str, got: &Refusal, code: Code, word: &str) {
    let (got_code, reason) = got;
    assert_eq!(*got_code, code, "{what}: {reason}");
    assert!(
        reason.contains(word),
        "{what}: {reason:?} does not say {word:?}"
    );
}

/// A good `Hello`.
pub(crate) fn hello(token: Option<String>) -> Hello {
    Hello {
        version: VERSION,
        token,
        client: "raw".into(),
        features: Vec::new(),
    }
}

/// The code and the reason that the server closed a session with.
pub(crate) async fn closed(session: &Session) -> Refusal {
    match session.closed().await {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
            (Code(code), reason)
        }
        other => panic!("not closed with a code: {other:?}"),
    }
}

/// The same for a connection that did not become a session.
pub(crate) fn close_code(error: &ConnectionError, transport: Transport) -> Refusal {
    let ConnectionError::ApplicationClosed(close) = error else {
        panic!("not closed by the application: {error:?}");
    };
    let code = close.error_code.into_inner();
    let code = match transport {
        Transport::Quic => u32::try_from(code).ok(),
        _ => proto::error_from_http3(code),
    };
    (
        Code(code.unwrap_or_else(|| panic!("not a code of ours: {error:?}"))),
        String::from_utf8(close.reason.to_vec()).expect("a reason is UTF-8"),
    )
}

/// Frames of one stream.
pub(crate) struct Frames {
    recv: RecvStream,
    decoder: Decoder,
}

impl Frames {
    pub(crate) fn new(recv: RecvStream) -> Self {
        Self {
            recv,
            decoder: Decoder::new(1 << 20),
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn read(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(raw) = self.decoder.next_frame().unwrap() {
                return Ok(Some(
                    Frame::decode(&raw)
                        .unwrap()
                        .expect("the server sends known frames"),
                ));
            }
            match self.recv.read_chunk(usize::MAX, true).await? {
                Some(chunk) => self.decoder.extend(&chunk.bytes),
                None => {
                    assert!(
                        self.decoder.is_empty(),
                        "the server ended inside of a frame"
                    );
                    return Ok(None);
                }
            }
        }
    }

    /// The next frame, which there must be.
    pub(crate) async fn next(&mut self) -> Frame {
        match self.read().await {
            Ok(Some(frame)) => frame,
            other => panic!("no frame but {other:?}"),
        }
    }

    /// The next frame is a publication with this text.
    pub(crate) async fn hears(&mut self, text: &str) {
        match self.next().await {
            Frame::Publication(heard) => assert_eq!(heard.message.as_text(), Some(text)),
            other => panic!("no Publication but {other:?}"),
        }
    }

    /// The stream ends as it does where the client unsubscribed.
    pub(crate) async fn ends(&mut self) {
        match self.next().await {
            Frame::End(end) => assert_eq!(end.code, Code::UNSUBSCRIBED, "{}", end.reason),
            other => panic!("no End but {other:?}"),
        }
        let after = self.read().await;
        assert!(matches!(after, Ok(None)), "after End comes {after:?}");
    }

    /// Tells the server that nobody reads on.
    pub(crate) fn stop(&mut self, code: Code) {
        self.recv.stop(code.0).unwrap();
    }
}

/// A connection with a control stream.
pub(crate) struct Raw {
    pub(crate) session: Session,
    pub(crate) send: SendStream,
    pub(crate) frames: Frames,
    last_request: u64,
    /// Streams that nobody has asked for yet.
    others: Vec<(Header, Frames)>,
}

impl Raw {
    /// Opens the control stream.
    pub(crate) async fn open(session: Session) -> Result<Self, SessionError> {
        let (send, recv) = session.open_bi().await?;
        Ok(Self {
            session,
            send,
            frames: Frames::new(recv),
            last_request: 0,
            others: Vec::new(),
        })
    }

    /// Writes bytes on the control stream. Whether they all arrive is up to the server.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        drop(self.send.write_all(bytes).await);
    }

    pub(crate) async fn send(&mut self, frame: impl Into<Frame>) {
        let bytes = frame.into().encode();
        self.write(&bytes).await;
    }

    /// Says a good `Hello`.
    pub(crate) async fn greet(&mut self, token: String) -> Welcome {
        self.send(hello(Some(token))).await;
        match self.next().await {
            Frame::Welcome(welcome) => welcome,
            other => panic!("no Welcome but {other:?}"),
        }
    }

    /// The next frame on the control stream.
    pub(crate) async fn next(&mut self) -> Frame {
        self.frames.next().await
    }

    pub(crate) async fn closed(&self) -> Refusal {
        closed(&self.session).await
    }

    fn request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// Sends a request and waits for its answer.
    async fn ask(&mut self, id: u64, request: impl Into<Frame>) -> Result<Frame, Refusal> {
        self.send(request).await;
        self.answer(id).await
    }

    /// The answer to the request with this id, which must come next.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<Frame, Refusal> {
        match self.next().await {
            Frame::Failed(failed) => {
                assert_eq!(failed.request, id, "{}", failed.reason);
                Err((failed.code, failed.reason))
            }
            frame => Ok(frame),
        }
    }

    pub(crate) async fn subscribe(&mut self, channel: &str) -> Result<Subscribed, Refusal> {
        let request = self.request();
        let channel = channel.to_owned();
        match self.ask(request, Subscribe { request, channel }).await? {
            Frame::Subscribed(subscribed) if subscribed.request == request => Ok(subscribed),
            other => panic!("not an answer to Subscribe: {other:?}"),
        }
    }

    pub(crate) async fn subscribe_from(
        &mut self,
        channel: &str,
        start: Start,
    ) -> Result<Subscribed, Refusal> {
        let request = self.request();
        let subscribe = SubscribeFrom {
            request,
            channel: channel.to_owned(),
            start,
        };
        match self.ask(request, subscribe).await? {
            Frame::Subscribed(subscribed) if subscribed.request == request => Ok(subscribed),
            other => panic!("not an answer to SubscribeFrom: {other:?}"),
        }
    }

    /// A page of history with its publications.
    pub(crate) async fn history(
        &mut self,
        channel: &str,
        query: HistoryQuery,
    ) -> Result<(HistoryPage, Vec<Publication>), Refusal> {
        let request = self.request();
        let read = ReadHistory {
            request,
            channel: channel.to_owned(),
            query,
        };
        let page = match self.ask(request, read).await? {
            Frame::HistoryPage(page) if page.request == request => page,
            other => panic!("not an answer to ReadHistory: {other:?}"),
        };
        let mut publications = Vec::new();
        for _ in 0..page.count {
            match self.next().await {
                Frame::Publication(publication) => publications.push(publication),
                other => panic!("no Publication but {other:?}"),
            }
        }
        Ok((page, publications))
    }

    pub(crate) async fn presence(
        &mut self,
        channel: &str,
        limit: u64,
    ) -> Result<PresencePage, Refusal> {
        let request = self.request();
        let read = ReadPresence {
            request,
            channel: channel.to_owned(),
            limit,
        };
        match self.ask(request, read).await? {
            Frame::PresencePage(page) if page.request == request => Ok(page),
            other => panic!("not an answer to ReadPresence: {other:?}"),
        }
    }

    pub(crate) async fn unsubscribe(&mut self, subscription: u64) -> Result<(), Refusal> {
        let request = self.request();
        let unsubscribe = Unsubscribe {
            request,
            subscription,
        };
        match self.ask(request, unsubscribe).await? {
            Frame::Unsubscribed(unsubscribed) if unsubscribed.request == request => Ok(()),
            other => panic!("not an answer to Unsubscribe: {other:?}"),
        }
    }

    pub(crate) async fn publish(
        &mut self,
        channel: &str,
        message: Message,
    ) -> Result<Published, Refusal> {
        let request = self.request();
        let publish = Publish {
            request,
            channel: channel.to_owned(),
            message,
        };
        match self.ask(request, publish).await? {
            Frame::Published(published) if published.request == request => Ok(published),
            other => panic!("not an answer to Publish: {other:?}"),
        }
    }

    pub(crate) async fn ping(&mut self) {
        let request = self.request();
        match self.ask(request, Ping { request }).await {
            Ok(Frame::Pong(pong)) if pong.request == request => {}
            other => panic!("not an answer to Ping: {other:?}"),
        }
    }

    /// The stream of a subscription, after its header.
    pub(crate) async fn stream(&mut self, subscription: u64) -> Frames {
        self.headed(subscription).await.1
    }

    /// The same with the header.
    pub(crate) async fn headed(&mut self, subscription: u64) -> (Header, Frames) {
        let known = |(header, _): &(Header, Frames)| header.subscription == subscription;
        if let Some(at) = self.others.iter().position(known) {
            return self.others.swap_remove(at);
        }
        loop {
            let mut frames = Frames::new(self.session.accept_uni().await.unwrap());
            let header = match frames.next().await {
                Frame::Header(header) => header,
                other => panic!("no Header but {other:?}"),
            };
            if header.subscription == subscription {
                return (header, frames);
            }
            self.others.push((header, frames));
        }
    }

    /// Sends whole bytes as a frame of any type.
    pub(crate) async fn send_raw(&mut self, kind: u8, body: &[u8]) {
        self.write(&frame(kind, body)).await;
    }
}

/// A short frame by hand.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Bytes {
    let length = u8::try_from(body.len() + 1).unwrap();
    assert!(length <= 250 && kind <= 250, "a frame with a short head");
    [&[length, kind], body].concat().into()
}

/// A raw client that is in a room, so that it can be seen to work.
pub(crate) struct Member {
    pub(crate) raw: Raw,
    pub(crate) welcome: Welcome,
    room: Frames,
    said: u64,
}

/// Where a [`Member`] talks to itself.
const ROOM: &str = "chat-room-member";

impl Member {
    pub(crate) async fn join(server: &TestServer, transport: Transport) -> Self {
        Self::join_with(server, &Dial::new(server, transport)).await
    }

    pub(crate) async fn join_with(server: &TestServer, dial: &Dial) -> Self {
        let (mut raw, welcome) = dial.welcomed(server.token("42")).await;
        let subscribed = raw.subscribe(ROOM).await.unwrap();
        let room = raw.stream(subscribed.subscription).await;
        Self {
            raw,
            welcome,
            room,
            said: 0,
        }
    }

    /// The connection still publishes and receives.
    pub(crate) async fn works(&mut self) {
        self.said += 1;
        let said = format!("still here, {}", self.said);
        self.raw.publish(ROOM, Message::text(&said)).await.unwrap();
        self.room.hears(&said).await;
    }
}

/// A well-behaved client of the same server, which must not notice anything.
pub(crate) struct Bystander {
    client: Client,
    room: client::Subscription,
    said: u64,
}

impl Bystander {
    pub(crate) async fn join(server: &TestServer, transport: Transport) -> Self {
        let client = server.client("bystander", transport).await.unwrap();
        let room = client.subscribe("chat-room-bystander").await.unwrap();
        Self {
            client,
            room,
            said: 0,
        }
    }

    /// A reconnect would be an event of its own before the publication, so this sees it.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.said += 1;
        let said = format!("undisturbed, {}", self.said);
        let message = Message::text(&said);
        self.client
            .publish("chat-room-bystander", message)
            .await
            .unwrap();
        let heard = publication(&mut self.room).await;
        assert_eq!((text(&heard), heard.offset), (said.as_str(), self.said));
    }
}
