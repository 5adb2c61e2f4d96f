//! What the engine says of a container.

use std::net::IpAddr;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};

use crate::containerizer::{Exit, ExitStatus, NetworkStatus, container::NetworkAddresses};

/// A container as the agent cares for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) running: bool,
    /// It was made and never started.
    pub(super) created: bool,
    /// 0 when it does not run.
    pub(super) pid: u32,
    /// Of one that has ended.
    pub(super) exit: Option<Exit>,
    pub(super) stop_signal: Option<String>,
    pub(super) terminal: bool,
    pub(super) network: NetworkStatus,
    pub(super) on_host: bool,
    pub(super) engine_id: String,
}

impl Seen {
    pub(super) fn new(response: ContainerInspectResponse) -> Self {
        let state = response.state.unwrap_or_default();
        let running = state.running.unwrap_or_default();
        let created = state.status == Some(ContainerStateStatusEnum::CREATED);
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
        let exit = Exit {
            status: code.map_or(ExitStatus::Unknown, ExitStatus::Code),
            out_of_memory: state.oom_killed.unwrap_or_default() && code != Some(0),
        };
        let config = response.config.unwrap_or_default();
        let mode = response.host_config.and_then(|host| host.network_mode).unwrap_or_default();
        let networks = response.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        Self {
            running,
            created,
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
            exit: (!running && !created).then_some(exit),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            terminal: config.tty.unwrap_or_default(),
            network: addresses(networks),
            on_host: mode == "host",
            engine_id: response.id.unwrap_or_default(),
        }
    }
}

/// Networks without an address are the machine's own, or none.
fn addresses(
    networks: std::collections::HashMap<String, bollard::models::EndpointSettings>,
) -> NetworkStatus {
    let mut found: Vec<_> = networks
        .into_iter()
        .map(|(name, endpoint)| {
            let given = [endpoint.ip_address, endpoint.global_ipv6_address];
            let parsed = given.into_iter().flatten().filter_map(|text| text.parse::<IpAddr>().ok());
            NetworkAddresses { name: Some(name), addresses: parsed.collect() }
        })
        .filter(|network| !network.addresses.is_empty())
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    NetworkStatus { networks: found }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerState;

    use super::*;

    fn seen(text: &str) -> Seen {
        Seen::new(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn ends_and_addresses_are_read() {
        let ended = seen(r#"{"State":{"Status":"exited","Running":false,"ExitCode":137,"OOMKilled":true}}"#);
        assert_eq!(ended.exit, Some(Exit { status: ExitStatus::Code(137), out_of_memory: true }));
        let created = seen(r#"{"State":{"Status":"created","Running":false,"ExitCode":0}}"#);
        assert!(created.created && created.exit.is_none());
        let running = seen(
            r#"{"State":{"Status":"running","Running":true,"Pid":7},"Config":{"StopSignal":"SIGQUIT","Tty":true},
                "HostConfig":{"NetworkMode":"bridge"},
                "NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2","GlobalIPv6Address":""},
                    "none":{"IPAddress":""}}}}"#,
        );
        assert_eq!((running.pid, running.exit, running.on_host), (7, None, false));
        assert_eq!(running.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(running.network.networks.len(), 1);
        assert_eq!(running.network.networks[0].addresses, ["172.17.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            Seen::new(ContainerInspectResponse {
                state: Some(ContainerState::default()),
                ..Default::default()
            })
            .exit
            .unwrap()
            .status,
            ExitStatus::Unknown
        );
    }
}
