//! Whether an address is free. HAProxy binds with SO_REUSEPORT: it would share a port with another HAProxy without
//! a word, and a bind that fails stops all its listeners for seconds. So new addresses are tried before.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

/// Whether nobody listens at that address (`*`, an address, or one in brackets) and port.
#[must_use]
pub fn is_free(address: &str, port: u16) -> bool {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let ip = if bare == "*" { Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) } else { bare.parse().ok() };
    // A name is HAProxy's to judge. Old connections do not hold a port here, listeners do.
    ip.is_none_or(|ip: IpAddr| TcpListener::bind((ip, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_until_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free("127.0.0.1", port));
        assert!(!is_free("*", port));
        drop(listener);
        assert!(is_free("*", port));
    }
}
