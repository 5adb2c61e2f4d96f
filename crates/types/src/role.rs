//! Roles: names with slashes that form a hierarchy.

use crate::ids::text_newtype;

text_newtype! {
    /// A role such as `eng/web`; `*` is the default role, to which nothing is reserved.
    RoleName
}

/// Why a text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The text is empty.
    #[error("a role must not be empty")]
    Empty,
    /// A slash at the start or the end, or two in a row.
    #[error("role '{0}' must not start or end with a slash or have two in a row")]
    Slash(String),
    /// A component is `.`, `..` or `*`.
    #[error("role '{role}' must not have '{component}' as a component")]
    Component { role: String, component: String },
    /// A component starts with a dash.
    #[error("role '{role}' has the component '{component}', which must not start with '-'")]
    Dash { role: String, component: String },
    /// White space or DEL.
    #[error("role '{0}' must not contain white space or DEL")]
    Character(String),
}

impl RoleName {
    /// The default role, `*`.
    pub fn star() -> Self {
        Self::new("*")
    }

    /// Whether this is `*`.
    pub fn is_star(&self) -> bool {
        self.as_str() == "*"
    }

    /// Takes the text if it is a role (Mesos `src/common/roles.cpp`).
    pub fn parse(text: &str) -> Result<Self, RoleError> {
        check_role(text)?;
        Ok(Self::new(text))
    }

    /// The roles above this one, nearest first: `a/b/c` has `a/b` and `a`.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        ancestors(self.as_str())
    }

    /// Whether this role is below `parent`.
    pub fn is_strict_subrole_of(&self, parent: &str) -> bool {
        is_strict_subrole(self.as_str(), parent)
    }

    /// Whether this role is `other` or below it.
    pub fn is_at_or_below(&self, other: &str) -> bool {
        self.as_str() == other || self.is_strict_subrole_of(other)
    }

    /// The name of the role's directory of volumes: slashes become spaces.
    pub fn to_directory_name(&self) -> String {
        self.as_str().replace('/', " ")
    }
}

impl std::str::FromStr for RoleName {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::parse(text)
    }
}

/// Checks the syntax of a role; `*` is one.
pub fn check_role(role: &str) -> Result<(), RoleError> {
    if role == "*" {
        return Ok(());
    }
    if role.is_empty() {
        return Err(RoleError::Empty);
    }
    if role.contains(['\t', '\n', '\u{b}', '\u{c}', '\r', ' ', '\u{7f}']) {
        return Err(RoleError::Character(role.to_owned()));
    }
    for component in role.split('/') {
        let (role, component) = (role.to_owned(), component.to_owned());
        match component.as_str() {
            "" => return Err(RoleError::Slash(role)),
            "." | ".." | "*" => return Err(RoleError::Component { role, component }),
            text if text.starts_with('-') => return Err(RoleError::Dash { role, component }),
            _ => {}
        }
    }
    Ok(())
}

/// The roles above `role`, nearest first.
pub fn ancestors(role: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(role), |role| parent(role))
}

/// The role directly above `role`.
pub fn parent(role: &str) -> Option<&str> {
    role.rsplit_once('/').map(|(parent, _)| parent)
}

/// Whether `child` is below `parent` in the hierarchy.
pub fn is_strict_subrole(child: &str, parent: &str) -> bool {
    child.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax() {
        for good in ["*", "a", "eng/web", "a.b", "a-b", "a/..b", "ü"] {
            assert_eq!(check_role(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "a/..", "a/*", "-a", "a/-b", "a b", "a\tb", "a\u{7f}"] {
            assert!(check_role(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hierarchy() {
        let role = RoleName::new("a/b/c");
        assert_eq!(role.ancestors().collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(ancestors("a").count(), 0);
        assert!(role.is_strict_subrole_of("a/b") && role.is_at_or_below("a/b/c"));
        assert!(!role.is_strict_subrole_of("a/b/c") && !is_strict_subrole("ab", "a"));
        assert_eq!(role.to_directory_name(), "a b c");
    }
}
