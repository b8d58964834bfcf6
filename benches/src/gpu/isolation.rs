//! A small network beside a hog that fills the device: on streams, on lanes, in partitions.

use aegis_cuda::kernel::Pace;
use aegis_types::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::saturation::{Enough, beside};
use super::spread::SpreadRow;
use super::store::Store;
use super::workload::small_network;

/// Jobs of the victim in each placement.
const JOBS: u64 = 2_000;
/// Multiprocessors of the victim's partition.
const SHARE: u32 = 32;

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IsolationRow {
    /// Where victim and hog ran.
    pub placement: String,
    /// Multiprocessors of the victim's partition, as made.
    pub sms: u32,
    /// The victim, from launch to end seen.
    pub spread: SpreadRow,
}

/// A placement to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The victim alone on the whole device.
    Alone,
    /// Victim and hog on two lanes of the whole device: two ordinary streams.
    Lanes,
    /// The same, with the device's highest priority for the victim's stream.
    Priority,
    /// The victim alone in a small partition.
    AloneInPartition,
    /// The victim in a small partition, the hog in the rest.
    Partitions,
    /// Victim and hog on two lanes of the small partition.
    LanesOfPartition,
    /// The hog itself, alone on the whole device.
    Hog,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 7] = [
        Self::Alone,
        Self::Lanes,
        Self::Priority,
        Self::AloneInPartition,
        Self::Partitions,
        Self::LanesOfPartition,
        Self::Hog,
    ];

    /// What it is called in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone, whole GPU",
            Self::Lanes => "with the hog, two lanes of the whole GPU (ordinary streams)",
            Self::Priority => "with the hog, highest stream priority",
            Self::AloneInPartition => "alone, partition of 32 SMs",
            Self::Partitions => "partition of 32 SMs, hog in another partition",
            Self::LanesOfPartition => "with the hog, two lanes of a partition of 32 SMs",
            Self::Hog => "the hog itself, twenty kernels, whole GPU",
        }
    }

    fn partitions(self, sms: u32) -> Vec<PartitionPlan> {
        let part = |name: &str, sms: u32, lanes: u16| PartitionPlan { name: name.into(), sms, lanes };
        let rest = sms.saturating_sub(SHARE).max(1);
        match self {
            Self::Alone | Self::Hog => vec![part("all", sms, 1)],
            Self::Lanes | Self::Priority => vec![part("all", sms, 2)],
            Self::AloneInPartition => vec![part("victim", SHARE, 1)],
            Self::Partitions => vec![part("victim", SHARE, 1), part("hog", rest, 1)],
            Self::LanesOfPartition => vec![part("victim", SHARE, 2)],
        }
    }

    /// Partition and lane of the hog beside the victim; none where there is no such hog.
    const fn hog(self) -> Option<(usize, u16)> {
        match self {
            Self::Alone | Self::AloneInPartition | Self::Hog => None,
            Self::Lanes | Self::Priority | Self::LanesOfPartition => Some((0, 1)),
            Self::Partitions => Some((1, 0)),
        }
    }
}

/// Twenty wide kernels, one after the other, like the products of large matrices: ten waves of blocks that fill every
/// multiprocessor two by two. On an H100 a wave takes 25 us and a kernel 250 us.
fn hog(sms: u32) -> String {
    format!(
        "kernel 1\nsegment\nfill blocks={} threads=1024 shared=48KiB rounds=145 repeat=20\nend\n",
        20 * sms
    )
}

fn plan(gpu: &Gpu, placement: Placement, victim: &str) -> FleetPlan {
    let own = |name: &str, text: String, mib: u64| TaskPlan {
        lane: Some(0),
        ..TaskPlan::plain(name, text, Bytes::new(mib << 20))
    };
    let mut tasks = match placement {
        Placement::Hog => vec![own("hog", hog(gpu.sms), 1)],
        _ => vec![own("victim", victim.to_owned(), 8)],
    };
    if let Some((partition, lane)) = placement.hog() {
        tasks.push(TaskPlan { partition, lane: Some(lane), ..own("hog", hog(gpu.sms), 1) });
    }
    let name = format!("isolation-{placement:?}").to_lowercase();
    FleetPlan { name, ordinal: gpu.ordinal, partitions: placement.partitions(gpu.sms), tasks }
}

/// The victim: a small network of twenty kernels of about 16 us, drawn for the pace that the device has.
pub fn victim(pace: &Pace) -> String {
    small_network(SHARE, Nanos::from_micros(16), pace)
}

/// Measures one placement.
///
/// # Errors
/// What device or models refuse.
pub fn measure(
    gpu: &Gpu,
    store: &Store,
    placement: Placement,
    victim: &str,
) -> Result<IsolationRow, ExperimentError> {
    let gpu = match placement {
        Placement::Priority => &gpu.with_urgent(1),
        _ => gpu,
    };
    let bed = Bed::open(gpu, store, &plan(gpu, placement, victim))?;
    let sms = bed.system().partitions().first().map_or(0, |(partition, _)| partition.units);
    let others: Vec<usize> = placement.hog().map(|_| 1).into_iter().collect();
    let enough = Enough { jobs: JOBS, time: Nanos::from_millis(8_000) };
    let spread = bed.drive(|circuit, draw| beside(circuit, 0, &[], &others, enough, draw))?;
    bed.close();
    let placement = placement.name().to_owned();
    Ok(IsolationRow { placement, sms, spread: spread.row_with_histogram() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placement_is_a_legal_fleet() {
        let gpu = super::super::card::tests::imagined();
        let victim = "kernel 1\nsegment\nstorm 1\nend\n";
        for placement in Placement::ALL {
            let plan = plan(&gpu, placement, victim);
            plan.check().expect("a legal fleet");
            assert_eq!(plan.tasks.len(), 1 + usize::from(placement.hog().is_some()));
            let units: u32 = plan.partitions.iter().map(|partition| partition.sms).sum();
            assert!(units <= gpu.sms, "{placement:?}");
        }
    }
}
