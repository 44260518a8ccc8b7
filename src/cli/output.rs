//! What is written, and how: colours only on a terminal, and nothing that could command one.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};

use super::Failure;

/// A channel's name.
pub(super) const CHANNEL: Style = AnsiColor::Cyan.on_default().bold();
/// What matters less.
pub(super) const FAINT: Style = Style::new().dimmed();
/// A kind of message, a label.
pub(super) const LABEL: Style = AnsiColor::Green.on_default();
/// A gap.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
/// A failure.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Which of the two outputs takes colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Console {
    /// Standard output.
    pub(super) out: Colours,
    /// Standard error.
    pub(super) err: Colours,
}

/// Whether an output takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colours(pub(super) bool);

impl Colours {
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if self.0 {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

impl Console {
    pub(super) fn new(no_colour: bool) -> Self {
        Self {
            out: Colours(!no_colour && io::stdout().is_terminal()),
            err: Colours(!no_colour && io::stderr().is_terminal()),
        }
    }

    /// A line on standard output. A reader that has gone away is no failure: what it wanted, it has.
    pub(super) fn print(self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// A line on standard error. Where it cannot be written there is nobody left to tell.
    pub(super) fn tell(self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// The one line of a failure, on standard error.
    pub(super) fn complain(self, reason: &str) {
        self.tell(&self.complaint(reason));
    }

    /// The one line of a failure.
    pub(super) fn complaint(self, reason: &str) -> String {
        let name = self.err.paint(ERROR, "tidings:");
        format!("{name} {}", one_line(reason))
    }
}

/// A number with a comma after each thousand.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text of others, so that it stays on its line and no terminal obeys it.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The same for reasons, where a line's end is only space.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    visible(&lines.join(" "))
}

/// What clap has to say: help and version are answers, all else is a failure of one line.
pub(super) fn usage(error: &clap::Error, console: Console) -> Result<(), Failure> {
    let text = error.render();
    if !error.use_stderr() {
        let text = if console.out.0 {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        return console.print(text.trim_end());
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure::usage(
            "a command is missing: `tidings --help` lists them",
        ));
    }
    let text = text.to_string();
    // "error: what", perhaps "tip: what else", then the usage that --help has too.
    let text = text.split("\n\nUsage:").next().unwrap_or(&text);
    let text = text
        .split("\n\nFor more information")
        .next()
        .unwrap_or(text);
    let parts: Vec<_> = text.split("\n\n").map(one_line).collect();
    let reason = parts.join("; ");
    let reason = reason.strip_prefix("error: ").unwrap_or(&reason);
    Err(Failure::usage(format!(
        "{reason}; `tidings --help` and `tidings help COMMAND` say what there is"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_leaves_its_line_or_commands_the_terminal() {
        assert_eq!(visible("a\nb\u{1b}[2Jc é"), "a\\nb\\u{1b}[2Jc é");
        assert_eq!(one_line("first\n  second\n\n"), "first second");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn colours_are_painted_only_where_they_are_taken() {
        assert_eq!(Colours(false).paint(CHANNEL, "global"), "global");
        let painted = Colours(true).paint(CHANNEL, "global");
        assert!(painted.starts_with('\u{1b}') && painted.contains("global"));
    }
}
