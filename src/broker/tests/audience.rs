//! Audiences under threads, and a section's coming and going.

use std::{
    future::poll_fn,
    sync::atomic::AtomicBool,
    task::{Context, Poll, Waker},
    thread::{self, yield_now},
    time::Instant,
};

use super::*;

/// Rounds of each race.
const ROUNDS: usize = 20_000;

/// Takes note that one reader was told.
#[derive(Default)]
struct Told(AtomicBool);

impl Due for Told {
    fn due(&self, _: u32) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Told {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// Spins until it is so.
fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < FOREVER, "{what}");
        yield_now();
    }
}

/// Polls the audience on the runtime, with the waker of a task.
fn serve(audience: &Audience) -> tokio::task::JoinHandle<()> {
    let audience = audience.clone();
    tokio::spawn(poll_fn(move |cx| {
        audience.poll(cx);
        Poll::Pending
    }))
}

fn sit(broker: &Broker, channel: &str, audience: &Audience) -> (Arc<Told>, Reader) {
    let told = Arc::new(Told::default());
    let due = Arc::clone(&told) as Arc<dyn Due>;
    let reader = broker
        .read(&name(channel), None, audience, &due, 0, Start::Head)
        .unwrap();
    (told, reader)
}

/// Reads to the head; the number of publications.
fn read(reader: &mut Reader) -> usize {
    let mut frames = Vec::new();
    while let Some(batch) = reader.try_batch(&mut frames) {
        assert_eq!(batch, Batch::Frames);
    }
    frames.len()
}

fn sections(broker: &Broker, channel: &str) -> usize {
    let channel = broker.channel(&name(channel), None).unwrap();
    format!("{channel:?}").matches("Section {").count()
}

/// A reader's publication follows as soon as it was told of the one before, while others of its section are still told.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_published_while_readers_are_told_is_told() {
    let (broker, _) = broker(|_| ());
    let audience = Audience::new();
    let worker = serve(&audience);
    thread::scope(|scope| {
        for channel in ["a", "b"] {
            let (broker, audience) = (&broker, &audience);
            scope.spawn(move || {
                let (told, mut reader) = sit(broker, channel, audience);
                let _others: Vec<_> = (0..30).map(|_| sit(broker, channel, audience)).collect();
                for round in 0..ROUNDS {
                    broker.post(&name(channel), Message::text("x")).unwrap();
                    wait(&format!("round {round} of {channel}"), || {
                        told.take() && read(&mut reader) > 0
                    });
                }
            });
        }
    });
    worker.abort();
}

/// Some come before the publication and some after it; whoever began before it is told, also as the first of its section.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_comes_while_somebody_publishes_is_told_of_what_follows() {
    let (broker, _) = broker(|_| ());
    let audience = Audience::new();
    let worker = serve(&audience);
    let (begun, published) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut stayed = None;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                wait("a reader comes", || begun.load(Ordering::SeqCst) == round);
                broker.post(&name("a"), Message::text("x")).unwrap();
                published.store(round, Ordering::SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            begun.store(round, Ordering::SeqCst);
            let readers: Vec<_> = (0..20).map(|_| sit(&broker, "a", &audience)).collect();
            wait("somebody publishes", || {
                published.load(Ordering::SeqCst) == round
            });
            for (told, mut reader) in readers {
                if reader.position().offset < round as u64 {
                    wait(&format!("round {round}"), || told.take());
                    assert_eq!(read(&mut reader), 1, "round {round}");
                }
                // In every other round the section goes.
                stayed = (round % 2 == 0).then_some(reader);
            }
        }
    });
    drop(stayed);
    assert_eq!(sections(&broker, "a"), 0);
    worker.abort();
}

#[test]
fn a_section_goes_with_its_last_reader_and_the_next_one_is_told() {
    let (broker, _) = broker(|_| ());
    let (audience, other) = (Audience::new(), Audience::new());
    let poll = |audience: &Audience| audience.poll(&Context::from_waker(Waker::noop()));
    let (first_told, first) = sit(&broker, "a", &audience);
    let (second_told, second) = sit(&broker, "a", &audience);
    let (other_told, others) = sit(&broker, "a", &other);
    assert_eq!(sections(&broker, "a"), 2);
    drop(first);
    assert_eq!(sections(&broker, "a"), 2);
    // It stands on the list of its audience when its last reader goes.
    broker.post(&name("a"), Message::text("x")).unwrap();
    drop(second);
    assert_eq!(sections(&broker, "a"), 1);
    let (third_told, mut third) = sit(&broker, "a", &audience);
    assert_eq!(sections(&broker, "a"), 2);
    broker.post(&name("a"), Message::text("y")).unwrap();
    poll(&audience);
    assert!(!first_told.take() && !second_told.take(), "they had left");
    assert!(third_told.take());
    assert_eq!(read(&mut third), 1);
    assert!(!other_told.take(), "its audience was not polled");
    poll(&other);
    assert!(other_told.take());
    drop((third, others));
    assert_eq!(sections(&broker, "a"), 0);
    assert_eq!(Arc::strong_count(&third_told), 1, "no seat is kept");
}
