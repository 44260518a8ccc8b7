//! What stands in a token: read as [`Presented`], written as [`Claims`].

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::invalid;
use crate::{
    auth::{Denied, Grant, Permissions},
    wire::{Pattern, UserId},
};

/// Most patterns in one list of a token. It bounds what a check of a channel costs.
pub const MAX_PATTERNS: usize = 64;

/// The claims of a token whose signature is verified. Claims that are not named here are ignored.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object of claims")]
pub(super) struct Presented {
    #[serde(default, deserialize_with = "named::sub")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "named::exp")]
    pub(super) exp: Option<NumericDate>,
    #[serde(default, deserialize_with = "named::nbf")]
    pub(super) nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "named::iat")]
    iat: Option<IssuedAt>,
    #[serde(default, deserialize_with = "named::iss")]
    pub(super) iss: Option<String>,
    #[serde(default, deserialize_with = "named::aud")]
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "named::tidings")]
    tidings: Option<Scopes>,
}

/// Deserializers that put the claim's name before what is wrong with its value.
mod named {
    use serde::{Deserialize, Deserializer, de::Error};

    macro_rules! named {
        ($($name:ident)*) => {$(
            pub(super) fn $name<'de, D, T>(deserializer: D) -> Result<T, D::Error>
            where
                D: Deserializer<'de>,
                T: Deserialize<'de>,
            {
                T::deserialize(deserializer)
                    .map_err(|error| Error::custom(format_args!("{}: {error}", stringify!($name))))
            }
        )*};
    }

    named!(sub exp nbf iat iss aud tidings subscribe publish allow deny);
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
        grant.issued_at = self.iat.map(IssuedAt::time);
        Ok(grant
            .subscribe(subscribe.parse("subscribe")?)
            .publish(publish.parse("publish")?))
    }
}

/// `aud` is one string or a list of them (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "a text or a list of texts is needed")]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The claim `tidings`. A field that is not known is an error: it may be a restriction that would be lost.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object with \"subscribe\" and \"publish\""
)]
struct Scopes {
    #[serde(
        skip_serializing_if = "Scope::is_empty",
        deserialize_with = "named::subscribe"
    )]
    subscribe: Scope,
    #[serde(
        skip_serializing_if = "Scope::is_empty",
        deserialize_with = "named::publish"
    )]
    publish: Scope,
}

impl Scopes {
    fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.publish.is_empty()
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "an object with \"allow\" and \"deny\""
)]
struct Scope {
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "named::allow"
    )]
    allow: Vec<String>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "named::deny"
    )]
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = deserializer.deserialize_any(Micros)?;
        Ok(Self(micros / MICROS))
    }
}

/// Time at which a token was issued, with its fraction down to a microsecond: a revocation and the token that follows it are
/// often of the same second. The bounds are those of [`NumericDate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IssuedAt(u64);

impl IssuedAt {
    fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0)
    }
}

impl From<SystemTime> for IssuedAt {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        Self(micros.min(NumericDate::MAX * MICROS))
    }
}

impl Serialize for IssuedAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(MICROS) {
            return serializer.serialize_u64(self.0 / MICROS);
        }
        // Until the year 2242 a float of 64 bits has room for each microsecond.
        serializer.serialize_f64(self.0 as f64 / MICROS as f64)
    }
}

impl<'de> Deserialize<'de> for IssuedAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Micros).map(Self)
    }
}

/// Microseconds of a second.
const MICROS: u64 = 1_000_000;

/// Reads seconds, and gives microseconds within the bounds of [`NumericDate`].
struct Micros;

impl de::Visitor<'_> for Micros {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value.min(NumericDate::MAX) * MICROS)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        self.visit_u64(u64::try_from(value).unwrap_or(0))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<u64, E> {
        // The cast saturates at both ends.
        Ok(((value * MICROS as f64).round() as u64).min(NumericDate::MAX * MICROS))
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
    iat: Option<IssuedAt>,
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

    /// Issued at `time`, to the microsecond (`iat`): a server tells the token from those that were revoked before. Default: the
    /// time at which [`TokenIssuer::issue_with`](super::TokenIssuer::issue_with) signs.
    #[must_use]
    pub fn issued_at(mut self, time: SystemTime) -> Self {
        self.iat = Some(time.into());
        self
    }

    /// Sets `iat` unless it is set.
    pub(super) fn or_issued_at(mut self, time: SystemTime) -> Self {
        self.iat.get_or_insert_with(|| time.into());
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
