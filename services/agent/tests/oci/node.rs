//! One node: a supervisor, a containerizer, images that lie in directories.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use meshos_agent::{
    containerizer::{
        ContainerSetup, ContainerSpec, Containerizer, ContainerizerError, Ended, Exit, ExitStatus, Limits,
        NetworkStatus, Probe, ProbeOutcome, Recovered, Usage,
        conformance::{ended, shell},
        container::{ImageSetup, Runtime},
        oci::{Images, OciContainerizer, Settings},
        process::{self, CgroupSettings, SupervisorProgram},
    },
    fetcher,
    images::{Image, ImageConfig},
    network,
};
use meshos_mesh::Env;

use crate::PATIENCE;

/// A Debian root file system, unpacked once.
pub(crate) fn debian() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = cache.or(home).ok_or("there is no home directory")?.join("meshos");
    let found = fs::read_dir(&cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut tarballs = found.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("bookworm-slim-") && name.ends_with(".tar.gz")
    });
    let tarball = tarballs.next().ok_or("there is no Debian base (scripts/base-image makes it)")?;
    let root = cache.join("test-rootfs");
    if !root.join("bin/sh").exists() {
        let new = cache.join(format!("test-rootfs-{}", std::process::id()));
        fs::create_dir_all(&new).map_err(|error| error.to_string())?;
        let unpacked = Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(&new).status();
        if !unpacked.is_ok_and(|status| status.success()) {
            return Err(format!("{} cannot be unpacked", tarball.display()));
        }
        if fs::rename(&new, &root).is_err() {
            let _ = fs::remove_dir_all(new);
        }
    }
    Ok(root)
}

/// Why these tests cannot run here.
pub(crate) fn permitted() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    let unshared = Command::new("unshare").args(["-m", "-p", "-f", "-i", "true"]).status();
    if !unshared.is_ok_and(|status| status.success()) {
        return Err("no namespaces can be made".to_owned());
    }
    debian().map(drop)
}

/// The tests have a network of their own: what plugins make goes with it, and nobody else's rules hold.
pub(crate) fn leave_the_machines_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.is_ok_and(|status| status.success()), "ip (iproute2) is needed");
}

/// Images that are directories: `debian`, `echo` with a configuration, and any path as one layer over Debian.
#[derive(Debug)]
struct Directories {
    debian: PathBuf,
}

#[async_trait]
impl Images for Directories {
    async fn provide(&self, image: &ImageSetup, _container_id: &str) -> Result<Image, String> {
        let mut layers = vec![self.debian.clone()];
        let mut config = ImageConfig::default();
        match image.name.as_str() {
            "debian" => {}
            "echo" => {
                config = ImageConfig {
                    entrypoint: ["/bin/sh", "-c", "echo $(pwd) $OWN $0"].map(str::to_owned).to_vec(),
                    env: vec!["OWN=of-image".to_owned()],
                    working_dir: "/somewhere/new".to_owned(),
                    user: "nobody".to_owned(),
                    ..config
                };
            }
            "many" => layers
                .extend((0..120).map(|number| {
                    PathBuf::from(format!("/tmp/meshos-many-{}/{number}", std::process::id()))
                })),
            path if path.starts_with('/') => layers.push(PathBuf::from(path)),
            other => return Err(format!("image '{other}' is not there")),
        }
        Ok(Image { layers, config, ..Image::default() })
    }

    async fn release(&self, _container_id: &str) {}

    async fn retain(&self, _containers: &BTreeSet<String>) {}
}

/// A directory with a supervisor, which ends with it.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    pub(crate) settings: Settings,
    mounts: BTreeSet<String>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        Self { dir, settings, mounts: mounts() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.dir.path().join("sandboxes")
    }

    /// Other users may pass the directories above the sandboxes.
    pub(crate) fn passable(&self) {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.dir.path(), open).unwrap();
    }

    /// Runs `agent` with a containerizer, as an agent process would, and lets it go as if it had been killed.
    pub(crate) fn agent<F: Future<Output = T>, T>(
        &self,
        agent: impl FnOnce(Arc<OciContainerizer>) -> F,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async { agent(open(&self.settings)).await });
        drop(runtime);
        result
    }

    fn supervisor_runs(&self) -> bool {
        let dir = self.settings.process.supervisor_dir.display().to_string();
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&dir) && line.contains("supervisor")
        })
    }
}

pub(crate) fn settings(dir: &Path) -> Settings {
    let supervisor_dir = dir.join("supervisor");
    let program = SupervisorProgram {
        program: std::env::current_exe().unwrap(),
        ..SupervisorProgram::this_program(&supervisor_dir)
    };
    let root = format!("meshos-oci-{}", dir.file_name().unwrap_or_default().to_string_lossy());
    let process = process::Settings {
        supervisor_dir,
        program,
        cgroups: CgroupSettings { max_pids: Some(200), ..CgroupSettings::all(&root) },
        switch_user: true,
        fetcher: fetcher::Settings::below(dir),
    };
    Settings {
        process,
        dir: dir.join("oci"),
        networks: network::Settings {
            dir: dir.join("networks"),
            configs: Some(dir.join("cni")),
            plugins: network::plugin_dirs("/usr/lib/cni:/opt/cni/bin"),
        },
        isolators: Vec::new(),
    }
}

pub(crate) fn open(settings: &Settings) -> Arc<OciContainerizer> {
    let env = Env::in_memory();
    Arc::new(OciContainerizer::open(&env, settings, Arc::new(Directories { debian: debian().unwrap() })))
}

/// Where something is mounted on the machine.
pub(crate) fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        self.agent(async |containerizer| {
            let mut events = containerizer.events();
            for container in containerizer.recover().await.unwrap() {
                let id = &container.container_id;
                if container.exit.is_none() {
                    containerizer.signal(id, 9).await.unwrap();
                    ended(&mut events, id).await;
                }
                containerizer.cleanup(id).await.unwrap();
            }
            containerizer.stop().await;
        });
        wait_until("the supervisor ends", || !self.supervisor_runs());
        let root = &self.settings.process.cgroups.root;
        for controller in ["cpu", "memory", "pids", ""] {
            let dir = Path::new("/sys/fs/cgroup").join(controller).join(root);
            if dir.exists() {
                let empty = fs::remove_dir(&dir);
                assert!(std::thread::panicking() || empty.is_ok(), "{} is not empty", dir.display());
            }
        }
        let left = |name: &str| fs::read_dir(self.dir.path().join(name)).map_or(0, Iterator::count);
        let own = self.dir.path().display().to_string();
        let mounted: Vec<_> =
            mounts().difference(&self.mounts).filter(|path| path.starts_with(&own)).cloned().collect();
        if !std::thread::panicking() {
            assert_eq!((left("oci"), left("networks"), mounted), (0, 0, vec![]), "something is left");
        }
    }
}

/// A container with this image.
pub(crate) fn setup(image: &str) -> ContainerSetup {
    ContainerSetup {
        runtime: Runtime::Oci,
        image: Some(ImageSetup { name: image.to_owned(), ..ImageSetup::default() }),
        sandbox_directory: PathBuf::from("/mnt/mesos/sandbox"),
        ..ContainerSetup::default()
    }
}

/// A shell command in a container with the Debian image.
pub(crate) fn in_image(name: &str, command: &str, dir: &Path) -> ContainerSpec {
    ContainerSpec { container: Some(Box::new(setup("debian"))), ..shell(name, command, dir) }
}

pub(crate) async fn start(containerizer: &OciContainerizer, spec: &ContainerSpec) -> u32 {
    containerizer.prepare(spec).await.unwrap();
    containerizer.launch(spec).await.unwrap()
}

/// Runs a container to its end and cleans up.
pub(crate) async fn run(containerizer: &OciContainerizer, spec: &ContainerSpec) -> Exit {
    let mut events = containerizer.events();
    start(containerizer, spec).await;
    let exit = ended(&mut events, &spec.container_id).await;
    containerizer.cleanup(&spec.container_id).await.unwrap();
    exit
}

pub(crate) fn code(code: i32) -> Exit {
    Exit { status: ExitStatus::Code(code), out_of_memory: false }
}

pub(crate) fn output(spec: &ContainerSpec, file: &str) -> String {
    fs::read_to_string(spec.sandbox.join(file)).unwrap_or_default()
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Puts every container into the same setup, so that the suite of all containerizers runs in it.
#[derive(Debug)]
pub(crate) struct Wrapped {
    pub(crate) containerizer: Arc<OciContainerizer>,
    pub(crate) setup: ContainerSetup,
}

impl Wrapped {
    fn wrap(&self, spec: &ContainerSpec) -> ContainerSpec {
        ContainerSpec { container: Some(Box::new(self.setup.clone())), ..spec.clone() }
    }
}

#[async_trait]
impl Containerizer for Wrapped {
    fn events(&self) -> BoxStream<'static, Ended> {
        self.containerizer.events()
    }

    async fn recover(&self) -> Result<Vec<Recovered>, ContainerizerError> {
        self.containerizer.recover().await
    }

    async fn prepare(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.containerizer.prepare(&self.wrap(spec)).await
    }

    async fn fetch(&self, spec: &ContainerSpec) -> Result<(), ContainerizerError> {
        self.containerizer.fetch(&self.wrap(spec)).await
    }

    async fn launch(&self, spec: &ContainerSpec) -> Result<u32, ContainerizerError> {
        self.containerizer.launch(&self.wrap(spec)).await
    }

    async fn resize(&self, container_id: &str, limits: &Limits) -> Result<(), ContainerizerError> {
        self.containerizer.resize(container_id, limits).await
    }

    async fn signal(&self, container_id: &str, signal: i32) -> Result<(), ContainerizerError> {
        self.containerizer.signal(container_id, signal).await
    }

    async fn probe(&self, probe: &Probe) -> ProbeOutcome {
        self.containerizer.probe(probe).await
    }

    async fn cleanup(&self, container_id: &str) -> Result<(), ContainerizerError> {
        self.containerizer.cleanup(container_id).await
    }

    async fn usage(&self, container_id: &str, pid: u32) -> Option<Usage> {
        self.containerizer.usage(container_id, pid).await
    }

    async fn network(&self, container_id: &str) -> NetworkStatus {
        self.containerizer.network(container_id).await
    }

    async fn stop(&self) {
        self.containerizer.stop().await;
    }
}
