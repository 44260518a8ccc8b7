//! The sockets of a port, over UDP and over TCP.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use super::{BindError, Config};
use crate::transport::{
    admission::Admission,
    driver::BUFFER,
    sockets,
    tcp::{self, PortError},
    tls::CertificateStore,
};

/// So often a free port is looked for that is free over TCP, too.
const TRIES: usize = 50;

/// One port number.
pub(super) struct Ports {
    pub(super) bound: SocketAddr,
    /// One for each worker.
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<tcp::Port>,
    /// Where there are WebSockets without TLS.
    pub(super) plain: Option<SocketAddr>,
}

impl Ports {
    /// Binds a port, over TCP too where WebSockets are served, and the one without TLS; 0 takes one that is free.
    pub(super) fn bind(
        address: SocketAddr,
        workers: u8,
        config: &Config,
        certificates: &Arc<CertificateStore>,
    ) -> Result<Self, BindError> {
        let connections = Admission::of_connections(config.tcp_connections);
        let address = sockets::supported(address);
        let mut ports = Self::same_number(address, workers, config, certificates, &connections)?;
        if let Some(first) = ports.udp.first() {
            sockets::report_receive_buffer(first, BUFFER);
        }
        if let Some(address) = config.plain.map(sockets::supported) {
            let failed = |source| BindError::PlainTcp { address, source };
            let plain =
                tcp::Port::plain(address, &admission(config), &connections).map_err(failed)?;
            ports.plain = Some(plain.local_address().map_err(failed)?);
            ports.tcp.push(plain);
        }
        Ok(ports)
    }

    fn same_number(
        address: SocketAddr,
        workers: u8,
        config: &Config,
        certificates: &Arc<CertificateStore>,
        connections: &Admission,
    ) -> Result<Self, BindError> {
        let plain = None;
        let mut tries = 0;
        loop {
            let (bound, udp) = bind(address, workers.into())
                .map_err(|source| BindError::Socket { address, source })?;
            if !config.websockets {
                let tcp = Vec::new();
                return Ok(Self {
                    bound,
                    udp,
                    tcp,
                    plain,
                });
            }
            match tcp::Port::bind(
                bound,
                Arc::clone(certificates),
                admission(config),
                connections.clone(),
            ) {
                Ok(tcp) => {
                    let tcp = vec![tcp];
                    return Ok(Self {
                        bound,
                        udp,
                        tcp,
                        plain,
                    });
                }
                Err(PortError::Socket(error))
                    if error.kind() == io::ErrorKind::AddrInUse
                        && address.port() == 0
                        && tries < TRIES =>
                {
                    tries += 1;
                }
                Err(PortError::Socket(source)) => {
                    let address = bound;
                    return Err(BindError::Tcp { address, source });
                }
                Err(PortError::Tls(error)) => return Err(error.into()),
            }
        }
    }
}

fn admission(config: &Config) -> Admission {
    // Half of the connections at most, so that handshakes leave room for sessions.
    let most = (config.tcp_connections / 2).max(1);
    Admission::new(config.soft_handshakes, config.hard_handshakes.min(most))
}

/// Where a server is, as far as the one that follows it there says the same, and no other with the same certificate does. A stateless
/// reset of one would end a connection of another (RFC 9000 §21.11).
pub(super) fn place(bound: SocketAddr) -> Vec<u8> {
    let mut place = bound.to_string().into_bytes();
    // Where the system does not tell it, only the address sets servers apart.
    place.extend(std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default());
    place
}

/// A socket of its own for each worker, and where they are: the system shares the port's datagrams among them by the client's
/// address.
///
/// Who shares a port from the beginning is let in beside any other program that does, and may be given a port as free that is not.
/// So the first binds alone and shares what is its own: there is no moment in which somebody else can come between.
fn bind(address: SocketAddr, workers: usize) -> std::io::Result<(SocketAddr, Vec<UdpSocket>)> {
    use socket2::{Protocol, Type};

    let socket = || sockets::socket(address, Type::DGRAM, Protocol::UDP);
    let first = socket()?;
    first.bind(&address.into())?;
    #[cfg(unix)]
    if workers > 1 {
        first.set_reuse_port(true)?;
    }
    let first = UdpSocket::from(first);
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    while sockets.len() < workers {
        let next = socket()?;
        #[cfg(unix)]
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        sockets.push(next.into());
    }
    Ok((bound, sockets))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::ErrorKind,
        net::{Ipv4Addr, UdpSocket},
        sync::Barrier,
        thread,
        time::{Duration, SystemTime},
    };

    use quinn_proto::crypto::HmacKey;

    use super::bind;
    use crate::transport::Certificate;

    const WORKERS: usize = 4;
    const FREE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    #[test]
    fn only_a_server_in_the_same_place_with_the_same_key_resets_connections_of_another() {
        let certificate = || {
            let made = Certificate::self_signed(&["a"], SystemTime::now(), Duration::from_secs(60));
            made.unwrap()
        };
        let (one, chain, key) = certificate();
        let token = |certificate: &Certificate, place: &[u8]| {
            let mut token = [0; 32];
            HmacKey::sign(&certificate.reset_key(place), b"an id", &mut token);
            token
        };
        let again = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(token(&one, b"here"), token(&again, b"here"));
        assert_ne!(token(&one, b"here"), token(&one, b"there"));
        assert_ne!(token(&one, b"here"), token(&certificate().0, b"here"));
    }

    #[test]
    fn workers_share_a_port_that_nobody_else_is_let_in_to() {
        let (address, sockets) = bind(FREE.into(), WORKERS).unwrap();
        assert_eq!(sockets.len(), WORKERS);
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
            socket.set_nonblocking(true).unwrap();
        }
        for others in [1, WORKERS] {
            let refused = bind(address, others).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        }
        for _ in 0..50 {
            let (other, _) = bind(FREE.into(), WORKERS).unwrap();
            assert_ne!(other, address);
        }
        // Each has its part of the clients, the first too; that of 200 one gets nobody is not to be feared.
        for _ in 0..200 {
            let client = UdpSocket::bind(FREE).unwrap();
            client.send_to(b"x", address).unwrap();
        }
        let read = |socket: &UdpSocket| {
            let mut buffer = [0; 10];
            std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
        };
        let got: Vec<_> = sockets.iter().map(read).collect();
        assert_eq!(got.iter().sum::<usize>(), 200);
        assert!(!got.contains(&0), "{got:?}");
    }

    #[test]
    fn of_two_servers_that_start_at_once_one_gets_the_port() {
        let mut served = 0;
        for _ in 0..500 {
            let free = UdpSocket::bind(FREE).unwrap().local_addr().unwrap();
            let both = Barrier::new(2);
            let start = || {
                both.wait();
                bind(free, WORKERS)
            };
            let (one, other) = thread::scope(|scope| {
                let one = scope.spawn(start);
                (start(), one.join().unwrap())
            });
            assert!(one.is_err() || other.is_err(), "both have {free}");
            served += usize::from(one.is_ok() || other.is_ok());
        }
        // Another test may have taken one or the other port meanwhile.
        assert!(served > 400, "{served} of 500");
    }
}
