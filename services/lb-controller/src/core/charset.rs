//! Which characters a user's text may have, by the place that it is for. None of these sets has a blank (but
//! [`Kind::Words`] and [`Kind::Realm`]), a quote, a backslash, a `#`, or a line break: in HAProxy's configuration
//! such a text cannot end its argument.

/// The place that a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Arguments of one directive. Without `$`, `%` and quotes: nothing is expanded in them.
    Words,
    Path,
    /// A path, and a query.
    Query,
    File,
    Name,
    Realm,
    Hash,
    AppId,
}

impl Kind {
    fn extra(self) -> &'static str {
        match self {
            Self::Words => " _-.,:/()+!=@*[]",
            Self::Path => "/-._~!&()*+,;=:@%",
            Self::Query => "/-._~!&()*+,;=:@%?",
            Self::File => "/-._",
            Self::Name => "-._@",
            Self::Realm => " -._",
            Self::Hash => "./$,=+_-*",
            Self::AppId => "-./",
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Words | Self::Path | Self::Query | Self::File | Self::Hash => 1000,
            Self::Name | Self::Realm | Self::AppId => 200,
        }
    }
}

/// The text, if it may stand at that place.
///
/// # Errors
/// Names the first character that may not.
pub fn checked(text: &str, kind: Kind) -> Result<String, String> {
    if text.is_empty() {
        return Err("the value is empty".to_owned());
    }
    if text.len() > kind.longest() {
        return Err(format!("the value is longer than {} bytes", kind.longest()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || kind.extra().contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some(bad) => Err(format!("'{}' must not contain {bad:?}", shown(text))),
        None if kind == Kind::Path && text.contains("%[") => {
            Err(format!("'{}' must not contain \"%[\"", shown(text)))
        }
        None => Ok(text.to_owned()),
    }
}

/// A host name in lower case; `*.` at its begin stands for any subdomain.
///
/// # Errors
/// When it is none.
pub fn host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || lower.len() > 253 || !name.chars().all(good) {
        return Err(format!("'{}' is no host name", shown(text)));
    }
    Ok(lower)
}

/// A user's text in a message: short and on one line.
pub fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}
