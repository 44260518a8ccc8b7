//! Publishers and readers over the Rust client that write down what they do and see.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::time::Duration;

use tidings::{
    Message,
    client::{Client, ClientError, Event as Given, Subscription},
    wire::{Position, Start},
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::record::{Event, ReaderId, Recorder};

/// How long a reader waits for what was acknowledged, before the record is judged as it is.
const PATIENCE: Duration = Duration::from_secs(40);

/// Publishes a text, with a key perhaps, and writes down how that ended. Where it stands, if that is known.
pub(crate) async fn publish(
    recorder: &Recorder,
    client: &Client,
    channel: &str,
    key: Option<&str>,
    text: &str,
) -> Option<Position> {
    let call = recorder.invoke(key, text);
    let message = Message::text(text);
    let published = match key {
        Some(key) => client.publish_once(channel, key, message).await,
        None => client.publish(channel, message).await,
    };
    match published {
        Ok(acknowledgement) => {
            recorder.note(Event::Acknowledged {
                call,
                position: acknowledgement.position,
                duplicate: acknowledgement.duplicate,
            });
            Some(acknowledgement.position)
        }
        Err(
            ClientError::Request { .. } | ClientError::TooLarge { .. } | ClientError::Channel(..),
        ) => {
            recorder.note(Event::Refused { call });
            None
        }
        Err(_) => {
            recorder.note(Event::Unknown { call });
            None
        }
    }
}

/// A reader that writes down what it sees.
pub(crate) struct Reading {
    id: ReaderId,
    position: watch::Receiver<Position>,
    end: watch::Sender<End>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    No,
    Now,
    /// When it has seen this position.
    At(Position),
}

impl Reading {
    /// Reads from where the subscription stands.
    pub(crate) fn start(recorder: &Recorder, subscription: Subscription) -> Self {
        let reader = recorder.reader();
        let position = subscription.position().expect("it stands");
        recorder.note(Event::Subscribed { reader, position });
        Self::go(recorder, reader, position, subscription)
    }

    /// Continues a reader that was stopped, with a new subscription.
    ///
    /// # Errors
    /// As `Client::subscribe_from`.
    pub(crate) async fn resume(
        recorder: &Recorder,
        (reader, before): (ReaderId, Position),
        client: &Client,
        channel: &str,
    ) -> Result<Self, ClientError> {
        let subscription = client.subscribe_from(channel, Start::After(before)).await?;
        let after = subscription.position().expect("it stands");
        recorder.note(Event::Resumed {
            reader,
            before,
            after,
            recovered: before == after,
        });
        Ok(Self::go(recorder, reader, after, subscription))
    }

    fn go(recorder: &Recorder, id: ReaderId, at: Position, mut subscription: Subscription) -> Self {
        let (seen, position) = watch::channel(at);
        let (end, mut ends) = watch::channel(End::No);
        let mut eyes = Eyes {
            recorder: recorder.clone(),
            id,
            at,
            seen,
        };
        let task = tokio::spawn(async move { eyes.read(&mut subscription, &mut ends).await });
        Self {
            id,
            position,
            end,
            task,
        }
    }

    /// Waits until the readers have seen this position, but not for ever: what is missing then is for the checker to find.
    pub(crate) async fn finish_all(readings: impl IntoIterator<Item = Self>, last: Position) {
        let readings: Vec<_> = readings.into_iter().collect();
        for reading in &readings {
            reading.end.send_replace(End::At(last));
        }
        for reading in readings {
            reading.task.await.expect("a reader does not panic");
        }
    }

    /// Gives the subscription up; who it was and where, to be resumed.
    pub(crate) async fn stop(self) -> (ReaderId, Position) {
        self.end.send_replace(End::Now);
        self.task.await.expect("a reader does not panic");
        (self.id, *self.position.borrow())
    }

    /// Waits until it has seen this position.
    pub(crate) async fn reach(&self, wanted: Position) {
        let mut position = self.position.clone();
        let there = position.wait_for(|at| covers(*at, wanted));
        there.await.expect("it reads");
    }
}

/// Whether a reader at `at` has seen what is wanted.
pub(crate) fn covers(at: Position, wanted: Position) -> bool {
    at.epoch == wanted.epoch && at.offset >= wanted.offset
}

struct Eyes {
    recorder: Recorder,
    id: ReaderId,
    at: Position,
    seen: watch::Sender<Position>,
}

impl Eyes {
    async fn read(&mut self, subscription: &mut Subscription, ends: &mut watch::Receiver<End>) {
        let reader = self.id;
        let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
        let mut waits = false;
        loop {
            match *ends.borrow_and_update() {
                End::Now => return self.recorder.note(Event::Cut { reader }),
                End::At(last) if covers(self.at, last) => {
                    return self.recorder.note(Event::Finished { reader });
                }
                End::At(_) if !waits => {
                    waits = true;
                    patience.as_mut().reset(Instant::now() + PATIENCE);
                }
                End::At(_) | End::No => {}
            }
            tokio::select! {
                given = subscription.next() => match given {
                    Some(given) => self.saw(&given),
                    None => return,
                },
                () = &mut patience, if waits => {
                    return self.recorder.note(Event::Finished { reader });
                }
                Ok(()) = ends.changed() => {}
            }
        }
    }

    fn saw(&mut self, given: &Given) {
        let reader = self.id;
        let event = match given {
            Given::Publication(publication) => {
                self.at.offset = publication.offset;
                let text = publication.message.as_text().unwrap_or_default();
                Event::Delivered {
                    reader,
                    position: self.at,
                    text: text.to_owned(),
                }
            }
            &Given::Lagged { from, to } => {
                self.at.offset = to;
                Event::Lagged { reader, from, to }
            }
            &Given::Skipped { from, to } => {
                self.at.offset = to;
                Event::Skipped { reader, from, to }
            }
            &Given::Break { before, after } => {
                self.at = after;
                Event::Resumed {
                    reader,
                    before,
                    after,
                    recovered: given.missed() == Some(0),
                }
            }
            Given::End { .. } => Event::Ended { reader },
            other => panic!("an event that this test does not know: {other:?}"),
        };
        self.recorder.note(event);
        self.seen.send_replace(self.at);
    }
}
