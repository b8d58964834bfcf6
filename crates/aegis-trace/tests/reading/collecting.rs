//! From producers to a trace: nothing is lost uncounted, whatever the order of events.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use aegis_trace::{
    DamageKind, Finished, Gap, Totals, Trace, TraceCollector, TraceError, TraceMode, TraceWriter, ring,
};
use aegis_types::{Nanos, RawRecord, Severity, Sink, Time};

use crate::story;

fn record(n: u64) -> RawRecord {
    RawRecord::new(Time::new(n), 900, [n, !n, n, !n, n, !n])
}

fn memory(records: usize) -> TraceCollector {
    TraceCollector::new(story::options(TraceMode::Memory { records })).unwrap()
}

#[test]
fn a_full_ring_leaves_an_exact_gap() {
    let mut collector = memory(100);
    let mut producer = collector.producer("decisions", 4).unwrap();
    (0..10).for_each(|n| producer.emit(record(n)));
    assert_eq!(collector.pump().unwrap(), 4);
    (10..16).for_each(|n| producer.emit(record(n)));
    let trace = collector.finish(BTreeMap::new()).unwrap().into_trace().unwrap();
    let at = |n| Some(Time::new(n));
    assert_eq!(
        trace.gaps(),
        [
            Gap { producer: 0, lost: 6, after: at(3), before: at(10), resumes: Some(10) },
            Gap { producer: 0, lost: 2, after: at(13), before: None, resumes: None },
        ]
    );
    assert_eq!(trace.totals(0), Some(Totals { emitted: 16, dropped: 8, overwritten: 0 }));
}

#[test]
fn bounded_memory_keeps_the_last_records_and_counts_the_rest() {
    let mut collector = memory(3);
    let mut producer = collector.producer("decisions", 8).unwrap();
    for n in 0..10 {
        producer.emit(record(n));
        collector.pump().unwrap();
    }
    let trace = collector.finish(BTreeMap::new()).unwrap().into_trace().unwrap();
    let stamps: Vec<_> = trace.records().iter().map(|r| r.stamp.get()).collect();
    assert_eq!(stamps, [7, 8, 9]);
    let gap = Gap { producer: 0, lost: 7, after: None, before: Some(Time::new(7)), resumes: Some(7) };
    assert_eq!(trace.gaps(), [gap]);
    assert_eq!(trace.totals(0), Some(Totals { emitted: 10, dropped: 0, overwritten: 7 }));
    let again = Trace::from_bytes(&trace.to_bytes().unwrap()).unwrap();
    assert_eq!((again.records(), again.gaps()), (trace.records(), trace.gaps()));
}

#[test]
fn producers_are_merged_by_stamp_then_number_then_sequence() {
    let mut collector = memory(100);
    let mut a = collector.producer("a", 8).unwrap();
    let mut b = collector.producer("b", 8).unwrap();
    [5, 5, 7].into_iter().for_each(|n| b.emit(record(n)));
    [5, 6, 7].into_iter().for_each(|n| a.emit(record(n)));
    let trace = collector.finish(BTreeMap::new()).unwrap().into_trace().unwrap();
    let order: Vec<_> = trace.records().iter().map(|r| (r.stamp.get(), r.producer(), r.sequence())).collect();
    assert_eq!(order, [(5, 0, 0), (5, 1, 0), (5, 1, 1), (6, 0, 1), (7, 0, 2), (7, 1, 2)]);
    assert_eq!(trace.producers().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_file_holds_what_memory_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.aegis");
    let mut collector = TraceCollector::new(story::options(TraceMode::File(path.clone()))).unwrap();
    let mut decisions = collector.producer("decisions", 64).unwrap();
    let mut carrier = collector.producer("carrier-0", 64).unwrap();
    for record in story::decisions() {
        decisions.emit(record);
        collector.pump().unwrap();
    }
    story::others().into_iter().for_each(|record| carrier.emit(record));
    let blobs = BTreeMap::from([("summary".to_owned(), b"{}".to_vec())]);
    let Finished::File(written) = collector.finish(blobs).unwrap() else { panic!("it was to be a file") };
    assert_eq!(written, path);
    let (read, kept) = (Trace::open(&path).unwrap(), story::trace());
    assert_eq!(read.damages(), []);
    assert_eq!(read.records(), kept.records());
    assert_eq!((read.gaps(), read.epoch()), (kept.gaps(), kept.epoch()));
    assert!(read.schemas().eq(kept.schemas()) && read.producers().eq(kept.producers()));
    assert_eq!((read.blob("summary"), read.blob("tasks")), (Some(&b"{}"[..]), kept.blob("tasks")));
}

#[test]
fn the_writer_thread_drains_until_it_is_stopped() {
    let mut collector = memory(100_000);
    let mut producer = collector.producer("decisions", 16).unwrap();
    let writer = TraceWriter::start(collector, Nanos::from_millis(3_600_000)).unwrap();
    for batch in 0..5 {
        (0..16).for_each(|n| producer.emit(record(batch * 16 + n)));
        writer.flush().unwrap();
    }
    producer.emit(record(80));
    let trace = writer.stop().unwrap().finish(BTreeMap::new()).unwrap().into_trace().unwrap();
    assert_eq!(trace.records().len(), 81);
    assert_eq!(trace.gaps(), []);
}

#[test]
fn two_threads_lose_nothing_uncounted_and_tear_nothing() {
    const COUNT: u64 = 1_000_000;
    let (mut producer, mut consumer) = ring(1, 64).unwrap();
    let thread = std::thread::spawn(move || (0..COUNT).for_each(|n| producer.emit(record(n))));
    let (mut received, mut next) = (0, 0);
    loop {
        let last = thread.is_finished();
        let drained = consumer.drain(|r| {
            let n = r.stamp.get();
            assert_eq!(r, record(n).placed(1, n as u32));
            assert!(n >= next, "{n} came after {next}");
            next = n + 1;
            received += 1;
        });
        if last && drained == 0 {
            break;
        }
    }
    thread.join().unwrap();
    assert_eq!((consumer.emitted(), received + consumer.dropped()), (COUNT, COUNT));
}

#[test]
fn impossible_wishes_are_refused_by_name() {
    let refused = |error: TraceError, words: &[&str]| {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(error.severity(), Severity::Permanent);
    };
    let mode = TraceMode::Memory { records: 0 };
    refused(TraceCollector::new(story::options(mode)).unwrap_err(), &["0 records", "1 to"]);
    let mode = TraceMode::File(PathBuf::from("/nowhere/run.aegis"));
    refused(TraceCollector::new(story::options(mode)).unwrap_err(), &["/nowhere/run.aegis"]);
    let mode = TraceMode::File(PathBuf::from("/dev/full"));
    let full = TraceCollector::new(story::options(mode)).unwrap_err();
    assert!(full.to_string().contains("/dev/full: writing failed after 0 bytes"), "{full}");
    assert_eq!(full.severity(), Severity::Transient, "there may be room later");
    let mut clash = story::options(TraceMode::Memory { records: 1 });
    clash.schemas.push(aegis_types::Schema { name: "Other", ..clash.schemas[0] });
    refused(TraceCollector::new(clash).unwrap_err(), &["EngineStarted", "Other", "number 1"]);
    let mut collector = memory(1);
    collector.producer("decisions", 1).unwrap();
    refused(collector.producer("decisions", 1).unwrap_err(), &["`decisions`"]);
    refused(collector.producer("empty", 0).unwrap_err(), &["0 records"]);
}

#[test]
fn after_a_failed_write_rings_are_still_drained_and_the_error_stays() {
    use std::os::fd::AsRawFd;
    let (reader, pipe) = std::io::pipe().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
    let mut collector = TraceCollector::new(story::options(TraceMode::File(path))).unwrap();
    let mut producer = collector.producer("decisions", 2).unwrap();
    producer.emit(record(0));
    assert_eq!(collector.pump().unwrap(), 1);
    drop(reader);
    let writer = TraceWriter::start(collector, Nanos::from_millis(3_600_000)).unwrap();
    for n in 1..9 {
        producer.emit(record(n));
        assert!(matches!(writer.flush(), Err(TraceError::Write { written, .. }) if written > 64));
    }
    assert_eq!(producer.dropped(), 0, "the producer never sees that the file is gone");
    assert!(matches!(writer.stop(), Err(TraceError::Write { .. })));
}

/// The child of the test below: writes, pumps, tells so, and waits to be killed.
#[test]
#[ignore = "run by what_was_pumped_survives_a_kill"]
fn child_that_is_killed() {
    let Some(path) = std::env::var_os("TRACE_PATH").map(PathBuf::from) else {
        println!("skipped: it is a part of what_was_pumped_survives_a_kill");
        return;
    };
    let mut collector = TraceCollector::new(story::options(TraceMode::File(path))).unwrap();
    let mut producer = collector.producer("decisions", 64).unwrap();
    story::decisions().into_iter().for_each(|record| producer.emit(record));
    collector.pump().unwrap();
    println!("\npumped");
    std::thread::park();
}

#[test]
fn what_was_pumped_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.aegis");
    let own = std::env::current_exe().unwrap();
    // A program for another processor is started by an emulator, which whoever started this one names.
    let mut command = match std::env::var_os("AEGIS_RUNNER") {
        None => Command::new(own),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(own);
            command
        }
    };
    let mut child = command
        .args(["--exact", "collecting::child_that_is_killed", "--ignored", "--nocapture"])
        .env("TRACE_PATH", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "pumped"));
    child.kill().unwrap();
    child.wait().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert_eq!(trace.records().len(), story::decisions().len());
    assert_eq!(trace.damages().iter().map(|d| &d.what).collect::<Vec<_>>(), [&DamageKind::NotClosed]);
}
