//! Every key, its type and its default.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::values::{Address, Count};
use crate::{
    auth::{self, Algorithm, OnLag, Priority, Who},
    broker,
    cli::dev,
    server,
};

/// The settings as read. What is `None` has no default, or one that depends on others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::cli) struct Settings {
    pub(in crate::cli) listen: Option<Address>,
    pub(in crate::cli) origins: Vec<String>,
    /// On the TCP port of the same number, unless it says no.
    pub(super) websockets: Option<bool>,
    /// Where they are served without TLS, for a proxy.
    pub(super) plain_websockets: Option<Address>,
    /// One for each core where it is absent.
    pub(super) workers: Option<Count>,
    pub(super) tls: Tls,
    pub(super) auth: Auth,
    pub(super) http: Option<Http>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) retention: Retention,
    pub(super) rules: Option<Vec<Rule>>,
    pub(super) log: Log,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) chain: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Auth {
    pub(super) anonymous: bool,
    pub(super) audience: Vec<String>,
    pub(super) issuer: Option<String>,
    pub(super) leeway_seconds: u64,
    pub(super) jwks_file: Option<PathBuf>,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) public_key_file: Option<PathBuf>,
    pub(super) id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: Option<Address>,
    pub(super) api_key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) sessions: Count,
    /// A share of all alone where it is absent, as that of one address.
    pub(super) sessions_per_user: Option<Count>,
    pub(super) sessions_per_address: Option<Count>,
    pub(super) subscriptions: Count,
    pub(super) message: Count,
    pub(super) channels: Count,
    pub(super) session_channels: Count,
    pub(super) user_channels: Count,
    /// In bytes; what is `None` depends on the machine.
    pub(super) memory: Option<Count>,
    pub(super) user_memory: Option<Count>,
    pub(super) soft_handshakes: Count,
    pub(super) hard_handshakes: Count,
    /// By the limit of open files where it is absent.
    pub(super) tcp_connections: Option<Count>,
}

/// In seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) deadline: Count,
    pub(super) grace: Count,
    pub(super) idle: Count,
    pub(super) stalled: Count,
    pub(super) channel_idle: Count,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) count: Count,
    pub(super) bytes: Count,
    pub(super) age_seconds: Count,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) pattern: String,
    pub(super) subscribe: Who,
    pub(super) publish: Who,
    pub(super) history: Option<Who>,
    #[serde(default)]
    pub(super) auto_subscribe: bool,
    #[serde(default)]
    pub(super) on_lag: OnLag,
    #[serde(default)]
    pub(super) priority: Priority,
    pub(super) max_age_milliseconds: Option<Count>,
    #[serde(default)]
    pub(super) delivery: Carrier,
    pub(super) keyframe_messages: Option<Count>,
    pub(super) keyframe_interval_milliseconds: Option<Count>,
    #[serde(default)]
    pub(super) hide_publisher: bool,
    #[serde(default)]
    pub(super) presence: bool,
    pub(super) retention: Option<RuleRetention>,
}

/// What publications travel by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Carrier {
    #[default]
    Stream,
    Datagram,
}

/// What is `None` is as in [`Retention`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleRetention {
    pub(super) count: Option<Count>,
    pub(super) bytes: Option<Count>,
    pub(super) age_seconds: Option<Count>,
    pub(super) keep_latest: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: String,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            anonymous: false,
            audience: Vec::new(),
            issuer: None,
            leeway_seconds: auth::token::DEFAULT_LEEWAY.as_secs(),
            jwks_file: None,
            keys: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = server::Limits::default();
        Self {
            sessions: Count(limits.sessions as u64),
            sessions_per_user: limits.sessions_per_user.map(|limit| Count(limit as u64)),
            sessions_per_address: limits.sessions_per_address.map(|limit| Count(limit as u64)),
            subscriptions: Count(limits.subscriptions),
            message: Count(limits.message as u64),
            channels: Count(limits.channels as u64),
            session_channels: Count(limits.session_channels as u64),
            user_channels: Count(limits.user_channels as u64),
            memory: None,
            user_memory: None,
            soft_handshakes: Count(limits.soft_handshakes as u64),
            hard_handshakes: Count(limits.hard_handshakes as u64),
            tcp_connections: limits.tcp_connections.map(|limit| Count(limit as u64)),
        }
    }
}

/// As in [`server::Builder`].
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            deadline: Count(5),
            grace: Count(10),
            idle: Count(30),
            stalled: Count(30),
            channel_idle: Count(60),
        }
    }
}

impl Timeouts {
    /// Seconds of the shortest and the longest idle timeout. A client sends a PING several times within the shortest, and has room
    /// for one that is lost; a peer that vanished is in presence for as long as the timeout.
    pub(super) const IDLE: std::ops::RangeInclusive<u64> = 2..=86_400;
}

impl Default for Retention {
    fn default() -> Self {
        let retention = broker::Retention::default();
        Self {
            count: Count(retention.count as u64),
            bytes: Count(retention.bytes as u64),
            age_seconds: Count(retention.age.as_secs()),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
        }
    }
}

impl From<&auth::Rule> for Rule {
    fn from(rule: &auth::Rule) -> Self {
        let milliseconds =
            |time: Duration| Count(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let keyframes = rule.delivery.datagrams;
        Self {
            pattern: rule.pattern.to_string(),
            subscribe: rule.subscribe,
            publish: rule.publish,
            history: rule.history,
            auto_subscribe: rule.auto_subscribe,
            on_lag: rule.delivery.on_lag,
            priority: rule.delivery.priority,
            max_age_milliseconds: rule.delivery.max_age.map(milliseconds),
            delivery: match rule.delivery.datagrams {
                Some(_) => Carrier::Datagram,
                None => Carrier::Stream,
            },
            keyframe_messages: keyframes
                .and_then(|keyframes| keyframes.messages)
                .map(|messages| Count(messages.get().into())),
            keyframe_interval_milliseconds: keyframes
                .map(|keyframes| milliseconds(keyframes.interval)),
            hide_publisher: rule.hide_publisher,
            presence: rule.presence,
            retention: None,
        }
    }
}

impl Settings {
    /// Where the server listens unless it is told.
    pub(super) const LISTEN: &str = "[::]:4433";
    /// Where the HTTP API listens unless it is told.
    pub(super) const HTTP_LISTEN: &str = "127.0.0.1:8080";
    /// Where the server listens in development unless it is told.
    const DEV_LISTEN: &str = "127.0.0.1:4433";
    /// Where it serves WebSockets without TLS in development unless it is told: for browsers that trust no certificate by its hash.
    const DEV_PLAIN: &str = "127.0.0.1:0";
    /// Pages that may connect in development: those of this machine.
    const DEV_ORIGINS: [&str; 4] = [
        "http://localhost:*",
        "https://localhost:*",
        "http://127.0.0.1:*",
        "https://127.0.0.1:*",
    ];

    /// The address of the HTTP API; this alone switches it on.
    pub(in crate::cli) fn set_http_listen(&mut self, address: Address) {
        self.http.get_or_insert_default().listen = Some(address);
    }

    /// Sets what is not set as it is for development, with the files of the development directory.
    pub(super) fn fill_for_development(&mut self) {
        let path = |name| Some(dev::path(name));
        self.listen = self.listen.or_else(|| Self::DEV_LISTEN.parse().ok());
        if self.websockets != Some(false) {
            self.plain_websockets = self
                .plain_websockets
                .or_else(|| Self::DEV_PLAIN.parse().ok());
        }
        for origin in Self::DEV_ORIGINS {
            if !self.origins.iter().any(|known| known == origin) {
                self.origins.push(origin.to_owned());
            }
        }
        if self.tls == Tls::default() {
            self.tls = Tls {
                chain: path(dev::CERTIFICATE),
                key: path(dev::KEY),
            };
        }
        // Always, so that `--user` works beside the keys of others.
        self.auth.keys.push(Key {
            algorithm: Algorithm::HS256,
            secret_file: path(dev::TOKEN_SECRET),
            public_key_file: None,
            id: None,
        });
        // The page's own, where nothing else was said.
        self.rules.get_or_insert_with(|| {
            let own = crate::wire::Pattern::parse("playground-{name}").ok();
            let own = own.map(|pattern| {
                auth::Rule::new(pattern, Who::Authenticated, Who::Authenticated)
                    .datagrams(auth::Keyframes::default())
            });
            let default = auth::Rules::default();
            default.iter().chain(own.iter()).map(Rule::from).collect()
        });
        let http = self.http.get_or_insert_default();
        http.api_key_file = http.api_key_file.take().or_else(|| path(dev::API_KEY));
    }

    /// Every default filled in: what the server would do, to be shown.
    pub(in crate::cli) fn effective(mut self) -> Self {
        self.listen = self.listen.or_else(|| Self::LISTEN.parse().ok());
        if let Some(http) = &mut self.http {
            http.listen = http.listen.or_else(|| Self::HTTP_LISTEN.parse().ok());
        }
        self.websockets.get_or_insert(true);
        self.rules
            .get_or_insert_with(|| auth::Rules::default().iter().map(Rule::from).collect());
        self
    }

    /// Every relative path made absolute, so that the settings mean the same wherever they are written.
    pub(in crate::cli) fn absolute(mut self) -> Self {
        let files = [
            &mut self.tls.chain,
            &mut self.tls.key,
            &mut self.auth.jwks_file,
        ];
        let keys = self.auth.keys.iter_mut();
        let keys = keys.flat_map(|key| [&mut key.secret_file, &mut key.public_key_file]);
        let http = self.http.iter_mut().map(|http| &mut http.api_key_file);
        for path in files.into_iter().chain(keys).chain(http).flatten() {
            if let Ok(absolute) = std::path::absolute(&path) {
                *path = absolute;
            }
        }
        self
    }

    /// Every key there is, each with some value of its type.
    pub(super) fn specimen() -> Self {
        let path = || Some(PathBuf::from("file"));
        let text = || Some("text".to_owned());
        let listen = Self::LISTEN.parse().ok();
        let count = Some(Count(1));
        Self {
            listen,
            origins: vec!["text".to_owned()],
            websockets: Some(true),
            plain_websockets: listen,
            workers: count,
            tls: Tls {
                chain: path(),
                key: path(),
            },
            auth: Auth {
                audience: vec!["text".to_owned()],
                issuer: text(),
                jwks_file: path(),
                keys: vec![Key {
                    algorithm: Algorithm::HS256,
                    secret_file: path(),
                    public_key_file: path(),
                    id: text(),
                }],
                ..Auth::default()
            },
            http: Some(Http {
                listen,
                api_key_file: path(),
            }),
            limits: Limits {
                sessions_per_user: count,
                sessions_per_address: count,
                memory: count,
                user_memory: count,
                tcp_connections: count,
                ..Limits::default()
            },
            rules: Some(vec![Rule {
                pattern: "text".to_owned(),
                subscribe: Who::Nobody,
                publish: Who::Nobody,
                history: Some(Who::Nobody),
                auto_subscribe: false,
                on_lag: OnLag::default(),
                priority: Priority::default(),
                max_age_milliseconds: count,
                delivery: Carrier::default(),
                keyframe_messages: count,
                keyframe_interval_milliseconds: count,
                hide_publisher: false,
                presence: false,
                retention: Some(RuleRetention {
                    count,
                    bytes: count,
                    age_seconds: count,
                    keep_latest: true,
                }),
            }]),
            ..Self::default()
        }
    }
}
