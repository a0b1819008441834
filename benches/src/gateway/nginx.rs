//! nginx as a plain proxy: one worker, no log, connections to the upstream that
//! are kept, and for streams nothing held back.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::child::Server;

pub struct Nginx {
    /// Its address is for whole answers.
    pub server: Server,
    /// The same nginx, with `proxy_buffering off`.
    pub streams: SocketAddr,
}

impl Nginx {
    /// Before `upstream`, with its files in `home`, which must not be there yet.
    pub fn start(home: &Path, upstream: SocketAddr) -> anyhow::Result<Self> {
        std::fs::create_dir_all(home)?;
        let home = home.canonicalize()?;
        let (plain, streams) = (free_address()?, free_address()?);
        let file = home.join("nginx.conf");
        std::fs::write(&file, config(&home, upstream, plain, streams))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).stderr(Stdio::null());
        let server = Server::other(command, plain)
            .context("nginx must be installed (apt-get install nginx-light) and start")?;
        Ok(Self { server, streams })
    }
}

pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn config(home: &Path, upstream: SocketAddr, plain: SocketAddr, streams: SocketAddr) -> String {
    let at = home.display();
    let site = |address: SocketAddr, more: &str| {
        format!(
            "server {{ listen {address}; keepalive_requests 1000000000;\n\
             location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; {more} }} }}\n"
        )
    };
    format!(
        "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {at}; proxy_temp_path {at}; fastcgi_temp_path {at};\n\
         uwsgi_temp_path {at}; scgi_temp_path {at};\n\
         upstream up {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n{}{}}}\n",
        site(plain, ""),
        site(streams, "proxy_buffering off;"),
    )
}
