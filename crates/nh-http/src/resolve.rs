use std::io;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;

/// The addresses that a name stands for, or why there are none.
pub type Resolving<'a> = BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

/// From a host name to addresses. A parameter, so that a test can answer with
/// any address. Never asked about IP literals.
pub trait Resolve: Send + Sync + 'static {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
