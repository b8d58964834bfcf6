//! The models with memory of their own at the same time: a context each that reserves exactly what its model takes, as
//! programs do that share nothing. What the system says of it is what one plan is compared with.

use aegis_types::{Bytes, DispatchSeq};

use super::alone::{Alone, private_grant};
use super::error::SharingError;
use super::runner::Runner;
use super::{Bed, Taken};

/// Jobs of each model: from the third on nothing grows.
const JOBS: u64 = 4;

/// The models with private contexts, all of them loaded.
pub struct Apart {
    /// What the system says.
    pub taken: Taken,
    /// Outputs that are not those of the same job alone.
    pub wrong: u64,
}

impl Apart {
    /// Loads every model on one lane with what it held `alone`, then runs jobs of each.
    ///
    /// # Errors
    /// What device, library or memory refuse.
    pub fn run(bed: &Bed, alone: &Alone) -> Result<Self, SharingError> {
        let ground = &bed.ground;
        let mut lane = ground.lane(0)?;
        let before = ground.used()?;
        let since = |used: Bytes| Bytes::new(used.get().saturating_sub(before.get()));
        let (mut runners, mut taken, mut wrong) = (Vec::new(), Taken::default(), 0);
        for ((model, feed), needs) in bed.models.iter().zip(&bed.feeds).zip(&alone.needs) {
            let (grant, size) = private_grant(model.task, needs, ground.capacity())?;
            let region = ground.reserve(size)?;
            taken.reserved = Bytes::new(taken.reserved.get() + size.get());
            runners.push((model.task, Runner::load(ground, &mut lane, (model, feed), grant, &region)?));
        }
        taken.loaded = since(ground.used()?);
        let mut dispatch = DispatchSeq::new(lane.flag().load().get());
        for (task, runner) in &mut runners {
            for job in 0..JOBS.min(alone.jobs(*task)) {
                let outputs = runner.run(&mut lane, &mut dispatch, &mut || Ok(()))?;
                wrong += u64::from(outputs != alone.outputs(*task, job));
            }
        }
        taken.ran = since(ground.used()?);
        Ok(Self { taken, wrong })
    }
}
