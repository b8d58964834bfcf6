//! One file, byte for byte, whichever processor writes it.
//!
//! The committed bytes were written on an x86-64 machine. Another architecture that writes the same bytes, and reads
//! out of them what was put in, takes part in every exchange of traces: order of bytes, widths and alignment are in them.

use std::collections::BTreeMap;

use aegis_trace::{Gap, Trace, TraceCollector, TraceMode, TraceOptions};
use aegis_types::{Bytes, JobId, LaneId, Nanos, RawRecord, Record, Sink, TaskId, Time, record};

record! {
    /// Every width that a field can have.
    pub struct EveryWidth(901) {
        /// A number whose bytes all differ.
        pattern: u64,
        /// The longest span.
        span: Nanos,
        /// Sixteen and forty-eight bits in one word.
        job: JobId,
        /// Sixteen bits.
        task: TaskId,
        /// A lane.
        lane: LaneId,
        /// A size.
        size: Bytes,
    }
}

const GOLDEN: &[u8] = include_bytes!("../golden/every-width.aegis");

/// The places of the records in time: near the ends of a word, too.
const STAMPS: [u64; 4] = [0, 1, 0x0102_0304_0506_0708, u64::MAX - 1];

fn records() -> Vec<RawRecord> {
    let made = STAMPS.iter().zip(0_u16..).map(|(&stamp, index)| {
        let widths = EveryWidth {
            pattern: 0x1122_3344_5566_7788_u64.rotate_left(8 * u32::from(index)),
            span: Nanos::MAX,
            job: JobId::new(TaskId::new(index), 0x0000_a1b2_c3d4_e5f6),
            task: TaskId::new(0xfedc - index),
            lane: LaneId::new(index),
            size: Bytes::new(1 << (16 * index)),
        };
        widths.at(Time::new(stamp))
    });
    made.collect()
}

/// The trace of a ring that is too small for the last of five records.
fn written() -> Vec<u8> {
    let options = TraceOptions {
        mode: TraceMode::Memory { records: 16 },
        schemas: vec![EveryWidth::SCHEMA],
        epoch: "2031-01-01T00:00:00Z".to_owned(),
        blobs: BTreeMap::from([("tasks".to_owned(), vec![0, 0x7f, 0x80, 0xff])]),
    };
    let mut collector = TraceCollector::new(options).unwrap();
    let mut producer = collector.producer("decisions", 4).unwrap();
    records().into_iter().for_each(|record| producer.emit(record));
    producer.emit(RawRecord::new(Time::MAX, 901, [0; 6]));
    let trace = collector.finish(BTreeMap::new()).unwrap().into_trace().unwrap();
    trace.to_bytes().unwrap()
}

#[test]
fn every_processor_writes_the_same_bytes() {
    let written = written();
    if std::env::var_os("AEGIS_REGENERATE").is_some() {
        std::fs::write("tests/golden/every-width.aegis", &written).unwrap();
        return;
    }
    let differs = GOLDEN.iter().zip(&written).position(|(golden, written)| golden != written);
    assert_eq!(differs, None, "the first byte that differs; {} bytes were written", written.len());
    assert_eq!(written.len(), GOLDEN.len());
}

#[test]
fn every_processor_reads_what_was_put_in() {
    let trace = Trace::from_bytes(GOLDEN).unwrap();
    let found: Vec<EveryWidth> = trace.records().iter().map(|record| read(&record.payload)).collect();
    let put_in: Vec<EveryWidth> = records().iter().map(|record| read(&record.payload)).collect();
    assert_eq!(found, put_in);
    let stamps: Vec<u64> = trace.records().iter().map(|record| record.stamp.get()).collect();
    assert_eq!(stamps, STAMPS);
    let gap = Gap { producer: 0, lost: 1, after: Some(Time::new(u64::MAX - 1)), before: None, resumes: None };
    assert_eq!(trace.gaps(), [gap]);
    // Read without the crate's own code: the pattern of the first record, lowest byte first.
    let pattern = [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];
    assert!(GOLDEN.windows(8).any(|window| window == pattern));
}

fn read(payload: &[u64; 6]) -> EveryWidth {
    EveryWidth::from_payload(payload).unwrap()
}
