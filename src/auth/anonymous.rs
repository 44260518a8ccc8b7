//! Letting clients in without a token: never by default, always by name.

use super::{Authenticator, Credentials, Denied, Grant};

/// Lets in clients that have no token, as nobody in particular ([`Grant::anonymous`]).
///
/// A token that is sent is always verified, by `A`: a client that believes itself to be somebody is never let in as nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAnonymous<A = NoVerifier> {
    inner: A,
}

impl AllowAnonymous {
    /// Everybody is anonymous. A token is an error that says so, since nothing here could verify it.
    #[must_use]
    pub const fn only() -> Self {
        Self { inner: NoVerifier }
    }
}

impl<A> AllowAnonymous<A> {
    /// Anonymous where there is no token; where there is one, `inner` decides.
    #[must_use]
    pub const fn or(inner: A) -> Self {
        Self { inner }
    }
}

#[async_trait::async_trait]
impl<A: Authenticator> Authenticator for AllowAnonymous<A> {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
        match credentials.token {
            None => Ok(Grant::anonymous()),
            Some(_) => self.inner.authenticate(credentials).await,
        }
    }

    fn reads_request(&self) -> bool {
        self.inner.reads_request()
    }
}

/// Verifies no token and lets nobody in. It is what stands behind [`AllowAnonymous::only`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVerifier;

#[async_trait::async_trait]
impl Authenticator for NoVerifier {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
        match credentials.token {
            None => Err(Denied::Missing),
            Some(_) => Err(Denied::Invalid(
                "this server has no key to verify a token with: connect without one, or have a key configured".into(),
            )),
        }
    }

    fn reads_request(&self) -> bool {
        false
    }
}
