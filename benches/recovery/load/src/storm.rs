//! One run: connect, measure the parts, strike, and wait until everybody has everything.

use std::time::{Duration, Instant};

use tidings::client::{Builder, Client, Trust};
use tokio::time::sleep;

use crate::{
    Arguments, Failure, Strike,
    crowd::Crowd,
    publishers::{Pace, Publishers},
    report::{self, Clients, Report},
    server::Server,
};

/// Who reads, so that all can be cut off at once; and who publishes.
const READER: &str = "reader";
const PUBLISHER: &str = "publisher";
/// How long there is nothing but live traffic before the strike: as a rule a server was up for longer than its clients need to see that
/// they are busy.
const CALM: Duration = Duration::from_secs(8);
/// Deliveries that are measured; the median counts.
const DELIVERIES: usize = 3;

pub(crate) async fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let mut server = Server::start(&arguments.tidings).await?;
    let scheme = if arguments.webtransport {
        "https"
    } else {
        "quic"
    };
    let url = format!("{scheme}://{}", server.address());
    let certificate = server.certificate()?;
    let client = |token: &str| {
        let builder = Client::builder(&url)
            .token(token)
            .trust(Trust::Pem(certificate.clone()));
        match arguments.keep_alive {
            Some(silence) => builder.keep_alive(Duration::from_secs_f64(silence)),
            None => builder,
        }
    };
    let (reader, publisher) = (server.token(READER).await?, server.token(PUBLISHER).await?);
    let patience = Duration::from_secs_f64(arguments.patience);
    let pace = Pace {
        rate: arguments.rate,
        size: arguments.size as usize,
    };

    let begun = Instant::now();
    let crowd = Crowd::connect(arguments.clients, arguments.channels, || client(&reader)).await?;
    let handshakes = begun.elapsed();
    let publish = async |builder: Builder| {
        // It must not come back by itself: who publishes to which server is to be known.
        let client = builder.reconnect(false).connect().await?;
        Ok::<_, Failure>(Publishers::start(&client, &crowd.channels, pace))
    };
    let mut publishers = publish(client(&publisher)).await?;
    let mut deliveries = Vec::new();
    // The first is not measured: nothing is warm yet.
    for _ in 0..=DELIVERIES {
        crowd.begin();
        let begun = Instant::now();
        publishers.burst(arguments.messages).await?;
        deliveries.push(crowd.all_there(patience).await?.duration_since(begun));
    }
    deliveries.remove(0);
    deliveries.sort();
    let delivery = deliveries[DELIVERIES / 2];

    sleep(CALM).await;
    crowd.begin();
    let dropped = report::dropped();
    let back = match arguments.strike {
        Strike::Killed => {
            drop(publishers);
            server.kill().await?;
            sleep(Duration::from_secs_f64(arguments.down)).await;
            server.start_again().await?;
            let back = Instant::now();
            crowd.another_server();
            publishers = publish(client(&publisher)).await?;
            back
        }
        Strike::Cut => {
            let back = Instant::now();
            server.cut_off(READER).await?;
            back
        }
    };
    let cpu = server.cpu();
    publishers.burst(arguments.messages).await?;
    let published = report::since(back, Instant::now());
    let caught_up = crowd.all_there(patience).await?;
    let mut clients = Clients::new(&crowd, back);
    let server_cpu = server.cpu().zip(cpu).map(|(after, before)| after - before);
    let port = server.address().rsplit(':').next().ok_or("it has a port")?;
    let at_server = report::dropped_at(port.parse()?);
    let all = report::dropped()
        .zip(dropped)
        .map(|(after, before)| after - before);
    // Whatever came too late or twice comes before this.
    crowd.begin();
    publishers.burst(1).await?;
    crowd.all_there(patience).await?;
    clients.recount(&crowd);
    Ok(Report {
        handshakes: handshakes.as_secs_f64(),
        delivery: delivery.as_secs_f64(),
        bound: report::bound(handshakes, delivery),
        caught_up: report::since(back, caught_up),
        published,
        clients,
        server_cpu,
        dropped_at_server: at_server,
        dropped_elsewhere: all.zip(at_server).map(|(all, at)| all.saturating_sub(at)),
        load_average: report::load_average(),
    })
}
