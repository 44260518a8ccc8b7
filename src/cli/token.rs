//! `tidings token`: signs a token.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Context, Failure, dev, files, units};
use crate::{
    auth::{Claims, Permissions, TokenIssuer, token::MAX_PATTERNS},
    wire::{Pattern, UserId},
};

/// Sign a token with which a user can connect
///
/// The token is a JSON Web Token (HS256). It alone is printed on standard output.
///
/// The secret is that of `tidings serve --dev` in this directory, or the one that --secret-file names: a server that has the
/// same secret in auth.keys accepts the token.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Who the token is for.
    #[arg(long, value_name = "ID")]
    user: UserId,
    /// How long it is good for: a number and s, m, h or d.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = units::duration)]
    valid_for: Duration,
    /// Which server it is for (the claim aud); may be repeated.
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// Who issues it (the claim iss).
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Channels that it may subscribe to whatever the server's rules say, such as chat-room-{room}; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<Pattern>,
    /// Channels that it may publish to whatever the server's rules say; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<Pattern>,
    /// Channels that it may not subscribe to whatever else says so; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    deny_subscribe: Vec<Pattern>,
    /// Channels that it may not publish to whatever else says so; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    deny_publish: Vec<Pattern>,
    /// The file with the secret, 32 bytes of text or more. A line end at its end does not belong to the secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  tidings sub --token \"$(tidings token --user 42 --for 1h)\"
  tidings token --user bot --for 7d --publish 'topic-{topic}' --secret-file token.secret";

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let issuer = issuer(arguments.secret_file.as_deref())?;
    let lists = [
        ("--subscribe", &arguments.subscribe),
        ("--publish", &arguments.publish),
        ("--deny-subscribe", &arguments.deny_subscribe),
        ("--deny-publish", &arguments.deny_publish),
    ];
    if let Some((flag, list)) = lists.iter().find(|(_, list)| list.len() > MAX_PATTERNS) {
        return Err(Failure::usage(format!(
            "{flag} is there {} times: a server takes {MAX_PATTERNS} patterns",
            list.len()
        )));
    }
    let end = SystemTime::now()
        .checked_add(arguments.valid_for)
        .ok_or_else(|| Failure::usage("--for is beyond what a clock can show"))?;
    let permissions = |allow: &Vec<Pattern>, deny: &Vec<Pattern>| Permissions {
        allow: allow.clone(),
        deny: deny.clone(),
    };
    let mut claims = Claims::new(&arguments.user, end)
        .audience(&arguments.audience)
        .subscribe(&permissions(
            &arguments.subscribe,
            &arguments.deny_subscribe,
        ))
        .publish(&permissions(&arguments.publish, &arguments.deny_publish));
    if let Some(name) = &arguments.issuer {
        claims = claims.issuer(name);
    }
    context.console.print(&issuer.issue_with(claims))
}

/// What signs: with the secret of this file, or with that of the development directory.
pub(super) fn issuer(file: Option<&Path>) -> Result<TokenIssuer, Failure> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => {
            let path = dev::path(dev::TOKEN_SECRET);
            if !path.exists() {
                return Err(Failure::new(format!(
                    "there is no {} here to sign with: start a server with `tidings serve --dev` in this directory, or bring a secret (`tidings token --secret-file`) or a token (--token) of your own",
                    path.display()
                )));
            }
            path
        }
    };
    let secret = files::read_secret(&path).map_err(Failure::usage)?;
    TokenIssuer::new(secret).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
