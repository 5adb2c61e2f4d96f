//! Query strings.

use std::collections::BTreeMap;

/// Parameters by name; of a name given twice the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.entry(decode(name, true)).or_insert_with(|| decode(value, true));
        }
        Self(parameters)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Decodes `%41`, and `+` as a space where that is the custom. What is no escape stays as it is.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = (*byte == b'%').then(|| hex(bytes.get(at + 1..at + 3)?)).flatten();
        decoded.push(match escape {
            Some(value) => value,
            None if plus && *byte == b'+' => b' ',
            None => *byte,
        });
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_oddities_left() {
        let query = Query::parse("path=%2Fa%2fb+c&offset=-1&offset=7&bad=%zz%4&empty");
        assert_eq!(query.get("path"), Some("/a/b c"));
        assert_eq!(query.get("offset"), Some("-1"));
        assert_eq!(query.get("bad"), Some("%zz%4"));
        assert_eq!((query.get("empty"), query.get("none")), (Some(""), None));
        assert_eq!(decode("/slave%281%29/st+ate", false), "/slave(1)/st+ate");
    }
}
