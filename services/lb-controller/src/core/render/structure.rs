//! What of a text cannot be changed while HAProxy runs.

/// The text without what can be changed: addresses, check ports and states of servers. Two texts with the same
/// structure differ in nothing that needs a reload.
pub fn structure(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.trim_start().starts_with("server ") {
            server(line, &mut out);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

fn server(line: &str, out: &mut String) {
    let mut previous = "";
    for (index, word) in line.split_whitespace().enumerate() {
        let shown = match (index, previous) {
            (2, _) | (_, "port") => "@",
            _ if word == "disabled" => continue,
            _ => word,
        };
        out.push(' ');
        out.push_str(shown);
        previous = word;
    }
}

#[cfg(test)]
mod tests {
    use super::structure;

    #[test]
    fn addresses_and_states_are_no_part_of_it() {
        let one = "backend b\n  server s1 10.0.0.1:80 id 1 check port 99 disabled\n";
        let other = "backend b\n  server s1 10.0.0.2:81 id 1 check port 98\n";
        assert_eq!(structure(one), structure(other));
        assert_ne!(structure(one), structure("backend b\n  server s1 10.0.0.1:80 id 1\n"));
        assert_ne!(structure(one), structure("backend c\n  server s1 10.0.0.1:80 id 1 check port 99\n"));
    }
}
