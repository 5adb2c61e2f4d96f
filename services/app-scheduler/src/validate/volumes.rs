//! The rules for the volumes of a container.

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{App, Container, ExternalVolume, container_volume::Source};

use super::{Found, Rules};

/// The option that names the driver.
pub const DRIVER: &str = "dvdi/driver";

pub(super) fn check(app: &App, container: &Container, rules: &Rules, found: &mut Found) {
    let mut names = BTreeSet::new();
    let (mut unique, mut exclusive) = (true, Vec::new());
    for (index, volume) in container.volumes.iter().enumerate() {
        let at = format!("/container/volumes({index})");
        found.check(!volume.container_path.is_empty(), &format!("{at}/containerPath"), "error.minLength");
        match &volume.source {
            None => found.add(&at, "a volume needs one of hostPath, external or secret"),
            Some(Source::HostPath(path)) => {
                found.check(!path.is_empty(), &format!("{at}/hostPath"), "error.minLength");
            }
            Some(Source::Secret(secret)) => secret_volume(app, secret, &at, rules, found),
            Some(Source::External(external)) => {
                external_volume(external, &format!("{at}/external"), rules, found);
                unique &= names.insert(&external.name);
                if !external.shared {
                    exclusive.push(external.name.as_str());
                }
            }
        }
    }
    found.check(unique, "/container/volumes", "Volume names must be unique");
    if !names.is_empty() {
        let over = app.upgrade_strategy.unwrap_or_default().maximum_over_capacity;
        let rule = format!("got {over}, expected 0.0");
        found.check(over == 0.0, "/upgradeStrategy/maximumOverCapacity", rule);
    }
    let rule = format!(
        "Number of instances is limited to 1 when declaring DVDI volumes in app [{}]",
        exclusive.join(", ")
    );
    found.check(exclusive.is_empty() || app.instances <= 1, "/instances", rule);
}

fn secret_volume(app: &App, secret: &str, at: &str, rules: &Rules, found: &mut Found) {
    let rule = "Feature secrets is not enabled. Enable with --enable_features secrets)";
    found.check(rules.secrets_enabled, at, rule);
    let rule = "volume.secret must refer to an existing secret";
    found.check(app.secrets.contains_key(secret), &format!("{at}/secret"), rule);
}

fn external_volume(external: &ExternalVolume, at: &str, rules: &Rules, found: &mut Found) {
    let rule = "Feature external_volumes is not enabled. Enable with --enable_features external_volumes)";
    found.check(rules.external_volumes_enabled, at, rule);
    match external.provider.as_str() {
        "dvdi" => {}
        "csi" => {
            let rule = "is not supported by this version of meshos";
            found.add(&format!("{at}/provider"), rule);
            return;
        }
        _ => {
            found.add(&format!("{at}/provider"), "is unknown provider");
            return;
        }
    }
    found.check(!external.name.is_empty(), &format!("{at}/name"), "error.minLength");
    let driver = external.options.get(DRIVER).is_some_and(|driver| !driver.is_empty());
    let rule = format!("must name the volume driver as '{DRIVER}'");
    found.check(driver, &format!("{at}/options"), rule);
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{ContainerType, ContainerVolume, UpgradeStrategy};

    use super::*;
    use crate::validate::tests::{refused_by, valid};

    fn with(sources: Vec<Source>) -> App {
        let volume = |source| ContainerVolume {
            container_path: "data".into(),
            source: Some(source),
            ..Default::default()
        };
        let container = Container {
            r#type: ContainerType::Mesos.into(),
            volumes: sources.into_iter().map(volume).collect(),
            ..Default::default()
        };
        let strategy = UpgradeStrategy { minimum_health_capacity: 0.5, maximum_over_capacity: 0.0 };
        App { container: Some(container), upgrade_strategy: Some(strategy), ..valid() }
    }

    fn external(name: &str) -> ExternalVolume {
        let options = [(DRIVER.to_owned(), "local".to_owned())].into();
        ExternalVolume { name: name.into(), provider: "dvdi".into(), options, ..Default::default() }
    }

    fn found(app: &App, features: bool) -> String {
        let rules = Rules {
            roles: vec!["*".into()],
            max_instances: 100,
            secrets_enabled: features,
            external_volumes_enabled: features,
            ..Rules::default()
        };
        format!("{:?}", refused_by(app, &rules))
    }

    #[test]
    fn host_paths_need_no_feature_and_others_do() {
        assert_eq!(found(&with(vec![Source::HostPath("/etc".into())]), false), "[]");
        let app = with(vec![Source::External(external("v"))]);
        assert!(found(&app, false).contains("Feature external_volumes is not enabled"));
        assert_eq!(found(&app, true), "[]");
        let app = with(vec![Source::Secret("s".into())]);
        assert!(found(&app, false).contains("Feature secrets is not enabled"));
        assert!(found(&app, true).contains("volume.secret must refer to an existing secret"));
        let secrets = [("s".to_owned(), "source".to_owned())].into();
        assert_eq!(found(&App { secrets, ..app }, true), "[]");
    }

    #[test]
    fn external_volumes_are_checked() {
        let volumes = |items: Vec<ExternalVolume>| with(items.into_iter().map(Source::External).collect());
        let app = volumes(vec![external("v"), external("v")]);
        assert!(found(&app, true).contains("Volume names must be unique"));
        let strange = ExternalVolume { provider: "moon".into(), ..external("v") };
        assert!(found(&volumes(vec![strange]), true).contains("is unknown provider"));
        let driverless = ExternalVolume { options: Default::default(), ..external("v") };
        assert!(found(&volumes(vec![driverless]), true).contains("must name the volume driver"));
        let two = App { instances: 2, ..volumes(vec![external("v")]) };
        assert!(found(&two, true).contains("Number of instances is limited to 1"));
        let shared = ExternalVolume { shared: true, ..external("v") };
        assert_eq!(found(&App { instances: 2, ..volumes(vec![shared]) }, true), "[]");
        let mut over = volumes(vec![external("v")]);
        over.upgrade_strategy = valid().upgrade_strategy;
        assert!(found(&over, true).contains("/upgradeStrategy/maximumOverCapacity"));
    }
}
