//! Outputs that cannot be written: a full disk, a closed pipe, a pipe that is not read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    process::Stdio,
    thread,
    time::Duration,
};

use crate::harness::{Place, Running};

/// Opens an output.
type Open = fn() -> Stdio;

/// A server with these outputs, once it is up.
fn serve(place: &Place, level: &str, out: impl Into<Stdio>, err: impl Into<Stdio>) -> Running {
    let args = [
        "serve",
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ];
    let env = [("TIDINGS_LOG__LEVEL", level)];
    let mut server = place.start_onto(&env, &args, out.into(), err.into());
    while fs::metadata(place.path("certs/dev/server.json")).is_err() {
        assert_eq!(server.exited(), None, "the server ended before it was up");
        thread::sleep(Duration::from_millis(10));
    }
    server
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn without_reader() -> io::PipeWriter {
    io::pipe().unwrap().1
}

/// Clients over all transports are served, also by requests that are refused.
fn works(place: &Place) {
    for name in ["quic", "webtransport", "websocket"] {
        let url = place.address(name);
        let reader = place.sub(&["--user", "42", "--url", &url, "--count", "1"]);
        place.run(&["notify", "42", "hello"]).ok();
        assert_eq!(reader.end().code, Some(0));
        place
            .run(&["sub", "user-43", "--only", "--user", "42", "--url", &url])
            .failed(1, &["user-43"]);
    }
}

#[test]
fn a_server_whose_outputs_cannot_be_written_serves_and_drains() {
    let outputs: [(&str, Open, Open); 5] = [
        ("full standard error", Stdio::null, || full().into()),
        ("closed standard error", Stdio::null, || {
            without_reader().into()
        }),
        ("full standard output", || full().into(), Stdio::null),
        (
            "closed standard output",
            || without_reader().into(),
            Stdio::null,
        ),
        ("both full", || full().into(), || full().into()),
    ];
    for (what, out, err) in outputs {
        let place = Place::new();
        let server = serve(&place, "debug", out(), err());
        works(&place);
        server.signal("TERM");
        assert_eq!(server.end().code, Some(0), "{what}");
    }
}

#[test]
fn a_server_whose_log_pipe_is_not_read_serves_drains_and_counts_what_it_dropped() {
    let place = Place::new();
    let (mut log, pipe) = io::pipe().unwrap();
    // More than the pipe and the queue take.
    let server = serve(&place, "trace", Stdio::null(), pipe);
    works(&place);
    let lines: String = (0..4000).map(|n| format!("{n}\n")).collect();
    let done = place.run_on(&lines, &["pub", "chat-room-7", "-", "--user", "42"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    works(&place);
    server.signal("TERM");
    // The pipe is still blocked: what is left in it does not hold up the end.
    assert_eq!(server.end().code, Some(0));
    let mut text = Vec::new();
    log.read_to_end(&mut text).unwrap();
    assert!(!text.is_empty());
}

#[test]
fn a_log_pipe_that_is_read_again_reports_what_was_dropped() {
    let place = Place::new();
    let (log, pipe) = io::pipe().unwrap();
    let server = serve(&place, "trace", Stdio::null(), pipe);
    let lines: String = (0..4000).map(|n| format!("{n}\n")).collect();
    let done = place.run_on(&lines, &["pub", "chat-room-7", "-", "--user", "42"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report = io::BufRead::lines(io::BufReader::new(log))
        .map(Result::unwrap)
        .find(|line| line.contains(" log lines were dropped"));
    assert!(report.is_some());
    server.signal("TERM");
    // Nothing reads any longer.
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn a_command_whose_output_is_closed_ends_with_success_and_a_full_one_with_a_failure() {
    let place = Place::new();
    let _server = place.serve();
    place.run(&["announce", "hello"]).ok();
    for args in [
        &["token", "--user", "42"][..],
        &["--help"],
        &["--version"],
        &["history", "global", "--user", "42"],
    ] {
        let closed = place.start_onto(&[], args, without_reader().into(), Stdio::piped());
        let done = closed.end();
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}");
    }
    let done = place
        .start_onto(
            &[],
            &["token", "--user", "42"],
            full().into(),
            Stdio::piped(),
        )
        .end();
    done.failed(1, &["standard output"]);
    // The reason cannot be written; the code can.
    for err in [full().into(), without_reader().into()] {
        let failed = place.start_onto(&[], &["token", "--nothing"], Stdio::piped(), err);
        assert_eq!(failed.end().code, Some(2));
    }
}

#[test]
fn a_log_at_trace_level_has_neither_tokens_nor_the_api_key() {
    let place = Place::new();
    let log = File::create(place.path("log")).unwrap();
    let server = serve(&place, "trace", Stdio::null(), log);
    let mut secrets = vec![
        place.read("certs/dev/api.key"),
        place.read("certs/dev/token.secret"),
    ];
    for name in ["quic", "webtransport", "websocket"] {
        let token = place.run(&["token", "--user", "42"]).ok();
        let url = place.address(name);
        let args = ["--token", token.trim(), "--url", &url, "--count", "1"];
        let reader = place.sub(&args);
        place.run(&["notify", "42", "hello"]).ok();
        assert_eq!(reader.end().code, Some(0));
        // The header is that of every token, and no secret.
        let (_, secret) = token.split_once('.').unwrap();
        secrets.push(secret.to_owned());
    }
    server.signal("TERM");
    assert_eq!(server.end().code, Some(0));
    let log = place.read("log");
    assert!(log.contains("TRACE"));
    for secret in &secrets {
        let start = &secret[..16];
        let hex: String = start.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!log.contains(start) && !log.contains(&hex), "{secret}");
    }
}
