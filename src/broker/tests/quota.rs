//! Channels, memory and quotas, at their limits.

use std::sync::{Arc, atomic::Ordering};

use super::{super::quota::CHANNEL, *};

/// Small enough that a few publications matter.
const KIB: usize = 1024;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn publish(
    broker: &Broker,
    tenancy: &Tenancy,
    channel: &str,
    size: usize,
) -> Result<Published, PublishError> {
    let publisher = Publisher {
        shown: None,
        user: None,
        session: None,
        tenancy: Some(tenancy),
    };
    let message = Message::text("x".repeat(size));
    broker.publish_as(&name(channel), publisher, &message, Terms::new())
}

/// Publishes to one new channel after the other until that is refused.
fn fill(broker: &Broker, tenancy: &Tenancy, prefix: &str) -> (usize, PublishError) {
    for number in 0..100_000 {
        if let Err(error) = publish(broker, tenancy, &format!("{prefix}-{number}"), 10) {
            return (number, error);
        }
    }
    panic!("nothing is refused");
}

fn evict_all(broker: &Broker, clock: &AtomicU64) {
    broker.sweep();
    clock.fetch_add(60_001, Ordering::Relaxed);
    broker.sweep();
}

#[test]
fn channels_of_a_session_and_of_a_user_are_bounded() {
    let (broker, clock) = broker(|config| {
        config.session_channels = 10;
        config.user_channels = 15;
    });
    let open = |name: Option<&str>| broker.open_tenancy(name.map(user).as_ref()).unwrap();
    let (first, second, other) = (open(Some("1")), open(Some("1")), open(Some("2")));
    let (anonymous, stranger) = (open(None), open(None));
    let quota = |max| PublishError::ChannelQuota { max };
    assert_eq!(fill(&broker, &first, "a"), (10, quota(10)));
    assert_eq!(quota(10).code(), Code::TOO_MANY_CHANNELS);
    assert_eq!(fill(&broker, &second, "b"), (5, quota(15)));
    assert_eq!(fill(&broker, &other, "c"), (10, quota(10)));
    assert_eq!(fill(&broker, &anonymous, "d"), (10, quota(10)));
    assert_eq!(fill(&broker, &stranger, "e"), (10, quota(10)));
    // Subscribing counts as well, and a channel that is there is open to all.
    let audience = Audience::new();
    let due: Arc<dyn Due> = Arc::new(Nobody);
    let read = |channel, tenancy| {
        let reader = broker.read(&name(channel), tenancy, &audience, &due, 0, Start::Head);
        reader.map(drop)
    };
    let refused = read("new", Some(&first)).unwrap_err();
    assert_eq!(refused, NoRoom::ChannelQuota { max: 10 });
    assert_eq!(refused.code(), Code::TOO_MANY_CHANNELS);
    read("c-0", Some(&first)).unwrap();
    publish(&broker, &first, "c-0", 10).unwrap();
    // What the server creates is nobody's.
    read("new", None).unwrap();
    broker.post(&name("news"), Message::text("x")).unwrap();
    // A session that ends leaves its channels to its user.
    drop(first);
    let third = open(Some("1"));
    assert_eq!(fill(&broker, &third, "f"), (0, quota(15)));
    evict_all(&broker, &clock);
    assert_eq!(broker.stats().channels, 0);
    assert_eq!(fill(&broker, &third, "g"), (10, quota(10)));
    assert_eq!(fill(&broker, &second, "h"), (5, quota(15)));
}

struct Nobody;

impl Due for Nobody {
    fn due(&self, _: u32) {}
}

#[test]
fn clients_leave_the_reserved_channels_to_the_server() {
    for (max, of_clients) in [(1, 1), (2, 1), (5, 4), (20, 18), (25, 22)] {
        let (broker, clock) = broker(|config| config.max_channels = max);
        let tenancy = broker.open_tenancy(None).unwrap();
        let full = |max| PublishError::TooManyChannels { max };
        assert_eq!(fill(&broker, &tenancy, "a"), (of_clients, full(of_clients)));
        let post = |number: usize| {
            let channel = name(&format!("server-{number}"));
            broker.post(&channel, Message::text("x")).map(drop)
        };
        for number in of_clients..max {
            post(number).unwrap();
        }
        assert_eq!(post(max), Err(full(max)));
        evict_all(&broker, &clock);
        // The server's own may be more, and then clients have fewer.
        for number in 0..max {
            post(number).unwrap();
        }
        assert_eq!(fill(&broker, &tenancy, "a"), (0, full(max)));
    }
}

#[test]
fn memory_of_a_user_is_bounded_and_its_older_publications_make_room() {
    let (broker, clock) = broker(|config| config.user_memory = 101 * KIB);
    let tenancy = broker.open_tenancy(Some(&user("1"))).unwrap();
    let other = broker.open_tenancy(Some(&user("1"))).unwrap();
    let stranger = broker.open_tenancy(None).unwrap();
    let used = || tenancy.account.payer().usage().1;
    publish(&broker, &stranger, "shared", 30 * KIB).unwrap();
    for number in 0..3 {
        publish(&broker, &tenancy, "own", 30 * KIB).unwrap();
        assert!(used() > (number + 1) * 30 * KIB);
    }
    let refused = publish(&broker, &other, "another", 30 * KIB).unwrap_err();
    assert_eq!(refused, PublishError::MemoryQuota { max: 101 * KIB });
    assert_eq!(refused.code(), Code::OVERLOADED);
    // The oldest there is a stranger's, and stays.
    let refused = publish(&broker, &tenancy, "shared", 30 * KIB);
    assert!(refused.is_err());
    for _ in 0..5 {
        publish(&broker, &tenancy, "own", 30 * KIB).unwrap();
        assert!(used() <= 101 * KIB);
    }
    let page = broker.history(&name("own"), &HistoryQuery::oldest(9));
    let offsets = page.publications.iter().map(|found| found.offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [6, 7, 8]);
    // A reader keeps nothing beyond the age: neither the newest nor the user's account.
    let reader = broker.subscribe(&name("own")).unwrap();
    clock.fetch_add(60_001, Ordering::Relaxed);
    broker.sweep();
    assert_eq!((used(), broker.retained_bytes(&name("own"))), (0, 0));
    drop(reader);
    publish(&broker, &other, "another", 30 * KIB).unwrap();
    let account = tenancy.account.payer();
    assert!(used() > 30 * KIB);
    evict_all(&broker, &clock);
    assert_eq!(account.usage(), (0, 0));
}

#[test]
fn at_the_memory_limit_nothing_grows_and_what_flows_goes_on_flowing() {
    const LIMIT: usize = 1024 * KIB;
    let (broker, clock) = broker(|config| config.memory = LIMIT);
    let tenancy = broker.open_tenancy(None).unwrap();
    publish(&broker, &tenancy, "before", 20 * KIB).unwrap();
    let mut reader = broker.subscribe(&name("before")).unwrap();
    // New channels, each with one large publication.
    let refused = (0..100_000)
        .find_map(|number| publish(&broker, &tenancy, &format!("a-{number}"), 40 * KIB).err());
    assert_eq!(refused, Some(PublishError::Overloaded));
    assert_eq!(PublishError::Overloaded.code(), Code::OVERLOADED);
    assert_eq!(NoRoom::Overloaded.code(), Code::OVERLOADED);
    assert!(broker.stats().memory <= LIMIT + 64 * KIB);
    assert_eq!(
        broker.open_tenancy(None).unwrap_err(),
        NoRoom::Overloaded,
        "no room for a session"
    );
    // The server has a reserve of its own.
    broker.post(&name("server"), Message::text("x")).unwrap();
    // A channel with a log goes on, at the expense of its oldest; too large a publication is refused.
    let memory = broker.stats().memory;
    for _ in 0..50 {
        publish(&broker, &tenancy, "before", 15 * KIB).unwrap();
    }
    assert!(broker.stats().memory <= memory + 64 * KIB);
    let refused = publish(&broker, &tenancy, "before", 60 * KIB);
    assert_eq!(refused, Err(PublishError::Overloaded));
    let lagged = reader.next().now_or_never().flatten();
    assert!(
        matches!(lagged, Some(Delivery::Lagged { from: 2, .. })),
        "{lagged:?}"
    );
    // Everything is given back.
    drop(reader);
    evict_all(&broker, &clock);
    drop(tenancy);
    assert_eq!(broker.stats().memory, 0);
}

#[test]
fn sweeps_trim_the_largest_logs_while_memory_is_short() {
    const LIMIT: usize = 4096 * KIB;
    let (broker, _) = broker(|config| config.memory = LIMIT);
    let post = |channel: &str, size: usize| {
        let message = Message::text("x".repeat(size));
        broker.post(&name(channel), message).unwrap();
    };
    for _ in 0..30 {
        post("small", 10);
    }
    for _ in 0..10 {
        while broker.stats().memory <= LIMIT / 16 * 15 {
            for number in 0..3 {
                post(&format!("large-{number}"), 20 * KIB);
            }
        }
        assert!(broker.stats().memory <= LIMIT / 8 * 9, "as rounded up");
        broker.sweep();
        assert!(broker.stats().memory <= LIMIT / 8 * 7);
    }
    let kept = |channel: &str| {
        let page = broker.history(&name(channel), &HistoryQuery::oldest(256));
        page.publications.len()
    };
    assert_eq!(kept("small"), 30);
    // Without the limit each would have 2 MiB.
    assert!((0..3).all(|number| (2..60).contains(&kept(&format!("large-{number}")))));
}

#[test]
fn memory_is_counted_for_channels_publications_keys_presence_and_sessions() {
    let (broker, clock) = broker(|config| config.presence = Arc::new(|_| Some(Shown::Users)));
    let memory = || broker.stats().memory;
    let mut before = 0;
    let mut grew = |by: usize| {
        let now = memory();
        assert!(now >= before + by, "{now} is not {by} more than {before}");
        before = now;
    };
    let tenancy = broker.open_tenancy(None).unwrap();
    grew(20 * KIB);
    let subscription = broker.subscribe(&name("a")).unwrap();
    grew(CHANNEL);
    for _ in 0..20 {
        broker
            .post(&name("a"), Message::text("x".repeat(KIB)))
            .unwrap();
    }
    grew(20 * KIB);
    for number in 0..400 {
        let key = number.to_string();
        broker
            .publish_once(&name("b"), None, &key, &Message::text(""))
            .unwrap();
    }
    grew(400 * 250);
    let audience = Audience::new();
    let due: Arc<dyn Due> = Arc::new(Nobody);
    let readers: Vec<_> = (0..200)
        .map(|session| {
            let reader = broker.read(&name("c"), None, &audience, &due, 0, Start::Head);
            broker.attended(reader.unwrap(), session, None)
        })
        .collect();
    grew(200 * 200);
    drop((readers, subscription, tenancy));
    broker.tell_presence(9);
    clock.fetch_add(300_001, Ordering::Relaxed);
    broker.sweep();
    evict_all(&broker, &clock);
    assert_eq!((broker.stats().channels, memory()), (0, 0));
}
