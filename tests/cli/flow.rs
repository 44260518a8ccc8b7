//! A server, its subscribers and its publishers, as the README shows them.

use serde_json::{Value, json};

use crate::harness::{Place, mode};

/// Takes what differs from run to run out of a line, after a look at it.
fn timeless(mut line: Value) -> Value {
    let epoch = line["epoch"].as_str().unwrap();
    assert!(
        epoch.len() == 16 && epoch.bytes().all(|b| b.is_ascii_hexdigit()),
        "{line}"
    );
    assert!(
        line["timestamp"].as_u64().unwrap() > 1_600_000_000_000,
        "{line}"
    );
    let line_map = line.as_object_mut().unwrap();
    line_map.remove("epoch");
    line_map.remove("timestamp");
    line
}

#[test]
fn announce_reaches_everybody_and_notify_one_user() {
    let place = Place::new();
    let _server = place.serve();
    for scheme in ["quic", "webtransport", "websocket", "plain_websocket"] {
        let url = place.address(scheme);
        let phone = place.sub(&["--user", "42", "--json", "--url", &url]);
        let other = place.sub(&["--user", "43", "--json", "--url", &url]);
        let announced = place.run(&["announce", "hello, everybody"]).ok();
        assert!(
            announced.starts_with("global ") && announced.contains(':'),
            "{announced}"
        );
        let notified = place.run(&["notify", "42", "your order shipped"]).ok();
        assert!(notified.starts_with("user-42 "), "{notified}");
        place.run(&["notify", "43", "not yours"]).ok();
        let offset = phone.json()["offset"].clone();
        let from_global = json!({"channel": "global", "offset": offset, "kind": "announcement", "text": "hello, everybody", "user": null});
        assert_eq!(timeless(other.json()), from_global);
        let to = |user: &str, text: &str| json!({"channel": format!("user-{user}"), "offset": offset, "kind": "notification", "text": text, "user": null});
        assert_eq!(timeless(phone.json()), to("42", "your order shipped"));
        // The first thing that the other user gets besides is the other user's.
        assert_eq!(timeless(other.json()), to("43", "not yours"));
    }
}

#[test]
fn a_room_gets_what_is_published_over_either_way() {
    let place = Place::new();
    let _server = place.serve();
    let room = place.sub(&["chat-room-7", "--user", "42", "--json"]);
    let human = place.sub(&["chat-room-7", "--only", "--user", "43", "--count", "3"]);
    let first = place.run(&["pub", "chat-room-7", "hi"]).ok();
    let second = place
        .run(&["pub", "chat-room-7", "hi too", "--user", "7"])
        .ok();
    let token = place.run(&["token", "--user", "8"]).ok();
    let typed = place.run(&[
        "pub",
        "chat-room-7",
        "{}",
        "--content-type",
        "application/x-own",
        "--token",
        token.trim(),
    ]);
    typed.ok();
    let epoch = first
        .strip_prefix("chat-room-7 ")
        .unwrap()
        .strip_suffix(":1\n")
        .unwrap();
    assert_eq!(second, format!("chat-room-7 {epoch}:2\n"));
    let line = room.json();
    assert_eq!(line["epoch"], epoch);
    assert_eq!(
        timeless(line),
        json!({"channel": "chat-room-7", "offset": 1, "kind": "data", "text": "hi", "user": null})
    );
    assert_eq!(
        timeless(room.json()),
        json!({"channel": "chat-room-7", "offset": 2, "kind": "data", "text": "hi too", "user": "7"})
    );
    assert_eq!(
        timeless(room.json()),
        json!({"channel": "chat-room-7", "offset": 3, "kind": "data", "content_type": "application/x-own", "data": "e30=", "user": "8"})
    );
    let human = human.end();
    assert_eq!(
        (human.code, human.out.as_str()),
        (
            Some(0),
            "chat-room-7 #1 data  hi\nchat-room-7 #2 data from 7  hi too\nchat-room-7 #3 data from 8  <application/x-own, 2 bytes>\n"
        )
    );
}

#[test]
fn each_line_of_standard_input_is_a_message() {
    let place = Place::new();
    let _server = place.serve();
    let room = place.sub(&["chat-room-7", "--only", "--user", "42", "--count", "6"]);
    for way in [
        &["pub", "chat-room-7", "-"][..],
        &["pub", "chat-room-7", "-", "--user", "42"],
    ] {
        let printed = place.run_on("one\r\n\nthree", way).ok();
        assert_eq!(printed.lines().count(), 3, "{printed}");
    }
    let texts: Vec<_> = room
        .end()
        .out
        .lines()
        .map(|line| line.split_once("  ").unwrap().1.to_owned())
        .collect();
    assert_eq!(texts, ["one", "", "three", "one", "", "three"]);
}

#[test]
fn a_count_ends_a_subscriber_and_what_is_beyond_it_is_not_printed() {
    let place = Place::new();
    let _server = place.serve();
    let reader = place.sub(&["--user", "42", "--count", "2"]);
    place.run(&["announce", "1"]).ok();
    let human = place.sub(&["--user", "42", "--count", "1"]);
    place.run(&["notify", "42", "2\u{1b}[2J"]).ok();
    place.run(&["announce", "3"]).ok();
    let done = reader.end();
    assert_eq!(
        (done.code, done.out.as_str()),
        (
            Some(0),
            "global #1 announcement  1\nuser-42 #1 notification  2\\u{1b}[2J\n"
        )
    );
    assert_eq!(human.end().code, Some(0));
}

#[test]
fn only_leaves_out_what_the_server_gives_unasked() {
    let place = Place::new();
    let _server = place.serve();
    let reader = place.start(&[
        "sub",
        "chat-room-1",
        "chat-room-1",
        "--only",
        "--user",
        "42",
        "--count",
        "1",
    ]);
    assert_eq!(
        reader.err_until("subscribed"),
        "subscribed to chat-room-1 as 42"
    );
    let all = place.start(&["sub", "global", "chat-room-1", "--user", "42"]);
    assert_eq!(
        all.err_until("subscribed"),
        "subscribed to global, chat-room-1, user-42 as 42"
    );
    place.run(&["announce", "no"]).ok();
    place.run(&["pub", "chat-room-1", "yes"]).ok();
    assert_eq!(reader.end().out, "chat-room-1 #1 data  yes\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::new();
    let _server = place.serve();
    let mut reader = place.sub(&["--user", "42"]);
    reader.close_out();
    // The pipe closes with the first line that nobody takes, and the next one finds it so.
    let mut sent = 0;
    let done = std::thread::scope(|scope| {
        let ended = scope.spawn(|| reader.end());
        while !ended.is_finished() {
            place.run(&["announce", "hello"]).ok();
            sent += 1;
            assert!(sent < 100, "it does not end");
        }
        ended.join().unwrap()
    });
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
}

#[test]
fn a_connection_that_breaks_is_made_again_and_the_gap_is_told() {
    let place = Place::new();
    let server = place.serve();
    let address = place.address("quic");
    let reader = place.sub(&["--user", "42", "--json"]);
    place.run(&["announce", "before"]).ok();
    assert_eq!(reader.json()["text"], "before");
    server.signal("TERM");
    assert_eq!(server.end().code, Some(0));
    reader.err_until("connection lost: ");
    // The same port over TCP may be some client's meanwhile.
    let without = [("TIDINGS_WEBSOCKETS", "false")];
    let again = ["--listen", address.strip_prefix("quic://").unwrap()];
    let _server = place.serve_with(&without, &again);
    reader.err_until("connected again");
    let gap = reader.json();
    assert_eq!(
        (&gap["kind"], &gap["missed"]),
        (&json!("break"), &Value::Null)
    );
    let keys: Vec<_> = gap
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, ["after", "before", "channel", "kind", "missed"]);
}

#[test]
fn a_subscriber_begins_where_it_is_told_to() {
    let place = Place::new();
    let _server = place.serve();
    for number in ["1", "2", "3"] {
        place.run(&["pub", "chat-room-7", number]).ok();
    }
    let begin = |more: &[&str]| {
        let args = [&["chat-room-7", "--only", "--user", "42", "--json"], more].concat();
        place.sub(&args)
    };
    let latest = begin(&["--latest", "2", "--count", "2"]);
    let second = latest.json();
    assert_eq!(
        (&second["offset"], &second["text"]),
        (&json!(2), &json!("2"))
    );
    assert_eq!(latest.json()["text"], "3");
    assert_eq!(latest.end().code, Some(0));
    let epoch = second["epoch"].as_str().unwrap();
    let since = begin(&["--since", &format!("{epoch}:1"), "--count", "3"]);
    assert_eq!(
        (&since.json()["text"], &since.json()["text"]),
        (&json!("2"), &json!("3"))
    );
    place.run(&["pub", "chat-room-7", "4"]).ok();
    assert_eq!(since.json()["text"], "4");
    let done = since.end();
    assert_eq!(
        (done.code, done.err.as_str()),
        (Some(0), ""),
        "nothing is missing"
    );
    let other = "00c0ffee00c0ffee:1";
    let lost = begin(&["--since", other]);
    let told = lost.err_until("does not have all that follows");
    assert!(
        told.contains(other) && told.contains(&format!("after {epoch}:4")),
        "{told}"
    );
    place.run(&["pub", "chat-room-7", "5"]).ok();
    assert_eq!(lost.json()["text"], "5");
}

#[test]
fn history_prints_what_is_kept() {
    let place = Place::new();
    let _server = place.serve();
    let history = |more: &[&str]| {
        let args = [&["history", "chat-room-7", "--user", "42"], more].concat();
        place.run(&args)
    };
    assert_eq!(history(&[]).ok(), "");
    // More than a page.
    let lines: Vec<_> = (1..=300).map(|number| number.to_string()).collect();
    place
        .run_on(&lines.join("\n"), &["pub", "chat-room-7", "-"])
        .ok();
    let line = |number: &u64| format!("chat-room-7 #{number} data  {number}\n");
    let all: Vec<_> = (1..=300).collect();
    let print = |numbers: &[u64]| numbers.iter().map(line).collect::<String>();
    assert_eq!(history(&[]).ok(), print(&all));
    assert_eq!(history(&["--last", "2"]).ok(), print(&[299, 300]));
    assert_eq!(
        history(&["--last", "2", "--reverse"]).ok(),
        print(&[300, 299])
    );
    let newest: Value = serde_json::from_str(&history(&["--last", "1", "--json"]).ok()).unwrap();
    let epoch = newest["epoch"].as_str().unwrap();
    let since = |offset: u64| format!("{epoch}:{offset}");
    assert_eq!(history(&["--since", &since(298)]).ok(), print(&[299, 300]));
    assert_eq!(
        history(&["--since", &since(298), "--reverse"]).ok(),
        print(&[300, 299])
    );
    history(&["--since", &since(301)]).failed(
        1,
        &[
            "chat-room-7: the server does not have all that follows",
            "#1 to #300",
            "without --since",
        ],
    );
    place
        .run(&["history", "user-7", "--user", "42"])
        .failed(1, &["user-7: ", "permission_denied (203)"]);
}

#[test]
fn presence_prints_who_is_there_and_sub_who_comes_and_goes() {
    let place = Place::new();
    let rule = "[[rules]]\npattern = \"room\"\nsubscribe = \"authenticated\"\npublish = \"authenticated\"\n";
    let rules = format!("{rule}presence = true\n{}", rule.replace("room", "quiet"));
    place.write("tidings.toml", &rules);
    let _server = place.serve_with(&[], &["--config", "tidings.toml"]);
    let ask = |more: &[&str]| {
        let args = [&["presence", "room", "--user", "43"][..], more].concat();
        place.run(&args)
    };
    assert_eq!(ask(&[]).ok(), "room  connections: 0, users: 0\n");
    let first = place.start(&["sub", "room", "--user", "42"]);
    assert_eq!(
        first.out_until("presence"),
        "room #1 presence  joined: 42; connections: 1, users: 1"
    );
    let second = place.start(&["sub", "room", "--user", "42", "--json"]);
    let line = second.json();
    assert_eq!(
        (&line["kind"], &line["user"]),
        (&json!("presence"), &json!(null))
    );
    let told = &line["presence"];
    assert_eq!(
        (&told["connections"], &told["users"]),
        (&json!(2), &json!(1))
    );
    let id = told["joined"][0]["id"].as_str().unwrap();
    let lines = ask(&[]).ok();
    let mut lines = lines.lines();
    assert_eq!(lines.next(), Some("room  connections: 2, users: 1"));
    assert_eq!(lines.clone().count(), 2);
    assert!(lines.any(|line| line == format!("42 {id}")));
    let page: Value = serde_json::from_str(&ask(&["--json", "--limit", "1"]).ok()).unwrap();
    assert_eq!(
        (&page["channel"], &page["epoch"], &page["offset"]),
        (&json!("room"), &line["epoch"], &json!(2))
    );
    assert_eq!(page["members"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&page["complete"], &page["connections"]),
        (&json!(false), &json!(2))
    );
    second.signal("INT");
    assert_eq!(
        first.out_until("left"),
        "room #3 presence  left: 42; connections: 1, users: 1"
    );
    place
        .run(&["presence", "quiet", "--user", "43"])
        .failed(1, &["quiet: ", "permission_denied (203)", "no presence"]);
}

#[test]
fn a_token_says_what_it_allows() {
    let place = Place::new();
    let _server = place.serve();
    let token = |more: &[&str]| {
        let args = [&["token", "--user", "42", "--for", "10m"], more].concat();
        place.run(&args).ok().trim().to_owned()
    };
    let wide = token(&["--publish", "topic-{any}", "--subscribe", "secret"]);
    place.run(&["pub", "topic-x", "hi", "--token", &wide]).ok();
    place.sub(&["secret", "--token", &wide]);
    let narrow = token(&[
        "--deny-publish",
        "chat-room-7",
        "--deny-subscribe",
        "global",
    ]);
    place
        .run(&["pub", "chat-room-7", "hi", "--token", &narrow])
        .failed(1, &["chat-room-7: ", "permission_denied (203)"]);
    let reader = place.start_with(&[("TIDINGS_TOKEN", &narrow)], &["sub"]);
    assert_eq!(
        reader.err_until("subscribed"),
        "subscribed to user-42 as 42"
    );
}

#[test]
fn whoever_may_come_in_without_a_token_can_be_configured() {
    let place = Place::new();
    let _server = place.serve_with(&[("TIDINGS_AUTH__ANONYMOUS", "true")], &[]);
    let reader = place.start(&["sub"]);
    assert_eq!(reader.err_until("subscribed"), "subscribed to global");
}

#[test]
fn what_is_made_for_development_is_private_and_kept() {
    let place = Place::new();
    let names = ["cert.pem", "key.pem", "token.secret", "api.key"];
    let look = || {
        let directory = place.path("certs/dev");
        assert_eq!(mode(&directory), 0o700);
        for name in names.iter().chain(&["server.json"]) {
            assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
        }
        let found = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(found, names.len() + 1, "no draft is left behind");
        names.map(|name| place.read(&format!("certs/dev/{name}")))
    };
    let server = place.serve();
    let made = look();
    assert!(made[2].trim().len() >= 32 && made[3].trim().len() >= 32 && made[2] != made[3]);
    let json = place.server();
    let keys: Vec<_> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "certificate_sha256",
            "http",
            "pid",
            "plain_websocket",
            "quic",
            "websocket",
            "webtransport"
        ]
    );
    assert_eq!(json["pid"], server.pid());
    let hash = place.run(&["cert", "--hash", "certs/dev/cert.pem"]).ok();
    assert_eq!(json["certificate_sha256"], hash.trim());
    let port = json["quic"].as_str().unwrap().rsplit(':').next().unwrap();
    assert_eq!(
        json["webtransport"],
        format!("https://127.0.0.1:{port}/tidings")
    );
    server.signal("INT");
    assert_eq!(server.end().code, Some(0));
    assert!(
        !place.path("certs/dev/server.json").exists(),
        "it is gone with the server"
    );

    // What others could read meanwhile is taken away from them again.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(place.path("certs/dev/api.key"), open).unwrap();
    let _server = place.serve();
    assert_eq!(look(), made);
}
