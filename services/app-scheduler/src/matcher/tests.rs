use meshos_proto::{
    meshos::apps::v1::{
        CommandTaskCheck, Constraint, ExecutorResources, HealthCheck, HealthProtocol, HttpTaskCheck,
        PortDefinition, ResourceLimits, TaskCheck, task_check::Kind,
    },
    mesos::v1::value,
};

use meshos_types::Milli;

use super::{
    task::{TaskContext, environment, task_info},
    *,
};

fn scalar(name: &str, value: f64) -> pb::Resource {
    pb::Resource {
        name: name.into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        ..Default::default()
    }
}

fn offer(id: &str, host: &str, cpus: f64, ports: (u64, u64)) -> pb::Offer {
    let ranges = value::Ranges { range: vec![value::Range { begin: ports.0, end: ports.1 }] };
    let mut resources = vec![scalar("cpus", cpus), scalar("mem", 1024.0)];
    resources.push(pb::Resource {
        name: "ports".into(),
        r#type: value::Type::Ranges.into(),
        ranges: Some(ranges),
        ..Default::default()
    });
    pb::Offer {
        id: pb::OfferId { value: id.into() },
        hostname: host.into(),
        agent_id: pb::AgentId { value: format!("agent-{host}") },
        resources,
        ..Default::default()
    }
}

fn app(id: &str, cpus: f64) -> App {
    App { id: id.into(), cpus, mem: 1.0, role: "*".into(), instances: 1, ..Default::default() }
}

fn request(app: &App, count: usize) -> Request<'_> {
    Request {
        app,
        waiting: (0..count).map(|i| format!("{}-{i}", app.id)).collect(),
        placed: Vec::new(),
        accepted_roles: vec!["*".into()],
        patterns: constraints::Patterns::default().of(app),
        relaxed: false,
    }
}

fn terms(per_offer: usize) -> Terms {
    Terms { per_offer, ..Terms::default() }
}

fn constrained(operator: &str, value: Option<&str>, instances: u32) -> App {
    let constraint =
        Constraint { field: "hostname".into(), operator: operator.into(), value: value.map(str::to_owned) };
    App { constraints: vec![constraint], instances, ..app("/c", 0.1) }
}

/// Launches on each of three hosts.
fn spread(app: &App, count: usize) -> (Vec<usize>, Refusals) {
    let mut offers: Vec<_> =
        ["h1", "h2", "h3"].map(|host| Offered::new(offer(host, host, 10.0, (1, 100)))).into();
    let refusals = place(&[request(app, count)], &mut offers, &terms(1000)).remove(0);
    (offers.iter().map(|offered| offered.launches.len()).collect(), refusals)
}

#[test]
fn the_hardest_is_placed_first() {
    let (small, large) = (app("/small", 1.0), app("/large", 4.0));
    let mut offers = vec![Offered::new(offer("o", "h", 4.0, (1, 9)))];
    let refusals = place(&[request(&small, 4), request(&large, 1)], &mut offers, &terms(1000));
    let ids: Vec<_> = offers[0].launches.iter().map(|launch| launch.instance_id.as_str()).collect();
    assert_eq!(ids, ["/large-0"]);
    assert_eq!(refusals[0].by_reason, BTreeMap::from([(Reason::InsufficientCpus, 1)]));
    assert_eq!((refusals[1].used, refusals[1].looked_at), (1, 0));
}

#[test]
fn a_thousand_instances_go_on_one_offer() {
    let tiny = app("/t", 0.001);
    let mut offers = vec![Offered::new(offer("o", "h", 4.0, (1, 9)))];
    place(&[request(&tiny, 1000)], &mut offers, &terms(1000));
    assert_eq!(offers[0].launches.len(), 1000);
    let total: Milli = offers[0].launches.iter().map(|launch| launch.resources.cpus()).sum();
    assert_eq!(total, Milli::ONE);
}

#[test]
fn instances_spread_over_agents() {
    assert_eq!(spread(&app("/a", 0.1), 6).0, [2, 2, 2]);
}

#[test]
fn marathon_c71_c73_operators() {
    let (placed, refusals) = spread(&constrained("UNIQUE", None, 5), 5);
    assert_eq!(placed, [1, 1, 1]);
    assert!(refusals.by_reason[&Reason::UnfulfilledConstraint] > 0);
    assert_eq!(spread(&constrained("MAX_PER", Some("2"), 9), 9).0, [2, 2, 2]);
    let mut cluster = spread(&constrained("CLUSTER", None, 4), 4).0;
    cluster.sort_unstable();
    assert_eq!(cluster, [0, 0, 4]);
    assert_eq!(spread(&constrained("CLUSTER", Some("h2"), 4), 4).0, [0, 4, 0]);
    assert_eq!(spread(&constrained("LIKE", Some("h[13]"), 4), 4).0, [2, 0, 2]);
    assert_eq!(spread(&constrained("UNLIKE", Some("h[13]"), 4), 4).0, [0, 4, 0]);
    assert_eq!(spread(&constrained("IS", Some("h1"), 2), 2).0, [2, 0, 0]);
    let mut missing = constrained("UNLIKE", Some("x"), 1);
    missing.constraints[0].field = "rack".into();
    assert_eq!(spread(&missing, 1).0.iter().sum::<usize>(), 1);
    missing.constraints[0].operator = "LIKE".into();
    assert_eq!(spread(&missing, 1).0, [0, 0, 0]);
}

#[test]
fn marathon_c74_group_by() {
    let mut sizes = spread(&constrained("GROUP_BY", Some("2"), 5), 5).0;
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 2, 3]);
    let mut sizes = spread(&constrained("GROUP_BY", None, 7), 7).0;
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 3]);
}

/// An offer of a rack.
fn racked(host: &str, rack: &str, cpus: f64) -> pb::Offer {
    let attribute = pb::Attribute {
        name: "rack".into(),
        r#type: value::Type::Text.into(),
        text: Some(value::Text { value: rack.into() }),
        ..Default::default()
    };
    pb::Offer { attributes: vec![attribute], ..offer(host, host, cpus, (1, 100)) }
}

fn by_rack(value: Option<&str>, instances: u32) -> App {
    let mut app = constrained("GROUP_BY", value, instances);
    app.constraints[0].field = "rack".into();
    app
}

#[test]
fn group_by_without_a_number_spreads_over_all_groups_at_hand() {
    // Two agents of one rack come before that of the other.
    let mut offers: Vec<_> =
        [racked("h1", "a", 9.0), racked("h2", "a", 8.0), racked("h3", "b", 1.0)].map(Offered::new).into();
    place(&[request(&by_rack(None, 2), 2)], &mut offers, &terms(1000));
    assert_eq!(offers.iter().map(|one| one.launches.len()).collect::<Vec<_>>(), [1, 0, 1]);
}

#[test]
fn group_by_without_a_number_does_not_wait_for_full_groups_for_ever() {
    let app = App { cpus: 1.0, ..by_rack(None, 6) };
    for (relaxed, wanted) in [(false, [3, 2]), (true, [4, 2])] {
        let mut offers: Vec<_> = [racked("h1", "a", 9.0), racked("h2", "b", 2.0)].map(Offered::new).into();
        let one = Request { relaxed, ..request(&app, 6) };
        let refusals = place(&[one], &mut offers, &terms(1000)).remove(0);
        assert_eq!(offers.iter().map(|one| one.launches.len()).collect::<Vec<_>>(), wanted);
        assert_eq!(refusals.left_over, 6 - wanted.iter().sum::<usize>());
        let held = refusals.by_reason.contains_key(&Reason::UnfulfilledConstraint);
        assert_eq!(held, !relaxed);
    }
}

#[test]
fn both_orders_of_the_queue_and_of_the_offers_place_what_fits_together() {
    let mem = |offer: pb::Offer, mem: f64| {
        let mut offer = offer;
        offer.resources[1] = scalar("mem", mem);
        offer
    };
    let a = App { cpus: 2.0, mem: 1024.0, ..app("/a", 2.0) };
    let b = App { cpus: 1.0, mem: 2048.0, ..app("/b", 1.0) };
    let wide = mem(offer("wide", "h1", 1.5, (1, 9)), 5120.0);
    let even = mem(offer("even", "h2", 2.0, (1, 9)), 2048.0);
    for requests in [[request(&a, 1), request(&b, 1)], [request(&b, 1), request(&a, 1)]] {
        for offers in [[wide.clone(), even.clone()], [even.clone(), wide.clone()]] {
            let mut offers: Vec<_> = offers.map(Offered::new).into();
            let refusals = place(&requests, &mut offers, &terms(1000));
            assert!(refusals.iter().all(|one| one.left_over == 0), "{refusals:?}");
            for offered in offers {
                let on = if offered.offer.id.value == "wide" { "/b-0" } else { "/a-0" };
                assert_eq!(offered.launches[0].instance_id, on);
            }
        }
    }
}

#[test]
fn every_reason_is_told_and_the_first_is_counted() {
    let app = App { cpus: 99.0, mem: 9999.0, ..constrained("LIKE", Some("x"), 1) };
    let mut offers = vec![Offered::new(offer("o", "h", 1.0, (1, 9)))];
    let refusals = place(&[request(&app, 3)], &mut offers, &terms(1000)).remove(0);
    assert_eq!(refusals.by_reason, BTreeMap::from([(Reason::UnfulfilledConstraint, 1)]));
    let all = [Reason::UnfulfilledConstraint, Reason::InsufficientCpus, Reason::InsufficientMemory];
    assert_eq!(refusals.by_offer, [(0, "agent-h".to_owned(), BTreeSet::from(all))]);
    assert_eq!(refusals.left_over, 3);
}

#[test]
fn agents_with_gpus_are_kept_unless_the_app_says_otherwise() {
    let mut with_gpus = offer("o", "h", 9.0, (1, 9));
    with_gpus.resources.push(scalar("gpus", 2.0));
    let plain = app("/a", 1.0);
    let labelled = |value: &str| App {
        labels: BTreeMap::from([("GPU_SCHEDULING_BEHAVIOR".into(), value.into())]),
        ..app("/a", 1.0)
    };
    let asking = App { gpus: 1, ..app("/a", 1.0) };
    for (app, kept, placed) in [
        (&plain, true, false),
        (&plain, false, true),
        (&asking, true, true),
        (&labelled("unrestricted"), true, true),
        (&labelled("restricted"), false, false),
    ] {
        let mut offers = vec![Offered::new(with_gpus.clone())];
        let terms = Terms { gpus_are_kept: kept, ..terms(1000) };
        let refusals = place(&[request(app, 1)], &mut offers, &terms).remove(0);
        assert_eq!(refusals.left_over == 0, placed, "{app:?}");
        assert_eq!(refusals.by_reason.contains_key(&Reason::DeclinedScarceResources), !placed);
    }
}

#[test]
fn agents_before_and_in_their_maintenance_get_nothing() {
    let mut down = offer("o", "h", 9.0, (1, 9));
    down.unavailability = Some(pb::Unavailability {
        start: pb::TimeInfo { nanoseconds: 100_000_000_000 },
        duration: Some(pb::DurationInfo { nanoseconds: 50_000_000_000 }),
    });
    for (now_ms, draining_ms, placed) in [
        (99_999, Some(0), true),
        (100_000, Some(0), false),
        (149_999, Some(0), false),
        (150_000, Some(0), true),
        (90_000, Some(10_000), false),
        (100_000, None, true),
    ] {
        let mut offers = vec![Offered::new(down.clone())];
        let terms = Terms { now_ms, draining_ms, ..terms(1000) };
        let refusals = place(&[request(&app("/a", 1.0), 1)], &mut offers, &terms).remove(0);
        assert_eq!(refusals.left_over == 0, placed, "{now_ms} {draining_ms:?}");
        let told = refusals.by_offer.first().is_some_and(|one| one.2.contains(&Reason::AgentMaintenance));
        assert_eq!(told, !placed);
    }
}

#[test]
fn other_regions_take_only_what_names_a_region_or_a_zone() {
    let domain = |region: &str| pb::DomainInfo {
        fault_domain: Some(pb::domain_info::FaultDomain {
            region: pb::domain_info::fault_domain::RegionInfo { name: region.into() },
            zone: pb::domain_info::fault_domain::ZoneInfo { name: "z".into() },
        }),
    };
    let far = pb::Offer { domain: Some(domain("far")), ..offer("o", "h", 9.0, (1, 9)) };
    let plain = app("/a", 1.0);
    let mut named = constrained("IS", Some("far"), 1);
    named.constraints[0].field = "@region".into();
    for (app, home, placed) in [(&plain, "home", false), (&named, "home", true), (&plain, "far", true)] {
        let mut offers = vec![Offered::new(far.clone())];
        let terms = Terms { home_region: Some(home.into()), ..terms(1000) };
        place(&[request(app, 1)], &mut offers, &terms);
        assert_eq!(offers[0].launches.len() == 1, placed, "{home}");
    }
}

#[test]
fn reservations_of_stateful_instances_are_left_alone() {
    let mut kept = offer("o", "h", 9.0, (1, 9));
    for resource in &mut kept.resources {
        resource.reservations = vec![pb::resource::ReservationInfo {
            r#type: Some(pb::resource::reservation_info::Type::Dynamic.into()),
            role: Some("*".into()),
            principal: None,
            labels: Some(pb::Labels {
                labels: vec![pb::Label { key: "marathon_task_id".into(), value: Some("x".into()) }],
            }),
        }];
        if let Some(one) = resource.reservations.first_mut() {
            one.role = Some("web".into());
        }
    }
    kept.allocation_info = Some(pb::resource::AllocationInfo { role: Some("web".into()) });
    let web = App { role: "web".into(), ..app("/w", 0.5) };
    let one = Request { accepted_roles: vec!["*".into(), "web".into()], ..request(&web, 1) };
    let mut offers = vec![Offered::new(kept)];
    let refusals = place(&[one], &mut offers, &terms(1000)).remove(0);
    assert_eq!((offers[0].launches.len(), refusals.left_over), (0, 1));
}

#[test]
fn what_is_placed_already_counts() {
    let unique = constrained("UNIQUE", None, 2);
    let mut request = request(&unique, 2);
    request.placed = vec![Placed::from([("hostname".into(), "h1".into())])];
    let mut offers =
        vec![Offered::new(offer("o1", "h1", 9.0, (1, 9))), Offered::new(offer("o2", "h2", 9.0, (1, 9)))];
    place(&[request], &mut offers, &terms(1000));
    assert_eq!(offers.iter().map(|o| o.launches.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn marathon_c76_c77_required_ports_are_exact_and_others_dynamic() {
    let port = |port| PortDefinition { port, protocol: "tcp".into(), ..Default::default() };
    let mut exact = app("/p", 0.1);
    exact.port_definitions = vec![port(8888), port(0)];
    exact.require_ports = true;
    let mut offers = vec![Offered::new(offer("o", "h", 9.0, (8000, 9000)))];
    let refusals = place(&[request(&exact, 2)], &mut offers, &terms(1000));
    assert_eq!(offers[0].launches.len(), 1);
    assert_eq!(offers[0].launches[0].ports[0], 8888);
    assert_eq!(refusals[0].by_reason, BTreeMap::from([(Reason::InsufficientPorts, 1)]));
    let dynamic = App { require_ports: false, ..exact };
    let mut offers = vec![Offered::new(offer("o", "h", 9.0, (31000, 31009)))];
    place(&[request(&dynamic, 2)], &mut offers, &terms(1000));
    let ports: Vec<_> = offers[0].launches.iter().flat_map(|launch| launch.ports.clone()).collect();
    assert_eq!(ports, [31000, 31001, 31002, 31003]);
}

#[test]
fn a_seed_says_where_the_search_for_ports_begins() {
    let port = |port| PortDefinition { port, protocol: "tcp".into(), ..Default::default() };
    let app = App { port_definitions: vec![port(0), port(0)], ..app("/p", 0.1) };
    for (seed, wanted) in [
        (0, vec![31000, 31001, 31002, 31003, 31004, 31005]),
        (0x8000, vec![31004, 31005, 31006, 31007, 31008, 31009]),
        // What is left below is a range of its own.
        (0xc000, vec![31006, 31007, 31008, 31009, 31003, 31004]),
    ] {
        let mut offers = vec![Offered::new(offer("o", "h", 9.0, (31000, 31009)))];
        place(&[request(&app, 3)], &mut offers, &Terms { port_seed: seed, ..terms(1000) });
        let ports: Vec<_> = offers[0].launches.iter().flat_map(|launch| launch.ports.clone()).collect();
        assert_eq!(ports, wanted, "{seed}");
    }
}

#[test]
fn only_accepted_roles_are_used() {
    let mut reserved = offer("o", "h", 1.0, (1, 9));
    reserved.allocation_info = Some(pb::resource::AllocationInfo { role: Some("web".into()) });
    for resource in &mut reserved.resources {
        resource.reservations = vec![pb::resource::ReservationInfo {
            r#type: Some(pb::resource::reservation_info::Type::Static.into()),
            role: Some("web".into()),
            ..Default::default()
        }];
    }
    let web = App { role: "web".into(), ..app("/w", 0.5) };
    for (accepted, fits) in [(vec!["web"], true), (vec!["*"], false), (vec!["*", "web"], true)] {
        let mut one = request(&web, 1);
        one.accepted_roles = accepted.into_iter().map(str::to_owned).collect();
        let mut offers = vec![Offered::new(reserved.clone())];
        place(&[one], &mut offers, &terms(1000));
        assert_eq!(offers[0].launches.len() == 1, fits);
    }
    let star = app("/s", 0.5);
    let mut offers = vec![Offered::new(reserved)];
    let refusals = place(&[request(&star, 1)], &mut offers, &terms(1000));
    assert_eq!(refusals[0].by_reason, BTreeMap::from([(Reason::UnfulfilledRole, 1)]));
}

const CONTEXT: TaskContext<'_> = TaskContext {
    task_id: "a_b.instance-1._app.1",
    agent_id: "A",
    host: "h",
    executor: "//cmd",
    prefix: "",
    role_is_enforced: false,
    bridge_name: "",
};

fn launch(ports: &[u32]) -> Launch {
    Launch {
        instance_id: String::new(),
        resources: Resources::new(),
        executor: Resources::new(),
        ports: ports.to_vec(),
        container_ports: Vec::new(),
    }
}

#[test]
fn marathon_c75_the_environment() {
    let mut app = app("/a/b", 0.1);
    app.mem = 32.0;
    app.version_ms = 1_431_413_263_123;
    let named = PortDefinition { port: 8080, name: Some("http-api".into()), ..Default::default() };
    app.port_definitions = vec![named, PortDefinition::default()];
    app.labels = BTreeMap::from([("my.label".into(), "v".into())]);
    app.env = BTreeMap::from([("HOST".into(), "mine".into())]);
    let env = environment(&app, &launch(&[31005, 31006]), CONTEXT);
    for (name, value) in [
        ("HOST", "mine"),
        ("PORT", "31005"),
        ("PORT0", "31005"),
        ("PORT1", "31006"),
        ("PORTS", "31005,31006"),
        ("PORT_8080", "31005"),
        ("PORT_31006", "31006"),
        ("PORT_HTTP-API", "31005"),
        ("MESOS_TASK_ID", "a_b.instance-1._app.1"),
        ("MARATHON_APP_ID", "/a/b"),
        ("MARATHON_APP_VERSION", "2015-05-12T06:47:43.123Z"),
        ("MARATHON_APP_RESOURCE_CPUS", "0.1"),
        ("MARATHON_APP_RESOURCE_MEM", "32.0"),
        ("MARATHON_APP_RESOURCE_DISK", "0.0"),
        ("MARATHON_APP_RESOURCE_GPUS", "0"),
        ("MARATHON_APP_LABELS", "MY_LABEL"),
        ("MARATHON_APP_LABEL_MY_LABEL", "v"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(
        !environment(&App { port_definitions: vec![], ..app }, &launch(&[]), CONTEXT).contains_key("PORT")
    );
}

#[test]
fn a_task_has_its_command_resources_and_grace_period() {
    let mut app = app("/a/b", 0.5);
    app.cmd = Some("sleep 1".into());
    app.kill_grace_period_s = Some(3);
    let mut offers = vec![Offered::new(offer("o", "h", 9.0, (1, 9)))];
    place(&[request(&app, 1)], &mut offers, &terms(1000));
    let task = task_info(&app, &offers[0].launches[0], CONTEXT);
    assert!(task.health_check.is_none());
    assert_eq!(task.name, "b.a");
    let command = task.command.unwrap();
    assert_eq!((command.value.as_deref(), command.shell), (Some("sleep 1"), Some(true)));
    assert_eq!(task.kill_policy.unwrap().grace_period.unwrap().nanoseconds, 3_000_000_000);
    let cpus = task.resources.iter().find(|r| r.name == "cpus").unwrap();
    assert_eq!(cpus.scalar.as_ref().unwrap().value, 0.5);
    app.health_checks = vec![HealthCheck {
        protocol: HealthProtocol::MesosHttps.into(),
        path: Some("/up".into()),
        port_index: Some(0),
        interval_s: 7,
        timeout_s: 3,
        grace_period_s: 11,
        max_consecutive_failures: 2,
        ..Default::default()
    }];
    app.port_definitions = vec![PortDefinition::default()];
    let mut offers = vec![Offered::new(offer("o", "h", 9.0, (1, 9)))];
    place(&[request(&app, 1)], &mut offers, &terms(1000));
    let check = task_info(&app, &offers[0].launches[0], CONTEXT).health_check.unwrap();
    let http = check.http.as_ref().unwrap();
    assert_eq!((http.port, http.path.as_deref(), http.scheme()), (1, Some("/up"), "https"));
    assert_eq!((check.interval_seconds, check.delay_seconds), (Some(7.0), Some(15.0)));
    assert_eq!((check.grace_period_seconds, check.consecutive_failures), (Some(11.0), Some(2)));
    app.health_checks[0].protocol = HealthProtocol::Command.into();
    app.health_checks[0].command = Some("test -e up".into());
    let check = task_info(&app, &offers[0].launches[0], CONTEXT).health_check.unwrap();
    assert_eq!(check.command.unwrap().value.as_deref(), Some("test -e up"));
    app.health_checks[0].protocol = HealthProtocol::Http.into();
    assert!(task_info(&app, &offers[0].launches[0], CONTEXT).health_check.is_none());
    app.cmd = None;
    app.args = vec!["/bin/echo".into(), "x".into()];
    let command = task_info(&app, &offers[0].launches[0], CONTEXT).command.unwrap();
    assert_eq!((command.shell, command.value.as_deref()), (Some(false), Some("/bin/echo")));
    assert_eq!(command.arguments, ["/bin/echo", "x"]);
}

#[test]
fn limits_and_the_check_reach_the_agent() {
    let mut app = App { port_definitions: vec![PortDefinition::default()], ..app("/a", 1.0) };
    app.resource_limits = Some(ResourceLimits { cpus: Some(f64::INFINITY), mem: Some(64.0) });
    let http = HttpTaskCheck { port_index: Some(0), path: Some("/x".into()), ..Default::default() };
    app.check = Some(TaskCheck { kind: Some(Kind::Http(http)), interval_s: 6, timeout_s: 2, delay_s: 1 });
    let mut offers = [Offered::new(offer("o", "h", 4.0, (31_000, 31_010)))];
    place(&[request(&app, 1)], &mut offers, &terms(1));
    let launch = &offers[0].launches[0];
    let task = task_info(&app, launch, CONTEXT);
    let limit = |name: &str| task.limits[name].value;
    assert_eq!((limit("cpus"), limit("mem"), task.limits.len()), (f64::INFINITY, 64.0, 2));
    let check = task.check.unwrap();
    let asked = check.http.clone().unwrap();
    assert_eq!((asked.port, asked.path()), (launch.ports[0], "/x"));
    assert_eq!((check.interval_seconds(), check.timeout_seconds(), check.delay_seconds()), (6.0, 2.0, 1.0));
    let exec = CommandTaskCheck { shell: None, argv: vec!["/bin/true".into(), "x".into()] };
    app.check.as_mut().unwrap().kind = Some(Kind::Exec(exec));
    let command = task_info(&app, launch, CONTEXT).check.unwrap().command.unwrap().command;
    assert_eq!((command.shell(), command.value(), command.arguments.len()), (false, "/bin/true", 2));
}

#[test]
fn an_executor_of_its_own_gets_what_is_asked_for_it() {
    let asked = Some(ExecutorResources { cpus: 0.5, mem: 64.0, disk: 0.0 });
    let with =
        |executor: &str| App { executor: executor.into(), executor_resources: asked, ..app("/a", 1.0) };
    let cpus = |resources: &[pb::Resource]| {
        resources.iter().find(|r| r.name == "cpus").and_then(|r| r.scalar.as_ref()).map(|scalar| scalar.value)
    };
    // The app's, and that of apps that name none.
    for (named, default) in [("/opt/x", "//cmd"), ("", "/opt/x"), ("/opt/x", "/opt/y")] {
        let own = with(named);
        let terms = Terms { executor: default.into(), ..terms(10) };
        let context = TaskContext { executor: default, ..CONTEXT };
        let mut offers = [Offered::new(offer("o", "h", 1.5, (1, 9)))];
        place(&[request(&own, 1)], &mut offers, &terms);
        let task = task_info(&own, &offers[0].launches[0], context);
        assert_eq!(cpus(&task.resources), Some(1.0));
        let executor = task.executor.unwrap();
        assert_eq!(cpus(&executor.resources), Some(0.5), "{named} {default}");
        assert!(executor.command.unwrap().value().contains("/opt/x"));

        let mut offers = [Offered::new(offer("o", "h", 1.4, (1, 9)))];
        let refusals = place(&[request(&own, 1)], &mut offers, &terms);
        assert_eq!(refusals[0].by_reason, BTreeMap::from([(Reason::InsufficientCpus, 1)]));
    }
    for (named, default) in [("//cmd", "/opt/x"), ("", "//cmd"), ("", "")] {
        let agents = with(named);
        let terms = Terms { executor: default.into(), ..terms(10) };
        let context = TaskContext { executor: default, ..CONTEXT };
        let mut offers = [Offered::new(offer("o", "h", 1.4, (1, 9)))];
        place(&[request(&agents, 1)], &mut offers, &terms);
        assert!(task_info(&agents, &offers[0].launches[0], context).executor.is_none());
    }
}
