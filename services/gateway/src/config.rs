//! Settings of the gateway.

use std::path::PathBuf;

use clap::Args;
use meshos_mesh::{SharedTransport, transport};

/// The gateway's flags. Those that Mesos or Marathon has too keep their names and variables.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// Address of the Mesos API (master, v1 scheduler and operator).
    #[arg(long, env = "MESHOS_MESOS_LISTEN", default_value = "127.0.0.1:5050", value_name = "HOST:PORT")]
    pub mesos_listen: String,
    /// Address of the Marathon API.
    #[arg(long, env = "MESHOS_MARATHON_LISTEN", default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub marathon_listen: String,
    /// Name of the cluster, shown in `/state`.
    #[arg(long, env = "MESOS_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// Host name that clients are told; by default the address listened on, or this machine's name.
    #[arg(long, env = "MESOS_HOSTNAME", value_name = "HOST")]
    pub hostname: Option<String>,
    /// Largest request body on the Mesos API, in bytes.
    #[arg(long, env = "MESHOS_MESOS_BODY_LIMIT", default_value_t = DEFAULT_MESOS_BODY, value_name = "BYTES")]
    pub mesos_body_limit: usize,
    /// Origins whose web pages may read from the Marathon API, with commas between them.
    #[arg(
        long = "access_control_allow_origin",
        env = "MARATHON_ACCESS_CONTROL_ALLOW_ORIGIN",
        value_name = "ORIGINS"
    )]
    pub access_control_allow_origin: Option<String>,
    /// Requests that the Marathon API answers at a time; one more gets 503. Without it there is no limit.
    #[arg(
        long = "http_max_concurrent_requests",
        env = "MARATHON_HTTP_MAX_CONCURRENT_REQUESTS",
        value_name = "NUMBER"
    )]
    pub http_max_concurrent_requests: Option<usize>,
    /// Largest request body on the Marathon API, in bytes.
    #[arg(long, env = "MESHOS_MARATHON_BODY_LIMIT", default_value_t = DEFAULT_MARATHON_BODY, value_name = "BYTES")]
    pub marathon_body_limit: usize,
    /// Event streams of operators; one more closes the oldest.
    #[arg(
        long = "max_operator_event_stream_subscribers",
        env = "MESOS_MAX_OPERATOR_EVENT_STREAM_SUBSCRIBERS",
        default_value_t = DEFAULT_EVENT_STREAMS,
        value_name = "NUMBER"
    )]
    pub max_operator_event_stream_subscribers: usize,
    /// File that is shown as `/master/log`, whoever writes it, instead of that in `--log_dir`.
    #[arg(long = "external_log_file", env = "MESOS_EXTERNAL_LOG_FILE", value_name = "FILE")]
    pub external_log_file: Option<PathBuf>,
}

/// As upstream.
const DEFAULT_EVENT_STREAMS: usize = 1000;
/// An ACCEPT may launch many tasks at once.
const DEFAULT_MESOS_BODY: usize = 32 * 1024 * 1024;
/// A group of some thousand apps.
const DEFAULT_MARATHON_BODY: usize = 8 * 1024 * 1024;

/// Everything the gateway needs to know at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the gRPC server (health only), on the environment's transport.
    pub listen: String,
    pub mesos_listen: String,
    pub marathon_listen: String,
    pub cluster: Option<String>,
    pub hostname: Option<String>,
    pub access_control_allow_origin: Option<String>,
    /// Of the Marathon API, at a time.
    pub http_max_concurrent_requests: Option<usize>,
    /// Bytes.
    pub mesos_body_limit: usize,
    /// Bytes.
    pub marathon_body_limit: usize,
    pub max_operator_event_stream_subscribers: usize,
    /// File that this process writes its log into.
    pub log_file: Option<PathBuf>,
    /// File that is shown as the master's log instead.
    pub external_log_file: Option<PathBuf>,
    /// What the two HTTP listeners listen on; services may use another transport among themselves.
    pub http: SharedTransport,
}

impl Config {
    /// The settings that these flags ask for; `listen` is the address of the gRPC server.
    #[must_use]
    pub fn from_args(args: &GatewayArgs, listen: &str) -> Self {
        Self {
            listen: listen.to_owned(),
            mesos_listen: args.mesos_listen.clone(),
            marathon_listen: args.marathon_listen.clone(),
            cluster: args.cluster.clone(),
            hostname: args.hostname.clone(),
            access_control_allow_origin: args.access_control_allow_origin.clone(),
            http_max_concurrent_requests: args.http_max_concurrent_requests,
            mesos_body_limit: args.mesos_body_limit,
            marathon_body_limit: args.marathon_body_limit,
            max_operator_event_stream_subscribers: args.max_operator_event_stream_subscribers,
            log_file: None,
            external_log_file: args.external_log_file.clone(),
            http: transport::tcp(),
        }
    }
}

impl Default for Config {
    /// Free ports on the loopback interface.
    fn default() -> Self {
        Self {
            listen: "gateway".to_owned(),
            mesos_listen: "127.0.0.1:0".to_owned(),
            marathon_listen: "127.0.0.1:0".to_owned(),
            cluster: None,
            hostname: None,
            access_control_allow_origin: None,
            http_max_concurrent_requests: None,
            mesos_body_limit: DEFAULT_MESOS_BODY,
            marathon_body_limit: DEFAULT_MARATHON_BODY,
            max_operator_event_stream_subscribers: DEFAULT_EVENT_STREAMS,
            log_file: None,
            external_log_file: None,
            http: transport::tcp(),
        }
    }
}
