//! Calls of libraries that log secrets: tungstenite whole frames and requests, web-transport-quinn the URL that a client connects
//! to, and with them tokens and query strings.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
};

use tracing::{Dispatch, dispatcher, level_filters::LevelFilter};

/// Calls `f` without a subscriber, so that none of its events is logged, at any level.
pub(super) fn quiet<T>(f: impl FnOnce() -> T) -> T {
    // They log nothing of the kind at higher levels, and a scope costs a little.
    if LevelFilter::current() < LevelFilter::DEBUG {
        return f();
    }
    dispatcher::with_default(&Dispatch::none(), f)
}

/// A future that is polled by [`quiet`]. As cancel safe as that future.
pub(super) async fn quietly<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<F::Output> {
        quiet(|| future.as_mut().poll(cx))
    })
    .await
}
