//! Placeholder for the interface of the HTTP API while it is written.
#[derive(Debug)]
pub struct ApiKey(pub String);
pub(crate) async fn serve(
    _l: tokio::net::TcpListener,
    _b: crate::broker::Broker,
    _k: ApiKey,
    _n: usize,
    stop: tokio_util::sync::CancellationToken,
) -> std::io::Result<()> {
    stop.cancelled().await;
    Ok(())
}
