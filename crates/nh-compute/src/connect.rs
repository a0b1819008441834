//! Connections to servers in a sandbox, over the channel to its guest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use nh_guest::protocol::{CHUNK, Request};
use nh_types::{SandboxId, WorkspaceId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::compute::Compute;
use crate::error::ComputeError;
use crate::guest::{Event, Sender, Stream};

/// Bytes that wait between the hub and a server inside, either way.
const BETWEEN: usize = 64 * 1024;

/// A connection to a server inside. Dropped, it is ended.
pub struct Connection {
    here: DuplexStream,
    _ends: DropGuard,
}

impl Compute {
    /// Connects to what listens on a port inside, on its loopback address. Where nothing
    /// does, the connection ends at once.
    pub async fn connect(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        port: u16,
    ) -> Result<Connection, ComputeError> {
        let live = self.live(workspace_id, id).await?;
        let turn = live.connection().await?;
        let stream = match live.guest.open(Request::Connect { port }) {
            Ok(stream) => stream,
            Err(error) => return Err(self.told(&live, error).await),
        };
        let (here, there) = tokio::io::duplex(BETWEEN);
        let dropped = CancellationToken::new();
        let ends = dropped.clone().drop_guard();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = pass(stream, there) => {}
                () = dropped.cancelled() => {}
            }
            // It counts until it is over inside too.
            drop(turn);
        });
        Ok(Connection { here, _ends: ends })
    }
}

/// Until both are through.
async fn pass(stream: Stream, there: DuplexStream) {
    let (from_hub, mut to_hub) = tokio::io::split(there);
    let sending = send(from_hub, stream.sender().clone());
    let mut stream = stream;
    let receiving = async {
        loop {
            match stream.next().await {
                Ok(Event::Data(bytes)) if to_hub.write_all(&bytes).await.is_ok() => {}
                Ok(Event::End) if to_hub.shutdown().await.is_ok() => {}
                // It is over, or the hub has gone: the stream's end is the guest's too.
                _ => return,
            }
        }
    };
    tokio::select! {
        () = receiving => {}
        () = async { sending.await; std::future::pending().await } => {}
    }
}

async fn send(mut from_hub: ReadHalf<DuplexStream>, sender: Sender) {
    let mut bytes = vec![0; CHUNK];
    loop {
        match from_hub.read(&mut bytes).await {
            Ok(read @ 1..) => match sender.send(&bytes[..read]).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            },
            Ok(0) | Err(_) => {
                // Where the channel ended there is nobody to tell.
                let _ = sender.end();
                return;
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.here).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.here).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.here).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.here).poll_shutdown(cx)
    }
}
