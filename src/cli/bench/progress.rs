//! How far a run is: on standard error, and only on a terminal.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line that changes. It is gone when it is dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

/// Widths are for terminals of 80 columns.
const CONNECTING: &str = "connecting {bar:30} {pos}/{len} clients, {elapsed}";
const RUNNING: &str = "{prefix:10} {bar:30} {msg}";
/// Steps of the bar of a run.
const STEPS: u64 = 1000;

impl Progress {
    pub(super) fn new() -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self(ProgressBar::with_draw_target(None, target))
    }

    pub(super) fn connecting(&self, clients: usize) {
        self.style(CONNECTING);
        self.0.set_length(clients as u64);
        self.0.set_position(0);
    }

    pub(super) fn connected(&self) {
        self.0.inc(1);
    }

    /// A phase of the run, how much of its time is over, and what happened in it.
    pub(super) fn running(
        &self,
        phase: &'static str,
        passed: Duration,
        of: Duration,
        what: String,
    ) {
        self.style(RUNNING);
        self.0.set_length(STEPS);
        let part = passed.as_secs_f64() / of.as_secs_f64().max(f64::MIN_POSITIVE);
        self.0.set_position((part.min(1.0) * STEPS as f64) as u64);
        self.0.set_prefix(phase);
        self.0.set_message(what);
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
