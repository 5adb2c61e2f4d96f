//! Images in a directory of archives, as `docker save` writes them: in Docker's form or as an OCI layout.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Take},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    ErrorKind,
    digest::{Digest, short},
    failure::Failure,
    manifest::{self, Descriptor, Document, Platform},
    name::Name,
};
use crate::tarball::{EntryType, Tarball};

/// Entries of an archive.
const MOST_ENTRIES: usize = 10_000;
/// Links or lists that lead to each other.
const DEPTH: usize = 4;

/// An archive, and where in it what lies.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    pub(super) path: PathBuf,
    files: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

/// An image in an archive.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) config: Vec<u8>,
    /// Of the manifest; of the configuration where there is no manifest.
    pub(super) digest: Digest,
    /// Names of the layers' archives in the archive, the lowest first.
    pub(super) layers: Vec<String>,
}

/// An entry of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Opens the archive that an image's name leads to (upstream: `<name>.tar` below the directory).
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn find(directory: &Path, name: &Name) -> Result<Self, Failure> {
        let prefix = name.registry.as_ref().map(|registry| format!("{registry}/")).unwrap_or_default();
        let repository = format!("{prefix}{}", name.repository);
        let exact = match &name.digest {
            Some(digest) => format!("{repository}@{digest}.tar"),
            None => format!("{repository}:{}.tar", name.tag()),
        };
        for file in [exact, format!("{repository}.tar")] {
            let path = directory.join(&file);
            match File::open(&path) {
                Ok(file) => return Self::index(path, file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::store(&path, &error)),
            }
        }
        let reason =
            format!("there is no {repository}.tar, with the tag or without it, in {}", directory.display());
        Err(Failure::new(ErrorKind::NotFound, reason))
    }

    fn index(path: PathBuf, file: File) -> Result<Self, Failure> {
        let failed = |error: io::Error| refused(&path, &error.to_string());
        let mut tarball = Tarball::new(BufReader::new(file));
        let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
        while let Some(entry) = tarball.seek_next().map_err(failed)? {
            let name = String::from_utf8_lossy(&entry.name);
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            match (entry.kind, entry.link) {
                (EntryType::Symlink | EntryType::Link, Some(to)) => {
                    let to = String::from_utf8_lossy(&to).into_owned();
                    // A symbolic link begins where it lies.
                    let beside = name.rsplit_once('/').filter(|_| entry.kind == EntryType::Symlink);
                    let to = beside.map(|(directory, _)| format!("{directory}/{to}")).unwrap_or(to);
                    links.insert(name, inside(&to));
                }
                (kind, _) if kind.is_file() => {
                    files.insert(name, (tarball.position().map_err(failed)?, entry.size));
                }
                _ => {}
            }
            if files.len() + links.len() > MOST_ENTRIES {
                return Err(refused(&path, "it has too many entries"));
            }
        }
        Ok(Self { path, files, links })
    }

    /// One file in it, and its size.
    pub(super) fn open(&self, name: &str) -> Result<(Take<File>, u64), Failure> {
        let mut name = name.to_owned();
        for _ in 0..DEPTH {
            if let Some((offset, size)) = self.files.get(&name) {
                let mut file = File::open(&self.path).map_err(|error| Failure::store(&self.path, &error))?;
                file.seek(SeekFrom::Start(*offset)).map_err(|error| Failure::store(&self.path, &error))?;
                return Ok((file.take(*size), *size));
            }
            match self.links.get(&name) {
                Some(to) => name.clone_from(to),
                None => break,
            }
        }
        Err(refused(&self.path, &format!("it has no '{}'", short(&name))))
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let (mut file, size) = self.open(name)?;
        if size > manifest::LONGEST {
            return Err(refused(&self.path, &format!("its '{}' has {size} bytes", short(name))));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| Failure::store(&self.path, &error))?;
        Ok(bytes)
    }

    /// The image of that name in it.
    pub(super) fn image(&self, name: &Name) -> Result<Found, Failure> {
        match self.files.contains_key("manifest.json") {
            true => self.saved(name),
            false => self.layout(name),
        }
    }

    /// As Docker saves it.
    fn saved(&self, name: &Name) -> Result<Found, Failure> {
        let images: Vec<Saved> = serde_json::from_slice(&self.small("manifest.json")?)
            .map_err(|error| refused(&self.path, &format!("its manifest.json: {error}")))?;
        let tags = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
        let named = images.iter().find(|image| tags(image).iter().any(|tag| is_named(tag, name)));
        let image = match (named, images.as_slice()) {
            (Some(image), _) => image,
            (None, [only])
                if name.digest.is_some() || tags(only).is_empty() || self.is_named_by_file(name) =>
            {
                only
            }
            _ => return Err(self.no_such(name, images.iter().flat_map(tags).collect())),
        };
        let config = self.small(&image.config)?;
        let digest = Digest::of(&config);
        let hex = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        if Digest::parse(&format!("sha256:{hex}")).is_ok_and(|promised| promised != digest) {
            return Err(refused(
                &self.path,
                &format!("its configuration has the digest {digest}, not {hex}"),
            ));
        }
        match &name.digest {
            Some(wanted) if *wanted != digest => Err(self.no_such(name, vec![digest.to_string()])),
            _ => Ok(Found { config, digest, layers: image.layers.clone() }),
        }
    }

    /// As an OCI layout.
    fn layout(&self, name: &Name) -> Result<Found, Failure> {
        let document = |bytes: &[u8]| Document::parse(bytes).map_err(|reason| refused(&self.path, &reason));
        let Document::Index(images) = document(&self.small("index.json")?)? else {
            return Err(refused(&self.path, "its index.json is no list of images"));
        };
        let named = |image: &&Descriptor| match &name.digest {
            Some(digest) => image.digest == *digest,
            None => names(image).any(|own| is_named(own, name) || own == name.tag()),
        };
        let mut image = match (images.iter().find(named), images.as_slice()) {
            (Some(image), _) => image.clone(),
            (None, [only])
                if name.digest.is_none() && (names(only).next().is_none() || self.is_named_by_file(name)) =>
            {
                only.clone()
            }
            _ => {
                let known = images.iter().flat_map(|image| names(image).map(str::to_owned)).collect();
                return Err(self.no_such(name, known));
            }
        };
        for _ in 0..DEPTH {
            match document(&self.blob(&image.digest)?)? {
                Document::Index(images) => {
                    let picked =
                        Platform::here().pick(&images).map_err(|reason| refused(&self.path, &reason))?;
                    image = picked.clone();
                }
                Document::Manifest(manifest) => {
                    let config = self.blob(&manifest.config.digest)?;
                    let layers = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
                    return Ok(Found { config, digest: image.digest, layers });
                }
            }
        }
        Err(refused(&self.path, "it has lists of lists of images without end"))
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = self.small(&blob_path(digest))?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(refused(&self.path, &format!("its {digest} has the digest {found}"))),
        }
    }

    /// Whether the file bears the tag.
    fn is_named_by_file(&self, name: &Name) -> bool {
        let file = self.path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        file.ends_with(&format!(":{}.tar", name.tag()))
    }

    fn no_such(&self, name: &Name, mut known: Vec<String>) -> Failure {
        known.truncate(20);
        let known = short(&known.join(", "));
        let reason = format!("{} has no image '{name}', only: {known}", self.path.display());
        Failure::new(ErrorKind::NotFound, reason)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn names(image: &Descriptor) -> impl Iterator<Item = &str> {
    let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    keys.into_iter().filter_map(|key| image.annotations.get(key).map(String::as_str))
}

/// Whether a name in an archive is the one that is looked for, whatever of it is only implied.
fn is_named(own: &str, wanted: &Name) -> bool {
    let bare = |name: &Name| name.repository.strip_prefix("library/").unwrap_or(&name.repository).to_owned();
    Name::parse(own).is_ok_and(|own| {
        let registries = [&own.registry, &wanted.registry];
        let same = own.registry == wanted.registry
            || registries.into_iter().flatten().all(|registry| registry == "docker.io");
        same && (bare(&own), own.tag()) == (bare(wanted), wanted.tag())
    })
}

/// A path in an archive without what goes up.
fn inside(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn refused(path: &Path, reason: &str) -> Failure {
    Failure::new(ErrorKind::Refused, format!("{}: {reason}", path.display()))
}
