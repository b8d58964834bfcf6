//! A trace that is kept in memory takes all of its memory at the start: a process that serves must not grow.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;

use aegis_trace::{TraceCollector, TraceMode, TraceOptions};
use aegis_types::{RawRecord, Sink, Time};

/// Records that are kept: 16 MiB, 4,096 pages of 4 KiB.
const RECORDS: usize = 1 << 18;
/// Records of the ring: another 1 MiB.
const RING: usize = 1 << 14;

/// Pages that this thread was given so far, from the tenth field of its `stat`.
fn pages_given() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("the kernel tells about threads");
    // The name in parentheses may have spaces; the field is the eighth behind it.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    fields.split_whitespace().nth(7).and_then(|pages| pages.parse().ok()).expect("a number of pages")
}

#[test]
fn a_trace_in_memory_grows_at_the_start_only() {
    let mode = TraceMode::Memory { records: RECORDS };
    let begun = pages_given();
    let blobs = BTreeMap::new();
    let options = TraceOptions { mode, schemas: Vec::new(), epoch: String::new(), blobs };
    let mut collector = TraceCollector::new(options).unwrap();
    let mut producer = collector.producer("decisions", RING).unwrap();
    let made = pages_given();
    // Twice round, so that records are overwritten as well.
    for n in 0..2 * RECORDS as u64 {
        producer.emit(RawRecord::new(Time::new(n), 7, [n; 6]));
        if n % (RING as u64 / 2) == 0 {
            collector.pump().unwrap();
        }
    }
    collector.pump().unwrap();
    let filled = pages_given();
    assert_eq!(collector.totals()[0].overwritten, RECORDS as u64);
    // A system with huge pages gives them by the 512; it still gives none while the trace fills.
    assert!(made > begun, "{begun} pages before the trace, {made} with it");
    assert!(filled - made < 16, "{} pages were given while the trace filled", filled - made);
}
