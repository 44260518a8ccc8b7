//! Values that are of the right type and cannot work.

use super::*;

#[test]
fn value_that_cannot_work_is_refused() {
    let plan = |text: &str| load(text, &[]).unwrap().plan().unwrap_err().join("\n");
    for idle in [1, 86_401, 1_000_000_000_000_u64] {
        let all = plan(&format!("[timeouts]\nidle = {idle}"));
        let wanted = format!("timeouts.idle: {idle} s cannot work: 2 to 86400 are allowed");
        assert!(all.contains(&wanted), "{all}");
    }
    for idle in [2, 20, 86_400] {
        let all = plan(&format!("[timeouts]\nidle = {idle}"));
        assert!(!all.contains("timeouts"), "{all}");
    }
    let mut quick = load("[timeouts]\nidle = 1", &[]).unwrap();
    quick.dev = true;
    let all = quick.plan().unwrap_err().join("\n");
    assert!(!all.contains("timeouts"), "{all}");
    for idle in ["0", "-1", "1.5", "1000000000001", "99999999999999999999"] {
        let found = complaint(&format!("[timeouts]\nidle = {idle}"), &[]);
        assert!(found.contains("tidings.toml: "), "{found}");
    }
    for (text, wanted) in [
        (
            "listen = \"[::]:4433\"\nplain_websockets = \"127.0.0.1:4433\"",
            "plain_websockets: 127.0.0.1:4433 is the TCP port of listen ([::]:4433)",
        ),
        (
            "listen = \"127.0.0.1:4433\"\nplain_websockets = \"0.0.0.0:4433\"",
            "plain_websockets: 0.0.0.0:4433 is the TCP port of listen",
        ),
    ] {
        let all = plan(text);
        assert!(all.contains(wanted), "{all}");
    }
    for text in [
        "websockets = false\nlisten = \"[::]:4433\"\nplain_websockets = \"127.0.0.1:4433\"",
        "listen = \"127.0.0.1:0\"\nplain_websockets = \"127.0.0.1:0\"",
        "listen = \"127.0.0.1:4433\"\nplain_websockets = \"127.0.0.2:4433\"",
        "listen = \"0.0.0.0:4433\"\nplain_websockets = \"[::1]:4433\"",
    ] {
        let all = plan(text);
        assert!(!all.contains("TCP port"), "{text}: {all}");
    }
}
