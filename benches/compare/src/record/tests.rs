use clap::Parser;

use super::*;

const START: Nanos = 1_000 * SECOND;
const TICK: Nanos = SECOND / 10;

/// One connection, one channel, ten publications in the measured second and ten before it.
fn recorder() -> Recorder {
    let arguments =
        "load --peer nats --address 127.0.0.1:1 --interval-us 100000 --warmup 1 --duration 1";
    let options = Options::parse_from(arguments.split(' '));
    let mut recorder = Recorder::new(&options).unwrap();
    recorder.begin(START);
    recorder
}

/// Gives these sequence numbers, each 3 ms after it was due.
fn read(recorder: &mut Recorder, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        let intended = START + (sequence - 1) * TICK;
        let stamp = Stamp {
            sequence,
            intended,
            channel: 0,
        };
        let now = intended + 3_000_000;
        recorder.observe(now, 0).unwrap();
        recorder.received(0, &stamp.payload(200), now);
    }
}

fn result(mut recorder: Recorder) -> Report {
    let end = START + 2 * SECOND;
    // One edge a call, and a run without a delivery has passed neither.
    recorder.observe(end, 0).unwrap();
    recorder.observe(end, 0).unwrap();
    assert!(recorder.is_complete(end + PATIENCE + 1));
    recorder.report(None)
}

#[test]
fn a_run_without_fault_is_counted_from_the_intended_times() {
    let mut recorder = recorder();
    read(&mut recorder, 1..=20);
    assert!(!recorder.is_complete(START + 2 * SECOND - 1));
    let report = result(recorder);
    assert!(report.void.is_empty(), "{:?}", report.void);
    assert_eq!(report.deliveries, 10);
    let latency = report.latency.unwrap();
    assert!((latency.p50 - 3000.0).abs() < 3.0, "{latency:?}");
    assert!((latency.max - 3000.0).abs() < 3.0, "{latency:?}");
}

#[test]
fn it_is_complete_as_soon_as_everything_came() {
    let mut recorder = recorder();
    read(&mut recorder, 1..=20);
    recorder.observe(START + 2 * SECOND, 0).unwrap();
    assert!(recorder.is_complete(START + 2 * SECOND));
}

#[test]
fn a_gap_makes_it_void() {
    let mut recorder = recorder();
    read(&mut recorder, (1..=20).filter(|sequence| *sequence != 13));
    assert_eq!(result(recorder).void, ["1 deliveries are missing"]);
}

#[test]
fn an_end_that_does_not_come_makes_it_void() {
    let mut recorder = recorder();
    read(&mut recorder, 1..=18);
    recorder.observe(START + 2 * SECOND, 0).unwrap();
    assert!(!recorder.is_complete(START + 2 * SECOND));
    assert_eq!(result(recorder).void, ["2 deliveries are missing"]);
}

#[test]
fn a_duplicate_makes_it_void() {
    let mut recorder = recorder();
    read(&mut recorder, (1..=20).chain([20]));
    assert_eq!(result(recorder).void, ["1 deliveries are duplicates"]);
}

#[test]
fn disorder_makes_it_void() {
    let mut recorder = recorder();
    read(&mut recorder, [1, 2, 3, 5, 4].into_iter().chain(6..=20));
    assert_eq!(result(recorder).void, ["1 deliveries are out of order"]);
}

#[test]
fn a_payload_of_somebody_else_makes_it_void() {
    let mut recorder = recorder();
    read(&mut recorder, 1..=20);
    recorder.received(0, b"hello", START);
    assert_eq!(
        result(recorder).void,
        ["1 deliveries are of something else"]
    );
}

#[test]
fn what_does_not_read_is_not_missed() {
    let mut recorder = recorder();
    recorder.ignore(0);
    let report = result(recorder);
    assert!(report.void.is_empty(), "{:?}", report.void);
    assert_eq!(report.offered, Some(0.0));
}

#[test]
fn a_floor_tells_the_start_by_its_first_delivery() {
    let mut recorder = recorder();
    recorder.phase = Phase::Connecting;
    assert_eq!(recorder.next(), None);
    read(&mut recorder, [1]);
    assert_eq!(recorder.next(), Some(START + SECOND));
}

#[test]
fn a_rate_is_reached_but_for_one_tick_at_the_edges() {
    let mut late = recorder();
    read(&mut late, 1..=19);
    assert_eq!(result(late).reached, Some(true));
    let mut later = recorder();
    read(&mut later, 1..=17);
    assert_eq!(result(later).reached, Some(false));
}
