//! Flags about images that meshos itself runs.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use serde::Deserialize;

use super::{Config, values::GB, values::parse_bytes};
use crate::{Error, images};

/// How often the disk of the image store is looked at where `--image_gc_config` does not say.
const WATCH: Duration = Duration::from_secs(3600);

/// Where images come from and where they are kept.
#[derive(Args, Clone, Debug)]
pub struct ImageConfig {
    /// The registry of images that name none, or a directory of `docker save` archives.
    #[arg(
        long = "docker_registry",
        env = "MESOS_DOCKER_REGISTRY",
        default_value = "https://registry-1.docker.io",
        value_name = "URL|DIR"
    )]
    pub docker_registry: String,
    /// Where unpacked layers are kept, for this agent alone. Absent: `store/docker` in the work directory.
    #[arg(long = "docker_store_dir", env = "MESOS_DOCKER_STORE_DIR", value_name = "DIR")]
    pub docker_store_dir: Option<PathBuf>,
    /// Bytes that an image may be downloaded as, and unpacked to.
    #[arg(long = "docker_image_max_size", env = "MESOS_DOCKER_IMAGE_MAX_SIZE", default_value = "64GB", value_parser = parse_bytes, value_name = "BYTES")]
    pub docker_image_max_size: u64,
    /// When images that nothing uses are removed, as JSON or `file://` and the path of it; absent: when asked to.
    /// `{"image_disk_headroom":0.1,"image_disk_watch_interval":{"nanoseconds":3600000000000},"excluded_images":["nginx"]}`
    #[arg(long = "image_gc_config", env = "MESOS_IMAGE_GC_CONFIG", value_name = "JSON")]
    pub image_gc_config: Option<String>,
    /// How layers become a root file system: `overlay`.
    #[arg(long = "image_provisioner_backend", env = "MESOS_IMAGE_PROVISIONER_BACKEND", value_name = "NAME")]
    pub image_provisioner_backend: Option<String>,
}

impl Default for ImageConfig {
    /// As without any flag.
    fn default() -> Self {
        Self {
            docker_registry: "https://registry-1.docker.io".to_owned(),
            docker_store_dir: None,
            docker_image_max_size: 64 * GB,
            image_gc_config: None,
            image_provisioner_backend: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collection {
    #[serde(default = "headroom")]
    image_disk_headroom: f64,
    image_disk_watch_interval: Option<Nanoseconds>,
    #[serde(default)]
    excluded_images: Vec<Excluded>,
}

#[derive(Deserialize)]
struct Nanoseconds {
    nanoseconds: u64,
}

/// A name, or upstream's `Image` around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Excluded {
    Name(String),
    Image { docker: Docker },
}

#[derive(Deserialize)]
struct Docker {
    name: String,
}

fn headroom() -> f64 {
    0.1
}

impl ImageConfig {
    /// The flags as `/flags` shows them.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = vec![
            ("docker_image_max_size", format!("{}B", self.docker_image_max_size)),
            ("docker_registry", self.docker_registry.clone()),
        ];
        let optional = [
            ("docker_store_dir", self.docker_store_dir.as_ref().map(|dir| dir.display().to_string())),
            ("image_gc_config", self.image_gc_config.clone()),
            ("image_provisioner_backend", self.image_provisioner_backend.clone()),
        ];
        flags.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        flags
    }
}

impl Config {
    /// How images are brought here and kept.
    ///
    /// # Errors
    /// Flags that mean nothing here.
    pub fn image_settings(&self) -> Result<images::Settings, Error> {
        let flags = &self.images;
        if let Some(backend) = flags.image_provisioner_backend.as_deref().filter(|name| *name != "overlay") {
            let reason = format!("there is no '{backend}', only overlay");
            return Err(Error::Flag { flag: "image_provisioner_backend", reason });
        }
        images::check_registry(&flags.docker_registry)
            .map_err(|reason| Error::Flag { flag: "docker_registry", reason })?;
        let dir = flags.docker_store_dir.clone().unwrap_or_else(|| self.work_dir.join("store/docker"));
        Ok(images::Settings {
            dir,
            registry: flags.docker_registry.clone(),
            credentials: self.containers.docker_config.clone(),
            home: std::env::var_os("HOME").map(PathBuf::from),
            stall: self.fetcher_stall_timeout,
            max_size: flags.docker_image_max_size,
            excluded: self
                .collection()?
                .map(|read| read.excluded_images.into_iter().map(Excluded::name).collect())
                .unwrap_or_default(),
        })
    }

    /// When unused images go; none: when they are asked to.
    ///
    /// # Errors
    /// The flag cannot be read.
    pub fn image_collection(&self) -> Result<Option<images::Collection>, Error> {
        Ok(self.collection()?.map(|read| images::Collection {
            headroom: read.image_disk_headroom,
            every: read
                .image_disk_watch_interval
                .map_or(WATCH, |every| Duration::from_nanos(every.nanoseconds)),
        }))
    }

    fn collection(&self) -> Result<Option<Collection>, Error> {
        let Some(text) = &self.images.image_gc_config else { return Ok(None) };
        let failed = |reason: String| Error::Flag { flag: "image_gc_config", reason };
        let path = text.strip_prefix("file://").or_else(|| text.starts_with('/').then_some(text));
        let read = |path| {
            std::fs::read_to_string(path).map_err(|error| failed(format!("cannot read {path}: {error}")))
        };
        let text = path.map_or_else(|| Ok(text.clone()), read)?;
        let read: Collection = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let interval = read.image_disk_watch_interval.as_ref();
        match () {
            () if !(0.0..=1.0).contains(&read.image_disk_headroom) => {
                Err(failed("image_disk_headroom is a part of the disk, between 0 and 1".to_owned()))
            }
            () if interval.is_some_and(|every| every.nanoseconds == 0) => {
                Err(failed("image_disk_watch_interval is longer than nothing".to_owned()))
            }
            () => Ok(Some(read)),
        }
    }
}

impl Excluded {
    fn name(self) -> String {
        match self {
            Self::Name(name) | Self::Image { docker: Docker { name } } => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut ImageConfig)) -> Config {
        let mut config = Config::new(vec![], "/w");
        change(&mut config.images);
        config
    }

    #[test]
    fn the_collection_is_read_as_upstream_writes_it() {
        assert!(config(|_| {}).image_collection().unwrap().is_none());
        let text = r#"{"image_disk_headroom": 0.2, "image_disk_watch_interval": {"nanoseconds": 60000000000},
            "excluded_images": ["nginx", {"type": "DOCKER", "docker": {"name": "a/b:1"}}]}"#;
        let with = |text: &str| config(|flags| flags.image_gc_config = Some(text.to_owned()));
        let read = with(text).image_collection().unwrap().unwrap();
        assert_eq!((read.headroom, read.every), (0.2, Duration::from_secs(60)));
        assert_eq!(with(text).image_settings().unwrap().excluded, ["nginx", "a/b:1"]);
        let default = with("{}").image_collection().unwrap().unwrap();
        assert_eq!((default.headroom, default.every), (0.1, WATCH));
        let never = r#"{"image_disk_watch_interval": {"nanoseconds": 0}}"#;
        for bad in
            ["x", r#"{"image_disk_headroom": 2}"#, r#"{"headroom": 1}"#, "file:///no/such", "/no/such", never]
        {
            let error =
                config(|flags| flags.image_gc_config = Some(bad.to_owned())).image_collection().unwrap_err();
            assert!(error.to_string().contains("--image_gc_config"), "{error}");
        }
    }

    #[test]
    fn settings_that_mean_nothing_stop_the_start() {
        assert_eq!(config(|_| {}).image_settings().unwrap().dir, PathBuf::from("/w/store/docker"));
        let backend = |name: &str| {
            config(|flags| flags.image_provisioner_backend = Some(name.to_owned())).image_settings()
        };
        assert!(
            backend("overlay").is_ok() && backend("aufs").unwrap_err().to_string().contains("only overlay")
        );
        let registry = config(|flags| flags.docker_registry = "ftp://x".to_owned()).image_settings();
        assert!(registry.unwrap_err().to_string().contains("--docker_registry"));
    }
}
