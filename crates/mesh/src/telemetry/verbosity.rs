//! How much is logged: what `RUST_LOG` says, and more for a while when somebody asks for it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing_subscriber::{EnvFilter, Registry, reload};

/// What is logged when `RUST_LOG` does not say.
const DEFAULT: &str = "info,h2=warn,hyper=warn,tower=warn,opentelemetry=warn";

/// The filter of the process's logs.
pub(super) type Filter = reload::Layer<EnvFilter, Registry>;

/// Of this process; none where logging was not set up.
static PROCESS: OnceLock<Verbosity> = OnceLock::new();

/// Who wants how much.
#[derive(Debug)]
struct Verbosity {
    base: String,
    handle: reload::Handle<EnvFilter, Registry>,
    wanted: Mutex<BTreeMap<u64, u32>>,
}

/// The filter of the process's logs, which [`want`] changes from now on.
pub(super) fn filter() -> Filter {
    let base = std::env::var("RUST_LOG").ok().filter(|text| EnvFilter::try_new(text).is_ok());
    let (filter, verbosity) = Verbosity::new(base.unwrap_or_else(|| DEFAULT.to_owned()));
    // Set up twice, the second attempt fails later on.
    let _ = PROCESS.set(verbosity);
    filter
}

/// Somebody wants verbose logs of this level, as Mesos counts: 0 is what there always is, 1 and 2 more, above that
/// everything. The highest level that is wanted holds.
pub(crate) fn want(who: u64, level: u32) {
    if let Some(process) = PROCESS.get() {
        process.want(who, level);
    }
}

impl Verbosity {
    fn new(base: String) -> (Filter, Self) {
        let (filter, handle) = reload::Layer::new(EnvFilter::new(&base));
        (filter, Self { base, handle, wanted: Mutex::default() })
    }

    fn want(&self, who: u64, level: u32) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wanted.values().max().copied().unwrap_or_default();
        match level {
            0 => wanted.remove(&who),
            level => wanted.insert(who, level),
        };
        let after = wanted.values().max().copied().unwrap_or_default();
        if before != after && self.handle.reload(self.filter_for(after)).is_err() {
            tracing::warn!(level = after, "logs stay as they are");
        }
    }

    fn filter_for(&self, level: u32) -> EnvFilter {
        let base = &self.base;
        match level {
            0 => EnvFilter::new(base),
            1 | 2 => EnvFilter::new(format!("{base},meshos=debug")),
            _ => EnvFilter::new(format!("{base},meshos=trace")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use tracing::{debug, info, trace};
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn logs_follow_the_highest_level_that_is_wanted() {
        let (filter, verbosity) = Verbosity::new("info".to_owned());
        let text = Text::default();
        let writer = text.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(filter);
        let logged = || {
            text.0.lock().unwrap().clear();
            info!("usual");
            debug!("more");
            trace!("everything");
            let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
            ["usual", "more", "everything"].map(|word| text.contains(word))
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            assert_eq!(logged(), [true, false, false]);
            verbosity.want(1, 1);
            assert_eq!(logged(), [true, true, false]);
            verbosity.want(2, 3);
            verbosity.want(1, 0);
            assert_eq!(logged(), [true, true, true]);
            verbosity.want(2, 0);
            assert_eq!(logged(), [true, false, false]);
        });
    }
}
