//! Patterns over channel names, for rules and grants.

use std::{fmt, str::FromStr, sync::Arc};

use super::channel::{ChannelName, InvalidChannel, check};

/// A pattern over channel names: literal text with variables such as `chat-room-{room}`. `*` is a variable without a name.
///
/// A variable stands for one byte or more. Where several readings fit, an earlier variable takes the shortest text that lets
/// the rest match.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Arc<str>,
    parts: Arc<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Literal(String),
    /// Its name; empty for `*`.
    Variable(String),
}

/// Text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// The literal text breaks the grammar of names.
    #[error("in the pattern {pattern:?}: {reason}")]
    Name {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: InvalidChannel,
    },
    /// `{` without `}`, or the other way round.
    #[error("in the pattern {0:?}: a brace has no partner")]
    Brace(String),
    /// A variable's name is empty or has other characters than letters, digits and `_`.
    #[error("in the pattern {0:?}: a variable's name is letters, digits and _")]
    Variable(String),
    /// Two variables with nothing between them cannot be told apart.
    #[error("in the pattern {0:?}: two variables need text between them")]
    Adjacent(String),
    /// The same variable twice.
    #[error("in the pattern {0:?}: a variable stands twice")]
    Repeated(String),
    /// More variables than [`Pattern::MAX_VARIABLES`].
    #[error("in the pattern {0:?}: more than {max} variables", max = Pattern::MAX_VARIABLES)]
    TooMany(String),
}

impl Pattern {
    /// Most variables in one pattern. It bounds the work of a match.
    pub const MAX_VARIABLES: usize = 8;

    /// Parses a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] names the pattern and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let whole = || text.to_owned();
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['{', '}', '*']).unwrap_or(rest.len());
            let (literal, tail) = rest.split_at(end);
            if !literal.is_empty() {
                check(literal, ChannelName::MAX).map_err(|reason| InvalidPattern::Name {
                    pattern: whole(),
                    reason,
                })?;
                parts.push(Part::Literal(literal.to_owned()));
            }
            rest = match tail.as_bytes().first() {
                None => break,
                Some(b'*') => {
                    push_variable(&mut parts, "", text)?;
                    &tail[1..]
                }
                Some(b'{') => {
                    let close = tail
                        .find('}')
                        .ok_or_else(|| InvalidPattern::Brace(whole()))?;
                    let name = &tail[1..close];
                    if name.is_empty()
                        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    {
                        return Err(InvalidPattern::Variable(whole()));
                    }
                    push_variable(&mut parts, name, text)?;
                    &tail[close + 1..]
                }
                Some(_) => return Err(InvalidPattern::Brace(whole())),
            };
        }
        if parts.is_empty() {
            return Err(InvalidPattern::Name {
                pattern: whole(),
                reason: InvalidChannel::Empty,
            });
        }
        Ok(Self {
            text: text.into(),
            parts: parts.into(),
        })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a name fits.
    #[must_use]
    pub fn matches(&self, name: &ChannelName) -> bool {
        self.captures(name).is_some()
    }

    /// What each variable stands for in `name`, or `None` where the name does not fit.
    #[must_use]
    pub fn captures<'n>(&self, name: &'n ChannelName) -> Option<Captures<'_, 'n>> {
        let mut found = Vec::new();
        capture(&self.parts, name.as_str(), &mut found).then_some(Captures(found))
    }

    /// The names of its variables, in order; `*` has none.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The channel that comes of putting `value(variable)` in each variable's place; `None` where one has no value or the
    /// result is no channel name.
    pub fn expand<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<ChannelName> {
        let mut text = String::new();
        for part in self.parts.iter() {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(name) => text.push_str(value(name)?),
            }
        }
        ChannelName::parse(&text).ok()
    }
}

fn push_variable(parts: &mut Vec<Part>, name: &str, text: &str) -> Result<(), InvalidPattern> {
    if matches!(parts.last(), Some(Part::Variable(_))) {
        return Err(InvalidPattern::Adjacent(text.to_owned()));
    }
    let variables = parts.iter().filter_map(|part| match part {
        Part::Variable(name) => Some(name.as_str()),
        Part::Literal(_) => None,
    });
    if !name.is_empty() && variables.clone().any(|known| known == name) {
        return Err(InvalidPattern::Repeated(text.to_owned()));
    }
    if variables.count() == Pattern::MAX_VARIABLES {
        return Err(InvalidPattern::TooMany(text.to_owned()));
    }
    parts.push(Part::Variable(name.to_owned()));
    Ok(())
}

/// What the variables of a [`Pattern`] stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captures<'p, 'n>(Vec<(&'p str, &'n str)>);

impl<'n> Captures<'_, 'n> {
    /// The text that `variable` stands for.
    #[must_use]
    pub fn value(&self, variable: &str) -> Option<&'n str> {
        self.0
            .iter()
            .find(|(name, _)| *name == variable)
            .map(|(_, value)| *value)
    }
}

/// Between two variables there is always a literal, and the first place where it stands is as good as any later one, but for
/// the last literal, which must end the name. So the match is one walk without backtracking.
fn capture<'p, 'n>(parts: &'p [Part], name: &'n str, found: &mut Vec<(&'p str, &'n str)>) -> bool {
    let mut rest = name;
    let mut parts = parts.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Part::Literal(literal) => match rest.strip_prefix(literal.as_str()) {
                Some(tail) => rest = tail,
                None => return false,
            },
            Part::Variable(variable) => {
                let Some(Part::Literal(literal)) = parts.next() else {
                    found.push((variable, rest));
                    return !rest.is_empty();
                };
                if rest.is_empty() {
                    return false;
                }
                let at = if parts.peek().is_none() {
                    // The last literal ends the name.
                    rest.ends_with(literal.as_str())
                        .then(|| rest.len() - literal.len())
                        .filter(|at| *at > 0)
                } else {
                    rest[1..].find(literal.as_str()).map(|at| at + 1)
                };
                let Some(at) = at else { return false };
                found.push((variable, &rest[..at]));
                rest = &rest[at + literal.len()..];
            }
        }
    }
    rest.is_empty()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", &*self.text)
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    fn value<'n>(pattern: &Pattern, of: &'n ChannelName, variable: &str) -> Option<&'n str> {
        pattern
            .captures(of)
            .and_then(|captures| captures.value(variable))
    }

    #[test]
    fn patterns_capture() {
        let room = Pattern::parse("chat-room-{room}").unwrap();
        assert_eq!(value(&room, &name("chat-room-7"), "room"), Some("7"));
        assert!(
            !room.matches(&name("chat-room-")),
            "a variable is one byte or more"
        );
        assert!(!room.matches(&name("x-chat-room-7")));

        let two = Pattern::parse("org-{org}:user-{user}:end").unwrap();
        let full = name("org-a:user-b:user-c:end");
        assert_eq!(value(&two, &full, "org"), Some("a"));
        assert_eq!(value(&two, &full, "user"), Some("b:user-c"));
        assert!(!two.matches(&name("org-a:user-:end")));
        assert!(!two.matches(&name("org-a:user-b:end:more")));

        let star = Pattern::parse("*").unwrap();
        assert!(star.matches(&name("anything")));
        let edge = Pattern::parse("a{x}a").unwrap();
        assert!(!edge.matches(&name("aa")));
        assert_eq!(value(&edge, &name("aaa"), "x"), Some("a"));
        assert_eq!(value(&edge, &name("aaaa"), "x"), Some("aa"));
    }

    #[test]
    fn bad_patterns_are_named() {
        for (text, wanted) in [
            ("a{", "a brace has no partner"),
            ("a}", "a brace has no partner"),
            ("{}", "a variable's name"),
            ("{a b}", "a variable's name"),
            ("{a}{b}", "two variables need text between them"),
            ("{a}-{a}", "a variable stands twice"),
            ("*-*-*-*-*-*-*-*-*", "more than 8 variables"),
            ("", "the name is empty"),
            ("a b", "not allowed in a name"),
        ] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(wanted) && error.contains(&format!("{text:?}")),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn expansion_gives_the_channel_of_a_user() {
        let pattern = Pattern::parse("user-{user}").unwrap();
        assert_eq!(pattern.expand(|_| Some("42")), Some(name("user-42")));
        assert_eq!(pattern.expand(|_| None), None);
        assert_eq!(
            Pattern::parse("global").unwrap().expand(|_| None),
            Some(name("global"))
        );
    }
}
