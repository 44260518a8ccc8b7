//! `tidings history`: prints what the server keeps of a channel.

use tokio::io::AsyncWriteExt;

use super::{Context, Failure, connect, sub::format};
use crate::{
    client::{Client, Event},
    wire::{ChannelName, Epoch, HistoryQuery, Position, Publication},
};

/// Print what the server keeps of a channel
///
/// Oldest first, one line a publication, as `tidings sub` prints it. A server keeps messages in memory, as many, as large and as old
/// as its rule for the channel says.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The channel.
    channel: ChannelName,
    /// Only what follows this position: what --json prints as epoch and offset. Fails where the server no longer has all of it.
    #[arg(long, value_name = "EPOCH:OFFSET")]
    since: Option<Position>,
    /// Only the newest N.
    #[arg(long, value_name = "N", conflicts_with = "since")]
    last: Option<u64>,
    /// Newest first.
    #[arg(long)]
    reverse: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: connect::Arguments,
}

const EXAMPLES: &str = "\
Examples:
  tidings history chat-room-7 --user 42              all that is kept
  tidings history chat-room-7 --user 42 --last 10    the newest ten";

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments {
        channel,
        since,
        last,
        reverse,
        json,
        connection,
    } = arguments;
    let client = connection.connect(context).await?;
    // The newest are found from their end on.
    let backwards = last.is_some() || reverse && since.is_none();
    let read = read(&client, &channel, since, last, backwards).await;
    client.close().await;
    let mut found = read?;
    if backwards != reverse {
        found.reverse();
    }
    let mut lines = String::new();
    for (epoch, publication) in found {
        let event = Event::Publication(publication);
        let line = if json {
            format::json(&channel, epoch, &event)
        } else {
            format::human(&channel, &event, context.console.out)
        };
        if let Some(line) = line {
            lines += &line;
            lines.push('\n');
        }
    }
    let mut out = tokio::io::stdout();
    let written = match out.write_all(lines.as_bytes()).await {
        Ok(()) => out.flush().await,
        failed => failed,
    };
    match written {
        // Who reads has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// All pages of what was kept at the beginning.
async fn read(
    client: &Client,
    channel: &ChannelName,
    since: Option<Position>,
    last: Option<u64>,
    backwards: bool,
) -> Result<Vec<(Epoch, Publication)>, Failure> {
    let mut left = last.unwrap_or(u64::MAX);
    let mut from = since;
    let mut found = Vec::new();
    // What is published while this reads does not make it longer.
    let mut last_kept = None;
    while left > 0 {
        let query = HistoryQuery {
            from,
            limit: left,
            reverse: backwards,
        };
        let page = client.history(channel.as_str(), query).await;
        let page = page.map_err(|error| Failure::new(format!("{channel}: {error}")))?;
        if !page.complete {
            if from != since {
                let reason = "what was to come next was dropped while this was read: ask again";
                return Err(Failure::new(format!("{channel}: {reason}")));
            }
            let kept = page.kept.map_or_else(
                || "nothing".to_owned(),
                |kept| format!("{} #{} to #{}", kept.epoch, kept.first, kept.last),
            );
            let since = since.map_or_else(String::new, |since| since.to_string());
            return Err(Failure::new(format!(
                "{channel}: the server does not have all that follows {since}, but {kept}: ask without --since for that"
            )));
        }
        let (Some(next), Some(kept)) = (page.next(), page.kept) else {
            break;
        };
        from = Some(next);
        left = left.saturating_sub(page.publications.len() as u64);
        let kept_then = *last_kept.get_or_insert(kept.last);
        let wanted = page
            .publications
            .into_iter()
            .filter(|one| one.offset <= kept_then);
        found.extend(wanted.map(|one| (kept.epoch, one)));
        if !backwards && next.offset >= kept_then {
            break;
        }
    }
    Ok(found)
}
