//! What a task wants to be brought into its sandbox, and where it is to be had.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1::command_info;

use crate::beneath::relative;

/// One file to bring into a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchUri {
    pub value: String,
    /// May be executed, and is never unpacked.
    pub executable: bool,
    /// Unpacked when its name says that it is an archive.
    pub extract: bool,
    /// Kept for the next task that asks for it.
    pub cache: bool,
    /// Its name in the sandbox; absent: the last part of the URI.
    pub output_file: Option<String>,
}

impl From<&command_info::Uri> for FetchUri {
    fn from(uri: &command_info::Uri) -> Self {
        Self {
            value: uri.value.clone(),
            executable: uri.executable(),
            extract: uri.extract(),
            cache: uri.cache(),
            output_file: uri.output_file.clone(),
        }
    }
}

/// Where something is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Http(String),
    Local(PathBuf),
}

impl FetchUri {
    pub(super) fn source(&self, frameworks_home: Option<&Path>) -> Result<Source, String> {
        let value = self.value.trim();
        if value.is_empty() || value.contains(['\\', '\'', '\0']) {
            return Err("the URI is empty or has a character that no URI may have".to_owned());
        }
        let Some((scheme, rest)) = value.split_once("://") else { return local(value, frameworks_home) };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(Source::Http(value.to_owned())),
            "file" => local(rest.strip_prefix("localhost").unwrap_or(rest), None),
            scheme @ ("ftp" | "ftps") => {
                Err(format!("{scheme} is not supported: serve the file over http or https"))
            }
            scheme @ ("hdfs" | "hftp" | "s3" | "s3n" | "s3a" | "webhdfs") => Err(format!(
                "{scheme} is not supported: there is no Hadoop client here; serve the file over http or https"
            )),
            scheme => Err(format!("the scheme '{scheme}' is not known: use http, https or file")),
        }
    }

    /// The file's path in the sandbox.
    pub(super) fn path(&self) -> Result<PathBuf, String> {
        if let Some(output) = self.output_file.as_deref().filter(|output| !output.is_empty()) {
            let path = Path::new(output);
            if path.is_absolute() {
                return Err(format!("output_file '{output}' must be relative: it is made in the sandbox"));
            }
            let path = relative(path).map_err(|reason| format!("output_file '{output}': {reason}"))?;
            return match path.as_os_str().is_empty() {
                true => Err(format!("output_file '{output}' names no file")),
                false => Ok(path),
            };
        }
        let value = self.value.trim();
        let path = value.split_once("://").map_or(value, |(_, rest)| rest);
        let name = match (value.contains("://"), path.rsplit_once('/')) {
            (_, Some((_, name))) => name,
            (false, None) => path,
            (true, None) => "",
        };
        if name.is_empty() || name == "." || name == ".." {
            return Err("the URI ends without the name of a file".to_owned());
        }
        Ok(PathBuf::from(name))
    }

    /// The URI without what may be secret: user, password and query.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(&self.value)
    }
}

pub(super) fn shown(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

fn local(path: &str, frameworks_home: Option<&Path>) -> Result<Source, String> {
    let path = Path::new(path);
    match (path.is_absolute(), frameworks_home) {
        (true, _) => Ok(Source::Local(path.to_owned())),
        (false, Some(home)) => Ok(Source::Local(home.join(path))),
        (false, None) => Err("a relative path needs --frameworks_home on the agent".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str) -> FetchUri {
        FetchUri { value: value.to_owned(), ..FetchUri::default() }
    }

    #[test]
    fn sources() {
        let home = Some(Path::new("/home/frameworks"));
        let source = |value: &str| uri(value).source(home);
        assert_eq!(source("HTTP://h/x").unwrap(), Source::Http("HTTP://h/x".to_owned()));
        assert_eq!(source("file:///a/b").unwrap(), Source::Local("/a/b".into()));
        assert_eq!(source("file://localhost/a/b").unwrap(), Source::Local("/a/b".into()));
        assert_eq!(source("a/b").unwrap(), Source::Local("/home/frameworks/a/b".into()));
        for (value, reason) in
            [("ftp://h/x", "ftp is not"), ("hdfs://h/x", "Hadoop"), ("gopher://h/x", "'gopher'")]
        {
            assert!(source(value).unwrap_err().contains(reason), "{value}");
        }
        assert!(uri("a/b").source(None).unwrap_err().contains("--frameworks_home"));
        assert!(source("").is_err() && source("http://h/'x").is_err());
    }

    #[test]
    fn names() {
        let path = |value: &str| uri(value).path();
        assert_eq!(path("http://h/d/app.tar.gz").unwrap(), Path::new("app.tar.gz"));
        assert_eq!(path("/d/app").unwrap(), Path::new("app"));
        for bad in ["http://h", "http://h/", "http://h/d/..", "/"] {
            assert!(path(bad).is_err(), "{bad}");
        }
        let named = |name: &str| FetchUri { output_file: Some(name.to_owned()), ..uri("http://h/x") }.path();
        assert_eq!(named("d/./y").unwrap(), Path::new("d/y"));
        for bad in ["/etc/passwd", "../y", "d/../../y", "."] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("https://me:secret@h:1/d/x?token=y#z"), "https://h:1/d/x");
        assert_eq!(shown("/d/x"), "/d/x");
    }
}
