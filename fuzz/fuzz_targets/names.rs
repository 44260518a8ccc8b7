//! A pattern and a name, apart by a line feed: parsing, matching and putting together again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings::wire::{ChannelName, Epoch, Pattern, UserId};

fuzz_target!(|input: &str| {
    let (pattern, name) = input.split_once('\n').unwrap_or((input, input));
    let _ = name.parse::<Epoch>();
    if let Ok(user) = UserId::parse(name) {
        ChannelName::parse(ChannelName::of_user(&user).as_str()).expect("every user has a channel");
    }
    let (pattern, name) = (Pattern::parse(pattern), ChannelName::parse(name));
    if let Ok(pattern) = &pattern {
        assert_eq!(Pattern::parse(pattern.as_str()).as_ref(), Ok(pattern));
        assert!(pattern.variables().count() <= Pattern::MAX_VARIABLES);
        let _ = pattern.expand(|_| Some("a"));
    }
    let (Ok(pattern), Ok(name)) = (pattern, name) else {
        return;
    };
    let captures = pattern.captures(&name);
    assert_eq!(captures.is_some(), pattern.matches(&name));
    assert_eq!(
        captures.is_some(),
        fits(pattern.as_str().as_bytes(), name.as_str().as_bytes())
    );
    if let Some(captures) = captures
        && pattern.variables().all(|variable| !variable.is_empty())
    {
        let expanded = pattern.expand(|variable| captures.value(variable));
        assert_eq!(expanded, Some(name.clone()));
    }
});

/// Whether a well-formed pattern has any reading that is `name`: each row says which rests of the name the rest of the pattern
/// fits, so that the work is the product of the two lengths.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'{' {
            let close = tail
                .iter()
                .position(|byte| *byte == b'}')
                .expect("a parsed pattern");
            rest = &tail[close + 1..];
        }
        tokens.push(if matches!(first, b'{' | b'*') {
            None
        } else {
            Some(*first)
        });
    }
    let mut fits = vec![false; name.len() + 1];
    fits[name.len()] = true;
    for token in tokens.iter().rev() {
        let mut row = vec![false; name.len() + 1];
        for at in (0..name.len()).rev() {
            row[at] = match token {
                Some(letter) => name[at] == *letter && fits[at + 1],
                None => fits[at + 1] || row[at + 1],
            };
        }
        fits = row;
    }
    fits[0]
}
