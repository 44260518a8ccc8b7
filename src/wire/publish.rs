//! What a client may say of a publication beside its content (PROTOCOL §4.14).

/// How something is published. By default without a key, and with an echo.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// A key of the publisher's own, 1 to 128 bytes, with which it may try again: the message is stored once (PROTOCOL §4.12).
    pub key: Option<String>,
    /// Which of the channel's states the message is, 1 to 128 bytes: where the channel's rule says so, a reader that lags gets the newest
    /// message with each (PROTOCOL §5.5).
    pub conflation_key: Option<String>,
    /// Whether the connection that publishes is sent it, too, where it is subscribed (PROTOCOL §5.8).
    pub echo: bool,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            key: None,
            conflation_key: None,
            echo: true,
        }
    }
}

impl PublishOptions {
    /// Without a key, and with an echo.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with a conflation key.
    #[must_use]
    pub fn conflation_key(mut self, key: impl Into<String>) -> Self {
        self.conflation_key = Some(key.into());
        self
    }

    /// The same, of which this connection's own subscription is not sent anything.
    #[must_use]
    pub const fn without_echo(mut self) -> Self {
        self.echo = false;
        self
    }
}
