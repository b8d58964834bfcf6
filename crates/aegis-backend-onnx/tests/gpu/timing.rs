//! How long jobs take, as figures: nothing is asserted.

use std::time::{Duration, Instant};

use aegis_types::SegmentIndex;
use libtest_mimic::Failed;

use super::lane::{Lane, Subject, cached, on_device};

const JOBS: usize = 2_000;

/// Median, 99th percentile and largest, in microseconds.
fn show(name: &str, what: &str, mut taken: Vec<Duration>) {
    taken.sort();
    let at = |part: usize| taken[(taken.len() - 1) * part / 1000].as_nanos() as f64 / 1000.0;
    let (p50, p99, most) = (at(500), at(990), at(1000));
    println!("{name:<18} {what:<34} n {:>5}  p50 {p50:>8.1}  p99 {p99:>8.1}  max {most:>8.1}", taken.len());
}

fn sample(mut job: impl FnMut() -> Result<(), Failed>) -> Result<Vec<Duration>, Failed> {
    let mut taken = Vec::with_capacity(JOBS);
    for turn in 0..JOBS + 100 {
        let start = Instant::now();
        job()?;
        let took = start.elapsed();
        if turn >= 100 {
            taken.push(took);
        }
    }
    Ok(taken)
}

pub fn times() -> Result<(), Failed> {
    for model in cached() {
        let subject = Subject::open(model)?;
        let name = subject.name;
        on_device(|device| {
            let mut lane = Lane::roomy(device, 0, 0)?;
            let start = Instant::now();
            let mut bound = lane.bound(&subject)?;
            println!("{name:<18} loaded in {:?}", start.elapsed());
            bound.write(&subject.job(0));
            let runs = sample(|| {
                bound.enqueue(&mut lane)?;
                lane.signal_and_poll()
            })?;
            show(name, "calls, signal, poll", runs);
            if !bound.model.capturable(SegmentIndex::new(0)) {
                return Ok(());
            }
            let graph = lane.capture(&mut bound)?;
            let bare = sample(|| {
                lane.stream.replay(&*graph)?;
                Ok(lane.stream.synchronize()?)
            })?;
            show(name, "bare graph launch and wait", bare);
            let served = sample(|| {
                lane.stream.replay(&*graph)?;
                lane.signal_and_poll()
            })?;
            show(name, "graph launch, signal, poll", served);
            let launches = sample(|| Ok(lane.stream.replay(&*graph)?))?;
            show(name, "graph launch alone, back to back", launches);
            Ok(lane.stream.synchronize()?)
        })?;
    }
    Ok(())
}
