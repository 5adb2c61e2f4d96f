//! Waiting for conditions instead of sleeping.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

/// Longest wait for something that should come within a second or so: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again until `probe` gives a value; the error of the last try tells what was missing.
///
/// # Panics
/// With that error after [`PATIENCE`].
pub async fn until<T, E, F, Fut>(what: &str, mut probe: F) -> T
where
    E: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let started = tokio::time::Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(missing) if started.elapsed() > PATIENCE => panic!("{what}: {missing:?} after {PATIENCE:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// As [`until`], for tests without a runtime.
///
/// # Panics
/// With the last error after [`PATIENCE`].
pub fn until_blocking<T, E: Debug>(what: &str, mut probe: impl FnMut() -> Result<T, E>) -> T {
    #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(missing) if started.elapsed() > PATIENCE => panic!("{what}: {missing:?} after {PATIENCE:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
