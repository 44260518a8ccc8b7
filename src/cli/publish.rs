//! `tidings pub`, `notify` and `announce`: one message goes out, one line comes back.

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Context, Failure, api, connect};
use crate::{
    client::Client,
    wire::{ChannelName, Message, PublishOptions, UserId},
};

/// Publish to a channel
///
/// Over the HTTP API with its key, which may publish everywhere; or, with --token or --user, over a connection of its own, if
/// the rules let that user publish there. Prints where the message stands: the channel, the epoch of its log, and the number
/// there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct PubArguments {
    /// The channel.
    channel: ChannelName,
    /// The message; `-` reads standard input, where each line is one.
    #[arg(allow_hyphen_values = true)]
    message: String,
    /// The media type to publish it as. Default: plain text.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A key of your own with which you may try again: the message is stored once. For one message, not for lines of standard input.
    #[arg(long)]
    key: Option<String>,
    /// Which of the channel's states the message is: the next with the same takes its place where a reader lags.
    #[arg(long, value_name = "KEY")]
    conflation_key: Option<String>,
    /// The user whom subscribers are shown as the publisher. Over the HTTP API only: with --token or --user it is that user.
    #[arg(long, value_name = "USER")]
    publisher: Option<UserId>,
    #[command(flatten)]
    connection: connect::Arguments,
    #[command(flatten)]
    api: api::Arguments,
}

const EXAMPLES: &str = "\
Examples:
  tidings pub chat-room-7 \"hi\"              with the key of the server in this directory
  tidings pub chat-room-7 \"hi\" --user 42    as user 42
  tail -f log | tidings pub topic-log -     each line is a message";

/// Send a line to every device of a user
///
/// It goes to the channel user-ID over the HTTP API, and stands there at the position that is printed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  tidings notify 42 \"your order shipped\"")]
pub(super) struct NotifyArguments {
    /// The user.
    user: UserId,
    /// The line.
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// A key of your own with which you may try again: the line is stored once.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    api: api::Arguments,
}

/// Send a line to everybody
///
/// It goes to the channel global over the HTTP API, and stands there at the position that is printed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  tidings announce \"maintenance at 22:00\"")]
pub(super) struct AnnounceArguments {
    /// The line.
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// A key of your own with which you may try again: the line is stored once.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    api: api::Arguments,
}

pub(super) async fn notify(arguments: NotifyArguments, context: &Context) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        user: &'a str,
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
    }
    let body = Body {
        user: arguments.user.as_str(),
        text: &arguments.text,
        key: arguments.key.as_deref(),
    };
    let published = arguments
        .api
        .find(context)?
        .post("/v1/notify", &body)
        .await?;
    context.console.print(&published.to_string())
}

pub(super) async fn announce(
    arguments: AnnounceArguments,
    context: &Context,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
    }
    let body = Body {
        text: &arguments.text,
        key: arguments.key.as_deref(),
    };
    let published = arguments
        .api
        .find(context)?
        .post("/v1/announce", &body)
        .await?;
    context.console.print(&published.to_string())
}

pub(super) async fn publish(arguments: PubArguments, context: &Context) -> Result<(), Failure> {
    let PubArguments {
        channel,
        message,
        content_type,
        key,
        conflation_key,
        publisher,
        connection,
        api,
    } = arguments;
    if message == "-" && key.is_some() {
        return Err(Failure::usage(
            "--key is one message's own, and `-` reads many: publish each with a key of its own",
        ));
    }
    if connection.any() && api.any() {
        return Err(Failure::usage(
            "--url, --token and --user publish over a connection, --http and --api-key-file over the HTTP API: pass one or the other",
        ));
    }
    if connection.any() && publisher.is_some() {
        return Err(Failure::usage(
            "--publisher is for the HTTP API: over a connection the publisher is the user of --token or --user",
        ));
    }
    let connected = connection.any()
        || (!api.any() && publisher.is_none() && context.var("TIDINGS_TOKEN").is_some());
    let publisher = Publisher {
        way: if connected {
            Way::Client(connection.connect(context).await?)
        } else {
            Way::Api(api.find(context)?)
        },
        channel,
        content_type,
        key,
        conflation_key,
        user: publisher,
    };
    let published = if message == "-" {
        lines(&publisher, context).await
    } else {
        publisher.one(&message, context).await
    };
    if let Way::Client(client) = publisher.way {
        client.close().await;
    }
    published
}

async fn lines(publisher: &Publisher, context: &Context) -> Result<(), Failure> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut number = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let at = |what: String| Failure::new(format!("standard input, line {number}: {what}"));
        let read = input.read_until(b'\n', &mut line).await;
        if read.map_err(|error| at(error.to_string()))? == 0 {
            return Ok(());
        }
        let text = std::str::from_utf8(&line).map_err(|_| at("it is not UTF-8".to_owned()))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        publisher
            .one(text, context)
            .await
            .map_err(|failure| at(failure.reasons.join("; ")))?;
    }
}

struct Publisher {
    way: Way,
    channel: ChannelName,
    content_type: Option<String>,
    key: Option<String>,
    conflation_key: Option<String>,
    user: Option<UserId>,
}

enum Way {
    Client(Client),
    Api(api::Api),
}

impl Publisher {
    async fn one(&self, text: &str, context: &Context) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Body<'a> {
            channel: &'a str,
            text: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            content_type: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            key: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            conflation_key: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            user: Option<&'a str>,
        }
        let channel = self.channel.as_str();
        let content_type = self.content_type.as_deref();
        let line = match &self.way {
            Way::Client(client) => {
                let message = match content_type {
                    Some(content_type) => Message::data(content_type, text.to_owned()),
                    None => Message::text(text),
                };
                let mut options = PublishOptions::new();
                options.key.clone_from(&self.key);
                options.conflation_key.clone_from(&self.conflation_key);
                let published = client.publish_with(channel, message, options).await;
                let published =
                    published.map_err(|error| Failure::new(format!("{channel}: {error}")))?;
                format!("{channel} {}", published.position)
            }
            Way::Api(api) => {
                let body = Body {
                    channel,
                    text,
                    content_type,
                    key: self.key.as_deref(),
                    conflation_key: self.conflation_key.as_deref(),
                    user: self.user.as_ref().map(UserId::as_str),
                };
                api.post("/v1/publish", &body).await?.to_string()
            }
        };
        context.console.print(&line)
    }
}
