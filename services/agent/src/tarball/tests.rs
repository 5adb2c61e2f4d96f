use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::Command,
};

use super::*;

/// An archive by GNU tar of a file with holes, and one with a name longer than a header.
fn by_gnu_tar(options: &[&str]) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("holes")).unwrap();
    for piece in 0..40_u64 {
        file.write_all_at(format!("piece {piece}").as_bytes(), piece * 100_000).unwrap();
    }
    file.set_len(10_000_000).unwrap();
    fs::write(dir.path().join("n".repeat(200)), "long").unwrap();
    let archive = dir.path().join("a.tar");
    let mut command = Command::new("tar");
    command.args(options).arg("-cf").arg(&archive).arg("-C").arg(dir.path());
    assert!(command.args(["holes", &"n".repeat(200)]).status().unwrap().success());
    let bytes = fs::read(archive).unwrap();
    (dir, bytes)
}

#[test]
fn all_forms_of_gnu_tar_are_read() {
    for options in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["-S", "--format=gnu"],
        &["-S", "--format=posix", "--sparse-version=1.0"],
        &["-S", "--format=posix", "--sparse-version=0.1"],
    ] {
        let (dir, archive) = by_gnu_tar(options);
        assert_eq!(archive.len() < 5_000_000, options.contains(&"-S"), "{options:?}");
        let mut tarball = Tarball::new(&archive[..]);
        let entry = tarball.next().unwrap().unwrap();
        assert_eq!(entry.name, b"holes", "{options:?}");
        let mut content = Vec::new();
        tarball.read_to_end(&mut content).unwrap();
        let whole = match entry.sparse {
            None => content,
            Some(sparse) => {
                let mut whole = vec![0; usize::try_from(sparse.size).unwrap()];
                let mut rest = &content[..];
                for (offset, length) in sparse.pieces {
                    let (piece, after) = rest.split_at(usize::try_from(length).unwrap());
                    whole[usize::try_from(offset).unwrap()..][..piece.len()].copy_from_slice(piece);
                    rest = after;
                }
                whole
            }
        };
        assert!(whole == fs::read(dir.path().join("holes")).unwrap(), "{options:?}");
        let long = tarball.next().unwrap().unwrap();
        assert_eq!((long.name, long.size), (vec![b'n'; 200], 4), "{options:?}");
        assert!(tarball.next().unwrap().is_none());
        tarball.finish().unwrap();
        // The same without reading what is between.
        let mut tarball = Tarball::new(io::Cursor::new(&archive));
        assert_eq!(tarball.seek_next().unwrap().unwrap().name, b"holes");
        assert_eq!(tarball.seek_next().unwrap().unwrap().name.len(), 200);
        let at = usize::try_from(tarball.position().unwrap()).unwrap();
        assert_eq!(&archive[at..at + 4], b"long");
    }
}

#[test]
fn values_of_any_bytes_are_read_from_pax_headers() {
    let mut described = Described::default();
    let mut records = b"30 SCHILY.xattr.user.a=\x00\n=\xff b\n".to_vec();
    let length = records.len();
    records[..2].copy_from_slice(length.to_string().as_bytes());
    records.extend(b"12 size=123\n16 mtime=-5.25e\n");
    described.read(&records).unwrap();
    assert_eq!(described.attributes, [(b"user.a".to_vec(), b"\x00\n=\xff b".to_vec())]);
    assert_eq!((described.size, described.modified), (Some(123), Some(-5)));
    for bad in ["5 a=b", "x a=b\n", "99 a=b\n", "2 a=b\n", "10 size=-1\n", "6 ab\n", " a=b\n", "0 a=b\n"] {
        assert!(Described::default().read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048), kind in 0_u8..=255, size in 0_u64..4096,
    ) {
        let mut header = Header::new_gnu();
        let length = bytes.len().min(512);
        header.as_mut_bytes()[..length].copy_from_slice(&bytes[..length]);
        header.as_mut_bytes()[156] = kind;
        header.set_size(size);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend(&bytes);
        let mut tarball = Tarball::new(&archive[..]);
        while let Ok(Some(_)) = tarball.next() {}
        let _ = Described::default().read(&bytes);
    }
}
