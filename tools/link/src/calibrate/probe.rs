//! The sockets of a calibration. Each probe runs one thread at each end; a receiver ends when nothing has come for a while.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{
    link::{Link, Side},
    sys,
    units::Rate,
};

/// Round trips measured: p99 is then the third longest.
const ROUND_TRIPS: u32 = 300;
/// Between two of them.
const ROUND_TRIP_PAUSE: Duration = Duration::from_millis(4);
/// Datagrams sent each way to measure loss: four standard deviations are 0.56 % at 2 %, and the sequence is compared one by one.
const DATAGRAMS: u32 = 10_000;
/// Time that they may take on a slow link.
const LOSS_TIME: Duration = Duration::from_secs(4);
/// Most of them in a second.
const DATAGRAMS_PER_SECOND: u32 = 5_000;
/// Their length with the headers of IP and UDP.
const DATAGRAM: usize = 100 + HEADERS;
/// Of IP and UDP.
const HEADERS: usize = 28;
/// What a blast sends.
const BLAST: usize = 1200;
/// How long; the first part is not counted, until the queue is full.
const BLAST_TIME: Duration = Duration::from_millis(2000);
const BLAST_WARM_UP: Duration = Duration::from_millis(500);
/// How long TCP transfers; the first part is not counted: slow start fills the queue, and what it lost holds up the rest for a while.
const TCP_TIME: Duration = Duration::from_secs(6);
const TCP_WARM_UP: Duration = Duration::from_secs(3);
/// Payload of a full TCP segment with timestamps, of a packet of 1,500 bytes.
const TCP_PAYLOAD: f64 = 1448.0 / 1500.0;
/// Datagrams in one send with GSO.
pub(super) const SEGMENTS: u16 = 10;
/// Silence after which nothing more comes, beyond the delay both ways and the queue: a pause of the machine is shorter.
const SILENCE: Duration = Duration::from_millis(700);

/// A datagram socket at one end, for one port of the other.
fn socket(link: &Link, side: Side) -> io::Result<UdpSocket> {
    let socket = link.enter(side, || UdpSocket::bind((link.address(side), 0)))??;
    socket.set_read_timeout(Some(SILENCE + link.longest()))?;
    Ok(socket)
}

fn pair(link: &Link) -> io::Result<(UdpSocket, UdpSocket)> {
    let (server, client) = (socket(link, Side::Server)?, socket(link, Side::Client)?);
    server.connect(client.local_addr()?)?;
    client.connect(server.local_addr()?)?;
    Ok((server, client))
}

/// The next datagram; `None` when none has come for a while.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match socket.recv(buffer) {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Both at once, each on a thread of its own that runs when its time has come; a socket stays in the namespace of its birth.
fn both<A: Send, B: Send>(
    one: impl FnOnce() -> io::Result<A> + Send,
    other: impl FnOnce() -> io::Result<B> + Send,
) -> io::Result<(A, B)> {
    fn run<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        // What it makes better is the probe, not the link: without it the tolerances may not be met, and say so.
        let _ = sys::be_punctual();
        work()
    }
    thread::scope(|scope| {
        let one = scope.spawn(|| run(one));
        let other = scope.spawn(|| run(other));
        let one = one
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let other = other
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((one?, other?))
    })
}

/// Sends `count` datagrams at even times.
fn send_evenly(socket: &UdpSocket, length: usize, count: u32, every: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut bytes = vec![0; length];
    for number in 0..count {
        thread::sleep((every * number).saturating_sub(began.elapsed()));
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(&bytes)?;
    }
    Ok(())
}

/// Round-trip times that came back, sorted.
pub(super) fn round_trips(link: &Link) -> io::Result<Vec<Duration>> {
    let (server, client) = pair(link)?;
    let began = Instant::now();
    let echo = || {
        let mut buffer = [0; 64];
        while let Some(length) = receive(&server, &mut buffer)? {
            server.send(&buffer[..length])?;
        }
        Ok(())
    };
    let probe = || {
        let send = || {
            for number in 0..ROUND_TRIPS {
                thread::sleep((ROUND_TRIP_PAUSE * number).saturating_sub(began.elapsed()));
                let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                client.send(&now.to_be_bytes())?;
            }
            Ok(())
        };
        let receive_all = || {
            let mut times = Vec::new();
            let mut buffer = [0; 8];
            while receive(&client, &mut buffer)? == Some(8) {
                let sent = Duration::from_nanos(u64::from_be_bytes(buffer));
                times.push(began.elapsed().saturating_sub(sent));
            }
            Ok(times)
        };
        both(send, receive_all).map(|((), times)| times)
    };
    let ((), mut times) = both(echo, probe)?;
    if times.is_empty() {
        return Err(io::Error::other(format!(
            "none of {ROUND_TRIPS} probes came back"
        )));
    }
    times.sort();
    Ok(times)
}

/// Which datagrams arrived, to the client and to the server.
pub(super) fn losses(link: &Link, rate: Option<Rate>) -> io::Result<[Vec<bool>; 2]> {
    let (server, client) = pair(link)?;
    let fastest = Duration::from_secs(1) / DATAGRAMS_PER_SECOND;
    // Half the rate, so that the queue drops nothing.
    let every = rate.map_or(fastest, |rate| fastest.max(2 * rate.time_of(DATAGRAM)));
    let count = DATAGRAMS.min((LOSS_TIME.as_nanos() / every.as_nanos()) as u32);
    let arrived = |socket: &UdpSocket| {
        let mut arrived = vec![false; count as usize];
        let mut buffer = [0; DATAGRAM];
        while receive(socket, &mut buffer)?.is_some() {
            let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            if let Some(arrived) = arrived.get_mut(number as usize) {
                *arrived = true;
            }
        }
        Ok(arrived)
    };
    let send = |socket: &UdpSocket| send_evenly(socket, DATAGRAM - HEADERS, count, every);
    let (((), ()), (to_client, to_server)) = both(
        || both(|| send(&server), || send(&client)),
        || both(|| arrived(&client), || arrived(&server)),
    )?;
    Ok([to_client, to_server])
}

/// Bits a second that reach the client, IP headers included, when so many are offered.
pub(super) fn udp_rate(link: &Link, offered: u64) -> io::Result<f64> {
    let (server, client) = pair(link)?;
    let packet = BLAST + HEADERS;
    let every = Rate::from_bits(offered).map_or(BLAST_TIME, |rate| rate.time_of(packet));
    let count = (BLAST_TIME.as_nanos() / every.as_nanos().max(1)) as u32;
    let ((), bits) = both(
        || send_evenly(&server, BLAST, count, every),
        || {
            let mut meter = Meter::new(BLAST_WARM_UP, BLAST_TIME);
            let mut buffer = [0; BLAST];
            while let Some(length) = receive(&client, &mut buffer)? {
                meter.add(length + HEADERS);
            }
            meter.bits()
        },
    )?;
    Ok(bits)
}

/// Bits a second that reach the client by TCP, headers included.
pub(super) fn tcp_rate(link: &Link) -> io::Result<f64> {
    let address = SocketAddr::from((link.address(Side::Server), 0));
    let listener = link.enter(Side::Server, || TcpListener::bind(address))??;
    let address = listener.local_addr()?;
    let ((), bits) = both(
        || {
            let (mut stream, _) = listener.accept()?;
            let block = vec![0; 64 * 1024];
            let began = Instant::now();
            while began.elapsed() < TCP_TIME {
                stream.write_all(&block)?;
            }
            Ok(())
        },
        || {
            let mut stream = link.enter(Side::Client, || TcpStream::connect(address))??;
            stream.set_read_timeout(Some(TCP_TIME))?;
            let mut meter = Meter::new(TCP_WARM_UP, TCP_TIME);
            let mut block = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut block)? {
                    0 => break meter.bits(),
                    length => meter.add(length),
                }
            }
        },
    )?;
    Ok(bits / TCP_PAYLOAD)
}

/// One send that the kernel cuts into [`SEGMENTS`] datagrams; returns when they have arrived.
pub(super) fn segments(link: &Link) -> io::Result<()> {
    let (server, client) = pair(link)?;
    sys::set_udp_segment(&server, BLAST as u16)?;
    server.send(&vec![0; BLAST * usize::from(SEGMENTS)])?;
    let mut buffer = [0; 64 * 1024];
    while receive(&client, &mut buffer)?.is_some() {}
    Ok(())
}

/// Counts what arrives between two times after the first arrival.
struct Meter {
    from: Duration,
    to: Duration,
    first: Option<Instant>,
    bytes: usize,
    /// Of the first and the last arrival that count.
    span: Option<(Duration, Duration)>,
}

impl Meter {
    const fn new(from: Duration, to: Duration) -> Self {
        Self {
            from,
            to,
            first: None,
            bytes: 0,
            span: None,
        }
    }

    fn add(&mut self, bytes: usize) {
        let time = self.first.get_or_insert_with(Instant::now).elapsed();
        if time < self.from || time >= self.to {
            return;
        }
        // The first one only begins the time.
        match &mut self.span {
            None => self.span = Some((time, time)),
            Some((_, last)) => {
                *last = time;
                self.bytes += bytes;
            }
        }
    }

    fn bits(&self) -> io::Result<f64> {
        match self.span {
            Some((first, last)) if last > first => {
                Ok(self.bytes as f64 * 8.0 / (last - first).as_secs_f64())
            }
            _ => Err(io::Error::other("next to nothing arrived")),
        }
    }
}
