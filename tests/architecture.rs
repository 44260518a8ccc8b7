//! The floors of ARCHITECTURE.md, held against the source: arrows only downward, foreign types only where they belong.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each floor with the modules that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("broker", &["wire"]),
    ("auth", &["wire"]),
    ("transport", &["wire"]),
    ("session", &["auth", "broker", "transport", "wire"]),
    ("endpoint", &["session"]),
    ("client", &["transport", "wire"]),
    (
        "server",
        &["auth", "broker", "endpoint", "session", "transport", "wire"],
    ),
    (
        "testing.rs",
        &["auth", "broker", "client", "server", "wire"],
    ),
    (
        "cli",
        &["auth", "broker", "client", "server", "transport", "wire"],
    ),
];

/// Words that only the named places may contain.
const PLACES: &[(&str, &[&str])] = &[
    ("quinn::", &["transport"]),
    ("web_transport", &["transport"]),
    ("bincode::", &["wire/codec.rs"]),
    ("std::env::", &["bin"]),
    ("env::var", &["bin"]),
    ("tokio::signal", &["bin"]),
    ("unbounded_channel", &[]),
    ("UnboundedSender", &[]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Rust files below `path` without their tests, with their text.
fn files(path: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(next) = folders.pop() {
        if next.is_file() {
            let name = next
                .strip_prefix(source())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&next).unwrap();
            let code = text
                .split("\n#[cfg(test)]\nmod tests {")
                .next()
                .unwrap()
                .to_owned();
            found.push((name, code));
            continue;
        }
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if (path.is_dir() && name != "tests") || (name.ends_with(".rs") && name != "tests.rs") {
                folders.push(path);
            }
        }
    }
    found
}

/// The modules that a file imports from the crate, however the `use` is written.
fn imports(code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut name)),
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            found.push(name);
        } else {
            found.push(rest.to_owned());
        }
    }
    let module = |text: &String| -> String {
        text.trim()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    found
        .iter()
        .map(module)
        .filter(|name| name.starts_with(char::is_lowercase))
        .collect()
}

#[test]
fn imports_run_downward_only() {
    let mut checked = 0;
    for (floor, allowed) in ARROWS {
        let own = floor.trim_end_matches(".rs");
        for (file, code) in files(&source().join(floor)) {
            for module in imports(&code) {
                checked += 1;
                assert!(
                    module == own || allowed.contains(&module.as_str()),
                    "{file} imports crate::{module}, which ARCHITECTURE.md does not let {floor} do"
                );
            }
        }
    }
    assert!(
        checked > 100,
        "only {checked} imports were seen: the reader of this test is broken"
    );
}

#[test]
fn every_module_has_its_floor() {
    for entry in fs::read_dir(source()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let known = ARROWS.iter().any(|(floor, _)| *floor == name)
            || ["bin", "lib.rs"].contains(&name.as_str());
        assert!(
            known,
            "src/{name} stands on no floor: add it to ARCHITECTURE.md and to this test"
        );
    }
}

#[test]
fn foreign_types_are_named_only_where_they_belong() {
    for (file, code) in files(&source()) {
        for (line, text) in code.lines().enumerate() {
            if text.trim_start().starts_with("//") {
                continue;
            }
            for (word, places) in PLACES {
                assert!(
                    !text.contains(word) || places.iter().any(|place| file.starts_with(place)),
                    "src/{file}:{}: {word} belongs in {places:?}",
                    line + 1
                );
            }
        }
    }
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let code = "use crate::wire::Code;\nuse crate::{\n    auth::{A, B},\n    broker::C,\n};\nfn f() { crate::cli::x() }";
    assert_eq!(imports(code), ["wire", "auth", "broker", "cli"]);
}

#[test]
fn the_lock_file_holds_the_floors_that_advisories_ask_for() {
    const FLOORS: &[(&str, [u64; 3])] = &[
        ("quinn", [0, 11, 12]),
        ("quinn-proto", [0, 11, 19]),
        ("rustls", [0, 23, 46]),
        ("rustls-webpki", [0, 103, 16]),
        ("web-transport-quinn", [0, 13, 5]),
        ("tokio", [1, 50, 0]),
    ];
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for (name, floor) in FLOORS {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let versions: Vec<[u64; 3]> = lock
            .match_indices(&entry)
            .map(|(at, _)| {
                let version = lock[at + entry.len()..].split('"').next().unwrap();
                let mut numbers = version
                    .split(['.', '-', '+'])
                    .map(|number| number.parse().unwrap());
                std::array::from_fn(|_| numbers.next().unwrap())
            })
            .collect();
        assert!(!versions.is_empty(), "{name} is not in Cargo.lock");
        for version in versions {
            assert!(version >= *floor, "{name} {version:?} is below {floor:?}");
        }
    }
    let locked = lock.contains("name = \"bincode\"\nversion = \"2.0.1\"");
    assert!(locked, "the wire format is that of bincode 2.0.1");
}
