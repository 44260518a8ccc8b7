//! Tidings, over QUIC and over WebTransport, and the floor of quinn, which speaks as much of the same protocol.

mod churn;
mod deliver;
mod handshake;
mod idle;
mod publish;
mod session;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use quinn_proto::{ClientConfig, TransportConfig, crypto::rustls::QuicClientConfig};

pub(crate) use self::session::first_words;
use self::session::{Session, Sink, Transport};
use crate::{
    clock::{self, Nanos, SECOND},
    options::{Mode, Options, Peer},
    quic::{Engine, KEEP_ALIVE, Slot},
    report::Report,
    tls, webtransport, wire,
};

/// Bytes of one stream, and of a connection, that the server may send unread (PROTOCOL §2.3).
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 16 << 20;
/// Longest time in which no connection gets further.
const STUCK: Nanos = 10 * SECOND;
/// Longest sleep, so that a deadline is seen.
const NAP: Nanos = SECOND / 10;

/// Runs a load against Tidings, or the floor of quinn.
///
/// # Errors
/// The server refuses, falls silent, or breaks the protocol.
pub fn run(options: &Options) -> Result<Report> {
    match options.mode {
        Mode::Deliver => deliver::run(options),
        Mode::Idle => idle::run(options),
        Mode::Handshake => handshake::run(options),
        Mode::Publish => publish::run(options),
        Mode::Churn => churn::run(options),
    }
}

/// The sessions of a load.
#[derive(Debug)]
struct Fleet {
    engine: Engine<Session>,
    config: ClientConfig,
    tls: tls::Client,
    token: Option<String>,
    address: SocketAddr,
    transport: Transport,
}

impl Fleet {
    fn new(options: &Options) -> Result<Self> {
        let (transport, alpn) = match options.peer {
            Peer::TidingsWebtransport => {
                (Transport::WebTransport(options.address), webtransport::ALPN)
            }
            _ => (Transport::Quic, wire::ALPN),
        };
        let tls = tls::Client::new(&[alpn], options.resume)?;
        let crypto = QuicClientConfig::try_from(tls.config.clone())?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut settings = TransportConfig::default();
        // A session of mode churn has two at a time; the others as many as channels, and HTTP/3 has three.
        let streams = u32::try_from(options.channels.min(128))? + 4;
        settings
            .max_concurrent_uni_streams(streams.into())
            .max_concurrent_bidi_streams(0_u32.into())
            .stream_receive_window(STREAM_WINDOW.into())
            .receive_window(WINDOW.into())
            .keep_alive_interval(Some(KEEP_ALIVE));
        config.transport_config(Arc::new(settings));
        Ok(Self {
            engine: Engine::bind()?,
            config,
            tls,
            token: options.token()?,
            address: options.address,
            transport,
        })
    }

    /// Begins a session that subscribes to the first `channels` channels.
    fn dial(&mut self, index: usize, channels: usize) -> Result<usize> {
        let words = first_words(self.token.as_deref(), channels);
        let session = Session::new(index, self.transport, words, channels);
        self.engine
            .connect(self.config.clone(), self.address, session)
    }

    fn cycle(&mut self, until: Nanos, sink: &mut impl Sink) -> Result<()> {
        self.engine.cycle(until, &mut |slot, event| {
            let Slot {
                connection, app, ..
            } = slot;
            app.on_event(connection, event, sink)?;
            if app.is_over && !connection.is_closed() {
                connection.close(std::time::Instant::now(), 0_u32.into(), bytes::Bytes::new());
            }
            Ok(())
        })
    }

    /// Connects `count` sessions, with at most `parallel` on their way; `ready` tells how many of them are there.
    fn connect<S: Sink>(
        &mut self,
        (count, channels, parallel): (usize, usize, usize),
        sink: &mut S,
        ready: impl Fn(&S) -> usize,
    ) -> Result<()> {
        let mut dialed = 0;
        let (mut last, mut since) = (0, clock::now());
        while ready(sink) < count {
            while dialed < count && dialed < ready(sink) + parallel {
                self.dial(dialed, channels)?;
                dialed += 1;
            }
            self.cycle(clock::now() + NAP, sink)?;
            if ready(sink) > last {
                (last, since) = (ready(sink), clock::now());
            } else if clock::now() > since + STUCK {
                bail!("only {last} of {count} sessions were ready, and then none for 10 s");
            }
        }
        Ok(())
    }

    /// Waits until all is silent.
    fn settle(&mut self, length: Nanos, sink: &mut impl Sink) -> Result<()> {
        let end = clock::now() + length;
        while clock::now() < end {
            self.cycle(end, sink)?;
        }
        Ok(())
    }

    /// Says something on the control stream of a connection.
    fn say(&mut self, connection: usize, bytes: &[u8]) -> Result<()> {
        let slot = self.engine.slot(connection);
        let slot = slot.with_context(|| format!("connection {connection} is gone"))?;
        slot.app.say(bytes);
        slot.app.flush(&mut slot.connection)
    }
}

impl Options {
    /// The token for Hello, where there is one.
    fn token(&self) -> Result<Option<String>> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the token in {}", path.display()))?;
        Ok(Some(text.trim().to_owned()))
    }
}
