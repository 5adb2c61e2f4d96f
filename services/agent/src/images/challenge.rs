//! What a registry asks for when it says 401.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

use super::name::is_loopback;

/// What proves who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from this address.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of what is asked for; none: nothing that is known here.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE);
        let all: Vec<_> = values.iter().filter_map(|value| parse(value.to_str().ok()?)).collect();
        let bearer = all.iter().find(|challenge| **challenge != Self::Basic);
        bearer.or(all.first()).cloned()
    }
}

fn parse(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let parameters = parameters(rest);
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
        }
        _ => None,
    }
}

/// `key="value",key=value`
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches([',', ' ']).to_owned();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((key, value.trim().to_owned()));
        text = rest;
    }
    found
}

/// Where to ask for a token. A registry must not send us to this node's own services, nor to those of its cloud.
///
/// # Errors
/// Why the address is not used.
pub(super) fn token_address(
    (realm, service, scope): (&str, Option<&str>, &str),
    registry: &Uri,
) -> Result<Uri, &'static str> {
    let separator = if realm.contains('?') { '&' } else { '?' };
    let service = service.map(|service| format!("&service={}", encode(service))).unwrap_or_default();
    let address = format!("{realm}{separator}scope={}{service}", encode(scope));
    let address: Uri = address.parse().map_err(|_| "it is no address")?;
    let host = address.host().ok_or("it names no host")?;
    let secure = match address.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it is neither https nor http"),
    };
    if !secure && registry.scheme_str() == Some("https") {
        return Err("it is not encrypted, and the registry is");
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let link_local = match bare.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_link_local() || ip.is_unspecified(),
        Ok(IpAddr::V6(ip)) => ip.is_unicast_link_local() || ip.is_unspecified(),
        Err(_) => false,
    };
    let ours = registry.host().is_some_and(is_loopback);
    match link_local || is_loopback(host) && !ours {
        true => Err("it is this node's own, and the registry is not"),
        false => Ok(address),
    }
}

/// As a part of a query.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read() {
        let bearer = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let wanted = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(of(&["Basic realm=\"x\"", bearer]), Some(wanted));
        assert_eq!(of(&["basic"]), Some(Challenge::Basic));
        let bare = Challenge::Bearer { realm: "r".to_owned(), service: None, scope: None };
        assert_eq!(of(&["bearer realm=r , service="]), Some(bare));
        for nothing in [&[][..], &["Digest realm=\"x\""], &["Bearer service=\"x\""], &["Bearer realm=\""]] {
            assert_eq!(of(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn tokens_come_from_where_they_may() {
        let registry: Uri = "https://r.example/v2/".parse().unwrap();
        let address = |realm: &str| token_address((realm, Some("s p"), "repository:a/b:pull"), &registry);
        let wanted = "https://auth.example/t?scope=repository%3Aa%2Fb%3Apull&service=s%20p";
        assert_eq!(address("https://auth.example/t").unwrap(), wanted);
        assert!(address("https://auth.example/t?a=b").unwrap().to_string().contains("?a=b&scope="));
        for bad in [
            "http://auth.example/t",
            "https://127.0.0.1/t",
            "https://localhost:5051/t",
            "https://169.254.169.254/latest",
            "https://[::1]/t",
            "https://[fe80::1]/t",
            "https://[::ffff:169.254.169.254]/",
            "https://0.0.0.0/",
            "file:///etc/shadow",
            "/token",
            "",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let local: Uri = "http://127.0.0.1:5000/v2/".parse().unwrap();
        assert!(token_address(("http://127.0.0.1:5001/t", None, "s"), &local).is_ok());
    }
}
