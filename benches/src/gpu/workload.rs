//! The models that are measured: sequences of kernels of given lengths, fixed by their seeds before anything is seen.
//!
//! A block of an arithmetic kernel fills its multiprocessor: on an H100 two blocks there take twice the time of one. So a
//! kernel of `n` blocks on `m` multiprocessors takes the share `min(1, n/m)` of the device's arithmetic while it runs,
//! and the rest is there for others: networks of batch one leave most of a large device idle, which is the reason why
//! sharing carries more than one job at a time.
//!
//! The networks are fitted to trained ones. Twenty networks of that kind (MobileNet to FCN-ResNet50, half precision,
//! batch one, captured graphs) shared an H100 without a miss up to a load between 2.25 and 2.5 and slowed each other down
//! by at most 2.1, 4.3 and 6.5 on 2, 4 and 8 lanes that were always busy; half of them by less than 1.8, 2.8 and 4.3.
//! Kernels of at most one block a multiprocessor, and networks whose widest kernels cover 35 to 90 percent of the
//! device, come near that. With kernels of two blocks a multiprocessor and without narrow networks, sharing breaks at
//! 1.5 and two lanes slow each other down by up to 4.3; with all of them below 70 percent it breaks at 3.0.
//!
//! The short models are narrower still, and have many kernels each, so that the company of one kernel decides little.

use aegis_cuda::kernel::{Pace, Shape, WIDTHS, network, pace_probe};
use aegis_types::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::recipe::Recipe;
use super::saturation::{Enough, alone};
use super::store::Store;
use crate::sets::SplitMix;

/// A model of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specimen {
    /// Its name.
    pub name: String,
    /// The model.
    pub artifact: Recipe,
    /// Memory that it may take, in bytes.
    pub memory: u64,
    /// Median alone, launch to end seen, in nanoseconds.
    pub alone_ns: u64,
}

/// What a model is drawn to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Draws its kernels.
    pub seed: u64,
    /// Kernels.
    pub kernels: u32,
    /// Segments.
    pub segments: u32,
    /// How many kernels of a hundred are bound by memory.
    pub memory_percent: u32,
    /// How long it takes alone.
    pub length: Nanos,
    /// Weights in MiB.
    pub weights: u64,
    /// How many of a hundred multiprocessors the widths of its kernels are fractions of.
    pub breadth_percent: u32,
}

/// Thirty models of 50 to 300 us, a kernel every 6 us or so. The weights of all of them fit a last-level cache together.
pub fn short_sketches() -> Vec<Sketch> {
    let mut draw = SplitMix(0x5110_0001);
    let sketch = |n: u64| {
        let micros = 50 + n * 250 / 29;
        Sketch {
            seed: 1_000 + n,
            kernels: micros.div_ceil(6) as u32,
            segments: 1,
            memory_percent: draw.between(35, 65) as u32,
            length: Nanos::from_micros(micros),
            weights: 1,
            breadth_percent: 50,
        }
    };
    (0..30).map(sketch).collect()
}

/// Twenty models of 0.3 to 1.9 ms, shaped like networks. One that is longer than `cut` has as many segments as keep each
/// below it.
pub fn network_sketches(cut: Option<Nanos>) -> Vec<Sketch> {
    let mut draw = SplitMix(0x5110_0002);
    let sketch = |n: u64| {
        // Log-uniform steps from 300 to 1,900 us.
        let length = Nanos::new((300e3 * (1_900.0f64 / 300.0).powf(n as f64 / 19.0)) as u64);
        let kernels = draw.between(10, 60) as u32;
        let segments = cut.map_or(1, |cut| length.get().div_ceil(cut.get().max(1)).clamp(1, 8) as u32);
        let (memory_percent, weights) = (draw.between(20, 70) as u32, draw.between(8, 48));
        let (seed, segments) = (2_000 + n, segments.min(kernels));
        let breadth_percent = draw.between(35, 90) as u32;
        Sketch { seed, kernels, segments, memory_percent, length, weights, breadth_percent }
    };
    (0..20).map(sketch).collect()
}

impl Sketch {
    fn shape(&self, sms: u32, length: Nanos) -> Shape {
        Shape {
            units: (sms * self.breadth_percent / 100).max(1),
            segments: self.segments,
            kernels: self.kernels,
            memory_percent: self.memory_percent,
            length,
            weights: Bytes::new(self.weights << 20),
            scratch: Bytes::new(1 << 20),
            input: 1_024,
            output: 256,
        }
    }

    /// Weights, constants, I/O and scratch, with room for rounding.
    const fn memory(&self) -> Bytes {
        Bytes::new((self.weights + 4) << 20)
    }
}

/// A small network for a small partition: twenty kernels of about `each`, on an eighth of a large device up to half of
/// it. On `share` multiprocessors six of them, which have twice as many blocks, take twice as long.
pub fn small_network(share: u32, each: Nanos, pace: &Pace) -> String {
    let half = WIDTHS.len() / 2;
    let work = u128::from(each.saturating_sub(pace.launch).get());
    let per = |amount: u128, pace: Nanos| (work * amount / u128::from(pace.get().max(1))).max(1);
    let rounds = per(1_000, pace.compute[half]);
    let weights = 4u128 << 20;
    let wanted = per(1 << 20, pace.read[half]);
    let reads = wanted.div_ceil(weights);
    let bytes = (wanted / reads / 4096 * 4096).clamp(4096, weights);
    let mut text = "kernel 1\ninput x f32 1024\noutput y f32 256\nweights 4MiB\nsegment\n".to_owned();
    let computing = |blocks: u32| format!("compute rounds={rounds} blocks={blocks} threads=256\n");
    let reading = |blocks: u32| format!("read bytes={bytes}B rounds={reads} blocks={blocks} threads=256\n");
    let (narrow, fitting, twice) = ((share / 2).max(1), share.max(1), (2 * share).max(1));
    for _ in 0..2 {
        text.push_str(&computing(narrow));
        text.push_str(&computing(fitting));
        text.push_str(&computing(twice));
        text.push_str(&reading(twice));
        text.push_str(&computing(fitting));
        text.push_str(&computing(narrow));
        text.push_str(&computing(twice));
        text.push_str(&reading(fitting));
        text.push_str(&computing(fitting));
        text.push_str(&computing(twice));
    }
    text.push_str("end\n");
    text
}

/// A job that does next to nothing: its graph is one data kernel and one empty kernel, without a copy.
pub const NOTHING: &str = "kernel 1\nsegment\nstorm 1\nend\n";

/// A job of `launches` empty kernels.
fn empties(launches: u32) -> String {
    format!("kernel 1\nsegment\nstorm {launches}\nend\n")
}

/// Amounts of [`pace_probe`]: far enough apart that noise of the clock does not matter.
const AMOUNTS: [u32; 2] = [4, 24];

/// Measures how fast the device carries kernels.
///
/// # Errors
/// What device or models refuse.
pub fn measure_pace(gpu: &Gpu, store: &Store) -> Result<Pace, ExperimentError> {
    let mut tasks = vec![
        TaskPlan::plain("few", empties(1), Bytes::new(1 << 20)),
        TaskPlan::plain("many", empties(41), Bytes::new(1 << 20)),
    ];
    for memory in [false, true] {
        for width in 0..WIDTHS.len() {
            for amount in AMOUNTS {
                let name = format!("{}-{width}-{amount}", if memory { "read" } else { "compute" });
                let artifact = pace_probe(gpu.sms, width, memory, amount);
                tasks.push(TaskPlan::plain(name, artifact, Bytes::new(32 << 20)));
            }
        }
    }
    let partitions = PartitionPlan::whole(gpu.sms, 1);
    let plan = FleetPlan { name: "pace".into(), ordinal: gpu.ordinal, partitions, tasks };
    let bed = Bed::open(gpu, store, &plan)?;
    let enough = Enough { jobs: 40, time: Nanos::from_millis(300) };
    let spreads = bed.drive(|circuit, draw| alone(circuit, enough, draw))?;
    bed.close();
    let medians: Vec<Nanos> = spreads.iter().map(|spread| spread.quantile(0.5)).collect();
    let step = |from: usize, of: u32| {
        Nanos::new((medians[from + 1].saturating_sub(medians[from]).get() / u64::from(of)).max(1))
    };
    let mut pace = Pace {
        launch: step(0, 40),
        compute: [Nanos::new(1); WIDTHS.len()],
        read: [Nanos::new(1); WIDTHS.len()],
    };
    let between = AMOUNTS[1] - AMOUNTS[0];
    for width in 0..WIDTHS.len() {
        pace.compute[width] = step(2 + 2 * width, between);
        pace.read[width] = step(2 + 2 * (WIDTHS.len() + width), between);
    }
    Ok(pace)
}

/// Makes models whose lengths alone are those of the sketches: drawn once, measured, and drawn again with the length
/// that was missing.
///
/// # Errors
/// What device or models refuse.
pub fn make(
    gpu: &Gpu,
    store: &Store,
    name: &str,
    sketches: &[Sketch],
) -> Result<Vec<Specimen>, ExperimentError> {
    let pace = measure_pace(gpu, store)?;
    let mut lengths: Vec<Nanos> = sketches.iter().map(|sketch| sketch.length).collect();
    let mut specimens = Vec::new();
    for _round in 0..3 {
        let texts = sketches
            .iter()
            .zip(&lengths)
            .map(|(sketch, length)| network(sketch.seed, &sketch.shape(gpu.sms, *length), &pace));
        specimens = measure(gpu, store, name, sketches, texts.collect())?;
        for ((length, sketch), specimen) in lengths.iter_mut().zip(sketches).zip(&specimens) {
            *length = corrected(*length, sketch.length, Nanos::new(specimen.alone_ns));
        }
    }
    Ok(specimens)
}

/// The length to ask for, if what was asked for came out as `found` and `wanted` is wanted.
fn corrected(asked: Nanos, wanted: Nanos, found: Nanos) -> Nanos {
    let ratio = wanted.get() as f64 / found.get().max(1) as f64;
    Nanos::new((asked.get() as f64 * ratio.clamp(0.2, 5.0)) as u64).max(Nanos::from_micros(1))
}

fn measure(
    gpu: &Gpu,
    store: &Store,
    name: &str,
    sketches: &[Sketch],
    texts: Vec<String>,
) -> Result<Vec<Specimen>, ExperimentError> {
    let names = (0..sketches.len()).map(|n| format!("{name}-{n:02}"));
    let tasks = names
        .zip(sketches.iter().zip(&texts))
        .map(|(name, (sketch, text))| TaskPlan::plain(name, text.clone(), sketch.memory()))
        .collect();
    let partitions = PartitionPlan::whole(gpu.sms, 1);
    let plan = FleetPlan { name: name.into(), ordinal: gpu.ordinal, partitions, tasks };
    let bed = Bed::open(gpu, store, &plan)?;
    let enough = Enough { jobs: 60, time: Nanos::from_millis(400) };
    let spreads = bed.drive(|circuit, draw| alone(circuit, enough, draw))?;
    bed.close();
    let specimen = |((task, sketch), spread): ((TaskPlan, &Sketch), &super::spread::Spread)| Specimen {
        name: task.name,
        artifact: task.artifact,
        memory: sketch.memory().get(),
        alone_ns: spread.quantile(0.5).get(),
    };
    Ok(plan.tasks.into_iter().zip(sketches).zip(&spreads).map(specimen).collect())
}

/// The models of a fleet, made once and kept beside the results: every later stage measures the same ones.
///
/// # Errors
/// As [`make`].
pub fn specimens(
    gpu: &Gpu,
    store: &Store,
    name: &str,
    sketches: &[Sketch],
) -> Result<Vec<Specimen>, ExperimentError> {
    let file = format!("{name}-models");
    if let Some(known) = store.load::<Vec<Specimen>>(&file)
        && known.len() == sketches.len()
    {
        return Ok(known);
    }
    let made = make(gpu, store, name, sketches)?;
    store.save(&file, &made)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aegis_cuda::kernel::KernelLoader;
    use aegis_cuda::{BackendLoader, ModelDescription, ModelRequest};

    use super::*;

    fn inspect(text: &str) -> ModelDescription {
        let shapes = BTreeMap::new();
        let artifact = text.as_bytes();
        let request = ModelRequest { name: "m", artifact, shapes: &shapes, allow_control_flow: false };
        KernelLoader::new().inspect(&request).expect("a legal model")
    }

    #[test]
    fn every_model_that_is_measured_is_legal_and_fits_its_memory() {
        assert!(inspect(NOTHING).inputs.is_empty());
        inspect(&empties(41));
        let span = Nanos::from_micros(5);
        let pace =
            Pace { launch: Nanos::new(900), compute: [span; WIDTHS.len()], read: [span; WIDTHS.len()] };
        inspect(&small_network(32, Nanos::from_micros(16), &pace));
        let cut = Some(Nanos::from_micros(600));
        for sketch in short_sketches().iter().chain(&network_sketches(cut)) {
            let text = network(sketch.seed, &sketch.shape(132, sketch.length), &pace);
            let described = inspect(&text);
            assert_eq!(described.graph.segments(), sketch.segments as usize);
            let scratch = described.memory.scratch.into_iter().flatten().max().unwrap_or(Bytes::ZERO);
            let io: u64 = described.inputs.iter().chain(&described.outputs).map(|io| io.bytes.get()).sum();
            let needed = described.memory.weights.get() + scratch.get() + 4 * io;
            assert!(needed < sketch.memory().get(), "{needed} of {}", sketch.memory());
        }
    }

    #[test]
    fn sketches_are_those_that_were_announced() {
        let (short, networks) = (short_sketches(), network_sketches(None));
        assert_eq!((short.len(), networks.len()), (30, 20));
        assert!(short.iter().all(|s| (50_000..=300_000).contains(&s.length.get())));
        assert!(networks.iter().all(|s| (299_000..=1_901_000).contains(&s.length.get()) && s.segments == 1));
        assert!(networks.iter().all(|s| (10..=60).contains(&s.kernels)));
        assert_eq!(short_sketches(), short);
    }

    /// The share of the device's arithmetic that a model takes while it runs alone, by its steps.
    fn arithmetic(sketch: &Sketch, sms: u32, pace: &Pace) -> f64 {
        let text = network(sketch.seed, &sketch.shape(sms, sketch.length), pace);
        let number = |line: &str, key: &str| -> f64 {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
        };
        let compute = text.lines().filter(|line| line.starts_with("compute"));
        let one = pace.compute[0].get() as f64 / 1e3;
        let busy = |line: &str| number(line, "rounds=") * one * number(line, "blocks=") / f64::from(sms);
        compute.map(busy).sum::<f64>() / sketch.length.get() as f64
    }

    #[test]
    fn networks_leave_most_of_the_arithmetic_and_short_models_more() {
        // As on an H100: 38 ns a round, whatever the width.
        let us = |n: u64| Nanos::new(n * 1_000);
        let pace = Pace {
            launch: Nanos::new(900),
            compute: [us(38); 5],
            read: [us(18), us(9), us(5), us(4), us(3)],
        };
        let mean = |sketches: &[Sketch]| {
            sketches.iter().map(|sketch| arithmetic(sketch, 132, &pace)).sum::<f64>() / sketches.len() as f64
        };
        let (networks, short) = (mean(&network_sketches(None)), mean(&short_sketches()));
        assert!((0.1..0.3).contains(&networks), "networks use {networks:.2}");
        assert!(short < networks, "short models use {short:.2}, networks {networks:.2}");
    }

    #[test]
    fn a_length_is_corrected_by_what_was_missing() {
        let us = Nanos::from_micros;
        assert_eq!(corrected(us(100), us(100), us(125)), us(80));
        assert_eq!(corrected(us(100), us(100), us(10_000)), us(20));
    }
}
