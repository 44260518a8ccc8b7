//! TLS over TCP, blocking, without Nagle.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};

use crate::Failure;

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;
pub(crate) type Server = StreamOwned<ServerConnection, TcpStream>;

/// The name that every certificate of the benchmark carries.
const NAME: &str = "localhost";

pub(crate) fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)
        .map_err(|error| format!("cannot connect to {address}: {error}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Puts TLS over a connection.
pub(crate) fn client(stream: TcpStream, certificate: &Path) -> Result<Client, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in read(certificate)? {
        roots.add(certificate)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME)?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(connection, stream))
}

pub(crate) fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("cannot read {}: {error}", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(read(certificate)?, key)?;
    Ok(Arc::new(config))
}

pub(crate) fn server(stream: TcpStream, config: &Arc<ServerConfig>) -> Result<Server, Failure> {
    stream.set_nodelay(true)?;
    Ok(StreamOwned::new(
        ServerConnection::new(Arc::clone(config))?,
        stream,
    ))
}

/// Writes as one TLS record, at once.
pub(crate) fn send(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

/// Reads what there is of a frame that says its length first.
pub(crate) fn read_frame<'a>(
    stream: &mut impl Read,
    buffer: &'a mut Vec<u8>,
) -> std::io::Result<&'a [u8]> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    buffer.resize(u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(buffer)?;
    Ok(buffer)
}

fn read(certificate: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = fs::read(certificate)
        .map_err(|error| format!("cannot read {}: {error}", certificate.display()))?;
    Ok(CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>()?)
}
