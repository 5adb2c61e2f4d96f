//! Images: whether one is here, and how it comes.

use std::{path::Path, time::Duration};

use bollard::{models::CreateImageInfo, query_parameters::CreateImageOptions};
use futures::StreamExt;
use tokio::time::timeout;
use tracing::info;

use super::{
    auth::Credentials,
    engine::{Engine, EngineError},
};
use crate::containerizer::{container::ImageSetup, lines::TOLD};

/// For the engine to say whether it has an image.
const LOOK: Duration = Duration::from_secs(30);
/// A pull that tells nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(300);

/// A name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub(super) registry: &'a str,
    /// As the engine takes it, without tag and digest.
    pub(super) repository: &'a str,
    /// A tag or a digest.
    pub(super) tag: &'a str,
}

impl<'a> Reference<'a> {
    pub(super) fn parse(name: &'a str) -> Self {
        let first = name.split('/').next().unwrap_or_default();
        let is_registry = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
        let registry = if is_registry { first } else { "docker.io" };
        let (repository, tag) = match name.split_once('@') {
            // A tag beside a digest says nothing more.
            Some((repository, digest)) => (split_tag(repository).0, digest),
            None => split_tag(name),
        };
        Self { registry, repository, tag }
    }
}

/// A colon before the last slash is that of a port.
fn split_tag(name: &str) -> (&str, &str) {
    let from = name.rfind('/').map_or(0, |at| at + 1);
    match name.get(from..).and_then(|last| last.find(':')) {
        Some(at) => (name.get(..from + at).unwrap_or(name), name.get(from + at + 1..).unwrap_or("latest")),
        None => (name, "latest"),
    }
}

/// Whether the engine has an image.
pub(super) async fn is_here(engine: &Engine, name: &str) -> Result<bool, EngineError> {
    let found = engine.call(LOOK, |docker| async move { docker.inspect_image(name).await }).await;
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Brings an image. `told` hears from time to time how far it got. Dropped before it is done, the engine stops.
pub(super) async fn pull(
    engine: &Engine,
    image: &ImageSetup,
    credentials: Option<&Credentials>,
    mut told: impl FnMut(&str),
) -> Result<(), EngineError> {
    let reference = Reference::parse(&image.name);
    let options = CreateImageOptions {
        from_image: Some(reference.repository.to_owned()),
        tag: Some(reference.tag.to_owned()),
        ..CreateImageOptions::default()
    };
    let auth = credentials.and_then(|credentials| credentials.of(reference.registry));
    info!(
        image = image.name,
        registry = reference.registry,
        with_credentials = auth.is_some(),
        "image is pulled"
    );
    let docker = engine.docker().await?;
    let mut progress = std::pin::pin!(docker.create_image(Some(options), None, auth));
    let mut layers = Layers::default();
    let mut last = tokio::time::Instant::now();
    loop {
        let Ok(next) = timeout(SILENCE, progress.next()).await else {
            let message = format!("the registry sent nothing for {} s", SILENCE.as_secs());
            return Err(EngineError::Refused { status: 504, message });
        };
        let Some(item) = next else { return Ok(()) };
        layers.note(&engine.item(item)?);
        if last.elapsed() >= TOLD {
            last = tokio::time::Instant::now();
            told(&layers.text());
        }
    }
}

/// How far the layers of an image got.
#[derive(Debug, Default)]
struct Layers(std::collections::BTreeMap<String, (i64, i64)>);

impl Layers {
    fn note(&mut self, info: &CreateImageInfo) {
        let (Some(id), Some(detail)) = (&info.id, &info.progress_detail) else { return };
        if let (Some(current), Some(total), Some("Downloading")) =
            (detail.current, detail.total, info.status.as_deref())
        {
            self.0.insert(id.clone(), (current, total));
        } else if let Some((current, total)) = self.0.get_mut(id) {
            *current = *total;
        }
    }

    fn text(&self) -> String {
        let (current, total) =
            self.0.values().fold((0, 0), |(current, total), (c, t)| (current + c, total + t));
        let megabytes = |bytes: i64| bytes / (1024 * 1024);
        format!("{} of {} MB in {} layers", megabytes(current), megabytes(total), self.0.len())
    }
}

/// Where a task's own files give credentials, as the fetcher brought them.
pub(super) const OWN_FILES: [&str; 2] = [".docker/config.json", ".dockercfg"];

/// Reads credentials that a task brought, if it did. The task's user may have put anything there.
pub(super) fn own_credentials(sandbox: &Path) -> Option<Result<Credentials, String>> {
    const MOST: u64 = 1024 * 1024;
    let beneath = crate::beneath::Beneath::open(sandbox, None).ok()?;
    OWN_FILES.iter().find_map(|name| {
        let file = beneath.read(Path::new(name)).ok()?;
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST), &mut text).ok()?;
        Some(Credentials::parse(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, registry, repository, tag) in [
            ("nginx", "docker.io", "nginx", "latest"),
            ("library/nginx:1.2", "docker.io", "library/nginx", "1.2"),
            ("r:5000/a/b", "r:5000", "r:5000/a/b", "latest"),
            ("localhost/a:t", "localhost", "localhost/a", "t"),
            ("r.io/a:t@sha256:ab", "r.io", "r.io/a", "sha256:ab"),
            ("a@sha256:ab", "docker.io", "a", "sha256:ab"),
        ] {
            assert_eq!(Reference::parse(name), Reference { registry, repository, tag }, "{name}");
        }
    }
}
