//! Tar archives, entry by entry, as they stream by: ustar's form, GNU's and pax's. What describes an entry is read within
//! bounds, so that none takes more memory than a path may.

mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Seek, SeekFrom};

pub(crate) use tar::EntryType;
use tar::Header;

const BLOCK: usize = 512;
/// Longest header that describes the next entry.
const LONGEST: u64 = 512 * 1024;

/// One entry, but for its content.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryType,
    pub(crate) name: Vec<u8>,
    /// Where a link leads to.
    pub(crate) link: Option<Vec<u8>>,
    /// Bytes that the content has in the archive.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    /// Seconds since 1970.
    pub(crate) modified: i64,
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a file with holes.
    pub(crate) sparse: Option<Sparse>,
}

/// Where the content of a file with holes belongs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// Of the whole file.
    pub(crate) size: u64,
    /// Offset and length, in the order of the content.
    pub(crate) pieces: Vec<(u64, u64)>,
}

/// What headers said about the entry that follows them.
#[derive(Debug, Default)]
struct Described {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    owner: (Option<u64>, Option<u64>),
    modified: Option<i64>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: sparse::Described,
}

/// Reads an archive. As a reader, it gives the content of the entry it is at.
#[derive(Debug)]
pub(crate) struct Tarball<R> {
    reader: R,
    /// Bytes of the content that were not read yet.
    left: u64,
    /// Between its end and the next header.
    padding: u64,
}

impl<R: Read> Tarball<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0 }
    }

    /// Goes to the next entry; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let rest = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        self.skip(rest)?;
        self.following()
    }

    /// Reads what follows the last entry: only then is the archive known to be whole.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(drop)
    }

    fn following(&mut self) -> io::Result<Option<Entry>> {
        let mut described = Described::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            match header.entry_type() {
                EntryType::GNULongName => described.name = Some(self.text(&header)?),
                EntryType::GNULongLink => described.link = Some(self.text(&header)?),
                EntryType::XHeader => described.read(&self.description(&header)?)?,
                EntryType::XGlobalHeader => drop(self.description(&header)?),
                _ => return self.entry(&header, described).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, described: Described) -> io::Result<Entry> {
        let kind = header.entry_type();
        let has_content = !matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo
        );
        self.left = match has_content {
            true => described.size.map_or_else(|| header.entry_size(), Ok)?,
            false => 0,
        };
        let rest = self.left % BLOCK as u64;
        self.padding = if rest == 0 { 0 } else { BLOCK as u64 - rest };
        self.left.checked_add(self.padding).ok_or_else(|| invalid("an entry of impossible size"))?;
        let sparse = self.sparse(header, described.sparse.clone())?;
        let name = described.sparse.name.or(described.name);
        Ok(Entry {
            kind,
            name: name.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: described.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)),
            size: self.left,
            mode: header.mode().unwrap_or(0o644),
            owner: (
                // Some builders leave it out.
                described.owner.0.or_else(|| header.uid().ok()).unwrap_or_default(),
                described.owner.1.or_else(|| header.gid().ok()).unwrap_or_default(),
            ),
            modified: described
                .modified
                .or_else(|| i64::try_from(header.mtime().ok()?).ok())
                .unwrap_or_default(),
            attributes: described.attributes,
            sparse,
        })
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        // Some archives end without saying so.
        if self.reader.read(&mut block[..1])? == 0 {
            return Ok(None);
        }
        self.reader.read_exact(&mut block[1..])?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sums = checksums(block);
        let said = header.cksum()?;
        match sums.contains(&i64::from(said)) {
            true => Ok(Some(header)),
            false => Err(invalid("a header with a wrong checksum")),
        }
    }

    fn block(&mut self) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.reader.read_exact(&mut block)?;
        Ok(block)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        match io::copy(&mut self.reader.by_ref().take(count), &mut io::sink())? == count {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The content of a header that describes the next one.
    fn description(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        if size > LONGEST {
            return Err(invalid(&format!("a header of {size} bytes")));
        }
        let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
        self.reader.read_exact(&mut text)?;
        let rest = size % BLOCK as u64;
        self.skip(if rest == 0 { 0 } else { BLOCK as u64 - rest })?;
        Ok(text)
    }

    /// The same, as a text that may end with a zero.
    fn text(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let mut text = self.description(header)?;
        if text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }
}

impl<R: Read + Seek> Tarball<R> {
    /// Goes to the next entry without reading the content of this one.
    pub(crate) fn seek_next(&mut self) -> io::Result<Option<Entry>> {
        let rest = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        let rest = i64::try_from(rest).map_err(|_| invalid("an entry of impossible size"))?;
        self.reader.seek(SeekFrom::Current(rest))?;
        self.following()
    }

    /// Where the content of the entry begins.
    pub(crate) fn position(&mut self) -> io::Result<u64> {
        self.reader.stream_position()
    }
}

impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        // Some decoders take a read of nothing for the end.
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl Described {
    /// Records of the form `length key=value\n`, where a value may be any bytes.
    fn read(&mut self, mut records: &[u8]) -> io::Result<()> {
        let bad = || invalid("a pax header that cannot be read");
        *self = Self { name: self.name.take(), link: self.link.take(), ..Self::default() };
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length: usize = number(&records[..space]).and_then(|n| n.try_into().ok()).ok_or_else(bad)?;
            let record = records.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            self.record(&record[..equals], &record[equals + 1..]).ok_or_else(bad)?;
            records = &records[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.owner.0 = Some(number(value)?),
            b"gid" => self.owner.1 = Some(number(value)?),
            b"mtime" => {
                let seconds = std::str::from_utf8(value).ok()?;
                self.modified = Some(seconds.split('.').next()?.parse().ok()?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.attributes.push((name.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(key, value)?;
                }
            }
        }
        Some(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Sums of all bytes, those of the sum itself taken for spaces: of bytes without a sign, and as old programs do it.
fn checksums(block: &[u8; BLOCK]) -> [i64; 2] {
    let spaces = 8 * i64::from(b' ');
    let bytes = || block[..148].iter().chain(&block[156..]);
    [
        bytes().map(|byte| i64::from(*byte)).sum::<i64>() + spaces,
        bytes().map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + spaces,
    ]
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive has {what}"))
}
