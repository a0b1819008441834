//! Which addresses are public. The source of the table is IANA's registries
//! of special-purpose addresses (RFC 6890 and what updated it).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address, prefix length, what it is.
type Range<A> = (A, u8, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(first: u16, second: u16, third: u16) -> Ipv6Addr {
    Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)
}

/// The first that matches gives the reason.
const SPECIAL_V4: &[Range<Ipv4Addr>] = &[
    (v4(169, 254, 169, 254), 32, "a cloud's metadata service"),
    (v4(169, 254, 170, 2), 32, "a cloud's metadata service"),
    (v4(168, 63, 129, 16), 32, "a cloud's metadata service"),
    (v4(100, 100, 100, 200), 32, "a cloud's metadata service"),
    (v4(192, 0, 0, 192), 32, "a cloud's metadata service"),
    (v4(0, 0, 0, 0), 32, "the unspecified address"),
    (v4(0, 0, 0, 0), 8, "this network"),
    (v4(10, 0, 0, 0), 8, "a private network"),
    (v4(100, 64, 0, 0), 10, "a carrier's shared network"),
    (v4(127, 0, 0, 0), 8, "loopback"),
    (v4(169, 254, 0, 0), 16, "link-local"),
    (v4(172, 16, 0, 0), 12, "a private network"),
    (v4(192, 0, 0, 0), 24, "reserved for protocols"),
    (v4(192, 0, 2, 0), 24, "for documentation"),
    (v4(192, 88, 99, 0), 24, "a 6to4 relay"),
    (v4(192, 168, 0, 0), 16, "a private network"),
    (v4(198, 18, 0, 0), 15, "for benchmarks"),
    (v4(198, 51, 100, 0), 24, "for documentation"),
    (v4(203, 0, 113, 0), 24, "for documentation"),
    (v4(224, 0, 0, 0), 4, "multicast"),
    (v4(255, 255, 255, 255), 32, "broadcast"),
    (v4(240, 0, 0, 0), 4, "reserved"),
];

const SPECIAL_V6: &[Range<Ipv6Addr>] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "the unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128, "a cloud's metadata service"),
    (v6(0xfc00, 0, 0), 7, "a private network"),
    (v6(0xfe80, 0, 0), 10, "link-local"),
    (v6(0xfec0, 0, 0), 10, "a private network"),
    (v6(0xff00, 0, 0), 8, "multicast"),
    (v6(0x64, 0xff9b, 1), 48, "a private network"),
    (v6(0x100, 0, 0), 64, "discarded by routers"),
    (v6(0x2001, 0xdb8, 0), 32, "for documentation"),
    (v6(0x3fff, 0, 0), 20, "for documentation"),
    (v6(0x2001, 0, 0), 23, "reserved for protocols"),
];

/// Only this part of IPv6 is handed out as global unicast.
const GLOBAL_V6: Range<Ipv6Addr> = (v6(0x2000, 0, 0), 3, "");

/// Where an IPv4 address hides inside an IPv6 one: prefix, its length, and
/// the bit at which the IPv4 address ends, counted from the right.
const EMBEDDED_V4: &[(Ipv6Addr, u8, u32)] = &[
    (Ipv6Addr::UNSPECIFIED, 96, 0), // compatible (RFC 4291, 2.5.5.1)
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 0), // mapped (RFC 4291, 2.5.5.2)
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, 0), // translated (RFC 2765)
    (v6(0x64, 0xff9b, 0), 96, 0),   // NAT64 (RFC 6052)
    (v6(0x2002, 0, 0), 16, 80),     // 6to4 (RFC 3056)
];

/// Why `address` is not public, or None when it is.
pub fn why_not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => why_not_public_v4(address),
        IpAddr::V6(address) => why_not_public_v6(address),
    }
}

fn why_not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |(start, length, _): &&Range<Ipv4Addr>| {
        same_prefix(u128::from(start.to_bits()) << 96, u128::from(address.to_bits()) << 96, *length)
    };
    SPECIAL_V4.iter().find(within).map(|range| range.2)
}

fn why_not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let within =
        |(start, length, _): &&Range<Ipv6Addr>| same_prefix(start.to_bits(), address.to_bits(), *length);
    if let Some(range) = SPECIAL_V6.iter().find(within) {
        return Some(range.2);
    }
    if let Some(inner) = embedded_v4(address) {
        return why_not_public_v4(inner);
    }
    if within(&&GLOBAL_V6) { None } else { Some("not global unicast") }
}

/// The IPv4 address that packets to `address` end up at, if there is one.
pub fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    EMBEDDED_V4.iter().find(|(prefix, length, _)| same_prefix(prefix.to_bits(), bits, *length)).map(
        |(_, _, shift)| {
            #[allow(clippy::cast_possible_truncation)] // the low 32 bits are what is wanted
            Ipv4Addr::from_bits((bits >> shift) as u32)
        },
    )
}

fn same_prefix(one: u128, other: u128, length: u8) -> bool {
    // `length` is 1 to 128 in the tables above.
    (one ^ other) >> (128 - u32::from(length)) == 0
}
