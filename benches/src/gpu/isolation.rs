//! A small network beside a hog that fills the device: on streams, on lanes, in partitions.

use aegis_types::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::saturation::{Enough, beside};
use super::spread::SpreadRow;
use super::store::Store;
use super::workload::Specimen;

/// Jobs of the victim in each placement.
const JOBS: u64 = 2_000;
/// Multiprocessors of the victim's partition.
const SHARE: u32 = 32;

/// A placement of the table that is not measured.
pub const PRIORITY: &str = "with the hog, highest stream priority";

/// The line of [`PRIORITY`].
pub fn without_priority() -> IsolationRow {
    let missing = "lanes have no stream priorities: a kernel that is resident gives way to none".to_owned();
    IsolationRow { placement: PRIORITY.to_owned(), missing, ..IsolationRow::default() }
}

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IsolationRow {
    /// Where victim and hog ran.
    pub placement: String,
    /// Multiprocessors of the victim's partition, as made.
    pub sms: u32,
    /// The victim, from launch to end seen.
    pub spread: SpreadRow,
    /// Why there is no figure.
    pub missing: String,
}

/// A placement to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The victim alone on the whole device.
    Alone,
    /// Victim and hog on two lanes of the whole device: two ordinary streams.
    Lanes,
    /// The victim alone in a small partition.
    AloneInPartition,
    /// The victim in a small partition, the hog in the rest.
    Partitions,
    /// Victim and hog on two lanes of the small partition.
    LanesOfPartition,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 5] =
        [Self::Alone, Self::Lanes, Self::AloneInPartition, Self::Partitions, Self::LanesOfPartition];

    /// What it is called in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone, whole GPU",
            Self::Lanes => "with the hog, two lanes of the whole GPU (ordinary streams)",
            Self::AloneInPartition => "alone, partition of 32 SMs",
            Self::Partitions => "partition of 32 SMs, hog in another partition",
            Self::LanesOfPartition => "with the hog, two lanes of a partition of 32 SMs",
        }
    }

    fn partitions(self, sms: u32) -> Vec<PartitionPlan> {
        let part = |name: &str, sms: u32, lanes: u16| PartitionPlan { name: name.into(), sms, lanes };
        let rest = sms.saturating_sub(SHARE).max(1);
        match self {
            Self::Alone => vec![part("all", sms, 1)],
            Self::Lanes => vec![part("all", sms, 2)],
            Self::AloneInPartition => vec![part("victim", SHARE, 1)],
            Self::Partitions => vec![part("victim", SHARE, 1), part("hog", rest, 1)],
            Self::LanesOfPartition => vec![part("victim", SHARE, 2)],
        }
    }

    /// Partition and lane of the hog; none where the victim is alone.
    const fn hog(self) -> Option<(usize, u16)> {
        match self {
            Self::Alone | Self::AloneInPartition => None,
            Self::Lanes | Self::LanesOfPartition => Some((0, 1)),
            Self::Partitions => Some((1, 0)),
        }
    }
}

/// Kernels that fill every multiprocessor, a millisecond each or so, twenty in a job.
fn hog(sms: u32) -> String {
    format!(
        "kernel 1\nsegment\nfill blocks={} threads=1024 shared=48KiB rounds=4000 repeat=20\nend\n",
        8 * sms
    )
}

fn plan(gpu: &Gpu, placement: Placement, victim: &Specimen) -> FleetPlan {
    let own = |name: &str, text: String, memory: u64| TaskPlan {
        lane: Some(0),
        ..TaskPlan::plain(name, text, Bytes::new(memory))
    };
    let mut tasks = vec![own("victim", victim.artifact.clone(), victim.memory)];
    if let Some((partition, lane)) = placement.hog() {
        tasks.push(TaskPlan { partition, lane: Some(lane), ..own("hog", hog(gpu.sms), 1 << 20) });
    }
    let name = format!("isolation-{placement:?}").to_lowercase();
    FleetPlan { name, ordinal: gpu.ordinal, partitions: placement.partitions(gpu.sms), tasks }
}

/// Measures one placement.
///
/// # Errors
/// What device or models refuse.
pub fn measure(
    gpu: &Gpu,
    store: &Store,
    placement: Placement,
    victim: &Specimen,
) -> Result<IsolationRow, ExperimentError> {
    let bed = Bed::open(gpu, store, &plan(gpu, placement, victim))?;
    let sms = bed.system().partitions().first().map_or(0, |(partition, _)| partition.units);
    let others: Vec<usize> = placement.hog().map(|_| 1).into_iter().collect();
    let enough = Enough { jobs: JOBS, time: Nanos::from_millis(20_000) };
    let spread = bed.drive(|circuit, draw| beside(circuit, 0, &[], &others, enough, draw))?;
    bed.close();
    let placement = placement.name().to_owned();
    Ok(IsolationRow { placement, sms, spread: spread.row_with_histogram(), missing: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placement_is_a_legal_fleet() {
        let gpu = super::super::card::tests::imagined();
        let victim = Specimen {
            name: "victim".into(),
            artifact: "kernel 1\nsegment\nstorm 1\nend\n".into(),
            memory: 1 << 20,
            alone_ns: 1,
        };
        for placement in Placement::ALL {
            let plan = plan(&gpu, placement, &victim);
            plan.check().expect("a legal fleet");
            assert_eq!(plan.tasks.len(), 1 + usize::from(placement.hog().is_some()));
            let units: u32 = plan.partitions.iter().map(|partition| partition.sms).sum();
            assert!(units <= gpu.sms, "{placement:?}");
        }
    }
}
