//! What the core works on: apps and tasks as the load balancer needs them.

use std::{collections::BTreeMap, fmt, net::IpAddr};

/// One app.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct App {
    /// Absolute, e.g. `/a/b`.
    pub id: String,
    /// Unix time, milliseconds; the older of two apps wins what both ask for.
    pub version_ms: u64,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    /// Those that HAProxy can make as well.
    pub checks: Vec<Check>,
    /// Whether its tasks are checked at all.
    pub checked: bool,
    /// Wanted ones.
    pub instances: u32,
    pub last_scaling_ms: u64,
}

/// A service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// 0: none was given.
    pub number: u16,
    /// HAProxy cannot serve it.
    pub udp: bool,
    /// Where tasks with an own address listen; 0: they have none.
    pub own: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Http,
    Https,
    Tcp,
}

impl Protocol {
    /// As Marathon spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tcp => "TCP",
        }
    }
}

/// A health check of the app.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    pub protocol: Protocol,
    pub path: Option<String>,
    pub port_index: Option<usize>,
    /// Overrides the index.
    pub port: Option<u16>,
    pub grace_period_s: u64,
    pub interval_s: u64,
    pub timeout_s: u64,
    pub max_failures: u32,
}

/// One instance of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Of the instance.
    pub id: String,
    pub app_id: String,
    /// None: not known (yet).
    pub address: Option<IpAddr>,
    /// By index of the service port.
    pub ports: Vec<u16>,
    /// Running, or out of sight but not known to be gone.
    pub serving: bool,
    /// What the app's checks say; none: nothing.
    pub alive: Option<bool>,
    /// About to be killed.
    pub leaving: bool,
}

/// Something that an app asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub app_id: String,
    /// Empty: not of one label.
    pub label: String,
    pub message: String,
}

impl Problem {
    pub fn new(app_id: &str, label: impl Into<String>, message: impl Into<String>) -> Self {
        Self { app_id: app_id.to_owned(), label: label.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label.as_str() {
            "" => write!(f, "app {}: {}", self.app_id, self.message),
            label => write!(f, "app {}, label {label}: {}", self.app_id, self.message),
        }
    }
}

/// How a service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Tcp,
    Http,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }
}
