//! Listeners of channels and patterns, inline and in tasks of their own.

use super::*;
use crate::wire::Pattern;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// A closure that notes channel and text, and where it notes them.
/// A publisher of a session, or of none.
fn by<'a>(
    session: Option<u64>,
    shown: Option<&'a UserId>,
    user: Option<&'a UserId>,
) -> Publisher<'a> {
    Publisher {
        shown,
        user,
        session,
        tenancy: None,
    }
}

#[allow(clippy::type_complexity, reason = "a pair, used at once")]
fn notes() -> (
    impl Fn(Received) + Send + Sync + 'static,
    Arc<Mutex<Vec<String>>>,
) {
    let noted = Arc::<Mutex<Vec<String>>>::default();
    let into = Arc::clone(&noted);
    let note = move |received: Received| {
        let text = format!("{} {}", received.channel, text_of(received.delivery));
        into.lock().unwrap().push(text);
    };
    (note, noted)
}

#[test]
fn a_pattern_listener_hears_channels_that_are_made_before_and_after_it() {
    let (broker, _) = broker(|_| ());
    let post =
        |channel: &str, text: &str| broker.post(&name(channel), Message::text(text)).unwrap();
    post("chat-1", "before");
    let (note, noted) = notes();
    let guard = broker.listen_pattern(&pattern("chat-*"), note);
    post("chat-1", "a");
    post("chat-2", "b");
    post("news", "c");
    post("chat-2", "d");
    assert_eq!(*noted.lock().unwrap(), ["chat-1 a", "chat-2 b", "chat-2 d"]);
    assert_eq!(broker.readers(&name("chat-1")), 0, "it is no reader");
    drop(guard);
    post("chat-1", "e");
    post("chat-3", "f");
    assert_eq!(noted.lock().unwrap().len(), 3);
}

#[test]
fn a_pattern_listener_keeps_no_channel_and_hears_its_successor() {
    let (broker, clock) = broker(|config| config.idle = Duration::from_secs(1));
    let (note, noted) = notes();
    let _guard = broker.listen_pattern(&pattern("*"), note);
    let first = broker.post(&name("a"), Message::text("1")).unwrap();
    for _ in 0..3 {
        clock.fetch_add(600_000, Ordering::Relaxed);
        broker.sweep();
    }
    assert_eq!(broker.stats().channels, 0);
    let second = broker.post(&name("a"), Message::text("2")).unwrap();
    assert_ne!(first.epoch, second.epoch);
    assert_eq!(*noted.lock().unwrap(), ["a 1", "a 2"]);
}

#[test]
fn channels_that_are_made_while_a_pattern_listener_comes_are_heard_once() {
    let (broker, _) = broker(|_| ());
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for number in 0..2000 {
                let channel = name(&format!("c-{number}"));
                broker.post(&channel, Message::text("x")).unwrap();
            }
        });
        let mut guards = Vec::new();
        while !publisher.is_finished() && guards.len() < 20 {
            let (note, noted) = notes();
            guards.push((broker.listen_pattern(&pattern("c-*"), note), noted));
        }
        publisher.join().unwrap();
        for number in 0..2000 {
            let channel = name(&format!("c-{number}"));
            broker.post(&channel, Message::text("last")).unwrap();
        }
        for (_guard, noted) in &guards {
            let noted = noted.lock().unwrap();
            let last = noted.iter().filter(|text| text.ends_with("last"));
            assert_eq!(last.count(), 2000);
        }
    });
}

#[test]
fn a_listener_is_told_who_published_though_subscribers_are_not() {
    let (broker, _) = broker(|_| ());
    let heard = Arc::<Mutex<Vec<Received>>>::default();
    let into = Arc::clone(&heard);
    let guard = broker.listen(&name("a"), move |received| {
        into.lock().unwrap().push(received)
    });
    let plain = Arc::<Mutex<Vec<Delivery>>>::default();
    let into = Arc::clone(&plain);
    let other = broker.add_listener(&name("a"), move |delivery| {
        into.lock().unwrap().push(delivery)
    });
    let (ann, message) = (UserId::parse("ann").unwrap(), Message::text("x"));
    let channel = name("a");
    let terms = Terms::new;
    let hidden = broker.publish_as(&channel, by(Some(7), None, Some(&ann)), &message, terms());
    hidden.unwrap();
    broker.publish(&channel, Some(&ann), &message).unwrap();
    broker.post(&channel, message.clone()).unwrap();
    let anonymous = broker.publish_as(&channel, by(Some(8), None, None), &message, terms());
    anonymous.unwrap();
    let who = |received: &Received| {
        let publication = received.publication().unwrap();
        let user = received.user.as_ref().map(ToString::to_string);
        assert_eq!(publication.publisher, user);
        assert_eq!(received.position().offset, publication.offset);
        (received.session, user)
    };
    let who: Vec<_> = heard.lock().unwrap().iter().map(who).collect();
    let ann = || Some("ann".to_owned());
    assert_eq!(
        who,
        [
            (Some(7), ann()),
            (None, ann()),
            (None, None),
            (Some(8), None)
        ]
    );
    let shown = |delivery: &Delivery| match delivery {
        Delivery::Publication(publication) => publication.publisher.clone(),
        Delivery::Lagged { .. } => panic!("lagged"),
    };
    let shown: Vec<_> = plain.lock().unwrap().iter().map(shown).collect();
    assert_eq!(shown, [ann(), ann(), None, None]);
    let kept = broker.history(&channel, &HistoryQuery::oldest(10));
    let publishers: Vec<_> = kept
        .publications
        .iter()
        .map(|kept| kept.publisher.clone())
        .collect();
    assert_eq!(publishers, [None, ann(), None, None]);
    drop((guard, other));
}

#[tokio::test]
async fn a_receiver_gives_what_is_published_in_order_and_publishers_do_not_wait() {
    let (broker, _) = broker(|_| ());
    let mut all = broker.pattern_receiver(&pattern("chat-*"));
    let mut one = broker.receiver(&name("chat-1")).unwrap();
    for number in 0..200 {
        for channel in ["chat-1", "chat-2", "news"] {
            broker
                .post(&name(channel), Message::text(number.to_string()))
                .unwrap();
        }
    }
    for number in 0..200 {
        let received = one.recv().await;
        assert_eq!(text_of(received.delivery), number.to_string());
    }
    let mut next = [0, 0];
    for _ in 0..400 {
        let received = all.next().await.unwrap();
        let index = usize::from(received.channel.as_str() == "chat-2");
        assert_eq!(text_of(received.delivery), next[index].to_string());
        next[index] += 1;
    }
    assert_eq!(next, [200, 200]);
    assert!(all.recv().now_or_never().is_none());
    assert!(one.recv().now_or_never().is_none());
    // It is woken by what comes while it waits.
    let (received, _) = tokio::join!(all.recv(), async {
        tokio::task::yield_now().await;
        broker.post(&name("chat-9"), Message::text("late")).unwrap()
    });
    assert_eq!(text_of(received.delivery), "late");
}

#[tokio::test]
async fn a_receiver_that_is_too_slow_is_told_what_it_missed() {
    let (broker, _) = broker(|config| {
        config.retention = Arc::new(|_| Retention {
            count: 2,
            ..Retention::default()
        });
    });
    let mut slow = broker.pattern_receiver(&pattern("*"));
    for text in ["1", "2", "3", "4", "5"] {
        broker.post(&name("a"), Message::text(text)).unwrap();
    }
    let lagged = slow.recv().await;
    assert_eq!(lagged.channel, name("a"));
    assert_eq!(lagged.delivery, Delivery::Lagged { from: 1, to: 3 });
    assert_eq!(text_of(slow.recv().await.delivery), "4");
    assert_eq!(text_of(slow.recv().await.delivery), "5");
}

#[tokio::test]
async fn a_channel_is_kept_for_a_receiver_until_it_is_read() {
    let (broker, clock) = broker(|config| config.idle = Duration::from_secs(1));
    let mut receiver = broker.pattern_receiver(&pattern("*"));
    broker.post(&name("a"), Message::text("x")).unwrap();
    let idle = || {
        for _ in 0..3 {
            clock.fetch_add(600_000, Ordering::Relaxed);
            broker.sweep();
        }
        broker.stats().channels
    };
    assert_eq!(idle(), 1);
    receiver.recv().await;
    assert!(receiver.recv().now_or_never().is_none());
    assert_eq!(idle(), 0);
}

#[test]
fn a_dropped_receiver_is_forgotten() {
    let (broker, clock) = broker(|config| config.idle = Duration::from_secs(1));
    let receiver = broker.pattern_receiver(&pattern("*"));
    broker.post(&name("a"), Message::text("x")).unwrap();
    drop(receiver);
    broker.post(&name("a"), Message::text("y")).unwrap();
    for _ in 0..3 {
        clock.fetch_add(600_000, Ordering::Relaxed);
        broker.sweep();
    }
    assert_eq!(broker.stats().channels, 0);
    assert_eq!(broker.stats().memory, 0, "no channel is held by its queue");
}

#[test]
fn a_dropped_pattern_listener_is_forgotten_in_channels_with_subscribers() {
    let (broker, _) = broker(|_| {});
    let (channel, closure) = (name("a"), Arc::new(()));
    let _subscription = broker.subscribe(&channel).unwrap();
    let held = Arc::clone(&closure);
    let guard = broker.listen_pattern(&pattern("*"), move |_| {
        let _ = &held;
    });
    assert_eq!(Arc::strong_count(&closure), 2);
    drop(guard);
    broker.sweep();
    assert_eq!(Arc::strong_count(&closure), 1);
}

#[test]
fn origins_are_kept_no_longer_than_their_publications() {
    let (broker, _) = broker(|config| {
        config.retention = Arc::new(|_| Retention {
            count: 4,
            ..Retention::default()
        });
    });
    let channel = name("a");
    let receiver = broker.receiver(&channel).unwrap();
    for session in 0..1000 {
        let message = Message::text("x");
        let from = Some(session);
        let published = broker.publish_as(&channel, by(from, None, None), &message, Terms::new());
        published.unwrap();
    }
    let found = broker.inner.hub.find(&channel).unwrap();
    assert!(found.origins() <= 5, "{}", found.origins());
    drop(receiver);
    broker.post(&channel, Message::text("x")).unwrap();
    assert_eq!(found.origins(), 0);
}
