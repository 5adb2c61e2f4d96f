//! How long something took, and how long it was on a processor.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Times of one step, repeated.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    pub(super) wall: Vec<Duration>,
    /// On a processor: others may use the machine meanwhile.
    pub(super) cpu: Vec<Duration>,
}

impl Times {
    /// Does it once more.
    #[allow(clippy::disallowed_methods, reason = "this program measures real time")]
    pub(super) fn add<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let (began, began_cpu) = (Instant::now(), cpu());
        let result = step();
        let (ended_cpu, wall) = (cpu(), began.elapsed());
        self.wall.push(wall);
        self.cpu.push(ended_cpu.saturating_sub(began_cpu));
        result
    }

    /// Median, 99th percentile and longest of the time on a processor, and the longest by the wall clock.
    pub(super) fn row(&mut self, name: &str, each: usize) -> String {
        let us = |duration: Duration| duration.as_secs_f64() * 1e6;
        let of = |times: &mut Vec<Duration>, p| crate::statistics::percentile(times, p);
        let (p50, p99, max) = (of(&mut self.cpu, 50.0), of(&mut self.cpu, 99.0), of(&mut self.cpu, 100.0));
        let wall = of(&mut self.wall, 50.0);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let one = us(p50) / each.max(1) as f64;
        let per = if each > 1 { format!("; {one:.2} µs each of {each}") } else { String::new() };
        format!(
            "| {name} | p50 {}, p99 {}, max {} (wall p50 {}){per} |",
            shown(us(p50)),
            shown(us(p99)),
            shown(us(max)),
            shown(us(wall)),
        )
    }

    pub(super) fn p50_us(&mut self) -> f64 {
        crate::statistics::percentile(&mut self.cpu, 50.0).as_secs_f64() * 1e6
    }
}

fn shown(us: f64) -> String {
    if us < 1000.0 { format!("{us:.1} µs") } else { format!("{:.2} ms", us / 1000.0) }
}

/// The time that this thread has been on a processor.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
