//! The bytes of a trace.
//!
//! ```text
//! file  = magic[8] version:u32 crc32:u32 chunk*
//! chunk = "AGCK" kind:u16 tag:u16 len:u64 body_crc32:u32 head_crc32:u32 body[len]
//! ```
//!
//! All numbers are little-endian. Kinds: 1 header (bincode: epoch, schemas), 2 producer (tag = its number, body = its
//! name), 3 records (tag = the producer, body = whole records of 64 bytes), 4 blob (tag = length of the name, body =
//! name, then bytes), 5 end (bincode: totals per producer). A reader passes over kinds that it does not know.
//!
//! A file is only appended to, one whole chunk per write, so what a killed process leaves is a prefix of a trace. The
//! head of a chunk has a check of its own: where it holds, a damaged body costs that body only, and where it does not,
//! reading ends, because nothing tells where the next chunk begins.

use std::fmt;

use aegis_types::RawRecord;
use aegis_types::record::RECORD_BYTES;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::TraceError;
use crate::gap::Totals;
use crate::schema::OwnedSchema;

/// How a trace begins.
pub const MAGIC: &[u8; 8] = b"AegisTrc";
/// The version of the format that this build writes and reads.
pub const VERSION: u32 = 1;
/// Bytes before the first chunk.
pub const FILE_HEAD_BYTES: usize = 16;
/// Bytes of a chunk before its body.
pub const CHUNK_HEAD_BYTES: usize = 24;

/// Bytes that the bincode part of a chunk may claim, so that a forged length cannot exhaust memory.
const ENCODED_BYTES_MAX: usize = 1 << 26;
const CHUNK_MARK: &[u8; 4] = b"AGCK";

/// A place where a file is not what was written, or ends too early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the first doubtful byte stands, or where the bytes end.
    pub offset: u64,
    /// What is wrong there.
    pub what: DamageKind,
    /// Records that were recovered up to this place.
    pub recovered_records: u64,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DamageKind {
    /// The bytes end inside the head of the file.
    FileHeadCut,
    /// The head of the file fails its check; nothing after it is read.
    FileHeadFlipped,
    /// The bytes end inside the head of a chunk.
    ChunkHeadCut,
    /// The head of a chunk fails its check; nothing after it is read.
    ChunkHeadFlipped,
    /// The bytes end inside the body of a chunk. Whole records before the end were recovered.
    BodyCut(ChunkKind),
    /// The body of a chunk fails its check. The chunk was left out; reading went on after it.
    BodyFlipped(ChunkKind),
    /// The chunk is whole but makes no sense. It was left out; reading went on after it.
    Malformed(ChunkKind, String),
    /// The closing chunk is missing: the writer was killed or is still at work.
    NotClosed,
    /// Bytes follow the closing chunk. They were not read.
    AfterEnd,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkKind {
    /// Epoch and schemas.
    Header,
    /// A producer's name.
    Producer,
    /// Records of one producer.
    Records,
    /// Named bytes.
    Blob,
    /// Totals; nothing follows.
    End,
    /// Something that a later version of the format may define.
    Other(u16),
}

/// The body of the header chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) epoch: String,
    pub(crate) schemas: Vec<OwnedSchema>,
}

/// The checked head of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkHead {
    pub(crate) kind: ChunkKind,
    pub(crate) tag: u16,
    pub(crate) len: u64,
    pub(crate) body_crc: u32,
}

impl ChunkKind {
    const fn number(self) -> u16 {
        match self {
            Self::Header => 1,
            Self::Producer => 2,
            Self::Records => 3,
            Self::Blob => 4,
            Self::End => 5,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Header,
            2 => Self::Producer,
            3 => Self::Records,
            4 => Self::Blob,
            5 => Self::End,
            other => Self::Other(other),
        }
    }
}

impl ChunkHead {
    /// The head in `bytes`, or `None` if its check fails.
    pub(crate) fn parse(bytes: &[u8; CHUNK_HEAD_BYTES]) -> Option<Self> {
        let (fields, crc) = bytes.split_at(20);
        if fields[..4] != *CHUNK_MARK || u32_at(crc, 0) != crc32fast::hash(fields) {
            return None;
        }
        let mut len = [0; 8];
        len.copy_from_slice(&fields[8..16]);
        Some(Self {
            kind: ChunkKind::from_number(u16_at(fields, 4)),
            tag: u16_at(fields, 6),
            len: u64::from_le_bytes(len),
            body_crc: u32_at(fields, 16),
        })
    }
}

/// The head of a file.
pub(crate) fn file_head() -> [u8; FILE_HEAD_BYTES] {
    let mut head = [0; FILE_HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&head[..12]);
    head[12..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Checks the head of a file. `Ok(Some(_))` tells that nothing after it can be read.
pub(crate) fn check_file_head(place: &str, bytes: &[u8]) -> Result<Option<DamageKind>, TraceError> {
    let magic = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        let magic = String::from_utf8_lossy(MAGIC).into_owned();
        return Err(TraceError::NotATrace { place: place.to_owned(), magic });
    }
    let Some(head) = bytes.first_chunk::<FILE_HEAD_BYTES>() else {
        return Ok(Some(DamageKind::FileHeadCut));
    };
    if u32_at(head, 12) != crc32fast::hash(&head[..12]) {
        return Ok(Some(DamageKind::FileHeadFlipped));
    }
    match u32_at(head, 8) {
        VERSION => Ok(None),
        found => Err(TraceError::Version { place: place.to_owned(), found, legal: VERSION }),
    }
}

/// Appends a chunk to `out`; `body` writes its body.
pub(crate) fn push_chunk(out: &mut Vec<u8>, kind: ChunkKind, tag: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; CHUNK_HEAD_BYTES]);
    body(out);
    let (head, body) = out[start..].split_at_mut(CHUNK_HEAD_BYTES);
    head[..4].copy_from_slice(CHUNK_MARK);
    head[4..6].copy_from_slice(&kind.number().to_le_bytes());
    head[6..8].copy_from_slice(&tag.to_le_bytes());
    head[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
    head[16..20].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&head[..20]);
    head[20..].copy_from_slice(&crc.to_le_bytes());
}

/// Appends the header chunk.
///
/// # Errors
/// [`TraceError::Header`] if the schemas are too large for a reader to accept.
pub(crate) fn push_header(out: &mut Vec<u8>, header: &Header) -> Result<(), TraceError> {
    push_encoded(out, ChunkKind::Header, header)
}

/// Appends the chunk that names a producer.
///
/// # Errors
/// [`TraceError::NameTooLong`].
pub(crate) fn push_producer(out: &mut Vec<u8>, id: u16, name: &str) -> Result<(), TraceError> {
    check_name(name)?;
    push_chunk(out, ChunkKind::Producer, id, |out| out.extend_from_slice(name.as_bytes()));
    Ok(())
}

/// Appends a blob.
///
/// # Errors
/// [`TraceError::NameTooLong`].
pub(crate) fn push_blob(out: &mut Vec<u8>, name: &str, bytes: &[u8]) -> Result<(), TraceError> {
    push_chunk(out, ChunkKind::Blob, check_name(name)?, |out| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(bytes);
    });
    Ok(())
}

/// Appends the closing chunk, with the totals in the order of the producers' numbers.
///
/// # Errors
/// [`TraceError::Header`] if the totals are too large for a reader to accept.
pub(crate) fn push_end(out: &mut Vec<u8>, totals: &[Totals]) -> Result<(), TraceError> {
    push_encoded(out, ChunkKind::End, totals)
}

/// Appends a record to the body of a records chunk.
pub(crate) fn push_record(out: &mut Vec<u8>, record: &RawRecord) {
    out.extend_from_slice(&record.to_bytes());
}

/// The whole records in `body`.
pub(crate) fn records(body: &[u8]) -> impl Iterator<Item = RawRecord> {
    body.as_chunks::<RECORD_BYTES>().0.iter().map(RawRecord::from_bytes)
}

/// The name and the bytes in the body of a blob, or what is wrong with it.
pub(crate) fn blob(tag: u16, body: &[u8]) -> Result<(&str, &[u8]), String> {
    let (name, bytes) =
        body.split_at_checked(tag.into()).ok_or_else(|| format!("its name would have {tag} bytes"))?;
    Ok((str::from_utf8(name).map_err(|e| format!("its name is no UTF-8: {e}"))?, bytes))
}

/// The bincode value in `body`, or what is wrong with it.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_limit::<ENCODED_BYTES_MAX>();
    match bincode::serde::decode_from_slice(body, config) {
        Ok((value, used)) if used == body.len() => Ok(value),
        Ok((_, used)) => Err(format!("{} bytes are left over", body.len() - used)),
        Err(error) => Err(error.to_string()),
    }
}

fn push_encoded<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    kind: ChunkKind,
    value: &T,
) -> Result<(), TraceError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard())
        .map_err(|error| TraceError::Header { reason: error.to_string() })?;
    // A reader counts the bytes of the decoded value, which are at most eight for each encoded one.
    if bytes.len() > ENCODED_BYTES_MAX / 8 {
        let reason = format!("{} bytes; at most {} are legal", bytes.len(), ENCODED_BYTES_MAX / 8);
        return Err(TraceError::Header { reason });
    }
    push_chunk(out, kind, 0, |out| out.extend_from_slice(&bytes));
    Ok(())
}

/// The length of a name, if it fits the tag of a chunk.
fn check_name(name: &str) -> Result<u16, TraceError> {
    u16::try_from(name.len()).map_err(|_| TraceError::NameTooLong {
        name: name.chars().take(40).collect(),
        bytes: name.len(),
        limit: u16::MAX.into(),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at byte {}: {}; {} records recovered before it",
            self.offset, self.what, self.recovered_records
        )
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileHeadCut => f.write_str("the file ends inside its head"),
            Self::FileHeadFlipped => f.write_str("the head of the file fails its check"),
            Self::ChunkHeadCut => f.write_str("the file ends inside the head of a chunk"),
            Self::ChunkHeadFlipped => f.write_str("the head of a chunk fails its check; reading ends here"),
            Self::BodyCut(kind) => write!(f, "the file ends inside a chunk of {kind}"),
            Self::BodyFlipped(kind) => write!(f, "a chunk of {kind} fails its check and is left out"),
            Self::Malformed(kind, why) => write!(f, "a chunk of {kind} is left out: {why}"),
            Self::NotClosed => {
                f.write_str("the closing chunk is missing: the run was killed or is still going on")
            }
            Self::AfterEnd => f.write_str("bytes follow the closing chunk"),
        }
    }
}

impl fmt::Display for ChunkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("schemas"),
            Self::Producer => f.write_str("a producer's name"),
            Self::Records => f.write_str("records"),
            Self::Blob => f.write_str("named bytes"),
            Self::End => f.write_str("totals"),
            Self::Other(number) => write!(f, "unknown kind {number}"),
        }
    }
}
