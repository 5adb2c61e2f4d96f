//! Who one is to a registry.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::containerizer::docker::auth;

/// A secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// `user:password`, as HTTP wants it.
    Basic(String),
    /// A token that a registry takes as it is.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

impl Credentials {
    /// The value of an Authorization header.
    pub(super) fn header(&self) -> String {
        match self {
            Self::Basic(encoded) => format!("Basic {encoded}"),
            Self::Token(token) => format!("Bearer {token}"),
        }
    }
}

/// What a `.docker/config.json`, or the older `.dockercfg`, has for a registry.
///
/// # Errors
/// It is neither. Not what stands in it: it is a secret.
pub(super) fn find(file: &[u8], authority: &str) -> Result<Option<Credentials>, String> {
    let own = auth::Credentials::parse(file)?.of(authority);
    Ok(own.and_then(|own| match (own.registrytoken, own.username) {
        (Some(token), _) if !token.is_empty() => Some(Credentials::Token(token)),
        (_, Some(user)) => {
            let password = own.password.unwrap_or_default();
            Some(Credentials::Basic(BASE64.encode(format!("{user}:{password}"))))
        }
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_and_tokens_are_found() {
        let auth = BASE64.encode("me:secret:x");
        let file =
            json!({"auths": {"https://r:5000/v1/": {"auth": auth}, "t": {"registrytoken": "t"}}}).to_string();
        let find = |authority: &str| super::find(file.as_bytes(), authority).unwrap();
        assert_eq!(find("r:5000"), Some(Credentials::Basic(auth)));
        assert_eq!((find("r"), find("other")), (None, None));
        assert!(super::find(b"not json", "r").is_err());
        assert_eq!(format!("{:?}", find("r:5000").unwrap()), "Credentials");
        let hub = json!({"auths": {"https://index.docker.io/v1/": {"username": "me", "password": "p"}}})
            .to_string();
        assert!(super::find(hub.as_bytes(), "registry-1.docker.io").unwrap().is_some());
    }
}
