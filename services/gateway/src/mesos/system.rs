//! Figures of the machine.

use std::fs;

use serde_json::{Value, json};

/// `GET /system/stats.json`; what cannot be read is 0.
pub(super) fn stats() -> Value {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut loads = loads.split_whitespace().map(|field| field.parse::<f64>().unwrap_or_default());
    let mut load = || loads.next().unwrap_or_default();
    let (one, five, fifteen) = (load(), load(), load());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    json!({
        "avg_load_1min": one,
        "avg_load_5min": five,
        "avg_load_15min": fifteen,
        "cpus_total": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "mem_total_bytes": memory_bytes(&memory, "MemTotal:"),
        "mem_free_bytes": memory_bytes(&memory, "MemFree:"),
    })
}

fn memory_bytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_bytes() {
        let text = "MemTotal:       24684092 kB\nMemFree:  5 kB\n";
        assert_eq!(memory_bytes(text, "MemFree:"), 5120);
        assert_eq!(memory_bytes(text, "Nothing:"), 0);
    }

    #[test]
    fn the_fields_are_those_of_a_real_master() {
        let golden = include_str!("../../tests/golden/master_system_stats_json.json");
        let golden: Value = serde_json::from_str(golden).unwrap();
        crate::mesos::render::shape::assert_same("stats", &stats(), &golden);
    }
}
