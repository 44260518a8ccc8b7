//! `tidings bench`: a load, and what became of it.
//!
//! A run: [`plan`] checks what was asked for, [`connections`] makes it so, [`measure`] starts a [`publisher`] for each connection that
//! publishes and a [`receiver`] for each subscription, which [`check`] every delivery and count in one [`tally`]; [`report`] and
//! [`plot`] tell what came of it.

mod arguments;
mod check;
mod connections;
mod measure;
mod payload;
mod plan;
mod plot;
mod process;
mod progress;
mod publisher;
mod receiver;
mod report;
mod tally;
mod window;

use std::{path::Path, sync::Arc};

use super::{Context, Failure, files, output::grouped};

pub(super) use arguments::Arguments;

use connections::Connector;
use plan::Plan;
use process::Process;
use progress::Progress;
use report::{Memory, Report};

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = context.interrupts.at_least(2) => Err(Failure::new("ended by a second interrupt, without a report")),
        done = bench(arguments, context) => done,
    }
}

async fn bench(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let console = context.console;
    let (json, picture) = (arguments.json, arguments.plot.clone());
    if let Some(path) = &picture {
        can_hold_a_file(path)?;
    }
    let plan = Arc::new(Plan::new(&arguments, rand::random())?);
    let named = arguments.server_pid;
    let connector = Connector::new(&plan, arguments, context)?;
    let access = connector.access();
    let server = Process::of_server(named, access.running.as_ref())?;
    let url = access.url.clone();
    let before = server.as_ref().ok().and_then(Process::memory);
    console.tell(&introduction(&plan, &url));
    let progress = Progress::new();
    let connections = tokio::select! {
        biased;
        () = context.interrupts.at_least(1) => Err(Failure::new("interrupted before everybody was connected")),
        connections = connector.connect(&progress) => connections,
    };
    let connections = match connections {
        Ok(connections) => connections,
        Err(failure) => {
            connector.leave().await;
            return Err(failure);
        }
    };
    let memory = Memory {
        before,
        after: server.as_ref().ok().and_then(Process::memory),
    };
    let took = connections.took;
    let measured =
        measure::measure(&plan, connections, server.as_ref().ok(), &progress, context).await?;
    drop(progress);

    let report = Report::new(&plan, &url, took, &server, memory, &measured);
    if json {
        console.print(&report.json())?;
    } else {
        console.print(&report.human(console.out))?;
    }
    if let Some(path) = &picture {
        let svg = plot::svg(&measured.latency, &report);
        files::write(path, svg.as_bytes(), files::Mode::Public).map_err(Failure::new)?;
        if !json {
            console.tell(&format!("latency by percentile: {}", path.display()));
        }
    }
    report.judge()
}

/// What is about to happen.
fn introduction(plan: &Plan, url: &str) -> String {
    let plural = |count: usize, what: &str| {
        let end = if count == 1 { "" } else { "s" };
        format!("{} {what}{end}", grouped(count as u64))
    };
    let first = plan.channels.first().map_or("", |channel| channel.as_str());
    format!(
        "{url}: {}, each with {} of {}, {first} and so on",
        plural(plan.clients, "client"),
        plural(plan.subscriptions, "subscription"),
        plural(plan.channels.len(), "channel"),
    )
}

/// Said before a run that would be for nothing.
fn can_hold_a_file(path: &Path) -> Result<(), Failure> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if path.file_name().is_none() || folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(Failure::usage(format!(
            "--plot {}: there is no directory for it",
            path.display()
        )));
    }
    Ok(())
}
