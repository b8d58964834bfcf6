//! Models of kernels that others are made of: enemies for contended profiling, and sequences shaped like networks.

use aegis_types::{Bytes, Nanos};

use crate::script::SplitMix64;

/// Widths of a network's kernels, in eighths of the device's units: one block on each unit at most. Wider ones would make
/// a network slow its neighbours more than twice by itself, which measured networks of batch one do not.
pub const WIDTHS: [u32; 5] = [1, 2, 4, 6, 8];
/// Threads of a block of a network's kernels.
const THREADS: u32 = 256;
/// What every model here takes and answers.
const EDGES: &str = "kernel 1\ninput x u32 16\noutput y u32 16\n";

/// Models that disturb others, each in one way and the last in all, as (name, text). `units` are the device's
/// multiprocessors, `cache` its last-level cache; each model takes scratch of up to four times that cache.
pub fn enemies(units: u32, cache: Bytes) -> Vec<(&'static str, String)> {
    let units = units.clamp(1, 1 << 14);
    let quads = |bytes: u64| Bytes::new((bytes.clamp(16 << 10, 1 << 36)) / 4096 * 4096);
    let (beyond, inside) = (quads(cache.get().saturating_mul(4)), quads(cache.get() / 4));
    let (wave, many) = (2 * units, 64 * units);
    let one = |scratch: Bytes, steps: String| format!("{EDGES}scratch {scratch}\nsegment\n{steps}end\n");
    let dram = format!("stream bytes={beyond} blocks={wave} threads=1024\n");
    let cached = format!("cache bytes={inside} blocks={wave} threads=1024 rounds=16\n");
    let long = format!("fill blocks={wave} threads=1024 shared=48KiB rounds=1000\n");
    let short = format!("fill blocks={many} threads=1024 shared=48KiB rounds=30\n");
    let copies = "copy 4MiB on-device repeat=20\n";
    let storm = "storm 50\n";
    let mixed = format!("{storm}{cached}{long}{copies}{dram}{short}");
    // Its inputs and outputs are what keeps the copy engines busy.
    let copying =
        format!("kernel 1\ninput x u8 4194304\noutput y u8 4194304\nscratch 4MiB\nsegment\n{copies}end\n");
    vec![
        ("dram", one(beyond, dram)),
        ("cache", one(inside, cached)),
        ("fill-long", one(Bytes::ZERO, long)),
        ("fill-short", one(Bytes::ZERO, short)),
        ("copy", copying),
        ("storm", one(Bytes::ZERO, storm.to_owned())),
        ("mix", one(beyond.max(Bytes::new(4 << 20)), mixed)),
    ]
}

/// How fast a device carries a network's kernels: measured by whoever asks for [`network`], with [`pace_probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What a kernel takes besides its work.
    pub launch: Nanos,
    /// A thousand rounds of `compute`, by [`WIDTHS`].
    pub compute: [Nanos; WIDTHS.len()],
    /// A MiB of `read`, by [`WIDTHS`].
    pub read: [Nanos; WIDTHS.len()],
}

/// What a network is to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The device's multiprocessors: widths are fractions of them.
    pub units: u32,
    /// Segments, at most one for each kernel.
    pub segments: u32,
    /// Kernels of the whole job: 10 to 60 are common.
    pub kernels: u32,
    /// How many of a hundred kernels read weights; the others compute.
    pub memory_percent: u32,
    /// How long the kernels take together, alone on the device.
    pub length: Nanos,
    /// Weights, at least 4 KiB.
    pub weights: Bytes,
    /// Scratch of each segment.
    pub scratch: Bytes,
    /// The input, in numbers of 4 bytes.
    pub input: u32,
    /// The output, in numbers of 4 bytes.
    pub output: u32,
}

/// A model with one step, for measuring a [`Pace`]: `amount` thousand rounds of `compute`, or `amount` MiB of `read`
/// if `memory`, at the width of this number in [`WIDTHS`] (a number past the last counts as the last). The difference
/// between two amounts is free of what a job costs besides.
pub fn pace_probe(units: u32, width: usize, memory: bool, amount: u32) -> String {
    let blocks = blocks(units, width);
    let amount = amount.clamp(1, 1 << 14);
    let (weights, step) = if memory {
        (format!("weights {amount}MiB\n"), format!("read bytes={amount}MiB"))
    } else {
        (String::new(), format!("compute rounds={amount}000"))
    };
    format!("{EDGES}{weights}segment\n{step} blocks={blocks} threads={THREADS}\nend\n")
}

/// A model shaped like a network: a sequence of kernels of mixed width, bound by arithmetic or by memory, whose
/// lengths add up to what the shape says as far as the pace is right. Equal seeds give equal models.
pub fn network(seed: u64, shape: &Shape, pace: &Pace) -> String {
    let mut draw = SplitMix64::new(seed);
    let kernels = shape.kernels.clamp(1, 1_000);
    let segments = shape.segments.clamp(1, kernels);
    let floor = pace.launch.checked_mul(u64::from(kernels)).unwrap_or(Nanos::MAX);
    let work = shape.length.saturating_sub(floor);
    let parts: Vec<u64> = (0..kernels).map(|_| draw.draw_between(1, 9)).collect();
    let total = u128::from(parts.iter().sum::<u64>());
    let weights = whole_pages(shape.weights);
    let scratch = Bytes::new(shape.scratch.get().min(1 << 36) / 16 * 16);
    let mut text = format!(
        "kernel 1\ninput x f32 {}\noutput y f32 {}\nweights {weights}\nscratch {scratch}\n",
        shape.input.clamp(1, 1 << 28),
        shape.output.clamp(1, 1 << 28)
    );
    for (kernel, part) in (0..kernels).zip(parts) {
        let opens = |kernel: u32| u64::from(kernel) * u64::from(segments) / u64::from(kernels);
        if kernel == 0 || opens(kernel) != opens(kernel - 1) {
            text.push_str("segment\n");
        }
        let own = u128::from(work.get()) * u128::from(part) / total;
        let width = usize::try_from(draw.draw_between(0, WIDTHS.len() as u64 - 1)).unwrap_or(0);
        let step = if draw.draw_between(0, 99) < u64::from(shape.memory_percent) {
            reading(own, pace.read[width], weights)
        } else {
            format!("compute rounds={}", ratio(own * 1_000, pace.compute[width]).clamp(1, 1_000_000_000))
        };
        text.push_str(&format!("{step} blocks={} threads={THREADS}\n", blocks(shape.units, width)));
    }
    text.push_str("end\n");
    text
}

/// A step that reads for so many nanoseconds: more than all weights are read in rounds.
fn reading(nanos: u128, per_mib: Nanos, weights: Bytes) -> String {
    let wanted = ratio(nanos << 20, per_mib).clamp(4096, 1 << 46);
    let rounds = wanted.div_ceil(weights.get()).min(1_000_000);
    let bytes = whole_pages(Bytes::new((wanted / rounds).min(weights.get())));
    format!("read bytes={bytes} rounds={rounds}")
}

fn ratio(amount: u128, pace: Nanos) -> u64 {
    u64::try_from(amount / u128::from(pace.get().max(1))).unwrap_or(u64::MAX)
}

/// Weights come in pages of 4 KiB, so that every read starts where an access of full width may.
fn whole_pages(bytes: Bytes) -> Bytes {
    Bytes::new(bytes.get().clamp(4096, 1 << 36) / 4096 * 4096)
}

fn blocks(units: u32, width: usize) -> u32 {
    let eighths = WIDTHS[width.min(WIDTHS.len() - 1)];
    (units.clamp(1, 1 << 14) * eighths / 8).max(1)
}
