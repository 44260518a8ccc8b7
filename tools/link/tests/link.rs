//! Links on this machine. These need root, /dev/net/tun and iproute2, and say so where one is missing.

use std::{
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tidings_link::{
    Link, Side, calibrate,
    link::{Config, LinkError},
    path,
};

/// One test at a time: what a busy machine does to a link is not their subject.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(delay_ms: u64, loss: &str, rate: Option<&str>, seed: u64) -> Config {
    Config {
        name: None,
        path: path::Config {
            delay: Duration::from_millis(delay_ms),
            loss: loss.parse().unwrap(),
            rate: rate.map(|rate| rate.parse().unwrap()),
            queue: Duration::from_millis(100),
            seed,
        },
        tcp_congestion: "cubic".to_owned(),
    }
}

fn up(config: &Config) -> Link {
    Link::up(config).unwrap_or_else(|error| panic!("there is no link: {error}"))
}

fn tool() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidings-link"))
}

fn namespaces() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The numbers of `count` datagrams that reach the client.
fn arrived(link: &Link, count: u16) -> Vec<u16> {
    let socket = |side| {
        let socket = link
            .enter(side, || UdpSocket::bind((link.address(side), 0)).unwrap())
            .unwrap();
        // The last datagram may be lost: what has not come for so long, at a delay of 1 ms, does not come.
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        socket
    };
    let (server, client) = (socket(Side::Server), socket(Side::Client));
    for number in 0..count {
        let to = client.local_addr().unwrap();
        server.send_to(&number.to_be_bytes(), to).unwrap();
    }
    let mut numbers = Vec::new();
    let mut buffer = [0; 2];
    while client.recv(&mut buffer).is_ok() {
        numbers.push(u16::from_be_bytes(buffer));
    }
    numbers
}

#[test]
fn a_link_gives_what_was_asked() {
    let _turn = turn();
    let asked = config(25, "2%", Some("20mbit"), 7);
    // A machine that does something else at the same time makes a good link late. A bad one is bad every time.
    let mut failed = String::new();
    for _ in 0..5 {
        let calibration = calibrate::run(&asked).unwrap_or_else(|error| panic!("{error}"));
        if calibration.passed() {
            return;
        }
        failed = format!("{failed}\n{calibration}");
    }
    panic!("{failed}");
}

#[test]
fn a_seed_loses_the_same_packets_on_every_link() {
    let _turn = turn();
    let expected = |seed| -> Vec<u16> {
        (0..200)
            .zip(path::lost(
                "10%".parse().unwrap(),
                seed,
                path::Direction::ToClient,
            ))
            .filter_map(|(number, lost)| (!lost).then_some(number))
            .collect()
    };
    for seed in [3, 3, 4] {
        let link = up(&config(1, "10%", None, seed));
        assert_eq!(arrived(&link, 200), expected(seed), "seed {seed}");
        let report = link.report();
        assert_eq!(report.to_client.path.offered, 200);
        assert_eq!(
            report.to_server.path.offered, 0,
            "a link is silent by itself"
        );
    }
    assert_ne!(expected(3), expected(4));
}

#[test]
fn nothing_is_left_of_a_link_and_of_what_ran_in_it() {
    let _turn = turn();
    let link = up(&config(1, "0%", None, 1));
    let note = link.note().clone();
    assert!(namespaces().contains(&note.server.namespace));
    let mut inside: Child = link
        .enter(Side::Client, || Command::new("sleep").arg("600").spawn())
        .unwrap()
        .unwrap();
    drop(link);
    assert!(!inside.wait().unwrap().success());
    assert!(!namespaces().contains(&note.server.namespace));
    assert!(!namespaces().contains(&note.client.namespace));
}

#[test]
fn what_a_killed_link_leaves_is_swept_away() {
    let _turn = turn();
    let mut killed = tool()
        .args(["up", "--name", "killed"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(killed.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let note: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
        panic!("the link does not come up: run as root, see tools/link/README.md")
    });
    assert_eq!(note["server"]["address"], "10.77.0.1");
    // A second one of that name is refused while the first one lives.
    let taken = Config {
        name: Some("killed".to_owned()),
        ..config(1, "0%", None, 1)
    };
    let refused = Link::up(&taken).map(drop).unwrap_err();
    assert!(matches!(refused, LinkError::NameTaken(_)), "{refused}");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(namespaces().contains("tidings-killed-server"));
    let output = tool().arg("clean").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "removed killed\n");
    assert!(!namespaces().contains("tidings-killed-"));
    drop(up(&taken));
}

#[test]
fn a_command_beside_a_link_reaches_both_ends_and_its_status_is_told() {
    let _turn = turn();
    let link = env!("CARGO_BIN_EXE_tidings-link");
    let inside = format!(
        "{link} exec server -- ip -o -4 address show dev link0; {link} exec client -- ip -o -4 address show dev link0; exit 7"
    );
    let output = tool()
        .args(["run", "--json", "-", "--", "sh", "-c", &inside])
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(7), "{out}");
    assert!(
        out.contains("10.77.0.1") && out.contains("10.77.0.2"),
        "{out}"
    );
    let counters: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(counters["to_client"]["lost"], 0);
}

#[test]
fn a_signal_takes_a_link_down() {
    let _turn = turn();
    let mut running = tool()
        .args(["up", "--name", "signalled", "--json", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    tidings_link::send_signal(running.id().cast_signed(), 15).unwrap();
    assert!(running.wait().unwrap().success());
    assert!(lines.next().unwrap().unwrap().contains("\"offered\":0"));
    assert!(!namespaces().contains("tidings-signalled-"));
}

#[test]
fn without_a_link_the_error_says_what_to_do() {
    let _turn = turn();
    let output = tool()
        .args(["exec", "server", "--link", "none", "--", "true"])
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    // Somebody else may have links up now: then they are named.
    let what_to_do = err.contains("tidings-link up") || err.contains("those that are up: ");
    assert!(
        err.contains("no link is named none; ") && what_to_do,
        "{err}"
    );
}
