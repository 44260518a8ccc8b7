//! The broker's behaviour, piece by piece. The whole under random load is in [`simulation`].

use std::sync::{
    Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use futures_util::{FutureExt, StreamExt};

use super::*;
use crate::wire::{Code, Epoch, Message, UserId};

mod audience;
mod listening;
mod quota;
mod simulation;

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

/// A broker whose clock stands still until it is set, and whose epochs are 1, 2, 3 …
fn broker(change: impl FnOnce(&mut Config)) -> (Broker, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let epochs = AtomicU64::new(0);
    let mut config = Config {
        clock: {
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.load(Ordering::Relaxed))
        },
        uptime: {
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.load(Ordering::Relaxed))
        },
        epochs: Arc::new(move || Epoch(epochs.fetch_add(1, Ordering::Relaxed) + 1)),
        ..Config::default()
    };
    change(&mut config);
    (Broker::new(config), clock)
}

fn text_of(delivery: Delivery) -> String {
    match delivery {
        Delivery::Publication(publication) => publication.message.as_text().unwrap().to_owned(),
        Delivery::Lagged { from, to } => format!("lagged {from}-{to}"),
    }
}

#[tokio::test]
async fn every_subscriber_gets_what_is_posted_after_it_came() {
    let (broker, _) = broker(|_| ());
    broker.post(&name("a"), Message::text("before")).unwrap();
    let mut first = broker.subscribe(&name("a")).unwrap();
    assert_eq!(
        first.position(),
        Position {
            epoch: Epoch(1),
            offset: 1
        }
    );
    assert_eq!(
        broker.post(&name("a"), Message::text("x")).unwrap().offset,
        2
    );
    let mut second = broker.subscribe(&name("a")).unwrap();
    broker.post(&name("a"), Message::text("y")).unwrap();
    broker.post(&name("b"), Message::text("other")).unwrap();
    assert_eq!(text_of(first.next().await.unwrap()), "x");
    assert_eq!(text_of(first.next().await.unwrap()), "y");
    assert_eq!(text_of(second.next().await.unwrap()), "y");
    assert_eq!(first.next().now_or_never(), None);
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken() {
    let (broker, _) = broker(|_| ());
    let mut subscription = broker.subscribe(&name("a")).unwrap();
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::task::yield_now().await;
    broker.post(&name("a"), Message::text("x")).unwrap();
    assert_eq!(text_of(waiting.await.unwrap().unwrap()), "x");
}

#[tokio::test]
async fn a_reader_that_fell_off_the_log_is_told_what_it_missed() {
    let (broker, _) = broker(|config| {
        config.retention = Arc::new(|_| Retention {
            count: 2,
            ..Retention::default()
        });
    });
    let mut subscription = broker.subscribe(&name("a")).unwrap();
    for text in ["1", "2", "3", "4", "5"] {
        broker.post(&name("a"), Message::text(text)).unwrap();
    }
    assert_eq!(
        subscription.next().await,
        Some(Delivery::Lagged { from: 1, to: 3 })
    );
    assert_eq!(text_of(subscription.next().await.unwrap()), "4");
    assert_eq!(text_of(subscription.next().await.unwrap()), "5");
    assert_eq!(broker.stats().lagged, 3);
}

#[test]
fn notify_and_announce_reach_their_channels() {
    let (broker, _) = broker(|_| ());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listen = |channel: &str| {
        let heard = Arc::clone(&heard);
        let tag = channel.to_owned();
        broker
            .add_listener(&name(channel), move |delivery| {
                let Delivery::Publication(publication) = delivery else {
                    panic!("lagged")
                };
                heard.lock().unwrap().push((tag.clone(), publication));
            })
            .unwrap()
    };
    let _guards = [listen("user-42"), listen("global"), listen("user-43")];
    broker
        .notify(&UserId::parse("42").unwrap(), "shipped")
        .unwrap();
    broker.announce("hello").unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].0, "user-42");
    assert_eq!(
        heard[0].1.message,
        Message::notification("shipped", 1_000_000)
    );
    assert_eq!(heard[1].0, "global");
    assert_eq!(
        heard[1].1.message,
        Message::announcement("hello", 1_000_000)
    );
}

#[test]
fn a_listener_ends_with_its_guard_and_its_panic_harms_nobody() {
    let (broker, _) = broker(|_| ());
    let count = Arc::new(AtomicUsize::new(0));
    let counting = {
        let count = Arc::clone(&count);
        move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let _bad = broker
        .add_listener(&name("a"), |_| panic!("planted"))
        .unwrap();
    let guard = broker.add_listener(&name("a"), counting).unwrap();
    broker.post(&name("a"), Message::text("x")).unwrap();
    broker.post(&name("a"), Message::text("y")).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    drop(guard);
    broker.post(&name("a"), Message::text("z")).unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    assert_eq!(broker.readers(&name("a")), 1);
}

#[test]
fn a_listener_may_post_to_its_own_channel() {
    let (broker, _) = broker(|_| ());
    let order = Arc::new(Mutex::new(Vec::new()));
    let _guard = broker
        .add_listener(&name("a"), {
            let (broker, order) = (broker.clone(), Arc::clone(&order));
            move |delivery| {
                let text = text_of(delivery);
                order.lock().unwrap().push(text.clone());
                if text.len() < 3 {
                    broker.post(&name("a"), Message::text(text + "x")).unwrap();
                }
            }
        })
        .unwrap();
    broker.post(&name("a"), Message::text("x")).unwrap();
    assert_eq!(*order.lock().unwrap(), ["x", "xx", "xxx"]);
}

#[test]
fn listeners_hear_concurrent_publishers_in_order_and_once() {
    let (broker, _) = broker(|_| ());
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let _guard = broker
        .add_listener(&name("a"), {
            let offsets = Arc::clone(&offsets);
            move |delivery| {
                if let Delivery::Publication(publication) = delivery {
                    offsets.lock().unwrap().push(publication.offset);
                }
            }
        })
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    broker.post(&name("a"), Message::text("x")).unwrap();
                }
            });
        }
    });
    assert_eq!(*offsets.lock().unwrap(), (1..=2000).collect::<Vec<_>>());
}

#[test]
fn bounds_refuse_with_a_code() {
    let (broker, _) = broker(|config| {
        config.max_channels = 1;
        config.max_message = 3;
    });
    let refused = broker
        .post(&name("a"), Message::notification("four", 0))
        .unwrap_err();
    assert_eq!(refused, PublishError::TooLarge { size: 4, max: 3 });
    assert_eq!(refused.code(), Code::MESSAGE_TOO_LARGE);
    broker
        .post(&name("a"), Message::notification("abc", 0))
        .unwrap();
    let refused = broker
        .post(&name("b"), Message::notification("abc", 0))
        .unwrap_err();
    assert_eq!(refused.code(), Code::TOO_MANY_CHANNELS);
    assert_eq!(
        broker.subscribe(&name("b")).unwrap_err(),
        NoRoom::TooManyChannels { max: 1 }
    );
    assert_eq!(broker.stats().channels, 1);
}

#[test]
fn an_idle_channel_goes_and_comes_back_with_another_epoch() {
    let (broker, clock) = broker(|config| {
        config.retention = Arc::new(|_| Retention {
            age: Duration::from_secs(1),
            ..Retention::default()
        });
    });
    let first = broker.post(&name("a"), Message::text("x")).unwrap();
    let reader = broker.subscribe(&name("b")).unwrap();
    assert_eq!(
        broker.sweep(),
        0,
        "a channel is idle from the first sweep that finds it so"
    );
    clock.fetch_add(59_999, Ordering::Relaxed);
    assert_eq!(broker.sweep(), 0);
    clock.fetch_add(1, Ordering::Relaxed);
    assert_eq!(broker.sweep(), 1);
    assert_eq!(broker.stats().channels, 1, "a channel with a reader stays");
    let second = broker.post(&name("a"), Message::text("x")).unwrap();
    assert_eq!(second.offset, 1);
    assert_ne!(first.epoch, second.epoch);
    drop(reader);
    broker.sweep();
    clock.fetch_add(60_000, Ordering::Relaxed);
    broker.sweep();
    assert_eq!(broker.stats().channels, 0);
}

/// The newest publication of a channel, and nothing else, says for how long the channel is kept beyond the idle timeout.
#[test]
fn retention_takes_precedence_over_the_idle_timeout() {
    for keep_latest in [false, true] {
        let (broker, clock) = broker(|config| {
            config.idle = Duration::from_secs(60);
            config.retention = Arc::new(move |_| Retention {
                age: Duration::from_secs(3600),
                keep_latest,
                ..Retention::default()
            });
        });
        let first = broker.post(&name("a"), Message::text("x")).unwrap();
        drop(broker.subscribe(&name("a")).unwrap());
        drop(broker.subscribe(&name("without-publications")).unwrap());
        let pass = |seconds: u64| {
            clock.fetch_add(seconds * 1000, Ordering::Relaxed);
            broker.sweep()
        };
        assert_eq!((pass(5), pass(60)), (0, 1), "nothing is retained of one");
        assert_eq!(pass(1800), 0);
        let second = broker.post(&name("a"), Message::text("y")).unwrap();
        assert_eq!((second.epoch, second.offset), (first.epoch, 2));
        assert_eq!(pass(1800), 0);
        let page = broker.history(&name("a"), &HistoryQuery::oldest(9));
        assert_eq!(page.publications.len(), 1, "the first was too old");
        assert_eq!((pass(1800), broker.stats().channels), (0, 1));
        assert_eq!((pass(1), broker.stats().channels), (1, 0));
    }
}

/// Publications carry the time of day; whoever sets it changes no age, no idle time and no window.
#[test]
fn setting_the_clock_changes_no_age() {
    let (broker, uptime) = broker(|_| ());
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let broker = Broker::new(Config {
        clock: {
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.load(Ordering::Relaxed))
        },
        ..broker.inner.config.clone()
    });
    let year = 365 * 24 * 3600 * 1000;
    let message = Message::text("x");
    let once = || broker.publish_once(&name("b"), None, "key", &message);
    once().unwrap();
    clock.store(1_000_000 + year, Ordering::Relaxed);
    broker.post(&name("a"), Message::text("ahead")).unwrap();
    broker.sweep();
    assert!(once().unwrap().duplicate, "the window is not over");
    clock.store(1_000_000, Ordering::Relaxed);
    broker.post(&name("a"), Message::text("back")).unwrap();
    let page = broker.history(&name("a"), &HistoryQuery::oldest(9));
    let times = page.publications.iter().map(|found| found.time);
    assert_eq!(times.collect::<Vec<_>>(), [1_000_000 + year; 2]);
    uptime.fetch_add(60_001, Ordering::Relaxed);
    broker.sweep();
    assert_eq!(broker.retained_bytes(&name("a")), 0);
    uptime.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(broker.sweep(), 1);
}

#[test]
fn a_closed_broker_takes_nothing() {
    let (broker, _) = broker(|_| ());
    broker.close();
    let refused = broker.post(&name("a"), Message::text("x")).unwrap_err();
    assert_eq!(refused.code(), Code::GOING_AWAY);
}

#[tokio::test]
async fn a_closed_broker_takes_nothing_for_one_reader_but_what_it_accepted_before() {
    let (broker, _) = broker(|_| ());
    let poster = broker.private(&name("notification"));
    let mut subscription = poster.subscription();
    poster.post(None, &Message::text("x")).unwrap();
    broker.close();
    let refused = poster.post(None, &Message::text("y"));
    assert_eq!(refused, Err(PublishError::Closed));
    poster.relay(None, &Message::text("z")).unwrap();
    assert_eq!(text_of(subscription.next().await.unwrap()), "x");
    assert_eq!(text_of(subscription.next().await.unwrap()), "z");
    drop(subscription);
    let refused = poster.post(None, &Message::text("y"));
    assert_eq!(refused, Err(PublishError::Closed), "that is why");
    let refused = poster.relay(None, &Message::text("z"));
    assert_eq!(refused, Err(PublishError::Ended));
}

#[tokio::test]
async fn a_private_log_ends_with_its_poster_after_the_last_message() {
    let (broker, _) = broker(|_| ());
    let poster = broker.private(&name("notification"));
    let mut subscription = poster.subscription();
    poster.post(None, &Message::text("x")).unwrap();
    assert_eq!(broker.stats().channels, 0, "it is not in the hub");
    drop(poster);
    assert_eq!(text_of(subscription.next().await.unwrap()), "x");
    assert_eq!(subscription.next().await, None);
    let poster = broker.private(&name("notification"));
    let subscription = poster.subscription();
    drop(subscription);
    assert_eq!(
        poster.post(None, &Message::text("x")).unwrap_err().code(),
        Code::ENDED
    );
}

impl Poster {
    /// A reader that waits by itself.
    pub(super) fn subscription(&self) -> Subscription {
        let start = self.channel.join(Start::Head).unwrap();
        Subscription::new(self.broker.cursor(Arc::clone(&self.channel), start))
    }
}

/// What waits longer than this was never told.
const FOREVER: Duration = Duration::from_secs(20);

/// Enough for every part of the hub to grow several times, and to shrink when most of them go.
#[test]
fn channels_are_found_however_many_come_and_go() {
    const CHANNELS: usize = 20_000;
    let (broker, clock) = broker(|_| ());
    let post = |number: usize| {
        let channel = name(&format!("chat-room-{number}"));
        broker.post(&channel, Message::text("x")).unwrap().offset
    };
    assert!((0..CHANNELS).all(|number| post(number) == 1));
    assert!((0..CHANNELS).all(|number| post(number) == 2));
    let stay = || (0..CHANNELS).step_by(20);
    let _readers: Vec<_> = stay()
        .map(|number| broker.subscribe(&name(&format!("chat-room-{number}"))))
        .collect();
    broker.sweep();
    clock.fetch_add(60_001, Ordering::Relaxed);
    assert_eq!(broker.sweep(), CHANNELS - stay().count());
    assert!(stay().all(|number| post(number) == 3));
    assert_eq!(post(1), 1, "it was evicted");
    assert_eq!(broker.stats().channels, stay().count() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_channels_are_evicted_is_not_lost() {
    let (broker, _) = broker(|config| config.idle = Duration::ZERO);
    let going = Arc::new(());
    let sweeper = {
        let (broker, going) = (broker.clone(), Arc::downgrade(&going));
        tokio::task::spawn_blocking(move || {
            while going.strong_count() > 0 {
                broker.sweep();
            }
        })
    };
    for _ in 0..20_000 {
        let mut subscription = broker.subscribe(&name("a")).unwrap();
        broker.post(&name("a"), Message::text("x")).unwrap();
        let delivery = tokio::time::timeout(FOREVER, subscription.next()).await;
        assert_eq!(text_of(delivery.unwrap().unwrap()), "x");
    }
    drop(going);
    sweeper.await.unwrap();
}

/// Long after its last publication, and with nobody there.
#[test]
fn a_channel_lasts_as_long_as_its_keys() {
    let (broker, clock) = broker(|_| ());
    let channel = name("chat-room-1");
    let publish = |key: &str| {
        let message = Message::text("x");
        broker.publish_once(&channel, None, key, &message).unwrap()
    };
    let first = publish("a");
    assert!(!first.duplicate);
    let pass = |seconds: u64| {
        clock.fetch_add(seconds * 1000, Ordering::Relaxed);
        broker.sweep()
    };
    assert_eq!(pass(120) + pass(120), 0);
    let again = publish("a");
    assert_eq!((again.position, again.duplicate), (first.position, true));
    assert_eq!(broker.stats().publications, 1);
    // The sweep that forgets the key finds the channel idle.
    assert_eq!(pass(61), 0);
    assert_eq!(pass(60), 1);
    let anew = publish("a");
    assert!(!anew.duplicate && anew.position.epoch != first.position.epoch);
}
