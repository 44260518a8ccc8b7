//! `tidings bench`: its figures, what makes a run void, and how it ends.

use serde_json::{Value, json};

use crate::harness::{Done, Place, Running};

impl Place {
    /// A run that goes on, its first channel, and a reader of that channel, once publications come.
    fn bench(&self, args: &[&str]) -> (Running, String, Running) {
        let base = [
            "bench",
            "--clients",
            "3",
            "--channels",
            "3",
            "--warmup",
            "0",
        ];
        let args = [&base, args].concat();
        let bench = self.start(&args);
        let line = bench.err_until(" channels, ");
        let channel = line
            .split([' ', ','])
            .find(|word| word.starts_with("chat-room-bench-"))
            .unwrap()
            .to_owned();
        let reader = self.start(&["sub", &channel, "--only", "--json", "--user", "42"]);
        reader.line();
        (bench, channel, reader)
    }
}

impl Done {
    /// The report, of a run that ended so.
    #[track_caller]
    fn report(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

#[track_caller]
fn number(report: &Value, path: &str) -> f64 {
    let found = report.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number {path} in {report}"))
}

#[test]
fn every_delivery_of_a_timetable_is_timed_and_counted() {
    let place = Place::new();
    let server = place.serve();
    for transport in ["quic", "webtransport", "websocket"] {
        let args = [
            "bench",
            "--json",
            "--plot",
            "latency.svg",
            "--transport",
            transport,
            "--clients",
            "6",
            "--subscriptions",
            "2",
            "--channels",
            "4",
            "--publishers",
            "2",
            "--rate",
            "200",
            "--size",
            "300",
            "--warmup",
            "0.5",
            "--duration",
            "1",
        ];
        let report = place.run(&args).report(0);
        let load = json!({
            "run": report["load"]["run"], "url": place.address(transport), "transport": transport,
            "clients": 6, "subscriptions": 2, "channels": 4, "publishers": 2, "size": 300,
            "rate": 200.0, "window": null, "warmup_seconds": 0.5, "duration_seconds": 1.0,
        });
        assert_eq!(report["load"], load);
        // The timetable has 300 publications in 1.5 s, and 12 subscriptions to 4 channels make 3 of each.
        let published = &report["published"];
        for key in ["total", "acknowledged"] {
            assert_eq!(published[key], 300, "{report}");
        }
        for key in ["refused", "unanswered", "unsent"] {
            assert_eq!(published[key], 0, "{report}");
        }
        let deliveries = &report["deliveries"];
        assert_eq!(
            (&deliveries["total"], &deliveries["expected"]),
            (&json!(900), &json!(900))
        );
        let faults = json!({"gaps": 0, "duplicates": 0, "disorder": 0, "foreign": 0, "lagged": 0, "breaks": 0, "lost": {}});
        assert_eq!(report["faults"], faults);
        assert_eq!(
            (&report["void"], &report["interrupted"]),
            (&json!(false), &json!(false))
        );
        // What is due in the warm-up is not timed.
        let latency = &report["latency"];
        assert_eq!(
            (&latency["count"], &latency["from"]),
            (&json!(600), &json!("timetable"))
        );
        assert_eq!(report["send_delay"]["count"], 200);
        let times = ["min_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"]
            .map(|key| latency[key].as_f64().unwrap());
        assert!(times.is_sorted() && times[0] > 0.0, "{latency}");
        // Both are counts between two looks at the clock, a second apart.
        for (rate, wanted) in [
            ("/published/per_second", 200.0),
            ("/deliveries/per_second", 600.0),
        ] {
            let rate = number(&report, rate);
            assert!((wanted * 0.5..wanted * 2.0).contains(&rate), "{report}");
        }
        assert_eq!(report["server"]["pid"], server.pid());
        if cfg!(target_os = "linux") {
            assert!(number(&report, "/server/cpu_us_per_delivery") > 0.0);
            assert!(number(&report, "/server/memory_after") > 1e6);
            assert!(number(&report, "/client_cores") > 0.0);
        }
        let svg = place.read("latency.svg");
        well_formed(&svg);
        for text in [
            "Latency by percentile",
            "p50 ",
            "p99 ",
            "300 bytes to 6 clients",
        ] {
            assert!(svg.contains(text), "{text:?} is missing in {svg}");
        }
    }
}

#[test]
fn people_get_a_line_for_each_figure() {
    let place = Place::new();
    let _server = place.serve();
    let done = place.run(&[
        "bench",
        "--clients",
        "4",
        "--duration",
        "0.5",
        "--warmup",
        "0",
        "--plot",
        "latency.svg",
    ]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for text in [
        "1000 publications/s by a timetable (open loop), 128 bytes each, for 0.5 s",
        "5 over quic in ",
        "p99.9 ",
        "from the time each publication was due",
        "0 gaps, 0 duplicates, 0 out of order",
        "deliveries came",
    ] {
        assert!(
            done.out.contains(text),
            "{text:?} is missing in {}",
            done.out
        );
    }
    if cfg!(target_os = "linux") {
        assert!(done.out.contains(" µs per delivery"), "{}", done.out);
        assert!(done.out.contains(" KiB per connection: "), "{}", done.out);
    }
    assert!(
        done.err
            .contains("4 clients, each with 1 subscription of 10 channels"),
        "{done:?}"
    );
    assert!(
        done.err.contains("latency by percentile: latency.svg"),
        "{done:?}"
    );
}

#[test]
fn as_fast_as_possible_is_a_closed_loop_that_nobody_falls_out_of() {
    let place = Place::new();
    let _server = place.serve();
    for transport in ["quic", "webtransport", "websocket"] {
        let args = [
            "bench",
            "--json",
            "--rate",
            "max",
            "--window",
            "8",
            "--transport",
            transport,
            "--clients",
            "4",
            "--subscriptions",
            "3",
            "--channels",
            "3",
            "--warmup",
            "0",
            "--duration",
            "1",
        ];
        let report = place.run(&args).report(0);
        let total = number(&report, "/published/total");
        // A closed loop turns often in a second, and a full window at least once.
        assert!(total > 8.0, "{report}");
        assert_eq!(
            number(&report, "/deliveries/total"),
            4.0 * total,
            "{report}"
        );
        assert_eq!(report["latency"]["from"], "send");
        assert_eq!(
            (&report["load"]["rate"], &report["load"]["window"]),
            (&Value::Null, &json!(8))
        );
        assert_eq!(report["send_delay"], Value::Null);
    }
}

#[test]
fn an_interrupt_ends_a_run_with_a_report_of_its_part() {
    let place = Place::new();
    let _server = place.serve();
    let (bench, _, _reader) = place.bench(&["--json", "--duration", "600"]);
    bench.signal("INT");
    let done = bench.end();
    let report = done.report(1);
    assert_eq!(
        (&report["interrupted"], &report["void"]),
        (&json!(true), &json!(false)),
        "{report}"
    );
    assert_eq!(
        report["deliveries"]["total"],
        report["deliveries"]["expected"]
    );
    assert!(number(&report, "/seconds") < 599.0 && number(&report, "/deliveries/total") > 0.0);
    assert!(done.err.contains("tidings: interrupted: "), "{done:?}");
    assert!(done.err.contains(" of 600 s were measured"), "{done:?}");
}

#[test]
fn what_somebody_else_publishes_makes_a_run_void() {
    let place = Place::new();
    let _server = place.serve();
    let (bench, channel, reader) = place.bench(&["--json", "--duration", "600"]);
    place
        .run(&["pub", &channel, "not of this run", "--user", "7"])
        .ok();
    while reader.json()["text"] != "not of this run" {}
    // One of the run after it: so it has been delivered before the last.
    reader.line();
    bench.signal("INT");
    let done = bench.end();
    let report = done.report(3);
    assert_eq!(report["void"], true);
    assert_eq!(
        (&report["faults"]["foreign"], &report["faults"]["gaps"]),
        (&json!(1), &json!(0)),
        "{report}"
    );
    assert_eq!(
        report["reasons"],
        json!(["1 deliveries are of somebody else"])
    );
    let first = report["first_fault"].as_str().unwrap();
    assert!(
        first.contains(&channel) && first.contains("user 7 published it"),
        "{first}"
    );
    assert!(done.err.contains("tidings: the run is VOID: "), "{done:?}");
}

#[test]
fn a_server_that_goes_away_makes_a_run_void_at_once() {
    let place = Place::new();
    for transport in ["quic", "webtransport", "websocket"] {
        let server = place.serve();
        let (bench, _, _reader) = place.bench(&["--duration", "600", "--transport", transport]);
        server.signal("TERM");
        let done = bench.end();
        assert_eq!(done.code, Some(3), "{done:?}");
        for text in ["VOID: ", " lost the connection: ", "going_away (401)"] {
            assert!(
                done.out.contains(text),
                "{text:?} is missing in {}",
                done.out
            );
        }
        server.end();
    }
}

#[test]
fn what_a_server_that_dies_does_not_deliver_is_a_gap() {
    let place = Place::new();
    let server = place.serve();
    let (bench, _, _reader) = place.bench(&["--json", "--duration", "600", "--rate", "10000"]);
    server.signal("KILL");
    server.end();
    // The end of the process took longer than the 0.1 ms between two publications, and nobody hears of it.
    bench.signal("INT");
    let report = bench.end().report(3);
    assert!(number(&report, "/faults/gaps") > 0.0, "{report}");
    assert!(number(&report, "/published/unanswered") > 0.0, "{report}");
    let reasons = report["reasons"].to_string();
    assert!(reasons.contains("deliveries are missing"), "{reasons}");
    assert!(
        reasons.contains("publications were never acknowledged"),
        "{reasons}"
    );
    assert!(
        report["server"]["absent"]
            .as_str()
            .unwrap()
            .contains("ended"),
        "{report}"
    );
}

#[test]
fn a_process_that_is_no_server_is_not_measured() {
    let place = Place::new();
    let _server = place.serve();
    let mut note = place.server();
    let run = |note: &Value, more: &[&str]| {
        place.write("certs/dev/server.json", &note.to_string());
        let args = [
            "bench",
            "--json",
            "--clients",
            "1",
            "--duration",
            "0.2",
            "--warmup",
            "0",
        ];
        place.run(&[&args, more].concat())
    };
    // That of this test.
    note["pid"] = std::process::id().into();
    let report = run(&note, &[]).report(0);
    let absent = report["server"]["absent"].as_str().unwrap();
    assert!(
        absent.contains("no `tidings serve`") && absent.contains("--server-pid"),
        "{absent}"
    );
    assert_eq!(report["server"]["cpu_us_per_delivery"], Value::Null);
    // Who names a process, means it.
    let own = std::process::id().to_string();
    let report = run(&note, &["--server-pid", &own]).report(0);
    assert_eq!(report["server"]["pid"], std::process::id());
    // A note of an earlier version names none.
    note.as_object_mut().unwrap().remove("pid");
    let report = run(&note, &[]).report(0);
    assert!(
        report["server"]["absent"]
            .as_str()
            .unwrap()
            .contains("names no process")
    );
}

#[test]
fn what_the_server_would_refuse_is_said_before_the_run() {
    let place = Place::new();
    let _server = place.serve_with(&[("TIDINGS_LIMITS__SESSIONS", "5")], &[]);
    let failed = |args: &[&str], code: i32, wanted: &[&str]| {
        let done = place.run(&[&["bench"], args].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{done:?}");
        let last = done.err.lines().last().unwrap();
        for text in wanted {
            assert!(last.contains(text), "{text:?} is missing in {last}");
        }
    };
    failed(
        &["--clients", "9"],
        1,
        &[
            "client ",
            " of 9 does not get in: ",
            "too_many_sessions (301)",
        ],
    );
    failed(
        &["--subscriptions", "511"],
        2,
        &["--subscriptions 511", "pass 510 or fewer"],
    );
    failed(
        &["--size", "65536"],
        2,
        &["--size 65536", "pass 65512 or less"],
    );
    failed(
        &["--clients", "1000000", "--subscriptions", "510"],
        2,
        &["needs about", "GiB", "pass --clients "],
    );
    failed(&["--token", "nonsense"], 1, &["invalid_token (201)"]);
}

#[test]
fn what_contradicts_itself_is_a_wrong_command_line() {
    let place = Place::new();
    let _server = place.serve();
    let quic = place.address("quic");
    for (args, wanted) in [
        (&["--rate", "0"][..], "is no rate"),
        (&["--rate", "fast"], "is no rate"),
        (&["--clients", "0"], "--clients"),
        (&["--duration", "0"], "it must be more than nothing"),
        (&["--size", "31"], "--size"),
        (&["--transport", "tcp"], "quic, webtransport or websocket"),
        (
            &["--url", &quic, "--transport", "webtransport"],
            "begins with https://",
        ),
        (
            &["--channels", "2", "--subscriptions", "3"],
            "--channels says 2",
        ),
        (&["--publishers", "11"], "pass --channels 11"),
        (&["--plot", "nowhere/x.svg"], "there is no directory for it"),
        (&["--server-pid", "0"], "--server-pid 0"),
    ] {
        place.run(&[&["bench"], args].concat()).failed(2, &[wanted]);
    }
    Place::new()
        .run(&["bench"])
        .failed(1, &["no server known here", "--url"]);
}

/// Holds a text against the grammar of XML, as far as pictures use it: elements that close each other, attributes in quotes,
/// no stray character.
#[track_caller]
fn well_formed(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml.trim_end();
    let mut elements = 0;
    while let Some((text, tag)) = rest.split_once('<') {
        assert!(!text.contains(['>', '&']), "{text:?}");
        assert!(
            !open.is_empty() || text.is_empty(),
            "{text:?} stands outside"
        );
        let (tag, after) = tag.split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        elements += 1;
        let (body, closed) = tag
            .strip_suffix('/')
            .map_or((tag, false), |body| (body, true));
        let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
        let mut parts = attributes.split('"').map(str::trim);
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            let key = key.strip_suffix('=').unwrap();
            assert!(
                key.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{tag}"
            );
            assert!(!value.contains(['<', '&']), "{tag}");
        }
        if !closed {
            open.push(name);
        }
    }
    assert!(
        open.is_empty() && rest.is_empty() && elements > 10,
        "{open:?} {rest:?}"
    );
}
