//! From a file and the environment to [`Settings`].

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use super::Settings;
use crate::cli::files;

/// Variables that are flags of commands, or name the file: no settings.
pub(super) const NOT_SETTINGS: &[&str] = &[
    "TIDINGS_CONFIG",
    "TIDINGS_URL",
    "TIDINGS_TOKEN",
    "TIDINGS_HTTP_URL",
    "TIDINGS_API_KEY",
    API_KEY,
];

/// The only secret that may come as a value: the environment is not readable by others, unlike many a file.
const API_KEY: &str = "TIDINGS_HTTP__API_KEY";

/// The settings, and where they come from.
#[derive(Debug)]
pub(in crate::cli) struct Loaded {
    pub(in crate::cli) settings: Settings,
    /// Whether they are for development.
    pub(super) dev: bool,
    /// The API key itself.
    pub(super) api_key: Option<String>,
    pub(super) sources: Sources,
}

/// Where values come from, to be named in complaints.
#[derive(Debug, Default)]
pub(super) struct Sources {
    file: Option<PathBuf>,
    /// Key to variable.
    variables: BTreeMap<String, String>,
}

impl Sources {
    /// A complaint about a key: whose value it is, which key, what is wrong.
    pub(super) fn complain(&self, key: &str, what: impl std::fmt::Display) -> String {
        let variable = self.variables.iter().find(|(known, _)| {
            key.strip_prefix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        match (variable, &self.file) {
            (Some((_, variable)), _) => format!("{variable}: {key}: {what}"),
            (None, Some(file)) => format!("{}: {key}: {what}", file.display()),
            (None, None) => format!("{key}: {what}"),
        }
    }
}

/// Reads the file, if there is one, and puts the environment on top.
pub(super) fn load(
    file: Option<PathBuf>,
    env: &HashMap<String, String>,
) -> Result<Loaded, Vec<String>> {
    let mut table = match &file {
        Some(path) => {
            let mut table = read_file(path).map_err(|problem| vec![problem])?;
            if let Some(directory) = path.parent() {
                rebase_paths(&mut table, directory);
            }
            table
        }
        None => Table::new(),
    };
    let mut sources = Sources {
        file,
        ..Sources::default()
    };
    let known = Table::try_from(Settings::specimen()).map_err(|error| vec![error.to_string()])?;
    let mut problems = Vec::new();
    unknown_keys(&table, &known, "", &mut |key, what| {
        problems.push(sources.complain(key, what));
    });
    let mut api_key = None;
    // In the order of their names, so that the same complaint comes first every time.
    let variables: BTreeMap<_, _> = env.iter().filter(|(_, value)| !value.is_empty()).collect();
    for (name, value) in variables {
        if name == API_KEY {
            api_key = Some(value.trim().to_owned());
            table
                .entry("http")
                .or_insert_with(|| Value::Table(Table::new()));
        }
        let Some(key) = setting(name) else { continue };
        let parts: Vec<&str> = key.split('.').collect();
        match overlay(&mut table, &known, &parts, value) {
            Ok(()) => {
                sources.variables.insert(key, name.clone());
            }
            Err(what) => problems.push(format!("{name}: {what}")),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let settings = serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let key = error.path().to_string();
        let inner = error.into_inner();
        vec![sources.complain(&key, inner.message())]
    })?;
    Ok(Loaded {
        settings,
        dev: false,
        api_key,
        sources,
    })
}

fn read_file(path: &Path) -> Result<Table, String> {
    let text = files::read_text(path)?;
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map_or(1, |span| {
            1 + text[..span.start.min(text.len())].matches('\n').count()
        });
        format!(
            "{}: line {line}: this is no TOML: {}",
            path.display(),
            error.message()
        )
    })
}

/// Makes relative paths of a file relative to the directory that the file is in. Paths of the environment and of flags are
/// relative to the working directory.
fn rebase_paths(table: &mut Table, directory: &Path) {
    for (name, value) in table {
        match value {
            Value::String(text) if PATHS.contains(&name.as_str()) => {
                // A path that is absolute stays as it is.
                *text = directory.join(&text).to_string_lossy().into_owned();
            }
            Value::Table(inner) => rebase_paths(inner, directory),
            Value::Array(items) => {
                for item in items {
                    if let Value::Table(inner) = item {
                        rebase_paths(inner, directory);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Last parts of the keys that name files.
pub(super) const PATHS: &[&str] = &[
    "chain",
    "key",
    "jwks_file",
    "secret_file",
    "public_key_file",
    "api_key_file",
];

/// The key that a variable sets; `None` for one that sets none.
fn setting(name: &str) -> Option<String> {
    let rest = name.strip_prefix("TIDINGS_")?;
    // Kubernetes sets these in every container beside a service that is called "tidings".
    let foreign = rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_");
    if foreign || NOT_SETTINGS.contains(&name) {
        return None;
    }
    Some(rest.to_lowercase().replace("__", "."))
}

fn list(table: &Table) -> String {
    let keys: Vec<_> = table.keys().map(String::as_str).collect();
    keys.join(", ")
}

/// Calls `complain` with every key of `table` that `known` does not have.
fn unknown_keys(
    table: &Table,
    known: &Table,
    prefix: &str,
    complain: &mut impl FnMut(&str, String),
) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match (value, known.get(name)) {
            (_, None) if key == "http.api_key" => complain(
                &key,
                format!(
                    "the key itself does not belong into the file: put it into one of its own, named by http.api_key_file, or into {API_KEY}"
                ),
            ),
            (_, None) => complain(
                &key,
                format!("there is no such key; allowed here: {}", list(known)),
            ),
            (Value::Table(table), Some(Value::Table(known))) => {
                unknown_keys(table, known, &format!("{key}."), complain);
            }
            (Value::Array(items), Some(Value::Array(known))) => {
                for (index, item) in items.iter().enumerate() {
                    if let (Value::Table(item), Some(Value::Table(known))) = (item, known.first()) {
                        unknown_keys(item, known, &format!("{key}[{index}]."), complain);
                    }
                }
            }
            // A wrong type is found when the settings are made of it.
            _ => {}
        }
    }
}

/// Puts the value of a variable where its key says, in the type that the key has.
fn overlay(table: &mut Table, known: &Table, parts: &[&str], text: &str) -> Result<(), String> {
    let (first, rest) = parts.split_first().ok_or("it names no key")?;
    let key = || format!("there is no key {first:?}; allowed here: {}", list(known));
    let specimen = known.get(*first).ok_or_else(key)?;
    match (specimen, rest) {
        (Value::Table(known), []) => Err(format!(
            "{first} is a section; its keys are set one by one: {}",
            list(known)
        )),
        (Value::Table(known), rest) => {
            let inner = table
                .entry(*first)
                .or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => overlay(inner, known, rest, text),
                // The file has something else there, and is told so.
                _ => Ok(()),
            }
        }
        (_, [_, ..]) => Err(format!("{first} has no keys of its own")),
        (specimen, []) => {
            table.insert((*first).to_owned(), value(specimen, first, text)?);
            Ok(())
        }
    }
}

fn value(specimen: &Value, key: &str, text: &str) -> Result<Value, String> {
    Ok(match specimen {
        Value::Integer(_) => Value::Integer(
            text.parse()
                .map_err(|_| format!("{key}: {text:?} is no whole number"))?,
        ),
        Value::Boolean(_) => Value::Boolean(
            text.parse()
                .map_err(|_| format!("{key}: {text:?} is neither true nor false"))?,
        ),
        Value::Array(items) if matches!(items.first(), Some(Value::String(_))) => text
            .split(',')
            .map(|item| Value::String(item.trim().to_owned()))
            .collect::<Vec<_>>()
            .into(),
        Value::Array(_) => {
            #[derive(Deserialize)]
            struct Line {
                it: Value,
            }
            toml::from_str::<Line>(&format!("it = {text}"))
                .map_err(|error| {
                    format!(
                        "{key}: this is no list of TOML, such as [{{ name = \"value\" }}]: {}",
                        error.message()
                    )
                })?
                .it
        }
        _ => Value::String(text.to_owned()),
    })
}
