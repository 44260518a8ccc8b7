use super::*;
use crate::wire::UserId;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn channel(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn alice() -> Grant {
    Grant::user(UserId::parse("alice").unwrap())
}

fn allow(text: &str) -> Permissions {
    Permissions {
        allow: vec![pattern(text)],
        ..Permissions::default()
    }
}

fn deny(text: &str) -> Permissions {
    Permissions {
        deny: vec![pattern(text)],
        ..Permissions::default()
    }
}

fn names(channels: &[ChannelName]) -> Vec<&str> {
    channels.iter().map(ChannelName::as_str).collect()
}

#[test]
fn the_default_rules_are_those_of_the_table_and_valid() {
    let rules = Rules::default();
    let patterns: Vec<_> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
    assert_eq!(
        patterns,
        ["user-{user}", "global", "chat-room-{room}", "topic-{topic}"]
    );
    assert_eq!(Rules::new(rules.iter().cloned().collect()), Ok(rules));
}

#[test]
fn the_default_rules_decide_as_documented() {
    let rules = Rules::default();
    let anonymous = Grant::anonymous();
    // (channel, alice may subscribe, publish, anonymous may subscribe, publish)
    for (name, wanted) in [
        ("user-alice", [true, false, false, false]),
        ("user-bob", [false, false, false, false]),
        ("user-alice2", [false, false, false, false]),
        ("user-Alice", [false, false, false, false]),
        ("global", [true, false, true, false]),
        ("chat-room-7", [true, true, false, false]),
        ("topic-rust", [true, false, false, false]),
        ("globals", [false, false, false, false]),
        ("anything", [false, false, false, false]),
    ] {
        let name = channel(name);
        let found = [
            rules.may_subscribe(&alice(), &name),
            rules.may_publish(&alice(), &name),
            rules.may_subscribe(&anonymous, &name),
            rules.may_publish(&anonymous, &name),
        ];
        assert_eq!(found, wanted, "{name}");
    }
    assert_eq!(
        names(&rules.auto_subscriptions(&alice())),
        ["user-alice", "global"]
    );
    assert_eq!(names(&rules.auto_subscriptions(&anonymous)), ["global"]);
}

#[test]
fn a_grant_may_allow_more_than_the_rules() {
    let rules = Rules::default();
    let grant = alice()
        .subscribe(allow("user-bob"))
        .publish(allow("global"));
    assert!(rules.may_subscribe(&grant, &channel("user-bob")));
    assert!(!rules.may_publish(&grant, &channel("user-bob")));
    assert!(rules.may_publish(&grant, &channel("global")));
    assert!(!rules.may_subscribe(&grant, &channel("user-carol")));
    let open = alice().subscribe(allow("unheard-of-*"));
    assert!(rules.may_subscribe(&open, &channel("unheard-of-x")));
}

#[test]
fn a_grant_may_allow_less_than_the_rules() {
    let rules = Rules::default();
    let grant = alice()
        .subscribe(deny("global"))
        .publish(deny("chat-room-7"));
    assert!(!rules.may_subscribe(&grant, &channel("global")));
    assert!(rules.may_subscribe(&grant, &channel("chat-room-7")));
    assert!(!rules.may_publish(&grant, &channel("chat-room-7")));
    assert!(rules.may_publish(&grant, &channel("chat-room-8")));
    assert_eq!(names(&rules.auto_subscriptions(&grant)), ["user-alice"]);
}

#[test]
fn the_first_rule_that_fits_decides_everything() {
    let rules = Rules::new(vec![
        Rule::new(pattern("user-alice"), Who::Nobody, Who::Nobody),
        Rule::new(pattern("user-{user}"), Who::Owner, Who::Owner).auto_subscribe(),
        Rule::new(pattern("glob*"), Who::Everyone, Who::Nobody),
        Rule::new(pattern("global"), Who::Everyone, Who::Everyone).auto_subscribe(),
    ])
    .unwrap();
    let bob = Grant::user(UserId::parse("bob").unwrap());
    assert!(!rules.may_subscribe(&alice(), &channel("user-alice")));
    assert!(rules.may_publish(&bob, &channel("user-bob")));
    assert!(!rules.may_publish(&bob, &channel("global")));
    assert!(rules.auto_subscriptions(&alice()).is_empty());
    assert_eq!(names(&rules.auto_subscriptions(&bob)), ["user-bob"]);
    let rule = rules.matching(&channel("global")).unwrap();
    assert_eq!(rule.pattern.as_str(), "glob*");
    assert_eq!(rules.matching(&channel("else")), None);
}

#[test]
fn automatic_subscription_needs_the_right_to_subscribe() {
    let rules = Rules::new(vec![
        Rule::new(pattern("members"), Who::Authenticated, Who::Nobody).auto_subscribe(),
        Rule::new(pattern("inbox-{user}"), Who::Everyone, Who::Everyone).auto_subscribe(),
        Rule::new(pattern("{user}"), Who::Owner, Who::Owner).auto_subscribe(),
    ])
    .unwrap();
    assert!(rules.auto_subscriptions(&Grant::anonymous()).is_empty());
    assert_eq!(
        names(&rules.auto_subscriptions(&alice())),
        ["members", "inbox-alice", "alice"]
    );
    let members = Grant::user(UserId::parse("members").unwrap());
    assert_eq!(
        names(&rules.auto_subscriptions(&members)),
        ["members", "inbox-members"],
        "no channel twice"
    );
}

#[test]
fn a_user_whose_channel_would_be_too_long_gets_none() {
    let long = format!("{}-{{user}}", "x".repeat(100));
    let rules = Rules::new(vec![
        Rule::new(pattern(&long), Who::Owner, Who::Nobody).auto_subscribe(),
    ])
    .unwrap();
    let grant = Grant::user(UserId::parse(&"u".repeat(UserId::MAX)).unwrap());
    assert!(rules.auto_subscriptions(&grant).is_empty());
}

#[test]
fn an_owner_is_who_the_shortest_reading_says() {
    let rules = Rules::new(vec![Rule::new(
        pattern("user-{user}:{device}"),
        Who::Owner,
        Who::Owner,
    )])
    .unwrap();
    let ambiguous = channel("user-a:b:c");
    let grant = |user: &str| Grant::user(UserId::parse(user).unwrap());
    assert!(rules.may_subscribe(&grant("a"), &ambiguous));
    assert!(!rules.may_subscribe(&grant("a:b"), &ambiguous));
}

#[test]
fn rules_that_cannot_be_meant_are_named() {
    use Who::{Everyone, Nobody, Owner};
    let rule = |text: &str, subscribe, publish| Rule::new(pattern(text), subscribe, publish);
    let named = |text: &str| text.to_owned();
    for (rules, error) in [
        (
            vec![rule("room-{room}", Owner, Nobody)],
            InvalidRule::OwnerWithoutUser(named("room-{room}")),
        ),
        (
            vec![rule("room-*", Everyone, Owner)],
            InvalidRule::OwnerWithoutUser(named("room-*")),
        ),
        (
            vec![rule("user-{user}:{device}", Owner, Nobody).auto_subscribe()],
            InvalidRule::AutoSubscribeVariable(named("user-{user}:{device}")),
        ),
        (
            vec![rule("news-*", Everyone, Nobody).auto_subscribe()],
            InvalidRule::AutoSubscribeVariable(named("news-*")),
        ),
        (
            vec![rule("secret", Nobody, Everyone).auto_subscribe()],
            InvalidRule::AutoSubscribeNobody(named("secret")),
        ),
        (
            vec![
                rule("cut", Everyone, Nobody)
                    .datagrams(Keyframes::default())
                    .on_lag(OnLag::Cut),
            ],
            InvalidRule::DatagramLag(named("cut")),
        ),
        (
            vec![
                rule("old", Everyone, Nobody)
                    .datagrams(Keyframes::default())
                    .max_age(Duration::from_secs(1)),
            ],
            InvalidRule::DatagramLag(named("old")),
        ),
        (
            vec![
                rule("often", Everyone, Nobody)
                    .datagrams(Keyframes::default().interval(Duration::ZERO)),
            ],
            InvalidRule::KeyframeInterval(named("often")),
        ),
        (
            vec![
                rule("a", Everyone, Nobody),
                rule("b", Everyone, Nobody),
                rule("a", Nobody, Nobody),
            ],
            InvalidRule::Repeated(named("a")),
        ),
    ] {
        let found = Rules::new(rules).unwrap_err();
        assert_eq!(found, error);
        assert!(found.to_string().contains("the rule") || found.to_string().contains("two rules"));
    }
}

#[test]
fn without_rules_only_grants_open_channels() {
    let rules = Rules::new(Vec::new()).unwrap();
    assert!(!rules.may_subscribe(&alice(), &channel("global")));
    let grant = Grant::anonymous().subscribe(allow("global"));
    assert!(rules.may_subscribe(&grant, &channel("global")));
    assert!(rules.auto_subscriptions(&grant).is_empty());
}

#[test]
fn who_is_written_in_lower_case() {
    for (who, text) in [
        (Who::Everyone, "\"everyone\""),
        (Who::Authenticated, "\"authenticated\""),
        (Who::Owner, "\"owner\""),
        (Who::Nobody, "\"nobody\""),
    ] {
        assert_eq!(serde_json::to_string(&who).unwrap(), text);
        assert_eq!(serde_json::from_str::<Who>(text).unwrap(), who);
    }
}
