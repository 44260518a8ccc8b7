//! What stands in a token: read as [`Presented`], written as [`Claims`].

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de};

use super::invalid;
use crate::{
    auth::{Denied, Grant, Permissions},
    wire::{Pattern, UserId},
};

/// Most patterns in one list of a token. It bounds what a check of a channel costs.
pub const MAX_PATTERNS: usize = 64;

/// The claims of a token whose signature is verified. Claims that are not named here are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Presented {
    sub: Option<String>,
    pub(super) exp: Option<NumericDate>,
    pub(super) nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    pub(super) iss: Option<String>,
    aud: Option<Audience>,
    tidings: Option<Scopes>,
}

impl Presented {
    pub(super) fn has_audience(&self, name: &str) -> bool {
        match &self.aud {
            None => false,
            Some(Audience::One(one)) => one == name,
            Some(Audience::Many(many)) => many.iter().any(|one| one == name),
        }
    }

    /// The user and the permissions. The end of the grant is the caller's business.
    pub(super) fn into_grant(self) -> Result<Grant, Denied> {
        let sub = self
            .sub
            .ok_or_else(|| invalid("it has no sub: have it issued for a user"))?;
        let user = UserId::parse(&sub)
            .map_err(|reason| invalid(format_args!("its sub cannot be a user: {reason}")))?;
        let Scopes { subscribe, publish } = self.tidings.unwrap_or_default();
        let mut grant = Grant::user(user);
        grant.issued_at = self.iat.map(|iat| UNIX_EPOCH + iat.since_epoch());
        Ok(grant
            .subscribe(subscribe.parse("subscribe")?)
            .publish(publish.parse("publish")?))
    }
}

/// `aud` is one string or a list of them (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The claim `tidings`. A field that is not known is an error: it may be a restriction that would be lost.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Scopes {
    #[serde(skip_serializing_if = "Scope::is_empty")]
    subscribe: Scope,
    #[serde(skip_serializing_if = "Scope::is_empty")]
    publish: Scope,
}

impl Scopes {
    fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.publish.is_empty()
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Scope {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
}

impl Scope {
    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    fn parse(self, action: &str) -> Result<Permissions, Denied> {
        let patterns = |list: Vec<String>, name: &str| {
            if list.len() > MAX_PATTERNS {
                return Err(invalid(format_args!(
                    "its tidings.{action}.{name} has {} patterns, {MAX_PATTERNS} are allowed",
                    list.len()
                )));
            }
            list.iter()
                .map(|text| Pattern::parse(text))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|reason| {
                    invalid(format_args!("its tidings.{action}.{name} is bad: {reason}"))
                })
        };
        Ok(Permissions {
            allow: patterns(self.allow, "allow")?,
            deny: patterns(self.deny, "deny")?,
        })
    }
}

impl From<&Permissions> for Scope {
    fn from(permissions: &Permissions) -> Self {
        let texts = |list: &[Pattern]| list.iter().map(Pattern::to_string).collect();
        Self {
            allow: texts(&permissions.allow),
            deny: texts(&permissions.deny),
        }
    }
}

/// Seconds since 1970 (RFC 7519 §2), whole or with a fraction, which is dropped. A time before 1970 is read as 1970, and one
/// after the year 9999 as its end: so no sum with a time of this type overflows, whatever a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct NumericDate(u64);

impl NumericDate {
    /// 9999-12-31T23:59:59Z.
    const MAX: u64 = 253_402_300_799;

    pub(super) const fn since_epoch(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl From<SystemTime> for NumericDate {
    fn from(time: SystemTime) -> Self {
        let seconds = time
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self(seconds.min(Self::MAX))
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;

        impl de::Visitor<'_> for Seconds {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<NumericDate, E> {
                Ok(NumericDate(value.min(NumericDate::MAX)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<NumericDate, E> {
                self.visit_u64(u64::try_from(value).unwrap_or(0))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<NumericDate, E> {
                // The cast saturates at both ends.
                self.visit_u64(value as u64)
            }
        }

        deserializer.deserialize_any(Seconds)
    }
}

/// The claims of a token that [`TokenIssuer::issue_with`](super::TokenIssuer::issue_with) signs.
#[derive(Debug, Serialize)]
pub struct Claims {
    sub: String,
    exp: NumericDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<NumericDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Audience>,
    #[serde(skip_serializing_if = "Scopes::is_empty")]
    tidings: Scopes,
}

impl Claims {
    /// A token of `user` that ends at `expires_at`, in whole seconds, rounded down.
    #[must_use]
    pub fn new(user: &UserId, expires_at: SystemTime) -> Self {
        Self {
            sub: user.to_string(),
            exp: expires_at.into(),
            nbf: None,
            iat: None,
            iss: None,
            aud: None,
            tidings: Scopes::default(),
        }
    }

    /// Not good before `time`, in whole seconds, rounded down (`nbf`).
    #[must_use]
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.nbf = Some(time.into());
        self
    }

    /// Issued at `time`, in whole seconds, rounded down (`iat`): a server can then tell it from those that were revoked before.
    #[must_use]
    pub fn issued_at(mut self, time: SystemTime) -> Self {
        self.iat = Some(time.into());
        self
    }

    /// Meant for these servers (`aud`). An empty list means none, as if it had never been set.
    #[must_use]
    pub fn audience(mut self, audience: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut names: Vec<String> = audience.into_iter().map(Into::into).collect();
        self.aud = match names.len() {
            0 => None,
            1 => names.pop().map(Audience::One),
            _ => Some(Audience::Many(names)),
        };
        self
    }

    /// Issued by `issuer` (`iss`).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.iss = Some(issuer.into());
        self
    }

    /// With these permissions to subscribe. A server refuses a token with more than [`MAX_PATTERNS`] patterns in one list.
    #[must_use]
    pub fn subscribe(mut self, permissions: &Permissions) -> Self {
        self.tidings.subscribe = permissions.into();
        self
    }

    /// With these permissions to publish. A server refuses a token with more than [`MAX_PATTERNS`] patterns in one list.
    #[must_use]
    pub fn publish(mut self, permissions: &Permissions) -> Self {
        self.tidings.publish = permissions.into();
        self
    }
}
