//! Random traces against obvious oracles. A failing case is shrunk, printed, and repeated by the command that proptest
//! prints with it.

use std::collections::{BTreeMap, VecDeque};

use aegis_trace::{Trace, TraceCollector, TraceMode, ring};
use aegis_types::{RawRecord, Sink, TaskId, Time};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::story;

/// One step of a producer's life.
#[derive(Clone, Copy, Debug)]
enum Step {
    Emit(usize, RawRecord),
    Pump,
}

fn record() -> impl Strategy<Value = RawRecord> {
    let kind =
        prop_oneof![Just(20_u16), Just(22), Just(23), Just(24), Just(25), Just(26), Just(60), any::<u16>()];
    let word = prop_oneof![0..4_u64, any::<u64>()];
    (0..50_u64, kind, [word.clone(), word.clone(), word.clone(), word.clone(), word.clone(), word])
        .prop_map(|(stamp, kind, payload)| RawRecord::new(Time::new(stamp), kind, payload))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(
        prop_oneof![6 => (0..3_usize, record()).prop_map(|(p, r)| Step::Emit(p, r)), 1 => Just(Step::Pump)],
        0..80,
    )
}

/// A trace of `steps` through three rings of four records.
fn collect(mode: TraceMode, steps: &[Step]) -> Trace {
    let mut collector = TraceCollector::new(story::options(mode)).unwrap();
    let mut producers = ["a", "b", "c"].map(|name| collector.producer(name, 4).unwrap());
    for step in steps {
        match *step {
            Step::Emit(producer, record) => producers[producer].emit(record),
            Step::Pump => drop(collector.pump().unwrap()),
        }
    }
    collector.finish(BTreeMap::new()).unwrap().into_trace().unwrap()
}

/// The same steps by queues: the records that survive, and how many each producer lost.
fn expected(steps: &[Step]) -> (Vec<RawRecord>, [u64; 3]) {
    let (mut kept, mut lost, mut sequences) = (Vec::new(), [0; 3], [0; 3]);
    let mut rings: [VecDeque<RawRecord>; 3] = Default::default();
    for step in steps.iter().copied().chain([Step::Pump]) {
        match step {
            Step::Emit(p, record) if rings[p].len() < 4 => {
                rings[p].push_back(record.placed(p as u16, sequences[p]));
                sequences[p] += 1;
            }
            Step::Emit(p, _) => {
                lost[p] += 1;
                sequences[p] += 1;
            }
            Step::Pump => rings.iter_mut().for_each(|ring| kept.extend(ring.drain(..))),
        }
    }
    kept.sort_by_key(|r| (r.stamp, r.producer(), r.sequence()));
    (kept, lost)
}

/// Asks everything that can be asked; what is forged must not bring a reader down.
fn ask_everything(trace: &Trace) {
    for task in 0..3 {
        let answers = trace.query(TaskId::new(task), Time::ZERO..Time::MAX);
        assert!(answers.is_err() || answers.unwrap().is_sorted_by_key(|a| a.at));
    }
    let mut out = Vec::new();
    if trace.write_perfetto(&mut out).is_ok() {
        serde_json::from_slice::<serde_json::Value>(&out).unwrap();
    }
    out.clear();
    if trace.write_json_lines(&mut out).is_ok() {
        assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), trace.records().len());
    }
}

/// A chunk put together by hand from the description of the format.
fn chunk(kind: u16, tag: u16, body: &[u8]) -> Vec<u8> {
    let mut chunk = b"AGCK".to_vec();
    chunk.extend(kind.to_le_bytes());
    chunk.extend(tag.to_le_bytes());
    chunk.extend((body.len() as u64).to_le_bytes());
    chunk.extend(crc32fast::hash(body).to_le_bytes());
    chunk.extend(crc32fast::hash(&chunk).to_le_bytes());
    chunk.extend(body);
    chunk
}

proptest! {
    #[test]
    fn file_and_memory_keep_what_queues_keep(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let file = collect(TraceMode::File(folder.path().join("run.aegis")), &steps);
        let memory = collect(TraceMode::Memory { records: 1_000 }, &steps);
        let (records, lost) = expected(&steps);
        prop_assert_eq!(file.records(), &records);
        prop_assert_eq!(memory.records(), &records);
        prop_assert_eq!(file.gaps(), memory.gaps());
        prop_assert_eq!(file.damages(), []);
        for (id, lost) in (0..).zip(lost) {
            let told: u64 = file.gaps().iter().filter(|g| g.producer == id).map(|g| g.lost).sum();
            prop_assert_eq!(told, lost);
        }
        let again = Trace::from_bytes(&memory.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(again.records(), &records);
        prop_assert_eq!(again.gaps(), memory.gaps());
        ask_everything(&memory);
    }

    #[test]
    fn little_memory_keeps_the_youngest(steps in steps(), limit in 1..6_usize) {
        let memory = collect(TraceMode::Memory { records: limit }, &steps);
        let (all, lost) = expected(&steps);
        for id in 0..3_u16 {
            let mut own: Vec<_> = all.iter().filter(|r| r.producer() == id).copied().collect();
            own.sort_by_key(RawRecord::sequence);
            let gone = own.len().saturating_sub(limit);
            let mut kept: Vec<_> = memory.records().iter().filter(|r| r.producer() == id).copied().collect();
            kept.sort_by_key(RawRecord::sequence);
            prop_assert_eq!(&kept, &own[gone..]);
            let told: u64 = memory.gaps().iter().filter(|g| g.producer == id).map(|g| g.lost).sum();
            prop_assert_eq!(told, lost[usize::from(id)] + gone as u64);
        }
    }

    #[test]
    fn a_ring_is_a_bounded_queue(capacity in 1..20_usize, bursts in vec(0..30_u64, 0..20)) {
        let (mut producer, mut consumer) = ring(0, capacity).unwrap();
        let room = capacity.next_power_of_two() as u64;
        let (mut emitted, mut seen, mut wanted) = (0, Vec::new(), Vec::new());
        for burst in bursts {
            (0..burst).for_each(|n| producer.emit(RawRecord::new(Time::new(emitted + n), 1, [0; 6])));
            wanted.extend(emitted..emitted + burst.min(room));
            emitted += burst;
            prop_assert_eq!(consumer.drain(|r| seen.push(u64::from(r.sequence()))) as u64, burst.min(room));
        }
        prop_assert_eq!(&seen, &wanted);
        prop_assert_eq!((consumer.emitted(), consumer.dropped()), (emitted, emitted - wanted.len() as u64));
    }

    #[test]
    fn forged_bytes_bring_no_reader_down(
        steps in steps(),
        edits in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = collect(TraceMode::Memory { records: 1_000 }, &steps).to_bytes().unwrap();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 2).min(bytes.len()));
        if let Ok(trace) = Trace::from_bytes(&bytes) {
            ask_everything(&trace);
        }
    }

    #[test]
    fn forged_chunks_with_valid_checks_bring_no_reader_down(
        chunks in vec((0..8_u16, 0..5_u16, vec(any::<u8>(), 0..200)), 0..8),
    ) {
        let mut bytes = story::trace().to_bytes().unwrap()[..16].to_vec();
        for (kind, tag, body) in &chunks {
            bytes.extend(chunk(*kind, *tag, body));
        }
        let trace = Trace::from_bytes(&bytes).unwrap();
        prop_assert!(trace.damage().is_some() || chunks.iter().any(|(kind, ..)| *kind == 5));
        ask_everything(&trace);
    }
}
