//! What the broker takes, and on which terms.

use std::sync::Arc;

use super::{
    Broker, PublishError, Tenancy,
    channel::{Accepted, Given, Origin, Refused},
    keys,
    marks::Mark,
};
use crate::wire::{
    Announcement, ChannelName, Message, Notification, Position, UserId, draft::Draft,
};

/// What is said of a publication beside its channel, its publisher and its message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms<'a> {
    /// A key of the publisher's own, 1 to 128 bytes, with which it may try again: within five minutes the message is stored once,
    /// unless the channel has 16,384 keys and none of its publishers has more than this one, and later calls get the position of the first (PROTOCOL §4.12).
    pub key: Option<&'a str>,
    /// Which of the channel's states the message is, 1 to 128 bytes. Where the rule says
    /// [`OnLag::LatestPerKey`](crate::auth::OnLag::LatestPerKey), a reader that lags gets the newest message with each (PROTOCOL §5.5).
    pub conflation_key: Option<&'a str>,
    /// The session that is not sent it, by [`Session::number`](crate::endpoint::Session::number): the one that caused it and knows (PROTOCOL §5.8).
    pub exclude: Option<u64>,
}

impl<'a> Terms<'a> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            key: None,
            conflation_key: None,
            exclude: None,
        }
    }

    /// The same with a key.
    #[must_use]
    pub const fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    /// The same with a conflation key.
    #[must_use]
    pub const fn conflation_key(mut self, key: &'a str) -> Self {
        self.conflation_key = Some(key);
        self
    }

    /// The same without an echo to this session.
    #[must_use]
    pub const fn exclude(mut self, session: u64) -> Self {
        self.exclude = Some(session);
        self
    }
}

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher<'a> {
    /// The user whom subscribers are told.
    pub(crate) shown: Option<&'a UserId>,
    /// The user whose key it is.
    pub(crate) user: Option<&'a UserId>,
    /// The session, which listeners are told.
    pub(crate) session: Option<u64>,
    /// The session's quotas; `None` for the server, which has none.
    pub(crate) tenancy: Option<&'a Tenancy>,
}

impl<'a> Publisher<'a> {
    /// The server, in its own name or a user's.
    const fn server(publisher: Option<&'a UserId>) -> Self {
        Self {
            shown: publisher,
            user: publisher,
            session: None,
            tenancy: None,
        }
    }
}

/// What became of a publication with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Where it stands.
    pub position: Position,
    /// It stood there already.
    pub duplicate: bool,
}

impl Broker {
    /// Publishes in the server's name. Returns when the publication stands in the log; delivery goes on by itself.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn post(
        &self,
        channel: &ChannelName,
        message: impl Into<Message>,
    ) -> Result<Position, PublishError> {
        self.publish(channel, None, &message.into())
    }

    /// Posts a [`Notification`] to `user-{user}`: every device of the user gets it.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn notify(&self, user: &UserId, text: impl Into<String>) -> Result<Position, PublishError> {
        let published = self.notify_with(user, text, Terms::new())?;
        Ok(published.position)
    }

    /// [`Broker::notify`] on any terms. A [key](Terms::key) is compared by the text alone: the notification's timestamp is that of the
    /// first call.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn notify_with(
        &self,
        user: &UserId,
        text: impl Into<String>,
        terms: Terms<'_>,
    ) -> Result<Published, PublishError> {
        let message = Message::notification(text, 0);
        self.publish_now(&ChannelName::of_user(user), message, terms)
    }

    /// Posts an [`Announcement`] to `global`: everybody gets it.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn announce(&self, text: impl Into<String>) -> Result<Position, PublishError> {
        let published = self.announce_with(text, Terms::new())?;
        Ok(published.position)
    }

    /// [`Broker::announce`] on any terms. A [key](Terms::key) is compared by the text alone: the announcement's timestamp is that of the
    /// first call.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn announce_with(
        &self,
        text: impl Into<String>,
        terms: Terms<'_>,
    ) -> Result<Published, PublishError> {
        let message = Message::announcement(text, 0);
        self.publish_now(&ChannelName::global(), message, terms)
    }

    /// Publishes a message without a timestamp of its own in the server's name, with the present one.
    fn publish_now(
        &self,
        channel: &ChannelName,
        mut message: Message,
        terms: Terms<'_>,
    ) -> Result<Published, PublishError> {
        // Before the timestamp is set: a call that is repeated with the same key has another.
        let given = self.given(None, &message, terms)?;
        if let Message::Notification(Notification { timestamp, .. })
        | Message::Announcement(Announcement { timestamp, .. }) = &mut message
        {
            *timestamp = self.now();
        }
        self.append(channel, Publisher::server(None), &message, given)
    }

    /// Publishes in a user's name, or in the server's (`None`). Whether the publisher may is the caller's to check.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn publish(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        message: &Message,
    ) -> Result<Position, PublishError> {
        let publisher = Publisher::server(publisher);
        let published = self.append(channel, publisher, message, Given::default())?;
        Ok(published.position)
    }

    /// The same with a key of the publisher's own, 1 to 128 bytes, with which it may try again: within five minutes the
    /// message is stored once, and the later calls get the position of the first: see [`Terms::key`].
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published. [`PublishError::KeyReused`] where the publisher has used the key for another message.
    pub fn publish_once(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        key: &str,
        message: &Message,
    ) -> Result<Published, PublishError> {
        self.publish_with(channel, publisher, message, Terms::new().key(key))
    }

    /// The same on any terms.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was published.
    pub fn publish_with(
        &self,
        channel: &ChannelName,
        publisher: Option<&UserId>,
        message: &Message,
        terms: Terms<'_>,
    ) -> Result<Published, PublishError> {
        self.publish_as(channel, Publisher::server(publisher), message, terms)
    }

    /// The same for any publisher.
    pub(crate) fn publish_as(
        &self,
        channel: &ChannelName,
        publisher: Publisher<'_>,
        message: &Message,
        terms: Terms<'_>,
    ) -> Result<Published, PublishError> {
        let mut given = self.given(publisher.user, message, terms)?;
        if publisher.session.is_some() || publisher.shown != publisher.user {
            given.origin = Some(Origin {
                session: publisher.session,
                user: publisher.user.cloned(),
            });
        }
        self.append(channel, publisher, message, given)
    }

    /// The terms of a message in the form that a channel takes, with the key as one of `owner`.
    fn given(
        &self,
        owner: Option<&UserId>,
        message: &Message,
        terms: Terms<'_>,
    ) -> Result<Given, PublishError> {
        // In the order of PROTOCOL §4.6 and §4.12: the first reason counts.
        refuse_reserved(message)?;
        self.check_size(message)?;
        for key in [terms.key, terms.conflation_key].into_iter().flatten() {
            let (length, max) = (key.len(), keys::MAX_KEY);
            if !(1..=max).contains(&length) {
                return Err(PublishError::InvalidKey { length, max });
            }
        }
        let owner = owner.map(UserId::as_str);
        let token = |key| self.inner.tokens.token(owner, key, message);
        Ok(Given {
            once: terms.key.map(token),
            payer: None,
            mark: Mark {
                exclude: terms.exclude,
                conflation_key: terms.conflation_key.map(Arc::from),
            },
            origin: None,
        })
    }

    fn append(
        &self,
        channel: &ChannelName,
        publisher: Publisher<'_>,
        message: &Message,
        mut given: Given,
    ) -> Result<Published, PublishError> {
        refuse_reserved(message)?;
        self.check_size(message)?;
        let mut draft = Draft::new(publisher.shown.map(UserId::as_str), message);
        given.payer = publisher.tenancy.map(|tenancy| tenancy.account.payer());
        loop {
            let found = self.channel(channel, publisher.tenancy)?;
            match found.publish(self.present(), draft, given, &self.inner.closed) {
                Ok(Accepted {
                    position,
                    duplicate,
                }) => {
                    if !duplicate {
                        self.inner.counters.published();
                    }
                    return Ok(Published {
                        position,
                        duplicate,
                    });
                }
                // Evicted since the look-up: the next one finds or makes its successor.
                Err(Refused::Evicted(back)) => (draft, given) = *back,
                Err(Refused::Closed) => return Err(PublishError::Closed),
                Err(Refused::KeyReused) => return Err(PublishError::KeyReused),
                Err(Refused::Overloaded) => return Err(PublishError::Overloaded),
                Err(Refused::MemoryQuota { max }) => {
                    return Err(PublishError::MemoryQuota { max });
                }
            }
        }
    }

    pub(super) fn check_size(&self, message: &Message) -> Result<(), PublishError> {
        let (size, max) = (message.size(), self.inner.config.max_message);
        if size > max {
            return Err(PublishError::TooLarge { size, max });
        }
        Ok(())
    }
}

/// What the server alone makes nobody publishes, whoever it is.
pub(super) fn refuse_reserved(message: &Message) -> Result<(), PublishError> {
    match message {
        Message::Presence(_) => Err(PublishError::Reserved(message.kind())),
        _ => Ok(()),
    }
}
