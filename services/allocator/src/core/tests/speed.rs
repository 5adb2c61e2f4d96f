//! Figures of full and of empty runs. Run by hand: `cargo test --release -p meshos-allocator --lib speed -- --ignored
//! --nocapture`.

use meshos_proto::mesos::v1 as pb;

use super::{super::*, harness::*, roles::quota};

fn cluster(agents: usize, frameworks: usize, guarantee: Option<f64>) -> Harness {
    let mut cluster = Harness::new();
    for framework in 0..frameworks {
        let mut info = info(&format!("f{framework}"));
        #[allow(deprecated, reason = "single-role frameworks use the field `role`")]
        {
            info.role = Some(format!("r{framework}"));
        }
        cluster.subscribe(info);
    }
    if let Some(guarantee) = guarantee {
        let configs = (0..frameworks)
            .map(|f| quota(&format!("r{f}"), &[("cpus", guarantee)], &[("cpus", guarantee)]))
            .collect();
        let update = meshos_proto::meshos::allocator::v1::UpdateQuotaRequest {
            configs,
            force: true,
            remove: Vec::new(),
        };
        cluster.input(Input::UpdateQuota(Box::new(update)));
    }
    let record = |agent: usize| {
        super::harness::record(
            &format!("s{agent}"),
            meshos_proto::meshos::registry::v1::AgentState::Connected,
        )
    };
    for agent in 0..agents {
        let now = cluster.now;
        let core = &mut cluster.core;
        core.handle(Input::RegistryChanged(Box::new(record(agent))), now).unwrap();
        let report = report(&format!("s{agent}"), "cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
        core.handle(Input::AgentLinked { link: agent as u64, report: Box::new(report) }, now).unwrap();
    }
    cluster
}

/// Time that this thread has been on a processor, in microseconds: others may use the machine meanwhile.
fn busy_us() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

fn measure(what: impl FnOnce()) -> f64 {
    let begin = busy_us();
    what();
    busy_us() - begin
}

#[test]
#[allow(clippy::print_stdout, reason = "figures are what it is for")]
#[ignore = "a measurement"]
fn speed_of_runs() {
    for (agents, frameworks, guarantee) in
        [(1_000, 50, None), (10_000, 1_000, None), (3_000, 3_000, Some(24.0)), (50_000, 6_000, None)]
    {
        let mut cluster = cluster(agents, frameworks, guarantee);
        let now = cluster.now;
        let full = measure(|| cluster.core.allocate());
        let publish = measure(|| drop(cluster.core.settle(now)));
        let offers: Vec<_> = cluster.core.offers.keys().cloned().collect();
        let empty = measure(|| drop(cluster.core.settle(now)));
        let declined = 500.min(offers.len());
        let change = measure(|| {
            for id in &offers[..declined] {
                let Some(offer) = cluster.core.offers.get(id).cloned() else { continue };
                let stream = cluster.core.frameworks[&offer.place.framework].stream().unwrap().clone();
                let decline = scheduler::call::Decline {
                    offer_ids: vec![offer.id.to_proto()],
                    filters: Some(pb::Filters { refuse_seconds: Some(3600.0) }),
                };
                let call = scheduler::Call {
                    decline: Some(decline),
                    ..call(&offer.place.framework, scheduler::call::Type::Decline)
                };
                let input = Input::Call { stream, call: Box::new(call), traceparent: String::new() };
                cluster.core.handle(input, now).unwrap();
                cluster.core.settle(now);
            }
        });
        println!(
            "{agents} agents, {frameworks} frameworks, {} offers: full run {full:.0} us, changes published \
             {publish:.0} us, empty run {empty:.1} us, one decline {:.1} us",
            offers.len(),
            change / declined as f64,
        );
    }
}
