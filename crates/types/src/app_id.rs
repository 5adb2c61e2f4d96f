//! Marathon paths: the ids of apps, groups and pods, which share one tree.

use std::{fmt, str::FromStr, sync::Arc};

/// The last segment of an app's id may not be one of these: they are names of endpoints.
const RESERVED_ENDINGS: [&str; 3] = ["restart", "tasks", "versions"];

/// Longest path, in bytes. Instance and task ids are made from it, and keys of the store and file names from those.
pub const MAX_LEN: usize = 190;
/// Most segments of a path. Work for a change grows with the depth of the tree.
pub const MAX_DEPTH: usize = 32;

/// Why a text is not a path, or a path not the id of an app. The messages are those of Marathon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppIdError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The path has too many bytes.
    #[error("is too long: {len} bytes, at most {MAX_LEN} are allowed")]
    TooLong { len: usize },
    /// The path has too many segments.
    #[error("is too deep: {depth} segments, at most {MAX_DEPTH} are allowed")]
    TooDeep { depth: usize },
    /// A segment has characters or a form that no segment may have.
    #[error(
        "must fully match regular expression '{}', but '{segment}' does not",
        r"^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$"
    )]
    Segment { segment: String },
    /// The path is `/`, which is the root group.
    #[error("must not be root")]
    Root,
    /// The last segment is the name of an endpoint.
    #[error("must not end with any of the following reserved keywords: restart, tasks, versions, ., ..")]
    Reserved,
}

/// An absolute, canonical path such as `/prod/shop/web`; `/` is the root group. Ids of apps, groups and pods.
///
/// Segments are lower-case letters, digits and inner dashes, with dots between such labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(Arc<str>);

impl AppId {
    /// The root group, `/`.
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    /// Reads a path; a relative one is taken from the root.
    pub fn parse(text: &str) -> Result<Self, AppIdError> {
        Self::resolve(&Self::root(), text)
    }

    /// Reads a path; a relative one (`b`, `./b`, `../b`) is taken from `base`. `..` above the root stays there,
    /// empty segments and a trailing slash are dropped. The result has at most [`MAX_LEN`] bytes and [`MAX_DEPTH`]
    /// segments.
    pub fn resolve(base: &AppId, text: &str) -> Result<Self, AppIdError> {
        if text.is_empty() {
            return Err(AppIdError::Empty);
        }
        let mut segments: Vec<&str> =
            if text.starts_with('/') { Vec::new() } else { base.segments().collect() };
        for segment in text.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                _ if is_segment(segment) => segments.push(segment),
                _ => return Err(AppIdError::Segment { segment: segment.to_owned() }),
            }
        }
        Self::from_segments(&segments)
    }

    fn from_segments(segments: &[&str]) -> Result<Self, AppIdError> {
        if segments.len() > MAX_DEPTH {
            return Err(AppIdError::TooDeep { depth: segments.len() });
        }
        let text = format!("/{}", segments.join("/"));
        if text.len() > MAX_LEN {
            return Err(AppIdError::TooLong { len: text.len() });
        }
        Ok(Self(Arc::from(text)))
    }

    /// Checks what holds for apps and not for groups: not the root, no reserved ending.
    pub fn check_app(&self) -> Result<(), AppIdError> {
        match self.last() {
            None => Err(AppIdError::Root),
            Some(last) if RESERVED_ENDINGS.contains(&last) => Err(AppIdError::Reserved),
            Some(_) => Ok(()),
        }
    }

    /// The text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The segments, outermost first; none for the root.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The last segment; none for the root.
    pub fn last(&self) -> Option<&str> {
        self.segments().next_back()
    }

    /// The group that holds this path; none for the root.
    pub fn parent(&self) -> Option<AppId> {
        match self.0.rfind('/')? {
            0 if self.is_root() => None,
            0 => Some(Self::root()),
            end => Some(Self(Arc::from(&self.0[..end]))),
        }
    }

    /// The groups that hold this path, innermost first, the root last.
    pub fn ancestors(&self) -> impl Iterator<Item = AppId> {
        std::iter::successors(self.parent(), AppId::parent)
    }

    /// The path of a member of this group.
    pub fn child(&self, segment: &str) -> Result<AppId, AppIdError> {
        if !is_segment(segment) {
            return Err(AppIdError::Segment { segment: segment.to_owned() });
        }
        let segments: Vec<&str> = self.segments().chain([segment]).collect();
        Self::from_segments(&segments)
    }

    /// Whether this path is inside the group `group`, at any depth, and not the group itself.
    pub fn is_below(&self, group: &AppId) -> bool {
        if group.is_root() {
            return !self.is_root();
        }
        self.0.strip_prefix(&*group.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The path with underscores, as in instance and task ids: `/a/b` is `a_b`. Reversible.
    pub fn to_safe(&self) -> String {
        self.0[1..].replace('/', "_")
    }

    /// The path that [`Self::to_safe`] made this text from.
    pub fn from_safe(text: &str) -> Result<Self, AppIdError> {
        Self::parse(&format!("/{}", text.replace('_', "/")))
    }

    /// The name of the app's tasks for service discovery: `/a/b` is `b.a`.
    pub fn task_name(&self) -> String {
        self.segments().rev().collect::<Vec<_>>().join(".")
    }
}

/// Labels of lower-case letters, digits and inner dashes, with dots between them.
fn is_segment(text: &str) -> bool {
    text.split('.').all(|label| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(allowed) && !label.starts_with('-') && !label.ends_with('-')
    })
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppId({})", self.0)
    }
}

impl AsRef<str> for AppId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for AppId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppId {
    type Err = AppIdError;

    fn from_str(text: &str) -> Result<Self, AppIdError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AppId {
        AppId::parse(text).unwrap()
    }

    #[test]
    fn relative_paths_are_resolved() {
        let base = id("/p/svc");
        for (text, want) in [
            ("/a/b", "/a/b"),
            ("b", "/p/svc/b"),
            ("./b", "/p/svc/b"),
            ("../db", "/p/db"),
            ("../../../x", "/x"),
            ("..", "/p"),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a.b-c.d", "/p/svc/a.b-c.d"),
        ] {
            assert_eq!(AppId::resolve(&base, text).unwrap().as_str(), want, "{text}");
        }
    }

    #[test]
    fn bad_segments_are_refused() {
        for text in ["A", "a_b", "-a", "a-", "a..b", ".a", "a b", "/a/ü", "a%"] {
            assert!(matches!(AppId::parse(text), Err(AppIdError::Segment { .. })), "{text}");
        }
        assert_eq!(AppId::parse(""), Err(AppIdError::Empty));
    }

    #[test]
    fn length_and_depth_are_limited() {
        let longest = format!("/{}", "a".repeat(MAX_LEN - 1));
        assert_eq!(id(&longest).as_str(), longest);
        assert_eq!(AppId::parse(&format!("{longest}a")), Err(AppIdError::TooLong { len: MAX_LEN + 1 }));
        assert_eq!(id(&longest).child("b"), Err(AppIdError::TooLong { len: MAX_LEN + 2 }));
        assert!(AppId::resolve(&id(&longest), "b").is_err(), "a relative path counts with its base");
        let deepest = id(&"/a".repeat(MAX_DEPTH));
        assert_eq!(deepest.child("a"), Err(AppIdError::TooDeep { depth: MAX_DEPTH + 1 }));
        assert_eq!(AppId::resolve(&deepest, "../b").unwrap().segments().count(), MAX_DEPTH);
        let many = "a/".repeat(10_000);
        assert_eq!(AppId::parse(&many), Err(AppIdError::TooDeep { depth: 10_000 }));
    }

    #[test]
    fn app_rules() {
        assert_eq!(id("/").check_app(), Err(AppIdError::Root));
        assert_eq!(id("/a/restart").check_app(), Err(AppIdError::Reserved));
        assert_eq!(id("/tasks/a").check_app(), Ok(()));
    }

    #[test]
    fn family() {
        let web = id("/p/svc/web");
        assert_eq!(web.parent(), Some(id("/p/svc")));
        assert_eq!(id("/p").parent(), Some(AppId::root()));
        assert_eq!(AppId::root().parent(), None);
        assert_eq!(web.ancestors().map(|a| a.to_string()).collect::<Vec<_>>(), ["/p/svc", "/p", "/"]);
        assert!(web.is_below(&id("/p")) && web.is_below(&AppId::root()));
        assert!(
            !web.is_below(&web)
                && !id("/p/svc2").is_below(&id("/p/svc"))
                && !AppId::root().is_below(&AppId::root())
        );
        assert_eq!(id("/p").child("svc"), Ok(id("/p/svc")));
        assert_eq!(AppId::root().child("p"), Ok(id("/p")));
        assert!(id("/p").child("a/b").is_err());
    }

    #[test]
    fn safe_form_is_reversible() {
        let web = id("/p/svc-1/web.x");
        assert_eq!(web.to_safe(), "p_svc-1_web.x");
        assert_eq!(AppId::from_safe(&web.to_safe()), Ok(web.clone()));
        assert_eq!(web.task_name(), "web.x.svc-1.p");
    }
}
