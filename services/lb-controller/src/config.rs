//! Settings of the controller.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{error::Error, marathon::client::Access};

/// Whose HAProxy it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Ownership {
    /// Started and watched by the controller.
    #[default]
    Child,
    /// Started by somebody else on the same directory, with the command that `docs/operations.md` names.
    Beside,
}

/// Flags, with marathon-lb's names where it has them.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct LbArgs {
    /// Follow the API of a Marathon at this address, as marathon-lb does, and not the app-scheduler's gRPC service that
    /// the store names. Only a meshos waits for such a controller before it kills tasks. May be repeated.
    #[arg(long, short = 'm', env = "MESHOS_LB_MARATHON", value_delimiter = ',', num_args = 1.., value_name = "URL")]
    pub marathon: Vec<String>,
    /// Credentials for it.
    #[arg(
        long,
        env = "MESHOS_LB_MARATHON_CREDENTIALS",
        hide_env_values = true,
        value_name = "USER:PASSWORD"
    )]
    pub auth_credentials: Option<String>,
    /// A file whose first line holds them.
    #[arg(long, env = "MESHOS_LB_MARATHON_CREDENTIALS_FILE", value_name = "FILE")]
    pub marathon_auth_credential_file: Option<PathBuf>,
    /// Certificates of authorities for it.
    #[arg(long, env = "MESHOS_LB_MARATHON_CA_CERT", value_name = "FILE")]
    pub marathon_ca_cert: Option<PathBuf>,
    /// Publish apps of these groups (label HAPROXY_GROUP); `*` for all.
    #[arg(
        long,
        env = "MARATHON_LB_GROUP",
        default_value = "external",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub group: Vec<String>,
    /// The HAProxy program, 2.6 or newer.
    #[arg(long, env = "MESHOS_LB_HAPROXY_BINARY", default_value = "haproxy", value_name = "FILE")]
    pub haproxy_binary: String,
    /// Where configuration, maps and sockets lie.
    #[arg(long, env = "MESHOS_LB_DIR", value_name = "DIR")]
    pub haproxy_dir: Option<PathBuf>,
    /// Start and watch a HAProxy, or drive one that somebody else starts on the same directory.
    #[arg(long, env = "MESHOS_LB_HAPROXY", value_enum, default_value_t)]
    pub haproxy: Ownership,
    /// Address that HAProxy's own ports are bound to.
    #[arg(long, env = "MESHOS_LB_BIND_ADDRESS", default_value = "*", value_name = "ADDRESS")]
    pub lb_bind_address: String,
    /// Port of the HTTP virtual hosts.
    #[arg(long, env = "MESHOS_LB_HTTP_PORT", default_value_t = 80, value_name = "PORT")]
    pub http_port: u16,
    /// Port of the HTTPS virtual hosts.
    #[arg(long, env = "MESHOS_LB_HTTPS_PORT", default_value_t = 443, value_name = "PORT")]
    pub https_port: u16,
    /// Port of statistics, metrics and health.
    #[arg(long, env = "MESHOS_LB_ADMIN_PORT", default_value_t = 9090, value_name = "PORT")]
    pub admin_port: u16,
    /// Port at which the header X-Marathon-App-Id chooses the app.
    #[arg(long, env = "MESHOS_LB_APP_ID_PORT", default_value_t = 9091, value_name = "PORT")]
    pub app_id_port: u16,
    /// No virtual hosts: leave the HTTP and HTTPS ports alone.
    #[arg(long, env = "MARATHON_LB_DONT_BIND_HTTP_HTTPS")]
    pub dont_bind_http_https: bool,
    /// Certificates of the HTTPS port: PEM files, or directories of them; the first one is the default.
    #[arg(long, env = "MARATHON_LB_SSL_CERTS", value_delimiter = ',', value_name = "PATH")]
    pub ssl_certs: Vec<PathBuf>,
    /// Publish only ports with HAPROXY_{n}_ENABLED=true.
    #[arg(long, env = "MARATHON_LB_STRICT_MODE")]
    pub strict_mode: bool,
    /// Publish running tasks whatever their health checks say.
    #[arg(long, env = "MESHOS_LB_IGNORE_HEALTH")]
    pub ignore_health: bool,
    /// Accepted as marathon-lb's: health is honoured anyway.
    #[arg(long, short = 'H', env = "MARATHON_LB_HEALTH_CHECK", hide = true)]
    pub health_check: bool,
    /// Accepted as marathon-lb's: maps are used anyway.
    #[arg(long, env = "MARATHON_LB_HAPROXY_MAP", hide = true)]
    pub haproxy_map: bool,
    /// Directory with files `HAPROXY_…` that replace templates.
    #[arg(long, env = "MESHOS_LB_TEMPLATES", value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// Let labels replace templates. Their authors can then write any HAProxy directive.
    #[arg(long, env = "MESHOS_LB_ALLOW_CUSTOM_TEMPLATES")]
    pub allow_custom_templates: bool,
    /// Compress text for clients that accept it.
    #[arg(long, env = "MESHOS_LB_COMPRESSION")]
    pub compression: bool,
    /// Fewest servers that a backend has room for; a scale-up beyond its room reloads HAProxy.
    #[arg(long, env = "MESHOS_LB_MIN_SLOTS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "N")]
    pub min_slots: u32,
    /// Connections that HAProxy takes; as many as its file descriptors allow when absent.
    #[arg(long, env = "MESHOS_LB_MAXCONN", value_name = "N")]
    pub lb_maxconn: Option<u32>,
    /// Longest life of a HAProxy worker after a reload; its connections are cut then.
    #[arg(long, env = "MESHOS_LB_HARD_STOP_AFTER", default_value = "1h", value_parser = meshos_mesh::config::parse_duration, value_name = "DURATION")]
    pub hard_stop_after: Duration,
    /// Reloads that an old worker with open connections outlives; its connections are cut then.
    #[arg(long, env = "MESHOS_LB_MWORKER_MAX_RELOADS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub mworker_max_reloads: u32,
    /// User that HAProxy becomes where it is started as root; empty: it stays root. When absent `haproxy`, or `nobody`
    /// where there is no such user.
    #[arg(long, env = "MESHOS_LB_HAPROXY_USER", value_name = "NAME")]
    pub haproxy_user: Option<String>,
    /// Smallest service port for tasks with an own address and none given; 0: none is assigned.
    #[arg(
        long,
        env = "MARATHON_LB_MIN_SERV_PORT_IP_PER_TASK",
        default_value_t = 10_050,
        value_name = "PORT"
    )]
    pub min_serv_port_ip_per_task: u16,
    /// Largest one.
    #[arg(
        long,
        env = "MARATHON_LB_MAX_SERV_PORT_IP_PER_TASK",
        default_value_t = 10_100,
        value_name = "PORT"
    )]
    pub max_serv_port_ip_per_task: u16,
}

impl LbArgs {
    /// The Marathon to follow over HTTP, if one is named.
    pub(crate) fn marathon_access(&self) -> Result<Option<Access>, Error> {
        let urls: Vec<String> = self.marathon.iter().filter(|url| !url.trim().is_empty()).cloned().collect();
        if urls.is_empty() {
            return Ok(None);
        }
        let file = self.marathon_auth_credential_file.as_ref();
        let credentials = credentials(self.auth_credentials.clone(), file).map_err(Error::Marathon)?;
        Ok(Some(Access { urls, credentials, authorities: self.marathon_ca_cert.clone() }))
    }
}

/// `user:password` as given, or the first line of a file.
pub(crate) fn credentials(given: Option<String>, file: Option<&PathBuf>) -> Result<Option<String>, String> {
    let Some(file) = file else { return Ok(given) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().next().map(|line| line.trim().to_owned()))
}

/// marathon-lb's own command line: what means something here, and what is taken and does nothing.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct MarathonLbArgs {
    #[command(flatten)]
    pub lb: LbArgs,
    /// Events are followed anyway.
    #[arg(long, short = 's', hide = true)]
    sse: bool,
    /// Maps, configuration and sockets lie in --haproxy-dir.
    #[arg(long, hide = true)]
    haproxy_config: Option<String>,
    /// HAProxy is told by its master socket.
    #[arg(long, short = 'c', hide = true)]
    command: Option<String>,
    #[arg(long, hide = true, allow_negative_numbers = true)]
    max_reload_retries: Option<i64>,
    #[arg(long, hide = true)]
    reload_interval: Option<f64>,
    #[arg(long, hide = true)]
    max_backoff: Option<f64>,
    /// What HAProxy refuses is never loaded.
    #[arg(long, hide = true)]
    skip_validation: bool,
    #[arg(long, hide = true)]
    skip_config_cleanup: bool,
    #[arg(long, hide = true)]
    archive_versions: Option<u64>,
    #[arg(long, hide = true)]
    lru_cache_capacity: Option<u64>,
    #[arg(long, hide = true)]
    syslog_socket: Option<String>,
    #[arg(long, hide = true)]
    log_level: Option<String>,
    /// Print the configuration for the apps that there are now, and end.
    #[arg(long, short = 'd')]
    pub dry: bool,
    #[arg(long, hide = true, action = clap::ArgAction::HelpLong)]
    longhelp: Option<bool>,
    /// Certificates are chosen by the name that a client asks for anyway.
    #[arg(long, hide = true)]
    group_https_by_vhost: bool,
}

impl MarathonLbArgs {
    /// The settings, with the directory of templates that marathon-lb took by itself: in a task's sandbox, or below the
    /// working directory.
    #[must_use]
    pub fn settings(self, sandbox: Option<&Path>) -> LbArgs {
        let mut settings = self.lb;
        let mut usual = sandbox.into_iter().chain([Path::new(".")]).map(|dir| dir.join("templates"));
        settings.templates = settings.templates.or_else(|| usual.find(|dir| dir.is_dir()));
        settings
    }
}

/// What a controller needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: String,
    pub args: LbArgs,
    /// Where configuration, maps and sockets lie, unless the arguments say so.
    pub dir: PathBuf,
    /// Variables HAPROXY_*: templates, certificates, default options.
    pub haproxy_variables: BTreeMap<String, String>,
    /// The app that this controller is a task of (FRAMEWORK_NAME): it is not published.
    pub own_app: Option<String>,
    /// Leave HAProxy running when the controller stops.
    pub keep_haproxy: bool,
}

impl Config {
    /// The variables HAPROXY_* come from this process's environment.
    #[must_use]
    pub fn new(listen: impl Into<String>, args: LbArgs, dir: impl Into<PathBuf>) -> Self {
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("HAPROXY_"))?;
            Some((name, value.into_string().ok()?))
        };
        let haproxy_variables = std::env::vars_os().filter_map(ours).collect();
        let own_app = std::env::var("FRAMEWORK_NAME").ok();
        Self { listen: listen.into(), args, dir: dir.into(), haproxy_variables, own_app, keep_haproxy: false }
    }

    /// The directory in use.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.args.haproxy_dir.clone().unwrap_or_else(|| self.dir.clone())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        args: MarathonLbArgs,
    }

    fn parsed(line: &str) -> MarathonLbArgs {
        Probe::try_parse_from(line.split(' ')).map_err(|error| error.to_string()).unwrap().args
    }

    #[test]
    fn marathon_lbs_command_line_is_taken() {
        let lb = parsed(
            "x -m http://a:8080 http://b:8080 --group external --group internal -s -H --haproxy-config \
             /etc/haproxy/haproxy.cfg -c reload --haproxy-map --dont-bind-http-https --ssl-certs /a.pem,/b.pem \
             --strict-mode --group-https-by-vhost --min-serv-port-ip-per-task 10050 --max-serv-port-ip-per-task 10100 \
             --max-reload-retries -1 --reload-interval 10 --max-backoff 300 --skip-validation --skip-config-cleanup \
             --archive-versions 5 --lru-cache-capacity 1000 --auth-credentials u:p --marathon-auth-credential-file /f \
             --marathon-ca-cert /ca --log-level DEBUG --dry --syslog-socket /dev/null",
        );
        assert!(lb.dry);
        let lb = lb.lb;
        assert_eq!((lb.marathon.len(), lb.group.len(), lb.ssl_certs.len()), (2, 2, 2));
        assert!(lb.strict_mode && lb.dont_bind_http_https);
        let help = Probe::try_parse_from(["x", "--longhelp"]).err().unwrap();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    }

    #[test]
    fn templates_lie_where_marathon_lb_looked_for_them() {
        let sandbox = tempfile::tempdir().unwrap();
        let none = || parsed("x -m http://a:8080");
        assert_eq!(none().settings(Some(sandbox.path())).templates, None);
        let dir = sandbox.path().join("templates");
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(none().settings(Some(sandbox.path())).templates, Some(dir.clone()));
        let named = parsed("x -m http://a:8080 --templates /t").settings(Some(sandbox.path()));
        assert_eq!(named.templates, Some("/t".into()));
    }
}
