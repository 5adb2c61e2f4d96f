//! What runs in a container with an image: the framework's command and the image's, mixed by upstream's table
//! (Mesos `docker/runtime` isolator).

use std::collections::BTreeMap;

use crate::{containerizer::container::ImageCommand, images::ImageConfig};

/// Where an image and a task say nothing else.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Program, what it is told as its own name, and arguments; none: those of the command itself hold.
///
/// # Errors
/// There is nothing to run.
pub(super) fn program(
    command: &ImageCommand,
    image: &ImageConfig,
) -> Result<Option<(String, String, Vec<String>)>, String> {
    match (&command.value, command.shell) {
        (Some(_), _) => return Ok(None),
        (None, true) => return Err("Shell specified but no command value provided".to_owned()),
        (None, false) => {}
    }
    let given = &command.arguments;
    let line: Vec<String> = match (image.entrypoint.as_slice(), image.cmd.as_slice()) {
        ([], []) => {
            return Err("No executable found: the image has neither an entrypoint nor a command".to_owned());
        }
        // The image's command is a default for what the framework gives.
        ([], cmd) if given.is_empty() => cmd.to_vec(),
        ([], cmd) => cmd.iter().take(1).chain(given).cloned().collect(),
        (entrypoint, cmd) if given.is_empty() => entrypoint.iter().chain(cmd).cloned().collect(),
        (entrypoint, _) => entrypoint.iter().chain(given).cloned().collect(),
    };
    let mut line = line.into_iter();
    let program = line.next().unwrap_or_default();
    Ok(Some((program.clone(), program, line.collect())))
}

/// The image's variables, and over them the task's.
pub(super) fn environment(image: &ImageConfig, task: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    let of_image = image.env.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")));
    all.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
    all.extend(task.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// The line that is run; none: the command's own.
    fn run(
        (shell, value, arguments): (bool, Option<&str>, &[&str]),
        (entrypoint, cmd): (&[&str], &[&str]),
    ) -> Result<Option<Vec<String>>, String> {
        let command = ImageCommand { shell, value: value.map(str::to_owned), arguments: texts(arguments) };
        let image = ImageConfig { entrypoint: texts(entrypoint), cmd: texts(cmd), ..ImageConfig::default() };
        let line = program(&command, &image)?;
        Ok(line.map(|(program, zero, arguments)| {
            assert_eq!(program, zero);
            [vec![program], arguments].concat()
        }))
    }

    #[test]
    fn every_row_of_the_table() {
        const ENTRYPOINT: &[&str] = &["e0", "e1"];
        const CMD: &[&str] = &["c0", "c1"];
        let images: [(&[&str], &[&str]); 4] = [(&[], &[]), (&[], CMD), (ENTRYPOINT, &[]), (ENTRYPOINT, CMD)];
        let row =
            |command| images.map(|image| run(command, image).map(|line| line.map(|line| line.join(" "))));
        let lines = |lines: [&str; 3]| lines.map(|line| Ok(Some(line.to_owned())));

        let nothing = row((false, None, &[]));
        assert!(nothing[0].as_ref().unwrap_err().contains("No executable found"));
        assert_eq!(nothing[1..], lines(["c0 c1", "e0 e1", "e0 e1 c0 c1"]));

        let arguments = row((false, None, &["a0", "a1"]));
        assert!(arguments[0].is_err());
        assert_eq!(arguments[1..], lines(["c0 a0 a1", "e0 e1 a0 a1", "e0 e1 a0 a1"]));

        for given in [
            (false, Some("v"), &[][..]),
            (false, Some("v"), &["a0"]),
            (true, Some("v"), &[]),
            (true, Some("v"), &["a0"]),
        ] {
            assert_eq!(row(given), [Ok(None), Ok(None), Ok(None), Ok(None)]);
        }
        for given in [&[][..], &["a0"]] {
            assert!(row((true, None, given)).iter().all(Result::is_err));
        }
    }

    #[test]
    fn a_tasks_variables_hide_those_of_its_image() {
        let image =
            ImageConfig { env: texts(&["PATH=/image", "A=1=2", "B", "C=image"]), ..ImageConfig::default() };
        let task = BTreeMap::from([("C".to_owned(), "task".to_owned())]);
        let all = environment(&image, &task);
        assert_eq!((all["PATH"].as_str(), all["A"].as_str(), all["B"].as_str()), ("/image", "1=2", ""));
        assert_eq!(all["C"], "task");
        assert_eq!(environment(&ImageConfig::default(), &task)["PATH"], DEFAULT_PATH);
    }
}
