//! The image store against what it will meet: Debian's docker-registry behind a password, images that the Docker Engine
//! built and pushed, and overlayfs. A container's files must be those that Docker would show.
//!
//! Needs root, a Docker engine, docker-registry and htpasswd (scripts/setup); `MESHOS_TEST_SKIP_DOCKER=1` leaves it out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../../crates/testing/src/ports.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests of all services")]
mod ports;
mod registry;
mod tree;

use std::{fs, path::Path, time::Duration};

use meshos_agent::{
    containerizer::container::ImageSetup,
    images::{ErrorKind, Image, ImageStore, Settings},
};
use meshos_mesh::{Metrics, Rng};

use registry::{Built, Registry, docker, is_skipped};

const PARTS: &str = r#"FROM debian:bookworm-slim
RUN rm /etc/issue && mkdir -p /opt/a/deep && echo x > /opt/a/f && ln /opt/a/f /opt/a/g && ln -s /etc/passwd /opt/a/l \
    && mkfifo -m 620 /opt/pipe && chown 33:44 /opt/a/f && chmod 4711 /opt/a/g && chmod 1777 /opt/a
RUN rm -rf /opt/a && mkdir /opt/a && echo y > /opt/a/new && touch -d 2001-02-03T04:05:06Z /opt/a/new
RUN truncate -s 50M /opt/sparse && rm /opt/pipe && mkdir /opt/pipe && rm -rf /usr/share/common-licenses/*
ENV A=b
WORKDIR /opt
EXPOSE 80
VOLUME /data
USER 33
ENTRYPOINT ["/bin/cat"]
CMD ["/opt/a/new"]
"#;

fn store(dir: &Path) -> ImageStore {
    ImageStore::open(Settings::below(dir), &Rng::system(), &Metrics::new())
}

fn setup(name: &str, credentials: Option<&str>) -> ImageSetup {
    ImageSetup {
        name: name.to_owned(),
        force_pull: false,
        pull_config: credentials.map(|credentials| credentials.as_bytes().to_vec()),
    }
}

/// The last parts of the layers' directories: the digests of their contents.
fn contents(image: &Image) -> Vec<String> {
    let digest = |path: &std::path::PathBuf| path.parent()?.file_name()?.to_str().map(str::to_owned);
    image.layers.iter().filter_map(digest).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_image_is_as_docker_shows_it() {
    if is_skipped() {
        return;
    }
    let registry = Registry::start().await;
    let built = Built::new(PARTS);
    let name = registry.push(&built.name, "test/parts:v1");
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for (credentials, reason) in
        [(None, "--docker_config"), (Some(registry.credentials("wrong")), "not for these")]
    {
        let error = store.provide(&setup(&name, credentials.as_deref()), "1").await.unwrap_err();
        assert!(error.kind == ErrorKind::Unauthorized && error.reason.contains(reason), "{error}");
    }
    let credentials = registry.credentials(registry::PASSWORD);
    let image = store.provide(&setup(&name, Some(&credentials)), "1").await.unwrap();
    let config = &image.config;
    assert_eq!(
        (config.entrypoint.as_slice(), config.cmd.as_slice()),
        (&["/bin/cat".to_owned()][..], &["/opt/a/new".to_owned()][..])
    );
    assert!(config.env.contains(&"A=b".to_owned()));
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/opt", "33"));
    assert_eq!(
        (config.volumes.as_slice(), config.exposed_ports.as_slice()),
        (&["/data".to_owned()][..], &["80/tcp".to_owned()][..])
    );
    let digest = registry.digest(&name);
    assert_eq!(image.digest, digest);
    // The files, their owners, modes, times and links.
    let (ours, theirs) = (tree::mounted(&image.layers, dir.path()), tree::exported(&built.name));
    tree::assert_same(&ours, &theirs);
    assert!(
        ours.contains_key("opt/a/new") && !ours.contains_key("opt/a/f") && !ours.contains_key("etc/issue")
    );
    // By its digest, and out of an archive: the same layers.
    let by_digest = format!("{}@{digest}", name.rsplit_once(':').unwrap().0);
    let pinned = store.provide(&setup(&by_digest, Some(&credentials)), "2").await.unwrap();
    assert_eq!(pinned.layers, image.layers);
    let archives = tempfile::tempdir().unwrap();
    let archive = archives.path().join("parts:v1.tar");
    docker(&["save", "--output", archive.to_str().unwrap(), &built.name]);
    let settings = Settings {
        registry: archives.path().display().to_string(),
        ..Settings::below(&archives.path().join("own"))
    };
    let local = ImageStore::open(settings, &Rng::system(), &Metrics::new());
    let saved = local.provide(&setup("parts:v1", None), "1").await.unwrap();
    assert_eq!(contents(&saved), contents(&image));
    assert_eq!(saved.config, image.config);
    // Nothing stays when nothing is held.
    for container in ["1", "2"] {
        store.release(container).await;
    }
    let collected = store.collect(&[]).await;
    assert_eq!((collected.images, collected.layers), (2, image.layers.len()));
    for place in ["images", "layers", "held", "scratch"] {
        assert_eq!(fs::read_dir(dir.path().join("store/docker").join(place)).unwrap().count(), 0, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_killed_goes_on_with_what_is_there() {
    if is_skipped() {
        return;
    }
    let registry = Registry::start().await;
    let name = registry.push("debian:bookworm-slim", "debian");
    let dir = tempfile::tempdir().unwrap();
    let credentials = registry.credentials(registry::PASSWORD);
    let setup = setup(&name, Some(&credentials));
    let first = store(dir.path());
    // Given up in the midst of it, as a killed agent does.
    let given_up = tokio::time::timeout(Duration::from_millis(150), first.provide(&setup, "1")).await;
    drop(first);
    // Here it is a thread that ends a little later, not a process that is gone.
    let (second, image) = loop {
        let second = store(dir.path());
        match second.provide(&setup, "1").await {
            Err(error) if error.reason.contains("used by another agent") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            provided => break (second, provided.unwrap()),
        }
    };
    assert!(image.layers[0].join("etc/debian_version").is_file(), "{given_up:?}");
    drop(second);
    drop(registry);
    // Without the registry: what is here is here.
    let third = store(dir.path());
    assert_eq!(third.held("1"), Some(image.clone()));
    assert_eq!(third.provide(&setup, "2").await.unwrap(), image);
    let forced = ImageSetup { force_pull: true, ..setup };
    assert_eq!(third.provide(&forced, "3").await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(third.provide(&ImageSetup { force_pull: false, ..forced }, "3").await.unwrap(), image);
}
