//! What readers are told when they come back or lag, and is not so.

use tidings::wire::Epoch;

use super::{
    super::{checker::Kind, record::Event},
    finds, is_begun_anew, is_delivered, is_denied, is_recovered, one, place, row,
};

#[test]
fn a_recovery_that_skips_what_was_missed_is_found() {
    finds(Kind::FalselyRecovered, &[], |events| {
        let late = one(events, is_denied);
        if let Event::Resumed { recovered, .. } = &mut events[late] {
            *recovered = true;
        }
    });
}

#[test]
fn a_recovery_of_what_was_trimmed_is_found() {
    finds(Kind::FalselyRecovered, &[Kind::Gap], |events| {
        let late = one(events, is_denied);
        if let Event::Resumed {
            before,
            after,
            recovered,
            ..
        } = &mut events[late]
        {
            *after = *before;
            *recovered = true;
        }
    });
}

#[test]
fn a_recovery_over_a_restart_is_found() {
    finds(Kind::FalselyRecovered, &[], |events| {
        let anew = one(events, is_begun_anew);
        if let Event::Resumed { recovered, .. } = &mut events[anew] {
            *recovered = true;
        }
    });
}

#[test]
fn a_recovery_denied_without_need_is_found() {
    finds(Kind::FalselyDenied, &[], |events| {
        let resumed = one(events, is_recovered);
        if let Event::Resumed { recovered, .. } = &mut events[resumed] {
            *recovered = false;
        }
    });
}

#[test]
fn a_reader_that_continues_elsewhere_than_where_it_was_is_found() {
    finds(Kind::WrongSeam, &[Kind::FalselyRecovered], |events| {
        let resumed = one(events, is_recovered);
        if let Event::Resumed { before, after, .. } = &mut events[resumed] {
            before.offset -= 1;
            after.offset -= 1;
        }
    });
}

/// The first `Lagged`, to be changed.
fn lagged(events: &mut [Event]) -> (usize, &mut u64, &mut u64) {
    let at = one(events, |event| matches!(event, Event::Lagged { .. }));
    match &mut events[at] {
        Event::Lagged { from, to, .. } => (at, from, to),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lag_that_is_swallowed_is_found() {
    finds(Kind::Gap, &[], |events| {
        let (at, ..) = lagged(events);
        events.remove(at);
    });
}

#[test]
fn a_lag_that_ends_one_too_early_is_found() {
    finds(Kind::Gap, &[], |events| *lagged(events).2 -= 1);
}

#[test]
fn a_lag_that_ends_one_too_late_is_found() {
    finds(Kind::FalselyLagged, &[], |events| *lagged(events).2 += 1);
}

#[test]
fn a_lag_that_begins_one_too_late_is_found() {
    finds(Kind::Gap, &[], |events| *lagged(events).1 += 1);
}

#[test]
fn a_lag_that_begins_with_what_was_given_is_found() {
    finds(Kind::FalselyLagged, &[], |events| *lagged(events).1 -= 1);
}

/// Puts something in the place of a delivery in the middle of others.
fn replace(events: &mut [Event], with: impl Fn(usize, u64) -> Event) {
    let [_, second, _] = row(events, |all| all.into_iter().all(is_delivered));
    let reader = events[second].reader().expect("it has one");
    let offset = place(&mut events[second]).0.offset;
    events[second] = with(reader, offset);
}

#[test]
fn a_lag_without_need_is_found() {
    finds(Kind::FalselyLagged, &[], |events| {
        replace(events, |reader, offset| Event::Lagged {
            reader,
            from: offset,
            to: offset,
        });
    });
}

#[test]
fn what_is_left_out_against_the_rule_is_found() {
    finds(Kind::FalselySkipped, &[], |events| {
        replace(events, |reader, offset| Event::Skipped {
            reader,
            from: offset,
            to: offset,
        });
    });
}

#[test]
fn another_log_without_a_word_is_found() {
    finds(Kind::Gap, &[Kind::StaleEpoch, Kind::Misplaced], |events| {
        let any = one(events, is_delivered);
        place(&mut events[any]).0.epoch = Epoch(7);
    });
}
