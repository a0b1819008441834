use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;

use crate::connection::Connection;

const IDLE: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const MAX_IDLE_PER_ORIGIN: usize = 128;
const MAX_IDLE: usize = 1024;

/// What a connection is good for.
pub(crate) type Origin = (Scheme, Authority);

/// Connections that wait for their next request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<Idle>>);

#[derive(Debug, Default)]
struct Idle {
    /// The last used is last; it is the next to be used.
    by_origin: HashMap<Origin, Vec<(Connection, Instant)>>,
    count: usize,
    is_swept: bool,
}

impl Pool {
    /// One that was open a moment ago.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let (mut connection, idle_since) = {
                let mut idle = self.idle();
                let last = idle.by_origin.get_mut(origin)?.pop()?;
                idle.count -= 1;
                last
            };
            if idle_since.elapsed() < IDLE && connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection if it can be used again and there is room.
    pub(crate) fn put(&self, origin: Origin, mut connection: Connection) {
        if !connection.is_ready() {
            return;
        }
        let mut idle = self.idle();
        if idle.count >= MAX_IDLE {
            return;
        }
        let waiting = idle.by_origin.entry(origin).or_default();
        if waiting.len() >= MAX_IDLE_PER_ORIGIN {
            return;
        }
        waiting.push((connection, Instant::now()));
        idle.count += 1;
        if !std::mem::replace(&mut idle.is_swept, true) {
            TokioExecutor::new().execute(sweep(Arc::downgrade(&self.0)));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        lock(&self.0)
    }
}

/// A connection in use, for one answer.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Pool,
    origin: Origin,
    connection: Connection,
}

impl Lease {
    pub(crate) fn new(pool: Pool, origin: Origin, connection: Connection) -> Self {
        Self { pool, origin, connection }
    }

    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The answer has come to its end. A lease that is dropped before closes
    /// its connection.
    pub(crate) fn end(self) {
        self.pool.put(self.origin, self.connection);
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes what was idle for too long or was closed by the server, as long as
/// anything is idle.
async fn sweep(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = lock(&idle);
        idle.by_origin.retain(|_, waiting| {
            waiting.retain_mut(|(connection, since)| since.elapsed() < IDLE && connection.is_ready());
            !waiting.is_empty()
        });
        idle.count = idle.by_origin.values().map(Vec::len).sum();
        idle.is_swept = idle.count > 0;
        if !idle.is_swept {
            return;
        }
    }
}
