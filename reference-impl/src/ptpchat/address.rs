//! Addresses as CONNECT and ROUTING write them (section 2.1): whole, or one half of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// One end of a CONNECT: as much of an address as whoever wrote it knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `127.0.0.2:50001`
    Full(SocketAddrV4),
    /// `127.0.0.2`
    Ip(Ipv4Addr),
    /// `50001`
    Port(u16),
    /// The empty text, with which later revisions start.
    Unknown,
}

impl End {
    /// Reads either half or both.
    pub fn parse(text: &str) -> Option<End> {
        if text.is_empty() {
            return Some(End::Unknown);
        }
        if let Some(full) = parse_socket(text) {
            return Some(End::Full(full));
        }
        if let Ok(ip) = text.parse() {
            return Some(End::Ip(ip));
        }
        parse_port(text).map(End::Port)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Full(full) => full.fmt(f),
            End::Ip(ip) => ip.fmt(f),
            End::Port(port) => port.fmt(f),
            End::Unknown => Ok(()),
        }
    }
}

/// A dotted IPv4 address, a colon and a port.
pub(super) fn parse_socket(text: &str) -> Option<SocketAddrV4> {
    let (ip, port) = text.split_once(':')?;
    Some(SocketAddrV4::new(ip.parse().ok()?, parse_port(port)?))
}

/// A port in decimal, without sign and leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// The IPv4 address of a datagram's other end; the protocol knows no other.
pub(super) fn version_4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, address.port())),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let whole = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 50001);
        for (text, end) in [
            ("127.0.0.2:50001", Some(End::Full(whole))),
            ("127.0.0.2", Some(End::Ip(*whole.ip()))),
            ("50001", Some(End::Port(50001))),
            ("", Some(End::Unknown)),
            ("0", None),
            ("050001", None),
            ("+5", None),
            ("70000", None),
            ("127.0.0.2:", None),
            ("127.0.0.2:0", None),
            ("127.0.0.2:70000", None),
            ("127.0.0.2:50001 ", None),
            ("127.0.0", None),
            ("127.0.0.256", None),
            ("127.00.0.2", None),
            ("::1", None),
            ("[::1]:5", None),
            ("localhost:5", None),
            ("abc", None),
        ] {
            assert_eq!(End::parse(text), end, "{text:?}");
            if let Some(end) = end {
                assert_eq!(end.to_string(), text);
            }
        }
    }
}
