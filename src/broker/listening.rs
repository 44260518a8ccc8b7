//! How user code listens.

use std::sync::Arc;

use super::{
    Broker, Delivery, ListenerGuard, NoRoom, PatternGuard, Received, Receiver,
    listener::{Call, Registration},
    receiver::{Guard, Queue},
};
use crate::wire::{ChannelName, Pattern};

impl Broker {
    /// Calls `call` for each publication from now on, in order, one at a time, on the thread that publishes: so it should
    /// be short. It may publish, to its own channel too. A panic is caught and logged; later publications are still given.
    ///
    /// The publisher is given also where the channel's rule hides it from subscribers. [`listen`](Self::listen) gives the session, too.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn add_listener(
        &self,
        channel: &ChannelName,
        call: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<ListenerGuard, NoRoom> {
        self.listen(channel, move |received| call(received.delivery))
    }

    /// Calls `call` for each publication from now on, with the session that published it: as [`add_listener`](Self::add_listener) does.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn listen(
        &self,
        channel: &ChannelName,
        call: impl Fn(Received) + Send + Sync + 'static,
    ) -> Result<ListenerGuard, NoRoom> {
        self.register(channel, Call::Inline(Box::new(call)))
    }

    /// Calls `call` for each publication from now on in every channel that fits the pattern, those that are made later included. Calls of
    /// one channel are in order and one at a time; those of different channels may be at the same time, on the threads that publish. A
    /// variable of the pattern stands for any text.
    ///
    /// The listener keeps no channel: one without other readers is evicted when it is idle. The call itself looks at the names of all
    /// channels: some ten milliseconds for 100,000.
    pub fn listen_pattern(
        &self,
        pattern: &Pattern,
        call: impl Fn(Received) + Send + Sync + 'static,
    ) -> PatternGuard {
        self.register_pattern(pattern, Call::Inline(Box::new(call)))
    }

    /// Listens to a channel from now on in a task of the caller's, for which publishers do not wait.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn receiver(&self, channel: &ChannelName) -> Result<Receiver, NoRoom> {
        let queue = Arc::<Queue>::default();
        let guard = self.register(channel, Call::Queue(Arc::clone(&queue)))?;
        Ok(Receiver::new(queue, Guard::Channel(guard)))
    }

    /// Listens to every channel that fits the pattern, as [`listen_pattern`](Self::listen_pattern) does, in a task of the caller's, for
    /// which publishers do not wait.
    pub fn pattern_receiver(&self, pattern: &Pattern) -> Receiver {
        let queue = Arc::<Queue>::default();
        let guard = self.register_pattern(pattern, Call::Queue(Arc::clone(&queue)));
        Receiver::new(queue, Guard::Pattern(guard))
    }

    fn register(&self, channel: &ChannelName, call: Call) -> Result<ListenerGuard, NoRoom> {
        let registration = Arc::new(Registration::new(None, call));
        loop {
            let found = self.channel(channel, None)?;
            if let Ok(listener) = found.add_listener(&registration) {
                return Ok(ListenerGuard {
                    channel: found,
                    listener,
                });
            }
        }
    }

    fn register_pattern(&self, pattern: &Pattern, call: Call) -> PatternGuard {
        let registration = Arc::new(Registration::new(Some(pattern.clone()), call));
        let patterns = Arc::clone(&self.inner.patterns);
        // In this order: a channel that is made meanwhile has it from one or the other.
        patterns.add(&registration);
        self.inner.hub.for_each(|channel| {
            if registration.fits(&channel.name) {
                channel.attach(&registration);
            }
        });
        PatternGuard {
            patterns,
            registration,
        }
    }
}
