//! Processors that do not sleep while a link is up. Where a virtual machine halts an idle one, waking it takes the host a millisecond or
//! more, and every timer is late by it, the link's and those of what is measured.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use crate::sys;

/// A thread for each processor that does nothing, as long as nobody has anything to do there. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Awake {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Awake {
    pub(crate) fn start() -> io::Result<Self> {
        let mut awake = Self {
            over: Arc::default(),
            threads: Vec::new(),
        };
        // Where processor time is rationed, it would be taken from what is measured.
        let ration = std::fs::read_to_string("/sys/fs/cgroup/cpu.max").unwrap_or_default();
        if !ration.is_empty() && !ration.starts_with("max") {
            return Ok(awake);
        }
        for _ in 0..std::thread::available_parallelism()?.get() {
            let over = Arc::clone(&awake.over);
            let thread = std::thread::Builder::new().name("awake".to_owned());
            awake.threads.push(thread.spawn(move || {
                // One that others would have to wait for must not spin.
                if sys::be_idle().is_ok() {
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
            })?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
