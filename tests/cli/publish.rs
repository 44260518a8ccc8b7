//! Options of `tidings pub`, `notify` and `announce`.

use serde_json::Value;

use crate::harness::Place;

#[test]
fn repeated_line_with_a_key_is_stored_once_and_a_publisher_is_shown() {
    let place = Place::new();
    let _server = place.serve();
    for command in [
        &["notify", "42", "one", "--key", "a"][..],
        &["announce", "one", "--key", "a"],
        &[
            "pub",
            "chat-room-7",
            "one",
            "--key",
            "a",
            "--publisher",
            "42",
        ],
    ] {
        let first = place.run(command).ok();
        assert_eq!(place.run(command).ok(), first, "{command:?}");
    }
    let kept = ["history", "chat-room-7", "--user", "7", "--json"];
    let kept: Value = serde_json::from_str(&place.run(&kept).ok()).unwrap();
    assert_eq!(kept["user"], "42");
    let both = ["pub", "a", "x", "--publisher", "42", "--user", "7"];
    place
        .run(&both)
        .failed(2, &["--publisher is for the HTTP API"]);
}
