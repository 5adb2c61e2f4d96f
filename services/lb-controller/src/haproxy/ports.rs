//! Whether an address is free. HAProxy binds with SO_REUSEPORT: it would share a port with another HAProxy without
//! a word, and a bind that fails stops all its listeners for seconds. So new addresses are tried before.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, TcpListener},
};

/// Whether nobody listens at that address (`*`, an address, or one in brackets) and port.
#[must_use]
pub fn is_free(address: &str, port: u16) -> bool {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let ip = if bare == "*" { Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) } else { bare.parse().ok() };
    // A name is HAProxy's to judge. Old connections do not hold a port here, listeners do.
    ip.is_none_or(|ip: IpAddr| TcpListener::bind((ip, port)).is_ok())
}

/// Addresses and ports that a text binds.
pub fn binds(text: &str) -> impl Iterator<Item = (&str, u16)> {
    let binds = text.lines().filter_map(|line| line.trim_start().strip_prefix("bind "));
    binds.filter_map(|rest| {
        let (address, port) = rest.split_whitespace().next()?.rsplit_once(':')?;
        Some((address, port.parse().ok()?))
    })
}

/// Ports that texts bind.
pub fn of_texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> BTreeSet<u16> {
    texts.into_iter().flat_map(|text| binds(text)).map(|(_, port)| port).collect()
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

    #[test]
    fn what_a_text_binds_is_found() {
        let text = "frontend a\n  bind *:80\nfrontend b\n  bind [::1]:443 ssl crt /x:1\n  bind /run/x.sock\n";
        assert_eq!(binds(text).collect::<Vec<_>>(), [("*", 80), ("[::1]", 443)]);
        assert_eq!(of_texts([&text.to_owned(), &"  bind 10.0.0.1:80\n".to_owned()]), [80, 443].into());
    }
}
