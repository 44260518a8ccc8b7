//! The command line, as a process: what it prints, how it ends, what it leaves behind.
#![cfg(unix)]

mod harness;

mod bench;
mod certificates;
mod configuration;
mod descriptors;
mod failures;
mod flow;
mod logging;
#[cfg(target_os = "linux")]
mod memory;
mod pages;
mod publish;
mod shutdown;
mod tokens;
