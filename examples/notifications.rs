//! Every user gets notifications of their own, and everybody gets announcements: `cargo run --example notifications`.

use std::time::Duration;

use tidings::auth::{JwtAuthenticator, Rules, TokenIssuer, VerifyingKey};
use tidings::broker::{Broker, PublishError};
use tidings::client::{Client, Trust};
use tidings::endpoint::{Endpoint, Session};
use tidings::{ChannelName, Code, UserId, server::Server};

struct Notifications;

#[async_trait::async_trait]
impl Endpoint for Notifications {
    async fn session_opened(&self, session: &Session) {
        // Who is it? Nobody gets in without a user.
        let Some(user) = session.user() else {
            return session.close(Code::UNAUTHENTICATED, "log in first");
        };
        // Forward the user's own channel, and the one for everybody, to this client.
        for (channel, stream) in [
            (ChannelName::of_user(user), "notification"),
            (ChannelName::global(), "announcement"),
        ] {
            let stream = ChannelName::parse(stream).expect("a name");
            if let Err(error) = session.forward(&channel, &stream) {
                session.close(error.code(), &error.to_string());
            }
        }
    }
}

/// All connected devices of the user get it.
fn send_notification(broker: &Broker, user: &UserId, text: &str) -> Result<(), PublishError> {
    broker.notify(user, text).map(drop)
}

/// Everybody gets it.
fn broadcast_announcement(broker: &Broker, text: &str) -> Result<(), PublishError> {
    broker.announce(text).map(drop)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret: [u8; 32] = rand::random();
    let server = Server::builder()
        .listen("127.0.0.1:0".parse()?)
        .self_signed()
        .authenticator(JwtAuthenticator::new(vec![VerifyingKey::hs256(&secret)?])?)
        .rules(Rules::new(Vec::new())?)
        .endpoint(Notifications)
        .bind()
        .await?;
    let (address, broker) = (server.local_address(), server.broker().clone());
    let trust = Trust::Hashes(vec![server.certificate_sha256()]);
    tokio::spawn(server.run(std::future::pending()));

    let user = UserId::parse("42")?;
    let token = TokenIssuer::new(secret)?.issue(&user, Duration::from_secs(60));
    // Two devices, one over QUIC and one over WebTransport.
    for (device, scheme) in [("phone", "quic"), ("laptop", "https")] {
        let client = Client::builder(format!("{scheme}://{address}"));
        let client = client.token(&token).trust(trust.clone()).connect().await?;
        send_notification(&broker, &user, "your order shipped")?;
        broadcast_announcement(&broker, "hello")?;
        for name in ["notification", "announcement"] {
            let publication = client.stream(name)?.next_publication().await;
            let message = publication.ok_or("the stream ended")?.message;
            println!("{device}: {name}: {}", message.as_text().unwrap_or("?"));
        }
        client.close().await;
    }
    Ok(())
}
