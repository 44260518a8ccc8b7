//! Floor 5: the `tidings` command.
//!
//! Arguments, environment and signals come in as an [`Invocation`]; what goes out is standard output, standard error and an
//! exit code: 0, 1 for a failure, 2 where the command line or the configuration is at fault, 3 for a run of `bench` that is
//! void. A failure prints one line.

mod api;
mod bench;
mod cert;
mod config;
mod connect;
mod dev;
mod files;
mod history;
mod logging;
mod output;
mod presence;
mod publish;
mod serve;
mod settings;
mod sub;
mod token;
mod units;

use std::{collections::HashMap, ffi::OsString, fmt, future::Future, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::sync::watch;

use output::Console;

/// What a process is started with.
#[derive(Debug)]
pub struct Invocation {
    /// The arguments, the program's name first.
    pub args: Vec<OsString>,
    /// `TIDINGS_*` and `NO_COLOR`.
    pub env: HashMap<String, String>,
    /// What asks the process to end.
    pub interrupts: Interrupts,
}

/// How often the process was asked to end.
#[derive(Debug, Clone)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Reads the number of interrupts so far.
    #[must_use]
    pub const fn new(count: watch::Receiver<u32>) -> Self {
        Self(count)
    }

    /// Waits until there were `count` of them. Never ready once nobody counts any more.
    fn at_least(&self, count: u32) -> impl Future<Output = ()> + Send + 'static {
        let mut seen = self.0.clone();
        async move {
            if seen.wait_for(|seen| *seen >= count).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What every command gets besides its arguments.
#[derive(Debug)]
struct Context {
    env: HashMap<String, String>,
    interrupts: Interrupts,
    console: Console,
}

impl Context {
    /// A variable of the environment. An empty one is as good as none.
    fn var(&self, name: &str) -> Option<&str> {
        self.env
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
struct Failure {
    code: u8,
    /// Each is a line of standard error; one, but for `config check`, and none where they were written already.
    reasons: Vec<String>,
}

impl Failure {
    /// It was tried, and did not work.
    fn new(reason: impl fmt::Display) -> Self {
        Self {
            code: 1,
            reasons: vec![reason.to_string()],
        }
    }

    /// The command line or the configuration is at fault.
    fn usage(reason: impl fmt::Display) -> Self {
        Self {
            code: 2,
            reasons: vec![reason.to_string()],
        }
    }

    /// A measurement is worth nothing.
    fn void(reason: impl fmt::Display) -> Self {
        Self {
            code: 3,
            reasons: vec![reason.to_string()],
        }
    }
}

/// Tidings: a real-time server over QUIC and WebTransport, and its command-line client.
///
/// Publish to a channel, and every device of every subscriber gets it.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, max_term_width = 100, after_help = MORE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const MORE: &str = "\
To begin with, in an empty directory:
  tidings serve --dev           a server, with all that it needs in certs/dev
  tidings sub --user 42         in a second terminal there: what user 42 gets
  tidings notify 42 \"hello\"     in a third one: a line for user 42

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration, 3 a void run of `tidings bench`. A failure is one line on standard error that says \
what is wrong and what to do. Colours are for terminals only, and NO_COLOR takes them away.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Sub(sub::Arguments),
    History(history::Arguments),
    Presence(presence::Arguments),
    Pub(publish::PubArguments),
    Notify(publish::NotifyArguments),
    Announce(publish::AnnounceArguments),
    Bench(bench::Arguments),
    Token(token::Arguments),
    Cert(cert::Arguments),
    Config(config::Arguments),
}

/// Runs one command to its end.
pub async fn run(invocation: Invocation) -> ExitCode {
    let Invocation {
        args,
        env,
        interrupts,
    } = invocation;
    let console = Console::new(env.get("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let context = Context {
        env,
        interrupts,
        console,
    };
    let done = match Arguments::try_parse_from(args) {
        Ok(arguments) => dispatch(arguments.command, &context).await,
        Err(error) => output::usage(&error, console),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for reason in &failure.reasons {
                console.complain(reason);
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn dispatch(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        // These have an orderly end of their own.
        Command::Serve(arguments) => serve::run(arguments, context).await,
        Command::Sub(arguments) => sub::run(arguments, context).await,
        Command::Bench(arguments) => bench::run(arguments, context).await,
        other => tokio::select! {
            biased;
            () = context.interrupts.at_least(1) => Err(Failure::new("interrupted before it was done")),
            done = brief(other, context) => done,
        },
    }
}

/// Commands that an interrupt simply ends.
async fn brief(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Serve(_) | Command::Sub(_) | Command::Bench(_) => Ok(()),
        Command::History(arguments) => history::run(arguments, context).await,
        Command::Presence(arguments) => presence::run(arguments, context).await,
        Command::Pub(arguments) => publish::publish(arguments, context).await,
        Command::Notify(arguments) => publish::notify(arguments, context).await,
        Command::Announce(arguments) => publish::announce(arguments, context).await,
        Command::Token(arguments) => token::run(&arguments, context),
        Command::Cert(arguments) => cert::run(&arguments, context),
        Command::Config(arguments) => config::run(arguments, context),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_flags_of_every_command_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
