//! Images out of the real store, from a `docker save` archive.

use std::{fs, path::Path, process::Command, sync::Arc};

use meshos_agent::{
    containerizer::{Containerizer, container::ImageSetup, oci::OciContainerizer},
    images::{self, ImageStore},
};
use meshos_mesh::Env;
use serde_json::json;

use crate::{
    Test,
    node::{self, Node, code, debian, in_image, output},
};

pub(crate) const TESTS: &[Test] =
    &[("an_image_of_the_store_runs_and_goes_when_nothing_uses_it", an_image_of_the_store_runs)];

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `base.tar`, as `docker save` would write it.
fn save(dir: &Path) {
    let parts = dir.join("parts");
    fs::create_dir_all(&parts).unwrap();
    let root = debian().unwrap();
    let mut layer = Command::new("tar");
    layer.args(["--exclude=./var", "--exclude=./usr/share"]).arg("-cf").arg(parts.join("layer.tar"));
    run(layer.arg("-C").arg(root).arg("."));
    let digest = run(Command::new("sha256sum").arg(parts.join("layer.tar")));
    let digest = format!("sha256:{}", digest.split_whitespace().next().unwrap());
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Env": ["OF=image"], "Cmd": ["/bin/sh", "-c", "echo $OF; id -un"], "User": "www-data"},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    fs::write(parts.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["base:latest"], "Layers": ["layer.tar"]}]);
    fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
    run(Command::new("tar").arg("-cf").arg(dir.join("base.tar")).arg("-C").arg(&parts).args([
        "manifest.json",
        "config.json",
        "layer.tar",
    ]));
    fs::remove_dir_all(parts).unwrap();
}

fn an_image_of_the_store_runs() {
    let node = Node::new();
    node.passable();
    let archives = node.path().join("archives");
    save(&archives);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let env = Env::in_memory();
        let settings = images::Settings {
            registry: archives.display().to_string(),
            ..images::Settings::below(node.path())
        };
        let store = Arc::new(ImageStore::open(settings, &env.rng, &env.metrics));
        let containerizer = OciContainerizer::open(&env, &node.settings, Arc::clone(&store) as _);
        let first = ImageSetup { name: "base".to_owned(), ..ImageSetup::default() };
        if let Err(error) = store.provide(&first, "first").await {
            assert!(error.to_string().contains("nearly full"), "{error}");
            println!("{error}");
            return;
        }
        store.release("first").await;
        for number in 0..2 {
            let mut spec = in_image(&format!("stored{number}"), "", &node.sandboxes());
            spec.program = String::new();
            spec.container.as_mut().unwrap().image.as_mut().unwrap().name = "base".to_owned();
            assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
            assert_eq!(output(&spec, "stdout"), "image\nwww-data\n");
        }
        containerizer.prune_images(&[]).await;
        let left = store.collect(&[]).await;
        assert_eq!((left.images, left.layers), (0, 0), "it was not collected, or held");
        let mut gone = in_image("gone", "true", &node.sandboxes());
        gone.container.as_mut().unwrap().image.as_mut().unwrap().name = "no-such".to_owned();
        let error = containerizer.prepare(&gone).await.unwrap_err().to_string();
        assert!(error.contains("no-such"), "{error}");
        containerizer.cleanup("gone").await.unwrap();
    });
}
