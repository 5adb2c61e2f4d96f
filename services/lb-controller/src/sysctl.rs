//! `HAPROXY_SYSCTL_PARAMS`: settings of the kernel that marathon-lb's image made at its start.

use std::{collections::BTreeMap, fs, path::Path};

use tracing::warn;

use crate::error::Error;

/// Makes the settings that the variables ask for, e.g. `net.core.somaxconn=10000`, with blanks between them.
///
/// # Errors
/// What cannot be set, unless `HAPROXY_SYSCTL_NONSTRICT` is there.
pub(crate) fn apply(variables: &BTreeMap<String, String>, root: &Path) -> Result<(), Error> {
    let wanted = variables.get("HAPROXY_SYSCTL_PARAMS").map(String::as_str).unwrap_or_default();
    let strict = !variables.contains_key("HAPROXY_SYSCTL_NONSTRICT");
    for word in wanted.split_whitespace() {
        match set(word, root) {
            Err(message) if strict => return Err(Error::Sysctl { setting: word.to_owned(), message }),
            Err(message) => warn!(setting = word, message, "kernel setting cannot be made"),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn set(word: &str, root: &Path) -> Result<(), String> {
    let (name, value) = word.split_once('=').ok_or_else(|| "not of the form name=value".to_owned())?;
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if !name.split(['.', '/']).all(good) {
        return Err("no name of a setting".to_owned());
    }
    let file = root.join(name.replace('.', "/"));
    // A file that is not there is not to be made.
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_made_and_what_is_no_setting_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("net/core")).unwrap();
        let file = dir.path().join("net/core/somaxconn");
        fs::write(&file, "").unwrap();
        let with = |text: &str, more: &[&str]| {
            let mut variables = BTreeMap::from([("HAPROXY_SYSCTL_PARAMS".to_owned(), text.to_owned())]);
            variables.extend(more.iter().map(|name| ((*name).to_owned(), "1".to_owned())));
            apply(&variables, dir.path()).map_err(|error| error.to_string())
        };
        assert_eq!(with("net.core.somaxconn=10000", &[]), Ok(()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "10000");
        for bad in ["net.core.nothing=1", "net.core..=1", "../../etc/passwd=1", "somaxconn"] {
            assert!(with(bad, &[]).unwrap_err().contains(bad), "{bad}");
            assert_eq!(with(bad, &["HAPROXY_SYSCTL_NONSTRICT"]), Ok(()), "{bad}");
        }
        assert_eq!(apply(&BTreeMap::new(), dir.path()).map_err(|error| error.to_string()), Ok(()));
    }
}
