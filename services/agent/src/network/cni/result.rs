//! What plugins answer.

use std::net::IpAddr;

use serde_json::Value;

/// The addresses that the container has got, without the lengths of their prefixes.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array);
    let address = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
    ips.into_iter().flatten().filter_map(address).collect()
}

/// What the network says about names, as lines of a resolv.conf.
pub(super) fn resolv_conf(result: &Value) -> String {
    let Some(dns) = result.get("dns") else { return String::new() };
    let texts = |name: &str| -> Vec<&str> {
        let all = dns.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).filter(|text| !text.contains(char::is_control)).collect()
    };
    let mut lines: Vec<String> = Vec::new();
    let domain = dns.get("domain").and_then(Value::as_str).filter(|text| !text.is_empty());
    lines.extend(domain.map(|domain| format!("domain {domain}")));
    let line =
        |word: &str, texts: &[&str]| (!texts.is_empty()).then(|| format!("{word} {}", texts.join(" ")));
    lines.extend(line("search", &texts("search")));
    lines.extend(line("options", &texts("options")));
    lines.extend(texts("nameservers").iter().map(|server| format!("nameserver {server}")));
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// What a plugin says about its failure.
pub(super) fn failure(output: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(output).ok()?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let message = text("msg")?;
    Some(text("details").map_or_else(|| message.to_owned(), |details| format!("{message}: {details}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_of_all_versions_are_read() {
        let result = json!({
            "ips": [{"version": "4", "address": "10.1.2.3/24"}, {"address": "fd00::2/64"}, {"address": "x"}, {}],
            "dns": {"nameservers": ["10.1.2.1", "bad\nnameserver 6.6.6.6"], "domain": "a.b", "search": ["a", "b"]},
        });
        assert_eq!(addresses(&result), ["10.1.2.3", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(resolv_conf(&result), "domain a.b\nsearch a b\nnameserver 10.1.2.1\n");
        assert_eq!((addresses(&json!(7)), resolv_conf(&json!({"dns": {}}))), (vec![], String::new()));
        let failed = json!({"code": 11, "msg": "no range", "details": "full"}).to_string();
        assert_eq!(failure(failed.as_bytes()).unwrap(), "no range: full");
        assert_eq!(failure(b"oops"), None);
    }
}
