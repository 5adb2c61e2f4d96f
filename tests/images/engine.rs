//! The Docker engine, and the images that are built with it.

use std::{io::Write as _, process::Command, sync::OnceLock};

/// Whether there is an engine to test with, and all images; says so when there is to be none.
///
/// # Panics
/// When the images cannot be built.
pub(crate) fn is_there() -> bool {
    static BUILT: OnceLock<bool> = OnceLock::new();
    *BUILT.get_or_init(|| {
        if std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some() {
            // Not through a macro: the test harness would swallow it.
            let _ =
                writeln!(std::io::stderr(), "SKIPPED the tests of images: MESHOS_TEST_SKIP_DOCKER is set");
            return false;
        }
        let script = format!("{}/scripts/test-images", env!("CARGO_MANIFEST_DIR"));
        let built = Command::new("timeout").args(["900", &script]).output().unwrap();
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(
            built.status.success(),
            "scripts/test-images failed; run scripts/setup, or leave these tests out with \
             MESHOS_TEST_SKIP_DOCKER=1: {errors}"
        );
        true
    })
}

/// Runs docker; what it printed.
///
/// # Panics
/// When it fails.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("timeout").arg("120").arg("docker").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether containers may be privileged here; says so when not. An engine without all rights of the machine, as in a
/// container of its own, cannot give them.
pub(crate) fn grants_privileges() -> bool {
    let run = ["run", "--rm", "--privileged", "meshos-test-nginx:1", "true"];
    let granted =
        Command::new("timeout").arg("120").arg("docker").args(run).output().unwrap().status.success();
    if !granted {
        let _ = writeln!(std::io::stderr(), "the engine cannot run privileged containers: tested without");
    }
    granted
}

/// Whether the engine has the image.
pub(crate) fn has_image(name: &str) -> bool {
    Command::new("docker").args(["image", "inspect", name]).output().unwrap().status.success()
}

/// Gives an image of ours a common name, where the engine does not know that name yet. It stays: another test may be
/// at work with it.
pub(crate) fn name_if_absent(image: &str, name: &str) {
    if !has_image(name) {
        docker(&["tag", image, name]);
    }
}

/// Running containers of a task, by the label that Marathon gives them.
pub(crate) fn containers_of(task_id: &str) -> Vec<String> {
    let filter = format!("label=MESOS_TASK_ID={task_id}");
    docker(&["ps", "--quiet", "--filter", &filter]).lines().map(str::to_owned).collect()
}
