//! The thread that carries packets: it reads both devices, asks each direction when a packet is to arrive, and sleeps until then.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{
    namespace::MTU,
    path::{Config, Direction, Path},
    report::{Flow, Lateness, Report},
    sys,
};

/// Packets read from one device before the other one is looked at and what is due is written. 32 take about 0.1 ms.
const BATCH: usize = 32;

/// Carries packets until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    report: Arc<Mutex<Report>>,
    /// The thread ends when this is closed.
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
struct Work {
    server: File,
    client: File,
    to_client: Path,
    to_server: Path,
    stopped: io::PipeReader,
    report: Arc<Mutex<Report>>,
    began: Instant,
}

impl Forwarder {
    pub(crate) fn start(config: Config, server: File, client: File) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let report = Arc::new(Mutex::new(Report::default()));
        let work = Work {
            server,
            client,
            to_client: Path::new(config, Direction::ToClient),
            to_server: Path::new(config, Direction::ToServer),
            stopped,
            report: Arc::clone(&report),
            began: Instant::now(),
        };
        let thread = thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            report,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What was carried so far.
    pub(crate) fn report(&self) -> Report {
        lock(&self.report).clone()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!(
                "tidings-link: the link's thread panicked; what it carried after that is lost"
            );
        }
    }
}

impl Work {
    fn run(mut self) {
        let punctual = sys::be_punctual();
        lock(&self.report).punctual = punctual.is_ok();
        if let Err(error) = punctual {
            eprintln!(
                "tidings-link: no real-time scheduling ({error}): a busy machine will make packets late"
            );
        }
        // The one packet buffer: a packet is copied out of it at its own length.
        let mut buffer = vec![0; MTU + 1];
        loop {
            self.deliver();
            let due = match (self.to_client.next_due(), self.to_server.next_due()) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            let timeout = due.map(|due| due.saturating_sub(self.began.elapsed()));
            let files = [
                self.server.as_fd(),
                self.client.as_fd(),
                self.stopped.as_fd(),
            ];
            match sys::wait_readable(files, timeout) {
                Ok([server, client, stopped]) => {
                    if stopped {
                        return;
                    }
                    if server {
                        accept(
                            &mut self.server,
                            &mut self.to_client,
                            self.began,
                            &mut buffer,
                        );
                    }
                    if client {
                        accept(
                            &mut self.client,
                            &mut self.to_server,
                            self.began,
                            &mut buffer,
                        );
                    }
                }
                Err(error) => {
                    eprintln!("tidings-link: the link ends, it cannot wait for packets: {error}");
                    return;
                }
            }
        }
    }

    /// Writes what is due, and shows the counters.
    fn deliver(&mut self) {
        let mut report = lock(&self.report);
        let began = self.began;
        let pass =
            |path: &mut Path, device: &mut File, flow: &mut Flow, lateness: &mut Lateness| {
                while let Some(packet) = path.take_due(began.elapsed()) {
                    if device.write_all(&packet.bytes).is_err() {
                        flow.refused += 1;
                    }
                    lateness.add(began.elapsed().saturating_sub(packet.due));
                }
                flow.path.clone_from(path.counters());
            };
        let Report {
            to_client,
            to_server,
            lateness,
            ..
        } = &mut *report;
        pass(&mut self.to_client, &mut self.client, to_client, lateness);
        pass(&mut self.to_server, &mut self.server, to_server, lateness);
    }
}

/// Reads what a device has, up to a batch.
fn accept(device: &mut File, path: &mut Path, began: Instant, buffer: &mut [u8]) {
    for _ in 0..BATCH {
        // Nothing more, or the device is gone: then the link is about to end.
        let Ok(length) = device.read(buffer) else {
            return;
        };
        path.offer(began.elapsed(), buffer[..length].to_vec());
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    // Counters are whole whatever a panic interrupted.
    report.lock().unwrap_or_else(PoisonError::into_inner)
}
