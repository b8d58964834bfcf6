//! How alike the jobs of one kernel are when it has the device to itself.

use aegis_cuda::kernel::enemies;
use aegis_types::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::saturation::{Enough, alone};
use super::spread::{Spread, SpreadRow};
use super::store::Store;

/// Jobs of each kernel.
const JOBS: u64 = 1_000;

/// A variation from which on a cause has to be named.
const NOTEWORTHY: f64 = 0.05;

/// The kind that copies both ways and on the device.
const WHOLE: &str = "copy";
/// Its parts, each a kind of its own: whose durations differ tells where those of the whole come from.
const PARTS: [&str; 3] = ["copy-in", "copy-device", "copy-out"];

/// One kernel on a device divided into so many lanes, the others idle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeterminismRow {
    /// The kernel.
    pub kind: String,
    /// Lanes of the device.
    pub lanes: u16,
    /// From launch to end seen.
    pub spread: SpreadRow,
    /// Standard deviation over mean without the longest hundredth.
    pub trimmed: f64,
    /// Clusters of durations.
    pub modes: usize,
    /// What is known where the variation is 5 % or more.
    pub remark: String,
}

/// Every kind of kernel that the workload has, as (name, model, memory).
pub fn kinds(gpu: &Gpu, cache: Bytes) -> Vec<(String, String, Bytes)> {
    let sms = gpu.sms;
    let one = |steps: &str| format!("kernel 1\ninput x u32 16\noutput y u32 16\n{steps}\nend\n");
    let mib = |count: u64| Bytes::new(count << 20);
    let mut kinds = vec![
        ("compute-narrow".to_owned(), one("segment\ncompute blocks=16 rounds=8000"), mib(1)),
        ("compute-wide".to_owned(), one(&format!("segment\ncompute blocks={} rounds=4000", sms * 8)), mib(1)),
        (
            "read".to_owned(),
            one(&format!("weights 64MiB\nsegment\nread bytes=64MiB blocks={}", sms * 2)),
            mib(66),
        ),
        ("hold".to_owned(), one("segment\nhold 100us"), mib(1)),
        ("empty".to_owned(), one("segment\nstorm 1"), mib(1)),
    ];
    let copies = |input: &str, output: &str, steps: &str| {
        format!("kernel 1\ninput x {input}\noutput y {output}\n{steps}\nend\n")
    };
    let [into, on, out] = PARTS.map(str::to_owned);
    kinds.extend([
        (into, copies("u8 4194304", "u32 16", "segment\nstorm 1"), mib(32)),
        (on, copies("u32 16", "u32 16", "scratch 4MiB\nsegment\ncopy 4MiB on-device repeat=20"), mib(16)),
        (out, copies("u32 16", "u8 4194304", "segment\nstorm 1"), mib(32)),
    ]);
    let room = Bytes::new(cache.get().saturating_mul(5).max(16 << 20));
    kinds.extend(enemies(sms, cache).into_iter().map(|(name, text)| (name.to_owned(), text, room)));
    kinds
}

/// Measures every kind on a device of so many lanes.
///
/// # Errors
/// What device or models refuse.
pub fn measure(
    gpu: &Gpu,
    store: &Store,
    lanes: u16,
    cache: Bytes,
) -> Result<Vec<DeterminismRow>, ExperimentError> {
    let tasks = kinds(gpu, cache)
        .into_iter()
        .map(|(name, text, memory)| TaskPlan { lane: Some(0), ..TaskPlan::plain(name, text, memory) })
        .collect();
    let plan = FleetPlan {
        name: format!("determinism-{lanes}"),
        ordinal: gpu.ordinal,
        partitions: PartitionPlan::whole(gpu.sms, lanes),
        tasks,
    };
    let bed = Bed::open(gpu, store, &plan)?;
    let enough = Enough { jobs: JOBS, time: Nanos::from_millis(8_000) };
    let spreads = bed.drive(|circuit, draw| alone(circuit, enough, draw))?;
    bed.close();
    let mut rows: Vec<_> =
        plan.tasks.iter().zip(&spreads).map(|(task, spread)| row(&task.name, lanes, spread)).collect();
    name_the_part(&mut rows);
    Ok(rows)
}

/// Says of the kind that copies, where its durations differ, by how much those of its parts do.
fn name_the_part(rows: &mut [DeterminismRow]) {
    let deviation = |name: &&str| {
        let part = rows.iter().find(|row| row.kind == *name)?;
        let nanos = part.spread.cv * part.spread.mean_ns;
        Some(format!("{name} {:.1}us", nanos / 1e3))
    };
    let parts: Vec<String> = PARTS.iter().filter_map(deviation).collect();
    if let Some(whole) = rows.iter_mut().find(|row| row.kind == WHOLE && !row.remark.is_empty()) {
        let nanos = whole.spread.cv * whole.spread.mean_ns;
        whole.remark +=
            &format!("; standard deviation {:.1}us, of its parts {}", nanos / 1e3, parts.join(", "));
    }
}

fn row(kind: &str, lanes: u16, spread: &Spread) -> DeterminismRow {
    let trimmed = spread.trimmed_variation(0.99);
    let modes = spread.modes();
    DeterminismRow {
        kind: kind.to_owned(),
        lanes,
        spread: spread.row_with_histogram(),
        trimmed: (trimmed * 1e5).round() / 1e5,
        modes,
        remark: remark(spread, trimmed, modes),
    }
}

/// What the distribution itself says about a variation of 5 % or more.
fn remark(spread: &Spread, trimmed: f64, modes: usize) -> String {
    let (p50, p99) = (spread.quantile(0.5), spread.quantile(0.99));
    if spread.variation() < NOTEWORTHY {
        String::new()
    } else if trimmed < NOTEWORTHY {
        format!(
            "outliers only: {trimmed:.3} without the longest hundredth (p99 {p99}, longest {})",
            spread.max()
        )
    } else if modes > 1 {
        format!("{modes} clusters of durations")
    } else {
        let spread = p99.saturating_sub(p50);
        format!("spread out: p50 {p50}, p99 {spread} above it")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aegis_cuda::kernel::KernelLoader;
    use aegis_cuda::{BackendLoader, ModelRequest, TensorSpec};

    use super::*;

    #[test]
    fn every_kind_is_a_legal_model() {
        let gpu = super::super::card::tests::imagined();
        let shapes = BTreeMap::new();
        for (name, text, memory) in kinds(&gpu, Bytes::new(50 << 20)) {
            let artifact = text.as_bytes();
            let request = ModelRequest { name: &name, artifact, shapes: &shapes, allow_control_flow: false };
            let described = KernelLoader::new().inspect(&request).expect("a legal model");
            let scratch = described.memory.scratch.into_iter().flatten().max().unwrap_or(Bytes::ZERO);
            // Two input slots and the outputs, on the device and once more on the host's side of it.
            let bytes = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.bytes.get()).sum::<u64>();
            let io = 2 * bytes(&described.inputs) + bytes(&described.outputs);
            let whole = described.memory.weights.get() + scratch.get() + 2 * io;
            assert!(whole < memory.get(), "{name}: {whole} of {memory}");
        }
    }

    #[test]
    fn what_copies_says_which_of_its_parts_differs() {
        let of = |kind: &str, jitter: u64| {
            let mut spread = Spread::new();
            (0..1_000).for_each(|n| spread.add(Nanos::from_micros(500 + jitter * (n % 101))));
            row(kind, 1, &spread)
        };
        let mut rows = vec![of("copy-in", 2), of("copy-device", 0), of("copy-out", 0), of("copy", 2)];
        name_the_part(&mut rows);
        let said = &rows[3].remark;
        assert!(
            said.contains("copy-in 57.9us") && said.contains("copy-device 0.0us, copy-out 0.0us"),
            "{said}"
        );
        let mut calm = vec![of("copy-in", 2), of("copy", 0)];
        name_the_part(&mut calm);
        assert_eq!(calm[1].remark, "");
    }

    #[test]
    fn a_cause_is_named_where_jobs_differ() {
        let of = |spans: Vec<u64>| {
            let mut spread = Spread::new();
            spans.iter().for_each(|us| spread.add(Nanos::from_micros(*us)));
            row("k", 1, &spread).remark
        };
        assert_eq!(of(vec![100; 1_000]), "");
        let outliers: Vec<u64> = (0..1_000).map(|n| if n % 200 == 7 { 900 } else { 100 }).collect();
        assert!(of(outliers).starts_with("outliers only"));
        let modes: Vec<u64> = (0..1_000).map(|n| if n % 2 == 0 { 100 } else { 180 }).collect();
        assert_eq!(of(modes), "2 clusters of durations");
    }
}
