//! Names of channels and users (PROTOCOL §3.1, §3.2).

use std::{borrow::Borrow, fmt, str::FromStr};

use smol_str::{SmolStr, format_smolstr};

/// The name of a channel, parsed once: 1 to 255 bytes of ASCII letters, digits and `- _ . : / @ + = ~ , | %`.
///
/// Cloning is cheap: up to 23 bytes are copied, a longer text is shared.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(SmolStr);

impl ChannelName {
    /// Longest name, in bytes.
    pub const MAX: usize = 255;

    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidChannel`] says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, InvalidChannel> {
        check(text, Self::MAX)?;
        Ok(Self(text.into()))
    }

    /// `user-{user}`, the channel that every device of a user is subscribed to by the default rules.
    #[must_use]
    pub fn of_user(user: &UserId) -> Self {
        Self(format_smolstr!("user-{user}"))
    }

    /// `global`, the channel that everybody is subscribed to by the default rules.
    #[must_use]
    pub fn global() -> Self {
        Self(SmolStr::new_static("global"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identity of an authenticated user: the alphabet of channel names, 1 to 200 bytes, so that `user-{user}` is a channel name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(SmolStr);

impl UserId {
    /// Longest identity, in bytes.
    pub const MAX: usize = 200;

    /// Parses an identity.
    ///
    /// # Errors
    /// [`InvalidChannel`] says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, InvalidChannel> {
        check(text, Self::MAX)?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_newtype {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }
        impl FromStr for $name {
            type Err = InvalidChannel;
            fn from_str(text: &str) -> Result<Self, InvalidChannel> {
                Self::parse(text)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = InvalidChannel;
            fn try_from(text: &str) -> Result<Self, InvalidChannel> {
                Self::parse(text)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
text_newtype!(ChannelName, UserId);

/// Text that breaks the grammar of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChannel {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Too long.
    #[error("the name has {length} bytes, {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A character outside the alphabet.
    #[error(
        "{found:?} at byte {at} is not allowed in a name (letters, digits and - _ . : / @ + = ~ , | %)"
    )]
    Character {
        /// The character.
        found: char,
        /// Its position in bytes.
        at: usize,
    },
}

pub(super) fn check(text: &str, max: usize) -> Result<(), InvalidChannel> {
    if text.is_empty() {
        return Err(InvalidChannel::Empty);
    }
    if text.len() > max {
        return Err(InvalidChannel::TooLong {
            length: text.len(),
            max,
        });
    }
    match text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        Some((at, found)) => Err(InvalidChannel::Character { found, at }),
        None => Ok(()),
    }
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '-' | '_' | '.' | ':' | '/' | '@' | '+' | '=' | '~' | ',' | '|' | '%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn names_are_checked_with_a_reason() {
        assert_eq!(name("chat-room-7").as_str(), "chat-room-7");
        assert_eq!(ChannelName::parse(""), Err(InvalidChannel::Empty));
        assert_eq!(
            ChannelName::parse(&"x".repeat(256)),
            Err(InvalidChannel::TooLong {
                length: 256,
                max: 255
            })
        );
        assert_eq!(name(&"x".repeat(255)).as_str().len(), 255);
        for (text, found, at) in [
            ("a b", ' ', 1),
            ("a\n", '\n', 1),
            ("é", 'é', 0),
            ("a*", '*', 1),
            ("\u{0}", '\u{0}', 0),
        ] {
            assert_eq!(
                ChannelName::parse(text),
                Err(InvalidChannel::Character { found, at }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_user_with_the_longest_identity_has_a_channel() {
        let user = UserId::parse(&"u".repeat(UserId::MAX)).unwrap();
        assert!(ChannelName::parse(ChannelName::of_user(&user).as_str()).is_ok());
    }
}
