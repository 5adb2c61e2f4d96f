//! Temporary.
use meshos_testing::sim::{Script, run};
use tracing_subscriber::EnvFilter;

struct T;
impl tracing_subscriber::fmt::time::FormatTime for T {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:>7}", turmoil::sim_elapsed().map(|d| d.as_millis()).unwrap_or(0))
    }
}

fn check(seed: u64) -> Result<(), String> {
    let report = run(seed, &Script::default())?;
    let mut running: Vec<String> = report.running.values().flatten().cloned().collect();
    running.sort();
    if running != report.shown || running.len() != report.wanted as usize {
        return Err(format!(
            "seed {seed}: not the same: running {:?} shown {:?} wanted {}\n{}\n{}",
            report.running,
            report.shown,
            report.wanted,
            report.faults.join("\n"),
            report.trace.join("\n")
        ));
    }
    Ok(())
}

#[test]
fn one() {
    let Ok(seed) = std::env::var("SEED") else { return };
    let file = std::fs::File::create(std::env::var("LOG").unwrap()).unwrap();
    let sub = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_timer(T)
        .with_ansi(false)
        .with_target(true)
        .with_writer(std::sync::Mutex::new(file))
        .finish();
    let r = tracing::subscriber::with_default(sub, || check(seed.parse().unwrap()));
    if let Err(why) = r {
        panic!("{why}");
    }
}

#[test]
fn many() {
    let Ok(range) = std::env::var("RANGE") else { return };
    let (a, b) = range.split_once('-').unwrap();
    let mut bad = vec![];
    for seed in a.parse::<u64>().unwrap()..b.parse().unwrap() {
        let t = std::time::Instant::now();
        match check(seed) {
            Ok(()) => println!("{seed} ok {:?}", t.elapsed()),
            Err(why) => {
                println!("{seed} BAD {}", why.lines().next().unwrap_or_default());
                bad.push(seed);
            }
        }
    }
    println!("bad: {bad:?}");
}
