//! Servers that break the protocol, and what the client makes of them: it gives nobody what it cannot vouch for.

mod common;

use std::{net::SocketAddr, sync::Arc};

use common::{bounded, certificate, publication, text};
use quinn::{
    Connection, Endpoint, RecvStream, SendStream, ServerConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tidings::{
    Message, Start,
    client::{Client, ClientError, Event, Trust},
    wire::{
        ALPN, Code, Decoder, Epoch, HistoryQuery, Position, Publication, datagram,
        frame::{
            Delivery, End, Frame, Header, HistoryPage, Lagged, Lane, Limits, Source, Subscribed,
            Turn, Welcome,
        },
    },
};

const EPOCH: Epoch = Epoch(7);

/// A server that does what the test says, over raw QUIC.
struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
    pem: String,
}

/// A client as such a server sees it.
struct Peer {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    decoder: Decoder,
}

impl Server {
    fn start() -> Self {
        let (_, pem, key) = certificate();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut crypto = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.unwrap(), key)
            .unwrap();
        crypto.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        let crypto = QuicServerConfig::try_from(crypto).unwrap();
        let config = ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            address: endpoint.local_addr().unwrap(),
            endpoint,
            pem,
        }
    }

    /// A client that does not come back, and its other end.
    async fn meet(&self) -> (Client, Peer) {
        let url = format!("quic://{}", self.address);
        let trust = Trust::Pem(self.pem.clone().into_bytes());
        let client = Client::builder(url).trust(trust).reconnect(false);
        let (client, peer) = tokio::join!(client.connect(), async {
            let incoming = self.endpoint.accept().await.unwrap();
            let connection = incoming.await.unwrap();
            let (send, recv) = connection.accept_bi().await.unwrap();
            let mut peer = Peer {
                connection,
                send,
                recv,
                decoder: Decoder::new(1 << 20),
            };
            assert!(matches!(peer.read().await, Frame::Hello(_)));
            let limits = Limits {
                message: 65_536,
                frame: 131_072,
                subscriptions: 128,
            };
            peer.say(Welcome {
                session: 1,
                user: None,
                server: "hostile".to_owned(),
                features: Vec::new(),
                limits,
                subscriptions: Vec::new(),
                expires: None,
                idle_timeout: 30_000,
                refused: Vec::new(),
            })
            .await;
            peer
        });
        (client.unwrap(), peer)
    }
}

impl Peer {
    async fn read(&mut self) -> Frame {
        loop {
            if let Some(raw) = self.decoder.next_frame().unwrap() {
                return Frame::decode(&raw).unwrap().unwrap();
            }
            let chunk = self.recv.read_chunk(usize::MAX, true).await.unwrap();
            self.decoder.extend(&chunk.unwrap().bytes);
        }
    }

    async fn say(&mut self, frame: impl Into<Frame>) {
        write(&mut self.send, frame).await;
    }

    /// Answers a subscription that begins after `offset`, and opens its stream.
    async fn subscribed(&mut self, request: u64, subscription: u64, offset: u64) -> SendStream {
        let delivery = Delivery::ORDERED;
        self.subscribed_as(request, subscription, offset, delivery)
            .await
    }

    async fn subscribed_as(
        &mut self,
        request: u64,
        subscription: u64,
        offset: u64,
        delivery: Delivery,
    ) -> SendStream {
        let position = Position {
            epoch: EPOCH,
            offset,
        };
        self.say(Subscribed {
            request,
            subscription,
            position,
        })
        .await;
        let mut stream = self.connection.open_uni().await.unwrap();
        let mut header = header(subscription, "chat-room-1");
        (header.first, header.delivery) = (offset + 1, delivery);
        write(&mut stream, header).await;
        stream
    }

    /// A lane with nothing on it.
    async fn lane(&self) -> SendStream {
        let mut lane = self.connection.open_uni().await.unwrap();
        write(&mut lane, Lane { lane: 1 }).await;
        lane
    }

    /// The client ends a subscription of its own accord: which.
    async fn unsubscribed(&mut self) -> u64 {
        match self.read().await {
            Frame::Unsubscribe(ended) => ended.subscription,
            other => panic!("{other:?}"),
        }
    }

    /// The client closes with this code.
    async fn is_left(&self, code: Code) {
        match self.connection.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code, VarInt::from_u32(code.0), "{close}");
            }
            other => panic!("{other}"),
        }
    }
}

async fn write(stream: &mut SendStream, frame: impl Into<Frame>) {
    stream.write_all(&frame.into().encode()).await.unwrap();
}

fn header(subscription: u64, name: &str) -> Header {
    Header {
        subscription,
        source: Source::CHANNEL,
        name: name.to_owned(),
        epoch: EPOCH,
        first: 1,
        recovered: true,
        delivery: Delivery::ORDERED,
    }
}

fn numbered(offset: u64) -> Publication {
    Publication {
        offset,
        time: 1,
        publisher: None,
        message: Message::text(offset.to_string()),
    }
}

#[tokio::test]
async fn a_gap_in_a_stream_is_not_passed_on() {
    bounded(async {
        let server = Server::start();
        let (client, mut peer) = server.meet().await;
        let (room, mut stream) = tokio::join!(client.subscribe("chat-room-1"), async {
            match peer.read().await {
                Frame::Subscribe(asked) => peer.subscribed(asked.request, 1, 0).await,
                other => panic!("{other:?}"),
            }
        });
        let mut room = room.unwrap();
        write(&mut stream, numbered(1)).await;
        write(&mut stream, numbered(3)).await;
        assert_eq!(text(&publication(&mut room).await), "1");
        let reading = tokio::spawn(async move {
            let event = room.next().await;
            (event, room)
        });
        let stopped = stream.stopped().await.unwrap();
        let wanted = VarInt::from_u32(Code::PROTOCOL_VIOLATION.0);
        assert_eq!(stopped, Some(wanted));
        // It asks again after what it has, which another server might get right.
        let mut again = loop {
            match peer.read().await {
                Frame::SubscribeFrom(asked) => {
                    let after = Position {
                        epoch: EPOCH,
                        offset: 1,
                    };
                    assert_eq!(asked.start, Start::AfterOrOldest(after));
                    break peer.subscribed(asked.request, 2, 1).await;
                }
                Frame::Unsubscribe(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let (event, mut room) = reading.await.unwrap();
        let event = event.unwrap();
        assert!(matches!(event, Event::Break { .. }), "{event:?}");
        assert_eq!(event.missed(), Some(0));
        // What was given is left out, and what comes twice is given once.
        for offset in [2, 2, 1, 3] {
            write(&mut again, numbered(offset)).await;
        }
        assert_eq!(text(&publication(&mut room).await), "2");
        assert_eq!(text(&publication(&mut room).await), "3");
    })
    .await;
}

#[tokio::test]
async fn datagrams_that_are_none_are_passed_over() {
    bounded(async {
        let server = Server::start();
        let (client, mut peer) = server.meet().await;
        let (room, mut stream) = tokio::join!(client.subscribe("chat-room-1"), async {
            let Frame::Subscribe(asked) = peer.read().await else {
                panic!("no Subscribe");
            };
            peer.subscribed_as(asked.request, 1, 0, Delivery::DATAGRAM)
                .await
        });
        let mut room = room.unwrap();
        let frame = |offset| Frame::from(numbered(offset)).encode();
        let send = |bytes: Vec<u8>| peer.connection.send_datagram(bytes.into()).unwrap();
        let say = |subscription, offset| send([&[subscription], &frame(offset)[..]].concat());
        let whole = [&[1], &frame(9)[..]].concat();
        (0..whole.len()).for_each(|cut| send(whole[..cut].to_vec()));
        (0..whole.len()).for_each(|at| {
            let mut spoilt = whole.clone();
            // Neither what says that it is none of these nor where it ends, whatever comes of it.
            spoilt[at] = 255;
            if !matches!(datagram::decode(&spoilt.clone().into()), Ok((1, Some(_)))) {
                send(spoilt);
            }
        });
        send([&whole[..], &[0]].concat());
        send(vec![255; 1_000]);
        (0..200).for_each(|offset| say(77, offset));
        // Older than what was given, and again.
        say(1, 2);
        let skipped = |from, to| Some(Event::Skipped { from, to });
        assert_eq!(room.next().await, skipped(1, 1));
        assert_eq!(publication(&mut room).await.offset, 2);
        [2, 1, 0].into_iter().for_each(|offset| say(1, offset));
        for offset in [3, 2, 5] {
            write(&mut stream, numbered(offset)).await;
        }
        assert_eq!(publication(&mut room).await.offset, 3);
        assert_eq!(room.next().await, skipped(4, 4));
        assert_eq!(publication(&mut room).await.offset, 5);
        say(1, u64::MAX);
        assert_eq!(room.next().await, skipped(6, u64::MAX - 1));
        assert_eq!(publication(&mut room).await.offset, u64::MAX);
        let end = End {
            code: Code::ENDED,
            reason: String::new(),
        };
        write(&mut stream, end).await;
        assert!(matches!(room.next().await, Some(Event::End { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_page_that_cannot_be_is_a_violation() {
    bounded(async {
        let server = Server::start();
        for (other, count) in [(1, 1), (0, 257), (0, u64::MAX)] {
            let (client, mut peer) = server.meet().await;
            let (read, ()) = tokio::join!(client.history("a", HistoryQuery::oldest(9)), async {
                let Frame::ReadHistory(asked) = peer.read().await else {
                    panic!("no ReadHistory");
                };
                peer.say(HistoryPage {
                    request: asked.request + other,
                    kept: None,
                    complete: true,
                    count,
                })
                .await;
                peer.is_left(Code::PROTOCOL_VIOLATION).await;
            });
            let error = read.unwrap_err();
            assert!(
                matches!(error, ClientError::Interrupted(_) | ClientError::Closed(_)),
                "{error:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn between_the_publications_of_a_page_there_is_nothing_else() {
    bounded(async {
        let server = Server::start();
        let (client, mut peer) = server.meet().await;
        let (read, ()) = tokio::join!(client.history("a", HistoryQuery::oldest(9)), async {
            let Frame::ReadHistory(asked) = peer.read().await else {
                panic!("no ReadHistory");
            };
            let page = HistoryPage {
                request: asked.request,
                kept: None,
                complete: true,
                count: 2,
            };
            peer.say(page.clone()).await;
            peer.say(numbered(1)).await;
            peer.say(page).await;
            peer.is_left(Code::UNEXPECTED_FRAME).await;
        });
        let error = read.unwrap_err();
        assert!(matches!(error, ClientError::Interrupted(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_lane_that_breaks_the_rules_is_stopped() {
    bounded(async {
        let server = Server::start();
        let (_client, peer) = server.meet().await;
        let turn = |subscription| Frame::from(Turn { subscription }).encode();
        let head = |subscription| Frame::from(header(subscription, "a")).encode();
        let lane = Frame::from(Lane { lane: 2 }).encode();
        let faults = [
            ("a header before anybody's turn", vec![head(1)]),
            ("in the turn of another", vec![turn(2), head(1)]),
            ("twice", vec![turn(3), head(3), head(3)]),
            ("a lane in a lane", vec![turn(4), head(4), lane]),
            ("no frame", vec![turn(5), vec![0].into()]),
        ];
        for (what, bytes) in faults {
            let mut lane = peer.lane().await;
            lane.write_all(&bytes.concat()).await.unwrap();
            let stopped = lane.stopped().await.unwrap();
            let wanted = VarInt::from_u32(Code::PROTOCOL_VIOLATION.0);
            assert_eq!(stopped, Some(wanted), "{what}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_nobody_reads_of_a_lane_is_bounded() {
    bounded(async {
        let server = Server::start();
        let (client, mut peer) = server.meet().await;
        let mut lane = peer.lane().await;
        // Frames that are hardly longer than their heads.
        write(&mut lane, Turn { subscription: 1 }).await;
        write(&mut lane, header(1, "unread")).await;
        let lag = Frame::from(Lagged { from: 1, to: 1 }).encode();
        lane.write_all(&lag.repeat(20_000)).await.unwrap();
        assert_eq!(peer.unsubscribed().await, 1);
        // Many parts, none of which is large.
        let large = Frame::from(Publication {
            message: Message::data("a/b", vec![7; 60_000]),
            ..numbered(1)
        })
        .encode();
        let parts = 100;
        for id in 2..2 + parts {
            write(&mut lane, Turn { subscription: id }).await;
            write(&mut lane, header(id, &format!("part-{id}"))).await;
            lane.write_all(&large.repeat(4)).await.unwrap();
        }
        // Above 16 MiB one goes for each that comes.
        let before = (16 << 20) / (4 * large.len() as u64);
        for _ in before..parts - 1 {
            let ended = peer.unsubscribed().await;
            assert!((2..2 + parts).contains(&ended), "{ended}");
        }
        // And whoever reads is not concerned.
        let reading = tokio::spawn(async move {
            let mut room = client.subscribe("chat-room-1").await.unwrap();
            let heard = publication(&mut room).await;
            (client, text(&heard).to_owned())
        });
        let request = loop {
            match peer.read().await {
                Frame::Subscribe(asked) => break asked.request,
                Frame::Unsubscribe(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let id = 2 + parts;
        let position = Position {
            epoch: EPOCH,
            offset: 0,
        };
        peer.say(Subscribed {
            request,
            subscription: id,
            position,
        })
        .await;
        write(&mut lane, Turn { subscription: id }).await;
        write(&mut lane, header(id, "chat-room-1")).await;
        write(&mut lane, numbered(1)).await;
        assert_eq!(reading.await.unwrap().1, "1");
    })
    .await;
}
