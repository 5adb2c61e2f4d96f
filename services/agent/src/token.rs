//! What an executor proves its identity with: a JSON Web Token, signed with the agent's secret (HS256). It says which
//! executor of which framework in which container it was given to.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::core::ExecutorKey;

/// The key that tokens are signed with.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Any bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Whom a token was given to; the names are those of Mesos.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Container.
    pub cid: String,
    /// Executor.
    pub eid: String,
    /// Framework.
    pub fid: String,
}

impl Claims {
    /// Those of an executor's run.
    #[must_use]
    pub fn new(key: &ExecutorKey, container_id: &str) -> Self {
        Self {
            cid: container_id.to_owned(),
            eid: key.executor_id.to_string(),
            fid: key.framework_id.to_string(),
        }
    }
}

/// A token for these claims; it does not expire, for executors run for as long as they like.
pub(crate) fn issue(secret: &Secret, claims: &Claims) -> Result<String, String> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(&secret.0))
        .map_err(|error| format!("no token can be made for the executor: {error}"))
}

/// The claims of a token that this agent issued.
pub(crate) fn check(secret: &Secret, token: &str) -> Result<Claims, String> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    jsonwebtoken::decode(token, &DecodingKey::from_secret(&secret.0), &validation)
        .map(|token| token.claims)
        .map_err(|error| format!("Invalid JWT: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_secret_and_no_other() {
        let claims = Claims { cid: "c".to_owned(), eid: "e".to_owned(), fid: "f".to_owned() };
        let secret = Secret::new("secret");
        let token = issue(&secret, &claims).unwrap();
        assert_eq!(check(&secret, &token), Ok(claims));
        assert!(check(&Secret::new("other"), &token).unwrap_err().starts_with("Invalid JWT: "));
        assert!(check(&secret, "no token").is_err());
        // Unsigned: {"alg":"none"}.
        assert!(check(&secret, "eyJhbGciOiJub25lIn0.eyJjaWQiOiJjIiwiZWlkIjoiZSIsImZpZCI6ImYifQ.").is_err());
    }
}
