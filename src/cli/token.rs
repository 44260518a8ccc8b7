//! `tidings token`: signs a token.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Context, Failure, dev, files, units};
use crate::{
    auth::{Algorithm, Claims, Permissions, TokenIssuer, token::MAX_PATTERNS},
    wire::{Pattern, UserId},
};

/// Sign a token with which a user can connect
///
/// The token is a JSON Web Token. It alone is printed on standard output.
///
/// It is signed with the secret of `tidings serve --dev` in this directory (HS256), with the one that --secret-file names, or
/// with the private key that --key-file names: a server that has the same secret, or the public key, in auth.keys accepts the
/// token.
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
    /// The file with the secret, 32 bytes of text or more on one line. White space around it does not belong to the secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The PEM file with a private key to sign with instead: PKCS#8 (-----BEGIN PRIVATE KEY-----), unencrypted.
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    key_file: Option<PathBuf>,
    /// How to sign with that key: ES256, ES384, EdDSA, RS256, RS384, RS512, PS256, PS384 or PS512. Default: as the key is made
    /// for, and RS256 with an RSA key.
    #[arg(long, value_name = "NAME", requires = "key_file", value_parser = algorithm)]
    algorithm: Option<Algorithm>,
    /// The id of the key (kid in the token's header), for servers that tell keys apart by it.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match serde_json::from_value(text.into()) {
        Ok(Algorithm::HS256) => Err("HS256 signs with a secret: pass --secret-file".to_owned()),
        Ok(algorithm) => Ok(algorithm),
        Err(_) => Err(format!("{text:?} is no algorithm that is supported")),
    }
}

const EXAMPLES: &str = "\
Examples:
  tidings sub --token \"$(tidings token --user 42 --for 1h)\"
  tidings token --user bot --for 7d --publish 'topic-{topic}' --secret-file token.secret
  tidings token --user bot --key-file private.pem --algorithm PS256";

pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let issuer = match &arguments.key_file {
        Some(path) => signer(path, arguments.algorithm)?,
        None => issuer(arguments.secret_file.as_deref())?,
    };
    let issuer = match &arguments.key_id {
        Some(id) => issuer.with_id(id),
        None => issuer,
    };
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

/// An issuer with the private key of this file.
fn signer(path: &Path, algorithm: Option<Algorithm>) -> Result<TokenIssuer, Failure> {
    let pem = files::read_text(path).map_err(Failure::usage)?;
    TokenIssuer::from_pem(algorithm, pem.as_bytes())
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
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
