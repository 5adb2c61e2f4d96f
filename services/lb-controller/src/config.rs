//! Settings of the controller.

use clap::Args;

/// Flags with marathon-lb's names.
#[derive(Args, Clone, Debug)]
pub struct LbArgs {
    /// Publish apps of these groups (label HAPROXY_GROUP); `*` for all.
    #[arg(long, env = "MARATHON_LB_GROUP", default_value = "external", value_delimiter = ',')]
    pub group: Vec<String>,
}

/// What a controller needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: String,
    pub groups: Vec<String>,
}
