//! What the flags say about executors.

use std::{collections::BTreeMap, fs};

use crate::{Config, Error, token::Secret};

/// The key that executors' tokens are signed with; none when executors need not prove who they are.
pub(crate) fn secret(config: &Config) -> Result<Option<Secret>, Error> {
    if !config.authenticate_http_executors {
        return Ok(None);
    }
    let failed = |reason| Error::Flag { flag: "jwt_secret_key", reason };
    let file = config.jwt_secret_key.as_ref();
    let file =
        file.ok_or_else(|| failed("--authenticate_http_executors needs a file with a key".to_owned()))?;
    let path = file.to_string_lossy();
    let path = path.strip_prefix("file://").unwrap_or(&path);
    let key = fs::read(path).map_err(|error| failed(format!("cannot read {path}: {error}")))?;
    match key.is_empty() {
        true => Err(failed(format!("{path} is empty; put a long random text there"))),
        false => Ok(Some(Secret::new(key))),
    }
}

/// The operator's variables for executors.
pub(crate) fn environment(config: &Config) -> Result<BTreeMap<String, String>, Error> {
    let failed = |reason| Error::Flag { flag: "executor_environment_variables", reason };
    let Some(text) = &config.executor_environment_variables else { return Ok(BTreeMap::new()) };
    let read =
        |path| fs::read_to_string(path).map_err(|error| failed(format!("cannot read {path}: {error}")));
    let text = text.strip_prefix("file://").map_or_else(|| Ok(text.clone()), read)?;
    serde_json::from_str(&text)
        .map_err(|error| failed(format!("not a JSON object of texts: {error}; write {{\"NAME\":\"value\"}}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_cannot_be_met_stop_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(vec![], dir.path());
        assert!(secret(&config).unwrap().is_none() && environment(&config).unwrap().is_empty());
        let on = Config { authenticate_http_executors: true, ..config };
        assert!(secret(&on).unwrap_err().to_string().contains("--jwt_secret_key"));
        let file = dir.path().join("key");
        for (content, good) in [("", false), ("k", true)] {
            fs::write(&file, content).unwrap();
            let config = Config { jwt_secret_key: Some(file.clone()), ..on.clone() };
            assert_eq!(secret(&config).is_ok(), good);
        }
        let text = |text: &str| {
            environment(&Config { executor_environment_variables: Some(text.to_owned()), ..on.clone() })
        };
        assert_eq!(text(r#"{"A":"b"}"#).unwrap()["A"], "b");
        assert!(text(r#"{"A":1}"#).is_err() && text("file:///no/such").is_err());
    }
}
