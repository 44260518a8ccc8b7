//! Tidings is a real-time server over QUIC and WebTransport: publish to a channel, and every device of every subscriber gets it.
//!
//! Every subscription is one unidirectional QUIC stream that the server opens, so a lost packet or a slow reader of one channel
//! holds up no other. Messages on the wire are bincode; PROTOCOL.md is the specification.
//!
//! It is no web framework, no database and no message queue: channels live in memory, bounded, and tell a reader that was
//! too slow what it missed.
//!
//! ```
//! use tidings::{auth::AllowAnonymous, client::{Client, Trust}, server::Server};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder()
//!     .listen("127.0.0.1:0".parse()?)
//!     .self_signed()
//!     .authenticator(AllowAnonymous::only())
//!     .bind()
//!     .await?;
//! let url = format!("quic://{}", server.local_address());
//! let trust = Trust::Hashes(vec![server.certificate_sha256()]);
//! let broker = server.broker().clone();
//! let running = tokio::spawn(server.run(std::future::pending()));
//!
//! let client = Client::builder(url).trust(trust).connect().await?;
//! let mut global = client.subscribe("global").await?;
//! broker.announce("hello")?;
//! let publication = global.next_publication().await.ok_or("it ended")?;
//! assert_eq!(publication.message.as_text(), Some("hello"));
//! # running.abort();
//! # Ok(()) }
//! ```
//!
//! # The map
//! | module | what | feature |
//! | --- | --- | --- |
//! | [`server`] | a server, put together; its HTTP API is [`server::http`] | `server`, `http` |
//! | [`broker`] | channels, subscriptions and listeners in this process | `server` |
//! | [`auth`] | who may come in, and what they may do | `server` |
//! | [`endpoint`] | user code for each session | `server` |
//! | [`client`] | the native client | `client` |
//! | [`testing`] | a real server inside a test | `test-util` |
//! | [`transport`] | certificates and trust | `server`, `client` |
//! | [`wire`] | the protocol's bytes: all there is without features | |
//!
//! ARCHITECTURE.md tells how they stand on each other.

// Here and not in the manifest: integration tests unwrap.
#![warn(clippy::unwrap_used)]

#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod endpoint;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod session;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(feature = "_net")]
pub mod transport;
pub mod wire;

/// Attribute that an implementation of [`auth::Authenticator`] or [`endpoint::Endpoint`] carries.
#[cfg(feature = "server")]
pub use async_trait::async_trait;
pub use wire::{ChannelName, Code, Message, Position, Publication, Start, UserId};
