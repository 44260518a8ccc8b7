//! `tidings cert`: self-signed certificates and their hashes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::{
    Context, Failure, dev,
    files::{self, Mode},
};
use crate::transport::{Certificate, Sha256};

/// Make a self-signed certificate, or print the hash of one
///
/// Writes cert.pem and key.pem (readable by their owner alone) into a directory, and prints the certificate's SHA-256, by
/// which a client can trust it: `tidings sub --cert-hash`, or `serverCertificateHashes` in a browser.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The directory to write cert.pem and key.pem into; it is made when missing.
    #[arg(long, value_name = "DIR", required_unless_present = "hash")]
    out: Option<PathBuf>,
    /// A name or IP address of the server; may be repeated. Without it: localhost, 127.0.0.1 and ::1.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Days that it is good for. Browsers trust a hash only for 14 days at most.
    #[arg(long, value_name = "N", default_value_t = dev::DAYS, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    /// Print the SHA-256 of the first certificate in this PEM file instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "names", "days", "force"])]
    hash: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  tidings cert --out certs/mine --name chat.example.org
  tidings cert --hash certs/mine/cert.pem";

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    if let Some(path) = &arguments.hash {
        let pem = files::read(path).map_err(Failure::usage)?;
        let certificate =
            leaf(&pem).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        return context.console.print(&Sha256::of(&certificate).to_string());
    }
    let Some(directory) = &arguments.out else {
        return Err(Failure::usage("--out DIR or --hash FILE is missing"));
    };
    let sha256 = make(directory, arguments)?;
    if arguments.days > 14 {
        context.console.tell(
            "note: browsers trust a hash only of a certificate that is good for 14 days at most",
        );
    }
    context.console.print(&sha256.to_string())
}

fn make(directory: &Path, arguments: &Arguments) -> Result<Sha256, Failure> {
    let (cert, key) = (directory.join(dev::CERTIFICATE), directory.join(dev::KEY));
    for path in [&cert, &key] {
        if !arguments.force && path.exists() {
            return Err(Failure::usage(format!(
                "{} is there already: pass --force to write over it, or another --out",
                path.display()
            )));
        }
    }
    let mut names: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(dev::NAMES);
    }
    if let Some(name) = names
        .iter()
        .find(|name| ServerName::try_from(**name).is_err())
    {
        return Err(Failure::usage(format!(
            "--name {name:?} is neither a host name nor an IP address"
        )));
    }
    let valid = Duration::from_secs(arguments.days * 24 * 3600);
    let (certificate, chain_pem, key_pem) =
        Certificate::self_signed(&names, SystemTime::now(), valid).map_err(Failure::new)?;
    fs::create_dir_all(directory).map_err(|error| {
        Failure::new(format!(
            "cannot make the directory {}: {error}",
            directory.display()
        ))
    })?;
    files::write(&key, key_pem.as_bytes(), Mode::Private).map_err(Failure::new)?;
    files::write(&cert, chain_pem.as_bytes(), Mode::Public).map_err(Failure::new)?;
    Ok(certificate.sha256())
}

fn leaf(pem: &[u8]) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem).map_err(|_| {
        "there is no certificate in it: a -----BEGIN CERTIFICATE----- block is needed".to_owned()
    })
}

/// Whether a client that trusts this self-signed certificate takes it for `name` at `time`.
pub(super) fn check(pem: &[u8], name: &str, time: SystemTime) -> Result<(), String> {
    let certificate = leaf(pem)?;
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate.clone())
        .map_err(|error| error.to_string())?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
            .build()
            .map_err(|error| error.to_string())?;
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let time = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let time = UnixTime::since_unix_epoch(time);
    verifier
        .verify_server_cert(&certificate, &[], &name, &[], time)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_for_its_names_until_its_end() {
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        let (_, pem, _) = Certificate::self_signed(&["localhost"], now, day * 3).unwrap();
        let pem = pem.as_bytes();
        assert_eq!(check(pem, "localhost", now), Ok(()));
        assert_eq!(check(pem, "localhost", now + day * 2), Ok(()));
        let over = check(pem, "localhost", now + day * 4).unwrap_err();
        assert!(over.contains("expired"), "{over}");
        assert!(check(pem, "example.org", now).is_err());
        assert!(check(b"nothing", "localhost", now).is_err());
    }
}
