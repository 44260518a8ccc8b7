//! Bytes and frames on the control stream that are not what they should be, before and after `Welcome` (PROTOCOL §3.5, §4).

mod common;

use common::{
    both,
    raw::{Bystander, Dial, Raw, Refusal, assert_refusal, frame, hello},
};
use tidings::{
    Code, Message,
    client::Transport,
    testing::TestServer,
    wire::{
        Epoch, Position,
        frame::{
            Delivery, End, Failed, Frame, GoAway, Header, Lagged, Level, Limits, Ping, Pong,
            Publish, Published, Source, Subscribe, Subscribed, Unsubscribed, Welcome,
        },
    },
};

/// How a client goes on after its bytes.
#[derive(Debug, Clone, Copy)]
enum Then {
    Wait,
    Finish,
    Reset,
}

/// What is wrong, and what it gets.
struct Fault {
    what: &'static str,
    bytes: Vec<u8>,
    then: Then,
    code: Code,
    /// Stands in the reason.
    word: &'static str,
}

impl Fault {
    fn new(what: &'static str, bytes: impl Into<Vec<u8>>, code: Code, word: &'static str) -> Self {
        Self {
            what,
            bytes: bytes.into(),
            then: Then::Wait,
            code,
            word,
        }
    }

    fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    async fn gets_its_answer(self, raw: &mut Raw) {
        raw.write(&self.bytes).await;
        match self.then {
            Then::Wait => {}
            Then::Finish => raw.send.finish().unwrap(),
            Then::Reset => raw.send.reset(0).unwrap(),
        }
        assert_refusal(self.what, &raw.closed().await, self.code, self.word);
    }
}

fn violation(what: &'static str, bytes: impl Into<Vec<u8>>, word: &'static str) -> Fault {
    Fault::new(what, bytes, Code::PROTOCOL_VIOLATION, word)
}

fn too_large(what: &'static str, bytes: impl Into<Vec<u8>>, word: &'static str) -> Fault {
    Fault::new(what, bytes, Code::FRAME_TOO_LARGE, word)
}

fn unexpected(frame: impl Into<Frame>, word: &'static str) -> Fault {
    let frame = frame.into();
    Fault::new(frame.name(), frame.encode(), Code::UNEXPECTED_FRAME, word)
}

/// What is as wrong before `Welcome` as after it.
fn faults_at_any_time() -> Vec<Fault> {
    // A length of 2^40 and a type, of a frame of which nothing more comes; and the longest length that there is.
    let gigabytes = [253, 0, 0, 0, 0, 0, 1, 0, 0, 0x10];
    let longest = [253, 255, 255, 255, 255, 255, 255, 255, 255];
    vec![
        violation("no length", [0xff; 64], "0xff"),
        violation("a wide length", [254, 1], "0xfe"),
        violation("no bytes", [0], "no bytes"),
        violation("no type", [2, 255, 1], "0xff"),
        violation("half a type", [2, 251, 1], "inside its type"),
        violation("half a frame", [9, 1, 1], "ended inside").then(Then::Finish),
        violation("half a length", [251, 1], "ended inside").then(Then::Finish),
        too_large("gigabytes", gigabytes, "1099511627776 bytes"),
        too_large("all there is", longest, "allowed"),
    ]
}

/// A text of 2^62 bytes that are not there.
fn long_text(before: &[u8]) -> Vec<u8> {
    [before, &[253], &(1_u64 << 62).to_le_bytes()].concat()
}

fn faults_before_welcome() -> Vec<Fault> {
    let mut trailing = Frame::from(hello(None)).encode().to_vec();
    trailing[0] += 1;
    trailing.push(7);
    let version = |version, word| {
        let mut hello = hello(None);
        hello.version = version;
        Fault::new(
            "version",
            Frame::from(hello).encode(),
            Code::UNSUPPORTED_VERSION,
            word,
        )
    };
    let channel = || "global".to_owned();
    let unknown = frame(0x20, &[1]);
    let publish = Publish {
        request: 1,
        channel: channel(),
        message: Message::text(""),
    };
    let subscribe = Subscribe {
        request: 1,
        channel: channel(),
    };
    let mut faults = faults_at_any_time();
    faults.extend([
        Fault::new("nothing", [], Code::CLOSED, "ended before Hello").then(Then::Finish),
        too_large("one byte too long", [251, 1, 64], "16385 bytes, 16384"),
        violation("bytes after the body", trailing, "after"),
        violation("an empty Hello", frame(1, &[]), "Hello"),
        violation("a cut Hello", frame(1, &[1, 0]), "Hello"),
        violation("no option", frame(1, &[1, 2, 0, 0]), "Hello"),
        violation("no UTF-8", frame(1, &[1, 0, 1, 0xff, 0]), "Hello"),
        violation("a long text", frame(1, &long_text(&[1, 0])), "Hello"),
        version(0, "version 1, not 0"),
        version(2, "version 1, not 2"),
        version(u16::MAX, "version 1, not 65535"),
        unexpected(Ping { request: 1 }, "Ping before Hello"),
        unexpected(subscribe, "Subscribe before Hello"),
        unexpected(publish, "Publish before Hello"),
        Fault::new(
            "unknown",
            unknown,
            Code::UNEXPECTED_FRAME,
            "0x20 before Hello",
        ),
    ]);
    let server = frames_of_the_server().into_iter();
    faults.extend(server.map(|frame| unexpected(frame, "before Hello")));
    faults
}

both!(a_fault_before_welcome_closes_the_connection_and_says_why);
async fn a_fault_before_welcome_closes_the_connection_and_says_why(transport: Transport) {
    let server = TestServer::start().await;
    let mut bystander = Bystander::join(&server, transport).await;
    for fault in faults_before_welcome() {
        let mut raw = Dial::new(&server, transport).open().await;
        fault.gets_its_answer(&mut raw).await;
        bystander.is_undisturbed().await;
    }
}

both!(a_control_stream_that_is_reset_before_hello_is_none);
async fn a_control_stream_that_is_reset_before_hello_is_none(transport: Transport) {
    let deadline = std::time::Duration::from_millis(200);
    let server = TestServer::start_with(|builder| builder.deadline(deadline)).await;
    let mut bystander = Bystander::join(&server, transport).await;
    let mut raw = Dial::new(&server, transport).open().await;
    raw.write(&[9, 1]).await;
    raw.send.reset(0).unwrap();
    let (code, reason) = raw.closed().await;
    // Over WebTransport the reset may overtake the head of the stream, which then never was one of the session.
    let late = transport == Transport::WebTransport && code == Code::HELLO_TIMEOUT;
    assert!(code == Code::CLOSED || late, "{code}: {reason}");
    assert!(reason.contains("Hello"), "{reason}");
    bystander.is_undisturbed().await;
}

fn faults_after_welcome(limits: Limits) -> Vec<Fault> {
    let mut above = vec![252];
    above.extend(u32::try_from(limits.frame + 1).unwrap().to_le_bytes());
    let finish = "ended the control stream";
    let reset = "reset the control stream";
    let mut faults = faults_at_any_time();
    faults.extend([
        Fault::new("the end", [], Code::CLOSED, finish).then(Then::Finish),
        Fault::new("a reset", [9, 1], Code::CLOSED, reset).then(Then::Reset),
        too_large("one byte too long", above, "131073 bytes, 131072"),
        unexpected(hello(None), "Hello"),
        violation("bytes after the body", frame(0x13, &[1, 0]), "after"),
        violation("an empty Ping", frame(0x13, &[]), "Ping"),
        violation("a cut Subscribe", frame(0x10, &[1, 6, b'g']), "Subscribe"),
        violation("no UTF-8", frame(0x10, &[1, 1, 0xff]), "Subscribe"),
        violation("no variant", frame(0x12, &[1, 1, b'a', 3, 0, 0]), "Publish"),
        violation(
            "long data",
            frame(0x12, &long_text(&[1, 1, b'a', 2, 0])),
            "Publish",
        ),
        violation("an unknown request without an id", frame(0x20, &[]), "0x20"),
        violation("one with half an id", frame(0x20, &[251, 1]), "0x20"),
        violation("one with no id", frame(0x20, &[255, 1]), "0x20"),
    ]);
    for frame in frames_of_the_server() {
        let name = frame.name();
        faults.push(unexpected(frame, name));
    }
    faults
}

/// All that only the server says.
fn frames_of_the_server() -> [Frame; 11] {
    let (request, subscription) = (1, 1);
    let position = Position {
        epoch: Epoch(1),
        offset: 1,
    };
    let limits = Limits {
        message: 1,
        frame: 1,
        subscriptions: 1,
    };
    let (code, reason) = (Code::CLOSED, String::new());
    [
        Welcome {
            session: 1,
            user: None,
            server: String::new(),
            features: Vec::new(),
            limits,
            subscriptions: Vec::new(),
            expires: None,
            idle_timeout: 1,
            refused: Vec::new(),
        }
        .into(),
        GoAway { code, grace: 1 }.into(),
        Failed {
            request,
            code,
            reason: reason.clone(),
        }
        .into(),
        Subscribed {
            request,
            subscription,
            position,
        }
        .into(),
        Unsubscribed { request }.into(),
        Published {
            request,
            position,
            level: Level::MEMORY,
        }
        .into(),
        Pong { request, time: 1 }.into(),
        Header {
            subscription,
            source: Source::CHANNEL,
            name: "global".into(),
            epoch: Epoch(1),
            first: 1,
            recovered: false,
            delivery: Delivery::ORDERED,
        }
        .into(),
        tidings::wire::Publication {
            offset: 1,
            time: 1,
            publisher: None,
            message: Message::text(""),
        }
        .into(),
        Lagged { from: 1, to: 1 }.into(),
        End { code, reason }.into(),
    ]
}

both!(a_fault_of_the_protocol_closes_the_session_and_says_why);
async fn a_fault_of_the_protocol_closes_the_session_and_says_why(transport: Transport) {
    let server = TestServer::start().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let (_, welcome) = dial.welcomed(server.token("42")).await;
    for fault in faults_after_welcome(welcome.limits) {
        let (mut raw, _) = dial.welcomed(server.token("42")).await;
        fault.gets_its_answer(&mut raw).await;
        bystander.is_undisturbed().await;
    }
}

both!(stopping_the_control_stream_ends_the_session);
async fn stopping_the_control_stream_ends_the_session(transport: Transport) {
    let server = TestServer::start().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let (mut raw, _) = Dial::new(&server, transport)
        .welcomed(server.token("42"))
        .await;
    raw.frames.stop(Code::CLOSED);
    raw.send(Ping { request: 1 }).await;
    let refusal = raw.closed().await;
    assert_refusal(
        "a stop",
        &refusal,
        Code::CLOSED,
        "stopped the control stream",
    );
    bystander.is_undisturbed().await;
}

both!(any_garbage_ends_in_a_close_with_a_code);
async fn any_garbage_ends_in_a_close_with_a_code(transport: Transport) {
    let server = TestServer::start().await;
    let mut bystander = Bystander::join(&server, transport).await;
    let dial = Dial::new(&server, transport);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..32 {
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_be_bytes()[0]
        })
        .take(2000)
        .collect();
        // Half of it before Welcome, half after. What is no fault by itself is cut off.
        let mut raw = dial.open().await;
        if round % 2 == 0 {
            raw.send(hello(Some(server.token("42")))).await;
        }
        raw.write(&garbage).await;
        drop(raw.send.finish());
        let (code, reason): Refusal = raw.closed().await;
        let possible = [
            Code::CLOSED,
            Code::PROTOCOL_VIOLATION,
            Code::FRAME_TOO_LARGE,
            Code::UNEXPECTED_FRAME,
        ];
        assert!(possible.contains(&code), "round {round}: {code}, {reason}");
        assert!(!reason.is_empty(), "round {round}: {code} without a reason");
    }
    bystander.is_undisturbed().await;
}
