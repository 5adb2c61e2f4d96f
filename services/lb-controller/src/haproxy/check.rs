//! Has HAProxy look at texts before they are published, and finds out whose text it refuses.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// HAProxy needs a fraction of a second for thousands of apps. Where it takes longer, halves are tried.
const DEADLINE: Duration = Duration::from_secs(10);
/// Of one text: it reads a file that has no end.
const ENDLESS: &str = "HAProxy does not come to an end with it";
/// Longest message that is passed on.
const LONGEST_MESSAGE: usize = 500;

/// A text to look at.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// Backends that it defines: how errors name it that are found only after reading.
    pub backends: Vec<String>,
    /// Words of it that may be paths of files that HAProxy reads.
    pub files: Vec<String>,
    pub text: String,
}

/// Looks at texts with a program and a head of their own.
#[derive(Clone, Debug)]
pub struct Checker {
    binary: String,
    dir: PathBuf,
    head: String,
    /// Longest look.
    deadline: Duration,
}

impl Checker {
    /// `dir`: for this alone; `head`: global settings and defaults.
    #[must_use]
    pub fn new(binary: &str, dir: PathBuf, head: impl Into<String>) -> Self {
        Self { binary: binary.to_owned(), dir, head: head.into(), deadline: DEADLINE }
    }

    /// What is wrong with each text; nothing: it is good.
    ///
    /// # Errors
    /// When HAProxy cannot be run.
    pub async fn check(&self, texts: &[Text]) -> io::Result<Vec<Option<String>>> {
        let mut verdicts: Vec<Option<String>> = texts.iter().map(odd_file).collect();
        let mut sets = vec![(0..texts.len()).filter(|index| verdicts[*index].is_none()).collect::<Vec<_>>()];
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
            _ => DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?,
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
        let output = match timeout(self.deadline, run).await {
            Ok(output) => output?,
            Err(_) if set.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => return Ok(Some(ENDLESS.to_owned())),
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A configuration without a listener is valid here.
        let good = output.status.success() || (output.status.code() == Some(2) && !said.contains("[ALERT]"));
        Ok((!good).then_some(said))
    }
}

/// What is neither a file nor a directory may never come to an end, and holds up everybody.
fn odd_file(text: &Text) -> Option<String> {
    let odd = |path: &&String| fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    text.files.iter().find(odd).map(|path| format!("{path} is no regular file"))
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
        Text {
            backends: vec![backend.into()],
            text: format!("\nbackend {backend}\n{lines}"),
            ..Text::default()
        }
    }

    fn checker(dir: &Path) -> Checker {
        let head = "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n";
        Checker::new("haproxy", dir.join("check"), head)
    }

    #[tokio::test]
    async fn exactly_the_bad_ones_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let checker = checker(dir.path());
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

    #[tokio::test]
    async fn who_holds_haproxy_up_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.pem");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = pipe.to_str().unwrap();
        let checker = Checker { deadline: Duration::from_secs(3), ..checker(dir.path()) };
        let mut texts: Vec<Text> = (0..3).map(|i| text(&format!("b{i}"), "")).collect();
        texts[1].text = format!("\nfrontend f\n  bind 127.0.0.1:1 ssl crt {pipe}\n");
        // Where it can be seen before, nobody has to wait.
        texts[2].files.push(pipe.to_owned());
        let verdicts = checker.check(&texts).await.unwrap();
        let no_file = format!("{pipe} is no regular file");
        assert_eq!(verdicts, [None, Some(ENDLESS.to_owned()), Some(no_file)]);
    }
}
