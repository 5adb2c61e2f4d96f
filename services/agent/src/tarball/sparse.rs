//! Files with holes: GNU's old form, and its pax forms 0.1 and 1.0.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::{BLOCK, Sparse, Tarball, invalid, number};

/// More make no sense, and take memory.
const MOST_PIECES: usize = 1 << 20;

/// What a pax header said.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    map: Option<Vec<u64>>,
    /// The map stands before the content.
    ahead: bool,
}

impl Described {
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"map" => self.map = Some(value.split(|byte| *byte == b',').map(number).collect::<Option<_>>()?),
            b"major" => self.ahead = value == b"1",
            // Form 0.0, which nobody writes any more.
            b"offset" | b"numbytes" => return None,
            _ => {}
        }
        Some(())
    }
}

impl<R: Read> Tarball<R> {
    /// Where the content of this entry belongs, when it is a file with holes.
    pub(super) fn sparse(&mut self, header: &Header, described: Described) -> io::Result<Option<Sparse>> {
        let (size, numbers) = match (header.entry_type(), described) {
            (EntryType::GNUSparse, _) => {
                let gnu = header.as_gnu().ok_or_else(|| invalid("a sparse file of no known form"))?;
                let mut numbers = Vec::new();
                let mut more = pieces(&gnu.sparse, &mut numbers)? && gnu.is_extended();
                while more {
                    let mut extension = GnuExtSparseHeader::new();
                    *extension.as_mut_bytes() = self.block()?;
                    more = pieces(extension.sparse(), &mut numbers)? && extension.is_extended();
                }
                (gnu.real_size().unwrap_or_default(), numbers)
            }
            (_, Described { size: Some(size), map: Some(numbers), .. }) => (size, numbers),
            (_, Described { size: Some(size), ahead: true, .. }) => (size, self.map_ahead()?),
            _ => return Ok(None),
        };
        checked(size, &numbers, self.left).map(Some)
    }

    /// Numbers, a line each: how many pieces there are, then offset and length of each; filled up to whole blocks.
    fn map_ahead(&mut self) -> io::Result<Vec<u64>> {
        let bad = || invalid("a sparse file whose map cannot be read");
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        loop {
            self.left = self.left.checked_sub(BLOCK as u64).ok_or_else(bad)?;
            for byte in self.block()? {
                match byte {
                    b'\n' => {
                        numbers.push(number(&std::mem::take(&mut line)).ok_or_else(bad)?);
                        let wanted = usize::try_from(numbers[0]).ok().filter(|count| *count <= MOST_PIECES);
                        if numbers.len() == 1 + 2 * wanted.ok_or_else(bad)? {
                            return Ok(numbers.split_off(1));
                        }
                    }
                    byte if line.len() < 20 => line.push(byte),
                    _ => return Err(bad()),
                }
            }
        }
    }
}

/// Takes the pieces of a header; false at the last one.
fn pieces(headers: &[GnuSparseHeader], numbers: &mut Vec<u64>) -> io::Result<bool> {
    for header in headers {
        if header.is_empty() {
            return Ok(false);
        }
        numbers.extend([header.offset()?, header.length()?]);
    }
    match numbers.len() <= 2 * MOST_PIECES {
        true => Ok(true),
        false => Err(invalid("a sparse file of too many pieces")),
    }
}

/// Pieces that follow each other, lie in the file, and are all that there is of content.
fn checked(size: u64, numbers: &[u64], content: u64) -> io::Result<Sparse> {
    let bad = || invalid("a sparse file whose pieces do not fit");
    let mut pieces = Vec::new();
    let (mut end, mut sum) = (0_u64, 0_u64);
    for piece in numbers.chunks(2) {
        let &[offset, length] = piece else { return Err(bad()) };
        if offset < end {
            return Err(bad());
        }
        end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(bad)?;
        sum += length;
        pieces.push((offset, length));
    }
    if sum == content { Ok(Sparse { size, pieces }) } else { Err(bad()) }
}
