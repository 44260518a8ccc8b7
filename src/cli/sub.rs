//! `tidings sub`: prints what a session gets.

pub(super) mod format;

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt, future, stream};
use tokio::{
    io::{AsyncWriteExt, Stdout},
    time::timeout,
};

use super::{
    Context, Failure, connect,
    output::{Console, FAINT, WARNING, visible},
};
use crate::{
    client::{Client, Event, State, Subscription},
    wire::{ChannelName, Code, Epoch, Fault, Position, Start},
};

/// Print what a client gets
///
/// Subscribes to the named channels, and to those that the server gives to the user unasked: with the default rules user-ID
/// and global. One line on standard output is one publication; all else is on standard error. ctrl-C ends it.
///
/// A JSON line has the keys channel, epoch, offset, kind (notification, announcement, data or presence), text (or content_type and data in
/// base64, where it is no text; or presence, with joined, left, connections, users and complete), timestamp (of the server, in milliseconds since 1970) and user (who published it, or null).
/// What is missing is a line too: kind lagged (this reader was too slow: from and to are lost), skipped (left out by the channel's
/// rule, or lost by the network where it delivers by datagram: from and to), break (the connection was made again: before and after
/// are positions, missed a number or null) and end (code and reason).
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Channels to subscribe to.
    #[arg(value_name = "CHANNEL")]
    channels: Vec<ChannelName>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// End after this many publications.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Begin after this position of the one named channel, if the server still has everything after it: what --json prints as epoch
    /// and offset.
    #[arg(
        long,
        value_name = "EPOCH:OFFSET",
        requires = "channels",
        conflicts_with = "latest"
    )]
    since: Option<Position>,
    /// Begin with the newest N publications of each named channel, or as many as the server keeps.
    #[arg(long, value_name = "N", requires = "channels")]
    latest: Option<u64>,
    /// Print only the named channels, not those that the server gives unasked.
    #[arg(long, requires = "channels")]
    only: bool,
    #[command(flatten)]
    connection: connect::Arguments,
}

const EXAMPLES: &str = "\
Examples:
  tidings sub --user 42                       what user 42 gets, from the server in this directory
  tidings sub chat-room-7 --user 42 --json    a room too, one JSON object a line
  tidings sub chat-room-7 --latest 10         what was said last, and what follows
  tidings sub chat-room-7 --since 00c0ffee00c0ffee:7
                                              what came after a position, and what follows";

/// Time to tell the server that this is the end.
const GOODBYE: Duration = Duration::from_secs(2);
/// Most events that go out in one write.
const BATCH: usize = 64;

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments {
        channels,
        json,
        count,
        since,
        latest,
        only,
        connection,
    } = arguments;
    if since.is_some() && channels.len() != 1 {
        return Err(Failure::usage(
            "--since is about one channel: name one, such as `tidings sub chat-room-7 --since 00c0ffee00c0ffee:7`",
        ));
    }
    let starts = Starts {
        named: channels.clone(),
        start: match (since, latest) {
            (Some(position), _) => Start::After(position),
            (None, Some(count)) => Start::Latest(count),
            (None, None) => Start::Head,
        },
    };
    let mut interrupted = pin!(context.interrupts.at_least(1));
    let client = tokio::select! {
        biased;
        () = &mut interrupted => return Ok(()),
        client = connection.connect(context) => client?,
    };
    let reader = Reader {
        json,
        left: count,
        console: context.console,
        out: tokio::io::stdout(),
    };
    let done = tokio::select! {
        biased;
        () = &mut interrupted => Ok(()),
        done = reader.follow(&client, channels, &starts, only) => done,
    };
    // The server forgets who says nothing, too.
    let _ = timeout(GOODBYE, client.close()).await;
    done
}

/// Where subscriptions begin.
struct Starts {
    named: Vec<ChannelName>,
    /// Of those that are named; the others begin at the head.
    start: Start,
}

impl Starts {
    fn of(&self, channel: &ChannelName) -> Start {
        if self.named.contains(channel) {
            self.start
        } else {
            Start::Head
        }
    }

    /// What to say of a subscription that does not begin where it was asked to.
    fn missing(&self, subscription: &Subscription) -> Option<String> {
        let Start::After(wanted) = self.of(subscription.name()) else {
            return None;
        };
        let (name, begun) = (subscription.name(), subscription.position()?);
        (begun != wanted).then(|| {
            format!(
                "{name}: the server does not have all that follows {wanted}: this begins after {begun}"
            )
        })
    }
}

/// What came, and where from.
type Arrived = (ChannelName, Epoch, Event);

struct Reader {
    json: bool,
    left: Option<u64>,
    console: Console,
    out: Stdout,
}

impl Reader {
    async fn follow(
        mut self,
        client: &Client,
        mut channels: Vec<ChannelName>,
        starts: &Starts,
        only: bool,
    ) -> Result<(), Failure> {
        let welcome = client.welcome();
        if let Some(welcome) = welcome.as_ref().filter(|_| !only) {
            channels.extend(welcome.subscriptions.iter().cloned());
        }
        let mut known = std::collections::HashSet::new();
        channels.retain(|channel| known.insert(channel.clone()));
        if channels.is_empty() {
            return Err(Failure::usage(
                "no channel: the server gives none unasked, so name one, such as `tidings sub chat-room-7`",
            ));
        }
        let subscribed = channels.iter().map(|channel| async move {
            let start = starts.of(channel);
            let subscribed = client.subscribe_from(channel.as_str(), start).await;
            subscribed.map_err(|error| Failure::new(format!("{channel}: {error}")))
        });
        let subscribed = future::try_join_all(subscribed).await?;
        let user = welcome.and_then(|welcome| welcome.user);
        self.console.tell(&format!(
            "subscribed to {}{}",
            list(&channels),
            user.map_or_else(String::new, |user| format!(" as {user}"))
        ));
        for subscription in &subscribed {
            if let Some(text) = starts.missing(subscription) {
                self.console.tell(&self.console.err.paint(WARNING, &text));
            }
        }
        let mut events: stream::SelectAll<_> = subscribed.into_iter().map(tagged).collect();
        let mut states = client.states();
        // What went wrong first, where something did.
        let mut failed = None;
        loop {
            tokio::select! {
                biased;
                arrived = events.next() => {
                    let Some(arrived) = arrived else { return failed.map_or(Ok(()), Err) };
                    if !self.print(arrived, &mut events, &mut failed).await? {
                        return Ok(());
                    }
                }
                Ok(()) = states.changed() => {
                    let state = states.borrow_and_update().clone();
                    self.tell_state(&state);
                }
            }
        }
    }

    /// Prints what came and what else is there. `false` when nothing more is to be printed.
    async fn print(
        &mut self,
        first: Arrived,
        more: &mut (impl Stream<Item = Arrived> + Unpin),
        failed: &mut Option<Failure>,
    ) -> Result<bool, Failure> {
        let mut lines = String::new();
        let mut next = Some(first);
        let mut events = 0;
        while let Some((channel, epoch, event)) = next {
            events += 1;
            self.note(&channel, &event, failed);
            let line = if self.json {
                format::json(&channel, epoch, &event)
            } else {
                format::human(&channel, &event, self.console.out)
            };
            if let Some(line) = line {
                lines += &line;
                lines.push('\n');
            }
            if let (Event::Publication(_), Some(left)) = (&event, &mut self.left) {
                *left -= 1;
                if *left == 0 {
                    break;
                }
            }
            next = if events < BATCH {
                more.next().now_or_never().flatten()
            } else {
                None
            };
        }
        if let Err(error) = self.write(&lines).await {
            // Who reads has seen enough.
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                return Ok(false);
            }
            return Err(Failure::new(format!("standard output: {error}")));
        }
        Ok(self.left != Some(0))
    }

    async fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes()).await?;
        self.out.flush().await
    }

    /// What is no publication goes to standard error, for people.
    fn note(&self, channel: &ChannelName, event: &Event, failed: &mut Option<Failure>) {
        if let Event::End { code, reason } = event
            && code.fault() != Fault::None
        {
            let failure = || Failure::new(format!("{channel}: {}", ended(*code, reason)));
            failed.get_or_insert_with(failure);
        }
        let text = match event {
            Event::Publication(_) => return,
            Event::Lagged { from, to } => {
                format!("{channel}: lagged: #{from} to #{to} are lost, this reader was too slow")
            }
            Event::Skipped { from, to } => {
                format!("{channel}: skipped: #{from} to #{to}, as the channel's rule says")
            }
            Event::Break { before, after } => match event.missed() {
                Some(0) => format!("{channel}: break: nothing was missed"),
                Some(missed) => format!(
                    "{channel}: break: {missed} missed, #{} to #{}",
                    before.offset + 1,
                    after.offset
                ),
                None => {
                    format!("{channel}: break: the log began anew, what was missed is not known")
                }
            },
            Event::End { code, reason } => format!("{channel}: end: {}", ended(*code, reason)),
        };
        if !self.json {
            self.console.tell(&self.console.err.paint(WARNING, &text));
        }
    }

    fn tell_state(&self, state: &State) {
        let text = match state {
            State::Reconnecting { attempt: 0, reason } => {
                format!("connection lost: {}; connecting again", visible(reason))
            }
            State::Connected(_) => "connected again".to_owned(),
            _ => return,
        };
        self.console.tell(&self.console.err.paint(FAINT, &text));
    }
}

/// The events of a subscription, each with its channel and the epoch that holds for it.
fn tagged(subscription: Subscription) -> impl Stream<Item = Arrived> + Unpin {
    let channel = subscription.name().clone();
    // It stands, so it has one.
    let start = subscription.position();
    let mut epoch = start.map_or(Epoch(0), |position| position.epoch);
    subscription.map(move |event| {
        if let Event::Break { after, .. } = &event {
            epoch = after.epoch;
        }
        (channel.clone(), epoch, event)
    })
}

fn ended(code: Code, reason: &str) -> String {
    let reason = visible(reason);
    if reason.is_empty() {
        code.to_string()
    } else {
        format!("{code}: {reason}")
    }
}

fn list(channels: &[ChannelName]) -> String {
    let names: Vec<_> = channels.iter().map(ChannelName::as_str).collect();
    names.join(", ")
}
