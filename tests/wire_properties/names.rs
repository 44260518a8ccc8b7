//! Names and patterns: any text, and a reference that tries every reading.

use std::iter;

use proptest::{collection::vec, prelude::*};
use tidings::wire::{ChannelName, InvalidChannel, Pattern, UserId};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_name_is_what_the_grammar_says(text in prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9._:/@+=~,|%-]{0,30}[ -~é]{0,2}",
        "[a-z]{198,203}",
        "[a-z]{253,258}",
    ]) {
        let good = |max| {
            let alphabet = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+=~,|%".contains(c);
            !text.is_empty() && text.len() <= max && text.chars().all(alphabet)
        };
        let name = ChannelName::parse(&text);
        prop_assert_eq!(name.is_ok(), good(255));
        match &name {
            Ok(name) => prop_assert_eq!(name.as_str(), &text),
            Err(InvalidChannel::Character { found, at }) => prop_assert!(text[*at..].starts_with(*found)),
            Err(_) => {}
        }
        let user = UserId::parse(&text);
        prop_assert_eq!(user.is_ok(), good(200));
        if let Ok(user) = user {
            prop_assert!(ChannelName::parse(ChannelName::of_user(&user).as_str()).is_ok());
        }
    }

    #[test]
    fn no_text_makes_a_pattern_panic(
        text in prop_oneof![any::<String>(), "[ab_{}* é-]{0,40}", "([ab]{0,2}(\\{[ab]{0,2}\\}|\\*)){0,10}"],
        name in "[ab_-]{1,40}",
    ) {
        if let Ok(pattern) = Pattern::parse(&text) {
            let name = ChannelName::parse(&name).unwrap();
            prop_assert_eq!(pattern.as_str(), &text);
            prop_assert_eq!(pattern.matches(&name), pattern.captures(&name).is_some());
            prop_assert!(pattern.variables().count() <= Pattern::MAX_VARIABLES);
            let _ = pattern.expand(|_| Some("a"));
        }
    }

    #[test]
    fn captures_are_the_first_of_all_readings(
        leading in any::<bool>(),
        literals in vec("[ab]{1,3}", 1..6),
        trailing in any::<bool>(),
        name in "[ab]{1,20}",
    ) {
        let parts = alternate(leading, &literals, trailing);
        let text: String = parts.iter().map(Part::text).collect();
        let pattern = Pattern::parse(&text).unwrap();
        let channel = ChannelName::parse(&name).unwrap();
        let captures = pattern.captures(&channel);
        let expected = readings(&parts, &name).into_iter().next();
        prop_assert_eq!(captures.is_some(), expected.is_some(), "{} on {}", text, name);
        if let (Some(captures), Some(expected)) = (captures, expected) {
            let names: Vec<_> = pattern.variables().collect();
            let found: Vec<_> = names.iter().map(|name| captures.value(name).unwrap()).collect();
            prop_assert_eq!(&found, &expected, "{} on {}", text, name);
            prop_assert_eq!(pattern.expand(|name| captures.value(name)), Some(channel.clone()));
        }
    }
}

/// Every pattern of up to six letters and stars on every name of up to seven letters, over two letters.
#[test]
fn a_pattern_matches_where_any_reading_does() {
    let words = |alphabet: &[&'static str], most: usize| -> Vec<Vec<&'static str>> {
        let longer = |words: &Vec<Vec<&'static str>>| {
            Some(
                words
                    .iter()
                    .flat_map(|word| {
                        alphabet
                            .iter()
                            .map(|letter| [&word[..], &[*letter]].concat())
                    })
                    .collect(),
            )
        };
        iter::successors(Some(vec![Vec::new()]), longer)
            .skip(1)
            .take(most)
            .flatten()
            .collect()
    };
    let names: Vec<ChannelName> = words(&["a", "b"], 7)
        .iter()
        .map(|word| ChannelName::parse(&word.concat()).unwrap())
        .collect();
    let mut both = [0, 0];
    for word in words(&["a", "b", "*"], 6) {
        let text = word.concat();
        let Ok(pattern) = Pattern::parse(&text) else {
            assert!(text.contains("**"), "{text}");
            continue;
        };
        let parts: Vec<Part> = word
            .iter()
            .map(|token| match *token {
                "*" => Part::Variable("*".to_owned()),
                letter => Part::Literal(letter.to_owned()),
            })
            .collect();
        for name in &names {
            let expected = !readings(&parts, name.as_str()).is_empty();
            assert_eq!(pattern.matches(name), expected, "{text} on {name}");
            both[usize::from(expected)] += 1;
        }
    }
    assert!(both.iter().all(|count| *count > 1_000), "{both:?}");
}

#[derive(Debug)]
enum Part {
    Literal(String),
    /// As it stands in the pattern.
    Variable(String),
}

impl Part {
    fn text(&self) -> &str {
        match self {
            Self::Literal(text) | Self::Variable(text) => text,
        }
    }
}

/// Literals with a variable between each two.
fn alternate(leading: bool, literals: &[String], trailing: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    for (index, literal) in literals.iter().enumerate() {
        if index > 0 || leading {
            parts.push(Part::Variable(format!("{{v{index}}}")));
        }
        parts.push(Part::Literal(literal.clone()));
    }
    if trailing {
        parts.push(Part::Variable("{last}".to_owned()));
    }
    parts
}

/// Every way to read `name` as `parts`: the text of each variable, shorter texts of earlier variables first.
fn readings<'n>(parts: &[Part], name: &'n str) -> Vec<Vec<&'n str>> {
    let Some((part, rest)) = parts.split_first() else {
        return if name.is_empty() {
            vec![Vec::new()]
        } else {
            Vec::new()
        };
    };
    match part {
        Part::Literal(literal) => name
            .strip_prefix(literal.as_str())
            .map_or_else(Vec::new, |tail| readings(rest, tail)),
        Part::Variable(_) => (1..=name.len())
            .flat_map(|at| {
                readings(rest, &name[at..])
                    .into_iter()
                    .map(move |tail| [&[&name[..at]], &tail[..]].concat())
            })
            .collect(),
    }
}
