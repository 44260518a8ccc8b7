use std::time::Duration;

use super::*;
use crate::{
    broker::{Audience, Config, Due},
    wire::{Epoch, Start},
};

struct Nobody;

impl Due for Nobody {
    fn due(&self, _: u32) {}
}

fn broker() -> (Broker, ChannelName) {
    let config = Config {
        presence: Arc::new(|_| Some(Shown::Users)),
        idle: Duration::ZERO,
        ..Config::default()
    };
    (Broker::new(config), ChannelName::parse("room").unwrap())
}

fn enter(broker: &Broker, channel: &ChannelName, session: u64) -> Reader {
    let due: Arc<dyn Due> = Arc::new(Nobody);
    let reader = broker.read(channel, None, &Audience::new(), &due, 0, Start::Head);
    broker.attended(reader.unwrap(), session, None)
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn counts(change: &Presence) -> (usize, usize, u64, u64, bool) {
    let (joined, left) = (change.joined.len(), change.left.len());
    let Presence {
        connections,
        users,
        complete,
        ..
    } = *change;
    (joined, left, connections, users, complete)
}

fn page(members: &Members, limit: u64) -> Attendance {
    let position = Position {
        epoch: Epoch(1),
        offset: 1,
    };
    members.page(position, limit)
}

#[test]
fn who_came_and_went_between_two_rounds_was_never_there() {
    let mut members = Members::new(Shown::Users);
    members.enter(1, None);
    members.leave(1);
    assert_eq!(members.tell(), None);
    assert!(members.is_empty());
    members.enter(1, None);
    assert_eq!(counts(&members.tell().unwrap()), (1, 0, 1, 0, true));
    members.leave(1);
    assert_eq!(page(&members, 9).connections, 1, "as it was told");
    members.enter(1, None);
    assert_eq!(members.tell(), None);
    // A subscription that ends while the next one stands.
    members.enter(1, None);
    members.leave(1);
    assert_eq!(members.tell(), None);
    members.leave(1);
    assert_eq!(counts(&members.tell().unwrap()), (0, 1, 0, 0, true));
    assert!(members.is_empty());
}

#[test]
fn a_channel_stays_until_the_last_who_left_it_is_told() {
    let (broker, channel) = broker();
    let reader = enter(&broker, &channel, 1);
    broker.tell_presence(1);
    drop(reader);
    assert_eq!(broker.sweep(), 0);
    assert_eq!(broker.presence_due(), 1);
    broker.tell_presence(1);
    assert_eq!(broker.position(&channel).unwrap().offset, 2);
    assert_eq!((broker.presence_due(), broker.sweep()), (0, 1));
}

#[test]
fn a_channel_is_due_once_and_tells_once_whatever_happens_between_two_rounds() {
    let (broker, channel) = broker();
    let readers: Vec<_> = (0..100).map(|n| enter(&broker, &channel, n)).collect();
    assert_eq!(broker.presence_due(), 1);
    assert_eq!(broker.presence(&channel, 9).unwrap().connections, 0);
    broker.tell_presence(9);
    assert_eq!(broker.position(&channel).unwrap().offset, 1);
    let found = broker.presence(&channel, 9).unwrap();
    assert_eq!(
        (found.connections, found.position.unwrap().offset),
        (100, 1)
    );
    drop(readers);
    drop(enter(&broker, &channel, 7));
    assert_eq!(broker.presence_due(), 1);
    broker.tell_presence(9);
    assert_eq!(broker.position(&channel).unwrap().offset, 2);
    assert_eq!(broker.presence(&channel, 9).unwrap().connections, 0);
}

#[test]
fn a_broker_that_is_closed_tells_of_nobody() {
    let (broker, channel) = broker();
    let _reader = enter(&broker, &channel, 1);
    broker.close();
    broker.tell_presence(1);
    assert_eq!(broker.position(&channel).unwrap().offset, 0);
}

#[test]
fn users_count_once_and_sessions_each() {
    let mut members = Members::new(Shown::Users);
    for (session, name) in [(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, None)] {
        members.enter(session, name.map(user).as_ref());
    }
    assert_eq!(counts(&members.tell().unwrap()), (4, 0, 4, 2, true));
    members.leave(1);
    members.leave(3);
    let change = members.tell().unwrap();
    assert_eq!(counts(&change), (0, 2, 2, 1, true));
    assert!(change.left.contains(&Member {
        id: 3,
        user: Some("b".to_owned())
    }));
    assert_eq!(page(&members, 9).users, 1);
}

#[test]
fn a_crowd_is_counted_and_not_listed() {
    let mut members = Members::new(Shown::Users);
    for session in 0..1_000 {
        members.enter(session, Some(&user("u")));
    }
    assert_eq!(counts(&members.tell().unwrap()), (64, 0, 1_000, 1, false));
    let found = page(&members, u64::MAX);
    assert_eq!((found.members.len(), found.complete), (256, false));
    assert_eq!((found.connections, found.users), (1_000, 1));
    for session in 64..1_000 {
        members.leave(session);
    }
    assert_eq!(counts(&members.tell().unwrap()), (0, 64, 64, 1, false));
    let found = page(&members, 64);
    assert_eq!((found.members.len(), found.complete), (64, true));
    assert!(members.known.capacity() < 256, "its room is given back");
    assert!(!page(&members, 63).complete);
}

#[test]
fn numbers_say_nothing_of_sessions() {
    let mut seen = HashSet::from([7]);
    for _ in 0..2 {
        let mut members = Members::new(Shown::Numbers);
        members.enter(7, Some(&user("a")));
        let change = members.tell().unwrap();
        assert_eq!((change.connections, change.users), (1, 1));
        assert_eq!(change.joined[0].user, None);
        assert_eq!(page(&members, 1).members, change.joined);
        assert!(seen.insert(change.joined[0].id));
        members.leave(7);
        assert_eq!(members.tell().unwrap().left, change.joined);
    }
}

#[test]
fn what_is_told_is_what_a_page_says_whoever_comes_and_goes() {
    for seed in 0..50_u64 {
        let mut state = seed;
        let mut roll = |sides: u64| {
            // Knuth's MMIX generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        let mut members = Members::new(Shown::Users);
        let mut told = page(&members, 256);
        let mut subscriptions = [0_u32; 40];
        let mut offset = 1;
        for _ in 0..2_000 {
            let session = roll(40);
            let own = &mut subscriptions[session as usize];
            match roll(5) {
                0 => {
                    if let Some(change) = members.tell() {
                        offset += 1;
                        told.apply(offset, &change);
                    }
                    let here = subscriptions.iter().filter(|n| **n > 0).count();
                    assert_eq!(told.connections, here as u64, "seed {seed}");
                }
                1 | 2 => {
                    let user = user(&format!("u{}", session % 7));
                    members.enter(session, Some(&user));
                    *own += 1;
                }
                _ if *own > 0 => {
                    members.leave(session);
                    *own -= 1;
                }
                _ => {}
            }
            let found = page(&members, 256);
            assert_eq!(
                (found.connections, found.users),
                (told.connections, told.users)
            );
            let ids = |page: &Attendance| page.members.iter().cloned().collect::<HashSet<_>>();
            assert_eq!(ids(&found), ids(&told), "seed {seed}");
            let users: HashSet<_> = found.members.iter().map(|one| &one.user).collect();
            assert_eq!(found.users, users.len() as u64, "seed {seed}");
        }
    }
}

#[test]
fn a_crowd_is_told_of_in_parts_each_of_which_is_what_the_log_says() {
    let (broker, channel) = broker();
    let part = MAX_TOLD as u64;
    let crowd = part * 2 + 10;
    let mut readers: Vec<_> = (0..crowd)
        .map(|session| enter(&broker, &channel, session))
        .collect();
    let told = |connections: u64| {
        assert_eq!(
            broker.presence_due(),
            1,
            "once, and again while there are more"
        );
        broker.tell_presence(1);
        let attendance = broker.presence(&channel, 1).unwrap();
        assert_eq!(attendance.connections, connections);
    };
    told(part);
    readers.push(enter(&broker, &channel, crowd));
    told(2 * part);
    told(crowd + 1);
    assert_eq!(broker.presence_due(), 0);
    drop(readers);
    for left in [crowd + 1 - part, crowd + 1 - 2 * part, 0] {
        told(left);
    }
    assert_eq!(broker.presence_due(), 0);
}
