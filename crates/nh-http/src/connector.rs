use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::{HttpError, Phase};
use crate::guard::Guard;
use crate::resolve::Resolve;

/// Before the next address is tried beside the first (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// Of the addresses that a name may have, this many are tried.
const MAX_ADDRESSES: usize = 8;
/// Bounds a connection that nobody waits for any more: the client goes on
/// with it in the background when another became free first.
const CONNECT_MAX_MS: u64 = 60_000;

/// Looks a name up, lets the guard see what came, and connects to exactly
/// that.
#[derive(Clone)]
pub(crate) struct Connector {
    resolver: Arc<dyn Resolve>,
    /// None: the operator's word.
    guard: Option<Arc<Guard>>,
}

impl Connector {
    pub(crate) fn new(resolver: Arc<dyn Resolve>, guard: Option<Guard>) -> Self {
        Self { resolver, guard: guard.map(Arc::new) }
    }

    async fn connect(self, target: Uri) -> Result<TokioIo<TcpStream>, HttpError> {
        let (host, port) = place(&target);
        let addresses = self.permitted(host, self.look_up(host, port).await?)?;
        let failed =
            |error: io::Error| HttpError::Connect { host: host.to_owned(), message: error.to_string() };
        let stream = connect_first(&addresses).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(TokioIo::new(stream))
    }

    /// Refuses what is refused whatever a resolver says: an address, and the
    /// name of this machine.
    pub(crate) fn check(&self, target: &Uri) -> Result<(), HttpError> {
        let (host, port) = place(target);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let addresses = match host.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            // RFC 6761, section 6.3.
            Err(_) if name == "localhost" || name.ends_with(".localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => return Ok(()),
        };
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        self.permitted(host, addresses).map(drop)
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, HttpError> {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let failed = |message: String| HttpError::Resolve { host: host.to_owned(), message };
        let found = self.resolver.resolve(host, port).await.map_err(|error| failed(error.to_string()))?;
        if found.is_empty() {
            return Err(failed("it has no address".to_owned()));
        }
        // The port is the URL's, whatever the resolver says.
        Ok(found.into_iter().take(MAX_ADDRESSES).map(|found| SocketAddr::new(found.ip(), port)).collect())
    }

    /// Those of `addresses` that the guard allows; its first refusal if there
    /// are none.
    fn permitted(&self, host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, HttpError> {
        let Some(guard) = &self.guard else {
            return Ok(addresses);
        };
        let mut refusal = None;
        let mut permitted = Vec::with_capacity(addresses.len());
        for address in addresses {
            match guard.check(host, address) {
                Ok(()) => permitted.push(address),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(error) if permitted.is_empty() => Err(error),
            _some_are_allowed => Ok(permitted),
        }
    }
}

/// The host, without brackets, and the port.
fn place(target: &Uri) -> (&str, u16) {
    let host = target.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_https = target.scheme() == Some(&Scheme::HTTPS);
    (host, target.port_u16().unwrap_or(if is_https { 443 } else { 80 }))
}

/// The first connection that succeeds, later addresses starting a little
/// later or as soon as an earlier one failed.
async fn connect_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match waiting.next() {
            Some(address) => attempts.push(TcpStream::connect(*address)),
            None if attempts.is_empty() => return Err(last_error),
            None => {}
        }
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => last_error = error,
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, HttpError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = target.host().unwrap_or_default().to_owned();
            let limit = Duration::from_millis(CONNECT_MAX_MS);
            let late = |_| HttpError::TimedOut { host, phase: Phase::Connect, after_ms: CONNECT_MAX_MS };
            tokio::time::timeout(limit, connector.connect(target)).await.map_err(late)?
        })
    }
}
