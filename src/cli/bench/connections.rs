//! Clients that connect, a bounded number at a time, and subscribe.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, future, stream};
use tokio::time::timeout;

use super::{
    arguments::Arguments,
    plan::{Plan, Who},
    process,
    progress::Progress,
};
use crate::{
    auth::TokenIssuer,
    cli::{
        Context, Failure,
        connect::{Access, TOKEN},
        token,
    },
    client::{Client, ClientError, Socket, Subscription},
};

/// Handshakes at a time: below the 256 at which a server asks for a second round trip, and enough to keep it busy.
const HANDSHAKES: usize = 32;
/// Clients that share a socket. One publication may go to all of them at once, and a socket's receive buffer, 208 KiB unless the
/// system says otherwise, takes about 90 datagrams.
const CLIENTS_PER_SOCKET: usize = 32;
/// Sockets at most: a file descriptor and a task each.
const SOCKETS: usize = 64;
/// Streams that a client permits beyond those that it asks for: what servers subscribe their users to.
const AUTOMATIC: u32 = 32;
/// Total time for one client: a server that makes many handshakes at once takes a while for each.
const CONNECT: Duration = Duration::from_secs(20);
/// Time to tell the server that this is the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Everybody who takes part in a run.
pub(super) struct Connections {
    pub(super) publishers: Vec<Client>,
    pub(super) readers: Vec<Reader>,
    /// How long it took.
    pub(super) took: Duration,
    sockets: Vec<Socket>,
}

/// A client that reads.
pub(super) struct Reader {
    pub(super) number: usize,
    pub(super) client: Client,
    /// The channel's number and its subscription.
    pub(super) subscriptions: Vec<(usize, Subscription)>,
}

/// What connects them.
pub(super) struct Connector<'a> {
    plan: &'a Plan,
    access: Access,
    /// Signs tokens, where the users are ours to choose.
    issuer: Option<TokenIssuer>,
    sockets: Vec<Socket>,
}

impl<'a> Connector<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        arguments: Arguments,
        context: &Context,
    ) -> Result<Self, Failure> {
        let access = arguments.connection.access(context, arguments.transport)?;
        let issuer = if access.identified() || access.running.is_none() {
            None
        } else {
            Some(token::issuer(None)?)
        };
        let all = plan.clients + plan.publishers;
        let sockets = all.div_ceil(CLIENTS_PER_SOCKET).min(SOCKETS);
        Ok(Self {
            plan,
            access,
            issuer,
            sockets: (0..sockets).map(|_| Socket::new()).collect(),
        })
    }

    pub(super) const fn access(&self) -> &Access {
        &self.access
    }

    /// Connects the publishers, and then everybody else. Where it fails or is dropped, [`leave`](Self::leave) is due.
    pub(super) async fn connect(&self, progress: &Progress) -> Result<Connections, Failure> {
        let begun = Instant::now();
        let plan = self.plan;
        // The first says whether it works at all, and what the server takes.
        let first = self.one(Who::Publisher(0)).await?;
        if let Some(welcome) = first.welcome() {
            plan.fits(&welcome)?;
        }
        process::enough_memory(plan.clients, plan.subscriptions)?;
        progress.connecting(plan.clients);
        let more = (1..plan.publishers).map(|number| self.one(Who::Publisher(number)));
        let more: Vec<_> = stream::iter(more)
            .buffered(HANDSHAKES)
            .try_collect()
            .await?;
        let readers: Vec<_> = stream::iter(0..plan.clients)
            .map(|number| self.reader(number))
            .buffer_unordered(HANDSHAKES)
            .inspect_ok(|_| progress.connected())
            .try_collect()
            .await?;
        Ok(Connections {
            publishers: std::iter::once(first).chain(more).collect(),
            readers,
            took: begun.elapsed(),
            sockets: self.sockets.clone(),
        })
    }

    /// Waits until the server has been told of the end of those who were dropped: otherwise they would take room there until its
    /// idle timeout.
    pub(super) async fn leave(&self) {
        close(Vec::new(), &self.sockets).await;
    }

    async fn reader(&self, number: usize) -> Result<Reader, Failure> {
        let who = Who::Client(number);
        let client = self.one(who).await?;
        let subscribed = self.plan.read_by(number).map(|channel| {
            let (client, name) = (&client, &self.plan.channels[channel]);
            async move {
                match client.subscribe(name.as_str()).await {
                    Ok(subscription) => Ok((channel, subscription)),
                    Err(error) => Err(Failure::new(format!("{who}, {name}: {error}"))),
                }
            }
        });
        let subscriptions = future::try_join_all(subscribed).await?;
        Ok(Reader {
            number,
            client,
            subscriptions,
        })
    }

    async fn one(&self, who: Who) -> Result<Client, Failure> {
        let seat = match who {
            Who::Client(number) => self.plan.publishers + number,
            Who::Publisher(number) => number,
        };
        let mut builder = self
            .access
            .builder()
            .socket(&self.sockets[seat % self.sockets.len()])
            .max_streams(self.plan.subscriptions as u32 + AUTOMATIC)
            // What is missed between two connections would be a gap anyway.
            .reconnect(false);
        if let Some(issuer) = &self.issuer {
            let user = self.plan.user(who).map_err(Failure::new)?;
            builder = builder.token(issuer.issue(&user, TOKEN));
        }
        // The first has no reason to wait for long.
        if who != Who::Publisher(0) {
            builder = builder.deadline(CONNECT);
        }
        builder
            .connect()
            .await
            .map_err(|error| self.explain(who, &error))
    }

    fn explain(&self, who: Who, error: &ClientError) -> Failure {
        let mut failure = self.access.explain(error);
        if who != Who::Publisher(0) {
            let wanted = self.plan.clients;
            failure.reasons = failure
                .reasons
                .iter()
                .map(|reason| format!("{who} of {wanted} does not get in: {reason}"))
                .collect();
        }
        failure
    }
}

/// Ends all these connections.
pub(super) async fn close(clients: Vec<Client>, sockets: &[Socket]) {
    let all = async {
        future::join_all(clients.into_iter().map(Client::close)).await;
        future::join_all(sockets.iter().map(Socket::idle)).await;
    };
    // The server forgets who says nothing, too.
    let _ = timeout(GOODBYE, all).await;
}

impl Connections {
    /// Everybody, to take leave of at the end.
    pub(super) fn clients(&self) -> Vec<Client> {
        let readers = self.readers.iter().map(|reader| &reader.client);
        self.publishers.iter().chain(readers).cloned().collect()
    }

    /// Their sockets, to wait for at the end.
    pub(super) fn sockets(&self) -> Vec<Socket> {
        self.sockets.clone()
    }
}
