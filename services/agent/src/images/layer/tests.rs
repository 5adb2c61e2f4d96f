//! Layers as honest builders write them, and as nobody honest does. They need root, as images do.

use std::{
    fs::{self, Permissions},
    io::{Cursor, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
};

use ::tar::{Builder, EntryType, Header};

use super::*;

/// A directory for a layer, and one beside it that nothing may touch.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["rootfs", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/precious"), "as it was").unwrap();
        fs::set_permissions(dir.path().join("outside/precious"), Permissions::from_mode(0o640)).unwrap();
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(path)
    }

    fn unpack(&self, archive: &[u8]) -> Result<(), Failure> {
        self.unpack_as(archive, &Digest::of(archive), 1 << 40)
    }

    fn unpack_as(&self, archive: &[u8], content: &Digest, most: u64) -> Result<(), Failure> {
        let packed = archive.len() as u64;
        unpack((Cursor::new(archive.to_vec()), packed), content, &self.path(""), (most, Arc::default()))
    }

    fn assert_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "as it was");
        assert_eq!(fs::metadata(outside.join("precious")).unwrap().mode() & 0o7777, 0o640);
    }
}

/// An entry as nobody's builder would refuse to write it.
struct Odd<'a>(EntryType, &'a str, &'a str, &'a [u8]);

fn layer(entries: &[Odd<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for Odd(kind, name, link, content) in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(1234);
        header.set_gid(5678);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(8).unwrap();
            header.set_device_minor(0).unwrap();
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| length - length.to_string().len() == rest).unwrap();
        text.extend(format!("{length} {key}=").bytes());
        text.extend(*value);
        text.push(b'\n');
    }
    text
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(value[..length].to_vec())
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = path.symlink_metadata().unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

use EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink, XHeader};

#[test]
fn owners_modes_times_and_attributes_are_kept() {
    let place = Place::new();
    // CAP_NET_RAW, with a byte that is a line's end.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
    let described = pax(&[
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"mine"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"label"),
    ]);
    let archive = layer(&[
        Odd(Directory, "./", "", b""),
        Odd(Directory, "bin/", "", b""),
        Odd(XHeader, "pax", "", &described),
        Odd(Regular, "bin/ping", "", b"#!"),
        Odd(Link, "bin/again", "bin/ping", b""),
        Odd(Symlink, "bin/link", "/bin/../../etc/passwd", b""),
        Odd(Link, "bin/second", "bin/link", b""),
        Odd(Fifo, "pipe", "", b""),
        Odd(Char, "dev/sda", "", b""),
    ]);
    place.unpack(&archive).unwrap();
    for path in ["", "bin", "bin/ping", "bin/link", "pipe"] {
        let metadata = place.path(path).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 5678), "{path}");
        assert_eq!(metadata.mtime(), 1_000_000_000, "{path}");
        assert!(metadata.is_symlink() || metadata.mode() & 0o7777 == 0o4755, "{path}");
    }
    assert_eq!(fs::metadata(place.path("bin/ping")).unwrap().nlink(), 2);
    assert_eq!(attribute(&place.path("bin/ping"), "security.capability").unwrap(), capability);
    assert_eq!(attribute(&place.path("bin/ping"), "user.note").unwrap(), b"mine");
    for foreign in ["trusted.overlay.redirect", "trusted.overlay.opaque", "security.selinux"] {
        assert_eq!(attribute(&place.path("bin/ping"), foreign), None, "{foreign}");
    }
    assert_eq!(fs::read_link(place.path("bin/second")).unwrap(), Path::new("/bin/../../etc/passwd"));
    assert!(place.path("pipe").symlink_metadata().unwrap().file_type().is_fifo());
    assert!(!place.path("dev/sda").exists(), "containers have a /dev of their own");
}

#[test]
fn what_a_layer_deletes_is_written_as_overlayfs_wants_it() {
    let place = Place::new();
    let archive = layer(&[
        Odd(Regular, "a/.wh.gone", "", b""),
        Odd(Regular, "b/.wh..wh..opq", "", b""),
        Odd(Regular, "b/new", "", b"x"),
        // What this layer has itself stays, whatever the order; of a directory, what is below is hidden.
        Odd(Directory, "before/", "", b""),
        Odd(Regular, ".wh.before", "", b""),
        Odd(Regular, ".wh.after", "", b""),
        Odd(Directory, "after/", "", b""),
        Odd(Regular, "file", "", b"mine"),
        Odd(Regular, ".wh.file", "", b""),
        Odd(Regular, ".wh..wh.plnk", "", b""),
    ]);
    place.unpack(&archive).unwrap();
    assert!(is_whiteout(&place.path("a/gone")));
    for opaque in ["b", "before", "after"] {
        assert_eq!(attribute(&place.path(opaque), "trusted.overlay.opaque").unwrap(), b"y", "{opaque}");
    }
    assert_eq!(attribute(&place.path("a"), "trusted.overlay.opaque"), None);
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "mine");
    let marks = fs::read_dir(place.path("")).unwrap().flatten();
    assert!(marks.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".wh.")));
}

#[test]
fn nothing_lands_outside_whatever_the_layer_says() {
    let hostile: [(&str, &[Odd<'_>]); 15] = [
        ("..", &[Odd(Regular, "../outside/new", "", b"x")]),
        ("deep ..", &[Odd(Regular, "a/../../outside/new", "", b"x")]),
        (
            "absolute link, then through it",
            &[Odd(Symlink, "l", "/tmp", b""), Odd(Regular, "l/new", "", b"x")],
        ),
        ("link, then through it", &[Odd(Symlink, "l", "../outside", b""), Odd(Regular, "l/new", "", b"x")]),
        (
            "link, then a directory there",
            &[Odd(Symlink, "l", "../outside", b""), Odd(Directory, "l/d", "", b"")],
        ),
        (
            "link, then the same as a directory",
            &[Odd(Symlink, "l", "../outside", b""), Odd(Directory, "l", "", b"")],
        ),
        ("link in a link", &[Odd(Symlink, "l", "..", b""), Odd(Symlink, "l/outside/m", "/etc", b"")]),
        ("hard link to ..", &[Odd(Link, "l", "../outside/precious", b"")]),
        (
            "hard link through a link",
            &[Odd(Symlink, "l", "../outside", b""), Odd(Link, "p", "l/precious", b"")],
        ),
        ("whiteout of ..", &[Odd(Regular, "a/.wh...", "", b"")]),
        ("whiteout of .", &[Odd(Regular, ".wh..", "", b"")]),
        (
            "whiteout through a link",
            &[Odd(Symlink, "l", "../outside", b""), Odd(Regular, "l/.wh.precious", "", b"")],
        ),
        (
            "opaque through a link",
            &[Odd(Symlink, "l", "../outside", b""), Odd(Regular, "l/.wh..wh..opq", "", b"")],
        ),
        ("pipe through a link", &[Odd(Symlink, "l", "../outside", b""), Odd(Fifo, "l/pipe", "", b"")]),
        ("the root as a link", &[Odd(Symlink, ".", "../outside", b"")]),
    ];
    for (what, entries) in hostile {
        let place = Place::new();
        let failure = place.unpack(&layer(entries)).expect_err(what);
        assert_eq!(failure.kind, ErrorKind::Refused, "{what}: {}", failure.reason);
        place.assert_untouched();
    }
    // An absolute name is one in the layer; a link that is written over is replaced, not followed.
    let place = Place::new();
    let over = layer(&[
        Odd(Symlink, "l", "../outside/precious", b""),
        Odd(Regular, "l", "", b"mine"),
        Odd(Regular, "/etc/x", "", b"x"),
        Odd(Symlink, "m", "../outside/precious", b""),
        Odd(Link, "n", "m", b""),
        Odd(Fifo, "m", "", b""),
    ]);
    place.unpack(&over).unwrap();
    assert_eq!(fs::read_to_string(place.path("l")).unwrap(), "mine");
    assert!(place.path("etc/x").is_file() && place.path("n").is_symlink());
    place.assert_untouched();
    // A link that stood there before is not followed either.
    let place = Place::new();
    symlink(place.dir.path().join("outside"), place.path("l")).unwrap();
    assert!(place.unpack(&layer(&[Odd(Regular, "l/x", "", b"x")])).is_err());
    place.assert_untouched();
}

#[test]
fn devices_are_refused() {
    for (kind, name) in [(Block, "disk"), (Char, "etc/mem"), (Char, "devices/x")] {
        let place = Place::new();
        let failure = place.unpack(&layer(&[Odd(kind, name, "", b"")])).unwrap_err();
        assert!(
            failure.kind == ErrorKind::Refused && failure.reason.contains("device"),
            "{}",
            failure.reason
        );
        assert!(!place.path(name).exists());
    }
    // What overlayfs takes for a deleted file may not come as one.
    let mut whiteout = layer(&[Odd(Char, "file", "", b"")]);
    let mut header = Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&whiteout[..512]);
    header.set_device_major(0).unwrap();
    header.set_cksum();
    whiteout[..512].copy_from_slice(header.as_bytes());
    assert!(Place::new().unpack(&whiteout).unwrap_err().reason.contains("device"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs_are_bounded() {
    let zeros = vec![0; 20_000_000];
    let plain = layer(&[Odd(Regular, "zeros", "", &zeros)]);
    let place = Place::new();
    let failure = place.unpack_as(&gzip(&plain), &Digest::of(&plain), 10_000_000).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{}", failure.reason);
    // A sparse file takes no room, yet may not promise more than there is.
    let sparse = pax(&[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.realsize", b"9223372036854775807"),
        ("GNU.sparse.map", b"0,1"),
    ]);
    let archive = layer(&[Odd(XHeader, "pax", "", &sparse), Odd(Regular, "f", "", b"x")]);
    let failure = Place::new().unpack_as(&archive, &Digest::of(&archive), 1 << 30).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::TooLarge, "{}", failure.reason);
}

#[test]
fn all_compressions_are_told_by_their_beginning() {
    let mut content = vec![7; 100_000];
    content.extend(vec![0; 1_000_000]);
    content.extend(b"end");
    let plain = layer(&[Odd(Regular, "f", "", &content)]);
    let zstd = ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest);
    let two_members = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
    for archive in [plain.clone(), gzip(&plain), two_members, zstd] {
        let place = Place::new();
        place.unpack_as(&archive, &Digest::of(&plain), 1 << 30).unwrap();
        let file = place.path("f");
        assert!(fs::read(&file).unwrap() == content);
        assert!(file.metadata().unwrap().blocks() * 512 < 300_000, "zeros become holes");
        // Cut off, or with another content than was promised.
        let cut = &archive[..archive.len() / 2];
        let failure = Place::new().unpack_as(cut, &Digest::of(&plain), 1 << 30).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Refused, "{}", failure.reason);
        let failure = Place::new().unpack_as(&archive, &Digest::of(b"other"), 1 << 30).unwrap_err();
        assert!(failure.reason.contains("promises"), "{}", failure.reason);
    }
}

#[test]
fn unpacking_stops_when_nobody_waits() {
    let place = Place::new();
    let archive = layer(&[Odd(Regular, "f", "", b"x")]);
    let stop = Arc::new(AtomicBool::new(true));
    let packed = archive.len() as u64;
    let digest = Digest::of(&archive);
    assert!(unpack((Cursor::new(archive), packed), &digest, &place.path(""), (1 << 20, stop)).is_err());
    assert!(!place.path("f").exists());
}
