//! Tasks that answer, and say what they were asked.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use meshos_mesh::Env;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};

/// A task: answers its name, a colon, the path, and the headers it got.
#[derive(Clone)]
pub(crate) struct TaskServer {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Requests so far.
    pub(crate) hits: Arc<AtomicUsize>,
    /// Requests under way.
    pub(crate) busy: Arc<AtomicUsize>,
    /// Never has permits: closed, it lets requests of `?hold` go.
    held: Arc<Semaphore>,
}

impl TaskServer {
    pub(crate) async fn start(env: &Env, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            name: name.to_owned(),
            port: listener.local_addr().unwrap().port(),
            hits: Arc::default(),
            busy: Arc::default(),
            held: Arc::new(Semaphore::new(0)),
        };
        let (this, scope) = (server.clone(), env.clone());
        env.tasks.spawn("task", async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let this = this.clone();
                scope.tasks.spawn("task-connection", async move {
                    let service = service_fn(|request| this.answer(request));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        server
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// Answers the requests of `?hold`.
    pub(crate) fn release(&self) {
        self.held.close();
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::SeqCst);
        let uri = request.uri().clone();
        if request.headers().contains_key("upgrade") {
            return Ok(self.echo(&mut request));
        }
        if uri.query() == Some("hold") {
            let _closed = self.held.acquire().await;
        }
        let mut text = format!("{}:{}\n", self.name, uri.path());
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or_default()));
        }
        let mut response = Response::new(Full::new(Bytes::from(text)));
        if let Some(to) = uri.query().and_then(|query| query.strip_prefix("to=")) {
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert("location", to.parse().unwrap());
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
        Ok(response)
    }

    /// Says back what it hears; good enough for a websocket that carries anything.
    fn echo(&self, request: &mut Request<Incoming>) -> Response<Full<Bytes>> {
        let upgrade = hyper::upgrade::on(request);
        #[allow(clippy::disallowed_methods, reason = "ends with its connection")]
        tokio::spawn(async move {
            let Ok(stream) = upgrade.await else { return };
            let mut stream = TokioIo::new(stream);
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        // HAProxy checks it; every test has the key of RFC 6455's example.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap();
        response.headers_mut().insert("sec-websocket-accept", accept);
        response
    }
}

/// A task without HTTP: says back in upper case what it hears.
pub(crate) async fn tcp_echo(env: &Env) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let scope = env.clone();
    env.tasks.spawn("echo", async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            scope.tasks.spawn("echo-connection", async move {
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count].to_ascii_uppercase()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
