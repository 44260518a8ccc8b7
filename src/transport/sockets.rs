//! Sockets that listen, and the addresses of clients.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::Once,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait in the system to be accepted.
const BACKLOG: i32 = 1024;

/// A socket to be bound to `address`. `[::]` takes IPv4 too, whatever the system's default is, and so does an address that stands for an IPv4
/// address; other IPv6 addresses take IPv6 alone.
pub(super) fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if let IpAddr::V6(ip) = address.ip() {
        socket.set_only_v6(!ip.is_unspecified() && ip.to_ipv4_mapped().is_none())?;
    }
    Ok(socket)
}

/// A TCP socket that listens, not blocking.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of the server before this one that are not forgotten yet do not keep it out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The address to listen on: `0.0.0.0` instead of `[::]` on a system without IPv6, which is logged once.
pub(crate) fn supported(address: SocketAddr) -> SocketAddr {
    static LOGGED: Once = Once::new();
    let chosen = choose(address, || {
        Socket::new(Domain::IPV6, Type::DGRAM, None).map(drop)
    });
    if chosen != address {
        LOGGED.call_once(|| tracing::info!(%address, instead = %chosen, "this system has no IPv6: listening on IPv4 alone"));
    }
    chosen
}

fn choose(address: SocketAddr, ipv6: impl FnOnce() -> io::Result<()>) -> SocketAddr {
    if address.ip() == Ipv6Addr::UNSPECIFIED && ipv6().is_err() {
        return (Ipv4Addr::UNSPECIFIED, address.port()).into();
    }
    address
}

/// An IPv4 address as such where the system writes it as `::ffff:192.0.2.1`.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        // With its scope.
        IpAddr::V6(_) => address,
    }
}

/// Says how more room for datagrams is given where the system gave `socket` less than `wanted` bytes.
pub(super) fn report_receive_buffer(socket: &std::net::UdpSocket, wanted: usize) {
    let socket = socket2::SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(wanted);
    // Linux counts its own bookkeeping, and reports twice what may be asked for.
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    if let Ok(granted) = socket.recv_buffer_size().map(|size| size / factor)
        && granted < wanted
    {
        tracing::info!(
            "the UDP receive buffer has {granted} bytes instead of {wanted}, so that datagrams are lost when many clients send at once; {}",
            advice(wanted)
        );
    }
}

fn advice(wanted: usize) -> String {
    if cfg!(target_os = "linux") {
        format!("to fix it: sysctl -w net.core.rmem_max={wanted}")
    } else if cfg!(any(target_os = "macos", target_os = "freebsd")) {
        format!("to fix it: sysctl -w kern.ipc.maxsockbuf={}", 2 * wanted)
    } else {
        "raise the system's limit of socket buffers".to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn unspecified_ipv6_address_takes_ipv4_and_others_do_not() {
        for (address, only) in [
            ("[::]:0", false),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:0", false),
        ] {
            for (kind, protocol) in [(Type::DGRAM, Protocol::UDP), (Type::STREAM, Protocol::TCP)] {
                let socket = socket(address.parse().unwrap(), kind, protocol).unwrap();
                assert_eq!(socket.only_v6().unwrap(), only, "{address}");
            }
        }
        let listener = listen("[::]:0".parse().unwrap()).unwrap();
        assert!(!socket2::SockRef::from(&listener).only_v6().unwrap());
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn system_without_ipv6_listens_on_ipv4() {
        let none = || Err(io::ErrorKind::Unsupported.into());
        let chosen = |address: &str| choose(address.parse().unwrap(), none).to_string();
        assert_eq!(chosen("[::]:4433"), "0.0.0.0:4433");
        assert_eq!(chosen("[::1]:4433"), "[::1]:4433");
        assert_eq!(chosen("192.0.2.1:4433"), "192.0.2.1:4433");
        let address = "[::]:4433".parse().unwrap();
        assert_eq!(choose(address, || Ok(())), address);
    }

    #[test]
    fn ipv4_clients_have_ipv4_addresses() {
        for (shown, expected) in [
            ("[::ffff:192.0.2.1]:9", "192.0.2.1:9"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("[fe80::1%3]:9", "[fe80::1%3]:9"),
        ] {
            assert_eq!(canonical(shown.parse().unwrap()).to_string(), expected);
        }
    }
}
