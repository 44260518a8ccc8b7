//! Where the server is, who to be there, and whom to trust: the flags that `sub`, `pub` and `bench` share.

use std::{iter, net::IpAddr, path::PathBuf, time::Duration};

use super::{Context, Failure, dev::Running, files, token};
use crate::{
    auth::TokenIssuer,
    client::{Builder, Client, ClientError},
    transport::{InvalidTls, Sha256, Transport, Trust},
    wire::{Code, UserId},
};

/// What no flag and no variable says is taken from the server that `tidings serve --dev` runs in this directory.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
#[group(skip)]
pub(super) struct Arguments {
    /// The server: quic://HOST:PORT, https://HOST:PORT/tidings for WebTransport, or wss://HOST:PORT/tidings (ws:// without TLS) for a
    /// WebSocket, where no UDP gets through [env: TIDINGS_URL]
    #[arg(long)]
    pub(super) url: Option<String>,
    /// The token to connect with [env: TIDINGS_TOKEN, which other users of this machine do not see]
    #[arg(long, conflicts_with = "user")]
    pub(super) token: Option<String>,
    /// Connect as this user: signs a token with the secret of `tidings serve --dev` in this directory.
    #[arg(long, value_name = "ID")]
    pub(super) user: Option<UserId>,
    /// Trust the server that has the certificate with this SHA-256, in hexadecimal; may be repeated.
    #[arg(long, value_name = "HEX", value_parser = sha256, conflicts_with = "ca")]
    pub(super) cert_hash: Vec<Sha256>,
    /// Trust servers with a certificate of the authorities in this PEM file, or with a certificate that is in it itself, instead of
    /// those that the system trusts.
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

fn sha256(text: &str) -> Result<Sha256, InvalidTls> {
    text.parse()
}

/// Said wherever there is no server to talk to.
pub(super) const NO_SERVER: &str =
    "no server known here: start one with `tidings serve --dev` in this directory, or pass";

/// Validity of the tokens that `--user` signs, one for each connection.
pub(super) const TOKEN: Duration = Duration::from_secs(12 * 3600);
/// A server that says by itself where it is on this machine has no long way.
const NEAR: Duration = Duration::from_secs(3);

impl Arguments {
    /// Whether one of them says who to be, or where.
    pub(super) fn any(&self) -> bool {
        self.url.is_some() || self.token.is_some() || self.user.is_some()
    }

    /// Connects.
    pub(super) async fn connect(self, context: &Context) -> Result<Client, Failure> {
        let access = self.access(context, None)?;
        let connected = access.builder().connect().await;
        connected.map_err(|error| access.explain(&error))
    }

    /// What connects, as often as is wanted: over this transport, or the one that a URL says.
    pub(super) fn access(
        self,
        context: &Context,
        transport: Option<Transport>,
    ) -> Result<Access, Failure> {
        let running = Running::find().map_err(Failure::new)?;
        let given = self.url.as_deref().or_else(|| context.var("TIDINGS_URL"));
        let url = match (given, &running) {
            (Some(url), _) => match transport.filter(|transport| !goes_with(url, *transport)) {
                Some(transport) => {
                    return Err(Failure::usage(format!(
                        "--transport {transport} goes with a URL that begins with {}, and this is {url}",
                        scheme(transport)
                    )));
                }
                None => url.to_owned(),
            },
            (None, Some(running)) => match transport {
                Some(Transport::WebTransport) => running.webtransport.clone(),
                Some(Transport::WebSocket) => running.websocket.clone().ok_or_else(|| {
                    Failure::new(
                        "the server that runs here serves no WebSockets (websockets = false)",
                    )
                })?,
                _ => running.quic.clone(),
            },
            (None, None) => return Err(Failure::new(format!("{NO_SERVER} --url"))),
        };
        let running = running.filter(|running| {
            let mut places = iter::once(&running.quic).chain(&running.plain_websocket);
            places.any(|place| is_same(&url, place))
        });
        let trust = self.trust(running.as_ref())?;
        let ca = self.ca.clone();
        let credentials = self.credentials(context)?;
        Ok(Access {
            url,
            trust,
            ca,
            running,
            credentials,
        })
    }

    fn trust(&self, running: Option<&Running>) -> Result<Trust, Failure> {
        if !self.cert_hash.is_empty() {
            return Ok(Trust::Hashes(self.cert_hash.clone()));
        }
        if let Some(path) = &self.ca {
            return files::read(path).map(Trust::Pem).map_err(Failure::usage);
        }
        match running {
            Some(running) => {
                let hash = running.certificate_sha256.parse();
                Ok(Trust::Hashes(vec![hash.map_err(Failure::new)?]))
            }
            None => Ok(Trust::System),
        }
    }

    /// Who the server is told to let in.
    fn credentials(self, context: &Context) -> Result<Credentials, Failure> {
        if let Some(user) = self.user {
            return Ok(Credentials::User(token::issuer(None)?, user));
        }
        let given = self
            .token
            .or_else(|| context.var("TIDINGS_TOKEN").map(str::to_owned));
        Ok(match given {
            Some(token) => Credentials::Token(token.trim().to_owned()),
            None => Credentials::None,
        })
    }
}

/// A server, and how to get in.
pub(super) struct Access {
    pub(super) url: String,
    trust: Trust,
    /// The file that the trust comes from.
    ca: Option<PathBuf>,
    /// Where it is the server that is noted in the development directory.
    pub(super) running: Option<Running>,
    credentials: Credentials,
}

enum Credentials {
    None,
    Token(String),
    User(TokenIssuer, UserId),
}

impl Access {
    /// Whether it was said who to be.
    pub(super) const fn identified(&self) -> bool {
        !matches!(self.credentials, Credentials::None)
    }

    /// A client in the making.
    pub(super) fn builder(&self) -> Builder {
        let mut builder = Client::builder(&self.url)
            .trust(self.trust.clone())
            .name(concat!("tidings-cli/", env!("CARGO_PKG_VERSION")));
        if self.running.is_some() {
            builder = builder.deadline(NEAR);
        }
        match &self.credentials {
            Credentials::None => builder,
            Credentials::Token(token) => builder.token(token),
            Credentials::User(issuer, user) => {
                let (issuer, user) = (issuer.clone(), user.clone());
                builder.token_from(move || {
                    let token = issuer.issue(&user, TOKEN);
                    async move { Ok(token) }
                })
            }
        }
    }

    /// Why there is no connection, and what to do.
    pub(super) fn explain(&self, error: &ClientError) -> Failure {
        use crate::transport::dial::DialError as Dial;
        let hint = match error {
            ClientError::Refused { code, .. }
                if *code == Code::UNAUTHENTICATED && !self.identified() =>
            {
                "; pass --token, or --user ID where `tidings serve --dev` runs"
            }
            ClientError::Dial(Dial::Url { .. }) => return Failure::usage(error),
            ClientError::Dial(Dial::Tls(wrong)) => {
                return Failure::usage(match &self.ca {
                    Some(path) => format!("{}: {wrong}", path.display()),
                    None => wrong.to_string(),
                });
            }
            ClientError::Dial(Dial::Untrusted { .. }) if matches!(self.trust, Trust::System) => {
                "; pass --ca FILE or --cert-hash HEX (`tidings cert --hash` prints it)"
            }
            ClientError::Dial(Dial::TimedOut(_)) if self.running.is_some() => {
                " (certs/dev/server.json names this server: start it again with `tidings serve --dev`)"
            }
            _ => "",
        };
        Failure::new(format!("{}: {error}{hint}", self.url))
    }
}

/// How URLs of a transport begin.
const fn scheme(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => "quic://",
        Transport::WebTransport => "https://",
        Transport::WebSocket => "wss://",
    }
}

fn goes_with(url: &str, transport: Transport) -> bool {
    url.starts_with(scheme(transport))
        || transport == Transport::WebSocket && url.starts_with("ws://")
}

/// Whether two URLs name the same port of this machine, or the same host and port.
fn is_same(a: &str, b: &str) -> bool {
    let place = |text: &str| {
        let url = url::Url::parse(text).ok()?;
        let host = url.host_str()?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let local = bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let host = if local { "localhost" } else { bare };
        Some((host.to_owned(), url.port()?))
    };
    place(a).is_some_and(|place_a| Some(place_a) == place(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_this_machine_is_known_by_its_port() {
        let here = "quic://127.0.0.1:4433";
        for same in [here, "https://localhost:4433/tidings", "quic://[::1]:4433"] {
            assert!(is_same(same, here), "{same}");
        }
        for other in [
            "quic://127.0.0.1:4434",
            "quic://example.org:4433",
            "https://localhost",
            "no",
        ] {
            assert!(!is_same(other, here), "{other}");
        }
    }
}
