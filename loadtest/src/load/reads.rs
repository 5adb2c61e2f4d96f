//! What users of the gateway see meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use meshos_testing::Http;
use tokio::time::Instant;

use crate::{show, statistics};

/// GETs one path again and again until it is stopped.
#[derive(Debug)]
pub(crate) struct Reader {
    path: &'static str,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Duration>, usize, usize)>,
}

impl Reader {
    pub(crate) fn start(gateway: &Http, path: &'static str, pause: Duration) -> Self {
        let (gateway, stop) = (gateway.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut samples, mut size, mut failed) = (Vec::new(), 0, 0);
            while !stopped.load(Ordering::Relaxed) {
                let from = Instant::now();
                match gateway.get(path) {
                    Ok(answer) if answer.status == 200 => {
                        samples.push(from.elapsed());
                        size = answer.body.len();
                    }
                    _ => failed += 1,
                }
                std::thread::sleep(pause);
            }
            (samples, size, failed)
        });
        Self { path, stop, thread }
    }

    /// Shows how long the answers took.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let read = self.thread.join();
        let (mut samples, size, failed) = read.map_err(|_| anyhow::anyhow!("the reader failed"))?;
        let name = format!(
            "GET {}, {:.1} MiB, {failed} failed",
            self.path,
            statistics::mebibytes(u64::try_from(size)?)
        );
        show(&statistics::row(&name, &mut samples));
        Ok(())
    }
}
