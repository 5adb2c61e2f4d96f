//! What makes a process a service of the mesh: an environment (clock, randomness, network, tasks, metrics)
//! that is handed in and never global, so that many services, and many clusters, live in one process, also in
//! simulated time; and on top of it gRPC servers and channels, leader election, discovery, feeds of snapshots
//! and changes, telemetry and shutdown.

pub mod backoff;
pub mod calls;
pub mod channel;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod env;
pub mod feed;
pub mod leader;
pub mod logging;
pub mod metrics;
pub mod rng;
pub mod server;
pub mod tasks;
pub mod telemetry;
pub mod trace;
pub mod transport;
mod unverified;

pub use backoff::Backoff;
pub use calls::{Answer, Calls, NotSent};
pub use channel::{MAX_MESSAGE_BYTES, MeshChannel, connect};
pub use clock::Clock;
pub use discovery::{InstanceInfo, LeaderInfo, follow_instances, follow_leader, register_instance};
pub use env::Env;
pub use feed::{Feed, FeedStream};
pub use leader::{Candidate, Leadership, Role};
pub use logging::LoggingLevel;
pub use metrics::Metrics;
pub use rng::Rng;
pub use server::{Serving, serve};
pub use tasks::Tasks;
pub use transport::{Listener, SharedTransport, Transport, TransportError};
pub use unverified::unverified_tls;
