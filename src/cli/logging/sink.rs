//! A bounded queue of lines, and the thread that writes them.

use std::{
    borrow::Cow,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

/// Most bytes that wait to be written. Further lines are dropped and counted.
const QUEUE: usize = 1024 * 1024;
/// Capacity of the queue that is kept after a burst, in bytes.
const KEPT: usize = 64 * 1024;
/// Longest event, in bytes: several values of peers, or one that a dependency quotes in full.
const MAX_EVENT: usize = 4096;
/// Pause between attempts to report lost lines while writing fails.
const RETRY: Duration = Duration::from_secs(1);
/// Pause before another attempt at a pipe that is in non-blocking mode and full.
const FULL: Duration = Duration::from_millis(10);
/// Longest wait at the end of the process for what is still queued.
const FLUSH: Duration = Duration::from_secs(1);

/// A bounded queue of lines and the thread that writes them.
#[derive(Debug, Clone)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when the queue is no longer empty, or closed.
    filled: Condvar,
    /// Notified when the thread has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    text: Vec<u8>,
    /// Lines that found no room since the last batch was taken.
    dropped: u64,
    closed: bool,
    ended: bool,
}

impl Sink {
    pub(super) fn start(kind: Kind, output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        let lines = Lines::new(kind, output);
        let thread = thread::Builder::new().name("output".to_owned());
        // Not joined: it may be blocked in a write for as long as the process lives.
        thread.spawn(move || write_all(&queue, lines))?;
        Ok(Self(shared))
    }

    /// Queues one line. Never blocks on the output.
    pub(super) fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.text.len() + line.len() > QUEUE {
            queue.dropped += 1;
            return;
        }
        queue.text.extend_from_slice(line);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Writes what is queued, within [`FLUSH`], and nothing more.
    pub(super) fn close(&self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        self.0.filled.notify_one();
        let _ended = self
            .0
            .ended
            .wait_timeout_while(queue, FLUSH, |queue| !queue.ended)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// tracing-subscriber writes each event in one call.
impl Write for Sink {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.push(&one_event(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and moves them to `batch`; with `retry` at most [`RETRY`]. Returns the number of dropped lines, and whether
    /// the queue is closed.
    fn take(&self, batch: &mut Vec<u8>, retry: bool) -> (u64, bool) {
        let empty =
            |queue: &mut Queue| queue.text.is_empty() && queue.dropped == 0 && !queue.closed;
        let queue = self.lock();
        let mut queue = if retry {
            let waited = self.filled.wait_timeout_while(queue, RETRY, empty);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let waited = self.filled.wait_while(queue, empty);
            waited.unwrap_or_else(PoisonError::into_inner)
        };
        mem::swap(&mut queue.text, batch);
        (mem::take(&mut queue.dropped), queue.closed)
    }
}

/// The thread of a [`Sink`].
fn write_all(shared: &Shared, mut lines: Lines<impl Write>) {
    let mut batch = Vec::new();
    loop {
        let (dropped, closed) = shared.take(&mut batch, lines.lost > 0);
        lines.write_batch(&batch, dropped);
        batch.clear();
        batch.shrink_to(KEPT);
        if closed {
            break;
        }
    }
    shared.lock().ended = true;
    shared.ended.notify_all();
}

/// An output, and the lines that it lost.
struct Lines<W> {
    kind: Kind,
    output: W,
    /// Lines that could not be written and are not reported yet.
    lost: u64,
    /// The last line was written in part.
    cut: bool,
}

/// What becomes of lines that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// They are reported in the output when it can be written again.
    Log,
    /// They are reported in the log.
    Text,
}

impl<W: Write> Lines<W> {
    const fn new(kind: Kind, output: W) -> Self {
        Self {
            kind,
            output,
            lost: 0,
            cut: false,
        }
    }

    /// Writes a report of lost lines, then the batch, then a report of the lines that were dropped after it.
    fn write_batch(&mut self, batch: &[u8], dropped: u64) {
        let written = if self.report() { self.write(batch) } else { 0 };
        self.lost += count(&batch[written..]) + dropped;
        if written == batch.len() {
            self.report();
        }
    }

    /// Reports lost lines. False if that is not possible now.
    fn report(&mut self) -> bool {
        if self.lost == 0 {
            return true;
        }
        let lost = self.lost;
        if self.kind == Kind::Text {
            tracing::warn!(lines = lost, "standard output cannot be written");
            self.lost = 0;
            return true;
        }
        let mut line = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        line += &format!(
            "  WARN tidings: {lost} log lines were dropped: the output did not take them\n"
        );
        let whole = self.write(line.as_bytes()) == line.len();
        if whole {
            self.lost = 0;
        }
        whole
    }

    /// Writes `text` until that fails; how much of it was written, in bytes.
    fn write(&mut self, text: &[u8]) -> usize {
        if text.is_empty() || (self.cut && self.write_bytes(b"\n") == 0) {
            return 0;
        }
        self.write_bytes(text)
    }

    fn write_bytes(&mut self, text: &[u8]) -> usize {
        let mut at = 0;
        while at < text.len() {
            match self.output.write(&text[at..]).and_then(|length| {
                self.output.flush()?;
                Ok(length)
            }) {
                Ok(0) => break,
                Ok(length) => {
                    at += length;
                    self.cut = text[at - 1] != b'\n';
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL),
                Err(_) => break,
            }
        }
        at
    }
}

/// An event as it is written: at most [`MAX_EVENT`] bytes, and no line of it but the first looks like the beginning of an event.
fn one_event(event: &[u8]) -> Cow<'_, [u8]> {
    let text = event.strip_suffix(b"\n").unwrap_or(event);
    if text.len() <= MAX_EVENT && !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(event);
    }
    let mut whole = Vec::with_capacity(text.len().min(MAX_EVENT) + 64);
    for byte in &text[..text.len().min(MAX_EVENT)] {
        match byte {
            b'\n' => whole.extend_from_slice(b"\n    "),
            b'\r' => whole.extend_from_slice(b"\\r"),
            byte => whole.push(*byte),
        }
    }
    if text.len() > MAX_EVENT {
        whole.extend_from_slice(format!("... ({} bytes)", text.len()).as_bytes());
    }
    whole.push(b'\n');
    Cow::Owned(whole)
}

fn count(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output with room for so many bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn room(&self, bytes: usize) {
            self.0.lock().unwrap().1 = bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let length = text.len().min(disk.1);
            if length == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            disk.0.extend_from_slice(&text[..length]);
            disk.1 -= length;
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_reported() {
        let disk = Disk::default();
        let mut lines = Lines::new(Kind::Log, disk.clone());
        disk.room(8);
        lines.write_batch(b"one\ntwo\nthree\n", 0);
        assert_eq!(lines.lost, 1);
        // Nothing at all, then a part of the report.
        lines.write_batch(b"four\nfive\n", 2);
        assert_eq!(lines.lost, 5);
        disk.room(10);
        lines.write_batch(b"", 0);
        assert_eq!(lines.lost, 5);
        disk.room(1000);
        lines.write_batch(b"six\n", 0);
        assert_eq!(lines.lost, 0);
        let text = disk.text();
        let seen: Vec<_> = text.lines().collect();
        assert_eq!(seen[..2], ["one", "two"]);
        assert!(seen[3].contains(" 5 log lines were dropped"), "{text}");
        assert_eq!(seen[4..], ["six"]);
    }

    #[test]
    fn an_event_is_short_and_begins_on_no_other_line() {
        assert_eq!(*one_event(b"one\n"), *b"one\n");
        assert_eq!(*one_event(b"one\ntwo\rthree\n"), *b"one\n    two\\rthree\n");
        let long = one_event(&[b'x'; 100_000]).into_owned();
        assert!(long.len() < MAX_EVENT + 64);
        assert!(long.ends_with(b"x... (100000 bytes)\n"));
    }

    #[test]
    fn a_line_that_was_cut_ends_before_the_next_begins() {
        let disk = Disk::default();
        let mut lines = Lines::new(Kind::Log, disk.clone());
        disk.room(2);
        lines.write_batch(b"one\ntwo\n", 0);
        assert_eq!(lines.lost, 2);
        disk.room(1000);
        lines.write_batch(b"three\n", 0);
        let text = disk.text();
        assert!(text.starts_with("on\n"), "{text}");
        assert!(text.ends_with("\nthree\n"), "{text}");
    }

    #[test]
    fn a_blocked_output_takes_no_more_than_the_queue_and_holds_up_nobody() {
        let gate = Arc::new(Mutex::new(()));
        let disk = Disk::default();
        disk.room(usize::MAX);
        let closed = gate.lock().unwrap();
        let sink = Sink::start(Kind::Log, Gated(Arc::clone(&gate), disk.clone())).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..4 * QUEUE / line.len() {
            sink.push(&line);
        }
        assert!(sink.0.lock().text.len() <= QUEUE);
        assert!(sink.0.lock().dropped > 0);
        drop(closed);
        sink.close();
        let text = disk.text();
        assert!(text.contains(" log lines were dropped: the output did not take them"));
    }

    /// An output that blocks while the gate is locked.
    struct Gated(Arc<Mutex<()>>, Disk);

    impl Write for Gated {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _open = self.0.lock().unwrap();
            self.1.write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
