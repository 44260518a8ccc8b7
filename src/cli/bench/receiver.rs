//! Reads one subscription, checks what comes, and times it.

use std::{pin::pin, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    check::{Checker, Faults, Verdict},
    payload::Payload,
    plan::{Plan, Who},
    tally::{Clock, Tally},
    window::Window,
};
use crate::{
    client::{Event, Subscription},
    wire::{Message, Publication},
};

/// One subscription of a run.
pub(super) struct Receiver {
    /// The client's number.
    pub(super) client: usize,
    /// The channel's number.
    pub(super) channel: usize,
    pub(super) subscription: Subscription,
    pub(super) plan: Arc<Plan>,
    pub(super) clock: Clock,
    pub(super) tally: Arc<Tally>,
    /// Of the channel's publisher, where the loop is closed.
    pub(super) window: Option<Arc<Window>>,
}

/// What came of it.
pub(super) struct Outcome {
    client: usize,
    /// The channel's number.
    pub(super) channel: usize,
    checker: Checker,
    /// What was wrong first.
    first: Option<String>,
    breaks: u64,
}

/// What is wrong with all of them.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    pub(super) faults: Faults,
    /// Connections that broke and were made again.
    pub(super) breaks: u64,
    /// What was wrong first, somewhere.
    pub(super) first: Option<String>,
}

impl Receiver {
    /// Reads until everything is there (`done`), or the subscription is over.
    pub(super) async fn run(mut self, done: CancellationToken) -> Outcome {
        let beginning = self.subscription.position().map_or(0, |at| at.offset);
        let mut outcome = Outcome {
            client: self.client,
            channel: self.channel,
            checker: Checker::new(beginning),
            first: None,
            breaks: 0,
        };
        let mut done = pin!(done.cancelled_owned());
        loop {
            let event = tokio::select! {
                biased;
                event = self.subscription.next() => event,
                () = &mut done => return outcome,
            };
            match event {
                Some(Event::Publication(publication)) => self.take(publication, &mut outcome),
                Some(Event::Lagged { from, to }) => {
                    outcome.checker.faults.lagged += to.saturating_sub(from).saturating_add(1);
                    outcome.note(
                        &self,
                        format!("the server dropped #{from} to #{to}, this reader was too slow"),
                    );
                }
                // Missing like any other: a channel whose rule leaves something out cannot be measured so.
                Some(Event::Skipped { from, to }) => outcome.note(
                    &self,
                    format!("the server left #{from} to #{to} out, as the channel's rule says"),
                ),
                Some(Event::Break { .. }) => {
                    outcome.breaks += 1;
                    outcome.note(&self, "its connection broke".to_owned());
                }
                Some(Event::End { code, reason }) => {
                    let who = Who::Client(self.client);
                    self.tally.lose(who, format!("{reason} ({code})"));
                }
                None => return outcome,
            }
        }
    }

    fn take(&self, publication: Publication, outcome: &mut Outcome) {
        let now = self.clock.now();
        let offset = publication.offset;
        let payload = match &publication.message {
            Message::Data(data) => Payload::decode(&data.bytes, self.plan.run),
            _ => None,
        };
        let Some(payload) = payload else {
            outcome.checker.foreign(offset);
            let publisher = publication
                .publisher
                .map_or_else(|| "the server".to_owned(), |user| format!("user {user}"));
            outcome.note(
                self,
                format!("#{offset} is none of this run, {publisher} published it"),
            );
            return;
        };
        let before = outcome.checker.last();
        let verdict = outcome.checker.publication(offset, payload.sequence);
        let after = outcome.checker.last();
        match verdict {
            Verdict::InOrder => {}
            Verdict::Gap(missing) => {
                outcome.note(self, format!("{missing} missing before #{offset}"))
            }
            Verdict::Late => outcome.note(self, format!("#{offset} came after a later one")),
            Verdict::Repeated => {
                outcome.note(self, format!("#{offset} came twice"));
                return;
            }
        }
        let shard = self.tally.shard(self.client);
        shard.deliver(after - before);
        if self.clock.measures(payload.time) {
            shard.record(now.saturating_sub(payload.time));
        }
        if let Some(window) = &self.window {
            window.deliver(payload.number);
        }
    }
}

impl Outcome {
    fn note(&mut self, receiver: &Receiver, what: String) {
        if self.first.is_none() {
            let who = Who::Client(receiver.client);
            let channel = &receiver.plan.channels[receiver.channel];
            self.first = Some(format!("{who}, {channel}: {what}"));
        }
    }
}

impl Wrong {
    /// Adds what came of one subscription to a channel with this many publications.
    pub(super) fn add(&mut self, outcome: Outcome, published: u64, plan: &Plan) {
        let (who, channel) = (Who::Client(outcome.client), &plan.channels[outcome.channel]);
        let last = outcome.checker.last();
        let ended_early = (last < published).then(|| {
            format!(
                "{who}, {channel}: {} of {published} never came, from the {}. on",
                published - last,
                last + 1
            )
        });
        let faults = outcome.checker.end(published);
        let all = &mut self.faults;
        all.gaps += faults.gaps;
        all.duplicates += faults.duplicates;
        all.disorder += faults.disorder;
        all.foreign += faults.foreign;
        all.lagged += faults.lagged;
        self.breaks += outcome.breaks;
        let first = outcome.first.or(ended_early);
        if self.first.is_none() {
            self.first = first;
        }
    }
}
