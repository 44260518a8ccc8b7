//! `tidings presence`: prints who is in a channel.

use serde::Serialize;

use super::{
    Context, Failure, connect,
    output::{CHANNEL, visible},
    sub::format::{Who, id, member},
};
use crate::wire::{Attendance, ChannelName, Member};

/// Print who is in a channel
///
/// How many there are, and then one line a session that is subscribed, its user first. The server tells it of channels whose
/// rule says presence = true, to those who may subscribe. `tidings sub` prints who comes and goes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The channel.
    channel: ChannelName,
    /// List at most N sessions. The server lists 256 at most; it counts all.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one JSON object: epoch, offset, connections, users, complete and members. Later messages of the channel tell what changed.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: connect::Arguments,
}

const EXAMPLES: &str = "\
Examples:
  tidings presence chat-room-7 --user 42             who is there
  tidings presence chat-room-7 --user 42 --limit 0   how many are there";

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments {
        channel,
        limit,
        json,
        connection,
    } = arguments;
    let client = connection.connect(context).await?;
    let limit = limit.unwrap_or(u64::MAX);
    let found = client.presence(channel.as_str(), limit).await;
    client.close().await;
    let found = found.map_err(|error| Failure::new(format!("{channel}: {error}")))?;
    if json {
        // Strings and numbers always are JSON.
        let text = serde_json::to_string(&Page::new(&channel, &found)).map_err(Failure::new)?;
        return context.console.print(&text);
    }
    let mut lines: Vec<_> = found.members.iter().map(line).collect();
    lines.sort_unstable();
    let more = if found.complete {
        ""
    } else {
        "; not all are listed"
    };
    let head = format!(
        "{}  connections: {}, users: {}{more}",
        context.console.out.paint(CHANNEL, channel.as_str()),
        found.connections,
        found.users,
    );
    lines.insert(0, head);
    context.console.print(&lines.join("\n"))
}

fn line(one: &Member) -> String {
    match &one.user {
        Some(user) => format!("{} {}", visible(user), id(one)),
        None => member(one),
    }
}

#[derive(Serialize)]
struct Page<'a> {
    channel: &'a str,
    epoch: Option<String>,
    offset: Option<u64>,
    connections: u64,
    users: u64,
    complete: bool,
    members: Vec<Who<'a>>,
}

impl<'a> Page<'a> {
    fn new(channel: &'a ChannelName, found: &'a Attendance) -> Self {
        Self {
            channel: channel.as_str(),
            epoch: found.position.map(|position| position.epoch.to_string()),
            offset: found.position.map(|position| position.offset),
            connections: found.connections,
            users: found.users,
            complete: found.complete,
            members: found.members.iter().map(Who::from).collect(),
        }
    }
}
