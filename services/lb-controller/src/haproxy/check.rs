//! Has HAProxy look at texts before they are published, and finds out whose text it refuses.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// HAProxy needs a fraction of a second for thousands of apps.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longest message that is passed on.
const LONGEST_MESSAGE: usize = 500;

/// A text to look at.
#[derive(Clone, Debug)]
pub struct Text {
    /// Backends that it defines: how errors name it that are found only after reading.
    pub backends: Vec<String>,
    pub text: String,
}

/// Looks at texts with a program and a head of their own.
#[derive(Clone, Debug)]
pub struct Checker {
    pub binary: String,
    /// Directory for this alone.
    pub dir: PathBuf,
    /// Global settings and defaults.
    pub head: String,
}

impl Checker {
    /// What is wrong with each text; nothing: it is good.
    ///
    /// # Errors
    /// When HAProxy cannot be run.
    pub async fn check(&self, texts: &[Text]) -> io::Result<Vec<Option<String>>> {
        let mut verdicts = vec![None; texts.len()];
        let mut sets: Vec<Vec<usize>> = vec![(0..texts.len()).collect()];
        while let Some(mut set) = sets.pop() {
            let Some(errors) = self.run(texts, &set).await? else { continue };
            let blamed = blame(texts, &set, &errors);
            if !blamed.is_empty() {
                for (index, message) in blamed {
                    set.retain(|other| *other != index);
                    verdicts[index] = Some(message);
                }
                if !set.is_empty() {
                    sets.push(set);
                }
            } else if let [index] = set[..] {
                verdicts[index] = Some(short(&errors));
            } else {
                // It names nobody: one half after the other.
                let other = set.split_off(set.len() / 2);
                sets.extend([set, other]);
            }
        }
        Ok(verdicts)
    }

    /// What HAProxy says of the texts together; nothing: they are good.
    async fn run(&self, texts: &[Text], set: &[usize]) -> io::Result<Option<String>> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&self.dir)?,
        }
        let head = self.dir.join("head");
        fs::write(&head, &self.head)?;
        let parts = self.dir.join("parts");
        fs::create_dir(&parts)?;
        for index in set {
            fs::write(parts.join(name(*index)), &texts[*index].text)?;
        }
        let mut arguments: Vec<&Path> = vec![Path::new("-c"), Path::new("-f"), &head];
        if !set.is_empty() {
            arguments.extend([Path::new("-f"), parts.as_path()]);
        }
        let run = Command::new(&self.binary).args(arguments).kill_on_drop(true).output();
        let output = timeout(DEADLINE, run).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A configuration without a listener is valid here.
        let good = output.status.success() || (output.status.code() == Some(2) && !said.contains("[ALERT]"));
        Ok((!good).then_some(said))
    }
}

fn name(index: usize) -> String {
    format!("{index:08}.cfg")
}

/// Texts that HAProxy names, by file or by backend, with the first thing it says of each.
fn blame(texts: &[Text], set: &[usize], errors: &str) -> BTreeMap<usize, String> {
    let mut blamed = BTreeMap::new();
    for line in errors.lines().filter(|line| line.contains("[ALERT]")) {
        let by_file = set.iter().find(|index| line.contains(&format!("/{}:", name(**index))));
        let by_name = || {
            set.iter().find(|index| {
                texts[**index].backends.iter().any(|backend| line.contains(&format!("'{backend}'")))
            })
        };
        if let Some(index) = by_file.or_else(by_name) {
            blamed.entry(*index).or_insert_with(|| short(line));
        }
    }
    blamed
}

/// What of HAProxy's words is of use to whom wrote the label.
fn short(errors: &str) -> String {
    let line = errors.lines().find(|line| line.contains("[ALERT]")).unwrap_or(errors);
    let said = line.split_once(" : ").map_or(line, |(_, said)| said);
    // `config : parsing [/dir/00000001.cfg:7] : ...`: the file is gone by the time somebody reads this.
    let said = said.rsplit_once("] : ").map_or(said, |(_, said)| said);
    said.trim_start_matches("config : ").chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(backend: &str, lines: &str) -> Text {
        Text { backends: vec![backend.into()], text: format!("\nbackend {backend}\n{lines}") }
    }

    #[tokio::test]
    async fn exactly_the_bad_ones_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let head = "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n";
        let checker = Checker { binary: "haproxy".into(), dir: dir.path().join("check"), head: head.into() };
        let mut texts: Vec<Text> =
            (0..40).map(|i| text(&format!("b{i}"), "  balance roundrobin\n")).collect();
        texts[7].text.push_str("  balance bogus\n");
        // Found only after everything was read.
        texts[9].text.push_str("  server s1 127.0.0.1:1 id 1\n  server s2 127.0.0.1:2 id 1\n");
        texts[11].text.push_str("  nonsense\n");
        let verdicts = checker.check(&texts).await.unwrap();
        let bad: Vec<usize> = (0..40).filter(|index| verdicts[*index].is_some()).collect();
        assert_eq!(bad, [7, 9, 11], "{verdicts:?}");
        assert!(verdicts[7].as_ref().unwrap().contains("balance"), "{:?}", verdicts[7]);
        assert!(checker.check(&[]).await.unwrap().is_empty());
    }
}
