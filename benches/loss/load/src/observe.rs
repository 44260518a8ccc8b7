//! How old what a subscriber knows is: for channels that do not deliver everything.

use std::time::Duration;

use ::tidings::{Message as Published, client::Event};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Failure, Peer,
    load::{Load, Message, now},
    tidings::{channel, connect, run},
};

/// How often it is asked how old the newest state is.
const TICK: Duration = Duration::from_millis(2);

/// What came of one flow after the warm-up. Times are in milliseconds.
#[derive(Debug, Default, Serialize)]
struct Flow {
    flow: u16,
    delivered: u64,
    skipped: u64,
    /// From when a message was meant to be sent until it was there.
    latency: Option<Distribution>,
    /// At any time, since the newest message that was there was meant to be sent.
    age: Option<Distribution>,
}

#[derive(Debug, Serialize)]
struct Distribution {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Default)]
struct Seen {
    newest: Option<Duration>,
    delivered: u64,
    skipped: u64,
    latencies: Vec<Duration>,
    ages: Vec<Duration>,
}

/// Subscribes to every flow, and watches from the first message on for as long as there is something to be published.
pub(crate) fn observe(peer: &Peer, load: &Load) -> Result<String, Failure> {
    let seen = run(async {
        let client = connect(peer).await?;
        let mut events = stream::SelectAll::new();
        for flow in 0..load.all_flows() {
            let subscription = client.subscribe(&channel(flow, false)).await?;
            events.push(subscription.map(move |event| (flow, event)).boxed());
        }
        println!("ready");
        let mut seen: Vec<_> = (0..load.all_flows()).map(|_| Seen::default()).collect();
        let mut begun = None;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                event = events.next() => {
                    let Some((flow, event)) = event else {
                        return Err("the subscriptions ended before the load".into());
                    };
                    let at = now();
                    let begun = *begun.get_or_insert(at);
                    let judged = at >= begun + Duration::from_secs(load.warm_up.into());
                    seen[usize::from(flow)].take(event, at, judged)?;
                }
                _ = ticks.tick() => {
                    let (at, Some(begun)) = (now(), begun) else { continue };
                    if at >= begun + Duration::from_secs(load.seconds.into()) {
                        return Ok(seen);
                    }
                    if at >= begun + Duration::from_secs(load.warm_up.into()) {
                        for seen in &mut seen {
                            seen.ages.extend(seen.newest.map(|newest| at.saturating_sub(newest)));
                        }
                    }
                }
            }
        }
    })?;
    let flows: Vec<_> = seen
        .into_iter()
        .zip(0..)
        .map(|(seen, flow)| seen.summary(flow))
        .collect();
    Ok(serde_json::json!({ "flows": flows }).to_string())
}

impl Seen {
    fn take(&mut self, event: Event, at: Duration, judged: bool) -> Result<(), Failure> {
        match event {
            Event::Publication(publication) => {
                let Published::Data(data) = publication.message else {
                    return Err("a message of another kind than the load's".into());
                };
                let message =
                    Message::decode(&data.bytes).ok_or("a message that is not of the load")?;
                self.newest = self.newest.max(Some(message.due));
                if judged {
                    self.delivered += 1;
                    self.latencies.push(at.saturating_sub(message.due));
                }
            }
            Event::Skipped { from, to } => {
                if judged {
                    self.skipped += to - from + 1;
                }
            }
            other => return Err(format!("the delivery is not whole: {other:?}").into()),
        }
        Ok(())
    }

    fn summary(self, flow: u16) -> Flow {
        Flow {
            flow,
            delivered: self.delivered,
            skipped: self.skipped,
            latency: Distribution::of(self.latencies),
            age: Distribution::of(self.ages),
        }
    }
}

impl Distribution {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |share: f64| times[(last as f64 * share).round() as usize].as_secs_f64() * 1000.0;
        Some(Self {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        })
    }
}
