//! Every failure is one line that says what is wrong, where, and what to do.

use crate::harness::Place;

#[test]
fn without_a_server_every_client_says_what_to_do() {
    let place = Place::new();
    let start = "start one with `tidings serve --dev` in this directory";
    place
        .run(&["sub"])
        .failed(1, &["no server known here", start, "--url"]);
    for args in [
        &["pub", "chat-room-7", "hi"][..],
        &["notify", "42", "hi"],
        &["announce", "hi"],
    ] {
        place
            .run(args)
            .failed(1, &["no server known here", start, "--http"]);
    }
    place.run(&["token", "--user", "42"]).failed(
        1,
        &[
            "there is no certs/dev/token.secret here",
            "tidings serve --dev",
        ],
    );
    place
        .run(&["sub", "--user", "42", "--url", "quic://127.0.0.1:1"])
        .failed(1, &["there is no certs/dev/token.secret here"]);
}

#[test]
fn a_beginning_that_cannot_be_meant_is_refused() {
    let place = Place::new();
    let position = "00c0ffee00c0ffee:7";
    place.run(&["sub", "a", "b", "--since", position]).failed(
        2,
        &[
            "--since is about one channel",
            "tidings sub chat-room-7 --since",
        ],
    );
    place
        .run(&["sub", "a", "--since", "7"])
        .failed(2, &["--since", "EPOCH:OFFSET"]);
}

#[test]
fn a_server_that_has_gone_is_missed_in_words() {
    let place = Place::new();
    let server = place.serve();
    let json = place.read("certs/dev/server.json");
    server.signal("KILL");
    server.end();
    assert_eq!(
        place.read("certs/dev/server.json"),
        json,
        "it had no time to take it away"
    );
    place
        .run(&["announce", "hi"])
        .failed(1, &["cannot connect", "is the server running"]);
    place.run(&["sub", "--user", "42"]).failed(
        1,
        &[
            "no answer from 127.0.0.1:",
            "certs/dev/server.json names this server",
        ],
    );
    place.write("certs/dev/server.json", "{");
    place
        .run(&["sub", "--user", "42"])
        .failed(1, &["certs/dev/server.json is damaged"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::new();
    let _server = place.serve();
    let (quic, http) = (place.address("quic"), place.address("http"));
    let (quic, http) = (
        quic.strip_prefix("quic://").unwrap(),
        http.strip_prefix("http://").unwrap(),
    );
    // What is needed is there, so nothing is printed before.
    let taken = place.run(&["serve", "--dev", "--listen", quic, "--http", "127.0.0.1:0"]);
    taken.failed(
        1,
        &[
            &format!("cannot listen on UDP {quic}: "),
            "something else listens there",
            "--listen",
        ],
    );
    let taken = place.run(&["serve", "--dev", "--listen", "127.0.0.1:0", "--http", http]);
    taken.failed(
        1,
        &[
            &format!("cannot listen on TCP {http}: "),
            "something else listens there",
            "--http",
        ],
    );
    let env = [("TIDINGS_PLAIN_WEBSOCKETS", http)];
    let elsewhere = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    place.run_with(&env, &elsewhere).failed(
        1,
        &[
            &format!("cannot listen on TCP {http}, for WebSockets without TLS: "),
            "something else listens there",
            "plain_websockets in the configuration",
        ],
    );
    assert!(
        place.path("certs/dev/server.json").exists(),
        "the note of the one that runs stays"
    );
}

#[test]
fn a_server_that_refuses_is_quoted_with_its_code() {
    let place = Place::new();
    let _server = place.serve();
    for name in ["quic", "webtransport", "websocket"] {
        let url = place.address(name);
        let refused = |args: &[&str], wanted: &[&str]| {
            let args = [&["sub", "--url", &url], args].concat();
            place.run(&args).failed(1, wanted);
        };
        refused(&[], &[&url, "unauthenticated (200)", "--token", "--user"]);
        refused(
            &["--token", "nonsense"],
            &[&url, "invalid_token (201)", "it is no JSON Web Token"],
        );
        refused(
            &["--user", "42", "user-43"],
            &["user-43: ", "permission_denied (203)"],
        );
        let other = "0".repeat(64);
        refused(
            &["--user", "42", "--cert-hash", &other],
            &["the certificate of 127.0.0.1 is not trusted"],
        );
    }
    place
        .run(&["pub", "topic-x", "hi", "--user", "42"])
        .failed(1, &["topic-x: ", "permission_denied (203)"]);
    let long = "x".repeat(70_000);
    for way in [&[][..], &["--user", "42"]] {
        let args = [&["pub", "chat-room-7", &long], way].concat();
        place.run(&args).failed(1, &["65536"]);
    }
    let done = place.run_on(&format!("short\n{long}\n"), &["pub", "chat-room-7", "-"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.starts_with("tidings: standard input, line 2: "),
        "{}",
        done.err
    );
}

#[test]
fn a_key_is_shown_to_its_own_server_only() {
    let place = Place::new();
    let _server = place.serve();
    let other = place.run(&["announce", "hi", "--http", "http://127.0.0.1:9"]);
    other.failed(
        2,
        &[
            "no API key for http://127.0.0.1:9",
            "--api-key-file",
            "TIDINGS_API_KEY",
        ],
    );
    let same = place.address("http");
    place.run(&["announce", "hi", "--http", &same]).ok();
    place
        .run(&["announce", "hi", "--http", "https://example.org"])
        .failed(2, &["\"https://example.org\"", "without TLS"]);
}

#[test]
fn a_wrong_command_line_is_code_2() {
    let place = Place::new();
    for (args, wanted) in [
        (&[][..], "a command is missing"),
        (&["sbu"], "'sbu'"),
        (&["sub", "--jsn"], "unexpected argument '--jsn'"),
        (&["sub", "a b"], "' ' at byte 1 is not allowed"),
        (&["sub", "--only"], "<CHANNEL>"),
        (&["sub", "--count", "0"], "--count"),
        (&["sub", "--cert-hash", "12"], "64 hexadecimal digits"),
        (
            &["sub", "--user", "1", "--token", "x"],
            "cannot be used with",
        ),
        (
            &["sub", "--url", "ftp://x", "--token", "t"],
            "the scheme is quic://, https://, wss://",
        ),
        (
            &["sub", "--url", "quic://x", "--ca", "gone.pem"],
            "cannot read gone.pem",
        ),
        (&["pub", "chat-room-7"], "<MESSAGE>"),
        (
            &["pub", "x", "y", "--user", "1", "--http", "http://x"],
            "pass one or the other",
        ),
        (&["notify", "a b", "x"], "' ' at byte 1 is not allowed"),
        (
            &["token", "--user", "1", "--for", "1 hour"],
            "is no time: a number and s, m, h or d",
        ),
        (
            &["token", "--user", "1", "--secret-file", "gone"],
            "cannot read gone",
        ),
        (
            &["token", "--user", "1", "--subscribe", "{"],
            "a brace has no partner",
        ),
        (
            &["serve", "--listen", "here"],
            "is no IP address with a port",
        ),
    ] {
        place.run(args).failed(2, &[wanted]);
    }
}

#[test]
fn help_and_version_are_answers() {
    let place = Place::new();
    let version = place.run(&["--version"]).ok();
    assert_eq!(version, format!("tidings {}\n", env!("CARGO_PKG_VERSION")));
    let help = place.run(&["--help"]).ok();
    for command in [
        "serve", "sub", "pub", "notify", "announce", "bench", "token", "cert", "config",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let own = place.run(&[command, "--help"]).ok();
        assert!(own.contains("Usage: tidings"), "{own}");
    }
}
