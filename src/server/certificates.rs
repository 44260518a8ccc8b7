//! Certificate files, read again when they change, so that a renewal needs no restart.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::ServerError;
use crate::transport::{Certificate, listener::Listener};

/// A chain and its private key in PEM files.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The private key: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
    /// How often the files are looked at. Default 10 s.
    pub interval: Duration,
}

impl CertificateFiles {
    /// Two files, looked at every 10 s.
    pub fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            chain: chain.into(),
            key: key.into(),
            interval: Duration::from_secs(10),
        }
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`ServerError::File`] and [`ServerError::Certificate`] name the files.
    pub fn load(&self) -> Result<Certificate, ServerError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| ServerError::File {
                path: path.clone(),
                source,
            })
        };
        Certificate::from_pem(&read(&self.chain)?, &read(&self.key)?).map_err(|source| {
            ServerError::Certificate {
                chain: self.chain.clone(),
                key: self.key.clone(),
                source,
            }
        })
    }
}

/// What the server shows first, and where what follows comes from.
#[derive(Debug)]
pub(super) struct Certificates {
    first: Certificate,
    files: Option<CertificateFiles>,
}

impl Certificates {
    pub(super) const fn fixed(certificate: Certificate) -> Self {
        Self {
            first: certificate,
            files: None,
        }
    }

    pub(super) fn files(files: CertificateFiles) -> Result<Self, ServerError> {
        Ok(Self {
            first: files.load()?,
            files: Some(files),
        })
    }

    pub(super) const fn first(&self) -> &Certificate {
        &self.first
    }

    /// Looks at the files until `stop`. A pair that cannot be used is told once and the old one stays: a renewal writes two
    /// files, and between them they are no pair.
    pub(super) async fn watch(self, listener: Arc<Listener>, stop: CancellationToken) {
        let Some(files) = self.files else { return };
        let mut shown = self.first.chain_sha256();
        let mut complaint = None;
        let mut ticks = tokio::time::interval(files.interval.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let files = files.clone();
            let Ok(loaded) = tokio::task::spawn_blocking(move || files.load()).await else {
                return;
            };
            match loaded {
                Ok(certificate) => {
                    complaint = None;
                    let (sha256, chain) = (certificate.sha256(), certificate.chain_sha256());
                    if chain != shown {
                        shown = chain;
                        listener.set_certificate(certificate);
                        tracing::info!(%sha256, "another certificate is shown from now on");
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    if complaint.as_ref() != Some(&text) {
                        tracing::warn!(
                            error = text,
                            "the certificate files cannot be used; the old certificate stays"
                        );
                        complaint = Some(text);
                    }
                }
            }
        }
    }
}
