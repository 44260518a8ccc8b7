//! The line in which requests of user code wait for the connection.
//!
//! A channel would not do: whoever waits for room in it may be overtaken between being given room and using it, and a first poll
//! without budget would not even stand in line. Here a request has its place from the first poll of its call on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::driver::Command;

/// Requests in the order of their arrival. Each belongs to a call that waits for it, which takes it out when it is given up: there
/// are never more of them than user code has calls in flight.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<State>,
    /// Told of each that comes.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    waiting: BTreeMap<u64, Command>,
    closed: bool,
}

/// The connection takes nothing any more.
#[derive(Debug)]
pub(super) struct Closed;

/// A request's place in the line; dropping it takes the request out, if nobody took it yet.
#[derive(Debug)]
pub(super) struct Place<'a> {
    line: &'a Line,
    number: u64,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands at the end of the line.
    ///
    /// # Errors
    /// [`Closed`].
    pub(super) fn join(&self, command: Command) -> Result<Place<'_>, Closed> {
        let number = {
            let mut state = self.lock();
            if state.closed {
                return Err(Closed);
            }
            state.last += 1;
            let number = state.last;
            state.waiting.insert(number, command);
            number
        };
        self.arrived.notify_one();
        Ok(Place { line: self, number })
    }

    /// The first in the line; waits for one. For one task. Cancel safe.
    pub(super) async fn next(&self) -> Command {
        loop {
            let first = self.lock().waiting.pop_first();
            match first {
                Some((_, command)) => return command,
                None => self.arrived.notified().await,
            }
        }
    }

    /// Nobody will come for them any more: all who wait are told.
    pub(super) fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        // A dropped answer is a closed client to who waits for it.
        drop(waiting);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let given_up = self.line.lock().waiting.remove(&self.number);
        drop(given_up);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn ping() -> (
        Command,
        oneshot::Receiver<Result<(), super::super::ClientError>>,
    ) {
        let (answer, answered) = oneshot::channel();
        (Command::Ping { answer }, answered)
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line() {
        let line = Line::default();
        let [
            (first, mut gets_first),
            (second, mut gets_second),
            (third, mut gets_third),
        ] = std::array::from_fn(|_| ping());
        let _first = line.join(first).unwrap();
        let given_up = line.join(second).unwrap();
        let third = line.join(third).unwrap();
        drop(given_up);
        gets_second.try_recv().unwrap_err();
        for gets in [&mut gets_first, &mut gets_third] {
            let Command::Ping { answer } = line.next().await else {
                panic!("nobody else asked");
            };
            answer.send(Ok(())).unwrap();
            gets.try_recv().expect("in order").unwrap();
        }
        // Its request was taken: it takes nobody else's along.
        drop(third);
        assert!(line.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_closed_line_tells_who_waits_and_takes_nobody() {
        let line = Line::default();
        let (command, answered) = ping();
        let _place = line.join(command).unwrap();
        line.close();
        answered.await.unwrap_err();
        line.join(ping().0).unwrap_err();
    }
}
