use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
pub(crate) type Outgoing = Request<Full<Bytes>>;

/// One connection to a server. It has no task of its own: whoever waits for its
/// answer also moves its bytes. A task beside the caller's would cost several
/// wake-ups a request, often across threads.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// None once the connection is over.
    driver: Option<Box<http1::Connection<Stream, Full<Bytes>>>>,
}

impl Connection {
    pub(crate) async fn start(stream: Stream) -> hyper::Result<Self> {
        let (sender, driver) = http1::handshake(stream).await?;
        Ok(Self { sender, driver: Some(Box::new(driver)) })
    }

    /// Whether it can take a request: the server has not closed it, and the
    /// last exchange is over. Nobody is woken by an idle connection, neither
    /// this caller nor the one who used it last.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.drive(&mut unwoken());
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the answer's head. The error holds the
    /// request when nothing of it was sent.
    pub(crate) async fn exchange(
        &mut self,
        request: Outgoing,
    ) -> Result<Response<Incoming>, TrySendError<Outgoing>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|context| {
            self.drive(context);
            // Only the driver can make it ready, and that was just asked.
            answer.as_mut().poll(&mut unwoken())
        })
        .await
    }

    /// The next piece of an answer's body: `poll` looks at what has come.
    pub(crate) fn poll_body<T>(
        &mut self,
        context: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match poll(&mut unwoken()) {
            Poll::Pending => {
                self.drive(context);
                poll(&mut unwoken())
            }
            ready => ready,
        }
    }

    /// Moves bytes until the socket has no more; then `context` is woken.
    fn drive(&mut self, context: &mut Context<'_>) {
        let Some(driver) = &mut self.driver else { return };
        if let Poll::Ready(ended) = Pin::new(driver).poll(context) {
            // Dropping it tells the answer or its body, if they wait.
            self.driver = None;
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
        }
    }
}

fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
