use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nh_http::address::why_not_public;
use nh_http::{Guard, HttpError, HttpSettings, Limits, Outbound, SystemResolver};
use proptest::prelude::*;

use crate::server::{Answers, Server, allowing, following, get, guarded, ok, redirect};

const NOT_PUBLIC: &[(&str, &str)] = &[
    ("0.0.0.0", "the unspecified address"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "a private network"),
    ("10.255.255.255", "a private network"),
    ("100.64.0.1", "a carrier's shared network"),
    ("100.127.255.255", "a carrier's shared network"),
    ("100.100.100.200", "a cloud's metadata service"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "a cloud's metadata service"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "a cloud's metadata service"),
    ("169.254.170.2", "a cloud's metadata service"),
    ("172.16.0.1", "a private network"),
    ("172.31.255.255", "a private network"),
    ("192.0.0.8", "reserved for protocols"),
    ("192.0.0.192", "a cloud's metadata service"),
    ("192.0.2.1", "for documentation"),
    ("192.88.99.1", "a 6to4 relay"),
    ("192.168.1.1", "a private network"),
    ("198.18.0.1", "for benchmarks"),
    ("198.19.255.255", "for benchmarks"),
    ("198.51.100.7", "for documentation"),
    ("203.0.113.7", "for documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "the unspecified address"),
    ("::1", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:169.254.169.254", "a cloud's metadata service"),
    ("::ffff:0:10.0.0.1", "a private network"),
    ("::127.0.0.1", "loopback"),
    ("64:ff9b::7f00:1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "a cloud's metadata service"),
    ("64:ff9b:1::1", "a private network"),
    ("100::1", "discarded by routers"),
    ("2001::1", "reserved for protocols"),
    ("2001:db8::1", "for documentation"),
    ("2002:7f00:1::", "loopback"),
    ("2002:c0a8:101::1", "a private network"),
    ("3fff::1", "for documentation"),
    ("4000::1", "not global unicast"),
    ("5f00::1", "not global unicast"),
    ("fc00::1", "a private network"),
    ("fd00:ec2::254", "a cloud's metadata service"),
    ("fdff::1", "a private network"),
    ("fe80::1", "link-local"),
    ("fec0::1", "a private network"),
    ("ff02::1", "multicast"),
];

const PUBLIC: &[&str] = &[
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "3ffe::1",
];

#[test]
fn each_special_address_is_refused_with_its_reason() {
    for (address, reason) in NOT_PUBLIC {
        assert_eq!(why_not_public(address.parse().unwrap()), Some(*reason), "{address}");
    }
    for address in PUBLIC {
        assert_eq!(why_not_public(address.parse().unwrap()), None, "{address}");
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_is_judged_alike_in_every_disguise(bits: u32) {
        let plain = Ipv4Addr::from_bits(bits);
        let [high, low] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
        let verdict = why_not_public(IpAddr::V4(plain));
        for disguise in [
            plain.to_ipv6_mapped(),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ] {
            prop_assert_eq!(why_not_public(IpAddr::V6(disguise)), verdict, "{}", disguise);
        }
    }

    #[test]
    fn what_is_not_handed_out_is_not_public(bits: u128) {
        let address = Ipv6Addr::from_bits(bits);
        if address.segments()[0] & 0xe000 != 0x2000 && nh_http::address::embedded_v4(address).is_none() {
            prop_assert!(why_not_public(IpAddr::V6(address)).is_some());
        }
    }
}

fn check(guard: &Guard, target: &str) -> Result<(), HttpError> {
    guard.check("host", target.parse().unwrap())
}

#[test]
fn allowed_networks_are_exceptions_and_nothing_more() {
    let guard = Guard::new(&allowing(&["10.1.0.0/16", "fd12::/16"]), Vec::new());
    assert_eq!(check(&guard, "10.1.2.3:80"), Ok(()));
    assert_eq!(check(&guard, "[::ffff:10.1.2.3]:80"), Ok(()), "mapped is the same address");
    assert_eq!(check(&guard, "[fd12::1]:80"), Ok(()));
    assert!(check(&guard, "10.2.0.1:80").is_err());
    assert!(check(&guard, "[fd13::1]:80").is_err());
    let refused = check(&guard, "169.254.169.254:80").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`host` is at 169.254.169.254, which is a cloud's metadata service and not allowed here \
         (the operator can list networks in [http] allow_networks)"
    );
}

#[test]
fn the_hubs_own_listeners_are_never_reached() {
    let everything = allowing(&["0.0.0.0/0", "::/0"]);
    let own = |listener: &str| Guard::new(&everything, vec![listener.parse().unwrap()]);
    for (listener, targets) in [
        ("127.0.0.1:8080", &["127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", "0.0.0.0:8080", "[::]:8080"][..]),
        (
            "0.0.0.0:8080",
            &["127.0.0.1:8080", "127.0.0.2:8080", "[::1]:8080", "0.0.0.0:8080", "[64:ff9b::7f00:1]:8080"],
        ),
        ("[::]:8080", &["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"]),
        ("[::ffff:127.0.0.1]:8080", &["127.0.0.1:8080"]),
    ] {
        let guard = own(listener);
        for target in targets {
            let refused = check(&guard, target);
            assert!(matches!(refused, Err(HttpError::OwnListener { .. })), "{listener} {target} {refused:?}");
        }
        assert_eq!(check(&guard, "127.0.0.1:8081"), Ok(()), "another port is another service");
        assert_eq!(check(&guard, "8.8.8.8:8080"), Ok(()), "another machine");
    }
}

#[tokio::test]
async fn a_request_to_an_own_listener_is_refused_though_its_network_is_allowed() {
    let server = Server::fixed(ok("hub")).await;
    let settings = allowing(&["127.0.0.0/8"]);
    let client = Outbound::guarded(&settings, vec![server.address]).unwrap();
    let error = client.send(get(&server.url("/v1/keys")), Limits::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::OwnListener { .. }), "{error}");
    let stranger = Outbound::guarded(&settings, Vec::new()).unwrap();
    let answer = stranger.send(get(&server.url("/")), Limits::default()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hub");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn every_spelling_of_loopback_is_refused() {
    let server = Server::fixed(ok("secret")).await;
    let client = Outbound::guarded(&HttpSettings::default(), Vec::new()).unwrap();
    let port = server.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "LOCALHOST",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/");
            let error = client.send(get(&url), Limits::default()).await.unwrap_err();
            assert!(error.is_before_sending(), "{url}: {error}");
        }
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_stands_for_a_private_address_is_refused() {
    let server = Server::fixed(ok("secret")).await;
    for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"] {
        let resolver = Answers::new(&[&[address]]);
        let guard = Guard::new(&HttpSettings::default(), Vec::new());
        let client = Outbound::guarded_with(guard, resolver).unwrap();
        let url = format!("http://innocent.example:{}/", server.address.port());
        let error = client.send(get(&url), Limits::default()).await.unwrap_err();
        assert!(matches!(error, HttpError::Refused { .. }), "{address}: {error}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn of_a_mixed_answer_only_what_is_allowed_is_connected_to() {
    let server = Server::fixed(ok("allowed")).await;
    let url = format!("http://mixed.example:{}/", server.address.port());
    let client = guarded(Answers::new(&[&["127.0.0.2", "10.0.0.1", "127.0.0.1"]]));
    let answer = client.send(get(&url), Limits::default()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "allowed");
}

#[tokio::test]
async fn a_name_is_looked_up_once_so_it_cannot_change_its_mind() {
    let server = Server::fixed(ok("first")).await;
    let url = format!("http://rebinding.example:{}/", server.address.port());
    let resolver = Answers::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let client = guarded(Arc::clone(&resolver) as _);
    let answer = client.send(get(&url), Limits::default()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "first");
    assert_eq!(resolver.asked(), ["rebinding.example"]);
    let error = client.send(get(&url), Limits::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::Refused { .. }), "checked anew for each connection: {error}");
}

#[tokio::test]
async fn the_resolver_cannot_change_the_port() {
    struct OtherPort(SocketAddr);
    impl nh_http::Resolve for OtherPort {
        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> nh_http::Resolving<'a> {
            Box::pin(std::future::ready(Ok(vec![self.0])))
        }
    }
    let server = Server::fixed(ok("one")).await;
    let elsewhere = SocketAddr::new(server.address.ip(), 1);
    let url = format!("http://name.example:{}/", server.address.port());
    let answer = guarded(Arc::new(OtherPort(elsewhere))).send(get(&url), Limits::default()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "one");
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused() {
    let victim = Server::fixed(ok("secret")).await;
    let port = victim.address.port();
    for target in [
        format!("http://127.0.0.2:{port}/"),
        format!("//127.0.0.2:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://127.2:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://10.0.0.1/".to_owned(),
    ] {
        let server = Server::fixed(redirect(302, &target)).await;
        let client = guarded(Arc::new(SystemResolver));
        let error = client.send(get(&server.url("/")), following(3)).await.unwrap_err();
        assert!(matches!(error, HttpError::Refused { .. }), "{target}: {error}");
    }
    assert_eq!(victim.accepted(), 0);
}

#[tokio::test]
async fn a_redirect_to_an_own_listener_is_refused() {
    let hub = Server::fixed(ok("secret")).await;
    let server = Server::fixed(redirect(307, &hub.url("/v1/keys"))).await;
    let client = Outbound::guarded(&allowing(&["0.0.0.0/0"]), vec![hub.address]).unwrap();
    let error = client.send(get(&server.url("/")), following(3)).await.unwrap_err();
    assert!(matches!(error, HttpError::OwnListener { .. }), "{error}");
    assert_eq!(hub.accepted(), 0);
}

#[tokio::test]
async fn only_http_urls_without_credentials_are_asked() {
    let client = Outbound::guarded(&HttpSettings::default(), Vec::new()).unwrap();
    for url in ["ftp://example.com/", "/etc/passwd", "http://user:pass@example.com/"] {
        let error = client.send(get(url), Limits::default()).await.unwrap_err();
        assert!(matches!(error, HttpError::InvalidUrl(_)), "{url}: {error}");
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
    let server = Server::fixed(redirect(302, "file:///etc/passwd")).await;
    let error =
        guarded(Arc::new(SystemResolver)).send(get(&server.url("/")), following(1)).await.unwrap_err();
    assert!(!matches!(error, HttpError::Broken { .. }), "{error}");
}
