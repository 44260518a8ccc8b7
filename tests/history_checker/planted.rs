//! A healthy record changed in one place, as a bug of the server or the client would change it: each is found, and by its name.

mod seams;

use std::sync::OnceLock;

use tidings::{client::Transport, wire::Position};

use super::{
    checker::{Kind, check},
    healthy,
    record::Event,
};

/// The record, made once.
fn record() -> Vec<Event> {
    static RECORD: OnceLock<Vec<Event>> = OnceLock::new();
    let make = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(super::common::bounded(healthy::run(Transport::Quic)))
    };
    RECORD.get_or_init(make).clone()
}

/// Changes a record in one place; what is found first in it must be `kind`, and nothing else but what `follows` from it.
#[track_caller]
fn finds(kind: Kind, follows: &[Kind], plant: impl FnOnce(&mut Vec<Event>)) {
    let mut events = record();
    plant(&mut events);
    let found = check(&events, healthy::PROMISE);
    let kinds: Vec<_> = found.iter().map(|violation| violation.kind).collect();
    assert!(kinds.contains(&kind), "{found:#?}");
    let known = |other: &Kind| *other == kind || follows.contains(other);
    assert!(kinds.iter().all(known), "{found:#?}");
}

/// The first events in a row of one reader that are as wanted.
#[track_caller]
fn row<const N: usize>(events: &[Event], wanted: impl Fn([&Event; N]) -> bool) -> [usize; N] {
    for reader in 1..=3 {
        let of_reader = |(_, event): &(usize, &Event)| event.reader() == Some(reader);
        let indices: Vec<_> = events.iter().enumerate().filter(of_reader).collect();
        for start in 0..=indices.len().saturating_sub(N) {
            let window: [_; N] = std::array::from_fn(|next| indices[start + next]);
            if wanted(window.map(|(_, event)| event)) {
                return window.map(|(index, _)| index);
            }
        }
    }
    panic!("a healthy run has these events in a row");
}

/// The first event that is as wanted.
#[track_caller]
fn one(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    let at = events.iter().position(wanted);
    at.expect("a healthy run has such an event")
}

const fn is_delivered(event: &Event) -> bool {
    matches!(event, Event::Delivered { .. })
}

const fn is_recovered(event: &Event) -> bool {
    matches!(
        event,
        Event::Resumed {
            recovered: true,
            ..
        }
    )
}

/// Resumed too late, in the same log.
fn is_denied(event: &Event) -> bool {
    matches!(event, Event::Resumed { before, after, recovered: false, .. } if before.epoch == after.epoch)
}

/// Resumed with another server.
fn is_begun_anew(event: &Event) -> bool {
    matches!(event, Event::Resumed { before, after, .. } if before.epoch != after.epoch)
}

fn place(event: &mut Event) -> (&mut Position, &mut String) {
    match event {
        Event::Delivered { position, text, .. } => (position, text),
        other => panic!("{other:?} is no delivery"),
    }
}

/// The `n`-th acknowledgement, and its position.
fn acknowledged(events: &mut [Event], n: usize) -> &mut Position {
    let positions = events.iter_mut().filter_map(|event| match event {
        Event::Acknowledged { position, .. } => Some(position),
        _ => None,
    });
    positions
        .into_iter()
        .nth(n)
        .expect("so many are acknowledged")
}

#[test]
fn a_skipped_offset_is_found() {
    finds(Kind::Gap, &[], |events| {
        let [_, second, _] = row(events, |all| all.into_iter().all(is_delivered));
        events.remove(second);
    });
}

#[test]
fn a_duplicate_is_found() {
    finds(Kind::Duplicate, &[], |events| {
        let [_, second, _] = row(events, |all| all.into_iter().all(is_delivered));
        events.insert(second + 1, events[second].clone());
    });
}

#[test]
fn a_duplicate_at_the_seam_is_found() {
    finds(Kind::Duplicate, &[], |events| {
        let [last, seam] = row(events, |[last, seam]| {
            is_delivered(last) && is_recovered(seam)
        });
        events.insert(seam + 1, events[last].clone());
    });
}

#[test]
fn a_first_one_that_is_missing_after_a_recovery_is_found() {
    finds(Kind::FalselyRecovered, &[], |events| {
        let [_, first, _] = row(events, |[seam, first, second]| {
            is_recovered(seam) && is_delivered(first) && is_delivered(second)
        });
        events.remove(first);
    });
}

#[test]
fn a_last_one_that_is_missing_is_found() {
    finds(Kind::Lost, &[], |events| {
        let [last, _] = row(events, |[last, end]| {
            is_delivered(last) && matches!(end, Event::Finished { .. })
        });
        events.remove(last);
    });
}

#[test]
fn a_reader_that_never_comes_to_the_other_server_is_found() {
    finds(Kind::Lost, &[], |events| {
        let seam = one(events, is_begun_anew);
        let reader = events[seam].reader();
        let mut index = 0;
        events.retain(|event| {
            index += 1;
            let after = index > seam && event.reader() == reader;
            !after || matches!(event, Event::Finished { .. })
        });
    });
}

#[test]
fn two_in_the_wrong_order_are_found() {
    finds(Kind::Disorder, &[], |events| {
        let [first, second] = row(events, |all| all.into_iter().all(is_delivered));
        // Both were published before.
        let one = events.remove(first);
        events.insert(second, one);
    });
}

#[test]
fn an_old_epoch_is_found() {
    finds(Kind::StaleEpoch, &[Kind::Gap], |events| {
        let [old, seam, new] = row(events, |[old, seam, new]| {
            is_delivered(old) && is_begun_anew(seam) && is_delivered(new)
        });
        assert!(seam > old);
        events[new] = events[old].clone();
    });
}

#[test]
fn an_old_epoch_after_a_restart_is_found() {
    finds(Kind::StaleEpoch, &[Kind::Gap, Kind::WrongSeam], |events| {
        let seam = one(events, is_begun_anew);
        let Event::Resumed { before, after, .. } = events[seam].clone() else {
            unreachable!("it is one");
        };
        let reader = events[seam].reader().expect("it has one");
        let back = Event::Resumed {
            reader,
            before: after,
            after: before,
            recovered: false,
        };
        events.insert(seam + 1, back);
    });
}

#[test]
fn an_epoch_that_changes_by_itself_is_found() {
    finds(Kind::EpochChanged, &[Kind::StoredTwice], |events| {
        let stop = one(events, |event| *event == Event::Stopping);
        events.remove(stop);
        let start = events.iter().rposition(|event| *event == Event::Started);
        events.remove(start.expect("there are two"));
    });
}

#[test]
fn an_epoch_that_survives_a_restart_is_found() {
    finds(Kind::EpochKept, &[Kind::StoredTwice], |events| {
        let seam = one(events, is_recovered);
        events.splice(seam..seam, [Event::Stopping, Event::Started]);
    });
}

#[test]
fn a_lost_acknowledgement_is_found() {
    finds(Kind::Unanswered, &[], |events| {
        let lost = one(events, |event| matches!(event, Event::Acknowledged { .. }));
        events.remove(lost);
    });
}

#[test]
fn an_acknowledgement_of_another_offset_is_found() {
    let follows = [Kind::WrongContent, Kind::StoredTwice, Kind::Disorder];
    finds(Kind::Misplaced, &follows, |events| {
        acknowledged(events, 4).offset += 1;
    });
}

#[test]
fn two_positions_for_one_key_are_found() {
    // That position also seems to be the head.
    let follows = [Kind::Disorder, Kind::FalselyRecovered];
    finds(Kind::StoredTwice, &follows, |events| {
        let again = one(events, |event| {
            matches!(
                event,
                Event::Acknowledged {
                    duplicate: true,
                    ..
                }
            )
        });
        if let Event::Acknowledged { position, .. } = &mut events[again] {
            position.offset += 100_000;
        }
    });
}

#[test]
fn a_message_that_is_stored_twice_is_found() {
    finds(Kind::StoredTwice, &[Kind::Disorder], |events| {
        let [old, last, end] = row(events, |[old, last, end]| {
            is_delivered(old) && is_delivered(last) && matches!(end, Event::Finished { .. })
        });
        let mut again = events[old].clone();
        let next = place(&mut events[last].clone()).0.offset + 1;
        place(&mut again).0.offset = next;
        events.insert(end, again);
    });
}

#[test]
fn a_duplicate_that_is_not_said_to_be_one_is_found() {
    finds(Kind::WrongDuplicate, &[], |events| {
        let again = one(events, |event| {
            matches!(
                event,
                Event::Acknowledged {
                    duplicate: true,
                    ..
                }
            )
        });
        if let Event::Acknowledged { duplicate, .. } = &mut events[again] {
            *duplicate = false;
        }
    });
}

#[test]
fn a_message_of_nobody_is_found() {
    finds(Kind::Phantom, &[], |events| {
        let any = one(events, is_delivered);
        place(&mut events[any]).1.push('!');
    });
}

#[test]
fn a_message_that_was_refused_is_found() {
    finds(Kind::Phantom, &[], |events| {
        let [_, any] = row(events, |[seam, any]| {
            is_recovered(seam) && is_delivered(any)
        });
        "refused".clone_into(place(&mut events[any]).1);
    });
}

#[test]
fn a_message_from_before_it_was_published_is_found() {
    finds(
        Kind::Phantom,
        &[Kind::Disorder, Kind::Misplaced],
        |events| {
            let any = one(events, is_delivered);
            let wanted = place(&mut events[any].clone()).1.clone();
            let begun = one(
                events,
                |event| matches!(event, Event::Invoked { text, .. } if *text == wanted),
            );
            // Its call as a whole is later.
            let Event::Invoked { call, .. } = events[begun] else {
                unreachable!("it is one");
            };
            let done = one(
                events,
                |event| matches!(event, Event::Acknowledged { call: known, .. } if *known == call),
            );
            let later = any.max(done) + 1;
            events.insert(later, events[done].clone());
            events.insert(later, events[begun].clone());
            for earlier in [begun.max(done), begun.min(done)] {
                events.remove(earlier);
            }
        },
    );
}

#[test]
fn another_message_at_an_offset_is_found() {
    // The second may not have been published yet when the first came.
    finds(Kind::WrongContent, &[Kind::Phantom], |events| {
        let [first, second] = row(events, |all| all.into_iter().all(is_delivered));
        let (one, other) = (events[first].clone(), events[second].clone());
        let [mut one, mut other] = [one, other];
        std::mem::swap(place(&mut one).1, place(&mut other).1);
        (events[first], events[second]) = (one, other);
    });
}

#[test]
fn a_later_message_that_stands_before_an_earlier_one_is_found() {
    finds(
        Kind::Disorder,
        &[Kind::WrongContent, Kind::Misplaced],
        |events| {
            // With one publisher at a time, each acknowledgement follows the one before.
            let from = one(
                events,
                |event| matches!(event, Event::Invoked { text, .. } if text.starts_with("large 1 ")),
            );
            let places: Vec<_> = (from..events.len())
                .filter(|index| matches!(events[*index], Event::Acknowledged { .. }))
                .take(2)
                .collect();
            let position = |event: &Event| match event {
                Event::Acknowledged { position, .. } => *position,
                other => panic!("{other:?}"),
            };
            let swapped = [position(&events[places[1]]), position(&events[places[0]])];
            for (index, wanted) in places.into_iter().zip(swapped) {
                if let Event::Acknowledged { position, .. } = &mut events[index] {
                    *position = wanted;
                }
            }
        },
    );
}
