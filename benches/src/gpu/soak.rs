//! A long run: does anything grow, and does anybody allocate, while the runtime serves?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aegis_types::{Bytes, Nanos};
use aegisrt::config::Prepared;
use aegisrt::run::run;
use serde::{Deserialize, Serialize};

use super::card::{Gpu, MemoryWatch};
use super::error::ExperimentError;
use super::jobs::Ready;
use super::serve::{Contract, Served, options};
use crate::counting::{CountingAllocator, allocations};

/// Distance of two samples.
const EVERY: Duration = Duration::from_secs(5);

/// One look at the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the samples began.
    pub at_s: u64,
    /// Device memory in use by anybody, in KiB, counted from the first sample; negative if it shrank.
    pub device_kib: Option<i64>,
    /// Resident memory of the process, in KiB.
    pub resident_kib: u64,
    /// Heap allocations of all threads but the one that samples, since the sample before.
    pub allocations: u64,
}

/// What the samples and the run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoakReport {
    /// Seconds that were asked for.
    pub seconds: u64,
    /// Certified load, in thousandths.
    pub load: u64,
    /// The samples, in order.
    pub samples: Vec<Sample>,
    /// What was counted of the jobs.
    pub served: Served,
}

/// What grew between the first sample of the steady part and the last: the steady part begins after a fifth of the run,
/// when the trace's memory is full and every path was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Samples of the steady part.
    pub samples: usize,
    /// Device memory, in KiB.
    pub device_kib: Option<i64>,
    /// Resident memory, in KiB.
    pub resident_kib: i64,
    /// Heap allocations.
    pub allocations: u64,
}

impl SoakReport {
    /// What grew in the steady part, without the last sample, in which the run may have ended.
    pub fn growth(&self) -> Growth {
        let skip = self.samples.len() / 5;
        let steady = self.samples.get(skip..self.samples.len().saturating_sub(1)).unwrap_or(&[]);
        let (Some(first), Some(last)) = (steady.first(), steady.last()) else { return Growth::default() };
        let signed = |kib: u64| i64::try_from(kib).unwrap_or(i64::MAX);
        Growth {
            samples: steady.len(),
            device_kib: last.device_kib.zip(first.device_kib).map(|(last, first)| last - first),
            resident_kib: signed(last.resident_kib) - signed(first.resident_kib),
            allocations: steady.iter().skip(1).map(|sample| sample.allocations).sum(),
        }
    }
}

/// The thread that looks.
struct Sampler {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    fn start(gpu: &Gpu) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (over, gpu) = (Arc::clone(&ended), gpu.clone());
        let thread = std::thread::spawn(move || {
            let watch = MemoryWatch::of(&gpu);
            let mut samples = Vec::with_capacity(1_024);
            let begun = Instant::now();
            let first = watch.free();
            let mut before = others();
            while !over.load(Ordering::Acquire) {
                std::thread::park_timeout(EVERY);
                let now = others();
                samples.push(Sample {
                    at_s: begun.elapsed().as_secs(),
                    device_kib: used_since(first, watch.free()),
                    resident_kib: resident_kib(),
                    allocations: now.saturating_sub(before),
                });
                before = now;
            }
            samples
        });
        Self { ended, thread }
    }

    fn stop(self) -> Vec<Sample> {
        self.ended.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Samples that are lost with their thread leave an empty list, which shows.
        self.thread.join().unwrap_or_default()
    }
}

/// Allocations of every thread but this one.
fn others() -> u64 {
    // What this thread allocates between the two looks is subtracted too much, never too little.
    let own = allocations();
    u64::from(CountingAllocator).saturating_sub(own)
}

fn used_since(first: Option<Bytes>, now: Option<Bytes>) -> Option<i64> {
    let (first, now) = (first?, now?);
    let kib = |bytes: Bytes| i64::try_from(bytes.get() / 1_024).unwrap_or(i64::MAX);
    Some(kib(first) - kib(now))
}

/// Resident memory of this process; zero where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Serves a certified set for so long, with samples beside it.
///
/// # Errors
/// What admission, device or a model refuse.
pub fn measure(gpu: &Gpu, ready: &Ready, seconds: u64) -> Result<SoakReport, ExperimentError> {
    let (case, fitted) = (&ready.certified.case, &ready.certified.fitted);
    let set = case.set(fitted.load, &fitted.lanes)?;
    let profile = Some(&ready.certified.profile);
    let contract = Contract { set: &set, calibration: &ready.calibration, profile };
    let certificate = contract.certify()?;
    let prepared = Prepared { set: set.clone(), requests: Vec::new(), gaps: Vec::new() };
    let options = options(Nanos::from_millis(seconds * 1_000), None);
    let sampler = Sampler::start(gpu);
    let report = run(ready.bed.system(), &prepared, certificate, profile, &ready.calibration, &options);
    let samples = sampler.stop();
    let served = Served::of_tally(&report?, seconds as f64);
    Ok(SoakReport { seconds, load: fitted.load, samples, served })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: u64, device_kib: i64, resident_kib: u64, allocations: u64) -> Sample {
        Sample { at_s, device_kib: Some(device_kib), resident_kib, allocations }
    }

    #[test]
    fn growth_is_that_of_the_steady_part() {
        let mut report = SoakReport::default();
        // The start allocates, the middle does not, the end frees.
        report.samples.extend([sample(5, 900, 10_000, 5_000), sample(10, 1_000, 20_000, 700)]);
        report.samples.extend((3..=9).map(|n| sample(5 * n, 1_000, 20_004, 0)));
        report.samples.push(sample(50, 10, 9_000, 300));
        let growth = report.growth();
        assert_eq!((growth.samples, growth.device_kib, growth.resident_kib), (7, Some(0), 0));
        assert_eq!(growth.allocations, 0);
        report.samples[6].allocations = 3;
        report.samples[8].resident_kib = 20_010;
        assert_eq!((report.growth().allocations, report.growth().resident_kib), (3, 6));
    }

    #[test]
    fn this_process_is_resident() {
        assert!(resident_kib() > 0);
    }
}
