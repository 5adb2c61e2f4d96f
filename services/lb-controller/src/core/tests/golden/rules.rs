//! Rules of the HTTP and HTTPS ports whose templates labels replace: one case for each template that the others do not
//! have.

use super::{Case, HOST, case};

const HOSTS: (&str, &str) = ("HAPROXY_0_VHOST", "a.test,b.test");
const PATH: (&str, &str) = ("HAPROXY_0_PATH", "/x");
const AUTH: (&str, &str) = ("HAPROXY_0_AUTH", "r:bob:$1$x$y");
const REDIRECT: (&str, &str) = ("HAPROXY_0_REDIRECT_TO_HTTPS", "true");
const MINE: &str = "  use_backend {backend} if {{ hdr(host) -i {hostname} }} {{ path_beg /mine }}\n";
const ROUTE: &str = "  use_backend {backend} if host_{cleanedUpHostname} {{ path_beg /mine }}\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = of_one_host();
    cases.extend(of_several_hosts());
    cases
}

fn of_one_host() -> Vec<Case> {
    vec![
        case(
            "rules_with_auth",
            &[
                HOST,
                AUTH,
                ("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_AUTH", MINE),
                (
                    "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_AUTH",
                    "  http-request auth realm \"{realm}\" unless {{ http_auth(user_{backend}) }}\n",
                ),
            ],
        ),
        case(
            "rules_with_auth_and_path",
            &[
                HOST,
                AUTH,
                PATH,
                ("HAPROXY_0_HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH", MINE),
                (
                    "HAPROXY_0_HTTPS_FRONTEND_ACL_ONLY_WITH_PATH",
                    "  acl path_{backend} path_beg {path} /also\n",
                ),
                (
                    "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH",
                    "  use_backend {backend} if {{ ssl_fc_sni {hostname} }} path_{backend}\n",
                ),
            ],
        ),
        case(
            "rule_https_with_path",
            &[
                HOST,
                PATH,
                (
                    "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH",
                    "  use_backend {backend} if {{ ssl_fc_sni {hostname} }} path_{backend}\n",
                ),
            ],
        ),
        case(
            "rule_redirect",
            &[
                HOST,
                REDIRECT,
                (
                    "HAPROXY_0_BACKEND_REDIRECT_HTTP_TO_HTTPS",
                    "  redirect scheme https code 302 if host_{cleanedUpHostname}\n",
                ),
            ],
        ),
        case(
            "rule_redirect_with_path",
            &[
                HOST,
                PATH,
                REDIRECT,
                (
                    "HAPROXY_0_BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH",
                    "  redirect scheme https code 302 if host_{cleanedUpHostname} path_{backend}\n",
                ),
            ],
        ),
        case("ssl_cert", &[("HAPROXY_0_SSL_CERT", super::CERTIFICATE)]),
    ]
}

fn of_several_hosts() -> Vec<Case> {
    vec![
        case("rules_of_hosts", &[HOSTS, ("HAPROXY_0_HTTP_FRONTEND_ROUTING_ONLY", ROUTE)]),
        case(
            "rules_of_hosts_with_auth",
            &[HOSTS, AUTH, ("HAPROXY_0_HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH", ROUTE)],
        ),
        case(
            "rules_of_hosts_with_path",
            &[
                HOSTS,
                PATH,
                ("HAPROXY_0_HTTP_FRONTEND_ACL_ONLY_WITH_PATH", "  acl path_{backend} path_end {path}\n"),
                ("HAPROXY_0_HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH", ROUTE),
            ],
        ),
        case(
            "rules_of_hosts_with_path_and_auth",
            &[
                HOSTS,
                PATH,
                AUTH,
                (
                    "HAPROXY_0_HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH",
                    "  acl path_{backend} path_beg {path}\n  acl auth_mine http_auth(user_{backend})\n",
                ),
                (
                    "HAPROXY_0_HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH",
                    "  use_backend {backend} if host_{cleanedUpHostname} path_{backend} auth_mine\n",
                ),
            ],
        ),
    ]
}
