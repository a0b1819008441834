//! The chat proxy beside nginx as a plain proxy, before the same upstream:
//! processor time a request. Method and results: benches/README.md.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use http::{Method, StatusCode};
use nh_bench::baseline::with_checksum;
use nh_bench::child::Server;
use nh_bench::load::{Load, always};
use nh_bench::report::{machine, median};

const KEY: &str = "nh_0123456789abcdefghijklmnopqrstuvwx";

/// What the upstream always answers.
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"The internet started in the 1960s with ARPANET, a network of the United States Department of Defense."},"finish_reason":"stop"}],"usage":{"prompt_tokens":27,"completion_tokens":24,"total_tokens":51}}"#;

const QUESTION: &[u8] = br#"{"model":"bench","messages":[{"role":"system","content":"You are an assistant."},{"role":"user","content":"When and how did the internet start? Answer in one sentence."}],"temperature":0.2}"#;

#[derive(Parser)]
struct Options {
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let directory = tempfile::tempdir_in("target")?;
    let (upstream_at, proxy_at) = (free_address()?, free_address()?);
    let _upstream = nginx(directory.path(), "upstream", &upstream_site(upstream_at), upstream_at)?;
    let proxy = nginx(directory.path(), "proxy", &proxy_site(proxy_at, upstream_at), proxy_at)?;
    let key = with_checksum(KEY);
    let config = format!(
        "[[providers]]\nname = \"bench\"\nkind = \"openai\"\nbase_url = \"http://{upstream_at}/v1\"\n\
         models = [{{ id = \"bench\", input_cost = 0.1, output_cost = 0.3 }}]\n"
    );
    let hub = Server::hub(&options.binary, directory.path(), &config, &key)?;
    println!("machine: {}", machine());
    println!("hub idle: {:.1} MB resident", hub.resident_mb()?);

    let load = |address| Load {
        address,
        method: Method::POST,
        path: always("/v1/chat/completions"),
        headers: vec![
            ("authorization".to_owned(), format!("Bearer {key}")),
            ("content-type".to_owned(), "application/json".to_owned()),
        ],
        body: Bytes::from_static(QUESTION),
        in_flight: options.connections,
        expect: StatusCode::OK,
        per_second: None,
    };
    for server in [&proxy, &hub] {
        load(server.address).run(1.0).await?;
    }
    let (mut nginx_us, mut hub_us, mut ratios, mut rates) = (vec![], vec![], vec![], vec![]);
    for round in 1..=options.rounds {
        let (plain_us, plain_rate) = cpu_us_a_request(&proxy, &load(proxy.address), options.seconds).await?;
        let (ours_us, ours_rate) = cpu_us_a_request(&hub, &load(hub.address), options.seconds).await?;
        println!(
            "round {round}: nginx {plain_us:.1} us CPU a request ({plain_rate:.0}/s), hub {ours_us:.1} us ({ours_rate:.0}/s)"
        );
        nginx_us.push(plain_us);
        hub_us.push(ours_us);
        ratios.push(ours_us / plain_us);
        rates.push(ours_rate / plain_rate);
    }
    println!("nginx CPU a request  {:>8.1} us", median(&nginx_us));
    println!("hub CPU a request    {:>8.1} us", median(&hub_us));
    println!("hub / nginx CPU      {:>8.2}", median(&ratios));
    println!("hub / nginx rate     {:>8.2}", median(&rates));
    println!("hub under load: {:.1} MB resident", hub.resident_mb()?);
    Ok(())
}

async fn cpu_us_a_request(server: &Server, load: &Load, seconds: f64) -> anyhow::Result<(f64, f64)> {
    let before = server.cpu_seconds()?;
    let loaded = load.run(seconds).await?;
    let spent = server.cpu_seconds()? - before;
    Ok((spent * 1e6 / loaded.requests as f64, loaded.per_second()))
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn upstream_site(address: SocketAddr) -> String {
    format!(
        "server {{ listen {address}; keepalive_requests 1000000000;\n\
         location / {{ default_type application/json; return 200 '{ANSWER}'; }} }}"
    )
}

fn proxy_site(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "upstream up {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen {address}; keepalive_requests 1000000000;\n\
         location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
    )
}

/// nginx with one worker, no log, and `site` as its only site.
fn nginx(directory: &Path, name: &str, site: &str, address: SocketAddr) -> anyhow::Result<Server> {
    let home = directory.join(name);
    std::fs::create_dir_all(&home)?;
    let home = home.canonicalize()?;
    let config = home.join("nginx.conf");
    let at = home.display();
    std::fs::write(
        &config,
        format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {at}; proxy_temp_path {at}; fastcgi_temp_path {at};\n\
             uwsgi_temp_path {at}; scgi_temp_path {at};\n{site}\n}}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&config).stderr(Stdio::null());
    Server::other(command, address).context("nginx must be installed: apt-get install nginx-light")
}
