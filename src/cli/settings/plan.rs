//! The settings as used: everything is there, read and checked.

use std::{net::SocketAddr, num::NonZeroU8, path::PathBuf, sync::Arc};

use tracing_subscriber::EnvFilter;

use super::{
    Loaded, Settings,
    auth::authenticator,
    delivery,
    read::Sources,
    schema::{Http, Retention, Rule, RuleRetention, Timeouts, Tls},
    values::Count,
};
use crate::{
    auth::{self, Authenticator, Rules},
    broker,
    cli::{dev, files},
    server::{Builder, CertificateFiles, Limits, Server, http::ApiKey},
    transport::Origins,
    wire::Pattern,
};

/// A server that can be bound.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    /// What the log shows.
    pub(in crate::cli) log: EnvFilter,
    /// The builder, with everything set.
    pub(in crate::cli) builder: Builder,
    /// Where the HTTP API is to listen.
    pub(in crate::cli) http: Option<SocketAddr>,
    /// Whether there are any.
    pub(in crate::cli) websockets: bool,
    /// Where there are some without TLS.
    pub(in crate::cli) plain_websockets: Option<SocketAddr>,
    /// For the drain.
    pub(in crate::cli) grace: std::time::Duration,
}

impl Loaded {
    /// The file with the API key, where that is the one of the development directory.
    pub(in crate::cli) fn dev_api_key(&self) -> Option<PathBuf> {
        let http = self.settings.http.as_ref()?;
        http.api_key_file
            .clone()
            .filter(|path| self.api_key.is_none() && *path == dev::path(dev::API_KEY))
    }

    /// Reads every file that the settings name, and checks everything that can be checked without a port.
    pub(in crate::cli) fn plan(self) -> Result<Plan, Vec<String>> {
        let Self {
            settings,
            dev,
            api_key,
            sources,
        } = self;
        let mut settings = settings.effective();
        let mut problems = Vec::new();
        let problem = &mut problems;
        let certificate = certificate(&settings.tls, &sources, problem);
        let authenticator = authenticator(&settings.auth, &sources, problem);
        let origins = origins(&settings.origins, &sources, problem);
        let rules = rules(&settings, &sources, problem);
        let http = http(settings.http.take(), api_key, &sources, problem);
        let workers = workers(&settings, &sources, problem);
        let limits = limits(&settings, &sources, problem);
        timeouts(&settings.timeouts, dev, &sources, problem);
        addresses(
            &settings,
            http.as_ref().map(|(address, _)| *address),
            &sources,
            problem,
        );
        let log = EnvFilter::builder().parse(&settings.log.level);
        if let Err(error) = &log {
            let what = format!(
                "{:?} is no filter ({error}): error, warn, info, debug or trace, also for single parts, such as \"info,tidings=debug\"",
                settings.log.level
            );
            problem.push(sources.complain("log.level", what));
        }
        let (
            Some(certificate),
            Some(authenticator),
            Some((rules, retention)),
            Some(listen),
            Ok(log),
            true,
        ) = (
            certificate,
            authenticator,
            rules,
            settings.listen,
            log,
            problem.is_empty(),
        )
        else {
            return Err(problems);
        };
        let timeouts = &settings.timeouts;
        let grace = timeouts.grace.seconds();
        let websockets = settings.websockets.unwrap_or(true);
        let mut builder = with_authenticator(Server::builder(), authenticator)
            .listen(listen.0)
            .certificate_files(certificate)
            .origins(origins)
            .websockets(websockets)
            .limits(limits)
            .deadline(timeouts.deadline.seconds())
            .grace(grace)
            .idle(timeouts.idle.seconds())
            .stalled(timeouts.stalled.seconds())
            .channel_idle(timeouts.channel_idle.seconds())
            .retention(retention_of(&rules, retention, &settings.retention))
            .rules(rules);
        if let Some(workers) = workers {
            builder = builder.workers(workers);
        }
        let plain_websockets = settings.plain_websockets.map(|address| address.0);
        if let Some(address) = plain_websockets {
            builder = builder.plain_websockets(address);
        }
        let address = http.as_ref().map(|(address, _)| *address);
        if let Some((address, key)) = http {
            builder = builder.http(address, key);
        }
        Ok(Plan {
            log,
            builder,
            http: address,
            websockets,
            plain_websockets,
            grace,
        })
    }
}

fn workers(
    settings: &Settings,
    sources: &Sources,
    problems: &mut Vec<String>,
) -> Option<NonZeroU8> {
    let workers = settings.workers?.0;
    let number = u8::try_from(workers).ok().and_then(NonZeroU8::new);
    if number.is_none() {
        let what = format!(
            "{workers} is above {}, the most threads that serve",
            u8::MAX
        );
        problems.push(sources.complain("workers", what));
    }
    number
}

fn with_authenticator(builder: Builder, authenticator: Arc<dyn Authenticator>) -> Builder {
    builder.authenticator(authenticator)
}

fn certificate(
    tls: &Tls,
    sources: &Sources,
    problems: &mut Vec<String>,
) -> Option<CertificateFiles> {
    let (Some(chain), Some(key)) = (&tls.chain, &tls.key) else {
        for (name, file, path) in [
            ("tls.chain", "fullchain.pem", &tls.chain),
            ("tls.key", "privkey.pem", &tls.key),
        ] {
            if path.is_none() {
                let (_, short) = name.split_once('.').unwrap_or_default();
                problems.push(sources.complain(
                    name,
                    format!("it is missing: add `{short} = \"{file}\"` to [tls], or use --dev (`tidings cert` makes a self-signed pair)"),
                ));
            }
        }
        return None;
    };
    let files = CertificateFiles::new(chain, key);
    match files.load() {
        Ok(_) => Some(files),
        Err(error) => {
            // The error names the file or files.
            problems.push(sources.complain("tls", error));
            None
        }
    }
}

fn http(
    http: Option<Http>,
    api_key: Option<String>,
    sources: &Sources,
    problems: &mut Vec<String>,
) -> Option<(SocketAddr, ApiKey)> {
    let http = http?;
    let listen = http.listen?;
    let mut fail = |key: &str, what: String| {
        problems.push(sources.complain(key, what));
        None
    };
    let (from, key) = match (api_key, &http.api_key_file) {
        (Some(key), _) => ("TIDINGS_HTTP__API_KEY".to_owned(), key),
        (None, Some(path)) => match files::read_secret(path) {
            Ok(key) => (path.display().to_string(), key),
            Err(what) => return fail("http.api_key_file", what),
        },
        (None, None) => {
            let what = "it is missing: add `api_key_file = \"api.key\"` to [http], a file with 32 random bytes as text (openssl rand -hex 32), or set TIDINGS_HTTP__API_KEY";
            return fail("http.api_key_file", what.to_owned());
        }
    };
    match ApiKey::new(&key) {
        Ok(key) => Some((listen.0, key)),
        Err(error) => fail("http.api_key_file", format!("{from}: {error}")),
    }
}

fn origins(list: &[String], sources: &Sources, problems: &mut Vec<String>) -> Origins {
    for (index, origin) in list.iter().enumerate() {
        if let Err(error) = Origins::List(vec![origin.clone()]).check() {
            problems.push(sources.complain(&format!("origins[{index}]"), error));
        }
    }
    Origins::List(list.to_vec())
}

fn timeouts(timeouts: &Timeouts, dev: bool, sources: &Sources, problems: &mut Vec<String>) {
    let idle = timeouts.idle.0;
    let (least, most) = Timeouts::IDLE.into_inner();
    // On one machine a second is enough, as for tests.
    let least = if dev { 1 } else { least };
    if !(least..=most).contains(&idle) {
        let what = format!(
            "{idle} s cannot work: {least} to {most} are allowed, since a client has to be heard several times within it"
        );
        problems.push(sources.complain("timeouts.idle", what));
    }
}

/// Refuses one TCP port for two purposes.
fn addresses(
    settings: &Settings,
    http: Option<SocketAddr>,
    sources: &Sources,
    problems: &mut Vec<String>,
) {
    let websockets = settings.websockets.unwrap_or(true);
    let listen = settings.listen.filter(|_| websockets);
    let used = [
        ("listen", listen.map(|address| address.0)),
        (
            "plain_websockets",
            settings.plain_websockets.map(|address| address.0),
        ),
        ("http.listen", http),
    ];
    for (index, (key, address)) in used.iter().enumerate() {
        for (other, taken) in &used[..index] {
            if let (Some(address), Some(taken)) = (address, taken)
                && overlap(*address, *taken)
            {
                let what = format!(
                    "{address} is the TCP port of {other} ({taken}): each needs one of its own"
                );
                problems.push(sources.complain(key, what));
            }
        }
    }
}

/// Whether one socket takes connections that the other is for.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let every = |address: SocketAddr, other: SocketAddr| {
        address.ip().is_unspecified() && (address.is_ipv6() || other.is_ipv4())
    };
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || every(a, b) || every(b, a))
}

fn limits(settings: &Settings, sources: &Sources, problems: &mut Vec<String>) -> Limits {
    let limits = &settings.limits;
    if limits.soft_handshakes.0 > limits.hard_handshakes.0 {
        let what = format!(
            "{} is above limits.hard_handshakes, {}: it must not be",
            limits.soft_handshakes.0, limits.hard_handshakes.0
        );
        problems.push(sources.complain("limits.soft_handshakes", what));
    }
    Limits {
        sessions: limits.sessions.size(),
        sessions_per_user: limits.sessions_per_user.map(Count::size),
        sessions_per_address: limits.sessions_per_address.map(Count::size),
        subscriptions: limits.subscriptions.0,
        message: limits.message.size(),
        channels: limits.channels.size(),
        session_channels: limits.session_channels.size(),
        user_channels: limits.user_channels.size(),
        memory: limits.memory.map(|bytes| bytes.size()),
        user_memory: limits.user_memory.map(|bytes| bytes.size()),
        soft_handshakes: limits.soft_handshakes.size(),
        hard_handshakes: limits.hard_handshakes.size(),
        tcp_connections: limits.tcp_connections.map(Count::size),
    }
}

/// The rules, and beside each what it says of retention.
fn rules(
    settings: &Settings,
    sources: &Sources,
    problems: &mut Vec<String>,
) -> Option<(Rules, Vec<Option<RuleRetention>>)> {
    let list: &[Rule] = settings.rules.as_deref().unwrap_or_default();
    let mut rules = Vec::new();
    for (index, rule) in list.iter().enumerate() {
        match Pattern::parse(&rule.pattern) {
            Ok(pattern) => {
                let mut made = auth::Rule::new(pattern, rule.subscribe, rule.publish);
                made.history = rule.history;
                made.hide_publisher = rule.hide_publisher;
                made.presence = rule.presence;
                if let Err((key, what)) = delivery::fill(rule, &mut made.delivery) {
                    problems.push(sources.complain(&format!("rules[{index}].{key}"), what));
                }
                rules.push(if rule.auto_subscribe {
                    made.auto_subscribe()
                } else {
                    made
                });
            }
            Err(error) => {
                problems.push(sources.complain(&format!("rules[{index}].pattern"), error));
            }
        }
    }
    if rules.len() < list.len() {
        return None;
    }
    match Rules::new(rules) {
        Ok(rules) => Some((
            rules,
            list.iter().map(|rule| rule.retention.clone()).collect(),
        )),
        Err(error) => {
            problems.push(sources.complain("rules", error));
            None
        }
    }
}

/// What of which channel is kept: by the first rule that fits, as for permissions.
fn retention_of(
    rules: &Rules,
    own: Vec<Option<RuleRetention>>,
    default: &Retention,
) -> impl Fn(&crate::wire::ChannelName) -> broker::Retention + Send + Sync + 'static {
    let resolve = |own: Option<RuleRetention>| {
        let own = own.unwrap_or_default();
        broker::Retention {
            count: own.count.unwrap_or(default.count).size(),
            bytes: own.bytes.unwrap_or(default.bytes).size(),
            age: own.age_seconds.unwrap_or(default.age_seconds).seconds(),
            keep_latest: own.keep_latest,
        }
    };
    let otherwise = resolve(None);
    let resolved: Vec<_> = own.into_iter().map(resolve).collect();
    let rules = rules.clone();
    move |channel| {
        rules
            .iter()
            .zip(&resolved)
            .find(|(rule, _)| rule.pattern.matches(channel))
            .map_or(otherwise, |(_, retention)| *retention)
    }
}
