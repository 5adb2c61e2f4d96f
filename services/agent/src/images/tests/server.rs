//! A registry that says whatever a test wants, also what no real one would.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::images::digest::Digest;

/// What is answered under a path.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Whole(Vec<u8>),
    Status(u16, String),
    /// Breaks off after so many bytes; goes on where it is asked to.
    Breaking(Vec<u8>, usize),
    /// Breaks off once, and always begins anew.
    Forgetful(Vec<u8>, usize),
    /// Sends half of it, and the rest when it is let go.
    Waiting(Vec<u8>),
    /// Never ends.
    Endless,
}

#[derive(Debug, Default)]
struct Shelf {
    answers: BTreeMap<String, Answer>,
    /// What must be in the Authorization header, but for paths that begin with `/token`.
    wanted: Option<String>,
    /// What is said to who does not have it.
    challenge: String,
    /// Method, path, range and who asked.
    asked: Vec<Request>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) range: Option<usize>,
    pub(super) authorization: Option<String>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
    go: watch::Sender<bool>,
}

impl Server {
    #[allow(clippy::disallowed_methods, reason = "a test's own server")]
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shelf) = (listener.local_addr().unwrap(), Arc::<Mutex<Shelf>>::default());
        let (go, waiting) = watch::channel(false);
        let shared = Arc::clone(&shelf);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), waiting.clone()));
            }
        });
        Self { address, shelf, go }
    }

    pub(super) fn answer(&self, path: &str, answer: Answer) {
        self.shelf.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    pub(super) fn want(&self, authorization: &str, challenge: &str) {
        let mut shelf = self.shelf.lock().unwrap();
        (shelf.wanted, shelf.challenge) = (Some(authorization.to_owned()), challenge.to_owned());
    }

    pub(super) fn let_go(&self) {
        self.go.send_replace(true);
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.shelf.lock().unwrap().asked)
    }

    /// How often a path that contains a text was asked for.
    pub(super) fn count(&self, text: &str) -> usize {
        self.shelf.lock().unwrap().asked.iter().filter(|request| request.path.contains(text)).count()
    }

    /// Puts a blob in; its digest.
    pub(super) fn blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        self.answer(&format!("/v2/{repository}/blobs/{digest}"), Answer::Whole(bytes.to_vec()));
        digest
    }

    pub(super) fn manifest(&self, repository: &str, reference: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes).to_string();
        for reference in [reference, &digest] {
            self.answer(&format!("/v2/{repository}/manifests/{reference}"), Answer::Whole(bytes.clone()));
        }
        digest
    }

    /// Puts an image of these layers in; its digest.
    pub(super) fn image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        let contents: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        self.image_as(repository, tag, (layers, &contents))
    }

    /// The same with digests of the contents that may be wrong.
    pub(super) fn image_as(
        &self,
        repository: &str,
        tag: &str,
        (layers, contents): (&[Vec<u8>], &[String]),
    ) -> String {
        let config =
            json!({"config": {"Cmd": [repository]}, "rootfs": {"type": "layers", "diff_ids": contents}});
        let config = config.to_string().into_bytes();
        let layers = layers.iter().map(|layer| {
            let digest = self.blob(repository, layer);
            json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer.len(), "digest": digest})
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "layers": layers.collect::<Vec<_>>(),
            "config": {"mediaType": "x", "size": config.len(), "digest": self.blob(repository, &config)},
        });
        self.manifest(repository, tag, &manifest)
    }
}

async fn serve(mut stream: TcpStream, shelf: Arc<Mutex<Shelf>>, mut go: watch::Receiver<bool>) {
    let mut head = vec![0; 16 * 1024];
    let count = stream.read(&mut head).await.unwrap_or_default();
    let Some(request) = parse(&String::from_utf8_lossy(&head[..count])) else { return };
    let answer = find(&mut shelf.lock().unwrap(), &request);
    let forgets = matches!(answer, Answer::Forgetful(..));
    let (body, cut) = match answer {
        Answer::Status(code, headers) => {
            let _ = stream
                .write_all(format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\n{headers}\r\n").as_bytes())
                .await;
            return;
        }
        Answer::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b' '; 65536]).await.is_ok() {}
            return;
        }
        Answer::Waiting(body) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let (now, later) = body.split_at(body.len() / 2);
            let _ = stream.write_all(now).await;
            let _ = go.wait_for(|go| *go).await;
            let _ = stream.write_all(later).await;
            return;
        }
        Answer::Whole(body) => (body, usize::MAX),
        Answer::Breaking(body, cut) | Answer::Forgetful(body, cut) => (body, cut),
    };
    let asked = request.range.filter(|_| !forgets);
    let from = asked.unwrap_or_default().min(body.len());
    let (status, range) = match asked {
        Some(_) => ("206", format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len())),
        None => ("200", String::new()),
    };
    let body = &body[from..];
    let head = format!("HTTP/1.1 {status} X\r\n{range}Content-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body[..cut.min(body.len())]).await;
    let _ = stream.shutdown().await;
}

fn find(shelf: &mut Shelf, request: &Request) -> Answer {
    shelf.asked.push(request.clone());
    let path = request.path.split('?').next().unwrap_or_default();
    if !path.starts_with("/token") && shelf.wanted.is_some() && shelf.wanted != request.authorization {
        return Answer::Status(401, format!("WWW-Authenticate: {}\r\n", shelf.challenge));
    }
    match shelf.answers.get_mut(path) {
        Some(Answer::Forgetful(body, cut)) => {
            let (body, cut) = (body.clone(), std::mem::replace(cut, usize::MAX));
            Answer::Forgetful(body, cut)
        }
        Some(answer) => answer.clone(),
        None => Answer::Status(404, String::new()),
    }
}

fn parse(head: &str) -> Option<Request> {
    let mut lines = head.lines();
    let path = lines.next()?.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let mut request = Request { path, ..Request::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}
