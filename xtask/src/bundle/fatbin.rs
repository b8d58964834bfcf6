//! Reduces a library with GPU code for many architectures to one of them.
//!
//! Such a library holds containers, each with the same code for every architecture that it was built for. The loader
//! takes the entry that fits the device and never looks at the others, so their payload may be zeroes, which compress
//! to nothing. Nothing moves: every offset of the file stays what it is.

use crate::error::Error;

/// The first word of a container.
const MAGIC: u32 = 0xBA55_ED50;
/// Words in front of a container's entries: the magic, two half words, the bytes of all entries.
const CONTAINER: usize = 16;
/// The part of an entry's head that is read here.
const HEAD: usize = 32;
/// Kinds of entries: intermediate code, and machine code.
const INTERMEDIATE: u16 = 1;
const MACHINE: u16 = 2;

/// What was found and what is left of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reduced {
    /// Containers.
    pub containers: usize,
    /// Containers without code for the architecture wanted; they stay whole.
    pub whole: usize,
    /// Bytes of code that stay in the other containers.
    pub kept: u64,
    /// Bytes of code that were zeroed.
    pub zeroed: u64,
}

/// One entry of a container, by place in the library.
struct Entry {
    payload: std::ops::Range<usize>,
    kind: u16,
    architecture: u32,
}

/// Reads an architecture such as `sm_90`.
///
/// # Errors
/// [`Error::Usage`] naming what would be legal.
pub fn architecture(text: &str) -> Result<u32, Error> {
    let number = text.strip_prefix("sm_").and_then(|number| number.parse().ok());
    number.ok_or_else(|| {
        Error::Usage(format!("`{text}` is no architecture of a GPU; legal is sm_90 and the like"))
    })
}

/// Zeroes the code for other architectures than `architecture` in every container that has code for it.
///
/// # Errors
/// [`Error::Bundle`] if no container has code for it, which is then named with those that there are.
pub fn reduce(library: &mut [u8], architecture: u32) -> Result<Reduced, Error> {
    let mut reduced = Reduced::default();
    let mut present = std::collections::BTreeSet::new();
    let mut at = 0;
    while let Some(found) = find(library, at) {
        at = found + 4;
        let Some((entries, end)) = container(library, found) else { continue };
        at = end;
        reduced.containers += 1;
        present.extend(entries.iter().map(|entry| entry.architecture));
        let wanted = |entry: &Entry| entry.kind == MACHINE && entry.architecture == architecture;
        if !entries.iter().any(wanted) {
            reduced.whole += 1;
            continue;
        }
        for entry in entries {
            let bytes = entry.payload.len() as u64;
            if wanted(&entry) {
                reduced.kept += bytes;
            } else {
                library[entry.payload].fill(0);
                reduced.zeroed += bytes;
            }
        }
    }
    if reduced.whole == reduced.containers {
        let present: Vec<String> = present.iter().map(|number| format!("sm_{number}")).collect();
        return Err(Error::Bundle(format!(
            "the library has no code for sm_{architecture}; it has some for {}",
            present.join(", ")
        )));
    }
    Ok(reduced)
}

/// The place of the next word that may begin a container.
fn find(library: &[u8], from: usize) -> Option<usize> {
    let magic = MAGIC.to_le_bytes();
    let rest = library.get(from..)?;
    // Containers lie at multiples of eight; a word that looks like one elsewhere is code.
    let aligned = from.next_multiple_of(8) - from;
    let mut at = aligned;
    while at + 4 <= rest.len() {
        if rest[at..at + 4] == magic {
            return Some(from + at);
        }
        at += 8;
    }
    None
}

/// The entries of the container at `start` and the place behind it; `None` if none begins there.
fn container(library: &[u8], start: usize) -> Option<(Vec<Entry>, usize)> {
    let (version, header, bytes) =
        (half(library, start + 4)?, half(library, start + 6)?, long(library, start + 8)?);
    let first = start + CONTAINER;
    let end = first.checked_add(usize::try_from(bytes).ok()?)?;
    if version != 1 || usize::from(header) != CONTAINER || end > library.len() {
        return None;
    }
    let mut entries = Vec::new();
    let mut at = first;
    while at + HEAD <= end {
        let (kind, header) = (half(library, at)?, word(library, at + 4)?);
        let payload = at.checked_add(usize::try_from(header).ok()?)?;
        let next = payload.checked_add(usize::try_from(long(library, at + 8)?).ok()?)?;
        if !matches!(kind, INTERMEDIATE | MACHINE) || (header as usize) < HEAD || next > end {
            return None;
        }
        entries.push(Entry { payload: payload..next, kind, architecture: word(library, at + 28)? });
        at = next;
    }
    Some((entries, end))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry with `payload` bytes that are not zero.
    fn entry(kind: u16, architecture: u32, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&64_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&(payload as u64).to_le_bytes());
        bytes[28..32].copy_from_slice(&architecture.to_le_bytes());
        bytes.extend(vec![7; payload]);
        bytes
    }

    fn made(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend(16_u16.to_le_bytes());
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn sevens(bytes: &[u8]) -> usize {
        bytes.iter().filter(|&&byte| byte == 7).count()
    }

    #[test]
    fn code_for_other_architectures_is_zeroed_and_nothing_moves() {
        let both = made(&[entry(2, 80, 40), entry(2, 90, 24), entry(1, 90, 16)]);
        let other = made(&[entry(2, 80, 48)]);
        let mut library = [vec![7; 8], both, vec![7; 16], other, vec![7; 3]].concat();
        let before = library.len();
        let reduced = reduce(&mut library, 90).unwrap();
        assert_eq!(reduced, Reduced { containers: 2, whole: 1, kept: 24, zeroed: 56 });
        assert_eq!(library.len(), before);
        // What is outside of containers, the code wanted, and the container without it.
        assert_eq!(sevens(&library), 8 + 16 + 3 + 24 + 48);
        let again = library.clone();
        assert!(reduce(&mut library, 90).is_ok());
        assert_eq!(library, again);
    }

    #[test]
    fn an_architecture_that_is_not_there_is_named_with_those_that_are() {
        let mut library = made(&[entry(2, 80, 40), entry(2, 90, 24)]);
        let whole = library.clone();
        let error = reduce(&mut library, 75).unwrap_err().to_string();
        assert!(error.contains("sm_75") && error.contains("sm_80, sm_90"), "{error}");
        assert_eq!(library, whole, "a refusal changes nothing");
        assert!(architecture("90").is_err() && architecture("sm_x").is_err());
        assert_eq!(architecture("sm_90").unwrap(), 90);
    }

    #[test]
    fn damaged_containers_are_left_alone() {
        let whole = made(&[entry(2, 90, 40), entry(2, 80, 8)]);
        for (place, value) in [(4, 9), (6, 24), (8, 0xFF), (16, 9), (20, 8), (24, 0xFF)] {
            let mut library = whole.clone();
            library[place] = value;
            let damaged = library.clone();
            assert!(reduce(&mut library, 90).is_err(), "{place}");
            assert_eq!(library, damaged);
        }
        for length in 0..whole.len() {
            assert!(reduce(&mut whole[..length].to_vec(), 90).is_err());
        }
    }
}
