//! Who publishes and reads while others are killed.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidings::{
    client::Client,
    wire::{Epoch, Position},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    CHANNEL,
    actors::{covers, publish},
    process::Process,
    record::{Event, ReaderId, Recorder},
};

/// Between two publications of one publisher.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the last reader waits for the last message.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is known of how it goes, so that the test can wait for it.
#[derive(Clone)]
pub(crate) struct Progress {
    /// Number of the server.
    pub(crate) server: Arc<AtomicU64>,
    /// The last acknowledged call that began and ended with this server.
    pub(crate) acknowledged: watch::Sender<(u64, Option<Position>)>,
    pub(crate) stop: CancellationToken,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            server: Arc::default(),
            acknowledged: watch::channel((0, None)).0,
            stop: CancellationToken::new(),
        }
    }

    /// Waits for a publication with this server; where it stands.
    pub(crate) async fn with(&self, server: u64) -> Position {
        let mut acknowledged = self.acknowledged.subscribe();
        let before = acknowledged.borrow_and_update().1;
        let next = acknowledged.wait_for(|(with, at)| *with == server && *at != before);
        next.await.expect("it is here").1.expect("it is a position")
    }

    fn tell(&self, server: u64, position: Option<Position>) {
        if position.is_some() && self.server.load(Ordering::SeqCst) == server {
            self.acknowledged.send_replace((server, position));
        }
    }
}

/// Publishes with keys, or without, until it is stopped; how many were tried.
pub(crate) async fn publisher(
    recorder: Recorder,
    client: Client,
    name: &'static str,
    keys: bool,
    progress: Progress,
) -> usize {
    let mut number = 0;
    while !progress.stop.is_cancelled() {
        number += 1;
        let text = format!("{name} {number}");
        let server = progress.server.load(Ordering::SeqCst);
        let key = keys.then_some(text.as_str());
        let position = publish(&recorder, &client, CHANNEL, key, &text).await;
        progress.tell(server, position);
        sleep(PAUSE).await;
    }
    number
}

/// A process of the command line that is killed whenever `kill` says so, and followed by another one.
pub(crate) struct Victim {
    pub(crate) recorder: Recorder,
    pub(crate) place: PathBuf,
    pub(crate) url: String,
    pub(crate) kill: watch::Receiver<u64>,
    pub(crate) progress: Progress,
}

impl Victim {
    fn start(&self, args: &[&str]) -> Process {
        let connection = [
            "--url",
            &self.url,
            "--ca",
            "certs/dev/cert.pem",
            "--user",
            "1",
        ];
        Process::start(&self.place, &[args, &connection].concat())
    }

    /// `tidings pub`: each line is a publication, without a key.
    pub(crate) async fn publish(mut self) {
        let mut number = 0;
        while !self.progress.stop.is_cancelled() {
            let mut process = self.start(&["pub", CHANNEL, "-"]);
            self.kill.borrow_and_update();
            loop {
                number += 1;
                let text = format!("process {number}");
                let call = self.recorder.invoke(None, &text);
                let server = self.progress.server.load(Ordering::SeqCst);
                let mut kill = self.kill.clone();
                let answer = async {
                    match process.type_in(&text).await {
                        true => process.line().await,
                        false => None,
                    }
                };
                let answer = tokio::select! {
                    answer = answer => answer,
                    _ = kill.changed() => None,
                };
                let Some(answer) = answer else {
                    // Killed, or over because its connection broke: nobody knows.
                    self.recorder.note(Event::Unknown { call });
                    break;
                };
                let position = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
                let position: Position = position.expect("a channel and a position");
                self.recorder.note(Event::Acknowledged {
                    call,
                    position,
                    duplicate: false,
                });
                self.progress.tell(server, Some(position));
                if self.progress.stop.is_cancelled() {
                    return;
                }
                sleep(PAUSE).await;
            }
            process.kill().await;
        }
    }

    /// `tidings sub`, which each time goes on where the one before was. `seen` is where
    /// it is, `last` where it may end.
    pub(crate) async fn read(
        mut self,
        seen: watch::Sender<Position>,
        mut last: watch::Receiver<Option<Position>>,
    ) -> u64 {
        let reader = self.recorder.reader();
        let position = *seen.borrow();
        self.recorder.note(Event::Subscribed { reader, position });
        let mut processes = 0;
        let mut deadline = None;
        loop {
            processes += 1;
            let since = seen.borrow().to_string();
            let args = ["sub", CHANNEL, "--only", "--json", "--since", &since];
            let mut process = self.start(&args);
            self.kill.borrow_and_update();
            let mut eyes = Eyes {
                recorder: &self.recorder,
                reader,
                seen: &seen,
                fresh: true,
            };
            loop {
                let end = *last.borrow_and_update();
                if let Some(end) = end {
                    let patience = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                    let there = covers(*seen.borrow(), end);
                    if there || Instant::now() > patience {
                        self.recorder.note(Event::Finished { reader });
                        process.kill().await;
                        return processes;
                    }
                }
                let line = tokio::select! {
                    line = timeout(Duration::from_secs(1), process.line()) => line,
                    _ = self.kill.changed() => {
                        process.kill().await;
                        // What it said before it was killed was seen; the last line may be half of one.
                        while let Some(line) = process.line().await {
                            if line.ends_with('}') {
                                eyes.saw(&line, &mut process).await;
                            }
                        }
                        break;
                    }
                    Ok(()) = last.changed() => continue,
                };
                match line {
                    Ok(Some(line)) => eyes.saw(&line, &mut process).await,
                    // It could not connect.
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            self.recorder.note(Event::Cut { reader });
        }
    }
}

struct Eyes<'a> {
    recorder: &'a Recorder,
    reader: ReaderId,
    seen: &'a watch::Sender<Position>,
    /// Nothing came yet of this process.
    fresh: bool,
}

impl Eyes<'_> {
    async fn saw(&mut self, line: &str, process: &mut Process) {
        let reader = self.reader;
        let value: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let position = |text: &serde_json::Value| -> Position {
            let (epoch, offset) = (&text["epoch"], &text["offset"]);
            Position {
                epoch: epoch
                    .as_str()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(Epoch(0)),
                offset: offset.as_u64().unwrap_or_default(),
            }
        };
        let is_break = value["kind"] == "break";
        let before = *self.seen.borrow();
        if std::mem::take(&mut self.fresh) {
            let goes_on = match is_break {
                true => position(&value["before"]) == before,
                false => {
                    let first = position(&value);
                    first.epoch == before.epoch && first.offset == before.offset + 1
                }
            };
            let told = match goes_on {
                true => None,
                // It has said where it begins.
                false => process.err_until("this begins after ").await,
            };
            let begun = told.as_deref().and_then(|line| line.rsplit(' ').next());
            let after = begun.map_or(before, |text| text.parse().expect("a position"));
            self.seen.send_replace(after);
            self.recorder.note(Event::Resumed {
                reader,
                before,
                after,
                recovered: before == after,
            });
        }
        let event = if is_break {
            let (before, after) = (position(&value["before"]), position(&value["after"]));
            self.seen.send_replace(after);
            Event::Resumed {
                reader,
                before,
                after,
                recovered: value["missed"] == 0,
            }
        } else {
            let text = value["text"].as_str().expect("a publication, and of text");
            let position = position(&value);
            self.seen.send_replace(position);
            Event::Delivered {
                reader,
                position,
                text: text.to_owned(),
            }
        };
        self.recorder.note(event);
    }
}
