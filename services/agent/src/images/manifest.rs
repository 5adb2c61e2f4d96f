//! What registries and archives say about images: manifests, lists of them for several platforms, configurations. In
//! OCI's form and in Docker's second one, which differ in their names for the same things.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{
    ImageConfig,
    digest::{Digest, short},
};

/// Longest manifest, and longest configuration.
pub(super) const LONGEST: u64 = 4 * 1024 * 1024;
/// As many lower directories as one mount takes, less the container's own.
const MOST_LAYERS: usize = 127;

/// What a registry is asked for, the newest first.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Something else, by its digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
    #[serde(default, deserialize_with = "or_default")]
    platform: Platform,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Platform {
    os: String,
    architecture: String,
    #[serde(deserialize_with = "or_default")]
    variant: String,
}

/// An image of one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    /// The lowest first.
    pub(super) layers: Vec<Descriptor>,
}

/// What stands under a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Manifest(Manifest),
    /// An image of several platforms.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u64,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| format!("its manifest cannot be read: {}", short(&error.to_string())))?;
        if raw.schema_version != 2 {
            return Err(format!(
                "its manifest has version {}; only version 2 is known: push it anew with a Docker of this decade",
                raw.schema_version
            ));
        }
        match (raw.config, raw.layers, raw.manifests) {
            (None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            (Some(config), Some(layers), None) => {
                if layers.is_empty() || layers.len() > MOST_LAYERS {
                    return Err(format!("it has {} layers; 1 to {MOST_LAYERS} can be used", layers.len()));
                }
                if let Some(odd) = layers.iter().find(|layer| !is_layer(&layer.media_type)) {
                    return Err(format!("its layers are of the kind '{}', not tar", short(&odd.media_type)));
                }
                Ok(Self::Manifest(Manifest { config, layers }))
            }
            // What is both could be read as either by others.
            _ => Err(format!("its manifest is none of an image (kind '{}')", short(&raw.media_type))),
        }
    }
}

/// Tar archives, compressed or not. How they are compressed is seen by their beginning.
fn is_layer(media_type: &str) -> bool {
    let tar = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    media_type.is_empty()
        || tar.iter().any(|kind| media_type.starts_with(kind))
            && media_type.contains("tar")
            && !media_type.contains("encrypted")
}

impl Platform {
    /// Of this machine.
    pub(super) fn here() -> Self {
        Self::of(std::env::consts::ARCH)
    }

    fn of(architecture: &str) -> Self {
        let architecture = match architecture {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() }
    }

    /// How well an image for `other` runs here, 0 best; none: not at all.
    fn runs(&self, other: &Self) -> Option<usize> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        let variants: &[&str] = match self.architecture.as_str() {
            "amd64" => &["", "v1"],
            "arm64" => &["", "v8"],
            "arm" => &["v7", "", "v6", "v5"],
            _ => &[""],
        };
        variants.iter().position(|variant| *variant == other.variant)
    }

    /// The image for this platform.
    ///
    /// # Errors
    /// There is none; which there are.
    pub(super) fn pick<'a>(&self, images: &'a [Descriptor]) -> Result<&'a Descriptor, String> {
        let fitting = images.iter().filter_map(|image| Some((self.runs(&image.platform)?, image)));
        // The first one of the best.
        if let Some((_, image)) = fitting.min_by_key(|(rank, _)| *rank) {
            return Ok(image);
        }
        // A list of one that says nothing about platforms.
        if let [only] = images
            && only.platform == Self::default()
        {
            return Ok(only);
        }
        let mut others: Vec<_> = images.iter().map(|image| image.platform.shown()).collect();
        others.sort();
        others.dedup();
        others.truncate(20);
        Err(format!("it has no image for {}, only for: {}", self.shown(), others.join(", ")))
    }

    #[cfg(test)]
    pub(super) fn architecture(&self) -> &str {
        &self.architecture
    }

    fn shown(&self) -> String {
        let parts = [self.os.as_str(), &self.architecture, &self.variant].map(short);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "or_default")]
    config: RawProgram,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawProgram {
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    shell: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

/// Reads a configuration: what it says about the program, and the digests of the layers' contents, the lowest first.
///
/// # Errors
/// What is wrong with it.
pub(super) fn configuration(bytes: &[u8], layers: usize) -> Result<(ImageConfig, Vec<Digest>), String> {
    let raw: RawConfig = serde_json::from_slice(bytes)
        .map_err(|error| format!("its configuration cannot be read: {}", short(&error.to_string())))?;
    let (program, contents) = (raw.config, raw.rootfs.diff_ids);
    if contents.len() != layers || layers == 0 || layers > MOST_LAYERS {
        return Err(format!("it has {layers} layers, and its configuration names {}", contents.len()));
    }
    let config = ImageConfig {
        entrypoint: program.entrypoint,
        cmd: program.cmd,
        env: program.env,
        working_dir: program.working_dir,
        user: program.user,
        volumes: program.volumes.into_keys().collect(),
        exposed_ports: program.exposed_ports.into_keys().collect(),
        stop_signal: program.stop_signal,
        shell: program.shell,
        labels: program.labels,
    };
    Ok((config, contents))
}

/// What Go leaves empty it may write as null.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(text: &str) -> String {
        Digest::of(text.as_bytes()).to_string()
    }

    fn parse(value: &serde_json::Value) -> Result<Document, String> {
        Document::parse(value.to_string().as_bytes())
    }

    fn entry(architecture: &str, variant: &str) -> Descriptor {
        let platform = json!({"os": "linux", "architecture": architecture, "variant": variant});
        let digest = digest(&format!("{architecture}{variant}"));
        serde_json::from_value(json!({"digest": digest, "size": 1, "platform": platform})).unwrap()
    }

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest("c"), "size": 2});
        let layer = |kind: &str| json!({"mediaType": kind, "digest": digest("l"), "size": 3});
        for kind in [
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            let image =
                json!({"schemaVersion": 2, "config": config, "layers": [layer(kind)], "annotations": null});
            assert!(matches!(parse(&image), Ok(Document::Manifest(m)) if m.layers.len() == 1), "{kind}");
        }
        let error = |value: serde_json::Value| parse(&value).unwrap_err();
        let tar = layer("application/vnd.oci.image.layer.v1.tar");
        assert!(error(json!({"schemaVersion": 1, "fsLayers": []})).contains("version 1"));
        let wasm = layer("application/vnd.wasm.content.layer.v1+wasm");
        assert!(error(json!({"schemaVersion": 2, "config": config, "layers": [wasm]})).contains("wasm"));
        assert!(
            error(json!({"schemaVersion": 2, "config": config, "layers": vec![tar.clone(); 200]}))
                .contains("200 layers")
        );
        // Neither or both.
        assert!(error(json!({"schemaVersion": 2})).contains("none of an image"));
        let both = json!({"schemaVersion": 2, "config": config, "layers": [tar], "manifests": []});
        assert!(error(both).contains("none of an image"));
        let path = json!({"digest": "sha256:../../x", "size": 1});
        assert!(error(json!({"schemaVersion": 2, "config": path, "layers": []})).contains("cannot be read"));
        assert!(Document::parse(b"[").is_err());
    }

    #[test]
    fn this_platforms_image_is_picked() {
        let here = Platform::of("aarch64");
        let images = [entry("amd64", ""), entry("arm64", "v9"), entry("arm64", "v8"), entry("unknown", "")];
        assert_eq!(here.pick(&images).unwrap().digest, images[2].digest);
        let error = Platform::of("s390x").pick(&images).unwrap_err();
        assert_eq!(
            error,
            "it has no image for linux/s390x, only for: linux/amd64, linux/arm64/v8, linux/arm64/v9, linux/unknown"
        );
        assert!(Platform::of("x86_64").pick(&[entry("amd64", "v3")]).is_err(), "needs a newer processor");
        let silent = serde_json::from_value(json!({"digest": digest("x"), "size": 1})).unwrap();
        assert!(here.pick(&[silent]).is_ok());
        assert!(here.pick(&[]).is_err());
    }

    #[test]
    fn configurations_with_all_and_with_nothing() {
        let full = json!({
            "architecture": "amd64",
            "config": {
                "Entrypoint": ["/e"], "Cmd": null, "Env": ["A=b"], "WorkingDir": "/w", "User": "u:g",
                "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT",
                "Shell": ["/bin/bash", "-c"], "Labels": {"l": "1"}, "OnBuild": [],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest("l")]},
        });
        let (config, contents) = configuration(full.to_string().as_bytes(), 1).unwrap();
        assert_eq!(contents, [Digest::of(b"l")]);
        assert_eq!((config.entrypoint, config.cmd), (vec!["/e".to_owned()], vec![]));
        assert_eq!(
            (config.volumes, config.exposed_ports),
            (vec!["/v".to_owned()], vec!["80/tcp".to_owned()])
        );
        assert_eq!((config.stop_signal.as_str(), config.labels["l"].as_str()), ("SIGQUIT", "1"));
        let bare = json!({"config": null, "rootfs": {"diff_ids": [digest("l")]}});
        assert_eq!(configuration(bare.to_string().as_bytes(), 1).unwrap().0, ImageConfig::default());
        assert!(configuration(bare.to_string().as_bytes(), 2).unwrap_err().contains("2 layers"));
        assert!(configuration(b"{}", 1).is_err());
    }
}
