//! A cluster of allocators, with frameworks and agents that tests drive by hand.

mod peers;
mod registry;

use std::{sync::Arc, time::Duration};

use meshos_allocator::{AllocatorArgs, Config, Handle};
use meshos_mesh::{Env, MeshChannel, connect, follow_leader};
use meshos_proto::{
    meshos::allocator::v1::{Reregister, operator_client::OperatorClient},
    mesos::v1::{self as pb, TaskState},
};
use meshos_store::{Embedded, SharedStore};

pub(crate) use peers::{Agent, Framework, call_with, encoded};
pub(crate) use registry::FakeRegistry;

/// No wait takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Replicas over one store and one registry.
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) registry: FakeRegistry,
    store: SharedStore,
    replicas: Vec<(Env, Handle)>,
}

impl Cluster {
    pub(crate) async fn start(replicas: usize) -> Self {
        let env = Env::in_memory();
        let embedded = Embedded::in_memory();
        env.tasks.spawn("leases", embedded.run_leases());
        let store: SharedStore = Arc::new(embedded);
        let registry = FakeRegistry::start(&env, &store).await;
        let mut cluster = Self { env, registry, store, replicas: Vec::new() };
        for number in 0..replicas {
            let config = Config {
                listen: format!("allocator-{number}"),
                advertise: None,
                instance: format!("allocator-{number}"),
                lease_ttl: Duration::from_secs(2),
                args: AllocatorArgs::default(),
            };
            let env = cluster.env.child();
            let handle = meshos_allocator::start(&env, Arc::clone(&cluster.store), config).await.unwrap();
            cluster.replicas.push((env, handle));
        }
        cluster
    }

    /// The replica that leads, once one does.
    pub(crate) async fn leader(&self) -> Handle {
        let mut leader = follow_leader(&self.env, &self.store, "allocator");
        let leads = async {
            loop {
                let address = leader.borrow_and_update().as_ref().map(|leader| leader.address.clone());
                let replica =
                    self.replicas.iter().find(|(_, handle)| Some(&handle.address) == address.as_ref());
                if let Some((_, handle)) = replica {
                    handle.leading().await;
                    return handle.clone();
                }
                leader.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, leads).await.unwrap()
    }

    pub(crate) async fn standby_address(&self) -> String {
        let leader = self.leader().await.address;
        self.replicas
            .iter()
            .map(|(_, handle)| handle.address.clone())
            .find(|address| *address != leader)
            .unwrap()
    }

    pub(crate) async fn channel(&self) -> MeshChannel {
        connect(&self.env, &self.leader().await.address)
    }

    pub(crate) async fn operator(&self) -> OperatorClient<MeshChannel> {
        OperatorClient::new(self.channel().await)
    }

    pub(crate) async fn kill_leader(&mut self) {
        let leader = self.leader().await.address;
        let at = self.replicas.iter().position(|(_, handle)| handle.address == leader).unwrap();
        let (env, _) = self.replicas.remove(at);
        assert!(env.tasks.shutdown(PATIENCE).await, "the leader does not stop");
    }

    pub(crate) async fn stop(self) {
        for (env, _) in &self.replicas {
            assert!(env.tasks.shutdown(PATIENCE).await, "a replica does not stop");
        }
        assert!(self.env.tasks.shutdown(PATIENCE).await, "the cluster does not stop");
    }
}

pub(crate) fn report(agent: &str, tasks: Vec<pb::Task>) -> Reregister {
    let info = pb::AgentInfo {
        hostname: agent.to_owned(),
        id: Some(pb::AgentId { value: agent.to_owned() }),
        resources: vec![scalar("cpus", 4.0), scalar("mem", 1024.0)],
        ..pb::AgentInfo::default()
    };
    Reregister { agent: Some(info), endpoint: format!("{agent}:5051"), tasks, ..Reregister::default() }
}

pub(crate) fn scalar(name: &str, value: f64) -> pb::Resource {
    pb::Resource {
        name: name.to_owned(),
        r#type: pb::value::Type::Scalar.into(),
        scalar: Some(pb::value::Scalar { value }),
        ..pb::Resource::default()
    }
}

pub(crate) fn task(id: &str, agent: &str) -> pb::TaskInfo {
    pb::TaskInfo {
        name: id.to_owned(),
        task_id: pb::TaskId { value: id.to_owned() },
        agent_id: pb::AgentId { value: agent.to_owned() },
        resources: vec![scalar("cpus", 1.0)],
        command: Some(pb::CommandInfo { value: Some("true".to_owned()), ..pb::CommandInfo::default() }),
        ..pb::TaskInfo::default()
    }
}

pub(crate) fn status(task: &str, agent: &str, state: TaskState) -> pb::TaskStatus {
    pb::TaskStatus {
        task_id: pb::TaskId { value: task.to_owned() },
        state: state.into(),
        agent_id: Some(pb::AgentId { value: agent.to_owned() }),
        uuid: Some(vec![7; 16].into()),
        ..pb::TaskStatus::default()
    }
}
