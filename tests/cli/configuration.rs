//! Flags, environment, file, and a server that is not for development.

use std::net::UdpSocket;

use crate::harness::{Place, Running};

/// Where a server says that it listens.
fn quic_of(server: &Running) -> String {
    let line = server.out_until("quic://");
    line.split_whitespace().last().unwrap().to_owned()
}

const FULL: &str = r#"
    listen = "127.0.0.1:0"
    [tls]
    chain = "tls/cert.pem"
    key = "tls/key.pem"
    [auth]
    keys = [{ algorithm = "HS256", secret_file = "token.secret" }]
    audience = ["here"]
    [http]
    listen = "127.0.0.1:0"
    api_key_file = "api.key"
    [[rules]]
    pattern = "news"
    subscribe = "authenticated"
    publish = "nobody"
    auto_subscribe = true
    retention = { count = 5 }
    on_lag = "latest"
    priority = "high"
    max_age_milliseconds = 60000
    hide_publisher = true
"#;

fn configured() -> Place {
    let place = Place::new();
    place.run(&["cert", "--out", "tls"]).ok();
    place.write("token.secret", &format!("{}\n", "s".repeat(40)));
    place.write("api.key", &format!("{}\n", "k".repeat(40)));
    place.write("tidings.toml", FULL);
    place
}

#[test]
fn a_configured_server_serves() {
    let place = configured();
    assert_eq!(
        place
            .run(&["config", "check", "--config", "tidings.toml"])
            .ok(),
        "OK\n"
    );
    let server = place.start(&["serve", "--config", "tidings.toml"]);
    let quic = quic_of(&server);
    let http = server.out_until("HTTP API");
    let http = http.split_whitespace().last().unwrap();
    assert!(
        !place.path("certs").exists(),
        "nothing is made outside development"
    );
    let token = place
        .run(&[
            "token",
            "--user",
            "42",
            "--secret-file",
            "token.secret",
            "--audience",
            "here",
        ])
        .ok();
    let hash = place.run(&["cert", "--hash", "tls/cert.pem"]).ok();
    for trust in [["--ca", "tls/cert.pem"], ["--cert-hash", hash.trim()]] {
        let args = [&["sub", "--url", &quic, "--count", "1"][..], &trust].concat();
        let reader = place.start_with(&[("TIDINGS_TOKEN", token.trim())], &args);
        assert_eq!(reader.err_until("subscribed"), "subscribed to news as 42");
        place
            .run(&[
                "pub",
                "news",
                "hi",
                "--http",
                http,
                "--api-key-file",
                "api.key",
            ])
            .ok();
        assert_eq!(reader.end().code, Some(0));
    }
    let env = [
        ("TIDINGS_HTTP_URL", http),
        ("TIDINGS_API_KEY", &"k".repeat(40)),
    ];
    place.run_with(&env, &["announce", "hi"]).ok();
    let wrong = [
        ("TIDINGS_HTTP_URL", http),
        ("TIDINGS_API_KEY", &"w".repeat(40)),
    ];
    place
        .run_with(&wrong, &["announce", "hi"])
        .failed(1, &[http, "invalid_token (201)"]);
    place
        .run(&["sub", "--url", &quic, "--token", token.trim()])
        .failed(1, &["is not trusted", "--ca", "--cert-hash"]);
    let elsewhere = place
        .run(&["token", "--user", "42", "--secret-file", "token.secret"])
        .ok();
    place
        .run(&[
            "sub",
            "--url",
            &quic,
            "--ca",
            "tls/cert.pem",
            "--token",
            elsewhere.trim(),
        ])
        .failed(1, &[&quic, "invalid_token (201)", "aud"]);
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let place = Place::new();
    // Whoever wants to listen where somebody does says so and fails.
    let taken = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [in_file, in_env] = taken
        .each_ref()
        .map(|socket| socket.local_addr().unwrap().to_string());
    place.write(
        "tidings.toml",
        &format!("listen = \"{in_file}\"\n[limits]\nsessions = 7\nchannels = 8"),
    );
    let dev = [
        "serve",
        "--dev",
        "--config",
        "tidings.toml",
        "--http",
        "127.0.0.1:0",
    ];
    let failed = |env: &[(&str, &str)], address: &str| {
        let done = place.run_with(env, &dev);
        assert_eq!(done.code, Some(1));
        let line = done.err.lines().last().unwrap();
        assert!(
            line.starts_with(&format!("tidings: cannot listen on UDP {address}: ")),
            "{line}"
        );
    };
    failed(&[], &in_file);
    failed(&[("TIDINGS_LISTEN", &in_env)], &in_env);
    place.serve_with(
        &[("TIDINGS_LISTEN", &in_env)],
        &["--config", "tidings.toml"],
    );

    let env = [
        ("TIDINGS_LIMITS__SESSIONS", "9"),
        ("TIDINGS_CONFIG", "tidings.toml"),
    ];
    let printed = place.run_with(&env, &["config", "print"]).ok();
    for line in [
        &format!("listen = \"{in_file}\""),
        "sessions = 9",
        "channels = 8",
        "subscriptions = 512",
        "grace = 10",
    ] {
        assert!(
            printed.lines().any(|found| found == line),
            "{line}\n{printed}"
        );
    }
}

#[test]
fn configuration_in_another_directory_names_files_beside_it() {
    let place = configured();
    let away = place.path("away");
    std::fs::create_dir(&away).unwrap();
    for name in ["tls", "token.secret", "api.key", "tidings.toml"] {
        std::fs::rename(place.path(name), away.join(name)).unwrap();
    }
    let absolute = away.join("tidings.toml");
    for file in [
        "away/tidings.toml",
        "./away/../away/tidings.toml",
        absolute.to_str().unwrap(),
    ] {
        let check = ["config", "check", "--config", file];
        assert_eq!(place.run(&check).ok(), "OK\n", "{file}");
        let env = [("TIDINGS_CONFIG", file)];
        assert_eq!(
            place.run_with(&env, &["config", "check"]).ok(),
            "OK\n",
            "{file}"
        );
    }
    // What is printed means the same in every directory.
    let printed = place.run(&["config", "print", "--config", "away/tidings.toml"]);
    place.write("other/printed.toml", &printed.ok());
    let check = ["config", "check", "--config", "other/printed.toml"];
    assert_eq!(place.run(&check).ok(), "OK\n");
    // The environment is relative to the working directory.
    let env = [("TIDINGS_TLS__CHAIN", "tls/cert.pem")];
    let check = ["config", "check", "--config", "away/tidings.toml"];
    let failed = place.run_with(&env, &check);
    failed.failed(2, &["cannot read tls/cert.pem"]);
    let env = [("TIDINGS_TLS__CHAIN", "away/tls/cert.pem")];
    assert_eq!(place.run_with(&env, &check).ok(), "OK\n");
}

#[test]
fn what_is_printed_can_be_used() {
    let place = configured();
    for choice in [&[][..], &["--config", "tidings.toml"], &["--dev"]] {
        let args = [&["config", "print"], choice].concat();
        let printed = place.run(&args).ok();
        assert!(
            !printed.contains(&"k".repeat(40)) && !printed.contains(&"s".repeat(40)),
            "no secret is shown"
        );
        place.write("printed.toml", &printed);
        assert_eq!(
            place
                .run(&["config", "print", "--config", "printed.toml"])
                .ok(),
            printed
        );
    }
}

#[test]
fn every_fault_of_a_configuration_is_a_line() {
    let place = configured();
    let check = |text: &str| {
        place.write("bad.toml", text);
        let done = place.run(&["config", "check", "--config", "bad.toml"]);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
        done.err
    };
    let missing = check("");
    assert_eq!(missing.lines().count(), 3, "{missing}");
    for key in ["tls.chain", "tls.key", "auth"] {
        assert!(
            missing.contains(&format!("tidings: bad.toml: {key}: ")),
            "{missing}"
        );
    }
    let unknown = check("[limits]\nsesions = 1\n[tsl]\n");
    assert_eq!(unknown.lines().count(), 2, "{unknown}");
    assert!(
        unknown.contains(
            "tidings: bad.toml: limits.sesions: there is no such key; allowed here: channels,"
        ),
        "{unknown}"
    );
}

#[test]
fn a_server_with_a_bad_configuration_says_so_in_one_line() {
    let place = configured();
    let serve = |from: &str, to: &str, wanted: &[&str]| {
        assert!(FULL.contains(from), "{from}");
        place.write("bad.toml", &FULL.replace(from, to));
        place
            .run(&["serve", "--config", "bad.toml"])
            .failed(2, wanted);
    };
    serve(
        "[http]",
        "[htpt]",
        &["bad.toml: htpt: there is no such key; allowed here: auth, http,"],
    );
    serve(
        "tls/cert.pem",
        "tls/gone.pem",
        &["bad.toml: tls: cannot read tls/gone.pem: "],
    );
    serve(
        "\"api.key\"",
        "\"gone.key\"",
        &["bad.toml: http.api_key_file: cannot read gone.key: "],
    );
    serve(
        "HS256",
        "none",
        &["bad.toml: auth.keys[0].algorithm: ", "HS256"],
    );
    serve(
        "\"authenticated\"",
        "\"members\"",
        &["rules[0].subscribe: ", "everyone", "authenticated"],
    );
    serve(
        "    [http]\n",
        "    [http]\n    api_key = \"x\"\n",
        &["http.api_key: the key itself does not belong into the file"],
    );
    serve(
        "[http]\n    listen = \"127.0.0.1:0\"",
        "[http]\n    listen = 4433",
        &[
            "bad.toml: http.listen: ",
            "4433",
            "expected an IP address with a port",
        ],
    );
    place.run(&["cert", "--out", "other"]).ok();
    serve(
        "tls/key.pem",
        "other/key.pem",
        &[
            "bad.toml: tls: tls/cert.pem and other/key.pem: the private key does not belong to the certificate",
        ],
    );
    place.write("short.secret", "short");
    serve(
        "token.secret",
        "short.secret",
        &[
            "auth.keys[0].secret_file: short.secret: ",
            "32 random bytes",
        ],
    );
    place
        .run(&["serve", "--config", "gone.toml"])
        .failed(2, &["cannot read gone.toml"]);
    place.run(&["serve"]).failed(
        2,
        &[
            "tls.chain: it is missing",
            "(and 2 more: `tidings config check` lists all)",
        ],
    );
    let env = [("TIDINGS_LIMITS__SESSIONS", "many")];
    place.run_with(&env, &["serve", "--dev"]).failed(
        2,
        &["TIDINGS_LIMITS__SESSIONS: sessions: \"many\" is no whole number"],
    );
}
