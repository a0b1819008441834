//! Servers inside.

use nh_guest::protocol::Language::Python;
use nh_guest::protocol::{Answer, FailureKind, Frame, Request};

use crate::host::Host;

#[test]
fn a_server_inside_is_reached() {
    let mut host = Host::start();
    let told = host.run(
        Python,
        "import socket, threading\nserver = socket.create_server(('127.0.0.1', 0))\n\
         def serve():\n    peer, _ = server.accept()\n    said = b''\n    while more := peer.recv(65536): said += more\n    \
         peer.sendall(said.upper() * 20_000); peer.close()\n\
         threading.Thread(target=serve, daemon=True).start()\nserver.getsockname()[1]",
    );
    let port: u16 = told.texts()[0].parse().expect("a port");
    let (stream, frames) = host.open(Request::Connect { port });
    host.send(stream, Frame::Data(b"over the channel ".to_vec()));
    host.send(stream, Frame::End);
    let told = host.hear(stream, &frames);
    assert_eq!((told.answer, told.data), (Answer::Done, b"OVER THE CHANNEL ".repeat(20_000)));
    host.run(Python, "server.close()");
    let failure = host.ask(Request::Connect { port }).failure().clone();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.message, format!("nothing listens on port {port} in the sandbox"));
}
