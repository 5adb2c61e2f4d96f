//! Builds the parts and spawns the loop.

use std::{path::Path, time::Duration};

use meshos_mesh::{Env, serve};
use meshos_proto::meshos::lb::v1::lb_controller_server::LbControllerServer;
use meshos_store::SharedStore;
use tokio::{sync::mpsc, time::timeout};
use tonic::service::Routes;
use tracing::info;

use crate::{config::Config, driver::Driver, error::Error, follower, grpc::Grpc, http, marathon, sysctl};

/// Calls that wait for the loop.
const COMMANDS: usize = 64;
/// Where Debian's package puts it.
const HIDDEN: &str = "/usr/sbin/haproxy";
/// `haproxy -v` answers at once.
const VERSION: Duration = Duration::from_secs(10);

/// Where apps are known from.
enum Apps {
    /// An API, over HTTP.
    Marathon(Box<marathon::client::Client>),
    /// The leading app-scheduler that the store names.
    Store(SharedStore),
}

/// A running controller.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Address of its gRPC server.
    pub address: String,
}

/// Starts a controller; it runs until the environment's tasks stop. Without a store it follows the Marathon that the
/// settings name.
///
/// # Errors
/// When there is nothing to follow, the address cannot be bound, HAProxy is not there, or its directory cannot be used.
pub async fn start(env: &Env, store: Option<SharedStore>, mut config: Config) -> Result<Handle, Error> {
    let source = match (config.args.marathon_access()?, store) {
        (Some(access), _) => {
            Apps::Marathon(Box::new(marathon::client::Client::new(&access).map_err(Error::Marathon)?))
        }
        (None, Some(store)) => Apps::Store(store),
        (None, None) => return Err(Error::Marathon("name its address with --marathon".to_owned())),
    };
    sysctl::apply(&config.haproxy_variables, Path::new("/proc/sys"))?;
    let listener = env.transport.bind(&config.listen).await?;
    config.args.haproxy_binary = look_for(&config.args.haproxy_binary).await?;
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let grpc = Grpc { commands };
    let server = LbControllerServer::new(grpc.clone());
    let serving = serve(env, "lb-controller", listener, Routes::new(server)).await;
    let address = serving.address.clone();
    let driver = Driver::new(env, config, serving, receiver).await?;
    http::spawn(env, driver.files(), driver.identity(), grpc);
    let (events, again) = match source {
        Apps::Marathon(client) => marathon::spawn(env, *client),
        Apps::Store(store) => follower::spawn(env, &store),
    };
    info!(address, "serving");
    env.tasks.spawn_graceful("lb-driver", driver.run(events, again));
    Ok(Handle { address })
}

/// The program to run. Debian has it where only root's shells look.
async fn look_for(wanted: &str) -> Result<String, Error> {
    let hidden = Path::new(HIDDEN);
    let found = wanted.contains('/')
        || std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|dir| dir.join(wanted).is_file());
    let binary = if !found && wanted == "haproxy" && hidden.is_file() { HIDDEN } else { wanted };
    let error = |source| Error::Binary { binary: binary.to_owned(), source };
    let run = tokio::process::Command::new(binary).arg("-v").kill_on_drop(true).output();
    let output = timeout(VERSION, run).await.map_err(|_| error(std::io::ErrorKind::TimedOut.into()))?;
    let output = output.map_err(error)?;
    let said = String::from_utf8_lossy(&output.stdout);
    info!(version = said.lines().next().unwrap_or_default(), "found HAProxy");
    Ok(binary.to_owned())
}
