//! `?embed=`: which extras a reply has.

use crate::http::Query;

/// What to show beside a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::marathon) struct Embeds {
    pub(in crate::marathon) tasks: bool,
    pub(in crate::marathon) counts: bool,
    pub(in crate::marathon) deployments: bool,
    pub(in crate::marathon) readiness: bool,
    pub(in crate::marathon) last_task_failure: bool,
    pub(in crate::marathon) task_stats: bool,
    /// Statistics under their older name alone: clients that ask for `app.taskStats` may refuse the other one.
    pub(in crate::marathon) older_name: bool,
    /// For ages; Unix time in milliseconds.
    pub(in crate::marathon) now_ms: u64,
}

impl Embeds {
    /// The same at this time.
    pub(in crate::marathon) fn at(self, now_ms: u64) -> Self {
        Self { now_ms, ..self }
    }

    /// In a list of apps.
    pub(in crate::marathon) fn of_list(query: &Query) -> Self {
        Self { counts: true, deployments: true, ..Self::asked(query, &["", "app.", "apps."]) }
    }

    /// For a single app.
    pub(in crate::marathon) fn of_one(query: &Query) -> Self {
        let asked = Self::asked(query, &["", "app.", "apps."]);
        Self { counts: true, deployments: true, tasks: true, last_task_failure: true, ..asked }
    }

    /// For apps within groups: nothing unless asked for.
    pub(in crate::marathon) fn of_group(query: &Query) -> Self {
        Self::asked(query, &["group.apps.", "app.", "apps.", ""])
    }

    fn asked(query: &Query, prefixes: &[&str]) -> Self {
        let mut embeds = Self::default();
        for word in query.all("embed") {
            let bare = prefixes
                .iter()
                .chain(&["group.apps."])
                .find_map(|prefix| word.strip_prefix(prefix).filter(|rest| !rest.contains('.')));
            match bare {
                Some("tasks") => (embeds.tasks, embeds.deployments) = (true, true),
                Some("counts") => embeds.counts = true,
                Some("deployments") => embeds.deployments = true,
                Some("readiness") => embeds.readiness = true,
                Some("lastTaskFailure") => embeds.last_task_failure = true,
                Some("failures") => {
                    (embeds.tasks, embeds.last_task_failure, embeds.deployments) = (true, true, true);
                }
                Some("taskStats") => {
                    (embeds.task_stats, embeds.older_name) = (true, word.starts_with("app."));
                }
                _ => {}
            }
        }
        embeds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_carry_a_prefix() {
        for text in ["embed=tasks", "embed=app.tasks", "embed=apps.tasks", "embed=group.apps.tasks"] {
            assert!(Embeds::of_list(&Query::parse(text)).tasks, "{text}");
        }
        assert!(!Embeds::of_list(&Query::parse("embed=nosuch&embed=x.tasks")).tasks);
        let failures = Embeds::of_group(&Query::parse("embed=failures"));
        assert!(failures.tasks && failures.last_task_failure && failures.deployments && !failures.counts);
    }

    #[test]
    fn marathon_c48_defaults() {
        let list = Embeds::of_list(&Query::default());
        assert!(list.counts && list.deployments && !list.tasks);
        let one = Embeds::of_one(&Query::default());
        assert!(one.counts && one.tasks && one.last_task_failure && one.deployments && !one.task_stats);
    }
}
