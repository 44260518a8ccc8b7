//! The client side of every peer. `load --help` says what it takes; it prints one JSON object.

use anyhow::{Context, Result, bail};
use clap::Parser;
use tidings_compare::{options::Options, report::Report};

fn main() -> Result<()> {
    let options = Options::parse();
    let report = run(&options).with_context(|| format!("load for {:?}", options.peer))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn run(options: &Options) -> Result<Report> {
    match options.peer {
        peer => bail!("no adapter for {peer:?} is built in"),
    }
}
