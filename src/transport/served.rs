//! What the server does with a connection of any kind.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

#[cfg(feature = "client")]
use super::other_side;
use super::{
    Closed, Connection, Kind, OpenError, Prompt, RecvStream, SendStream, Source, Streams, driver,
    ended, http3, mux,
};

/// What carries it.
enum Carrier<'a> {
    Quic(&'a driver::Connection),
    Mux(&'a mux::Connection),
}

impl Connection {
    pub(super) fn http3(session: http3::Http3) -> Self {
        Self(Kind::Http3(Arc::new(session)))
    }

    #[cfg(all(test, feature = "client"))]
    pub(super) fn quic(&self) -> Option<&driver::Connection> {
        match self.carrier()? {
            Carrier::Quic(connection) => Some(connection),
            Carrier::Mux(_) => None,
        }
    }

    /// `None` on the client's side.
    fn carrier(&self) -> Option<Carrier<'_>> {
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(_) => None,
            Kind::Quic(connection) => Some(Carrier::Quic(connection)),
            Kind::Http3(session) => Some(Carrier::Quic(&session.connection)),
            Kind::Mux(connection) => Some(Carrier::Mux(connection)),
        }
    }

    /// Where the client is now.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.remote_address(),
            Some(Carrier::Mux(connection)) => connection.remote_address(),
            None => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        }
    }

    /// The round trip: smoothed, or over a WebSocket the last that was measured.
    pub(crate) fn rtt(&self) -> Duration {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.rtt(),
            Some(Carrier::Mux(connection)) => connection.rtt(),
            None => Duration::ZERO,
        }
    }

    /// Whether the client acknowledges nothing of what is in flight, for `limit`, although it sends. To be asked several times within
    /// `limit`. False over a WebSocket, whose own idle timeout counts a peer that takes nothing as silent.
    pub(crate) fn acknowledges_nothing(&self, limit: Duration) -> bool {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.acknowledges_nothing(limit),
            Some(Carrier::Mux(_)) | None => false,
        }
    }

    /// The next bidirectional stream of the client. Cancel safe.
    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Closed> {
        match &self.0 {
            #[cfg(feature = "client")]
            Kind::Client(_) => Err(other_side()),
            Kind::Quic(connection) => match connection.accept_bi().await {
                Ok((send, recv)) => Ok((
                    SendStream::server(send, false),
                    RecvStream::server(recv, false),
                )),
                Err(error) => Err(ended(error)),
            },
            Kind::Http3(session) => Box::pin(session.accept_bi()).await,
            Kind::Mux(connection) => {
                let (send, recv) = connection.accept_bi().await?;
                Ok((send.into(), recv.into()))
            }
        }
    }

    /// Prepares unidirectional streams, on which nothing is written yet.
    pub(crate) fn arrange<T>(
        &self,
        work: impl FnOnce(&mut Streams<'_>) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.arrange(work),
            Some(Carrier::Mux(connection)) => connection.arrange(work),
            None => Err(OpenError::Closed),
        }
    }

    /// Whether the peer takes datagrams (RFC 9221; over WebTransport its SETTINGS said so too, or there would be no session). Over a
    /// WebSocket nothing is lost, and so nothing is a datagram.
    pub(crate) fn takes_datagrams(&self) -> bool {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.takes_datagrams(),
            Some(Carrier::Mux(_)) | None => false,
        }
    }

    /// Who writes the unidirectional streams from now on; the first call counts.
    pub(crate) fn set_source(&self, source: Weak<dyn Source>) {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.set_source(source),
            Some(Carrier::Mux(connection)) => connection.set_source(source),
            None => {}
        }
    }

    /// What asks the source; `None` on the client's side.
    pub(crate) fn prompt(&self) -> Option<Prompt> {
        match self.carrier()? {
            Carrier::Quic(connection) => Some(connection.prompt().into()),
            Carrier::Mux(connection) => Some(connection.prompt().into()),
        }
    }

    /// The unidirectional streams, outside of [`Source::fill`].
    pub(crate) fn with_streams(&self, work: impl FnOnce(&mut Streams<'_>)) {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.with_streams(work),
            Some(Carrier::Mux(connection)) => connection.with_streams(work),
            None => {}
        }
    }

    /// Bytes that the peer may send on all streams together and we have not read.
    pub(crate) fn set_receive_window(&self, bytes: u32) {
        match self.carrier() {
            Some(Carrier::Quic(connection)) => connection.set_receive_window(bytes.into()),
            Some(Carrier::Mux(connection)) => connection.set_receive_window(bytes.into()),
            None => {}
        }
    }
}
