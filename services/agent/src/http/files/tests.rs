use std::{os::unix::fs::symlink, path::PathBuf};

use warp::http::StatusCode;

use super::*;
use crate::core::Shown;

const SECRET: &str = "do not show";

/// A work directory with one sandbox, and a secret beside it.
struct Node {
    _dir: tempfile::TempDir,
    sandboxes: Sandboxes,
    sandbox: String,
}

fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let sandbox = root.join("slaves/a-S0/frameworks/f-1/executors/t/runs/c-1");
    fs::create_dir_all(sandbox.join("sub")).unwrap();
    fs::write(sandbox.join("stdout"), "hello\n").unwrap();
    fs::write(sandbox.join("sub/inner.json"), "{}").unwrap();
    fs::write(root.join("secret"), SECRET).unwrap();
    let sandboxes = Sandboxes::new(&root);
    let volumes = vec![(sandbox.join("tasks/t/data"), root.join("volumes/v"))];
    fs::create_dir_all(root.join("volumes/v")).unwrap();
    fs::write(root.join("volumes/v/rows"), "kept").unwrap();
    sandboxes.attach(&Shown { sandbox: sandbox.clone(), volumes });
    Node { _dir: dir, sandboxes, sandbox: sandbox.display().to_string() }
}

fn query(parameters: &[(&str, &str)]) -> Query {
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    Query::parse(&pairs.join("&"))
}

async fn body(reply: Reply) -> (StatusCode, String) {
    let status = reply.status;
    let bytes = match reply.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::File(mut file, length) => {
            let mut bytes = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut file, &mut bytes).await.unwrap();
            assert_eq!(bytes.len() as u64, length);
            bytes
        }
        Body::Stream(_) => panic!("a file is no stream"),
    };
    (status, String::from_utf8(bytes).unwrap())
}

impl Node {
    async fn read(&self, path: &str, more: &[(&str, &str)]) -> (StatusCode, String) {
        let parameters = [&[("path", path)], more].concat();
        body(super::read(&self.sandboxes, &query(&parameters)).await).await
    }

    async fn browse(&self, path: &str) -> (StatusCode, String) {
        body(super::browse(&self.sandboxes, &query(&[("path", path)])).await).await
    }

    async fn download(&self, path: &str) -> (StatusCode, String) {
        body(super::download(&self.sandboxes, &query(&[("path", path)])).await).await
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.sandbox)
    }
}

#[tokio::test]
async fn mesos_c70_reading_without_an_offset_gives_the_size_and_reads_are_capped() {
    let node = node();
    let stdout = node.path("stdout");
    for more in [&[][..], &[("offset", "-1")]] {
        assert_eq!(node.read(&stdout, more).await, (StatusCode::OK, r#"{"data":"","offset":6}"#.to_owned()));
    }
    let read = node.read(&stdout, &[("offset", "0")]).await;
    assert_eq!(read, (StatusCode::OK, "{\"data\":\"hello\\n\",\"offset\":0}".to_owned()));
    let read = node.read(&stdout, &[("offset", "2"), ("length", "3")]).await.1;
    assert_eq!(read, r#"{"data":"llo","offset":2}"#);
    assert_eq!(node.read(&stdout, &[("offset", "60")]).await.1, r#"{"data":"","offset":6}"#);

    fs::write(node.path("big"), vec![b'x'; 100_000]).unwrap();
    let read = node.read(&node.path("big"), &[("offset", "0"), ("length", "90000")]).await.1;
    let read: Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["data"].as_str().unwrap().len(), 65_536);
}

#[tokio::test]
async fn a_character_that_the_cap_cuts_is_left_for_the_next_read() {
    let node = node();
    let text = "ä".repeat(40_000);
    fs::write(node.path("text"), format!("x{text}")).unwrap();
    let read = node.read(&node.path("text"), &[("offset", "0")]).await.1;
    let read: Value = serde_json::from_str(&read).unwrap();
    let data = read["data"].as_str().unwrap();
    assert_eq!(data.len(), 65_535);
    assert!(!data.contains('\u{fffd}'));
}

#[tokio::test]
async fn mesos_c71_no_path_leads_out_of_the_sandbox() {
    let node = node();
    let root = node.sandboxes.root().to_owned();
    symlink(root.join("secret"), node.path("absolute")).unwrap();
    symlink("../../../../../../../../../secret", node.path("relative")).unwrap();
    symlink("/", node.path("root")).unwrap();
    symlink("../../../../../../../..", node.path("up")).unwrap();
    symlink("/proc/self/root", node.path("magic")).unwrap();
    symlink("loop", node.path("loop")).unwrap();
    let above = "../".repeat(9);
    let escapes = [
        node.path("absolute"),
        node.path("relative"),
        node.path(&format!("root{}/secret", root.display())),
        node.path("up/secret"),
        node.path(&format!("magic{}/secret", root.display())),
        node.path("loop"),
        node.path(&format!("{above}secret")),
        node.path(&format!("sub/../{above}secret")),
        format!("/frameworks/f-1/executors/t/runs/latest/{above}secret"),
        root.join("secret").display().to_string(),
        format!("{}/../../../../../../../../secret", node.sandbox),
        "/etc/passwd".to_owned(),
        "secret".to_owned(),
        "../secret".to_owned(),
        "/".to_owned(),
        "..".to_owned(),
    ];
    for path in escapes {
        for (what, (status, body)) in [
            ("read", node.read(&path, &[("offset", "0")]).await),
            ("download", node.download(&path).await),
            ("browse", node.browse(&path).await),
        ] {
            assert!(status == 400 || status == 404, "{what} {path}: {status} {body}");
            assert!(!body.contains(SECRET) && !body.contains("root:"), "{what} {path}: {body}");
        }
    }
    // Above the sandbox there is nothing to see.
    for path in [node.path(".."), node.path("../.."), node.path("up"), node.path("root")] {
        let (status, body) = node.browse(&path).await;
        assert!(status == 400 || status == 404, "{path}: {status} {body}");
    }
}

/// A volume that a task shares with others of its pod lies in their sandbox: the task decides what is there.
#[tokio::test]
async fn a_volume_in_the_sandbox_that_becomes_a_link_leads_nowhere() {
    let node = node();
    let root = node.sandboxes.root().to_owned();
    let sandbox = PathBuf::from(&node.sandbox);
    let volumes = ["common", "file"].map(|name| (sandbox.join("tasks/t").join(name), sandbox.join(name)));
    node.sandboxes.attach(&Shown { sandbox, volumes: volumes.to_vec() });
    fs::create_dir(node.path("common")).unwrap();
    fs::write(node.path("common/rows"), "shared").unwrap();
    assert_eq!(node.download(&node.path("tasks/t/common/rows")).await, (StatusCode::OK, "shared".to_owned()));
    fs::remove_dir_all(node.path("common")).unwrap();
    symlink(&root, node.path("common")).unwrap();
    symlink(root.join("secret"), node.path("file")).unwrap();
    for path in ["tasks/t/common/secret", "tasks/t/file"] {
        let (status, body) = node.download(&node.path(path)).await;
        assert!(status == 400 || status == 404, "{path}: {status} {body}");
        assert!(!body.contains(SECRET), "{path}: {body}");
    }
    let (status, body) = node.browse(&node.path("tasks/t/common")).await;
    assert!(status == 400 || status == 404, "{status} {body}");
}

#[tokio::test]
async fn links_that_stay_inside_are_followed() {
    let node = node();
    symlink("sub/inner.json", node.path("inner")).unwrap();
    symlink(node.path("sub"), node.path("absolute")).unwrap();
    assert_eq!(node.download(&node.path("inner")).await.1, "{}");
    assert_eq!(node.download(&node.path("absolute/inner.json")).await.1, "{}");
    assert_eq!(node.download(&node.path("sub/../sub/inner.json")).await.1, "{}");
}

#[tokio::test]
async fn a_directory_is_browsed_in_the_shape_of_mesos() {
    let node = node();
    let (status, listing) = node.browse(&node.sandbox).await;
    assert_eq!(status, StatusCode::OK);
    let listing: Vec<Value> = serde_json::from_str(&listing).unwrap();
    let paths: Vec<_> = listing.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, [node.path("stdout"), node.path("sub")]);
    let keys: Vec<_> = listing[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["gid", "mode", "mtime", "nlink", "path", "size", "uid"]);
    assert_eq!((listing[0]["mode"].as_str(), listing[0]["size"].as_u64()), (Some("-rw-r--r--"), Some(6)));
    assert!(listing[1]["mode"].as_str().unwrap().starts_with('d'));
    assert_eq!(node.browse(&node.path("stdout")).await.1, "[]", "a file has no entries");
    let latest = node.browse("/frameworks/f-1/executors/t/runs/latest").await.1;
    assert!(latest.contains("/frameworks/f-1/executors/t/runs/latest/stdout"), "{latest}");
}

#[tokio::test]
async fn refusals_have_the_words_of_mesos() {
    let node = node();
    let none = Query::parse("");
    let missing = "Expecting 'path=value' in query.\n";
    for reply in [
        super::read(&node.sandboxes, &none).await,
        super::browse(&node.sandboxes, &none).await,
        super::download(&node.sandboxes, &none).await,
    ] {
        assert_eq!(body(reply).await, (StatusCode::BAD_REQUEST, missing.to_owned()));
    }
    let stdout = node.path("stdout");
    let refused = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
    let offset = node.read(&stdout, &[("offset", "x")]).await;
    assert_eq!(offset, refused("Failed to parse offset: Failed to convert 'x' to number.\n"));
    assert_eq!(node.read(&stdout, &[("offset", "-5")]).await, refused("Negative offset provided: -5.\n"));
    let length = node.read(&stdout, &[("offset", "0"), ("length", "-5")]).await;
    assert_eq!(length, refused("Negative length provided: -5.\n"));
    assert_eq!(node.read(&node.sandbox, &[]).await, refused("Cannot read a directory.\n"));
    assert_eq!(node.download(&node.sandbox).await, refused("Cannot download a directory.\n"));
    let nosuch = node.path("nosuch");
    assert_eq!(node.read(&nosuch, &[]).await, (StatusCode::NOT_FOUND, String::new()));
    assert_eq!(node.browse(&nosuch).await, (StatusCode::NOT_FOUND, String::new()));
    assert_eq!(node.download(&nosuch).await, (StatusCode::NOT_FOUND, "404 Not Found.".to_owned()));
}

#[tokio::test]
async fn a_pipe_does_not_block_the_reader() {
    let node = node();
    nix::unistd::mkfifo(node.path("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(node.read(&node.path("pipe"), &[("offset", "0")]).await.1, r#"{"data":"","offset":0}"#);
    assert_eq!(node.download(&node.path("pipe")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_download_carries_its_name_and_kind() {
    let node = node();
    let reply = super::download(&node.sandboxes, &query(&[("path", &node.path("stdout"))])).await;
    assert_eq!(
        (reply.content_type, reply.disposition.as_deref()),
        (Some("application/octet-stream"), Some("attachment; filename=stdout"))
    );
    let reply = super::download(&node.sandboxes, &query(&[("path", &node.path("sub/inner.json"))])).await;
    assert_eq!(reply.content_type, Some("application/json"));
}

#[test]
fn a_detached_sandbox_is_gone() {
    let node = node();
    assert_eq!(node.sandboxes.debug().as_object().unwrap().len(), 4);
    node.sandboxes.detach(Path::new(&node.sandbox));
    assert!(node.sandboxes.open(&node.path("stdout")).is_err());
    assert_eq!(node.sandboxes.debug().as_object().unwrap().len(), 0);
}

#[test]
fn the_newest_run_outlives_the_ones_before() {
    let node = node();
    let newest = Path::new(&node.sandbox).with_file_name("c-2");
    node.sandboxes.attach(&Shown { sandbox: newest.clone(), volumes: vec![] });
    node.sandboxes.detach(Path::new(&node.sandbox));
    let shown = node.sandboxes.debug();
    assert_eq!(shown["/frameworks/f-1/executors/t/runs/latest"], newest.display().to_string());
    assert_eq!(shown.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_volume_of_a_task_is_shown_below_its_sandbox_and_nothing_beyond_it() {
    let node = node();
    assert_eq!(
        node.read(&node.path("tasks/t/data/rows"), &[("offset", "0")]).await.1,
        r#"{"data":"kept","offset":0}"#
    );
    assert!(node.browse(&node.path("tasks/t/data")).await.1.contains("tasks/t/data/rows"));
    assert_ne!(
        node.read(&node.path("tasks/t/data/../../secret"), &[("offset", "0")]).await.0,
        StatusCode::OK
    );
    symlink("../../secret", Path::new(&node.sandbox).join("../../../../../../../../volumes/v/out")).unwrap();
    assert_ne!(node.read(&node.path("tasks/t/data/out"), &[("offset", "0")]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_log_is_a_file_of_its_own_name() {
    let node = node();
    let log = node.sandboxes.root().join("agent.log");
    fs::write(&log, "a line\n").unwrap();
    node.sandboxes.attach_file("/slave/log", &log);
    assert_eq!(node.read("/slave/log", &[]).await.1, r#"{"data":"","offset":7}"#);
    assert_eq!(node.download("/slave/log").await.1, "a line\n");
    assert_eq!(node.browse("/slave/log").await, (StatusCode::OK, "[]".to_owned()));
    assert_eq!(node.read("/slave/log/more", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(node.read("/slave", &[]).await.0, StatusCode::NOT_FOUND);
}
