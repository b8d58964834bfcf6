//! The enemies of a device: kernels that take from it what a victim needs, sized from what discovery tells of it.

use std::path::{Path, PathBuf};

use aegis_cuda::discovery::{self, GpuReport};
use aegis_cuda::kernel::{KernelLoader, enemies};
use aegis_cuda::{BackendLoader, DeviceKind, ModelDescription, ModelRequest};
use aegis_types::{Bytes, LaneId};

use crate::cli::answer::CliError;
use crate::cli::progress::line;
use crate::config::Fleet;
use crate::error::RuntimeError;
use crate::profile::enemies::{EnemyModel, Opposition, beside};

/// The enemy that runs between the segments of a victim without lane-mates: it leaves nothing of the victim in caches.
const FLUSH: &str = "dram";

/// A folder for the texts of enemies, gone with this value.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A folder beside the profile that will be written.
    pub(super) fn beside(output: &Path) -> Self {
        Self(output.with_extension("enemies"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is a folder of small texts that nobody reads.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// The fleet with the enemies of its device on every lane; the fleet as it is where there are none. `lanes` are those
/// that its tasks will stand on.
///
/// # Errors
/// That a text cannot be written, or is refused.
pub(super) fn enlarged(
    fleet: &Fleet,
    lanes: &[LaneId],
    folder: &Folder,
) -> Result<(Fleet, Opposition), CliError> {
    let none = || Ok((fleet.clone(), Opposition::none(fleet.tasks().len())));
    if fleet.device() != DeviceKind::Cuda {
        return none();
    }
    let ordinal = fleet.device_config().ordinal;
    let found = discovery::discover(None).devices.into_iter().find(|report| report.ordinal == ordinal);
    // A device that is not there is told by whoever opens it.
    let Some(report) = found else { return none() };
    let Some(models) = models(&report, lanes)? else {
        line("no enemies: the number of multiprocessors or the size of the L2 cache is not known here");
        return none();
    };
    let failed = |error: std::io::Error| RuntimeError::File {
        path: folder.0.display().to_string(),
        reason: error.to_string(),
    };
    std::fs::create_dir_all(&folder.0).map_err(failed)?;
    Ok(beside(fleet, &folder.0, &models)?)
}

/// Every enemy, and a flush where some lane has one task only; `None` if too little is known of the device.
fn models(report: &GpuReport, lanes: &[LaneId]) -> Result<Option<Vec<EnemyModel>>, CliError> {
    let (Some(&units), Some(&cache)) = (report.multiprocessors.count.known(), report.memory.l2.known())
    else {
        return Ok(None);
    };
    let mut models = Vec::new();
    for (name, artifact) in enemies(units, cache) {
        let memory = memory(name, &artifact)?;
        let lonely = lanes.iter().any(|lane| lanes.iter().filter(|other| *other == lane).count() == 1);
        if name == FLUSH && lonely {
            let artifact = artifact.clone();
            models.push(EnemyModel { name: "flush".into(), artifact, memory, flushes: true });
        }
        models.push(EnemyModel { name: name.into(), artifact, memory, flushes: false });
    }
    Ok(Some(models))
}

/// What a copy of it takes: weights, scratch, inputs and outputs on the device and on their way, and some room.
fn memory(name: &str, artifact: &str) -> Result<Bytes, CliError> {
    const ROOM: u64 = 1 << 20;
    let shapes = std::collections::BTreeMap::new();
    let request =
        ModelRequest { name, artifact: artifact.as_bytes(), shapes: &shapes, allow_control_flow: false };
    let ModelDescription { memory, inputs, outputs, .. } = KernelLoader::new().inspect(&request)?;
    let scratch = memory.scratch.into_iter().flatten().map(Bytes::get).max().unwrap_or(0);
    let tensors: u64 = inputs.iter().chain(&outputs).map(|tensor| tensor.bytes.get()).sum();
    // Two slots of each input, once on the device and once in staging.
    Ok(Bytes::new(memory.weights.get() + scratch + 4 * tensors + ROOM))
}
