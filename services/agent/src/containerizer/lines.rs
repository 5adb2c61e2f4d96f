//! Lines of the agent about a container that is not there yet, among the container's own in `stderr`.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use super::{ContainerSpec, output_paths};
use crate::beneath::Beneath;

/// Between two lines about how far something got.
pub(super) const TOLD: Duration = Duration::from_secs(5);

/// Where they are written; nowhere, if the sandbox is not there.
pub(super) struct Lines(Option<File>);

impl Lines {
    pub(super) fn open(spec: &ContainerSpec) -> Self {
        let (_, stderr) = output_paths(&spec.sandbox);
        let name = stderr.file_name().map(Path::new);
        let beneath = Beneath::open(&spec.sandbox, None).ok();
        Self(name.zip(beneath).and_then(|(name, beneath)| beneath.write(name).ok()))
    }

    pub(super) fn add(&mut self, line: &str) {
        if let Some(file) = &mut self.0 {
            let _ = file.seek(SeekFrom::End(0)).and_then(|_| writeln!(file, "{line}"));
        }
    }
}
