//! What a client publishes, and how it asks for it.

use tokio::sync::oneshot;

use super::{Acknowledgement, Client, ClientError, State, driver::Command, parse};
use crate::wire::{
    ChannelName, Message, PublishOptions,
    frame::{Frame, Publish, PublishOnce, PublishWith},
};

/// The request for a publication: the plainest that says all.
pub(super) fn request(
    request: u64,
    name: &ChannelName,
    options: PublishOptions,
    message: Message,
) -> Frame {
    let channel = name.to_string();
    match options {
        PublishOptions {
            key: None,
            conflation_key: None,
            echo: true,
        } => Publish {
            request,
            channel,
            message,
        }
        .into(),
        PublishOptions {
            key: Some(key),
            conflation_key: None,
            echo: true,
        } => PublishOnce {
            request,
            channel,
            key,
            message,
        }
        .into(),
        PublishOptions {
            key,
            conflation_key,
            echo,
        } => PublishWith {
            request,
            channel,
            key,
            conflation_key,
            echo,
            message,
        }
        .into(),
    }
}

impl Client {
    /// Publishes a message and waits for the acknowledgement. While the client is between two connections this waits for the
    /// next one; it never sends twice.
    ///
    /// Any number of calls may be in flight. The server gets their messages in the order in which the calls were first polled,
    /// from one task or several: nothing of a call happens before. A call that is dropped is not sent if it still waits for the
    /// connection; otherwise it is carried out and its acknowledgement lost.
    ///
    /// # Errors
    /// [`ClientError::Channel`], [`TooLarge`](ClientError::TooLarge), [`Request`](ClientError::Request) with the server's
    /// code, [`Interrupted`](ClientError::Interrupted), [`Closed`](ClientError::Closed).
    pub async fn publish(
        &self,
        channel: &str,
        message: impl Into<Message>,
    ) -> Result<Acknowledgement, ClientError> {
        let options = PublishOptions::new();
        self.publish_as(parse(channel)?, options, message.into())
            .await
    }

    /// The same with a key of the caller's own, 1 to 128 bytes, that no other message of this user in the channel has: the message is
    /// stored once, however often this is called, within five minutes or the channel's next 16,383 such publications. So it is sent
    /// again over the next connection where one breaks before the acknowledgement came.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish), but for [`Interrupted`](ClientError::Interrupted).
    pub async fn publish_once(
        &self,
        channel: &str,
        key: &str,
        message: impl Into<Message>,
    ) -> Result<Acknowledgement, ClientError> {
        let options = PublishOptions::new().key(key);
        self.publish_with(channel, message, options).await
    }

    /// The same with everything that may be said of a publication: see [`PublishOptions`]. With a key it is sent again where a connection
    /// breaks, as by [`publish_once`](Self::publish_once).
    ///
    /// # Errors
    /// As for [`publish`](Self::publish); with a key but for [`Interrupted`](ClientError::Interrupted).
    pub async fn publish_with(
        &self,
        channel: &str,
        message: impl Into<Message>,
        options: PublishOptions,
    ) -> Result<Acknowledgement, ClientError> {
        let (name, message) = (parse(channel)?, message.into());
        loop {
            let published = self.publish_as(name.clone(), options.clone(), message.clone());
            match published.await {
                Err(ClientError::Interrupted(_)) if options.key.is_some() => {}
                done => return done,
            }
        }
    }

    async fn publish_as(
        &self,
        name: ChannelName,
        options: PublishOptions,
        message: Message,
    ) -> Result<Acknowledgement, ClientError> {
        if let State::Connected(welcomed) = &*self.shared.state.borrow()
            && message.size() as u64 > welcomed.limits.message
        {
            return Err(ClientError::TooLarge {
                size: message.size(),
                max: welcomed.limits.message,
            });
        }
        let (answer, answered) = oneshot::channel();
        let _place = self.ask(Command::Publish {
            name,
            options,
            message,
            answer,
        })?;
        answered.await.map_err(|_| self.over())?
    }
}
