//! A file cut or flipped at every byte: what stands before the damage is read, and the damage is reported.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_trace::file::{CHUNK_HEAD_BYTES, FILE_HEAD_BYTES};
use aegis_trace::{DamageKind, Trace, TraceCollector, TraceError, TraceMode};
use aegis_types::{RawRecord, Sink};

use crate::story;

/// One chunk of a file: where it begins and ends, and the records in it.
struct Chunk {
    start: usize,
    end: usize,
    records: Vec<RawRecord>,
}

/// A file whose chunks of records are known from how it was written, not from how it is read.
fn written(path: &Path) -> (Vec<u8>, Vec<Chunk>) {
    let length = || std::fs::metadata(path).unwrap().len() as usize;
    let mut options = story::options(TraceMode::File(path.to_owned()));
    options.schemas.truncate(2);
    options.blobs.insert("notes".to_owned(), vec![7; 100]);
    let mut collector = TraceCollector::new(options).unwrap();
    let mut producers = [collector.producer("a", 16).unwrap(), collector.producer("b", 16).unwrap()];
    let mut chunks = Vec::new();
    for (round, batch) in story::decisions().chunks(5).enumerate() {
        let start = length();
        let (id, first) = (round as u16 % 2, if round == 2 { 5 } else { 0 });
        batch.iter().for_each(|&record| producers[usize::from(id)].emit(record));
        assert_eq!(collector.pump().unwrap(), batch.len());
        let records = (first..).zip(batch).map(|(n, r)| r.placed(id, n)).collect();
        chunks.push(Chunk { start, end: length(), records });
    }
    let start = length();
    let _ = collector.finish(BTreeMap::from([("summary".to_owned(), b"done".to_vec())])).unwrap();
    chunks.push(Chunk { start, end: length(), records: Vec::new() });
    (std::fs::read(path).unwrap(), chunks)
}

/// The records in the order in which they are read.
fn merged(mut records: Vec<RawRecord>) -> Vec<RawRecord> {
    records.sort_by_key(|r| (r.stamp, r.producer(), r.sequence()));
    records
}

/// Where the chunk that holds byte `at` begins, walking the lengths in the intact file.
fn chunk_start(bytes: &[u8], at: usize) -> usize {
    let mut start = FILE_HEAD_BYTES;
    loop {
        let len = u64::from_le_bytes(bytes[start + 8..start + 16].try_into().unwrap()) as usize;
        let end = start + CHUNK_HEAD_BYTES + len;
        if at < end {
            return start;
        }
        start = end;
    }
}

#[test]
fn a_file_cut_at_any_byte_gives_every_whole_record_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, chunks) = written(&folder.path().join("run.aegis"));
    assert_eq!(Trace::from_bytes(&bytes).unwrap().damages(), []);
    for cut in 0..bytes.len() {
        let trace = Trace::from_bytes(&bytes[..cut]).unwrap();
        let mut expected = Vec::new();
        for chunk in &chunks {
            let body = cut.min(chunk.end).saturating_sub(chunk.start + CHUNK_HEAD_BYTES);
            expected.extend(chunk.records.iter().take(body / 64).copied());
        }
        let [damage] = trace.damages() else { panic!("cut at {cut}: {:?}", trace.damages()) };
        assert_eq!((damage.offset, damage.recovered_records), (cut as u64, expected.len() as u64));
        assert_eq!(trace.records(), merged(expected), "cut at {cut}");
        assert!(trace.gaps().is_empty(), "a cut is damage, not a gap");
    }
}

#[test]
fn a_flipped_byte_anywhere_costs_no_more_than_its_chunk_and_what_it_makes_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, chunks) = written(&folder.path().join("run.aegis"));
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xFF] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let read = Trace::from_bytes(&flipped);
            if at < 8 {
                assert!(matches!(read, Err(TraceError::NotATrace { .. })), "byte {at}");
                continue;
            }
            let trace = read.unwrap();
            let start = if at < FILE_HEAD_BYTES { 0 } else { chunk_start(&bytes, at) };
            let reading_ends = at < FILE_HEAD_BYTES || at < start + CHUNK_HEAD_BYTES;
            let kept = |chunk: &&Chunk| at < chunk.start && !reading_ends || at >= chunk.end;
            let expected: Vec<_> = chunks.iter().filter(kept).flat_map(|c| c.records.clone()).collect();
            let before: usize = chunks.iter().filter(|c| c.end <= at).map(|c| c.records.len()).sum();
            let damage = trace.damage().expect("the damage is seen");
            assert!(damage.offset <= at.max(FILE_HEAD_BYTES) as u64, "byte {at}: {damage}");
            assert_eq!(damage.recovered_records, before as u64, "byte {at}: {damage}");
            assert_eq!(trace.records(), merged(expected), "byte {at} by {mask:#x}: {damage}");
        }
    }
}

#[test]
fn a_damaged_chunk_of_records_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, chunks) = written(&folder.path().join("run.aegis"));
    bytes[chunks[0].start + CHUNK_HEAD_BYTES + 70] ^= 4;
    let trace = Trace::from_bytes(&bytes).unwrap();
    let gaps: Vec<_> = trace.gaps().iter().map(|g| (g.producer, g.lost, g.after, g.resumes)).collect();
    assert_eq!(gaps, [(0, 5, None, Some(5))]);
    assert!(matches!(trace.damage().unwrap().what, DamageKind::BodyFlipped(_)));
}

#[test]
fn what_is_no_trace_and_what_is_too_new_is_told_apart() {
    let text = Trace::from_bytes(b"\x7fELF and so on").unwrap_err().to_string();
    assert!(text.contains("AegisTrc"), "{text}");
    let mut head = [b"AegisTrc".as_slice(), &9_u32.to_le_bytes()].concat();
    head.extend(crc32fast::hash(&head).to_le_bytes());
    let error = Trace::from_bytes(&head).unwrap_err();
    assert!(matches!(error, TraceError::Version { found: 9, legal: 1, .. }), "{error}");
    assert!(matches!(Trace::open(Path::new("/nowhere")), Err(TraceError::Open { .. })));
}

#[test]
fn bytes_after_the_end_are_reported() {
    let mut bytes = story::trace().to_bytes().unwrap();
    bytes.push(0);
    let trace = Trace::from_bytes(&bytes).unwrap();
    assert_eq!(trace.damage().unwrap().what, DamageKind::AfterEnd);
    assert_eq!(trace.records(), story::trace().records());
}
