//! Query strings and form bodies.

/// Decoded pairs, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`; a pair without `=` has an empty value.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(name), form_decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the value is `true`, in any case; anything else is false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        // Some clients write `True`.
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

fn form_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// Replaces `%xx`; a percent sign that no two hexadecimal digits follow stays as it is, bytes that are not UTF-8
/// are replaced.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(byte) = bytes.get(place) {
        let digit = |offset: usize| bytes.get(place + offset).and_then(|b| (*b as char).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                place += 3;
            }
            _ => {
                out.push(*byte);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_may_repeat() {
        let query = Query::parse("embed=a&embed=b%2Fc&&force=true&scale=True&empty&x=1+2");
        assert_eq!(query.all("embed").collect::<Vec<_>>(), ["a", "b/c"]);
        assert!(query.flag("force") && query.flag("scale"));
        assert!(!query.flag("empty"));
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("x"), Some("1 2"));
        assert_eq!(query.get("none"), None);
    }

    #[test]
    fn broken_escapes_stay() {
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
        assert_eq!(percent_decode("%ff"), "\u{fffd}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_decodes(text: String) {
            let _ = Query::parse(&text);
        }
    }
}
