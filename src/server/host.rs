//! The header `Host` of a request (RFC 9112 §3.2).

use std::net::Ipv6Addr;

use http::{HeaderMap, Version, header};

/// Checks that a request says once which host it is for.
///
/// # Errors
/// A reason, for an answer 400: there is no `Host` in HTTP/1.1, there are several, or the value is none.
pub(super) fn check(version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (None, _) => Err("there is no `Host` header, which HTTP/1.1 requires"),
        (Some(_), Some(_)) => Err("there is more than one `Host` header"),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err("the `Host` header is none: send HOST or HOST:PORT"),
    }
}

/// Whether this is `uri-host [ ":" port ]` with a host that is not empty (RFC 9110 §7.2, RFC 3986 §3.2.2). A comma, which a name may
/// have by the grammar, is refused: it is what becomes of two headers that a proxy put together.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let (host_is_valid, rest) = match text.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
            None => return false,
        },
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (is_name(&text[..end]), &text[end..])
        }
    };
    let port_is_valid = match rest.strip_prefix(':') {
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    };
    host_is_valid && port_is_valid
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                digit() && digit()
            }
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte),
        };
        if !valid {
            return false;
        }
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        for valid in [
            "t",
            "localhost:8080",
            "example.org",
            "EXAMPLE.org.",
            "a_b.example",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:443",
            "xn--bcher-kva.example",
            "a%2db",
            "h:",
        ] {
            assert!(is_host(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "",
            ":80",
            "a b",
            "a,b",
            "a, b",
            "a/b",
            "http://a",
            "user@a",
            "a?b",
            "a#b",
            "a:b",
            "a:65536",
            "a:1:2",
            "a:+1",
            "a:-1",
            "::1",
            "[::1",
            "[::1]x",
            "[a]",
            "[]",
            "[::1]:x",
            "a\\b",
            "<a>",
            "\"a\"",
            "b\u{fc}cher",
            "a%2",
            "a%zz",
            "a\tb",
        ] {
            assert!(!is_host(invalid.as_bytes()), "{invalid}");
        }
        assert!(!is_host(b"\xff"));
    }
}
