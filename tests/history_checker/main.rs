//! A record of what clients did and saw, and a checker that finds in it what should not be.
//!
//! `kill.rs` and `weather.rs` use both. Here it is shown that the checker sees what it should ([`planted`]), and that it finds nothing
//! where nothing is wrong.
//!
//! The simulator of the broker has a checker of its own (`src/broker/tests/simulation`): it judges one broker in virtual time and knows
//! each of its calls. What is judged here are servers and clients as they run, with overlapping calls, outcomes that nobody knows, and
//! servers that are gone with what they had in memory.

mod actors;
mod checker;
#[path = "../common/mod.rs"]
mod common;
mod healthy;
mod planted;
mod record;

use common::each;
use tidings::client::Transport;

each!(nothing_is_found_where_nothing_is_wrong);
async fn nothing_is_found_where_nothing_is_wrong(transport: Transport) {
    let history = healthy::run(transport).await;
    let violations = checker::check(&history, healthy::PROMISE);
    assert_eq!(violations, [], "in {history:#?}");
}
