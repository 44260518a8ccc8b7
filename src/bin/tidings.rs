//! The `tidings` command. The only place that reads arguments, environment and signals: everything else gets them.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use tidings::cli::{Interrupts, Invocation};
use tokio::sync::watch;

/// The connections of a busy server do not fit into the processor's caches: what lies close together is what it costs to serve them.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Settings of jemalloc, under the name at which it looks for them: pages that were freed go back to the system within seconds, by a thread
/// of its own, so that an idle server gives back what a burst took.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "no other symbol has this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 60] =
    b"background_thread:true,dirty_decay_ms:5000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        // `eprintln!` panics where standard error cannot be written.
        let _ = writeln!(std::io::stderr(), "tidings: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let code = runtime.block_on(async {
        let (count, interrupts) = watch::channel(0);
        listen(count).context("cannot listen for signals")?;
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        anyhow::Ok(
            tidings::cli::run(Invocation {
                args: std::env::args_os().collect(),
                env: std::env::vars_os()
                    .map(|(name, value)| (lossy(name), lossy(value)))
                    .filter(|(name, _)| name.starts_with("TIDINGS_") || name == "NO_COLOR")
                    .collect(),
                interrupts: Interrupts::new(interrupts),
            })
            .await,
        )
    });
    // A thread that waits for standard input would hold up the end.
    runtime.shutdown_background();
    code
}

/// Counts ctrl-C and SIGTERM, in a task that lives as long as the process: a second signal must be heard whatever else happens.
#[cfg(unix)]
fn listen(count: watch::Sender<u32>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(())
}

/// Counts ctrl-C, in a task that lives as long as the process.
#[cfg(not(unix))]
fn listen(count: watch::Sender<u32>) -> std::io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(())
}
