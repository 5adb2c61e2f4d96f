//! Images out of the real store, from a `docker save` archive.

use std::{collections::BTreeSet, fs, path::Path, process::Command, sync::Arc, time::Duration};

use async_trait::async_trait;
use meshos_agent::{
    containerizer::{
        Containerizer,
        container::ImageSetup,
        oci::{Images, OciContainerizer},
    },
    images::{self, Image, ImageStore},
};
use meshos_mesh::Env;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    PATIENCE, Test,
    node::{self, Node, code, debian, in_image, output},
};

pub(crate) const TESTS: &[Test] = &[
    ("an_image_of_the_store_runs_and_goes_when_nothing_uses_it", an_image_of_the_store_runs),
    ("who_looks_into_a_sandbox_sees_how_far_its_image_got", who_looks_sees_how_far_its_image_got),
];

/// An image that is on its way until it is let go.
#[derive(Debug, Default)]
struct Slow(Notify);

#[async_trait]
impl Images for Slow {
    async fn provide(&self, _image: &ImageSetup, _container_id: &str) -> Result<Image, String> {
        self.0.notified().await;
        Ok(Image { layers: vec![debian().unwrap()], ..Image::default() })
    }

    fn progress(&self, _image: &ImageSetup) -> Option<String> {
        Some("3 of 10 MB in 2 layers".to_owned())
    }

    async fn release(&self, _container_id: &str) {}

    async fn retain(&self, _containers: &BTreeSet<String>) {}
}

fn who_looks_sees_how_far_its_image_got() {
    let node = Node::new();
    node.passable();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (env, images) = (Env::in_memory(), Arc::new(Slow::default()));
        let containerizer = OciContainerizer::open(&env, &node.settings, Arc::clone(&images) as _);
        let mut spec = in_image("slow", "id -un >&2; touch own", &node.sandboxes());
        spec.user = Some("nobody".to_owned());
        let wanted = "Pulling the image debian\nPulling: 3 of 10 MB in 2 layers\n";
        let told = async {
            while !output(&spec, "stderr").starts_with(wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            images.0.notify_one();
        };
        let (brought, told) =
            futures::join!(containerizer.bring(&spec), tokio::time::timeout(PATIENCE, told));
        assert!(brought.is_ok() && told.is_ok(), "{brought:?} {}", output(&spec, "stderr"));
        // The sandbox is the user's own, though it was there before.
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        let said = output(&spec, "stderr");
        assert!(said.starts_with(wanted) && said.ends_with("nobody\n"), "{said}");
        containerizer.stop().await;
    });
}

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
