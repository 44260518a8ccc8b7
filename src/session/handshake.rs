//! `Hello`, and who it is (PROTOCOL §4.1). Nothing of the application is touched here.

use std::time::SystemTime;

use tokio::time::timeout;

use super::{Close, Context, MAX_FRAME_BEFORE_WELCOME};
use crate::{
    auth::{Credentials, Grant, Request},
    transport::{Closed, Connection, FrameError, FrameReader, SendStream, Upgrade},
    wire::{
        Code, DecodeError, VERSION,
        codec::REQUESTS,
        frame::{Frame, Hello},
    },
};

/// A client with good credentials.
pub(super) struct Greeting {
    pub(super) reader: FrameReader,
    pub(super) writer: SendStream,
    pub(super) hello: Hello,
    /// Kept only for an authenticator that reads it.
    pub(super) request: Option<Box<Request>>,
    pub(super) grant: Grant,
}

/// Longest `client` that is kept for logs, in bytes.
const MAX_CLIENT: usize = 100;

pub(super) async fn greet(
    connection: &Connection,
    upgrade: Option<Upgrade>,
    context: &Context,
) -> Result<Greeting, Close> {
    let deadline = context.config.deadline;
    let (reader, writer, mut hello) =
        timeout(deadline, read_hello(connection))
            .await
            .map_err(|_| {
                Close::new(
                    Code::HELLO_TIMEOUT,
                    format!("no complete Hello within {} s", deadline.as_secs_f32()),
                )
            })??;
    if hello.version != VERSION {
        let reason = format!(
            "this server speaks version {VERSION}, not {}",
            hello.version
        );
        return Err(Close::new(Code::UNSUPPORTED_VERSION, reason));
    }
    hello.client = hello
        .client
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_CLIENT)
        .collect();
    let token = hello.token.take();
    let request = upgrade
        .filter(|_| context.authenticator.reads_request())
        .map(|upgrade| Request::from_parts(upgrade.path, upgrade.query, upgrade.headers))
        .map(Box::new);
    let credentials = Credentials::new(
        token.as_deref(),
        &hello.client,
        connection.remote_address(),
        SystemTime::now(),
    )
    .over(connection.transport(), request.as_deref());
    let grant = timeout(deadline, context.authenticator.authenticate(&credentials))
        .await
        .map_err(|_| Close::new(Code::OVERLOADED, "authentication took too long"))?
        .map_err(|denied| Close::new(denied.code(), denied.to_string()))?;
    Ok(Greeting {
        reader,
        writer,
        hello,
        request,
        grant,
    })
}

async fn read_hello(connection: &Connection) -> Result<(FrameReader, SendStream, Hello), Close> {
    let (writer, recv) = connection.accept_bi().await.map_err(left)?;
    let mut reader = FrameReader::new(recv, MAX_FRAME_BEFORE_WELCOME);
    loop {
        match reader.next().await {
            Ok(Some(raw)) => match Frame::decode(&raw) {
                Ok(Some(Frame::Hello(hello))) => return Ok((reader, writer, hello)),
                Ok(Some(other)) => {
                    return Err(Close::new(
                        Code::UNEXPECTED_FRAME,
                        format!("{} before Hello", other.name()),
                    ));
                }
                Ok(None) if REQUESTS.contains(&raw.kind) => {
                    return Err(Close::new(
                        Code::UNEXPECTED_FRAME,
                        format!("a request of type {:#04x} before Hello", raw.kind),
                    ));
                }
                Ok(None) => {}
                Err(error) => return Err(protocol_fault(&error)),
            },
            Ok(None) => {
                return Err(Close::new(
                    Code::CLOSED,
                    "the control stream ended before Hello",
                ));
            }
            Err(FrameError::Decode(error)) => return Err(protocol_fault(&error)),
            Err(FrameError::Reset(_)) => {
                return Err(Close::new(
                    Code::CLOSED,
                    "the client reset the control stream before Hello",
                ));
            }
            Err(FrameError::Closed) => return Err(left(connection.closed().await)),
        }
    }
}

/// How the client left.
fn left(closed: Closed) -> Close {
    let reason = format!("the client left before Hello: {}", closed.reason);
    Close::new(closed.code.unwrap_or(Code::CLOSED), reason)
}

/// The close that bytes deserve which are not what the specification says.
pub(super) fn protocol_fault(error: &DecodeError) -> Close {
    let code = match error {
        DecodeError::TooLarge { .. } => Code::FRAME_TOO_LARGE,
        _ => Code::PROTOCOL_VIOLATION,
    };
    Close::new(code, error.to_string())
}
