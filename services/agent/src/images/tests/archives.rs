//! A directory of archives in place of a registry.

use serde_json::{Value, json};

use super::*;
use crate::images::digest::Digest;

/// An archive of files, and of links to others of them.
fn archive(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    for (name, target) in links {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    builder.into_inner().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let contents: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    json!({"config": {"Entrypoint": ["/run"]}, "rootfs": {"diff_ids": contents}}).to_string().into_bytes()
}

/// As Docker saves an image of two layers that are the same.
fn saved(tags: &[&str], layer: &[u8]) -> Vec<u8> {
    let config = config(&[layer, layer]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": tags, "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    archive(
        &[("one/layer.tar", layer), (&name, &config), ("manifest.json", manifest.to_string().as_bytes())],
        &[("two/layer.tar", "../one/layer.tar")],
    )
}

/// The same as an OCI layout, with a list for several platforms between.
fn layout(annotations: &Value, layer: &[u8]) -> Vec<u8> {
    let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec());
    let descriptor =
        |bytes: &[u8]| json!({"mediaType": "", "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    let config = config(&[layer]);
    let packed = gzip(layer);
    let manifest =
        json!({"schemaVersion": 2, "config": descriptor(&config), "layers": [descriptor(&packed)]});
    let manifest = manifest.to_string().into_bytes();
    let mut ours = descriptor(&manifest);
    ours["platform"] = json!({"os": "linux", "architecture": manifest::Platform::here().architecture()});
    let list = json!({"schemaVersion": 2, "manifests": [ours]}).to_string().into_bytes();
    let mut top = descriptor(&list);
    top["annotations"] = annotations.clone();
    let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string().into_bytes();
    let mut files = vec![("index.json".to_owned(), index)];
    files.extend([&list, &manifest, &config, &packed].map(|bytes| blob(bytes)));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    archive(&files, &[])
}

fn scene(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join("archives").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let registry = dir.path().join("archives").display().to_string();
    let store = open(Settings { registry, ..Settings::below(dir.path()) });
    (dir, store)
}

#[tokio::test]
async fn both_forms_of_archives_are_read() {
    let own = layer("f", b"x");
    let named = json!({"org.opencontainers.image.ref.name": "2"});
    let containerd = json!({"io.containerd.image.name": "docker.io/library/both:1"});
    let (_dir, store) = scene(&[
        ("plain.tar", saved(&["plain:latest"], &own)),
        ("tagged:1.0.tar", saved(&["tagged:1.0"], &own)),
        ("org/app.tar", saved(&["org/app:1", "org/app:2"], &own)),
        ("bare.tar", saved(&[], &own)),
        ("renamed:3.tar", saved(&["other:1"], &own)),
        ("layout:2.tar", layout(&named, &own)),
        ("nameless.tar", layout(&json!({}), &own)),
        ("both.tar", layout(&containerd, &own)),
        ("host:5000/x:y.tar", saved(&["host:5000/x:y"], &own)),
    ]);
    for name in [
        "plain",
        "plain:latest",
        "tagged:1.0",
        "org/app:2",
        "bare",
        "renamed:3",
        "layout:2",
        "nameless",
        "docker.io/both:1",
        "host:5000/x:y",
    ] {
        let name = name.trim_start_matches("docker.io/");
        let image = store.provide(&setup(name), name).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(image.config.entrypoint, ["/run"], "{name}");
        assert_eq!(image.layers.len(), 1, "the same layer once: {name}");
        assert_eq!(fs::read(image.layers[0].join("f")).unwrap(), b"x");
    }
    for (name, reason) in
        [("plain:3", "only: plain:latest"), ("nothing", "there is no nothing.tar"), ("../plain", "no host")]
    {
        let error = store.provide(&setup(name), name).await.unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
    }
    let digest = store.provide(&setup("plain"), "1").await.unwrap().digest;
    assert_eq!(store.provide(&setup(&format!("plain@{digest}")), "2").await.unwrap().digest, digest);
    let other = Digest::of(b"other");
    let error = store.provide(&setup(&format!("plain@{other}")), "3").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn broken_archives_are_refused_and_leave_nothing() {
    let own = layer("f", b"x");
    let manifest = |config: &str, file: &str| {
        json!([{"Config": config, "RepoTags": null, "Layers": [file]}]).to_string()
    };
    let good = config(&[&own]);
    let with = |manifest: String, extra: &[(&str, &[u8])]| {
        let mut files = vec![("manifest.json", manifest.as_bytes()), ("c.json", good.as_slice())];
        files.extend(extra);
        archive(&files, &[("loop", "loop"), ("out", "../../../etc/passwd")])
    };
    let wrong = format!("{}.json", Digest::of(b"other").hex());
    let (dir, store) = scene(&[
        ("text.tar", b"no archive, but long enough to be taken for one".repeat(50)),
        ("empty.tar", archive(&[], &[])),
        ("cut.tar", saved(&[], &own)[..1024].to_vec()),
        ("lost.tar", with(manifest("c.json", "absent"), &[])),
        ("loop.tar", with(manifest("c.json", "loop"), &[])),
        ("out.tar", with(manifest("c.json", "out"), &[])),
        ("other.tar", with(manifest("c.json", "l"), &[("l", &layer("f", b"y"))])),
        ("config.tar", with(manifest(&wrong, "l"), &[("l", &own), (&wrong, &good)])),
        ("dots.tar", with(manifest("c.json", "l"), &[("l", &layer("../x", b"y"))])),
    ]);
    for name in ["text", "empty", "cut", "lost", "loop", "out", "other", "config", "dots"] {
        let error = store.provide(&setup(name), "1").await.expect_err(name);
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        for place in ["images", "layers", "scratch", "held"] {
            assert_eq!(
                fs::read_dir(dir.path().join("store/docker").join(place)).unwrap().count(),
                0,
                "{name}: {place}"
            );
        }
    }
}
