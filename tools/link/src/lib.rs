//! A link emulator: two network namespaces, `server` and `client`, joined by a user-space link with delay, seeded loss, rate and a
//! bounded queue. It carries IP packets, so UDP and TCP meet the same link.
//!
//! It is no simulator: the sockets, the kernel's TCP and the clock are real. What a seed decides is which packets suffer.
//!
//! | module | what |
//! | --- | --- |
//! | [`path`] | one direction of a link: pure, time is an argument |
//! | [`link`] | a link that is up, until it is dropped |
//! | [`calibrate`] | what a link really gives, against what was asked |
//! | [`units`] | `25ms`, `2%`, `20mbit` |

mod awake;
pub mod calibrate;
mod forward;
pub mod link;
mod namespace;
pub mod path;
pub mod report;
mod sys;
pub mod units;

pub use link::{Link, Side};
pub use sys::signal as send_signal;
