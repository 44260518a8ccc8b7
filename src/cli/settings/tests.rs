use std::{collections::HashMap, fs, path::PathBuf};

use super::*;

mod files;
mod limits;

/// A file with this text, and where it is for as long as the directory lives.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidings.toml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

fn env(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let (_directory, path) = file(text);
    read::load(Some(path), &env(pairs))
}

#[track_caller]
fn complaint(text: &str, pairs: &[(&str, &str)]) -> String {
    let mut problems = load(text, pairs).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn the_environment_goes_before_the_file_and_that_before_the_defaults() {
    let loaded = load(
        "listen = \"127.0.0.1:1\"\n[limits]\nsessions = 5\nchannels = 6",
        &[
            ("TIDINGS_LISTEN", "127.0.0.1:2"),
            ("TIDINGS_LIMITS__CHANNELS", "7"),
            ("TIDINGS_ORIGINS", "https://a.example, https://b.example"),
            ("TIDINGS_AUTH__ISSUER", "42"),
            ("TIDINGS_AUTH__ANONYMOUS", "true"),
            ("TIDINGS_HTTP__LISTEN", "127.0.0.1:3"),
            (
                "TIDINGS_RULES",
                r#"[{ pattern = "a", subscribe = "everyone", publish = "nobody" }]"#,
            ),
            ("TIDINGS_LOG__LEVEL", ""),
        ],
    )
    .unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.listen, "127.0.0.1:2".parse().ok());
    assert_eq!(
        (settings.limits.sessions.0, settings.limits.channels.0),
        (5, 7)
    );
    assert_eq!(settings.limits.subscriptions.0, 512);
    assert_eq!(settings.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(settings.auth.issuer.as_deref(), Some("42"));
    assert!(settings.auth.anonymous);
    assert_eq!(settings.http.unwrap().listen, "127.0.0.1:3".parse().ok());
    assert_eq!(settings.rules.unwrap()[0].pattern, "a");
    assert_eq!(settings.log.level, "info");
}

#[test]
fn variables_that_are_no_settings_are_left_alone() {
    let variables: Vec<_> = read::NOT_SETTINGS
        .iter()
        .chain(&[
            "TIDINGS_PORT",
            "TIDINGS_PORT_4433_UDP",
            "TIDINGS_SERVICE_HOST",
            "NO_COLOR",
        ])
        .map(|name| (*name, "something"))
        .collect();
    let loaded = load("", &variables).unwrap();
    assert_eq!(loaded.api_key.as_deref(), Some("something"));
    assert_eq!(
        loaded.settings,
        Settings {
            http: Some(schema::Http::default()),
            ..Settings::default()
        }
    );
}

#[test]
fn what_is_unknown_is_named_with_what_is_allowed() {
    for (text, pairs, wanted) in [
        (
            "[limits]\nsesions = 5",
            &[][..],
            "limits.sesions: there is no such key; allowed here: channels, hard_handshakes, memory, message, session_channels, sessions, sessions_per_address, sessions_per_user, soft_handshakes, subscriptions, tcp_connections, user_channels, user_memory",
        ),
        (
            "listne = 5",
            &[],
            "tidings.toml: listne: there is no such key; allowed here: auth, http, limits, listen,",
        ),
        (
            "[[auth.keys]]\nalgorithm = \"HS256\"\nsecret = \"x\"",
            &[],
            "auth.keys[0].secret: there is no such key; allowed here: algorithm, id, public_key_file, secret_file",
        ),
        (
            "[http]\napi_key = \"x\"",
            &[],
            "http.api_key: the key itself does not belong into the file",
        ),
        (
            "",
            &[("TIDINGS_LISTNE", "x")],
            "TIDINGS_LISTNE: there is no key \"listne\"; allowed here: auth,",
        ),
        (
            "",
            &[("TIDINGS_LIMITS__SESIONS", "5")],
            "TIDINGS_LIMITS__SESIONS: there is no key \"sesions\"; allowed here: channels,",
        ),
        (
            "",
            &[("TIDINGS_LIMITS", "5")],
            "TIDINGS_LIMITS: limits is a section",
        ),
        (
            "",
            &[("TIDINGS_LISTEN__PORT", "5")],
            "TIDINGS_LISTEN__PORT: listen has no keys of its own",
        ),
    ] {
        let found = complaint(text, pairs);
        assert!(found.contains(wanted), "{found}");
    }
    let two = load("a = 1\nb = 2", &[]).unwrap_err();
    assert_eq!(two.len(), 2, "each is told: {two:?}");
}

#[test]
fn a_value_that_does_not_fit_is_named_with_what_does() {
    for (text, pairs, wanted) in [
        (
            "listen = \"localhost\"",
            &[][..],
            "tidings.toml: listen: \"localhost\" is no IP address with a port, such as",
        ),
        (
            "[limits]\nsessions = 0",
            &[],
            "limits.sessions: invalid value: integer `0`, expected a whole number from 1 to",
        ),
        (
            "[limits]\nsessions = \"ten\"",
            &[],
            "limits.sessions: invalid type: string \"ten\", expected a whole number from 1 to",
        ),
        (
            "[timeouts]\ngrace = -1",
            &[],
            "timeouts.grace: invalid value: integer `-1`",
        ),
        (
            "[limits]\nsessions = 5\n[auth]\nanonymous = \"yes\"",
            &[],
            "auth.anonymous: invalid type: string \"yes\", expected a boolean",
        ),
        (
            "[[rules]]\npattern = \"a\"\nsubscribe = \"all\"\npublish = \"nobody\"",
            &[],
            "rules[0].subscribe: unknown variant `all`, expected one of `everyone`, `authenticated`, `owner`, `nobody`",
        ),
        (
            "[[rules]]\npattern = \"a\"\npublish = \"nobody\"",
            &[],
            "rules[0]: missing field `subscribe`",
        ),
        (
            "[[auth.keys]]\nalgorithm = \"none\"",
            &[],
            "auth.keys[0].algorithm: unknown variant `none`, expected one of `HS256`",
        ),
        ("listen = ", &[], "tidings.toml: line 1: this is no TOML"),
        ("\n\na = 1\na = 2", &[], "line 4: this is no TOML"),
        (
            "",
            &[("TIDINGS_LISTEN", "nowhere")],
            "TIDINGS_LISTEN: listen: \"nowhere\" is no IP address",
        ),
        (
            "",
            &[("TIDINGS_LIMITS__SESSIONS", "many")],
            "TIDINGS_LIMITS__SESSIONS: sessions: \"many\" is no whole number",
        ),
        (
            "",
            &[("TIDINGS_LIMITS__SESSIONS", "0")],
            "TIDINGS_LIMITS__SESSIONS: limits.sessions: invalid value: integer `0`",
        ),
        (
            "",
            &[("TIDINGS_AUTH__ANONYMOUS", "yes")],
            "TIDINGS_AUTH__ANONYMOUS: anonymous: \"yes\" is neither true nor false",
        ),
        (
            "",
            &[("TIDINGS_RULES", "global")],
            "TIDINGS_RULES: rules: this is no list of TOML",
        ),
        (
            "limits = 5",
            &[("TIDINGS_LIMITS__SESSIONS", "5")],
            "limits: invalid type: integer `5`",
        ),
    ] {
        let found = complaint(text, pairs);
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = PathBuf::from("no/such/tidings.toml");
    let problems = read::load(Some(missing), &HashMap::new()).unwrap_err();
    assert!(
        problems[0].contains("cannot read no/such/tidings.toml: "),
        "{problems:?}"
    );
}

#[test]
fn what_is_missing_to_serve_is_told_with_the_line_to_add() {
    let problems = load("[http]\nlisten = \"127.0.0.1:0\"", &[])
        .unwrap()
        .plan()
        .unwrap_err();
    let all = problems.join("\n");
    for wanted in [
        "tls.chain: it is missing: add `chain = \"fullchain.pem\"` to [tls]",
        "tls.key: it is missing: add `key = \"privkey.pem\"` to [tls]",
        "auth: nothing says who may connect: add a key such as `keys = [{ algorithm = \"HS256\", secret_file = \"token.secret\" }]` to [auth]",
        "http.api_key_file: it is missing: add `api_key_file = \"api.key\"` to [http]",
    ] {
        assert!(all.contains(wanted), "{all}");
    }
    assert_eq!(problems.len(), 4);
}

#[test]
fn what_contradicts_itself_is_told() {
    let text = r#"
        origins = ["example.org"]
        workers = 256
        [auth]
        leeway_seconds = 4000
        keys = [{ algorithm = "HS256", public_key_file = "x" }, { algorithm = "ES256" }, { algorithm = "ES256", public_key_file = "gone.pem" }]
        [limits]
        soft_handshakes = 10
        hard_handshakes = 5
        [log]
        level = "loud=="
        [[rules]]
        pattern = "a{"
        subscribe = "everyone"
        publish = "nobody"
    "#;
    let all = load(text, &[]).unwrap().plan().unwrap_err().join("\n");
    for wanted in [
        "origins[0]: \"example.org\" is no origin",
        "workers: 256 is above 255, the most threads that serve",
        "auth.leeway_seconds: 4000 is too much: at most 3600",
        "auth.keys[0].public_key_file: HS256 takes a secret_file instead",
        "auth.keys[1].public_key_file: it is missing: ES256 needs",
        "auth.keys[2].public_key_file: cannot read ",
        "limits.soft_handshakes: 10 is above limits.hard_handshakes, 5",
        "log.level: \"loud==\" is no filter",
        "rules[0].pattern: in the pattern \"a{\": a brace has no partner",
    ] {
        assert!(all.contains(wanted), "{wanted}\n--\n{all}");
    }
    let rules = "[[rules]]\npattern = \"a\"\nsubscribe = \"owner\"\npublish = \"nobody\"";
    let all = load(rules, &[]).unwrap().plan().unwrap_err().join("\n");
    assert!(
        all.contains("rules: the rule for \"a\": \"owner\" needs the variable {user}"),
        "{all}"
    );
}

#[test]
fn delivery_by_datagram_is_what_its_keys_are_for() {
    let rule = |more: &str| {
        format!(
            "[[rules]]\npattern = \"a\"\nsubscribe = \"everyone\"\npublish = \"nobody\"\n{more}"
        )
    };
    for (more, wanted) in [
        (
            "delivery = \"pigeon\"",
            "rules[0].delivery: unknown variant `pigeon`, expected `stream` or `datagram`",
        ),
        (
            "keyframe_messages = 5",
            "rules[0].keyframe_messages: it needs `delivery = \"datagram\"`",
        ),
        (
            "keyframe_interval_milliseconds = 5",
            "rules[0].keyframe_interval_milliseconds: it needs",
        ),
        (
            "delivery = \"datagram\"\nkeyframe_messages = 0",
            "rules[0].keyframe_messages: invalid value: integer `0`, expected a whole number from 1",
        ),
        (
            "delivery = \"datagram\"\nkeyframe_messages = 5000000000",
            "rules[0].keyframe_messages: 5000000000 is above 4294967295",
        ),
        (
            "delivery = \"datagram\"\nkeyframe_interval_milliseconds = 0",
            "rules[0].keyframe_interval_milliseconds: invalid value",
        ),
        (
            "delivery = \"datagram\"\non_lag = \"cut\"",
            "rules: the rule for \"a\": by datagram the newest",
        ),
        (
            "delivery = \"datagram\"\nmax_age_milliseconds = 5",
            "rules: the rule for \"a\": by datagram the newest",
        ),
    ] {
        let told = match load(&rule(more), &[]) {
            Ok(loaded) => loaded.plan().unwrap_err().join("\n"),
            Err(problems) => problems.join("\n"),
        };
        assert!(told.contains(wanted), "{more}: {wanted}\n--\n{told}");
    }
    let good =
        "delivery = \"datagram\"\nkeyframe_messages = 5\nkeyframe_interval_milliseconds = 250";
    let all = load(&rule(good), &[])
        .unwrap()
        .plan()
        .unwrap_err()
        .join("\n");
    assert!(!all.contains("rules"), "{all}");
}

#[test]
fn what_is_printed_reads_as_the_same() {
    let all = Settings::specimen();
    let text = toml::to_string(&all).unwrap();
    let (directory, path) = file(&text);
    let read = read::load(Some(path), &HashMap::new()).unwrap().settings;
    // Relative paths are those of the file.
    let text = toml::to_string(&read).unwrap();
    let below = format!("{}/", directory.path().display());
    let text = text.replace(&below, "");
    assert_eq!(text, toml::to_string(&all).unwrap());
    for settings in [Settings::default(), {
        let mut settings = Settings::default();
        settings.fill_for_development();
        settings
    }] {
        let effective = settings.effective().absolute();
        let text = toml::to_string(&effective).unwrap();
        let read = load(&text, &[]).unwrap().settings;
        assert_eq!(read, effective);
        assert_eq!(read.effective(), effective, "nothing is left to fill in");
    }
}

#[test]
fn the_defaults_are_those_of_the_library() {
    let debug = format!("{:?}", crate::server::Server::builder());
    assert!(
        debug.contains(&format!("listen: {}", Settings::LISTEN)),
        "{debug}"
    );
}
