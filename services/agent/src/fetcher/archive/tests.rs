use std::{
    fs,
    io::{Cursor, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use ::tar::{Builder, EntryType, Header};

use super::*;

/// A directory to unpack into, and one beside it that nothing may touch.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["sandbox", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/precious"), "as it was").unwrap();
        Self { dir }
    }

    fn sandbox(&self) -> PathBuf {
        self.dir.path().join("sandbox")
    }

    fn unpack(&self, name: &str, archive: &[u8]) -> Result<(), String> {
        self.unpack_within(name, archive, Limits::for_disk(1 << 40))
    }

    fn unpack_within(&self, name: &str, archive: &[u8], limits: Limits) -> Result<(), String> {
        let path = self.dir.path().join(name);
        fs::write(&path, archive).unwrap();
        let into = Beneath::open(&self.sandbox(), None).unwrap();
        let kind = kind(&path).unwrap();
        unpack((File::open(&path).unwrap(), Path::new(name)), kind, &into, (limits, Arc::default()))
    }

    /// Nothing outside is other than before.
    fn assert_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "as it was");
        assert_eq!(fs::metadata(outside.join("precious")).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

/// An entry with a name that no honest builder would write.
fn entry(builder: &mut Builder<Vec<u8>>, kind: EntryType, (name, link): (&str, &str), content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn tar(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        entry(&mut builder, *kind, (name, link), content);
    }
    builder.into_inner().unwrap()
}

fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options = ::zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        match mode & 0o170_000 {
            0o120_000 => writer.add_symlink(*name, String::from_utf8_lossy(content), options).unwrap(),
            _ => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(content).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn all_kinds_are_unpacked() {
    let plain = tar(&[
        (EntryType::Directory, "d/", "", b""),
        (EntryType::Regular, "d/f", "", b"content"),
        (EntryType::Symlink, "d/s", "f", b""),
        (EntryType::Link, "h", "d/f", b""),
    ]);
    let bzip2 = {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    // Made by xz(1) and zstd(1) of the same archive when they are there; else these two are left to the black-box tests.
    let by_program = |program: &str| {
        let mut child = std::process::Command::new(program)
            .args(["-c", "-q"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(&plain).unwrap();
        Some(child.wait_with_output().unwrap().stdout)
    };
    let kinds = [
        ("a.tar", Some(plain.clone())),
        ("a.tar.gz", Some(gzip(&plain))),
        ("a.tgz", Some(gzip(&plain))),
        ("a.tar.bz2", Some(bzip2)),
        ("a.tar.xz", by_program("xz")),
        ("a.tar.zst", by_program("zstd")),
    ];
    for (name, archive) in kinds {
        let Some(archive) = archive else {
            println!("{name}: no program to make it");
            continue;
        };
        let place = Place::new();
        place.unpack(name, &archive).unwrap_or_else(|error| panic!("{name}: {error}"));
        let read = |path: &str| fs::read_to_string(place.sandbox().join(path)).unwrap();
        assert_eq!([read("d/f"), read("d/s"), read("h")], ["content", "content", "content"], "{name}");
        let mode = fs::metadata(place.sandbox().join("d/f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "no set-user-id");
    }
    let place = Place::new();
    place.unpack("a.zip", &zip(&[("d/f", 0o100_755, b"zipped"), ("s", 0o120_777, b"d/f")])).unwrap();
    assert_eq!(fs::read_to_string(place.sandbox().join("s")).unwrap(), "zipped");
    place.unpack("one.gz", &gzip(b"one file")).unwrap();
    assert_eq!(fs::read_to_string(place.sandbox().join("one")).unwrap(), "one file");
}

#[test]
fn names_longer_than_a_header_are_kept_whole() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(130));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"x"[..]).unwrap();
    place.unpack("a.tar", &builder.into_inner().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(place.sandbox().join(&long)).unwrap(), "x");
    let pax = format!("{} path={long}2\n", long.len() + 11);
    let archive =
        tar(&[(EntryType::XHeader, "pax", "", pax.as_bytes()), (EntryType::Regular, "short", "", b"y")]);
    place.unpack("b.tar", &archive).unwrap();
    assert_eq!(fs::read_to_string(place.sandbox().join(format!("{long}2"))).unwrap(), "y");
}

#[test]
fn nothing_of_a_hostile_tar_lands_outside() {
    use EntryType::{Link, Regular, Symlink};
    type Entries<'a> = &'a [(EntryType, &'a str, &'a str, &'a [u8])];
    let hostile: [(&str, Entries<'_>); 8] = [
        ("..", &[(Regular, "../outside/new", "", b"x")]),
        ("deep ..", &[(Regular, "a/b/../../../outside/new", "", b"x")]),
        ("link, then through it", &[(Symlink, "l", "../outside", b""), (Regular, "l/new", "", b"x")]),
        (
            "link, then a directory in it",
            &[(Symlink, "l", "../outside", b""), (EntryType::Directory, "l/d", "", b"")],
        ),
        ("hard link to ..", &[(Link, "l", "../outside/precious", b"")]),
        ("hard link through a link", &[(Symlink, "l", "../outside", b""), (Link, "p", "l/precious", b"")]),
        ("hard link to a link", &[(Symlink, "l", "../outside/precious", b""), (Link, "p", "l", b"")]),
        ("link in a link", &[(Symlink, "l", "..", b""), (Symlink, "l/outside/m", "/etc", b"")]),
    ];
    for (name, entries) in hostile {
        let place = Place::new();
        assert!(place.unpack("a.tar", &tar(entries)).is_err(), "{name}");
        place.assert_untouched();
    }
    // A link that is written over is replaced, not followed; an absolute name is one in the sandbox.
    let place = Place::new();
    let over = [
        (Symlink, "l", "../outside/precious", &b""[..]),
        (Regular, "l", "", b"mine"),
        (Regular, "/etc/x", "", b"x"),
    ];
    place.unpack("a.tar", &tar(&over)).unwrap();
    assert_eq!(fs::read_to_string(place.sandbox().join("l")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(place.sandbox().join("etc/x")).unwrap(), "x");
    place.assert_untouched();
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [EntryType::Block, EntryType::Char, EntryType::Fifo, EntryType::GNUSparse] {
        let place = Place::new();
        let error = place.unpack("a.tar", &tar(&[(kind, "node", "", b"")])).unwrap_err();
        assert!(error.contains("'node'"), "{error}");
        assert!(!place.sandbox().join("node").exists());
    }
    let mut pipe = zip(&[("node", 0o644, b"")]);
    // The mode in the central directory: a named pipe.
    let at = pipe.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    pipe[at + 40..at + 42].copy_from_slice(&0o010_644_u16.to_le_bytes());
    assert!(Place::new().unpack("a.zip", &pipe).unwrap_err().contains("a device or a pipe"));
}

#[test]
fn nothing_of_a_hostile_zip_lands_outside() {
    for (name, entries) in [
        ("..", &[("../outside/new", 0o100_644, &b"x"[..])][..]),
        ("through a link", &[("l", 0o120_777, b"../outside"), ("l/new", 0o100_644, b"x")]),
    ] {
        let place = Place::new();
        assert!(place.unpack("a.zip", &zip(entries)).is_err(), "{name}");
        place.assert_untouched();
    }
}

#[test]
fn bombs_are_bounded() {
    let limits = Limits { bytes: 1 << 40, entries: 10, ratio: 50, free: 100_000 };
    let zeros = vec![0; 8_000_000];
    let bombs = [
        ("a.tar.gz", gzip(&tar(&[(EntryType::Regular, "zeros", "", &zeros)]))),
        ("a.gz", gzip(&zeros)),
        ("a.zip", zip(&[("zeros", 0o644, &zeros)])),
    ];
    for (name, bomb) in bombs {
        let place = Place::new();
        let error = place.unpack_within(name, &bomb, limits).unwrap_err();
        assert!(error.contains("unpacks to more than this node takes"), "{name}: {error}");
        let written: u64 =
            fs::read_dir(place.sandbox()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(written < 1_000_000, "{name}: {written}");
    }
    let many: Vec<_> = (0..11).map(|n| (format!("f{n}"), 0)).collect();
    let many: Vec<_> =
        many.iter().map(|(name, _)| (EntryType::Regular, name.as_str(), "", &b""[..])).collect();
    assert!(
        Place::new().unpack_within("a.tar", &tar(&many), limits).unwrap_err().contains("too many entries")
    );
    // A name that would take all memory.
    let name = vec![b'n'; 1 << 20];
    let archive =
        tar(&[(EntryType::GNULongName, "././@LongLink", "", &name), (EntryType::Regular, "f", "", b"")]);
    assert!(Place::new().unpack("a.tar", &archive).unwrap_err().contains("header of 1048576 bytes"));
}

#[test]
fn what_is_broken_is_an_error() {
    let whole = gzip(&tar(&[(EntryType::Regular, "f", "", &[7; 5000])]));
    for end in [0, 10, whole.len() / 2, whole.len() - 9] {
        assert!(Place::new().unpack("a.tar.gz", &whole[..end]).is_err(), "cut at {end}");
    }
    for name in ["a.tar", "a.zip", "a.tar.xz", "a.tar.bz2", "a.tar.zst"] {
        assert!(Place::new().unpack(name, &[b'x'; 2000]).is_err(), "{name}");
    }
}

#[test]
fn unpacking_stops_when_the_task_is_killed() {
    let place = Place::new();
    let path = place.dir.path().join("a.tar");
    fs::write(&path, tar(&[(EntryType::Regular, "f", "", b"x")])).unwrap();
    let into = Beneath::open(&place.sandbox(), None).unwrap();
    let stop = Arc::new(AtomicBool::new(true));
    let limits = Limits::for_disk(1 << 40);
    let archive = (File::open(&path).unwrap(), Path::new("a.tar"));
    assert!(
        unpack(archive, Kind::Tar(Compression::None), &into, (limits, stop)).unwrap_err().contains("killed")
    );
}
