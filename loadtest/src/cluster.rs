//! Real control services, each a process of its own, on a real etcd.

mod usage;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use meshos_mesh::{Env, LeaderInfo, follow_instances, follow_leader, transport};
use meshos_store::SharedStore;
use meshos_testing::{Http, ports::free_ports};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

pub(crate) use usage::Sample;

/// A service that does not serve by then never will.
const START: Duration = Duration::from_secs(60);

/// A process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// etcd, a registry, two allocators, a gateway.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) gateway: Http,
    /// Marathon's API.
    pub(crate) marathon: Http,
    /// `host:port` of the registry.
    pub(crate) registry: String,
    pub(crate) leader: watch::Receiver<Option<LeaderInfo>>,
    processes: Vec<Process>,
    binary: PathBuf,
    store: String,
    dir: PathBuf,
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Where logs and data of the services are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts everything, and waits until an allocator leads and the gateway serves.
    pub(crate) async fn start(binary: &Path, keep: Option<&Path>) -> anyhow::Result<Self> {
        let (dir, temporary) = match keep {
            Some(keep) => {
                std::fs::create_dir_all(keep)?;
                (tempfile::tempdir_in(keep)?.keep(), None)
            }
            None => {
                let temporary = tempfile::tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let ports = free_ports(4)?;
        let [client, peer, mesos, marathon] =
            &*ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>()
        else {
            bail!("no ports");
        };
        let etcd = start_etcd(&dir, client, peer)?;
        let env = Env::real(transport::tcp());
        let url = format!("etcd://{client}");
        let store = Arc::clone(&meshos_store::open(&url).await?.store);
        reachable(&store).await?;
        let mut cluster = Self {
            leader: follow_leader(&env, &store, "allocator"),
            gateway: Http::new(mesos.clone()),
            marathon: Http::new(marathon.clone()),
            registry: String::new(),
            processes: vec![etcd],
            binary: binary.to_owned(),
            store: url,
            dir,
            _temporary: temporary,
            env,
        };
        cluster.service("registry", &[])?;
        cluster.service("allocator-0", &[])?;
        cluster.service("allocator-1", &[])?;
        cluster.service("gateway", &["--mesos-listen", mesos, "--marathon-listen", marathon])?;
        let mut registries = follow_instances(&cluster.env, &store, "registry");
        let listed = timeout(START, registries.wait_for(|listed| !listed.is_empty())).await;
        cluster.registry = listed.context("no registry")??.first().context("registry")?.address.clone();
        cluster.led_after(0).await?;
        cluster.serves().await?;
        Ok(cluster)
    }

    /// Starts `meshos <name without its number>`.
    pub(crate) fn service(&mut self, name: &str, more: &[&str]) -> anyhow::Result<()> {
        let log = File::create(self.dir.join(format!("{name}.log")))?;
        let kind = name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
        // A new life of a killed one has a name of its own.
        let instance = format!("{name}-{}", self.env.rng.uuid());
        let child = Command::new(&self.binary)
            .args([kind, "--store", &self.store, "--instance", &instance])
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.binary.display()))?;
        self.processes.push(Process { name: instance, child });
        Ok(())
    }

    /// Who leads another service.
    pub(crate) async fn follow(
        &self,
        service: &'static str,
    ) -> anyhow::Result<watch::Receiver<Option<LeaderInfo>>> {
        let store = Arc::clone(&meshos_store::open(&self.store).await?.store);
        Ok(follow_leader(&self.env, &store, service))
    }

    /// The first leader with a newer epoch.
    pub(crate) async fn led_after(&self, epoch: u64) -> anyhow::Result<LeaderInfo> {
        let mut leader = self.leader.clone();
        let newer = leader.wait_for(|leader| leader.as_ref().is_some_and(|leader| leader.epoch > epoch));
        let leader = timeout(START, newer).await.context("no allocator leads")??;
        leader.clone().context("a leader")
    }

    /// Kills the leading allocator; its epoch.
    pub(crate) fn kill_leader(&mut self) -> anyhow::Result<u64> {
        let leader = self.leader.borrow().clone().context("nobody leads")?;
        self.kill(&leader.instance)?;
        Ok(leader.epoch)
    }

    /// Kills the first process whose name begins like this.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let at = self.processes.iter().position(|process| process.name.starts_with(name));
        let mut process = self.processes.remove(at.with_context(|| format!("no process {name} of ours"))?);
        process.kill();
        Ok(())
    }

    /// CPU time and memory of all services.
    pub(crate) fn usage(&self) -> Sample {
        Sample::of(self.processes.iter().map(|process| (process.name.as_str(), process.pid())))
    }

    /// Keys that were written and deleted since etcd started.
    pub(crate) async fn writes(&self) -> anyhow::Result<u64> {
        let etcd = Http::new(self.store.trim_start_matches("etcd://"));
        let answer = tokio::task::spawn_blocking(move || etcd.get("/metrics")).await??;
        let text = answer.text();
        let count = |name: &str| -> Option<f64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let (puts, deletes) = (count("etcd_mvcc_put_total "), count("etcd_mvcc_delete_total "));
        let sum = puts.context("etcd counts no puts")? + deletes.context("etcd counts no deletes")?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Ok(sum as u64)
    }

    /// A number of the metrics under Mesos's names.
    pub(crate) async fn metric(&self, name: &'static str) -> anyhow::Result<f64> {
        let gateway = self.gateway.clone();
        let answer = tokio::task::spawn_blocking(move || gateway.get("/metrics/snapshot")).await??;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
        answer[name].as_f64().with_context(|| format!("no {name} in /metrics/snapshot: {answer}"))
    }

    /// Waits until a metric has the value, and says how long that took.
    pub(crate) async fn until_metric(&self, name: &'static str, wanted: u64) -> anyhow::Result<Duration> {
        let started = Instant::now();
        loop {
            let found = self.metric(name).await;
            #[allow(clippy::cast_precision_loss)]
            if found.as_ref().is_ok_and(|found| *found == wanted as f64) {
                return Ok(started.elapsed());
            }
            if started.elapsed() > START {
                bail!("{name} is {found:?}, not {wanted}, after {START:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn serves(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.metric("master/elected").await.is_err() {
            if started.elapsed() > START {
                bail!("the gateway does not serve");
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn start_etcd(dir: &Path, client: &str, peer: &str) -> anyhow::Result<Process> {
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.join("etcd"))
        .args(["--name", "load", "--log-level", "error", "--initial-cluster", &format!("load={peer}")])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("etcd cannot be started; is the package etcd-server installed?")?;
    Ok(Process { name: "etcd".to_owned(), child })
}

async fn reachable(store: &SharedStore) -> anyhow::Result<()> {
    let started = Instant::now();
    while let Err(error) = store.get("ready").await {
        if started.elapsed() > START {
            return Err(error).context("etcd does not answer");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
