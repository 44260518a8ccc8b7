//! The configuration: [`Settings`] as read, [`Plan`] as used.
//!
//! Flags come before the environment, that before the file, that before the defaults. Every complaint names the key, where
//! its value comes from, and what is allowed.

mod auth;
mod delivery;
mod plan;
mod read;
mod schema;
mod values;

use std::{collections::HashMap, path::PathBuf};

pub(super) use plan::Plan;
pub(super) use read::Loaded;
pub(super) use schema::Settings;
pub(super) use values::Address;

/// Which settings to read.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Choice {
    /// The configuration: a TOML file in UTF-8. `tidings config print` shows every key with its default.
    ///
    /// Relative paths in the file are relative to the directory that the file is in, and those in the environment and in flags to the
    /// working directory.
    ///
    /// Every key can also come from the environment, in capitals, with TIDINGS_ before it and __ between its parts:
    /// TIDINGS_LISTEN, TIDINGS_HTTP__LISTEN, TIDINGS_LIMITS__SESSIONS. A list of texts is written with commas. A flag goes
    /// before the environment, and that before the file. TIDINGS_CONFIG names the file where this flag does not.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Settings for development: 127.0.0.1 only, and certificate, token secret and API key from certs/dev.
    #[arg(long)]
    pub(super) dev: bool,
}

impl Choice {
    /// Reads them.
    pub(super) fn load(&self, env: &HashMap<String, String>) -> Result<Loaded, Vec<String>> {
        let named = env.get("TIDINGS_CONFIG").filter(|name| !name.is_empty());
        let file = self.config.clone().or_else(|| named.map(PathBuf::from));
        let mut loaded = read::load(file, env)?;
        if self.dev {
            loaded.dev = true;
            loaded.settings.fill_for_development();
        }
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests;
