//! Tidings, by the library's own client.

use std::{fs, thread};

use ::tidings::{
    Message as Published,
    client::{Client, Event, Trust},
};
use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::{runtime, sync::mpsc};

use crate::{
    Failure, Peer,
    collect::Collector,
    load::{Load, Message},
};

/// Messages of a flow that wait for the answer to the one before: seconds of the load.
const QUEUE: usize = 1024;
/// What the load is to the server.
const CONTENT_TYPE: &str = "";

/// The channel of a flow; `single` puts all flows into one channel.
pub(crate) fn channel(flow: u16, single: bool) -> String {
    format!("flow-{}", if single { 0 } else { flow })
}

/// One connection, and on it one publisher for each flow that waits for every answer: so each flow is in order.
pub(crate) fn publish(peer: &Peer, load: &Load, single: bool) -> Result<(), Failure> {
    run(async {
        let client = connect(peer).await?;
        let mut publishers = FuturesUnordered::new();
        let mut queues = Vec::new();
        for flow in 0..load.all_flows() {
            let (queue, due) = mpsc::channel(QUEUE);
            queues.push(queue);
            publishers.push(publish_flow(&client, channel(flow, single), due));
        }
        // A thread of its own keeps the time better than the runtime's timer, which counts milliseconds. It ends when the publishers
        // do, or when it has sent all.
        let load = load.clone();
        let clock = thread::spawn(move || {
            load.each_due(|message| queues[usize::from(message.flow)].blocking_send(message))
        });
        while let Some(published) = publishers.next().await {
            published?;
        }
        match clock.join() {
            Ok(sent) => sent.map_err(|_| "a publisher ended before the load".into()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

async fn publish_flow(
    client: &Client,
    channel: String,
    mut due: mpsc::Receiver<Message>,
) -> Result<(), Failure> {
    while let Some(message) = due.recv().await {
        let data = Published::data(CONTENT_TYPE, message.encode());
        client.publish(&channel, data).await?;
    }
    Ok(())
}

pub(crate) fn subscribe(
    peer: &Peer,
    load: &Load,
    single: bool,
    collector: &mut Collector,
) -> Result<(), Failure> {
    run(async {
        let client = connect(peer).await?;
        let channels = if single { 1 } else { load.all_flows() };
        let mut events = stream::SelectAll::new();
        for flow in 0..channels {
            events.push(client.subscribe(&channel(flow, single)).await?);
        }
        println!("ready");
        while let Some(event) = events.next().await {
            match event {
                Event::Publication(publication) => {
                    let Published::Data(data) = publication.message else {
                        return Err("a message of another kind than the load's".into());
                    };
                    if collector.take(&data.bytes)? {
                        return Ok(());
                    }
                }
                other => return Err(format!("the delivery is not whole: {other:?}").into()),
            }
        }
        Err("the subscriptions ended before the load".into())
    })
}

pub(crate) async fn connect(peer: &Peer) -> Result<Client, Failure> {
    let pem = fs::read(&peer.certificate)
        .map_err(|error| format!("cannot read {}: {error}", peer.certificate.display()))?;
    let client = Client::builder(format!("quic://{}", peer.address))
        .trust(Trust::Pem(pem))
        .reconnect(false)
        .connect()
        .await?;
    Ok(client)
}

pub(crate) fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
