use super::*;

const MS: Duration = Duration::from_millis(1);

fn config() -> Config {
    Config {
        delay: 25 * MS,
        loss: Share::NONE,
        rate: None,
        queue: 100 * MS,
        seed: 7,
    }
}

fn percent(text: &str) -> Share {
    text.parse().unwrap()
}

/// What arrives, and when.
fn drain(path: &mut Path) -> Vec<(Duration, Vec<u8>)> {
    std::iter::from_fn(|| path.take_due(Duration::MAX))
        .map(|packet| (packet.due, packet.bytes))
        .collect()
}

#[test]
fn a_packet_arrives_after_the_delay_and_not_before() {
    let mut path = Path::new(config(), Direction::ToClient);
    path.offer(10 * MS, vec![1]);
    assert_eq!(path.next_due(), Some(35 * MS));
    assert_eq!(path.take_due(35 * MS - Duration::from_nanos(1)), None);
    let packet = path.take_due(35 * MS).unwrap();
    assert_eq!(packet.bytes, [1]);
    assert_eq!(path.next_due(), None);
}

#[test]
fn packets_leave_in_the_order_in_which_they_came() {
    let mut path = Path::new(
        Config {
            rate: Rate::from_bits(1_000_000),
            ..config()
        },
        Direction::ToClient,
    );
    for number in 0..100u8 {
        path.offer(u32::from(number) / 10 * MS, vec![number; 60]);
    }
    let arrived = drain(&mut path);
    assert_eq!(arrived.len(), 100);
    assert!(arrived.is_sorted());
    assert!(arrived.iter().map(|(_, bytes)| bytes[0]).is_sorted());
}

#[test]
fn a_rate_spaces_packets_by_their_length() {
    let rate = Rate::from_bits(12_000_000).unwrap();
    let mut path = Path::new(
        Config {
            rate: Some(rate),
            ..config()
        },
        Direction::ToClient,
    );
    // 1500 bytes take 1 ms. The first one finds the bucket full.
    for _ in 0..4 {
        path.offer(MS, vec![0; 1500]);
    }
    let times: Vec<_> = drain(&mut path).into_iter().map(|(due, _)| due).collect();
    assert_eq!(times, [26 * MS, 27 * MS, 28 * MS, 29 * MS]);
    // A silence saves up one packet, not more.
    for _ in 0..2 {
        path.offer(1000 * MS, vec![0; 1500]);
    }
    let times: Vec<_> = drain(&mut path).into_iter().map(|(due, _)| due).collect();
    assert_eq!(times, [1025 * MS, 1026 * MS]);
}

#[test]
fn over_a_long_time_the_rate_is_what_was_asked() {
    let mut path = Path::new(
        Config {
            rate: Rate::from_bits(8_000_000),
            ..config()
        },
        Direction::ToClient,
    );
    // 1 MB/s are allowed, 2 MB/s are offered for 10 s.
    for number in 0..20_000u32 {
        path.offer(number * MS / 2, vec![0; 1000]);
    }
    let bytes: usize = drain(&mut path)
        .iter()
        .filter(|(due, _)| *due <= 10_000 * MS + config().delay)
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!((9_990_000..=10_010_000).contains(&bytes), "{bytes}");
}

#[test]
fn the_queue_drops_what_would_wait_too_long_and_counts_it() {
    let mut path = Path::new(
        Config {
            rate: Rate::from_bits(12_000_000),
            queue: 3 * MS,
            ..config()
        },
        Direction::ToClient,
    );
    for _ in 0..10 {
        path.offer(Duration::ZERO, vec![0; 1500]);
    }
    // One at once, three that wait 1, 2 and 3 ms.
    assert_eq!(path.counters().overflowed, 6);
    assert_eq!(drain(&mut path).len(), 4);
    // What was dropped has not used the rate.
    path.offer(3 * MS, vec![0; 1500]);
    assert_eq!(path.next_due(), Some(4 * MS + config().delay));
}

#[test]
fn a_seed_loses_the_same_numbers_whatever_the_packets_are() {
    let numbers = |lengths: usize, rate: Option<Rate>| {
        let mut path = Path::new(
            Config {
                loss: percent("5%"),
                rate,
                queue: 60_000 * MS,
                ..config()
            },
            Direction::ToClient,
        );
        for number in 0..10_000u32 {
            let mut bytes = vec![0; lengths];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            path.offer(number * MS, bytes);
        }
        drain(&mut path)
            .into_iter()
            .map(|(_, bytes)| u32::from_be_bytes(bytes[..4].try_into().unwrap()))
            .collect::<Vec<_>>()
    };
    let predicted: Vec<u32> = (0..10_000)
        .zip(lost(percent("5%"), 7, Direction::ToClient))
        .filter(|(_, lost)| !lost)
        .map(|(number, _)| number)
        .collect();
    assert!(numbers(10, None) == predicted);
    assert!(numbers(1500, Rate::from_bits(13_000_000)) == predicted);
}

#[test]
fn seeds_and_directions_lose_independently_and_as_often_as_asked() {
    let sequence = |seed, direction| {
        lost(percent("2%"), seed, direction)
            .take(100_000)
            .collect::<Vec<_>>()
    };
    let one = sequence(7, Direction::ToClient);
    let share = one.iter().filter(|lost| **lost).count();
    // Four standard deviations of 44.
    assert!((1823..=2177).contains(&share), "{share}");
    for other in [
        sequence(7, Direction::ToServer),
        sequence(8, Direction::ToClient),
    ] {
        let both = one.iter().zip(&other).filter(|(a, b)| **a && **b).count();
        // 40 are expected of independent ones, 2,000 of equal ones.
        assert!(both < 80, "{both}");
    }
    // Pinned: a seed means the same packets on every machine and in every version.
    let first: Vec<usize> = one
        .iter()
        .enumerate()
        .filter_map(|(number, lost)| lost.then_some(number))
        .take(5)
        .collect();
    assert_eq!(first, PINNED);
}

/// The first packets that seed 7 loses to the client at 2 %.
const PINNED: [usize; 5] = [80, 216, 227, 280, 295];

#[test]
fn no_loss_loses_nothing_and_full_loss_everything() {
    assert!(
        !lost(Share::NONE, 1, Direction::ToClient)
            .take(10_000)
            .any(|lost| lost)
    );
    assert!(
        lost(percent("100%"), 1, Direction::ToClient)
            .take(10_000)
            .all(|lost| lost)
    );
}

#[test]
fn a_link_holds_a_bounded_number_of_bytes() {
    let mut path = Path::new(config(), Direction::ToClient);
    let packets = MAX_HELD / 1024;
    for _ in 0..packets + 10 {
        path.offer(Duration::ZERO, vec![0; 1024]);
    }
    assert_eq!(path.counters().held_back, 10);
    assert_eq!(drain(&mut path).len(), packets);
    path.offer(Duration::ZERO, vec![0; 1024]);
    assert_eq!(path.counters().held_back, 10);
}

#[test]
fn counters_add_up() {
    let mut path = Path::new(
        Config {
            loss: percent("10%"),
            rate: Rate::from_bits(1_000_000),
            queue: 10 * MS,
            ..config()
        },
        Direction::ToServer,
    );
    for number in 0..1000u32 {
        path.offer(number * MS, vec![0; 250]);
    }
    drain(&mut path);
    let counters = path.counters();
    assert_eq!(counters.offered, 1000);
    assert_eq!(counters.offered_bytes, 250_000);
    assert!(counters.lost > 0 && counters.overflowed > 0, "{counters:?}");
    assert_eq!(
        counters.offered,
        counters.delivered + counters.lost + counters.overflowed
    );
    assert_eq!(counters.delivered_bytes, counters.delivered * 250);
    assert_eq!(counters.largest, 250);
}
