//! `tidings serve`: the server.

use std::io;

use super::{
    Context, Failure,
    dev::{self, Running},
    files,
    logging::Output,
    output::{Console, FAINT, LABEL},
    settings::{Address, Choice, Plan},
};
use crate::{
    server::ServerError,
    transport::{BindError, Sha256, descriptors::raise_limit},
};

/// Run a server
///
/// With --dev it needs nothing: it listens on 127.0.0.1 only, makes a certificate, a token secret and an API key in certs/dev
/// when they are missing, and every other command that runs in the same directory finds it there. Never use it for more
/// than development.
///
/// Without it, a configuration says which certificate to show and which tokens to accept.
///
/// ctrl-C or SIGTERM lets it drain: nobody new is let in, everybody else gets what was accepted before, for at most
/// timeouts.grace. A second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// The address for QUIC and WebTransport (UDP) and WebSockets (TCP); port 0 is any free one. Default: `[::]:4433`, with --dev `127.0.0.1:4433`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Address>,
    /// The TCP address of the HTTP API, which is off unless [http] is configured. Default: 127.0.0.1:8080. It has no TLS: only
    /// a proxy or a network of your own belongs in front of it.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<Address>,
}

const EXAMPLES: &str = "\
Examples:
  tidings serve --dev
  tidings serve --config tidings.toml";

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let output = Output::start(context.console)?;
    let done = serve(arguments, context, &output).await;
    let done = done.map_err(|failure| output.complain(failure));
    output.close();
    done
}

async fn serve(arguments: Arguments, context: &Context, output: &Output) -> Result<(), Failure> {
    let dev = arguments.choice.dev;
    let mut loaded = arguments.choice.load(&context.env).map_err(first_of)?;
    loaded.settings.listen = arguments.listen.or(loaded.settings.listen);
    if let Some(address) = arguments.http {
        loaded.settings.set_http_listen(address);
    }
    if dev {
        for line in dev::prepare().map_err(Failure::new)? {
            output.print(&line);
        }
    }
    let api_key = loaded.dev_api_key();
    let Plan {
        log,
        mut builder,
        http,
        websockets,
        plain_websockets,
        grace,
    } = loaded.plan().map_err(first_of)?;
    output.log(log);
    if let Some(limit) = raise_limit() {
        tracing::debug!(limit, "open files");
    }
    if http.is_some_and(|http| !http.ip().is_loopback()) {
        tracing::warn!(
            "the HTTP API has no TLS and listens beyond this machine: put a proxy with TLS in front of it"
        );
    }
    if plain_websockets.is_some_and(|plain| !plain.ip().is_loopback()) {
        tracing::warn!(
            "WebSockets without TLS are served beyond this machine: let only a proxy with TLS reach them"
        );
    }
    #[cfg(feature = "web")]
    if dev {
        // Without a key of the development directory the console asks for one.
        let key = api_key.as_deref().map(files::read_secret).transpose();
        let key = key.map_err(Failure::new)?.unwrap_or_default();
        builder = builder.development(super::token::issuer(None)?, key);
    }
    let server = builder.bind().await.map_err(|error| explain(&error))?;
    let quic = server.local_address();
    let mut running = Running::new(quic, server.http_address(), server.certificate_sha256());
    if !websockets {
        running.websocket = None;
    }
    running.plain_websocket = server.plain_websocket_address().map(dev::plain_websocket);
    let _note = if dev {
        Some(running.note().map_err(Failure::new)?)
    } else {
        None
    };
    output.print(&banner(
        &running,
        server.certificate_sha256(),
        dev,
        api_key,
        context.console,
    ));

    let drain = context.interrupts.at_least(1);
    let asked = async move {
        drain.await;
        output.tell(&format!(
            "draining for up to {} s; a second signal ends it at once",
            grace.as_secs()
        ));
    };
    tokio::select! {
        biased;
        () = context.interrupts.at_least(2) => {
            Err(Failure::new("ended by a second signal before everything was delivered"))
        }
        () = server.run(asked) => Ok(()),
    }
}

/// All that is wrong with the configuration, on one line.
fn first_of(problems: Vec<String>) -> Failure {
    let more = problems.len().saturating_sub(1);
    let first = problems.into_iter().next().unwrap_or_default();
    if more == 0 {
        return Failure::usage(first);
    }
    Failure::usage(format!(
        "{first} (and {more} more: `tidings config check` lists all)"
    ))
}

/// Why the server does not start, and what to do.
fn explain(error: &ServerError) -> Failure {
    let hint = |source: &io::Error, flag: &str| match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!(": something else listens there; end that, or choose another port with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!(": this port needs a privilege; choose one above 1023 with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(": this machine does not have that address; choose another with {flag}")
        }
        _ => String::new(),
    };
    let hint = match error {
        ServerError::Bind(BindError::Socket { source, .. }) => hint(source, "--listen"),
        ServerError::Bind(BindError::Tcp { source, .. }) => {
            let or = " (or websockets = false in the configuration: the port over TCP is for WebSockets alone)";
            hint(source, "--listen") + or
        }
        ServerError::Bind(BindError::PlainTcp { source, .. }) => {
            hint(source, "plain_websockets in the configuration")
        }
        ServerError::Http { source, .. } => hint(source, "--http"),
        _ => String::new(),
    };
    Failure::new(format!("{error}{hint}"))
}

/// What somebody who has just started a server wants to know.
fn banner(
    running: &Running,
    sha256: Sha256,
    dev: bool,
    api_key: Option<std::path::PathBuf>,
    console: Console,
) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use std::fmt::Write;

    let label = |text: &str| console.out.paint(LABEL, &format!("{text:<14}"));
    let faint = |text: &str| console.out.paint(FAINT, text);
    let kind = if dev { ", for development" } else { "" };
    let mut text = format!("Tidings {}{kind}\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {}{value}", label(name));
    };
    line("QUIC", &running.quic);
    line("WebTransport", &running.webtransport);
    if let Some(websocket) = &running.websocket {
        line("WebSocket", websocket);
    }
    if let Some(plain) = &running.plain_websocket {
        line("", &format!("{plain}  {}", faint("without TLS")));
    }
    line("Certificate", &format!("{sha256}  {}", faint("SHA-256")));
    line(
        "",
        &format!(
            "{}  {}",
            BASE64_STANDARD.encode(sha256.0),
            faint("the same in base64")
        ),
    );
    if let Some(http) = &running.http {
        line("HTTP API", http);
    }
    if let Some(path) = api_key
        && let Ok(key) = files::read_secret(&path)
    {
        line(
            "API key",
            &format!("{key}  {}", faint(&path.display().to_string())),
        );
    }
    if dev && let Some(http) = &running.http {
        let _ = writeln!(text, "\nOpen {http}/ in a browser, or {http}/console");
    }
    if dev {
        text.push_str("\nIn other terminals, in this directory:\n\n");
        for (command, what) in [
            ("tidings sub --user 42", "what user 42 gets"),
            (
                "tidings announce \"hello, everybody\"",
                "a line for everybody",
            ),
            (
                "tidings notify 42 \"your order shipped\"",
                "a line for user 42",
            ),
        ] {
            let _ = writeln!(text, "  {command:<40} {}", faint(what));
        }
    }
    text.trim_end().to_owned() + "\n"
}
