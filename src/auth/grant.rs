//! What authentication yields.

use std::{any::Any, time::SystemTime};

use super::GrantData;
use crate::wire::{ChannelName, Pattern, UserId};

/// Who a session belongs to, for how long, and what it may do apart from what the [`Rules`](super::Rules) say.
///
/// The default is [`Grant::anonymous`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The user; `None` for an anonymous session.
    pub user: Option<UserId>,
    /// When the session ends unless it presents a new token; `None` for never.
    pub expires_at: Option<SystemTime>,
    /// When its credentials were issued, where that is known: those that are older than a revocation are refused.
    pub issued_at: Option<SystemTime>,
    /// What it may subscribe to, before the rules are asked.
    pub subscribe: Permissions,
    /// What it may publish to, before the rules are asked.
    pub publish: Permissions,
    /// Data of the application, for user code in this process. It is never sent or logged.
    pub data: GrantData,
}

impl Grant {
    /// A session of nobody in particular, without end, for which the rules decide everything.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A session of `user`, without end, for which the rules decide everything.
    #[must_use]
    pub fn user(user: UserId) -> Self {
        Self {
            user: Some(user),
            ..Self::default()
        }
    }

    /// The same, ending at `time`.
    #[must_use]
    pub const fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// The same, issued at `time`.
    #[must_use]
    pub const fn issued_at(mut self, time: SystemTime) -> Self {
        self.issued_at = Some(time);
        self
    }

    /// The same, with these permissions to subscribe.
    #[must_use]
    pub fn subscribe(mut self, permissions: Permissions) -> Self {
        self.subscribe = permissions;
        self
    }

    /// The same, with these permissions to publish.
    #[must_use]
    pub fn publish(mut self, permissions: Permissions) -> Self {
        self.publish = permissions;
        self
    }

    /// This grant with a value of the application, such as a role or a display name, for user code: see [`data`](Self::data). It takes the
    /// place of one of the same type.
    #[must_use]
    pub fn with_data<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.data.insert(value);
        self
    }

    /// The value of this type that [`with_data`](Self::with_data) was given.
    #[must_use]
    pub fn data<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.data.get()
    }
}

/// Channels that a grant allows or denies by itself. Empty, the default, leaves everything to the rules.
///
/// A variable in a pattern stands for any text: `{user}` has no meaning of its own here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Allowed whatever the rules say, unless denied.
    pub allow: Vec<Pattern>,
    /// Denied whatever the rules and `allow` say.
    pub deny: Vec<Pattern>,
}

impl Permissions {
    /// `Some` where these permissions decide about `channel`, `None` where they leave it to the rules. Deny wins over allow.
    #[must_use]
    pub fn decide(&self, channel: &ChannelName) -> Option<bool> {
        if self.deny.iter().any(|pattern| pattern.matches(channel)) {
            Some(false)
        } else if self.allow.iter().any(|pattern| pattern.matches(channel)) {
            Some(true)
        } else {
            None
        }
    }
}
