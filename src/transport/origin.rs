//! Origins of pages (RFC 6454, WHATWG URL): a list of those that may connect, compared with what browsers send.

use http::HeaderValue;
use url::Host;

/// Which pages may connect over WebTransport and WebSockets. A request without `Origin` comes from no page and is not judged by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages with one of these origins. Each entry is one of
    ///
    /// - `https://example.org` or `http://localhost:8080`: a scheme, a host and, unless it is the scheme's own, a port. The entry is
    ///   normalised as browsers do: lower case, `xn--` for other alphabets, no default port, the short form of an IPv6 address;
    /// - `https://*.example.org`: a wildcard for the first label of the host, and for one label only;
    /// - `http://localhost:*`: every port;
    /// - `capacitor://localhost`, `chrome-extension://…`: another scheme, of a hybrid app or an extension; a host of `*` is every host;
    /// - `null`: pages without an origin of their own, such as sandboxed frames and local files;
    /// - `*`: every page.
    List(Vec<String>),
}

/// An entry of [`Origins::List`] that no page's origin can match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{entry:?} is no origin that a page can have: {reason}; an origin is a scheme, a host and perhaps a port, such as \"https://example.org\", \"https://*.example.org\" (any first label), \"http://localhost:*\" (any port), \"capacitor://localhost\", \"null\", or \"*\" for every page"
)]
pub struct InvalidOrigin {
    entry: String,
    reason: String,
}

impl Origins {
    /// The list as it is compared.
    ///
    /// # Errors
    /// [`InvalidOrigin`] for the first entry that cannot match.
    pub(crate) fn compile(&self) -> Result<Allowed, InvalidOrigin> {
        let Self::List(list) = self else {
            return Ok(Allowed::Any);
        };
        let entries = list.iter().map(|entry| {
            Entry::parse(entry).map_err(|reason| InvalidOrigin {
                entry: entry.clone(),
                reason,
            })
        });
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        Ok(if entries.contains(&Entry::Any) {
            Allowed::Any
        } else {
            Allowed::List(entries)
        })
    }

    /// Refuses a list with an entry that no page's origin can match.
    ///
    /// # Errors
    /// [`InvalidOrigin`] for the first such entry.
    pub fn check(&self) -> Result<(), InvalidOrigin> {
        self.compile().map(drop)
    }
}

/// [`Origins`], ready to be compared.
#[derive(Debug, Clone)]
pub(crate) enum Allowed {
    Any,
    List(Vec<Entry>),
}

impl Allowed {
    /// Why a request with this `Origin` is refused, if it is.
    pub(super) fn judge(&self, origin: Option<&HeaderValue>) -> Result<(), String> {
        match origin {
            Some(origin) if !origin.to_str().is_ok_and(|origin| self.allow(origin)) => {
                Err(format!("origin {origin:?} is not on the list"))
            }
            _ => Ok(()),
        }
    }

    fn allow(&self, origin: &str) -> bool {
        let Self::List(list) = self else { return true };
        match Entry::parse(origin) {
            // A pattern is for the list alone.
            Ok(Entry::Site(Site {
                host: Pattern::Exact(host),
                port: Port::Exact(port),
                scheme,
            })) => list.iter().any(|entry| match entry {
                Entry::Site(site) => {
                    site.scheme == scheme && site.host.matches(&host) && site.port.matches(port)
                }
                _ => false,
            }),
            Ok(Entry::Null) => list.contains(&Entry::Null),
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Any,
    Null,
    Site(Site),
}

/// Pages of one scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    scheme: String,
    host: Pattern,
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// One label and then this, which begins with a dot unless it is empty.
    Label(String),
}

impl Pattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Label(rest) => host
                .strip_suffix(rest.as_str())
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    /// `None` is the scheme's own.
    Exact(Option<u16>),
}

impl Port {
    fn matches(self, port: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == port,
        }
    }
}

impl Entry {
    /// The error is the reason.
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            "" => return Err("it is empty".to_owned()),
            _ => {}
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("it has white space".to_owned());
        }
        let (scheme, authority) = text.split_once("://").ok_or("it has no scheme")?;
        let scheme = scheme.to_ascii_lowercase();
        let is_name = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !is_name {
            return Err(format!("its scheme cannot be {scheme:?}"));
        }
        if let Some(at) = authority.find(['/', '?', '#', '\\']) {
            let rest = &authority[at..];
            return Err(format!(
                "an origin has no path and no query, and this ends in {rest:?}"
            ));
        }
        if authority.contains('@') {
            return Err("an origin has no user info, which stands before \"@\"".to_owned());
        }
        match scheme.as_str() {
            "http" => Self::page(scheme, authority, 80),
            "https" => Self::page(scheme, authority, 443),
            "ws" | "wss" | "quic" => Err(format!(
                "pages have the scheme http or https, also those that connect to {scheme}://"
            )),
            // Web views of Android send it.
            "file" if authority.is_empty() => Ok(Self::site(
                scheme,
                Pattern::Exact(String::new()),
                Port::Exact(None),
            )),
            "blob" | "data" | "about" | "javascript" | "file" => {
                Err(format!("browsers send \"null\" for pages of {scheme}:"))
            }
            _ => Self::app(scheme, authority),
        }
    }

    fn site(scheme: String, host: Pattern, port: Port) -> Self {
        Self::Site(Site { scheme, host, port })
    }

    /// A page of the Web, whose host is a domain or an IP address.
    fn page(scheme: String, authority: &str, default_port: u16) -> Result<Self, String> {
        let (host, port) = split_port(authority)?;
        let port = match port {
            Port::Exact(Some(port)) if port == default_port => Port::Exact(None),
            other => other,
        };
        let (wildcard, rest) = match host.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, host),
        };
        if rest.contains('*') {
            return Err(
                "a wildcard stands for the whole first label of a host, such as \"https://*.example.org\"".to_owned(),
            );
        }
        if rest.is_empty() {
            return Err("it has no host".to_owned());
        }
        let parsed = Host::parse(rest).map_err(|error| format!("its host {rest:?}: {error}"))?;
        if wildcard && !matches!(parsed, Host::Domain(_)) {
            return Err("an IP address has no labels that a wildcard could stand for".to_owned());
        }
        // In its canonical form, an IPv6 address in brackets.
        let host = parsed.to_string();
        if host.starts_with('.') || host.ends_with('.') || host.contains("..") {
            return Err("its host has an empty label, or a dot at its end".to_owned());
        }
        let host = if wildcard {
            Pattern::Label(format!(".{host}"))
        } else {
            Pattern::Exact(host)
        };
        Ok(Self::site(scheme, host, port))
    }

    /// A page of an app or an extension, whose host is a name that the app chose.
    fn app(scheme: String, authority: &str) -> Result<Self, String> {
        let (host, port) = split_port(authority)?;
        let host = host.to_ascii_lowercase();
        if host.is_empty() {
            return Err("it has no host".to_owned());
        }
        if host == "*" {
            return Ok(Self::site(scheme, Pattern::Label(String::new()), port));
        }
        if let Host::Domain(_) | Host::Ipv4(_) =
            Host::parse_opaque(&host).map_err(|error| format!("its host {host:?}: {error}"))?
            && !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b))
        {
            return Err(format!("its host cannot be {host:?}"));
        }
        Ok(Self::site(scheme, Pattern::Exact(host), port))
    }
}

/// Host and port of an authority.
fn split_port(authority: &str) -> Result<(&str, Port), String> {
    // Colons of an IPv6 address are within brackets.
    let end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[end..].rfind(':').map(|at| at + end) else {
        return Ok((authority, Port::Exact(None)));
    };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    if end == 0 && host.contains(':') {
        return Err("an IPv6 address stands in brackets, such as \"http://[::1]:8080\"".to_owned());
    }
    if port == "*" {
        return Ok((host, Port::Any));
    }
    let number = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse());
    match number {
        Some(Ok(number @ 1..=u16::MAX)) => Ok((host, Port::Exact(Some(number)))),
        _ => Err(format!(
            "its port {port:?} is no number from 1 to 65535, and not \"*\" for every port"
        )),
    }
}

#[cfg(test)]
mod tests;
