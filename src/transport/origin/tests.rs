use super::*;

fn allowed(entry: &str) -> Allowed {
    Origins::List(vec![entry.to_owned()]).compile().unwrap()
}

#[test]
fn entries_match_what_browsers_send() {
    for (entry, good, bad) in [
        (
            "https://example.org",
            &["https://example.org"][..],
            &[
                "https://example.org.evil.example",
                "https://a.example.org",
                "http://example.org",
                "https://example.org:8443",
                "https://example.org/",
                "https://example.org https://example.org",
                "null",
                "",
            ][..],
        ),
        (
            "HTTPS://Example.ORG:443",
            &["https://example.org"],
            &["https://example.org:80"],
        ),
        (
            "http://example.org:80",
            &["http://example.org"],
            &["https://example.org"],
        ),
        (
            "http://example.org:443",
            &["http://example.org:443"],
            &["http://example.org"],
        ),
        (
            "HTTP://LocalHost:*",
            &[
                "http://localhost",
                "http://localhost:8080",
                "http://localhost:65535",
            ],
            &[
                "https://localhost",
                "http://localhost:",
                "http://localhost:0",
                "http://localhost:65536",
                "http://localhost:*",
                "http://localhost.evil.example",
                "http://localhost:80.evil.example",
            ],
        ),
        (
            "https://*.example.org",
            &[
                "https://a.example.org",
                "https://xn--mnchen-3ya.example.org",
            ],
            &[
                "https://example.org",
                "https://.example.org",
                "https://a.b.example.org",
                "https://evilexample.org",
                "https://*.example.org",
                "https://a.example.org:8443",
                "http://a.example.org",
            ],
        ),
        (
            "https://*.Example.org:*",
            &["https://a.example.org:8443"],
            &["https://example.org:1"],
        ),
        (
            "https://münchen.example",
            &["https://xn--mnchen-3ya.example"],
            &["https://munchen.example"],
        ),
        (
            "https://*.BÜCHER.example",
            &["https://a.xn--bcher-kva.example"],
            &[],
        ),
        (
            "http://127.1:8080",
            &["http://127.0.0.1:8080"],
            &["http://127.0.0.2:8080"],
        ),
        (
            "http://[0:0:0:0:0:0:0:1]:8080",
            &["http://[::1]:8080"],
            &["http://[::1]", "http://[::2]:8080"],
        ),
        (
            "http://[2001:DB8::1]:*",
            &["http://[2001:db8::1]", "http://[2001:db8::1]:1"],
            &[],
        ),
        (
            "capacitor://localhost",
            &["capacitor://localhost"],
            &["ionic://localhost", "null"],
        ),
        (
            "ionic://localhost",
            &["ionic://localhost"],
            &["ionic://localhost:1"],
        ),
        (
            "tauri://localhost",
            &["tauri://localhost"],
            &["tauri://evil"],
        ),
        ("app://.", &["app://."], &["app://obsidian.md"]),
        (
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            &["chrome-extension://abcdefghijklmnopabcdefghijklmnop"],
            &["chrome-extension://ponmlkjihgfedcbaponmlkjihgfedcba"],
        ),
        (
            "moz-extension://*",
            &["moz-extension://1f5b2c3d-0000-4000-8000-123456789abc"],
            &["chrome-extension://a", "moz-extension://"],
        ),
        ("file://", &["file://"], &["null", "file://host"]),
        ("null", &["null"], &["NULL", "https://null", ""]),
        ("*", &["https://evil.example", "null", "anything"], &[]),
    ] {
        let list = allowed(entry);
        for origin in good {
            assert!(list.allow(origin), "{entry} takes {origin}");
        }
        for origin in bad {
            assert!(!list.allow(origin), "{entry} does not take {origin}");
        }
    }
    let none = Origins::List(Vec::new()).compile().unwrap();
    assert!(!none.allow("null") && !none.allow("https://example.org"));
}

#[test]
fn entry_that_cannot_match_is_refused_with_the_reason() {
    for (entry, wanted) in [
        ("", "is empty"),
        ("example.org", "no scheme"),
        ("//example.org", "no scheme"),
        ("*.example.org", "no scheme"),
        ("localhost:8080", "no scheme"),
        ("https:example.org", "no scheme"),
        ("*://example.org", "its scheme cannot be"),
        ("http*://example.org", "its scheme cannot be"),
        ("://example.org", "its scheme cannot be"),
        ("1a://example.org", "its scheme cannot be"),
        (" https://example.org", "white space"),
        ("https://example.org\n", "white space"),
        ("https://exam ple.org", "white space"),
        ("https://example.org/", "no path"),
        ("https://example.org/app", "no path"),
        ("https://example.org?a", "no path"),
        ("https://example.org#a", "no path"),
        ("https://example.org\\a", "no path"),
        ("https://user@example.org", "user info"),
        ("https://user:secret@example.org", "user info"),
        ("https://", "no host"),
        ("https://:8080", "no host"),
        ("https://:*", "no host"),
        ("https://*", "wildcard"),
        ("https://*:*", "wildcard"),
        ("https://*.", "no host"),
        ("https://a.*.example.org", "wildcard"),
        ("https://*.*.example.org", "wildcard"),
        ("https://a*.example.org", "wildcard"),
        ("https://example.*", "wildcard"),
        ("https://*.127.0.0.1", "wildcard"),
        ("https://*.[::1]", "wildcard"),
        ("https://example.org.", "dot at its end"),
        ("https://.example.org", "empty label"),
        ("https://example..org", "empty label"),
        ("https://example.org:", "its port \"\""),
        ("https://example.org:0", "its port \"0\""),
        ("https://example.org:65536", "its port \"65536\""),
        ("https://example.org:+1", "its port \"+1\""),
        ("https://example.org:http", "its port \"http\""),
        ("https://example.org:80*", "its port \"80*\""),
        ("http://::1", "brackets"),
        ("http://::1:8080", "brackets"),
        ("http://[::1", "brackets"),
        ("http://[fe80::1%25eth0]", "its host"),
        ("http://1.2.3.4.5", "its host"),
        ("https://xn--a.example", "its host"),
        ("https://exa<mple.org", "its host"),
        ("wss://example.org", "http or https"),
        ("ws://localhost:*", "http or https"),
        ("quic://localhost", "http or https"),
        ("blob://x", "browsers send \"null\""),
        ("data://x", "browsers send \"null\""),
        ("file://host", "browsers send \"null\""),
        ("capacitor://", "no host"),
        ("capacitor://localhost/", "no path"),
        ("tauri://*.localhost", "its host"),
        ("app://ä", "its host"),
        ("NULL", "no scheme"),
    ] {
        let error = Origins::List(vec!["https://a.example".into(), entry.into()])
            .check()
            .expect_err(entry);
        let text = error.to_string();
        assert!(text.contains(&format!("{entry:?} is no origin")), "{text}");
        assert!(text.contains(wanted), "{entry}: {wanted}: {text}");
    }
}
