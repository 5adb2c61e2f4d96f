use std::{os::unix::fs::PermissionsExt, sync::atomic::AtomicUsize};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

use super::*;

/// A web server of a few files.
struct Server {
    address: String,
    /// Requests that came.
    asked: Arc<AtomicUsize>,
    /// `/slow` ends when this is notified.
    go: Arc<Notify>,
}

impl Server {
    #[allow(clippy::disallowed_methods, reason = "a test's own server")]
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, asked: Arc::default(), go: Arc::default() };
        let (asked, go) = (Arc::clone(&server.asked), Arc::clone(&server.go));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let count = stream.read(&mut request).await.unwrap_or_default();
                    let request = String::from_utf8_lossy(&request[..count]).into_owned();
                    asked.fetch_add(1, Ordering::Relaxed);
                    let (head, body) = answer(&request);
                    let _ = stream.write_all(head.as_bytes()).await;
                    if request.contains("/slow") {
                        go.notified().await;
                    }
                    let _ = stream.write_all(&body).await;
                });
            }
        });
        server
    }

    fn uri(&self, path: &str) -> FetchUri {
        FetchUri { value: format!("{}/{path}", self.address), extract: true, ..FetchUri::default() }
    }
}

fn answer(request: &str) -> (String, Vec<u8>) {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let ok = |body: Vec<u8>| (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()), body);
    match path.split('?').next().unwrap_or_default() {
        "/hello" | "/slow" => ok(b"hello".to_vec()),
        "/app.tar" => ok(tar_of(&[("bin/run", b"#!/bin/sh\n")])),
        "/moved" => {
            ("HTTP/1.1 302 Found\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n".to_owned(), vec![])
        }
        "/loop" => ("HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n".to_owned(), vec![]),
        "/file" => (
            "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n".to_owned(),
            vec![],
        ),
        "/cut" => ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_owned(), b"short".to_vec()),
        "/endless" => ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), b"no length".to_vec()),
        "/mine"
            if request.contains("uthorization: Basic bWU6c2VjcmV0")
                || request.contains("uthorization: Basic bWU6c2VjcmV0") =>
        {
            ok(b"mine".to_vec())
        }
        _ => ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), vec![]),
    }
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

struct Scene {
    dir: tempfile::TempDir,
    fetcher: Fetcher,
    server: Server,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            cache_dir: dir.path().join("cache"),
            cache_size: 8,
            stall: Duration::from_secs(20),
            frameworks_home: Some(dir.path().to_owned()),
        };
        Self { fetcher: Fetcher::new(settings), server: Server::start().await, dir }
    }

    fn sandbox(&self, name: &str) -> PathBuf {
        let sandbox = self.dir.path().join(name);
        std::fs::create_dir_all(&sandbox).unwrap();
        std::fs::write(sandbox.join("stderr"), "").unwrap();
        sandbox
    }

    async fn fetch(&self, name: &str, uri: FetchUri) -> Result<(), String> {
        let sandbox = self.sandbox(name);
        self.fetcher.fetch(Order { uris: vec![uri], sandbox, user: None }).await
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

#[tokio::test]
async fn files_come_from_the_web() {
    let scene = Scene::new().await;
    let uri = |path: &str| scene.server.uri(path);
    scene.fetch("s", uri("hello")).await.unwrap();
    scene
        .fetch("s", FetchUri { executable: true, output_file: Some("bin/x".into()), ..uri("moved") })
        .await
        .unwrap();
    scene.fetch("s", uri("app.tar")).await.unwrap();
    assert_eq!((scene.read("s/hello").as_str(), scene.read("s/bin/x").as_str()), ("hello", "hello"));
    let mode =
        |path: &str| std::fs::metadata(scene.dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("s/hello"), mode("s/bin/x"), mode("s/bin/run")), (0o644, 0o755, 0o755));
    assert!(scene.dir.path().join("s/app.tar").exists(), "the archive is kept beside what was in it");
    scene.fetch("raw", FetchUri { extract: false, ..uri("app.tar") }).await.unwrap();
    assert!(!scene.dir.path().join("raw/bin").exists());
    let with_password = FetchUri { value: uri("mine").value.replace("//", "//me:secret@"), ..uri("mine") };
    scene.fetch("s", with_password).await.unwrap();
    assert_eq!(scene.read("s/mine"), "mine");
    let log = scene.read("s/stderr");
    assert!(log.contains("/mine'") && !log.contains("secret"), "{log}");
}

#[tokio::test]
async fn what_goes_wrong_is_told() {
    let scene = Scene::new().await;
    for (path, reason) in [
        ("nothing", "the server answered 404 Not Found"),
        ("loop", "more than 20 redirects"),
        ("file", "redirects to 'file:///etc/passwd'"),
        ("cut", "the download broke off"),
    ] {
        let error = scene.fetch("s", scene.server.uri(path)).await.unwrap_err();
        assert!(error.starts_with("Failed to fetch 'http://") && error.contains(reason), "{path}: {error}");
        assert!(scene.read("s/stderr").contains(reason));
    }
    let nobody = FetchUri { value: "http://127.0.0.1:1/x".to_owned(), ..FetchUri::default() };
    assert!(scene.fetch("s", nobody).await.unwrap_err().contains("refused"));
}

#[tokio::test]
async fn files_of_the_node_are_copied() {
    let scene = Scene::new().await;
    std::fs::write(scene.dir.path().join("config"), "a=1").unwrap();
    scene.fetch("s", FetchUri { value: "config".to_owned(), ..FetchUri::default() }).await.unwrap();
    assert_eq!(scene.read("s/config"), "a=1");
    for (value, reason) in [("file:///dev/zero", "is no file"), ("/no/such/file", "No such file")] {
        let uri = FetchUri { value: value.to_owned(), ..FetchUri::default() };
        assert!(scene.fetch("s", uri).await.unwrap_err().contains(reason), "{value}");
    }
}

#[test]
fn a_file_that_the_tasks_user_may_not_read_is_not_fetched_for_him() {
    let user = TaskUser { name: "u".to_owned(), uid: 7, gid: 8, groups: vec![8, 9] };
    let may = |owner, group, mode| user.may_read(owner, group, mode);
    assert!(may(7, 1, 0o400) && may(1, 9, 0o040) && may(1, 1, 0o004));
    assert!(!may(1, 1, 0o440) && !may(7, 1, 0o044) && !may(1, 8, 0o404));
}

#[test]
fn a_file_in_a_directory_that_is_not_the_tasks_users_is_not_fetched_for_him() {
    let user = TaskUser { name: "u".to_owned(), uid: 7, gid: 8, groups: vec![8] };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [dir.path(), &file] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let order = Order { uris: Vec::new(), sandbox: dir.path().to_owned(), user: Some(user) };
    order.open_local(&file).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(order.open_local(&file).unwrap_err().contains("user 'u' may not read"));
}

#[tokio::test]
async fn one_download_serves_all_who_ask_for_a_kept_file() {
    let scene = Scene::new().await;
    let uri = FetchUri { cache: true, ..scene.server.uri("slow") };
    let names: Vec<String> = (0..8).map(|n| format!("s{n}")).collect();
    let all = futures::future::try_join_all(names.iter().map(|name| scene.fetch(name, uri.clone())));
    let let_go = async {
        while scene.server.asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        scene.server.go.notify_waiters();
        // Registered only after the head was read.
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            scene.server.go.notify_waiters();
        }
    };
    tokio::select! { done = all => done.map(drop).unwrap(), () = let_go => {} }
    assert_eq!(scene.server.asked.load(Ordering::Relaxed), 1);
    assert!(names.iter().all(|name| scene.read(&format!("{name}/slow")) == "hello"));
    // Another file does not fit beside it: this one goes.
    scene.fetch("t", FetchUri { cache: true, ..scene.server.uri("hello") }).await.unwrap();
    assert_eq!(std::fs::read_dir(scene.dir.path().join("cache")).unwrap().count(), 1);
    // Of unknown size: not kept, and there all the same.
    for name in ["u", "v"] {
        scene.fetch(name, FetchUri { cache: true, ..scene.server.uri("endless") }).await.unwrap();
    }
    assert_eq!(
        (scene.read("v/endless").as_str(), scene.server.asked.load(Ordering::Relaxed)),
        ("no length", 4)
    );
    let missing = FetchUri { cache: true, ..scene.server.uri("nothing") };
    assert!(scene.fetch("w", missing).await.unwrap_err().contains("404"));
}
