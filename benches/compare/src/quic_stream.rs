//! Thousands of QUIC connections with a bidirectional stream each, which the client opens, and perhaps further ones of the
//! server's, on which the server goes on.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use quinn_proto::{
    ClientConfig, Connection, Dir, Event, ReadError, StreamEvent, StreamId, TransportConfig,
    WriteError, crypto::rustls::QuicClientConfig,
};

use crate::{
    clock::Nanos,
    options::Options,
    quic::{Engine, KEEP_ALIVE},
    report::Report,
    stream_load::{self, Carrier, Codec, Load, Pipe},
    tls,
};

/// Bytes that the server may send unread. The load reads at once; a burst of 32 messages to one connection is 8 KiB.
const WINDOW: u32 = 1 << 20;

/// Carries out `options` over QUIC connections that speak `C`, offer `alpn` and permit the server `streams` of its own.
///
/// # Errors
/// A connection failed, or the server's process is gone.
pub fn run<C: Codec>(options: &Options, alpn: &str, streams: u32) -> Result<Report> {
    let connections = Connections::<C> {
        engine: Engine::bind()?,
        config: config(alpn, streams, 0)?,
        slots: Vec::new(),
    };
    stream_load::run(options, connections)
}

/// How connections are made that offer `alpn` and permit the server so many streams of its own.
///
/// # Errors
/// The provider does not speak TLS 1.3.
pub fn config(alpn: &str, unidirectional: u32, bidirectional: u32) -> Result<ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls::Client::new(&[alpn], false)?.config)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut settings = TransportConfig::default();
    settings
        .max_concurrent_uni_streams(unidirectional.into())
        .max_concurrent_bidi_streams(bidirectional.into())
        .stream_receive_window(WINDOW.into())
        .keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(settings));
    Ok(config)
}

struct Connections<C> {
    engine: Engine<Stream<C>>,
    config: ClientConfig,
    /// Where the engine keeps each connection.
    slots: Vec<usize>,
}

/// One connection.
struct Stream<C> {
    pipe: Pipe<C>,
    id: Option<StreamId>,
}

impl<C: Codec> Carrier<C> for Connections<C> {
    fn connect(&mut self, address: SocketAddr, pipe: Pipe<C>) -> Result<()> {
        let stream = Stream { pipe, id: None };
        let slot = self.engine.connect(self.config.clone(), address, stream)?;
        self.slots.push(slot);
        Ok(())
    }

    fn turn(&mut self, until: Nanos, load: &mut Load) -> Result<()> {
        self.engine.cycle(until, &mut |slot, event| {
            if let Err(error) = slot.app.on_event(&mut slot.connection, event, load) {
                load.closed(&slot.app.pipe, error);
            }
            Ok(())
        })
    }

    fn pipe(&mut self, index: usize) -> Option<&mut Pipe<C>> {
        let slot = self.engine.slot(*self.slots.get(index)?)?;
        Some(&mut slot.app.pipe)
    }

    fn flush(&mut self, index: usize, load: &mut Load) {
        let Some(slot) = self
            .slots
            .get(index)
            .and_then(|slot| self.engine.slot(*slot))
        else {
            return;
        };
        if let Err(error) = slot.app.flush(&mut slot.connection) {
            load.closed(&slot.app.pipe, error);
        }
    }

    fn datagrams(&self) -> u64 {
        self.engine.datagrams()
    }
}

impl<C: Codec> Stream<C> {
    fn on_event(
        &mut self,
        connection: &mut Connection,
        event: Event,
        load: &mut Load,
    ) -> Result<()> {
        match event {
            Event::Connected => {
                let id = connection.streams().open(Dir::Bi);
                self.id = Some(id.context("open a stream: the server permits none")?);
                self.pipe.open();
            }
            Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                while let Some(id) = connection.streams().accept(Dir::Uni) {
                    self.read(connection, id, load)?;
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.read(connection, id, load)?,
            Event::Stream(StreamEvent::Writable { .. }) => {}
            Event::ConnectionLost { reason } => return Err(anyhow!(reason)),
            _ => return Ok(()),
        }
        self.flush(connection)
    }

    fn read(&mut self, connection: &mut Connection, id: StreamId, load: &mut Load) -> Result<()> {
        if self.pipe.stalled {
            return Ok(());
        }
        let inlet = match id.dir() {
            Dir::Bi => 0,
            Dir::Uni => 1 + id.index() as usize,
        };
        let mut stream = connection.recv_stream(id);
        let mut chunks = stream.read(true).context("read the stream")?;
        let outcome = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    if let Err(error) = self.pipe.receive(inlet, &chunk.bytes, load) {
                        break Err(error);
                    }
                }
                Ok(None) => break Err(anyhow!("the server has ended the stream")),
                Err(ReadError::Blocked) => break Ok(()),
                Err(ReadError::Reset(code)) => {
                    break Err(anyhow!("the server has reset the stream: {code}"));
                }
            }
        };
        // What it asks to be sent goes out after the event.
        let _ = chunks.finalize();
        outcome
    }

    fn flush(&mut self, connection: &mut Connection) -> Result<()> {
        let Some(id) = self.id.filter(|_| !self.pipe.outgoing.is_empty()) else {
            return Ok(());
        };
        match connection.send_stream(id).write(&self.pipe.outgoing) {
            Ok(written) => {
                self.pipe.outgoing.drain(..written);
                Ok(())
            }
            Err(WriteError::Blocked) => Ok(()),
            Err(error) => bail!("write to the stream: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
