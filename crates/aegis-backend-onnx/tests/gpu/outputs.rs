//! What comes out.

use aegis_backend_onnx::OnnxLoader;
use aegis_cuda::conformance::{self, BackendCase};
use aegis_cuda::{Device, PartitionRequest, Units};
use aegis_types::{Bytes, MemoryClass, MemoryGrant, SegmentIndex};
use libtest_mimic::Failed;

use super::lane::{Lane, Subject, cached, compare, ensure, on_device, runtime};
use crate::models::request;

/// What a model took, with room for the holes of first fit.
fn memory(subject: &Subject) -> Result<Bytes, Failed> {
    let mut needs = 0;
    on_device(|device| {
        let mut lane = Lane::roomy(device, 0, 0)?;
        drop(lane.load(subject)?);
        let water = |class| lane.book.high_water(class).get();
        needs =
            [MemoryClass::Persistent, MemoryClass::Exchange, MemoryClass::Scratch].map(water).iter().sum();
        Ok(())
    })?;
    Ok(Bytes::new((needs + needs / 4).next_multiple_of(4096)))
}

pub fn conformance() -> Result<(), Failed> {
    for model in
        cached().into_iter().filter(|model| ["silero_vad", "ocr_cls", "dtln_1"].contains(&model.name))
    {
        let mut subject = Subject::open(model)?;
        let jobs: Vec<_> = (0..3).map(|seed| subject.job(0xC0 + seed)).collect();
        let right = jobs.iter().map(|job| subject.expected(job)).collect::<Result<Vec<_>, _>>()?;
        let specs = subject.outputs.clone();
        let judge = |inputs: &[Vec<u8>], outputs: &[Vec<u8>]| {
            let job = jobs.iter().position(|job| job == inputs).ok_or("inputs of no job")?;
            compare(&specs, outputs, &right[job]).map(drop)
        };
        let memory = memory(&subject)?;
        on_device(|device| {
            let case = BackendCase {
                device,
                loader: &OnnxLoader::new(runtime()?.clone()),
                request: request(subject.name, &subject.artifact, &subject.shapes),
                jobs: &jobs,
                judge: &judge,
                memory,
            };
            let report = conformance::backend(&case)?;
            println!("{}: {report:?}", subject.name);
            Ok(())
        })?;
    }
    Ok(())
}

pub fn like_the_host() -> Result<(), Failed> {
    for model in cached() {
        let mut subject = Subject::open(model)?;
        on_device(|device| {
            let mut lane = Lane::roomy(device, 0, 0)?;
            let mut bound = lane.bound(&subject)?;
            let mut largest = 0.0_f64;
            for seed in 0..3 {
                let job = subject.job(seed);
                let seen = bound.run(&mut lane, &job)?;
                let expected = subject.expected(&job)?;
                let difference = subject.difference(&seen, &expected);
                largest = largest.max(difference.map_err(|text| format!("{}: {text}", subject.name))?);
            }
            let captured = bound.model.capturable(SegmentIndex::new(0));
            println!("{}: differs by {largest:.1e}, captured: {captured}", subject.name);
            bound.model.remarks().iter().for_each(|remark| println!("  {remark}"));
            Ok(())
        })?;
    }
    Ok(())
}

pub fn replays() -> Result<(), Failed> {
    let mut captured = 0;
    for model in cached() {
        let subject = Subject::open(model)?;
        on_device(|device| {
            let mut lane = Lane::roomy(device, 0, 0)?;
            let mut bound = lane.bound(&subject)?;
            if !bound.model.capturable(SegmentIndex::new(0)) {
                println!("{}: not captured: {:?}", subject.name, bound.model.remarks());
                return Ok(());
            }
            captured += 1;
            let rounds = bound.model.remarks().iter().any(|remark| remark.contains("may round"));
            let mut replayed = Vec::new();
            let runs: Vec<_> =
                (0..4).map(|seed| bound.run(&mut lane, &subject.job(seed))).collect::<Result<_, _>>()?;
            let graph = lane.capture(&mut bound)?;
            for seed in [3, 0, 2, 1, 0] {
                let seen = bound.replay(&mut lane, &*graph, &subject.job(seed))?;
                let run = &runs[seed as usize];
                if rounds {
                    let difference = subject.difference(&seen, run);
                    difference.map_err(|text| format!("{}: job {seed}: {text}", subject.name))?;
                } else {
                    ensure(seen == *run, || format!("{}: job {seed} differs", subject.name))?;
                }
                replayed.push(seen);
            }
            ensure(replayed[1] == replayed[4], || format!("{}: two replays differ", subject.name))?;
            let seen = bound.run(&mut lane, &subject.job(0))?;
            ensure(seen == runs[0], || format!("{}: a run after replays differs", subject.name))?;
            println!("{}: {} operations", subject.name, graph.operations());
            drop(graph);
            drop(bound);
            ensure(lane.book.nothing_lent(), || "memory outlived the model".into())
        })?;
    }
    ensure(captured > 0, || "no model can be captured".into())
}

/// Two models on two lanes, captured where they can be, many jobs in flight at once.
fn side_by_side(device: &dyn Device, places: [(u16, u16); 2]) -> Result<(), Failed> {
    let models = cached();
    let pair = [models[0], models[models.len() - 1]];
    let subjects = [Subject::open(pair[0])?, Subject::open(pair[1])?];
    let mut lanes = Vec::new();
    for (subject, (partition, lane)) in subjects.iter().zip(places) {
        let mut lane = Lane::roomy(device, partition, lane)?;
        let mut bound = lane.bound(subject)?;
        let captured = bound.model.capturable(SegmentIndex::new(0));
        let graph = if captured { Some(lane.capture(&mut bound)?) } else { None };
        let job = subject.job(7);
        let alone = match &graph {
            Some(graph) => bound.replay(&mut lane, &**graph, &job)?,
            None => bound.run(&mut lane, &job)?,
        };
        lanes.push((graph, bound, lane, alone));
    }
    for turn in 0..50 {
        for ((graph, bound, lane, _), subject) in lanes.iter_mut().zip(&subjects) {
            bound.write(&subject.job(7));
            match graph {
                Some(graph) => lane.stream.replay(&**graph)?,
                None => bound.enqueue(lane)?,
            }
        }
        for ((_, bound, lane, alone), subject) in lanes.iter_mut().zip(&subjects) {
            lane.signal_and_poll()?;
            ensure(bound.read() == *alone, || format!("{}: turn {turn} differs", subject.name))?;
        }
    }
    for ((_, bound, lane, _), mut subject) in lanes.iter_mut().zip(subjects) {
        let job = subject.job(11);
        let (seen, expected) = (bound.run(lane, &job)?, subject.expected(&job)?);
        subject.difference(&seen, &expected).map_err(|text| format!("{}: {text}", subject.name))?;
    }
    Ok(())
}

pub fn two_lanes() -> Result<(), Failed> {
    on_device(|device| side_by_side(device, [(0, 0), (0, 1)]))
}

pub fn two_partitions() -> Result<(), Failed> {
    on_device(|device| {
        if !device.context().capabilities.partitions {
            println!("skipped: the device has no partitions");
            return Ok(());
        }
        let units = (device.context().units / 4).max(device.context().unit_minimum);
        let request = |name: &str| PartitionRequest { name: name.into(), units: Units::Count(units) };
        let made = device.partition(&[request("a"), request("b")])?;
        println!("{made:?}");
        side_by_side(device, [(0, 0), (1, 1)])
    })
}

pub fn corrupted() -> Result<(), Failed> {
    let subject = Subject::open(cached()[0])?;
    on_device(|device| {
        let mut lane = Lane::roomy(device, 0, 0)?;
        let whole = &subject.artifact;
        for bytes in [&[][..], &whole[..whole.len() / 2], &[0xFF; 64]] {
            let refused = lane.load_bytes(&subject, bytes).err();
            let error = refused.ok_or_else(|| format!("{} bytes of no model were loaded", bytes.len()))?;
            println!("refused: {error}");
            ensure(lane.book.nothing_lent(), || format!("memory stays taken after: {error}"))?;
        }
        let mut bound = lane.bound(&subject)?;
        bound.run(&mut lane, &subject.job(1)).map(drop)
    })
}
