//! Codes: why a request failed, a stream ended or a connection was closed, and what to do about it (PROTOCOL §7).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A code of PROTOCOL §7. One space for requests, streams and connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

/// Whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nobody's: an orderly end.
    None,
    /// The client did what it may not.
    Client,
    /// The token is missing, bad, expired, or does not allow this.
    Credentials,
    /// The server has no room now.
    Overload,
    /// The server failed or is going away.
    Server,
    /// The application on top of Tidings gave this code.
    Application,
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// The same attempt would fail the same way.
    No,
    /// After a pause that grows, with full jitter.
    Backoff,
    /// With other credentials.
    WithNewCredentials,
}

macro_rules! codes {
    ($($number:literal $constant:ident $name:literal $meaning:literal)*) => {
        impl Code {
            $(#[doc = $meaning] pub const $constant: Self = Self($number);)*

            /// Every code of this version, as (code, name, meaning).
            pub const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self($number), $name, $meaning)),*];
        }
    };
}

codes! {
    0 CLOSED "closed" "An orderly end."
    1 UNSUBSCRIBED "unsubscribed" "The client asked for the end of this subscription."
    2 ENDED "ended" "The server ended this session or stream on purpose."
    100 PROTOCOL_VIOLATION "protocol_violation" "Bytes that are no frame, or a frame whose body does not decode to the last byte."
    101 FRAME_TOO_LARGE "frame_too_large" "A frame whose length is above the limit."
    102 UNSUPPORTED_VERSION "unsupported_version" "Hello names a version that this server does not speak."
    104 UNEXPECTED_FRAME "unexpected_frame" "A known frame at the wrong time or in the wrong direction."
    105 UNKNOWN_REQUEST "unknown_request" "A request of a type that this server does not know."
    110 INVALID_CHANNEL "invalid_channel" "The channel's name breaks the grammar."
    111 ALREADY_SUBSCRIBED "already_subscribed" "The session is subscribed to this channel."
    112 NOT_SUBSCRIBED "not_subscribed" "The session has no such subscription."
    113 MESSAGE_TOO_LARGE "message_too_large" "The message is above the limit that Welcome states."
    114 TOO_MANY_SUBSCRIPTIONS "too_many_subscriptions" "The session has as many subscriptions as it may have."
    115 NO_STREAM_LEFT "no_stream_left" "The client permits no further stream from the server, and knows no lanes."
    116 INVALID_KEY "invalid_key" "The key of a publication is empty or too long."
    117 KEY_REUSED "key_reused" "The publisher has used the key for another message."
    119 RESERVED_MESSAGE "reserved_message" "A message of a kind that only the server itself makes."
    200 UNAUTHENTICATED "unauthenticated" "No token, and this server asks for one."
    201 INVALID_TOKEN "invalid_token" "The token does not verify, or is not meant for this server."
    202 TOKEN_EXPIRED "token_expired" "The token's time is over."
    203 PERMISSION_DENIED "permission_denied" "Neither a rule nor the token allows this."
    204 REVOKED "revoked" "The server has taken the credentials back."
    300 OVERLOADED "overloaded" "The server has no room for this now."
    301 TOO_MANY_SESSIONS "too_many_sessions" "The server has as many sessions as it may have, in all or of this user or address."
    302 TOO_MANY_CHANNELS "too_many_channels" "The server, this session or its user has as many channels as it may have."
    303 HELLO_TIMEOUT "hello_timeout" "No complete Hello in time."
    304 LAGGED "lagged" "The reader was too slow for a channel whose subscriptions then end."
    305 STALLED "stalled" "The client acknowledged or read nothing for too long while data waited for it."
    400 INTERNAL "internal" "The server failed."
    401 GOING_AWAY "going_away" "The server is shutting down: connect again, here or elsewhere."
}

impl Code {
    /// First code of those that an application on top of Tidings may give: 1000 to 1999 say "do not come back", 2000 to
    /// 2999 "come back after a pause".
    pub const APPLICATION: Self = Self(1000);

    /// Its name in the table of PROTOCOL §7, where it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::ALL
            .iter()
            .find(|(code, ..)| *code == self)
            .map(|(_, name, _)| *name)
    }

    /// Whose doing it is. An unknown code is judged by its range.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self.0 {
            0..=99 => Fault::None,
            100..=199 => Fault::Client,
            200..=299 => Fault::Credentials,
            300..=399 => Fault::Overload,
            1000..=2999 => Fault::Application,
            _ => Fault::Server,
        }
    }

    /// Whether to try again. An unknown code is judged by its range.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self.0 {
            0..=199 | 1000..=1999 => Retry::No,
            200..=299 => Retry::WithNewCredentials,
            _ => Retry::Backoff,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique() {
        for (index, (code, name, _)) in Code::ALL.iter().enumerate() {
            for (other, other_name, _) in &Code::ALL[..index] {
                assert!(other.0 < code.0 && other_name != name, "{code} and {other}");
            }
        }
    }

    #[test]
    fn the_range_decides_for_an_unknown_code() {
        assert_eq!(
            (Code(399).fault(), Code(399).retry()),
            (Fault::Overload, Retry::Backoff)
        );
        assert_eq!(
            (Code(1500).fault(), Code(1500).retry()),
            (Fault::Application, Retry::No)
        );
        assert_eq!(Code(2500).retry(), Retry::Backoff);
        assert_eq!(
            (Code(9999).fault(), Code(9999).retry()),
            (Fault::Server, Retry::Backoff)
        );
        assert_eq!(Code(9999).to_string(), "code 9999");
        assert_eq!(Code::GOING_AWAY.to_string(), "going_away (401)");
    }

    #[test]
    fn the_table_of_the_specification_is_this_table() {
        let specification = include_str!("../../PROTOCOL.md");
        for (code, name, _) in Code::ALL {
            let row = format!("| {} | `{name}` |", code.0);
            assert!(
                specification.contains(&row),
                "PROTOCOL.md has no row {row:?}"
            );
        }
    }
}
