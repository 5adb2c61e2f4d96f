//! Names of images, as Docker reads them, and where they are to be had.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::digest::Digest;

/// The registry behind `docker.io`.
const HUB: &str = "registry-1.docker.io";
const LONGEST: usize = 255;
const LONGEST_TAG: usize = 128;

/// A name taken apart and checked: each of its parts may be part of a path or of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `host`, `host:port`; absent: the agent's default.
    pub(super) registry: Option<String>,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    /// Decides where both are given.
    pub(super) digest: Option<Digest>,
}

impl Name {
    /// `[host[:port]/]repository[:tag][@digest]`
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST + LONGEST_TAG + 80 {
            return Err("a name has 1 to 255 characters".to_owned());
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            // Otherwise it is a port.
            Some((before, tag)) if !tag.contains('/') => (before, Some(checked_tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, repository) = match rest.split_once('/') {
            Some((host, rest)) if is_host(host) => (Some(checked_host(host)?), rest),
            _ => (None, rest),
        };
        check_repository(repository)?;
        Ok(Self { registry, repository: repository.to_owned(), tag, digest })
    }

    /// The tag, where no digest decides.
    pub(super) fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// What a registry is asked for.
    pub(super) fn manifest(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tag().to_owned(), Digest::to_string)
    }
}

impl fmt::Display for Name {
    /// The same image has the same text, whether its tag is given or implied.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(formatter, "{registry}/")?;
        }
        match &self.digest {
            Some(digest) => write!(formatter, "{}@{digest}", self.repository),
            None => write!(formatter, "{}:{}", self.repository, self.tag()),
        }
    }
}

/// Where images are had that name no registry (`--docker_registry`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Registry {
    Server {
        scheme: Option<Scheme>,
        authority: String,
    },
    /// Of archives.
    Directory(PathBuf),
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    /// A registry of this machine: encrypted if it can, as Docker has it.
    Either,
}

/// Where an image is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Server { scheme: Scheme, authority: String, name: Name },
    Directory { path: PathBuf, name: Name },
}

impl Registry {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bad = |reason: &str| format!("--docker_registry={}: {reason}", super::digest::short(text));
        let path = text.strip_prefix("file://").unwrap_or(text);
        if Path::new(path).is_absolute() {
            return Ok(Self::Directory(path.into()));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(_) => return Err(bad("use https, http or the absolute path of a directory")),
            None => (None, text),
        };
        let host = rest.trim_end_matches('/');
        let authority = checked_host(host).map_err(|reason| bad(&reason))?;
        Ok(Self::Server { scheme, authority: hub(authority) })
    }

    /// Where an image is to be had, and the name by which it is kept.
    pub(super) fn find(&self, name: Name) -> Source {
        match self {
            Self::Directory(path) => Source::Directory { path: path.clone(), name },
            Self::Server { scheme, authority } => at_server((*scheme, authority), name),
        }
    }
}

fn at_server((scheme, authority): (Option<Scheme>, &String), name: Name) -> Source {
    let own = name.registry.clone().map(hub);
    let is_default = own.as_ref().is_none_or(|own| own == authority);
    let authority = own.unwrap_or_else(|| authority.clone());
    let scheme = match scheme {
        Some(scheme) if is_default => scheme,
        _ if is_loopback(&authority) => Scheme::Either,
        _ => Scheme::Https,
    };
    let mut name = Name { registry: Some(authority.clone()), ..name };
    if authority == HUB && !name.repository.contains('/') {
        name.repository.insert_str(0, "library/");
    }
    Source::Server { scheme, authority, name }
}

impl Source {
    pub(super) fn name(&self) -> &Name {
        match self {
            Self::Server { name, .. } | Self::Directory { name, .. } => name,
        }
    }
}

/// The server behind Docker's own names for it.
fn hub(authority: String) -> String {
    match authority.as_str() {
        "docker.io" | "index.docker.io" => HUB.to_owned(),
        _ => authority,
    }
}

/// The first part of a name is a host when it looks like one.
fn is_host(part: &str) -> bool {
    part == "localhost"
        || part.contains(['.', ':', '['])
        || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn checked_host(text: &str) -> Result<String, String> {
    let bad = || format!("'{}' is no host[:port]", super::digest::short(text));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Err(bad());
    }
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let label = |label: &str| {
                let ends = [label.bytes().next(), label.bytes().last()];
                ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            text.len() <= LONGEST && host.split('.').all(label)
        }
    };
    if good { Ok(text.to_owned()) } else { Err(bad()) }
}

/// Whether it is this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| match port.ends_with(']') {
        true => authority,
        false => host,
    });
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn checked_tag(tag: &str) -> Result<String, String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = tag.len() <= LONGEST_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    match good {
        true => Ok(tag.to_owned()),
        false => Err(format!(
            "the tag '{}' has characters other than letters, digits, '_', '.' and '-'",
            super::digest::short(tag)
        )),
    }
}

fn check_repository(repository: &str) -> Result<(), String> {
    let shown = super::digest::short(repository);
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("the repository '{shown}' must be in lower case"));
    }
    let part = |part: &str| {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut separators = part.split(|c: char| is_word(u8::try_from(c).unwrap_or_default()));
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.iter().all(|end| end.is_some_and(is_word))
            && separators.all(|between| {
                matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
            })
    };
    match repository.len() <= LONGEST && repository.split('/').all(part) {
        true => Ok(()),
        false => Err(format!(
            "the repository '{shown}' is not words of a-z and 0-9 with '.', '_', '__' or '-' between them"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn found(registry: &str, name: &str) -> (Scheme, String) {
        match Registry::parse(registry).unwrap().find(Name::parse(name).unwrap()) {
            Source::Server { scheme, name, .. } => (scheme, name.to_string()),
            Source::Directory { .. } => panic!("a directory"),
        }
    }

    #[test]
    fn names_are_read_as_docker_does() {
        let hub = "https://registry-1.docker.io";
        for (name, wanted) in [
            ("nginx", "registry-1.docker.io/library/nginx:latest"),
            ("nginx:1.2", "registry-1.docker.io/library/nginx:1.2"),
            ("docker.io/nginx", "registry-1.docker.io/library/nginx:latest"),
            ("index.docker.io/a/b", "registry-1.docker.io/a/b:latest"),
            ("a/b__c/d-e.f:T_1", "registry-1.docker.io/a/b__c/d-e.f:T_1"),
            ("host.example/x", "host.example/x:latest"),
            ("host:5000/x:y", "host:5000/x:y"),
        ] {
            assert_eq!(found(hub, name), (Scheme::Https, wanted.to_owned()), "{name}");
        }
        let (_, pinned) = found(hub, &format!("host:5/x:y@{DIGEST}"));
        assert_eq!(pinned, format!("host:5/x@{DIGEST}"), "the digest decides");
    }

    #[test]
    fn the_default_registry_and_this_machines() {
        assert_eq!(
            found("https://r:5000/", "nginx"),
            (Scheme::Https, "r:5000/nginx:latest".to_owned()),
            "no library/ elsewhere"
        );
        assert_eq!(found("http://r:5000", "r:5000/x").0, Scheme::Http);
        assert_eq!(found("http://r:5000", "other:5000/x").0, Scheme::Https);
        for loopback in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9:1", "[::1]:5000"] {
            assert_eq!(found("https://r", &format!("{loopback}/x")).0, Scheme::Either, "{loopback}");
        }
        assert_eq!(found("https://127.0.0.1:5000", "x").0, Scheme::Https, "as it is said");
        assert_eq!(found("127.0.0.1:5000", "x").0, Scheme::Either);
        for directory in ["/images", "file:///images"] {
            let source = Registry::parse(directory).unwrap().find(Name::parse("h:1/x").unwrap());
            assert!(matches!(&source, Source::Directory { path, .. } if path == Path::new("/images")));
            assert_eq!(source.name().to_string(), "h:1/x:latest");
        }
        for bad in ["ftp://x", "images", "https://", "https://u:p@h", "https://h/path"] {
            let parsed = Registry::parse(bad);
            assert!(parsed.is_err() || bad == "images", "{bad}: {parsed:?}");
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for bad in [
            "",
            "Nginx",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/../b",
            "a:b:c",
            "a b",
            "a:",
            "a@sha256:1",
            "a..b",
            "a___b",
            "-a",
            "h:99999/a",
            "h:+1/a",
            "u@h/a",
            "x\n/y",
            "a%2e/b",
            "a?b",
            "a#b",
            "[::1/a",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
        assert!(Name::parse(&"a".repeat(256)).is_err());
    }
}
