//! Rules: what a channel's name says about who may use it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Delivery, Grant, Keyframes, OnLag, Permissions, Priority};
use crate::wire::{ChannelName, Pattern};

/// The variable that stands for the session's user.
const USER: &str = "user";

/// Whom a [`Rule`] lets do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Who {
    /// Every session, anonymous ones too.
    Everyone,
    /// Every session that has a user.
    Authenticated,
    /// The session whose user is what the pattern's variable `{user}` stands for.
    ///
    /// A user's identity may contain any text that a channel's name may. Where more follows `{user}` than literal text, as in
    /// `user-{user}:{device}`, the channel `user-a:b:c` belongs to the user `a` and never to the user `a:b`: separate with
    /// something that no identity contains.
    Owner,
    /// No session: only the server itself.
    Nobody,
}

/// What the sessions of a server may do with the channels that fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// The channels it is about. A variable has a meaning only where it is `{user}` and [`Who::Owner`] or `auto_subscribe` is
    /// used.
    pub pattern: Pattern,
    /// Who may subscribe.
    pub subscribe: Who,
    /// Who may publish.
    pub publish: Who,
    /// Who may read what is kept of the channel: its history, and the newest publications at the beginning of a subscription. `None`:
    /// whoever may subscribe. A subscription that continues after a position needs no more than any other: what must be hidden from
    /// subscribers is not to be kept.
    pub history: Option<Who>,
    /// Whether every session that may subscribe is subscribed from its start. Needs a pattern without a variable other than
    /// `{user}`.
    pub auto_subscribe: bool,
    /// How publications are delivered.
    pub delivery: Delivery,
    /// Whether subscribers are not told which user published a message. The server's own messages never say one.
    pub hide_publisher: bool,
    /// Whether the sessions that are subscribed are told of each other (PROTOCOL §4.15). Where [`hide_publisher`](Self::hide_publisher) is
    /// set they are told that there is a session, not which, nor whose.
    pub presence: bool,
}

impl Rule {
    /// A rule without automatic subscription.
    #[must_use]
    pub const fn new(pattern: Pattern, subscribe: Who, publish: Who) -> Self {
        Self {
            pattern,
            subscribe,
            publish,
            history: None,
            auto_subscribe: false,
            delivery: Delivery {
                on_lag: OnLag::Continue,
                priority: Priority::Normal,
                max_age: None,
                datagrams: None,
            },
            hide_publisher: false,
            presence: false,
        }
    }

    /// The same, with who may read the history.
    #[must_use]
    pub const fn history(mut self, who: Who) -> Self {
        self.history = Some(who);
        self
    }

    /// The same, with automatic subscription.
    #[must_use]
    pub const fn auto_subscribe(mut self) -> Self {
        self.auto_subscribe = true;
        self
    }

    /// The same, for publications that do not say which user they are of.
    #[must_use]
    pub const fn hide_publisher(mut self) -> Self {
        self.hide_publisher = true;
        self
    }

    /// The same, where those who are subscribed are told of each other.
    #[must_use]
    pub const fn presence(mut self) -> Self {
        self.presence = true;
        self
    }

    /// The same, with what becomes of readers that are too slow.
    #[must_use]
    pub const fn on_lag(mut self, on_lag: OnLag) -> Self {
        self.delivery.on_lag = on_lag;
        self
    }

    /// The same, with another priority.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.delivery.priority = priority;
        self
    }

    /// The same, for publications that are worthless when they are older.
    #[must_use]
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.delivery.max_age = Some(max_age);
        self
    }

    /// The same, for states that travel as datagrams: what is lost is left out, and keyframes repeat the newest.
    #[must_use]
    pub const fn datagrams(mut self, keyframes: Keyframes) -> Self {
        self.delivery.datagrams = Some(keyframes);
        self
    }

    fn check(&self) -> Result<(), InvalidRule> {
        let pattern = || self.pattern.to_string();
        if let Some(keyframes) = self.delivery.datagrams {
            let contradicts = matches!(self.delivery.on_lag, OnLag::Cut | OnLag::LatestPerKey);
            if contradicts || self.delivery.max_age.is_some() {
                return Err(InvalidRule::DatagramLag(pattern()));
            }
            if keyframes.interval < Duration::from_millis(1) {
                return Err(InvalidRule::KeyframeInterval(pattern()));
            }
        }
        let owned =
            [Some(self.subscribe), Some(self.publish), self.history].contains(&Some(Who::Owner));
        if owned && !self.pattern.variables().any(|name| name == USER) {
            return Err(InvalidRule::OwnerWithoutUser(pattern()));
        }
        let newest_alone =
            self.delivery.on_lag == OnLag::Latest || self.delivery.datagrams.is_some();
        if self.presence && newest_alone {
            return Err(InvalidRule::PresenceLatest(pattern()));
        }
        if !self.auto_subscribe {
            return Ok(());
        }
        if self.subscribe == Who::Nobody {
            return Err(InvalidRule::AutoSubscribeNobody(pattern()));
        }
        // `*` is a variable whose name is empty.
        if self.pattern.variables().any(|name| name != USER) {
            return Err(InvalidRule::AutoSubscribeVariable(pattern()));
        }
        Ok(())
    }

    /// Whether `who`, one of this rule's, takes in the session of `grant` for `channel`, which fits the pattern.
    fn admits(&self, who: Who, grant: &Grant, channel: &ChannelName) -> bool {
        match who {
            Who::Everyone => true,
            Who::Authenticated => grant.user.is_some(),
            Who::Owner => {
                let owner = self
                    .pattern
                    .captures(channel)
                    .and_then(|captures| captures.value(USER));
                // Without a user there is no owner, and without an owner nobody is let in.
                owner.is_some() && owner == grant.user.as_ref().map(|user| user.as_str())
            }
            Who::Nobody => false,
        }
    }
}

/// A [`Rule`] that cannot be meant. Each names the rule's pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRule {
    /// [`Who::Owner`] without a variable that says who the owner is.
    #[error(
        "the rule for {0:?}: \"owner\" needs the variable {{user}} in the pattern, as in user-{{user}}"
    )]
    OwnerWithoutUser(String),
    /// Nothing says which channels to subscribe to.
    #[error(
        "the rule for {0:?}: auto_subscribe allows no variable but {{user}}, since nothing says what another stands for"
    )]
    AutoSubscribeVariable(String),
    /// Everybody would be subscribed to what nobody may subscribe to.
    #[error("the rule for {0:?}: auto_subscribe contradicts that \"nobody\" may subscribe")]
    AutoSubscribeNobody(String),
    /// Delivery by datagram goes on with the newest publication, however old, and ends no reader.
    #[error(
        "the rule for {0:?}: by datagram the newest publication is what a reader goes on with; on_lag = \"cut\" or \"latest_per_key\" and a highest age contradict that"
    )]
    DatagramLag(String),
    /// Every publication would be a keyframe.
    #[error("the rule for {0:?}: the interval of keyframes is a millisecond at least")]
    KeyframeInterval(String),
    /// Who came and went would take the place of the newest state.
    #[error(
        "the rule for {0:?}: presence contradicts on_lag \"latest\" and delivery by datagram, where a reader that lags gets the newest publication alone"
    )]
    PresenceLatest(String),
    /// The second of two rules with one pattern would never be used.
    #[error("two rules for {0:?}: only the first would ever be used")]
    Repeated(String),
}

/// The rules of a server, in order: the first whose pattern fits a channel decides everything about it, and a channel that
/// fits none is closed to every session.
///
/// What a grant allows or denies by itself ([`Permissions`]) comes before every rule. Cloning is cheap: the list is shared.
///
/// ```
/// use std::time::Duration;
/// use tidings::{
///     auth::{Grant, OnLag, Rule, Rules, Who},
///     testing::TestServer,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rules = Rules::new(vec![
///     // Each user has an inbox, and is subscribed to it from the beginning.
///     Rule::new("user-{user}".parse()?, Who::Owner, Who::Nobody).auto_subscribe(),
///     // Every authenticated user may chat, and sees who else is there.
///     Rule::new("chat-*".parse()?, Who::Authenticated, Who::Authenticated).presence(),
///     // Prices are worthless when they are old.
///     Rule::new("price-*".parse()?, Who::Everyone, Who::Nobody)
///         .on_lag(OnLag::Latest)
///         .max_age(Duration::from_secs(5)),
/// ])?;
/// let ann = Grant::user("ann".parse()?);
/// assert!(rules.may_subscribe(&ann, &"user-ann".parse()?));
/// assert!(!rules.may_subscribe(&ann, &"user-bob".parse()?));
/// assert!(rules.may_publish(&ann, &"chat-1".parse()?));
/// assert!(!rules.may_publish(&Grant::anonymous(), &"chat-1".parse()?));
/// assert!(!rules.may_subscribe(&ann, &"other".parse()?), "no rule fits");
/// let server = TestServer::start_with(|builder| builder.rules(rules)).await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Arc<[Rule]>);

impl Rules {
    /// Rules in this order. No rule at all is allowed: then only grants open channels.
    ///
    /// # Errors
    /// [`InvalidRule`] names the pattern of the first rule that cannot be meant.
    pub fn new(rules: Vec<Rule>) -> Result<Self, InvalidRule> {
        let mut known = HashSet::new();
        for rule in &rules {
            rule.check()?;
            if !known.insert(rule.pattern.as_str()) {
                return Err(InvalidRule::Repeated(rule.pattern.to_string()));
            }
        }
        Ok(Self(rules.into()))
    }

    /// Whether the session of `grant` may subscribe to `channel`.
    #[must_use]
    pub fn may_subscribe(&self, grant: &Grant, channel: &ChannelName) -> bool {
        self.decide(grant, &grant.subscribe, channel, |rule| rule.subscribe)
    }

    /// Whether the session of `grant` may publish to `channel`.
    #[must_use]
    pub fn may_publish(&self, grant: &Grant, channel: &ChannelName) -> bool {
        self.decide(grant, &grant.publish, channel, |rule| rule.publish)
    }

    /// Whether the session of `grant` may read what is kept of `channel`.
    #[must_use]
    pub fn may_read_history(&self, grant: &Grant, channel: &ChannelName) -> bool {
        match self.matching(channel) {
            Some(Rule {
                history: Some(who), ..
            }) if grant.subscribe.decide(channel) != Some(false) => self
                .matching(channel)
                .is_some_and(|rule| rule.admits(*who, grant, channel)),
            _ => self.may_subscribe(grant, channel),
        }
    }

    /// Whether publications of `channel` do not say which user they are of.
    #[must_use]
    pub fn hides_publisher(&self, channel: &ChannelName) -> bool {
        self.matching(channel)
            .is_some_and(|rule| rule.hide_publisher)
    }

    /// How the publications of `channel` are delivered; as by default where no rule fits it.
    #[must_use]
    pub fn delivery(&self, channel: &ChannelName) -> Delivery {
        self.matching(channel)
            .map_or_else(Delivery::default, |rule| rule.delivery)
    }

    /// The channels that a session of `grant` is subscribed to from its start: in the order of the rules, each once, and only
    /// those it may subscribe to. A rule with `{user}` gives nothing to an anonymous session.
    #[must_use]
    pub fn auto_subscriptions(&self, grant: &Grant) -> Vec<ChannelName> {
        let user = grant.user.as_ref().map(|user| user.as_str());
        let mut channels = Vec::new();
        for rule in self.iter().filter(|rule| rule.auto_subscribe) {
            let Some(channel) = rule
                .pattern
                .expand(|name| user.filter(|_| name == USER))
                // An earlier rule that fits the channel decides about it, and this one has no say.
                .filter(|channel| self.matching(channel) == Some(rule))
            else {
                continue;
            };
            if !channels.contains(&channel) && self.may_subscribe(grant, &channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// The rule that decides about `channel`: the first whose pattern fits.
    #[must_use]
    pub fn matching(&self, channel: &ChannelName) -> Option<&Rule> {
        self.iter().find(|rule| rule.pattern.matches(channel))
    }

    /// The rules, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.0.iter()
    }

    fn decide(
        &self,
        grant: &Grant,
        permissions: &Permissions,
        channel: &ChannelName,
        who: impl Fn(&Rule) -> Who,
    ) -> bool {
        permissions.decide(channel).unwrap_or_else(|| {
            self.matching(channel)
                .is_some_and(|rule| rule.admits(who(rule), grant, channel))
        })
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Rule;
    type IntoIter = std::slice::Iter<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// | pattern | subscribe | publish | automatic |
/// | --- | --- | --- | --- |
/// | `user-{user}` | owner | nobody | yes |
/// | `global` | everyone | nobody | yes |
/// | `chat-room-{room}` | authenticated | authenticated | |
/// | `topic-{topic}` | authenticated | nobody | |
impl Default for Rules {
    fn default() -> Self {
        use Who::{Authenticated, Everyone, Nobody, Owner};
        let rules = [
            ("user-{user}", Owner, Nobody, true),
            ("global", Everyone, Nobody, true),
            ("chat-room-{room}", Authenticated, Authenticated, false),
            ("topic-{topic}", Authenticated, Nobody, false),
        ];
        Self(
            rules
                .into_iter()
                .filter_map(|(pattern, subscribe, publish, auto_subscribe)| {
                    Some(Rule {
                        // Each is a pattern, as the test of this table shows; if one were not, its channels would be closed.
                        pattern: Pattern::parse(pattern).ok()?,
                        subscribe,
                        publish,
                        history: None,
                        auto_subscribe,
                        delivery: Delivery::default(),
                        hide_publisher: false,
                        presence: false,
                    })
                })
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests;
