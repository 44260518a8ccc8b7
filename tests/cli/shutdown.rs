//! Signals.

use std::time::{Duration, Instant};

use crate::harness::Place;

#[test]
fn a_signal_lets_a_server_drain() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let server = place.serve();
        let reader = place.sub(&["--user", "42", "--count", "1"]);
        place.run(&["announce", "last words"]).ok();
        server.signal(signal);
        server.err_until("draining for up to 10 s; a second signal ends it at once");
        assert_eq!(server.end().code, Some(0));
        assert!(!place.path("certs/dev/server.json").exists());
        assert_eq!(reader.end().out, "global #1 announcement  last words\n");
    }
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    let place = Place::new();
    // Far beyond what the test waits for.
    let server = place.serve_with(&[("TIDINGS_TIMEOUTS__GRACE", "3600")], &[]);
    let reader = place.sub(&["--user", "42"]);
    // A client that neither leaves nor answers.
    reader.signal("STOP");
    server.signal("TERM");
    server.err_until("draining");
    let begun = Instant::now();
    server.signal("TERM");
    let done = server.end();
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("tidings: ended by a second signal"),
        "{done:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(!place.path("certs/dev/server.json").exists());
}

#[test]
fn a_signal_ends_a_subscriber_with_success_and_its_session() {
    let place = Place::new();
    let server = place.serve();
    for (name, signal) in [
        ("quic", "INT"),
        ("webtransport", "TERM"),
        ("websocket", "INT"),
    ] {
        let url = place.address(name);
        let reader = place.sub(&["--user", "42", "--url", &url]);
        reader.signal(signal);
        let done = reader.end();
        assert_eq!(
            (done.code, done.out.as_str(), done.err.as_str()),
            (Some(0), "", "")
        );
        // Not after the idle timeout: the server is told.
        server.err_until("closed code=closed (0)");
    }
}

#[test]
fn a_signal_ends_a_publisher_that_waits_for_input() {
    let place = Place::new();
    let _server = place.serve();
    let publisher = place.start(&["pub", "chat-room-7", "-", "--user", "42"]);
    let reader = place.sub(&["chat-room-7", "--only", "--user", "43", "--count", "1"]);
    publisher.type_in("one\n");
    assert_eq!(publisher.line().split(' ').next(), Some("chat-room-7"));
    publisher.signal("INT");
    publisher.end().failed(1, &["interrupted"]);
    assert_eq!(reader.end().code, Some(0));
}
