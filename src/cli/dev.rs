//! The development directory: what `serve --dev` makes, and what the other commands find there.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{cert, files, files::Mode::Private};
use crate::{
    server::{CertificateFiles, ServerError},
    transport::{Certificate, Sha256},
};

/// Below the current directory.
pub(super) const DIRECTORY: &str = "certs/dev";
/// The certificate chain.
pub(super) const CERTIFICATE: &str = "cert.pem";
/// Its private key.
pub(super) const KEY: &str = "key.pem";
/// What tokens are signed with.
pub(super) const TOKEN_SECRET: &str = "token.secret";
/// The key of the HTTP API.
pub(super) const API_KEY: &str = "api.key";
/// Where the server is, as long as it runs.
const SERVER: &str = "server.json";

/// Days that a new certificate is good for: a day less than browsers allow for one that is pinned.
pub(super) const DAYS: u64 = 13;
/// Names that a new certificate is good for.
pub(super) const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// A certificate that is over this soon is replaced: a server may run for a while.
const ENOUGH: Duration = Duration::from_secs(2 * 24 * 3600);

/// A file of the directory.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes what is missing, and says what it made.
pub(super) fn prepare() -> Result<Vec<String>, String> {
    fs::create_dir_all(DIRECTORY)
        .map_err(|error| format!("cannot make the directory {DIRECTORY} here: {error}"))?;
    files::make_private(Path::new(DIRECTORY))?;
    let mut made = Vec::new();
    if let Some(why) = bad_certificate() {
        new_certificate()?;
        made.push(format!(
            "{}: a new self-signed certificate for {DAYS} days ({why})",
            path(CERTIFICATE).display()
        ));
    }
    for name in [TOKEN_SECRET, API_KEY] {
        let path = path(name);
        if !path.exists() {
            let text = files::random_secret() + "\n";
            files::write(&path, text.as_bytes(), Private)?;
            made.push(format!("{}: 32 new random bytes", path.display()));
        }
    }
    for name in [CERTIFICATE, KEY, TOKEN_SECRET, API_KEY] {
        files::make_private(&path(name))?;
    }
    Ok(made)
}

/// Why the certificate cannot stay.
fn bad_certificate() -> Option<String> {
    let pair = CertificateFiles::new(path(CERTIFICATE), path(KEY));
    match pair.load() {
        Err(ServerError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Some("there was none".to_owned())
        }
        Err(error) => Some(format!("the old one cannot be used: {error}")),
        Ok(_) => {
            let pem = fs::read(&pair.chain).unwrap_or_default();
            let later = SystemTime::now() + ENOUGH;
            let name = NAMES[0];
            cert::check(&pem, name, later)
                .err()
                .map(|why| format!("the old one would be no good in two days: {why}"))
        }
    }
}

fn new_certificate() -> Result<(), String> {
    let valid = Duration::from_secs(DAYS * 24 * 3600);
    let (_, chain, key) = Certificate::self_signed(&NAMES, SystemTime::now(), valid)
        .map_err(|error| error.to_string())?;
    files::write(&path(KEY), key.as_bytes(), Private)?;
    files::write(&path(CERTIFICATE), chain.as_bytes(), Private)
}

/// A server that runs: `server.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) quic: String,
    pub(super) webtransport: String,
    pub(super) websocket: Option<String>,
    #[serde(default)]
    pub(super) plain_websocket: Option<String>,
    pub(super) http: Option<String>,
    pub(super) certificate_sha256: String,
    /// Its process on this machine.
    pub(super) pid: Option<u32>,
}

impl Running {
    /// The server of this process at these addresses, as it is reached from this machine.
    pub(super) fn new(quic: SocketAddr, http: Option<SocketAddr>, sha256: Sha256) -> Self {
        let quic = reachable(quic);
        Self {
            quic: format!("quic://{quic}"),
            webtransport: format!("https://{quic}{}", crate::wire::WEBTRANSPORT_PATH),
            websocket: Some(format!("wss://{quic}{}", crate::wire::WEBTRANSPORT_PATH)),
            plain_websocket: None,
            http: http.map(|http| format!("http://{}", reachable(http))),
            certificate_sha256: sha256.to_string(),
            pid: Some(std::process::id()),
        }
    }

    /// The one that is noted here; `None` where none is.
    pub(super) fn find() -> Result<Option<Self>, String> {
        let path = path(SERVER);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                format!(
                    "{} is damaged ({error}): start `tidings serve --dev` again, or pass --url",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Notes this one here until the guard is dropped.
    pub(super) fn note(&self) -> Result<Note, String> {
        let mut text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        text.push(b'\n');
        files::write(&path(SERVER), &text, Private)?;
        Ok(Note(text))
    }
}

/// The URL of WebSockets without TLS at this address.
pub(super) fn plain_websocket(address: SocketAddr) -> String {
    format!(
        "ws://{}{}",
        reachable(address),
        crate::wire::WEBTRANSPORT_PATH
    )
}

/// Takes `server.json` away when it is dropped, unless another server has written its own meanwhile.
#[derive(Debug)]
pub(super) struct Note(Vec<u8>);

impl Drop for Note {
    fn drop(&mut self) {
        let path = path(SERVER);
        if fs::read(&path).is_ok_and(|text| text == self.0) {
            let _ = fs::remove_file(path);
        }
    }
}

/// An address that a client on this machine can use.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_reached_on_loopback() {
        let running = |quic: &str| {
            Running::new(
                quic.parse().unwrap(),
                Some("0.0.0.0:8080".parse().unwrap()),
                Sha256([0xab; 32]),
            )
        };
        let six = running("[::]:4433");
        assert_eq!(six.quic, "quic://[::1]:4433");
        assert_eq!(six.webtransport, "https://[::1]:4433/tidings");
        assert_eq!(six.websocket.as_deref(), Some("wss://[::1]:4433/tidings"));
        assert_eq!(six.http.as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(six.certificate_sha256, "ab".repeat(32));
        assert_eq!(running("192.0.2.1:1").quic, "quic://192.0.2.1:1");
    }
}
