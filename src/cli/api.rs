//! A client of the HTTP API.

use std::{error::Error, path::PathBuf, time::Duration};

use reqwest::{Url, header::HeaderValue, redirect};
use serde::{Deserialize, Serialize};

use super::{
    Context, Failure,
    connect::NO_SERVER,
    dev::{self, Running},
    files,
};

/// What no flag and no variable says is taken from the server that `tidings serve --dev` runs in this directory.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "HTTP API")]
#[group(skip)]
pub(super) struct Arguments {
    /// The HTTP API: http://HOST:PORT, with the path of a proxy in front of it, if any [env: TIDINGS_HTTP_URL]
    #[arg(long, value_name = "URL")]
    pub(super) http: Option<String>,
    /// The file with the API key [env: TIDINGS_API_KEY has the key itself]
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
}

/// Total time of a request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time for the connection alone.
const CONNECT: Duration = Duration::from_secs(5);

/// The API of a server, and the right to use it.
#[derive(Debug)]
pub(super) struct Api {
    base: Url,
    key: HeaderValue,
    client: reqwest::Client,
}

/// Where a message stands.
#[derive(Debug, Deserialize)]
pub(super) struct Published {
    channel: String,
    epoch: String,
    offset: u64,
}

impl std::fmt::Display for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}:{}", self.channel, self.epoch, self.offset)
    }
}

/// What an error of the API looks like.
#[derive(Deserialize)]
struct Refusal {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    code: String,
    number: Option<u32>,
    message: String,
}

impl Arguments {
    /// Whether one of them was given.
    pub(super) fn any(&self) -> bool {
        self.http.is_some() || self.api_key_file.is_some()
    }

    /// Finds the server and the key.
    pub(super) fn find(self, context: &Context) -> Result<Api, Failure> {
        let given = self
            .http
            .or_else(|| context.var("TIDINGS_HTTP_URL").map(str::to_owned));
        let running = Running::find().map_err(Failure::new)?;
        let noted = running.and_then(|running| running.http);
        let url = given
            .clone()
            .or_else(|| noted.clone())
            .ok_or_else(|| Failure::new(format!("{NO_SERVER} --http and --api-key-file")))?;
        let base = parse(&url)?;
        let (from, key) = match (self.api_key_file, context.var("TIDINGS_API_KEY")) {
            (Some(path), _) => (path.display().to_string(), read_key(&path)?),
            (None, Some(key)) => ("TIDINGS_API_KEY".to_owned(), key.trim().to_owned()),
            // A key is shown to its own server and to no other.
            (None, None)
                if noted.is_some_and(|noted| parse(&noted).is_ok_and(|noted| noted == base)) =>
            {
                let path = dev::path(dev::API_KEY);
                (path.display().to_string(), read_key(&path)?)
            }
            (None, None) => {
                return Err(Failure::usage(format!(
                    "no API key for {url}: pass --api-key-file FILE, or set TIDINGS_API_KEY"
                )));
            }
        };
        let mut key = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| {
            Failure::usage(format!(
                "{from}: this cannot be an API key: it has characters that no header takes"
            ))
        })?;
        key.set_sensitive(true);
        let client = reqwest::Client::builder()
            // Surroundings are read in one place only, and the key goes to this server alone.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT)
            .user_agent(concat!("tidings-cli/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::new(root(&error)))?;
        Ok(Api { base, key, client })
    }
}

fn read_key(path: &std::path::Path) -> Result<String, Failure> {
    files::read_secret(path).map_err(Failure::usage)
}

fn parse(url: &str) -> Result<Url, Failure> {
    let fail =
        |reason: &str| Failure::usage(format!("{url:?} is no address of an HTTP API: {reason}"));
    let parsed = Url::parse(url).map_err(|error| fail(&error.to_string()))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(fail(
            "it has user info; the API key comes from --api-key-file",
        ));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(fail("it has a query or a fragment"));
    }
    match parsed.scheme() {
        "http" => Ok(parsed),
        "https" => Err(fail(
            "this command speaks HTTP without TLS, to the server itself; to a proxy with TLS use curl",
        )),
        _ => Err(fail("http://HOST:PORT is needed")),
    }
}

impl Api {
    /// Posts to one of the API's paths.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Published, Failure> {
        let fail = |reason: String| {
            Failure::new(format!(
                "{}: {reason}",
                self.base.as_str().trim_end_matches('/')
            ))
        };
        let url = below(&self.base, path);
        let request = self
            .client
            .post(url)
            .header(reqwest::header::AUTHORIZATION, self.key.clone())
            .json(body);
        let response = request.send().await.map_err(|error| {
            fail(if error.is_connect() {
                format!(
                    "cannot connect ({}): is the server running, and its HTTP API on?",
                    root(&error)
                )
            } else if error.is_timeout() {
                "no answer in time: whether it was published is not known".to_owned()
            } else {
                root(&error)
            })
        })?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| fail(root(&error)))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| fail(format!("the answer is none of Tidings' ({error})")));
        }
        Err(fail(match serde_json::from_slice(&body) {
            Ok(Refusal { error }) => {
                let number = error.number.map(|number| format!(" ({number})"));
                format!(
                    "the server refuses with {}{}: {}",
                    error.code,
                    number.unwrap_or_default(),
                    error.message
                )
            }
            Err(_) => format!("answered with HTTP {status}: is this the HTTP API of Tidings?"),
        }))
    }
}

/// A path of the API below the path of its address, which a proxy may have added.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// The innermost reason: the outer ones say where it was met.
fn root(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_the_address_stays() {
        for (base, wanted) in [
            ("http://localhost:8080", "http://localhost:8080/v1/publish"),
            ("http://localhost:8080/", "http://localhost:8080/v1/publish"),
            ("http://proxy/tidings", "http://proxy/tidings/v1/publish"),
            ("http://proxy/tidings/", "http://proxy/tidings/v1/publish"),
            ("http://proxy/a%20b/c//", "http://proxy/a%20b/c/v1/publish"),
        ] {
            assert_eq!(below(&parse(base).unwrap(), "/v1/publish").as_str(), wanted);
        }
        for bad in [
            "http://user@localhost",
            "http://user:secret@localhost",
            "http://localhost/?a=b",
            "http://localhost/#a",
            "https://localhost",
            "localhost:8080",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
