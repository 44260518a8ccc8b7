//! QUIC connections with as many streams as moq-lite opens.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail};
use quinn_proto::{ClientConfig, Connection, Event, ReadError, StreamEvent, StreamId, WriteError};

use super::{ALPN, Moq, STREAMS};
use crate::{
    clock::Nanos,
    options::Options,
    quic::Engine,
    quic_stream,
    report::Report,
    stream_load::{self, Carrier, Load, Pipe},
};

/// Carries out `options`.
///
/// # Errors
/// A connection failed, or the server's process is gone.
pub fn run(options: &Options) -> Result<Report> {
    let connections = Connections {
        engine: Engine::bind()?,
        config: quic_stream::config(ALPN, STREAMS, STREAMS)?,
        slots: Vec::new(),
    };
    stream_load::run(options, connections)
}

struct Connections {
    engine: Engine<Session>,
    config: ClientConfig,
    /// Where the engine keeps each connection, by the number of its pipe: the publisher's comes before those of subscribers.
    slots: Vec<Option<usize>>,
}

/// One connection.
struct Session(Pipe<Moq>);

impl Carrier<Moq> for Connections {
    fn connect(&mut self, address: SocketAddr, pipe: Pipe<Moq>) -> Result<()> {
        let index = pipe.index;
        let config = self.config.clone();
        let slot = self.engine.connect(config, address, Session(pipe))?;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(slot);
        Ok(())
    }

    fn turn(&mut self, until: Nanos, load: &mut Load) -> Result<()> {
        self.engine.cycle(until, &mut |slot, event| {
            if let Err(error) = slot.app.on_event(&mut slot.connection, event, load) {
                load.closed(&slot.app.0, error);
            }
            Ok(())
        })
    }

    fn pipe(&mut self, index: usize) -> Option<&mut Pipe<Moq>> {
        let slot = self.engine.slot((*self.slots.get(index)?)?)?;
        Some(&mut slot.app.0)
    }

    fn flush(&mut self, index: usize, load: &mut Load) {
        let slot = self.slots.get(index).copied().flatten();
        let Some(slot) = slot.and_then(|slot| self.engine.slot(slot)) else {
            return;
        };
        if let Err(error) = slot.app.flush(&mut slot.connection) {
            load.closed(&slot.app.0, error);
        }
    }

    fn datagrams(&self) -> u64 {
        self.engine.datagrams()
    }
}

impl Session {
    fn on_event(
        &mut self,
        connection: &mut Connection,
        event: Event,
        load: &mut Load,
    ) -> Result<()> {
        match event {
            Event::Connected => self.0.open(),
            Event::Stream(StreamEvent::Opened { dir }) => {
                while let Some(id) = connection.streams().accept(dir) {
                    self.read(connection, id, load)?;
                }
            }
            Event::Stream(StreamEvent::Readable { id }) => self.read(connection, id, load)?,
            Event::Stream(StreamEvent::Writable { .. } | StreamEvent::Available { .. }) => {}
            Event::ConnectionLost { reason } => return Err(anyhow!(reason)),
            _ => return Ok(()),
        }
        self.flush(connection)
    }

    fn read(&mut self, connection: &mut Connection, id: StreamId, load: &mut Load) -> Result<()> {
        if self.0.stalled {
            return Ok(());
        }
        let inlet = self.0.codec.inlet(id);
        let mut stream = connection.recv_stream(id);
        // Every datagram of a stream is told of, also when the one before was read together with it, to the stream's end.
        let Ok(mut chunks) = stream.read(true) else {
            return Ok(());
        };
        let outcome = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => {
                    if let Err(error) = self.0.receive(inlet, &chunk.bytes, load) {
                        break Err(error);
                    }
                }
                Ok(None) => break self.0.codec.ended(inlet),
                Err(ReadError::Blocked) => break Ok(()),
                Err(ReadError::Reset(code)) => {
                    let ended = self.0.codec.ended(inlet);
                    break ended.with_context(|| format!("a stream is reset with {code}"));
                }
            }
        };
        // What it asks to be sent goes out after the event.
        let _ = chunks.finalize();
        outcome
    }

    /// Opens what is to be opened, and writes what can be written.
    fn flush(&mut self, connection: &mut Connection) -> Result<()> {
        for stream in &mut self.0.codec.streams {
            if stream.outgoing.is_empty() {
                continue;
            }
            let id = match stream.id {
                Some(id) => id,
                None => match connection.streams().open(stream.dir) {
                    Some(id) => *stream.id.insert(id),
                    // The relay has yet to permit it.
                    None => continue,
                },
            };
            match connection.send_stream(id).write(&stream.outgoing) {
                Ok(written) => drop(stream.outgoing.drain(..written)),
                Err(WriteError::Blocked) => continue,
                Err(WriteError::Stopped(code)) => bail!("the relay reads a stream no more: {code}"),
                Err(error) => bail!("write to a stream: {error}"),
            }
            if stream.ends && stream.outgoing.is_empty() {
                connection.send_stream(id).finish()?;
            }
        }
        Ok(())
    }
}
