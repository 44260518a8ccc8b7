//! What a run does: arguments as they are used.

use std::time::Duration;

use super::{
    arguments::{Arguments, Rate},
    payload,
};
use crate::{
    cli::Failure,
    client::Welcomed,
    wire::{ChannelName, InvalidChannel, UserId},
};

/// Channels where nobody says how many: enough that a publication goes to a part of the clients, few enough that it goes to
/// several.
const CHANNELS: u32 = 10;
/// What publications are published as.
pub(super) const CONTENT_TYPE: &str = "application/octet-stream";

/// A run.
#[derive(Debug)]
pub(super) struct Plan {
    /// The run's identity: what its payloads carry, and in hexadecimal a part of all its names.
    pub(super) run: u64,
    pub(super) clients: usize,
    pub(super) subscriptions: usize,
    pub(super) publishers: usize,
    pub(super) channels: Vec<ChannelName>,
    pub(super) rate: Rate,
    pub(super) window: usize,
    pub(super) size: usize,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
}

impl Plan {
    /// Checks what the arguments say against each other.
    pub(super) fn new(arguments: &Arguments, run: u32) -> Result<Self, Failure> {
        let Arguments {
            clients,
            subscriptions,
            publishers,
            ..
        } = *arguments;
        let channels = arguments
            .channels
            .unwrap_or_else(|| CHANNELS.max(subscriptions));
        if subscriptions > channels {
            return Err(Failure::usage(format!(
                "--subscriptions {subscriptions} needs as many channels, --channels says {channels}: a client reads a channel once"
            )));
        }
        if publishers > channels {
            return Err(Failure::usage(format!(
                "--publishers {publishers} needs as many channels, there are {channels}: pass --channels {publishers}"
            )));
        }
        let channels = (0..channels)
            .map(|channel| ChannelName::parse(&format!("{}{channel}", prefix(run))))
            .collect::<Result<_, InvalidChannel>>()
            .map_err(Failure::new)?;
        Ok(Self {
            run: run.into(),
            clients: clients as usize,
            subscriptions: subscriptions as usize,
            publishers: publishers as usize,
            channels,
            rate: arguments.rate,
            window: arguments.window as usize,
            size: (arguments.size as usize).max(payload::HEADER),
            warmup: arguments.warmup,
            duration: arguments.duration,
        })
    }

    /// The run's identity in text.
    pub(super) fn name(&self) -> String {
        format!("{:08x}", self.run)
    }

    /// A user of this run.
    pub(super) fn user(&self, who: Who) -> Result<UserId, InvalidChannel> {
        let name = self.name();
        UserId::parse(&match who {
            Who::Client(number) => format!("bench-{name}-{number}"),
            Who::Publisher(number) => format!("bench-{name}-publisher-{number}"),
        })
    }

    /// Channels that a client reads: those after the ones of the client before, so that all are read by as many, or one more.
    pub(super) fn read_by(&self, client: usize) -> impl Iterator<Item = usize> + use<> {
        let (channels, subscriptions) = (self.channels.len(), self.subscriptions);
        (0..subscriptions).map(move |turn| (client * subscriptions + turn) % channels)
    }

    /// How many clients read each channel.
    pub(super) fn readers(&self) -> Vec<u64> {
        let all = (self.clients * self.subscriptions) as u64;
        let channels = self.channels.len() as u64;
        let (each, more) = (all / channels, all % channels);
        (0..channels)
            .map(|channel| each + u64::from(channel < more))
            .collect()
    }

    /// Who publishes to a channel.
    pub(super) const fn publisher_of(&self, channel: usize) -> usize {
        channel % self.publishers
    }

    /// Channels of a publisher.
    pub(super) fn published_by(&self, publisher: usize) -> impl Iterator<Item = usize> + use<> {
        (publisher..self.channels.len()).step_by(self.publishers)
    }

    /// When a publisher's n-th publication is due, from the beginning of the timetable. The publishers take turns.
    pub(super) fn due(&self, publisher: usize, number: u64) -> Duration {
        match self.rate {
            Rate::Max => Duration::ZERO,
            Rate::PerSecond(rate) => {
                let turn = number as f64 * self.publishers as f64 + publisher as f64;
                Duration::from_secs_f64(turn / rate)
            }
        }
    }

    /// What the server would refuse in the middle of the run.
    pub(super) fn fits(&self, welcome: &Welcomed) -> Result<(), Failure> {
        let (limits, automatic) = (welcome.limits, welcome.subscriptions.len() as u64);
        let most = limits.subscriptions.saturating_sub(automatic);
        if self.subscriptions as u64 > most {
            return Err(Failure::usage(format!(
                "--subscriptions {}: the server takes {} a client, {automatic} of which it makes by itself; pass {most} or fewer",
                self.subscriptions, limits.subscriptions
            )));
        }
        let most = limits.message.saturating_sub(CONTENT_TYPE.len() as u64);
        if self.size as u64 > most {
            return Err(Failure::usage(format!(
                "--size {}: the server takes messages of {} bytes, the content type included; pass {most} or less",
                self.size, limits.message
            )));
        }
        Ok(())
    }
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Client(usize),
    Publisher(usize),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client(number) => write!(f, "client {}", number + 1),
            Self::Publisher(number) => write!(f, "publisher {}", number + 1),
        }
    }
}

fn prefix(run: u32) -> String {
    format!("chat-room-bench-{run:08x}-")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(args: &[&str]) -> Result<Plan, Failure> {
        let args = [&["bench"], args].concat();
        Plan::new(&Command::parse_from(args).arguments, 0xabc)
    }

    #[test]
    fn clients_spread_evenly_over_the_channels() {
        for (clients, subscriptions, channels) in [(7, 3, 4), (100, 1, 10), (2, 5, 5), (1, 1, 3)] {
            let [clients, subscriptions, channels] =
                [clients, subscriptions, channels].map(|number: usize| number.to_string());
            let plan = plan(&[
                "--clients",
                &clients,
                "--subscriptions",
                &subscriptions,
                "--channels",
                &channels,
            ])
            .unwrap();
            let mut counted = vec![0; plan.channels.len()];
            for client in 0..plan.clients {
                let read: std::collections::BTreeSet<_> = plan.read_by(client).collect();
                assert_eq!(read.len(), plan.subscriptions, "none is read twice");
                read.into_iter().for_each(|channel| counted[channel] += 1);
            }
            assert_eq!(plan.readers(), counted);
        }
    }

    #[test]
    fn publishers_share_channels_and_timetable() {
        let plan = plan(&[
            "--publishers",
            "3",
            "--rate",
            "1000",
            "--subscriptions",
            "12",
        ])
        .unwrap();
        assert_eq!(plan.channels.len(), 12);
        assert_eq!(plan.channels[11].as_str(), "chat-room-bench-00000abc-11");
        let mut owner = [None; 12];
        for publisher in 0..3 {
            for channel in plan.published_by(publisher) {
                assert_eq!(owner[channel].replace(publisher), None);
                assert_eq!(plan.publisher_of(channel), publisher);
            }
        }
        assert!(owner.iter().all(Option::is_some));
        let mut due: Vec<_> = (0..9)
            .map(|turn| plan.due(turn % 3, turn as u64 / 3))
            .collect();
        due.dedup();
        let wanted: Vec<_> = (0..9).map(Duration::from_millis).collect();
        assert_eq!(due, wanted);
    }

    #[test]
    fn what_cannot_be_says_why() {
        for (args, wanted) in [
            (
                &["--channels", "2", "--subscriptions", "3"][..],
                "--subscriptions 3",
            ),
            (
                &["--channels", "2", "--publishers", "3"],
                "pass --channels 3",
            ),
        ] {
            let failure = plan(args).unwrap_err();
            assert_eq!(failure.code, 2);
            assert!(failure.reasons[0].contains(wanted), "{failure:?}");
        }
    }
}
