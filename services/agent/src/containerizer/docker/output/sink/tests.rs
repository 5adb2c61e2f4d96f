use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn source(dir: &Path) -> Source {
    let sandbox = std::fs::canonicalize(dir).unwrap();
    for name in ["stdout", "stderr"] {
        let _ = OpenOptions::new().append(true).create(true).open(sandbox.join(name)).unwrap();
    }
    Source { container_id: "c".to_owned(), journal: sandbox.join("journal"), sandbox, terminal: false }
}

/// The engine's log, read from a second on, as it gives it.
fn read(log: &[Entry], since: i32) -> Vec<Entry> {
    let since = u64::try_from(since).unwrap() * 1_000_000_000;
    log.iter().filter(|entry| entry.time >= since).cloned().collect()
}

/// What a process that is killed within a write leaves: the record, and a part of the text.
fn killed_within(stream: &mut Stream, entries: Vec<Entry>, part: usize) {
    let (mut text, mut after, behind) = (Vec::new(), stream.place, stream.behind());
    for entry in entries {
        if let Some(rest) = stream.skip.rest(entry) {
            text.extend_from_slice(&rest.text);
            after.pass(&rest);
        }
    }
    let length = stream.file.metadata().unwrap().len();
    let record = Record { place: stream.place, behind, length, more: text.len() as u64 };
    if !text.is_empty() {
        record.write(&stream.journal, stream.at).unwrap();
        stream.file.write_all(&text[..part.min(text.len())]).unwrap();
    }
}

fn history(times: &[u64]) -> Vec<Entry> {
    let mut time = 1_000_000_000;
    let entry = |(number, step): (usize, &u64)| {
        time += step;
        Entry { time, text: Bytes::from(format!("line {number}\n")) }
    };
    times.iter().enumerate().map(entry).collect()
}

proptest! {
    /// However often the agent is killed, and wherever: the file holds the log once.
    #[test]
    fn nothing_is_lost_and_nothing_doubled(
        steps in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(700_000_000)], 1..40),
        lives in proptest::collection::vec((0_usize..8, 0_usize..4, 0_usize..30), 0..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let source = source(dir.path());
        let log = history(&steps);
        for (whole, torn, part) in lives {
            let mut sink = Sink::open(&source).unwrap();
            let mut entries = read(&log, sink.since()).into_iter();
            for _ in 0..whole {
                sink.stdout.take(entries.by_ref().take(2).collect()).unwrap();
            }
            killed_within(&mut sink.stdout, entries.by_ref().take(torn).collect(), part);
        }
        let mut sink = Sink::open(&source).unwrap();
        sink.stdout.take(read(&log, sink.since())).unwrap();
        let all: String = log.iter().map(|entry| String::from_utf8(entry.text.to_vec()).unwrap()).collect();
        prop_assert_eq!(std::fs::read_to_string(dir.path().join("stdout")).unwrap(), all);
    }

    /// The same for a terminal, whose stream comes in other pieces each time.
    #[test]
    fn a_terminals_stream_is_taken_once(
        lives in proptest::collection::vec((1_usize..50, 0_usize..60, 0_usize..60), 0..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let source = Source { terminal: true, ..source(dir.path()) };
        let all = Bytes::from((0..200).map(|number| format!("{number} ")).collect::<String>());
        let pieces = |size: usize| {
            (0..all.len()).step_by(size).map(|from| Entry {
                time: 0,
                text: all.slice(from..all.len().min(from + size)),
            }).collect::<Vec<_>>()
        };
        for (size, whole, part) in lives {
            let mut sink = Sink::open(&source).unwrap();
            let mut entries = pieces(size).into_iter();
            sink.stdout.take(entries.by_ref().take(whole).collect()).unwrap();
            killed_within(&mut sink.stdout, entries.by_ref().take(3).collect(), part);
        }
        let mut sink = Sink::open(&source).unwrap();
        sink.stdout.take(pieces(7)).unwrap();
        prop_assert_eq!(std::fs::read(dir.path().join("stdout")).unwrap(), all.to_vec());
    }
}

#[test]
fn a_file_that_was_rotated_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let log = history(&[1; 10]);
    let mut sink = Sink::open(&source).unwrap();
    sink.stdout.take(log[..8].to_vec()).unwrap();
    sink.stdout.take(log[8..9].to_vec()).unwrap();
    let path = dir.path().join("stdout");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let mut sink = Sink::open(&source).unwrap();
    sink.stdout.take(log).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "line 9\n");
}

#[test]
fn what_a_container_puts_in_the_way_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path());
    let (stdout, precious): (PathBuf, PathBuf) = (dir.path().join("stdout"), dir.path().join("precious"));
    std::fs::write(&precious, "as it was").unwrap();
    std::fs::remove_file(&stdout).unwrap();
    std::os::unix::fs::symlink(&precious, &stdout).unwrap();
    assert!(Sink::open(&source).is_err());
    std::fs::remove_file(&stdout).unwrap();
    std::fs::hard_link(&precious, &stdout).unwrap();
    assert!(Sink::open(&source).is_err());
}
