//! `tidings config`: what a server would run with.

use clap::Subcommand;

use super::{Context, Failure, settings::Choice};

/// Check the server's configuration, or print it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say OK, or everything that keeps `tidings serve` from starting
    ///
    /// Reads the settings as `tidings serve` does, from the file and the environment, and every file that they name. No port
    /// is opened; with --dev, what is missing in certs/dev is made. Each thing that is wrong is one line on standard error, and the exit code is 2.
    Check(Choice),
    /// Print the configuration as TOML, with every default
    ///
    /// What is printed can be used as a configuration file. No secret is in it: the files that hold secrets are named, by absolute
    /// paths.
    Print(Choice),
}

pub(super) fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let wrong = |reasons| Failure { code: 2, reasons };
    match arguments.action {
        Action::Check(choice) => {
            if choice.dev {
                // The plan reads what is there.
                super::dev::prepare().map_err(Failure::new)?;
            }
            let loaded = choice.load(&context.env).map_err(wrong)?;
            loaded.plan().map_err(wrong)?;
            context.console.print("OK")
        }
        Action::Print(choice) => {
            let settings = choice.load(&context.env).map_err(wrong)?.settings;
            let text = toml::to_string(&settings.effective().absolute()).map_err(Failure::new)?;
            context.console.print(text.trim_end())
        }
    }
}
