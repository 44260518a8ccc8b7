//! JSON Web Tokens (RFC 7519, PROTOCOL §3.2): verified with keys that say themselves which algorithms they are for.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};

use super::{Authenticator, Credentials, Denied, Grant};

mod algorithm;
mod claims;
mod issue;
mod key;

pub use algorithm::Algorithm;
use claims::Presented;
pub use claims::{Claims, MAX_PATTERNS};
pub use issue::TokenIssuer;
pub use key::{InvalidKey, VerifyingKey};

/// Longest token, in bytes: some 6 KiB of claims. A longer one is refused before it is parsed.
pub const MAX_TOKEN: usize = 8 * 1024;

/// Most keys of one authenticator. A token without `kid` is tried with every key of its algorithm, so this bounds what one
/// bad token costs.
pub const MAX_KEYS: usize = 64;

/// The leeway unless [`JwtAuthenticator::leeway`] says otherwise: more than clocks that are kept in step differ by.
pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);

/// Most leeway. Clocks that differ by more need another remedy.
pub const MAX_LEEWAY: Duration = Duration::from_secs(3600);

/// Lets in whoever presents a JSON Web Token that one of its keys verifies.
///
/// A token has to have `sub` (the user) and `exp`; `nbf` is obeyed where present, `aud` and `iss` where
/// [`audience`](Self::audience) and [`issuer`](Self::issuer) are configured, and `"tidings": {"subscribe": {"allow": [..],
/// "deny": [..]}, "publish": {..}}` becomes the grant's permissions, with up to [`MAX_PATTERNS`] patterns in each list.
///
/// The time is that of the [`Credentials`]. The grant ends at `exp` plus the leeway, the very moment from which the token would
/// no longer be accepted, so that a session that starts within the leeway does not end at once.
#[derive(Clone)]
pub struct JwtAuthenticator {
    keys: Vec<VerifyingKey>,
    audience: Vec<String>,
    issuer: Option<String>,
    leeway: Duration,
}

impl JwtAuthenticator {
    /// Accepts tokens of any audience and issuer that one of `keys` verifies, with [`DEFAULT_LEEWAY`].
    ///
    /// # Errors
    /// [`InvalidKey::NoKey`] without a key, [`InvalidKey::TooManyKeys`] above [`MAX_KEYS`].
    pub fn new(keys: Vec<VerifyingKey>) -> Result<Self, InvalidKey> {
        match keys.len() {
            0 => Err(InvalidKey::NoKey),
            1..=MAX_KEYS => Ok(Self {
                keys,
                audience: Vec::new(),
                issuer: None,
                leeway: DEFAULT_LEEWAY,
            }),
            count => Err(InvalidKey::TooManyKeys(count)),
        }
    }

    /// Accepts only tokens whose `aud` names one of these. An empty list accepts every token, with `aud` or without.
    #[must_use]
    pub fn audience(mut self, audience: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.audience = audience.into_iter().map(Into::into).collect();
        self
    }

    /// Accepts only tokens whose `iss` is this.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// By how much the clocks of the issuer and of this server may differ: [`DEFAULT_LEEWAY`] unless set, at most
    /// [`MAX_LEEWAY`]. `exp` and `nbf` both stretch by it.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(MAX_LEEWAY);
        self
    }

    /// What `token` is good for at `now`.
    ///
    /// # Errors
    /// [`Denied::Invalid`] with a reason, or [`Denied::Expired`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Grant, Denied> {
        let mut signature = self.signature(token)?;
        loop {
            if let Some(presented) = signature.try_next()? {
                return self.check_claims(presented, now);
            }
        }
    }

    /// What a token with a verified signature is good for at `now`.
    fn check_claims(&self, presented: Presented, now: SystemTime) -> Result<Grant, Denied> {
        self.check_addressee(&presented)?;
        let expires_at = self.check_time(&presented, now)?;
        let mut grant = presented.into_grant()?.expires_at(expires_at);
        // A time of issue that no clock in step could have written says nothing of the order of issue and revocation.
        let latest = now + self.leeway.max(DEFAULT_LEEWAY);
        grant.issued_at = grant.issued_at.filter(|at| *at <= latest);
        Ok(grant)
    }

    /// The signature of `token`, with the keys that its header asks for. Nothing is verified yet.
    fn signature<'a>(&'a self, token: &'a str) -> Result<Signature<'a>, Denied> {
        // A line end is what files and shells leave at the end of a token.
        let token = token.trim_ascii();
        if token.len() > MAX_TOKEN {
            return Err(invalid(format_args!(
                "it has {} bytes, {MAX_TOKEN} are allowed",
                token.len()
            )));
        }
        if token.contains(char::is_whitespace) {
            return Err(invalid(
                "it has white space inside, so it is no JSON Web Token (which is given alone, without \"Bearer\")",
            ));
        }
        let header = decode_header(token).map_err(|error| match error.kind() {
            ErrorKind::Json(_) => invalid(format_args!(
                "its header names no alg out of {}, or is malformed",
                Algorithm::NAMES
            )),
            _ if token.is_empty() => invalid("it is empty, so no JSON Web Token"),
            _ => invalid("it is no JSON Web Token"),
        })?;
        // RFC 7515 §4.1.11: what the issuer calls critical and we do not know must not be skipped. We know none.
        if header.crit.is_some() {
            return Err(invalid("its header has \"crit\", which is not supported"));
        }
        let algorithm = Algorithm::of_header(header.alg)
            .ok_or_else(|| invalid(format_args!("its alg is not one of {}", Algorithm::NAMES)))?;

        // The key says which algorithm it is for. Were the token to say so, it could have its HMAC verified with the
        // text of a public key, or ask for no verification at all.
        let kid = header.kid.as_deref();
        let keys: Vec<_> = self
            .keys
            .iter()
            .filter(|key| key.answers_to(algorithm, kid))
            .collect();
        if keys.is_empty() {
            return Err(invalid(format_args!(
                "this server has no {algorithm} key that its header asks for"
            )));
        }
        Ok(Signature {
            token,
            algorithm,
            keys: keys.into_iter(),
        })
    }

    fn check_addressee(&self, presented: &Presented) -> Result<(), Denied> {
        if let Some(issuer) = &self.issuer
            && presented.iss.as_ref() != Some(issuer)
        {
            return Err(invalid("its iss is not the issuer that this server trusts"));
        }
        let addressed = self
            .audience
            .iter()
            .any(|name| presented.has_audience(name));
        if !self.audience.is_empty() && !addressed {
            return Err(invalid("its aud does not name this server"));
        }
        Ok(())
    }

    /// When the grant ends, if its time has come and is not over.
    fn check_time(&self, presented: &Presented, now: SystemTime) -> Result<SystemTime, Denied> {
        // Before 1970 is as good as 1970: no token has a time before.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let exp = presented
            .exp
            .ok_or_else(|| invalid("it has no exp: have it issued with an end"))?;
        // Both are bounded, see `NumericDate` and `MAX_LEEWAY`: neither sum can overflow.
        let end = exp.since_epoch() + self.leeway;
        if now >= end {
            return Err(Denied::Expired);
        }
        if let Some(nbf) = presented.nbf
            && now + self.leeway < nbf.since_epoch()
        {
            return Err(invalid("its nbf is in the future: it is not valid yet"));
        }
        Ok(UNIX_EPOCH + end)
    }
}

/// A signature that is verified with one key after the other, [`MAX_KEYS`] at most.
struct Signature<'a> {
    token: &'a str,
    algorithm: Algorithm,
    keys: std::vec::IntoIter<&'a VerifyingKey>,
}

impl Signature<'_> {
    /// Tries the next key: the claims, where it verifies the signature.
    fn try_next(&mut self) -> Result<Option<Presented>, Denied> {
        let Some(key) = self.keys.next() else {
            return Err(invalid("its signature does not verify"));
        };
        let validation = signature_only(self.algorithm);
        match decode::<Presented>(self.token, key.decoding_key(), &validation) {
            Ok(data) => Ok(Some(data.claims)),
            // Claims are parsed only after the signature is verified, so another key cannot do better.
            Err(error) => match error.kind() {
                ErrorKind::Json(reason) => {
                    // The place in the text says nothing to who has the token.
                    let reason = reason.to_string();
                    let (reason, _) = reason.split_once(" at line ").unwrap_or((&reason, ""));
                    Err(invalid(format_args!("its claims are malformed: {reason}")))
                }
                _ => Ok(None),
            },
        }
    }
}

#[async_trait::async_trait]
impl Authenticator for JwtAuthenticator {
    /// Verifies with one key in each scheduling turn, so that a token without `kid` does not hold up other clients.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Grant, Denied> {
        let token = credentials.token.ok_or(Denied::Missing)?;
        let mut signature = self.signature(token)?;
        loop {
            tokio::task::yield_now().await;
            if let Some(presented) = signature.try_next()? {
                return self.check_claims(presented, credentials.now);
            }
        }
    }

    fn reads_request(&self) -> bool {
        false
    }
}

impl fmt::Debug for JwtAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthenticator")
            .field("keys", &self.keys)
            .field("audience", &self.audience)
            .field("issuer", &self.issuer)
            .field("leeway", &self.leeway)
            .finish()
    }
}

/// jsonwebtoken reads the system clock, accepts no aud where none is configured and does not tell a missing claim from a wrong
/// one: so it verifies the signature here, and nothing else.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm.into());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn invalid(reason: impl fmt::Display) -> Denied {
    Denied::Invalid(reason.to_string())
}

#[cfg(test)]
mod tests;
