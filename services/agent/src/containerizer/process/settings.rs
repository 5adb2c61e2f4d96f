//! The agent's flags for processes.

use std::path::PathBuf;

use super::{CgroupSettings, SupervisorProgram};
use crate::{config::Config, fetcher};

/// How processes are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the supervisor.
    pub supervisor_dir: PathBuf,
    pub program: SupervisorProgram,
    pub cgroups: CgroupSettings,
    /// Run a task as the user that it names; needs root.
    pub switch_user: bool,
    pub fetcher: fetcher::Settings,
}

impl Settings {
    /// As the agent's flags say.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let supervisor_dir = config.work_dir.join("supervisor");
        Self {
            program: SupervisorProgram::this_program(&supervisor_dir),
            supervisor_dir,
            cgroups: CgroupSettings {
                enabled: config.wants_cgroups(),
                cpu: config.isolates_by_cgroups("cgroups/cpu"),
                memory: config.isolates_by_cgroups("cgroups/mem"),
                max_pids: config.cgroups_max_pids,
                limit_swap: config.cgroups_limit_swap,
                hierarchy: config.cgroups_hierarchy.clone(),
                root: config.cgroups_root.clone(),
                cfs: config.cgroups_enable_cfs,
            },
            switch_user: config.switch_user,
            fetcher: fetcher::Settings {
                cache_dir: config.fetcher_cache_dir(),
                cache_size: config.fetcher_cache_size,
                stall: config.fetcher_stall_timeout,
                frameworks_home: config.frameworks_home.clone(),
            },
        }
    }
}
