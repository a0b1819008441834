//! The listener: connections within bounds, and an end without broken answers.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use crate::app::App;
use crate::router::{metrics_router, router};

const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long an answer under way may take once the hub stops; what waits for a
/// run or follows one ends at once.
const DRAIN: Duration = Duration::from_secs(25);
/// After an accept failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `stopping` of the app is cancelled and the last
/// answer is out (at most 25 s later).
pub async fn serve(listener: TcpListener, app: Arc<App>) -> io::Result<()> {
    let connections = listen(listener, router(app.clone()), &app);
    tokio::join!(connections, app.keep_house(), app.credentials.keep_fresh(&app));
    app.tasks.close();
    app.tasks.wait().await;
    app.flush().await.map_err(io::Error::other)
}

/// Serves `/metrics` alone, without a credential: for `[server] metrics_bind`.
pub async fn serve_metrics(listener: TcpListener, app: Arc<App>) {
    listen(listener, metrics_router(app.clone()), &app).await;
}

async fn listen(listener: TcpListener, router: Router, app: &App) {
    let slots = Arc::new(Semaphore::new(app.settings.max_connections));
    let connections = TaskTracker::new();
    let header_timeout = Duration::from_millis(app.settings.header_timeout_ms);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = app.stopping.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let (router, stopping) = (router.clone(), app.stopping.clone());
        connections.spawn(async move {
            connection(stream, peer, router, header_timeout, stopping).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    header_timeout: Duration,
    stopping: CancellationToken,
) {
    // Small frames of a stream must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut router = router.clone();
        async move {
            let ready = ServiceExt::<Request<Incoming>>::ready(&mut router).await?;
            ready.call(request).await
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        // At most 100 headers, hyper's own bound: one that is given costs an allocation a request.
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stopping.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}
