//! The command: see `tidings-link --help`.

use std::{
    fs,
    io::{self, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tidings_link::{
    Link, Side, calibrate,
    link::{self, Config},
    path,
    report::Report,
    send_signal,
    units::{Rate, Share, duration},
};

/// Two network namespaces, `server` (10.77.0.1) and `client` (10.77.0.2), joined by a link with delay, seeded loss and rate
///
/// The link carries IP packets, so UDP and TCP meet the same one. Needs root, /dev/net/tun and iproute2. Nothing outside the two
/// namespaces is touched, and everything is removed at the end.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Bring a link up, run a command beside it, and take the link down
    ///
    /// The command runs outside the namespaces, with TIDINGS_LINK in its environment: `tidings-link exec` inside it finds the link.
    /// Ends with the command's status. What the command has left running inside the namespaces is ended.
    Run {
        #[command(flatten)]
        link: LinkArguments,
        #[command(flatten)]
        output: Output,
        /// The command and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Bring a link up until SIGINT, SIGTERM or SIGHUP
    ///
    /// Prints one line of JSON with names and addresses when packets flow.
    Up {
        #[command(flatten)]
        link: LinkArguments,
        #[command(flatten)]
        output: Output,
    },
    /// Run a command at one end of a link
    Exec {
        /// The end.
        side: Side,
        /// Which link; without it the only one that is up.
        #[arg(long, env = VARIABLE, value_name = "NAME")]
        link: Option<String>,
        /// The command and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Measure what a link gives, against what was asked
    ///
    /// Brings links up of its own and measures round trips, loss both ways, and the rate for UDP and TCP. Ends with 1 when a figure
    /// is out of tolerance. TCP is measured without the loss: its rate under loss is a matter of its congestion control.
    Calibrate {
        #[command(flatten)]
        link: LinkArguments,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Remove what killed links have left
    ///
    /// Every new link does so, too.
    Clean,
}

#[derive(Debug, Args)]
struct LinkArguments {
    /// The link's name; without it one is made up.
    #[arg(long)]
    name: Option<String>,
    /// One-way delay: 25ms is a round trip of 50 ms.
    #[arg(long, default_value = "0ms", value_parser = duration)]
    delay: Duration,
    /// Share of packets lost, in each direction on its own.
    #[arg(long, default_value = "0%")]
    loss: Share,
    /// Bits a second in each direction, such as 20mbit; without it as fast as the machine.
    #[arg(long)]
    rate: Option<Rate>,
    /// Longest time that a packet waits for the rate; one that would wait longer is dropped.
    #[arg(long, default_value = "100ms", value_parser = duration)]
    queue: Duration,
    /// What the random numbers are drawn from: the same seed loses the same packets, counted from the first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Congestion control of TCP at both ends, whatever this machine prefers.
    #[arg(long, default_value = "cubic", value_name = "NAME")]
    tcp_congestion: String,
}

#[derive(Debug, Args)]
struct Output {
    /// Write the counters as JSON into this file at the end; - is standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Names the link to the commands that run beside it.
const VARIABLE: &str = "TIDINGS_LINK";
/// As `env` and shells do when a command cannot be run.
const CANNOT_RUN: u8 = 127;

const EXAMPLES: &str = "\
Examples:
  tidings-link run --delay 25ms --loss 2% --seed 7 -- tidings-link exec client -- ping -c 5 10.77.0.1
  tidings-link up --name slow --rate 1mbit &      then: tidings-link exec server --link slow -- COMMAND
  tidings-link calibrate --delay 25ms --loss 2% --rate 20mbit";

/// What ends the program, for people.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Subcommands::Run {
            link,
            output,
            command,
        } => run(&link.into(), &output, &command),
        Subcommands::Up { link, output } => up(&link.into(), &output),
        Subcommands::Exec {
            side,
            link,
            command,
        } => exec(side, link.as_deref(), &command),
        Subcommands::Calibrate { link, json } => calibrate(&link.into(), json),
        Subcommands::Clean => clean(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tidings-link: {error}");
        ExitCode::from(2)
    })
}

fn run(config: &Config, output: &Output, command: &[String]) -> Result<ExitCode, Failure> {
    // Before anything is there that a signal would leave behind.
    let mut signals = Signals::new([SIGCHLD, SIGINT, SIGTERM, SIGHUP])?;
    let link = Link::up(config)?;
    let (program, arguments) = split(command);
    let mut child = match Command::new(program)
        .args(arguments)
        .env(VARIABLE, &link.note().name)
        .spawn()
    {
        Ok(child) => child,
        Err(error) => return Ok(cannot_run(program, &error)),
    };
    let mut status = child.try_wait()?;
    let mut asked = false;
    while status.is_none() {
        for signal in signals.wait() {
            if signal != SIGCHLD {
                // The second time it is meant.
                let signal = if asked { libc::SIGKILL } else { libc::SIGTERM };
                asked = true;
                // It may have ended meanwhile.
                let _ = send_signal(child.id().cast_signed(), signal);
            }
        }
        status = child.try_wait()?;
    }
    finish(link, output)?;
    Ok(status.map_or(ExitCode::FAILURE, code_of))
}

fn up(config: &Config, output: &Output) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let link = Link::up(config)?;
    let line = serde_json::to_string(link.note())?;
    // Whoever reads this may have gone; the link is up all the same.
    let _ = writeln!(io::stdout(), "{line}");
    signals.forever().next();
    finish(link, output)?;
    Ok(ExitCode::SUCCESS)
}

fn exec(side: Side, link: Option<&str>, command: &[String]) -> Result<ExitCode, Failure> {
    link::find(link)?.move_here(side)?;
    let (program, arguments) = split(command);
    // Returns only where it fails.
    let error = Command::new(program).args(arguments).exec();
    Ok(cannot_run(program, &error))
}

fn calibrate(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let calibration = calibrate::run(config)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&calibration)?);
    } else {
        print!("{calibration}");
    }
    if calibration.passed() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "tidings-link: the link is not what was asked for. Is the machine busy, or the rate more than it can carry? Figures taken over it mean nothing."
    );
    Ok(ExitCode::FAILURE)
}

fn clean() -> Result<ExitCode, Failure> {
    for name in link::sweep()? {
        println!("removed {name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the link down and tells what it carried.
fn finish(link: Link, output: &Output) -> Result<(), Failure> {
    let report: Report = link.report();
    drop(link);
    match &output.json {
        None => eprintln!("{report}"),
        Some(path) => {
            let text = serde_json::to_string(&report)? + "\n";
            if path.as_os_str() == "-" {
                io::stdout().write_all(text.as_bytes())?;
            } else {
                fs::write(path, text)
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// clap takes no empty command.
fn split(command: &[String]) -> (&str, &[String]) {
    command
        .split_first()
        .map_or(("", &[]), |(program, arguments)| {
            (program.as_str(), arguments)
        })
}

fn cannot_run(program: &str, error: &io::Error) -> ExitCode {
    eprintln!("tidings-link: cannot run {program}: {error}");
    ExitCode::from(CANNOT_RUN)
}

/// The status as shells tell it.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

impl From<LinkArguments> for Config {
    fn from(arguments: LinkArguments) -> Self {
        Self {
            name: arguments.name,
            path: path::Config {
                delay: arguments.delay,
                loss: arguments.loss,
                rate: arguments.rate,
                queue: arguments.queue,
                seed: arguments.seed,
            },
            tcp_congestion: arguments.tcp_congestion,
        }
    }
}
