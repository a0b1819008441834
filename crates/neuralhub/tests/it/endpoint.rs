//! An HTTP endpoint that counts, and workflows that call it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::http::Client;

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a held request's client is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// An HTTP endpoint that writes down who asks for what. The first request for
/// each `/hold…` is answered only when it is released.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Key and path of each request, in order.
    seen: Vec<(String, String)>,
    is_released: bool,
    /// Held requests of which the client has hung up.
    left: usize,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let served = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.serve(stream));
            }
        });
        endpoint
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (mut path, mut key) = (String::new(), String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim();
                if path.is_empty() {
                    path = line.split(' ').nth(1)?.to_owned();
                } else if let Some((name, value)) = line.split_once(": ") {
                    if name.eq_ignore_ascii_case("idempotency-key") {
                        key = value.to_owned();
                    }
                } else {
                    break;
                }
            }
            self.note_and_wait(key, path, &stream);
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn note_and_wait(&self, key: String, path: String, stream: &TcpStream) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        let is_held = path.starts_with("/hold") && !state.seen.iter().any(|(_, seen)| *seen == path);
        state.seen.push((key, path));
        changed.notify_all();
        while is_held && !state.is_released && !has_hung_up(stream) {
            state = changed.wait_timeout(state, LOOK_AGAIN).unwrap().0;
        }
        if is_held && !state.is_released {
            state.left += 1;
            changed.notify_all();
        }
    }

    /// Until so many clients have hung up on a request that is held.
    pub(crate) fn until_left(&self, count: usize) {
        let (state, changed) = &*self.state;
        let (_state, waited) =
            changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| state.left < count).unwrap();
        assert!(!waited.timed_out(), "nobody hangs up");
    }

    /// Until so many requests came for paths that begin so.
    pub(crate) fn until_seen(&self, begin: &str, count: usize) {
        let (state, changed) = &*self.state;
        let is_short =
            |state: &mut State| state.seen.iter().filter(|(_, path)| path.starts_with(begin)).count() < count;
        let (_state, waited) = changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, is_short).unwrap();
        assert!(!waited.timed_out(), "the requests for {begin} do not come");
    }

    pub(crate) fn release(&self) {
        let (state, changed) = &*self.state;
        state.lock().unwrap().is_released = true;
        changed.notify_all();
    }

    pub(crate) fn seen(&self) -> Vec<(String, String)> {
        self.state.0.lock().unwrap().seen.clone()
    }
}

/// Whether the other side has closed the connection, which has nothing to say.
fn has_hung_up(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let has_ended = matches!(stream.peek(&mut [0]), Ok(0));
    stream.set_nonblocking(false).unwrap();
    has_ended
}

impl Client {
    /// A workflow `chain` of three requests, of which the second is held.
    pub(crate) fn make_held_chain(&self, endpoint: &Endpoint) {
        let fetch = |id: &str, path: &str, needs: &[&str]| {
            let url = format!("http://{}/{path}/{{{{ input.n }}}}", endpoint.address);
            json!({"id": id, "uses": "tool:http_fetch", "with": {"url": url}, "needs": needs})
        };
        let steps =
            [fetch("one", "one", &[]), fetch("two", "hold", &["one"]), fetch("three", "three", &["two"])];
        let workflow = json!({"id": "chain", "name": "Chain", "steps": steps});
        let made = self.post("/v1/workflows", &[], &workflow).unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
    }

    pub(crate) fn begin_held(&self, n: u64) -> String {
        let body = json!({"target": "chain", "type": "workflow", "async": true, "input": {"n": n}});
        let answer = self.post("/v1/run", &[], &body).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.json()["runId"].as_str().unwrap().to_owned()
    }
}
