//! From an address to `Welcome` (PROTOCOL §4.1, §4.2).

use std::{
    pin::pin,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{timeout, timeout_at};

use super::{
    ClientError, Welcomed,
    builder::Settings,
    link::{Link, pulse::Pulse},
    paths::Paths,
    token::{self, Token},
};
use crate::{
    transport::{Closed, Connection, FrameError, FrameReader, dial::DialError},
    wire::{
        ChannelName, Code, DecodeError, LANES, UserId, VERSION,
        datagram::FEATURE,
        frame::{Frame, Hello, Welcome},
    },
};

impl Link {
    /// Asks for a token, connects and says `Hello`, all within the deadline.
    pub(super) async fn connect(
        dialer: &Paths,
        settings: &Settings,
    ) -> Result<(Self, Welcomed), ClientError> {
        let end = tokio::time::Instant::now() + settings.deadline;
        let refreshed = settings.refreshed.lock();
        let refreshed = refreshed.unwrap_or_else(PoisonError::into_inner).clone();
        let token = match &settings.token {
            Token::None => refreshed,
            Token::Fixed(token) => refreshed.or_else(|| Some(token.clone())),
            Token::Asked(ask) => Some(token::ask(ask, settings.deadline).await?),
        };
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let connection = dialer.dial(left).await?;
        // Authentication may take longer than the server's idle timeout.
        let mut pulse = Pulse::new(&connection, dialer.keep_alive());
        let mut greeting = pin!(greet(connection.clone(), token, settings));
        let greeted = timeout_at(end, async {
            loop {
                tokio::select! {
                    done = &mut greeting => return done,
                    () = pulse.due() => {
                        connection.send_filler(0);
                    }
                }
            }
        });
        let greeted = greeted.await.map(|greeted| {
            let (mut link, welcomed) = greeted?;
            pulse.bound(welcomed.idle_timeout, dialer.keep_alive());
            link.set_pulse(pulse);
            Ok((link, welcomed))
        });
        match greeted {
            Ok(done) => done,
            Err(_) => {
                connection.close(Code::CLOSED, "no Welcome in time");
                let host = dialer.target().to_string();
                Err(ClientError::Dial(DialError::TimedOut(host)))
            }
        }
    }
}

async fn greet(
    connection: Connection,
    token: Option<String>,
    settings: &Settings,
) -> Result<(Link, Welcomed), ClientError> {
    let (mut writer, recv) = connection.open_bi().await.map_err(refused)?;
    let hello = Hello {
        version: VERSION,
        token,
        client: settings.name.clone(),
        features: [LANES, FEATURE].map(str::to_owned).into(),
    };
    // A server that refuses does not always read on: its reason stands in the close of the connection.
    let written = writer.write_all(&mut [Frame::from(hello).encode()]).await;
    let mut reader = FrameReader::new(recv, settings.max_frame);
    let welcome = match (written, read_welcome(&mut reader).await) {
        (Ok(()), Ok(Some(welcome))) => welcome,
        (Ok(()), Err(error)) => {
            connection.close(Code::PROTOCOL_VIOLATION, &error);
            return Err(ClientError::Protocol(error));
        }
        _ => {
            let closed = timeout(CLOSE, connection.closed()).await;
            return Err(closed.map_or_else(
                |_| ClientError::Lost("the server ended the control stream".to_owned()),
                refused,
            ));
        }
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
        expires: welcome
            .expires
            .and_then(|expires| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(expires))),
        idle_timeout: Duration::from_millis(welcome.idle_timeout),
        refused: welcome.refused,
    };
    let link = Link::new(
        connection,
        reader,
        writer,
        automatic,
        welcome.limits,
        settings.max_frame,
        Arc::clone(&settings.refreshed),
    );
    link.expires.send_replace(welcomed.expires);
    Ok((link, welcomed))
}

/// Time that the end of a connection may come after the end of its control stream.
pub(super) const CLOSE: Duration = Duration::from_secs(5);

fn refused(closed: Closed) -> ClientError {
    match closed.code {
        Some(code) => ClientError::Refused {
            code,
            reason: closed.reason,
        },
        None => ClientError::Lost(closed.reason),
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
            Err(FrameError::Decode(error)) if error != DecodeError::Truncated => {
                return Err(error.to_string());
            }
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}
