//! The old endpoints on the admin port. HAProxy passes them on over a Unix socket.

use std::{
    convert::Infallible,
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use meshos_mesh::Env;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tracing::{debug, error};

use crate::{
    core::{render::Identity, rules::Map},
    grpc::{Command, Grpc},
    haproxy::{files::Files, socket},
};

/// How often, and after which pause, a master is asked again.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// Requests that are answered at once.
const MOST: usize = 64;

type Answer = Response<Full<Bytes>>;

/// Serves on the controller's socket until the tasks stop. HAProxy's workers, who are somebody else where `owner` says
/// so, are to reach it.
pub(crate) fn spawn(env: &Env, files: &Files, owner: Option<Identity>, grpc: Grpc) {
    let path = files.controller_socket();
    // Of a controller that is no more.
    let _ = fs::remove_file(&path);
    let bound = UnixListener::bind(&path).and_then(|listener| give(&path, owner).map(|()| listener));
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            error!(path = %path.display(), %error, "admin endpoints cannot be served");
            return;
        }
    };
    let endpoints = Arc::new(Endpoints { env: env.clone(), files: files.clone(), grpc });
    let scope = env.clone();
    let room = Arc::new(Semaphore::new(MOST));
    env.tasks.spawn("lb-admin", async move {
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else { continue };
            let endpoints = Arc::clone(&endpoints);
            scope.tasks.spawn("lb-admin-connection", async move {
                let _place = place;
                let service = service_fn(|request| answer(Arc::clone(&endpoints), request));
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                if let Err(error) = served.await {
                    debug!(%error, "admin connection ended");
                }
            });
        }
    });
}

fn give(socket: &Path, owner: Option<Identity>) -> io::Result<()> {
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    owner.map_or(Ok(()), |owner| chown(socket, Some(owner.uid), Some(owner.gid)))
}

struct Endpoints {
    env: Env,
    files: Files,
    grpc: Grpc,
}

async fn answer(endpoints: Arc<Endpoints>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let text = match path.as_str() {
        "/_haproxy_getconfig" => endpoints.configuration(),
        "/_haproxy_getvhostmap" => endpoints.hosts(),
        "/_haproxy_getappmap" => fs::read_to_string(endpoints.files.map(Map::Apps)).ok(),
        "/_haproxy_getpids" => endpoints.pids().await,
        "/_mlb_signal/hup" => endpoints.grpc.ask(Command::Resync).await.ok().map(|()| done("SIGHUP")),
        "/_mlb_signal/usr1" => endpoints.grpc.ask(Command::Reload).await.ok().map(|()| done("SIGUSR1")),
        "/_lb/metrics" => Some(endpoints.env.metrics.render()),
        "/_lb/status" => endpoints.status(request.uri().query().unwrap_or_default()).await,
        _ => return Ok(plain(StatusCode::NOT_FOUND, "no such endpoint\n".to_owned())),
    };
    Ok(match text {
        Some(text) => plain(StatusCode::OK, text),
        None => plain(StatusCode::INTERNAL_SERVER_ERROR, "not available now\n".to_owned()),
    })
}

fn done(signal: &str) -> String {
    format!("Sent {signal} signal to the load balancer's controller")
}

fn plain(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    answer
}

impl Endpoints {
    fn configuration(&self) -> Option<String> {
        let mut text = fs::read_to_string(self.files.head()).ok()?;
        for (unit, part) in self.files.read_units().ok()? {
            text.push_str(&format!("\n# {unit}\n{part}"));
        }
        Some(text)
    }

    /// As marathon-lb writes it: host and backend, of hosts without paths.
    fn hosts(&self) -> Option<String> {
        let entries = self.files.read_map(Map::Paths).ok()?;
        let hosts = entries.iter().filter_map(|(key, backend)| {
            Some(format!("{} {backend}\n", key.strip_suffix('/').filter(|host| !host.contains('/'))?))
        });
        Some(hosts.collect())
    }

    async fn pids(&self) -> Option<String> {
        // During a reload the master does not answer for a moment.
        let mut found = socket::Processes::default();
        for _ in 0..TRIES {
            let answer = socket::ask(&self.files.master_socket(), "show proc; quit").await;
            found = socket::processes(&answer.unwrap_or_default());
            if found.worker != 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if found.worker == 0 {
            return None;
        }
        let mut pids = vec![found.master, found.worker];
        pids.extend(found.old_workers);
        Some(pids.iter().filter(|pid| **pid != 0).map(u32::to_string).collect::<Vec<_>>().join(" "))
    }

    async fn status(&self, query: &str) -> Option<String> {
        let app_id = query.strip_prefix("app=").unwrap_or_default().replace("%2F", "/");
        let status = self.grpc.ask(|answer| Command::Status(app_id, answer)).await.ok()?;
        Some(format!("{:#}\n", crate::driver::status_json(&status)))
    }
}
