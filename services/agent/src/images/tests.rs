//! The store against a registry in the test: what a real one would never send, and what happens beside it. A real one is
//! in `tests/images.rs`. They need root, as images do.

mod archives;
mod server;

use std::{fs, os::unix::fs::PermissionsExt};

use ::tar::{Builder, EntryType, Header};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use futures::{future::join, poll};
use serde_json::json;

use super::*;
use server::{Answer, Server};

/// A store, and a registry that it can ask.
struct Scene {
    dir: tempfile::TempDir,
    store: ImageStore,
    server: Server,
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    odd_layer(EntryType::Regular, name, content)
}

fn odd_layer(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn open(settings: Settings) -> ImageStore {
    ImageStore::open(settings, &Rng::seeded(1), &Metrics::new())
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start().await;
        let mut settings = Settings {
            registry: format!("http://{}", server.address),
            stall: Duration::from_millis(500),
            max_size: 10_000_000,
            ..Settings::below(dir.path())
        };
        change(&mut settings);
        Self { dir, store: open(settings), server }
    }

    async fn provide(&self, name: &str, container: &str) -> Result<Image, ImageError> {
        self.store.provide(&setup(name), container).await
    }

    /// What lies in a directory of the store.
    fn there(&self, name: &str) -> usize {
        fs::read_dir(self.store.inner.settings.dir.join(name)).map_or(0, Iterator::count)
    }

    /// A layer that was just being unpacked beside a bad one goes when its thread notices.
    async fn nothing_kept(&self, what: &str) {
        let there = || ["images", "layers", "held", "scratch"].map(|name| self.there(name));
        for _ in 0..2000 {
            if there() == [0; 4] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: {:?}", there());
    }
}

fn setup(name: &str) -> ImageSetup {
    ImageSetup { name: name.to_owned(), ..ImageSetup::default() }
}

fn forced(name: &str) -> ImageSetup {
    ImageSetup { force_pull: true, ..setup(name) }
}

#[tokio::test]
async fn an_image_is_pulled_once_whoever_wants_it() {
    let scene = Scene::new().await;
    let (base, own, other) = (layer("base", b"1"), layer("own", b"2"), layer("other", b"3"));
    let digest = scene.server.image("a/b", "latest", &[base.clone(), own.clone()]);
    scene.server.image("c", "1", &[base.clone(), other, base.clone()]);
    let (first, second) = join(scene.provide("a/b", "1"), scene.provide("a/b:latest", "2")).await;
    let third = scene.provide("c:1", "3").await.unwrap();
    let image = first.unwrap();
    assert_eq!(image, second.unwrap());
    assert_eq!((image.digest.clone(), image.config.cmd.clone()), (digest.clone(), vec!["a/b".to_owned()]));
    assert_eq!(fs::read(image.layers[0].join("base")).unwrap(), b"1");
    assert_eq!(fs::read(image.layers[1].join("own")).unwrap(), b"2");
    assert_eq!(third.layers.len(), 2, "none twice");
    assert_eq!(third.layers[1], image.layers[0], "and shared");
    for blob in [&base, &own] {
        assert_eq!(scene.server.count(&digest::Digest::of(blob).to_string()), 1);
    }
    assert!(image.size > 0);
    assert_eq!(
        fs::metadata(scene.dir.path().join("store/docker")).unwrap().permissions().mode() & 0o777,
        0o700
    );
    // Cached: nobody is asked. By its digest: the same layers.
    scene.server.asked();
    assert_eq!(scene.provide("a/b", "4").await.unwrap(), image);
    assert!(scene.server.asked().is_empty());
    let pinned = scene.provide(&format!("a/b@{digest}"), "5").await.unwrap();
    assert_eq!(pinned.layers, image.layers);
    // Forced: what stands under the tag is asked for, and nothing else.
    scene.server.asked();
    assert_eq!(scene.store.provide(&forced("a/b"), "6").await.unwrap(), image);
    assert_eq!(scene.server.asked().len(), 1);
    let counters = &scene.store.inner.counters;
    assert_eq!((counters.pulls.get(), counters.errors.get()), (4, 0));
    assert_eq!(counters.bytes.get() as usize, base.len() * 3);
}

#[tokio::test]
async fn what_is_held_stays_and_the_rest_is_collected() {
    let scene = Scene::new().await;
    scene.server.image("app", "latest", &[layer("f", b"old")]);
    scene.server.image("kept", "latest", &[layer("k", b"k")]);
    let old = scene.provide("app", "1").await.unwrap();
    scene.provide("kept", "2").await.unwrap();
    scene.server.image("app", "latest", &[layer("f", b"new")]);
    assert_eq!(scene.provide("app", "3").await.unwrap(), old, "the tag is not looked up again");
    let new = scene.store.provide(&forced("app"), "4").await.unwrap();
    assert_eq!(fs::read(new.layers[0].join("f")).unwrap(), b"new");
    assert_eq!(scene.store.collect(&[]).await, Collected::default(), "all are held");
    for container in ["2", "3", "4"] {
        scene.store.release(container).await;
    }
    let excluded = ["kept:latest".to_owned(), "no name".to_owned()];
    let collected = scene.store.collect(&excluded).await;
    assert_eq!((collected.images, collected.layers), (1, 1));
    assert!(
        old.layers[0].is_dir() && !new.layers[0].exists(),
        "a container runs on it whatever the tag says"
    );
    assert_eq!(scene.store.held("1").unwrap(), old);
    scene.store.retain(&BTreeSet::new()).await;
    assert_eq!(scene.store.held("1"), None);
    assert_eq!(scene.store.collect(&[]).await.images, 1);
    scene.nothing_kept("all collected").await;
    assert_eq!(scene.store.collect_for(0.0).await, Collected::default());
}

#[tokio::test]
async fn hostile_images_leave_nothing() {
    let scene = Scene::new().await;
    let server = &scene.server;
    let good = layer("good", b"good");
    let bad = |name: &str, layer: Vec<u8>| {
        server.image(name, "latest", &[good.clone(), layer]);
    };
    bad("dots", layer("../../../../../../../../tmp/outside-of-layers", b"x"));
    bad("device", odd_layer(EntryType::Block, "disk", b""));
    bad("cut", layer("f", &[7; 5000])[..3000].to_vec());
    let zeros = layer("zeros", &vec![0; 20_000_000]);
    let contents =
        |layer: &[u8]| [digest::Digest::of(&good), digest::Digest::of(layer)].map(|d| d.to_string());
    server.image_as("bomb", "latest", (&[good.clone(), gzip(&zeros)], &contents(&zeros)));
    server.image_as("content", "latest", (&[good.clone(), layer("f", b"x")], &contents(b"something else")));
    server.image_as("fewer", "latest", (&[good.clone(), layer("f", b"x")], &contents(b"x")[..1]));
    // A blob that is not what its digest promises, and one that is longer.
    for (name, blob) in [("blob", layer("f", b"y")), ("longer", vec![1; 100_000])] {
        let real = layer("f", b"x");
        server.image(name, "latest", &[good.clone(), real.clone()]);
        let path = format!("/v2/{name}/blobs/{}", digest::Digest::of(&real));
        server.answer(&path, Answer::Whole(blob));
    }
    let elsewhere = json!({"mediaType": "m", "digest": digest::Digest::of(b"x").to_string(), "size": 1,
        "platform": {"os": "windows", "architecture": "amd64"}});
    server.manifest("platform", "latest", &json!({"schemaVersion": 2, "manifests": [elsewhere]}));
    server.answer("/v2/endless/manifests/latest", Answer::Endless);
    server.answer("/v2/html/manifests/latest", Answer::Whole(b"<html>".to_vec()));
    server.answer(
        "/v2/loop/manifests/latest",
        Answer::Status(302, "Location: /v2/loop/manifests/latest\r\n".to_owned()),
    );
    server.answer(
        "/v2/file/manifests/latest",
        Answer::Status(302, "Location: file:///etc/shadow\r\n".to_owned()),
    );
    let real = layer("f", b"x");
    let huge = json!({"mediaType": "", "digest": digest::Digest::of(&real).to_string(), "size": u64::MAX});
    let config = json!({"rootfs": {"diff_ids": contents(b"x")}}).to_string().into_bytes();
    let config = json!({"digest": server.blob("huge", &config), "size": config.len()});
    server.manifest(
        "huge",
        "latest",
        &json!({"schemaVersion": 2, "config": config, "layers": [huge.clone(), huge]}),
    );
    for (name, kind, reason) in [
        ("dots", ErrorKind::Refused, "'..'"),
        ("device", ErrorKind::Refused, "device"),
        ("cut", ErrorKind::Refused, "cannot be read"),
        ("bomb", ErrorKind::TooLarge, "unpacks to more"),
        ("content", ErrorKind::Refused, "promises"),
        ("fewer", ErrorKind::Refused, "2 layers"),
        ("blob", ErrorKind::Refused, "was promised"),
        ("longer", ErrorKind::Refused, "longer than"),
        ("platform", ErrorKind::Refused, "only for: windows/amd64"),
        ("endless", ErrorKind::TooLarge, "sends more than"),
        ("html", ErrorKind::Refused, "cannot be read"),
        ("loop", ErrorKind::Unavailable, "redirects"),
        ("file", ErrorKind::Unavailable, "file:///etc/shadow"),
        ("huge", ErrorKind::TooLarge, "bytes large"),
        ("absent", ErrorKind::NotFound, "404"),
        ("../x", ErrorKind::Unusable, "no host"),
    ] {
        let error = scene.provide(name, "1").await.expect_err(name);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(reason) && error.to_string().contains(name), "{error}");
        scene.nothing_kept(name).await;
    }
    assert!(!std::path::Path::new("/tmp/outside-of-layers/good").exists());
    assert_eq!(scene.store.inner.counters.errors.get(), 15);
}

#[tokio::test]
async fn broken_downloads_go_on_or_begin_anew() {
    let scene = Scene::new().await;
    let big = layer("f", &(0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let blob = |name: &str| format!("/v2/{name}/blobs/{}", digest::Digest::of(&big));
    let ask = async |name: &str, answer: Answer| {
        scene.server.image(name, "latest", &[big.clone(), layer("name", name.as_bytes())]);
        scene.server.answer(&blob(name), answer);
        let provided = scene.provide(name, name).await;
        scene.store.release(name).await;
        scene.store.collect(&[]).await;
        scene.nothing_kept(name).await;
        provided
    };
    ask("resumed", Answer::Breaking(big.clone(), 300_000)).await.unwrap();
    let asked = scene.server.asked().into_iter().filter(|request| request.path == blob("resumed"));
    assert_eq!(asked.map(|request| request.range).collect::<Vec<_>>(), [None, Some(300_000), Some(600_000)]);
    ask("forgetful", Answer::Forgetful(big.clone(), 500_000)).await.unwrap();
    assert_eq!(scene.server.count(&blob("forgetful")), 2);
    // Pieces that do not belong together are noticed.
    let mut mixed = big.clone();
    mixed[700_000] ^= 1;
    let error = ask("mixed", Answer::Breaking(mixed, 500_000)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    let error = ask("stuck", Answer::Waiting(big.clone())).await.unwrap_err();
    assert!(error.reason.contains("sent nothing") || error.reason.contains("next to nothing"), "{error}");
}

#[tokio::test]
async fn a_pull_stops_when_nobody_waits_any_more() {
    let scene = Scene::with(|settings| settings.stall = Duration::from_secs(600)).await;
    let slow = layer("f", &[7; 100_000]);
    scene.server.image("slow", "latest", std::slice::from_ref(&slow));
    scene
        .server
        .answer(&format!("/v2/slow/blobs/{}", digest::Digest::of(&slow)), Answer::Waiting(slow.clone()));
    let half = async {
        while scene.store.inner.counters.bytes.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    {
        let mut first = Box::pin(scene.provide("slow", "1"));
        let mut second = Box::pin(scene.provide("slow", "2"));
        tokio::select! {
            biased;
            _ = &mut first => panic!("it waits"),
            _ = &mut second => panic!("it waits"),
            () = half => {}
        }
        drop(first);
        assert!(poll!(&mut second).is_pending());
        let told = scene.store.progress(&setup("slow")).unwrap();
        assert_eq!(told, "0 of 0 MB in 1 layers", "less than one MB");
        assert_eq!(scene.there("scratch"), 1, "the other one still wants it");
    }
    assert_eq!(scene.there("scratch"), 0, "nobody wants it");
    assert_eq!(scene.store.progress(&setup("slow")), None);
    let (both, again, ()) = futures::join!(scene.provide("slow", "3"), scene.provide("slow", "4"), async {
        scene.server.let_go();
    });
    assert_eq!(both.unwrap(), again.unwrap());
    assert_eq!(
        scene.server.count("/blobs/sha256:") - 1,
        3,
        "one configuration and two layers, for two pulls"
    );
}

#[tokio::test]
async fn what_is_whole_survives_a_restart_and_the_rest_goes() {
    let scene = Scene::new().await;
    for name in ["a", "b", "c"] {
        scene.server.image(name, "latest", &[layer(name, name.as_bytes())]);
    }
    let [a, b, c] =
        [("a", "1"), ("b", "2"), ("c", "3")].map(|(name, container)| scene.provide(name, container));
    let (a, b, c) = (a.await.unwrap(), b.await.unwrap(), c.await.unwrap());
    let settings = scene.store.inner.settings.clone();
    let rival = open(settings.clone());
    let error = rival.provide(&setup("a"), "9").await.unwrap_err();
    assert!(error.reason.contains("used by another agent"), "{error}");
    drop(rival);
    scene.store.release("2").await;
    let Scene { dir, store, server } = scene;
    drop(store);
    // As a crash leaves it, and as somebody with too much time does.
    fs::create_dir_all(settings.dir.join("scratch/7/rootfs/half")).unwrap();
    fs::create_dir_all(settings.dir.join("layers/abc/rootfs")).unwrap();
    fs::write(settings.dir.join("images/xyz.json"), "{").unwrap();
    fs::remove_dir_all(b.layers[0].parent().unwrap()).unwrap();
    server.asked();
    let scene = Scene { dir, store: open(settings), server };
    assert_eq!((scene.there("scratch"), scene.there("layers"), scene.there("images")), (0, 2, 2));
    assert_eq!((scene.store.held("1"), scene.store.held("2")), (Some(a.clone()), None));
    assert_eq!(scene.provide("a", "4").await.unwrap(), a);
    assert!(scene.server.asked().is_empty());
    assert_eq!(scene.provide("b", "5").await.unwrap().layers, b.layers);
    assert!(!scene.server.asked().is_empty(), "b came again");
    scene.store.retain(&BTreeSet::from(["3".to_owned()])).await;
    assert_eq!(scene.store.collect(&[]).await.images, 2);
    assert_eq!(scene.store.held("3").unwrap(), c);
    assert!(c.layers[0].join("c").is_file());
    // Somebody removed a layer under a living agent: it is fetched again.
    fs::remove_dir_all(c.layers[0].parent().unwrap()).unwrap();
    assert_eq!(scene.provide("c", "6").await.unwrap(), c);
    assert!(c.layers[0].join("c").is_file());
    // A layer that was not on the disk when the machine went down may be anything.
    let Scene { dir, store, server } = scene;
    let settings = store.inner.settings.clone();
    drop(store);
    let layer = c.layers[0].parent().unwrap();
    while !layer.join("synced").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fs::write(layer.join("boot"), "another").unwrap();
    assert_eq!(open(settings.clone()).held("6").unwrap(), c);
    fs::remove_file(layer.join("synced")).unwrap();
    let scene = Scene { dir, store: open(settings), server };
    assert_eq!((scene.store.held("6"), layer.exists()), (None, false));
    assert!(scene.dir.path().exists());
}

fn docker_config(server: &Server, user: &str) -> Vec<u8> {
    let auth = BASE64.encode(user);
    json!({"auths": {server.address.to_string(): {"auth": auth}}}).to_string().into_bytes()
}

#[tokio::test]
async fn registries_know_who_asks_and_nobody_else_does() {
    let scene = Scene::new().await;
    let (server, elsewhere) = (&scene.server, Server::start().await);
    let file = layer("f", b"x");
    server.image("private", "latest", std::slice::from_ref(&file));
    // The layer lies with somebody else.
    let path = format!("/v2/private/blobs/{}", digest::Digest::of(&file));
    server.answer(&path, Answer::Status(307, format!("Location: http://{}/x\r\n", elsewhere.address)));
    elsewhere.answer("/x", Answer::Whole(file));
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", server.address);
    server.want("Bearer t0ken", &realm);
    server.answer("/token", Answer::Status(401, String::new()));
    let with = |user: &str| ImageSetup { pull_config: Some(docker_config(server, user)), ..setup("private") };
    let error = scene.store.provide(&with("me:wr0ng"), "1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(!error.to_string().contains("wr0ng") && error.reason.contains("not for these"), "{error}");
    let error = scene.provide("private", "1").await.unwrap_err();
    assert!(error.reason.contains("--docker_config"), "{error}");
    server.answer("/token", Answer::Whole(br#"{"access_token": "t0ken"}"#.to_vec()));
    server.asked();
    scene.store.provide(&with("me:secret"), "1").await.unwrap();
    let asked = server.asked();
    let token = asked.iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert_eq!(token.path, "/token?scope=repository%3Aprivate%3Apull&service=s");
    assert_eq!(
        token.authorization.as_deref(),
        Some(format!("Basic {}", BASE64.encode("me:secret")).as_str())
    );
    assert_eq!(asked.iter().filter(|request| request.path.starts_with("/token")).count(), 1);
    assert_eq!(elsewhere.asked()[0].authorization, None, "not for others' eyes");
    // A registry that sends us to this node's own services, itself not being one of them, is not tested here: it would
    // have to be another machine.
    server.want(&format!("Basic {}", BASE64.encode("me:secret")), "Basic realm=\"x\"");
    let error = scene.store.provide(&forced("private"), "2").await.unwrap_err();
    assert!(error.kind == ErrorKind::Unauthorized && error.reason.contains("who asks"), "{error}");
    let broken = ImageSetup { pull_config: Some(b"s3cret".to_vec()), ..forced("private") };
    let error = scene.store.provide(&broken, "2").await.unwrap_err();
    assert!(error.kind == ErrorKind::Unusable && !error.to_string().contains("s3cret"), "{error}");
    let settings = Settings {
        credentials: Some(String::from_utf8(docker_config(server, "me:secret")).unwrap()),
        dir: scene.dir.path().join("second"),
        ..scene.store.inner.settings.clone()
    };
    open(settings).provide(&forced("private"), "2").await.unwrap();
}

#[tokio::test]
async fn this_platforms_image_of_several_is_pulled() {
    let scene = Scene::new().await;
    let digest = scene.server.image("many", "only", &[layer("f", b"x")]);
    let architecture = manifest::Platform::here().architecture().to_owned();
    let entry = |digest: &str, architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let other = digest::Digest::of(b"other").to_string();
    let list = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&other, "riscv128"), entry(&digest, &architecture)]});
    let list = scene.server.manifest("many", "latest", &list);
    let image = scene.provide("many", "1").await.unwrap();
    assert_eq!(image.digest, list, "as Docker has it: of what was asked for");
    assert!(image.layers[0].join("f").is_file());
    // Under a digest stands what has it, or nothing.
    scene.server.answer(&format!("/v2/many/manifests/{other}"), Answer::Whole(b"{}".to_vec()));
    let error = scene.provide(&format!("many@{other}"), "2").await.unwrap_err();
    assert!(error.reason.contains("was promised"), "{error}");
}
