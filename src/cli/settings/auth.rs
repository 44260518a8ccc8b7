//! Who may connect: from settings to an authenticator.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    read::Sources,
    schema::{Auth, Key},
};
use crate::{
    auth::{Algorithm, AllowAnonymous, Authenticator, JwtAuthenticator, VerifyingKey, token},
    cli::files,
};

const MISSING: &str = "nothing says who may connect: add a key such as \
    `keys = [{ algorithm = \"HS256\", secret_file = \"token.secret\" }]` to [auth], or `anonymous = true` to let everybody in \
    without a token, or use --dev";

/// Makes the authenticator, or adds each thing that is wrong to `problems`.
pub(super) fn authenticator(
    auth: &Auth,
    sources: &Sources,
    problems: &mut Vec<String>,
) -> Option<Arc<dyn Authenticator>> {
    let before = problems.len();
    let mut keys = Vec::new();
    for (index, key) in auth.keys.iter().enumerate() {
        match verifying_key(key) {
            Ok(key) => keys.push(key),
            Err((name, what)) => {
                problems.push(sources.complain(&format!("auth.keys[{index}].{name}"), what));
            }
        }
    }
    if let Some(path) = &auth.jwks_file {
        match read_key_set(path) {
            Ok(set) => keys.extend(set),
            Err(what) => problems.push(sources.complain("auth.jwks_file", what)),
        }
    }
    let leeway = Duration::from_secs(auth.leeway_seconds);
    if leeway > token::MAX_LEEWAY {
        problems.push(sources.complain(
            "auth.leeway_seconds",
            format!(
                "{} is too much: at most {} are allowed",
                auth.leeway_seconds,
                token::MAX_LEEWAY.as_secs()
            ),
        ));
    }
    if problems.len() > before {
        return None;
    }
    if keys.is_empty() {
        if auth.anonymous {
            return Some(Arc::new(AllowAnonymous::only()));
        }
        problems.push(sources.complain("auth", MISSING));
        return None;
    }
    let jwt = match JwtAuthenticator::new(keys) {
        Ok(jwt) => jwt,
        Err(error) => {
            problems.push(sources.complain("auth.keys", error));
            return None;
        }
    };
    let mut jwt = jwt.audience(&auth.audience).leeway(leeway);
    if let Some(issuer) = &auth.issuer {
        jwt = jwt.issuer(issuer);
    }
    Some(if auth.anonymous {
        Arc::new(AllowAnonymous::or(jwt))
    } else {
        Arc::new(jwt)
    })
}

/// The error is the key's name and what is wrong.
fn verifying_key(key: &Key) -> Result<VerifyingKey, (&'static str, String)> {
    let (name, wanted, unwanted) = match key.algorithm {
        Algorithm::HS256 => ("secret_file", &key.secret_file, &key.public_key_file),
        _ => ("public_key_file", &key.public_key_file, &key.secret_file),
    };
    let algorithm = key.algorithm;
    if unwanted.is_some() {
        let other = if name == "secret_file" {
            "public_key_file"
        } else {
            "secret_file"
        };
        return Err((other, format!("{algorithm} takes a {name} instead")));
    }
    let path = wanted.as_ref().ok_or_else(|| {
        let missing = format!("it is missing: {algorithm} needs `{name} = \"FILE\"`");
        (name, missing)
    })?;
    let made = match algorithm {
        Algorithm::HS256 => {
            let secret = files::read_secret(path).map_err(|what| (name, what))?;
            VerifyingKey::hs256(secret.as_bytes())
        }
        _ => VerifyingKey::from_pem(algorithm, read(path, name)?.as_bytes()),
    };
    let made = made.map_err(|error| (name, format!("{}: {error}", path.display())))?;
    Ok(match &key.id {
        Some(id) => made.with_id(id),
        None => made,
    })
}

fn read(path: &Path, name: &'static str) -> Result<String, (&'static str, String)> {
    files::read_text(path).map_err(|what| (name, what))
}

fn read_key_set(path: &Path) -> Result<Vec<VerifyingKey>, String> {
    let text = files::read_text(path)?;
    VerifyingKey::from_jwks(&text).map_err(|error| format!("{}: {error}", path.display()))
}
