//! Output of a long-running process: lines go into a bounded queue that one thread writes, so that neither a full disk nor a
//! blocked pipe stops the server.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError},
    thread,
};

use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

use super::{Failure, output::Console};
use crate::transport::peer_log::Throttle;

mod sink;

use sink::{Kind, Sink};

/// Standard output and standard error of `tidings serve`.
#[derive(Debug)]
pub(super) struct Output {
    out: Sink,
    err: Sink,
    console: Console,
}

impl Output {
    /// Starts the two threads that write.
    pub(super) fn start(console: Console) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot start a thread: {error}"));
        Ok(Self {
            out: Sink::start(Kind::Text, io::stdout()).map_err(failed)?,
            err: Sink::start(Kind::Log, io::stderr()).map_err(failed)?,
            console,
        })
    }

    /// Sends what is logged from now on to standard error, panics included.
    pub(super) fn log(&self, filter: EnvFilter) {
        let (events, panics) = (self.err.clone(), self.err.clone());
        let format = tracing_subscriber::fmt::layer()
            .with_writer(move || events.clone())
            .with_ansi(self.console.err.0)
            // An error here would be printed to standard error, and a failure of that is a panic.
            .log_internal_errors(false);
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(Limit::default())
            .with(format);
        if subscriber.try_init().is_ok() {
            std::panic::set_hook(Box::new(move |panic| log_panic(panic, &panics)));
        }
    }

    /// A line on standard output.
    pub(super) fn print(&self, line: &str) {
        self.out.push(format!("{line}\n").as_bytes());
    }

    /// A line on standard error.
    pub(super) fn tell(&self, line: &str) {
        self.err.push(format!("{line}\n").as_bytes());
    }

    /// The lines of a failure; the failure without them is returned.
    pub(super) fn complain(&self, failure: Failure) -> Failure {
        for reason in &failure.reasons {
            self.tell(&self.console.complaint(reason));
        }
        Failure {
            reasons: Vec::new(),
            ..failure
        }
    }

    /// Writes what is queued, within about a second.
    pub(super) fn close(self) {
        self.out.close();
        self.err.close();
    }
}

/// The panic hook: the standard one writes to standard error on the panicking thread.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>, sink: &Sink) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(tracing::field::display);
    let message = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(thread, location, message, "panic");
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        sink.push(format!("{backtrace}\n").as_bytes());
    }
}

/// A limit of the events of each place in the code, dependencies included, that are not asked for by a level below info: a
/// burst of 100, then 10 a second. What is suppressed is counted in the log.
#[derive(Debug, Default)]
struct Limit {
    /// As many as the code has places that log, at most.
    places: Mutex<HashMap<Identifier, &'static Throttle>>,
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let place = event.metadata();
        if *place.level() > Level::INFO {
            return true;
        }
        let throttle = *self
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(place.callsite())
            .or_insert_with(|| Box::leak(Box::new(Throttle::with_rate(place.name(), 100, 10))));
        throttle.admit()
    }
}
