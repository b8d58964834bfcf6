//! The composition root: the one place that chooses device, backends, policy and planner, and puts them together.

use std::sync::Arc;

use aegis_cuda::{Device, HostClock, Partition};
use aegis_memory::{Demand, LowestOffsetFirst, MemoryOrchestrator, MemoryPlan, Planner};
use aegis_sched::{SchedulingPolicy, TaskSet, policy};
use aegis_types::{Bytes, LaneId, PartitionId, TaskId};

use crate::config::{Calibration, Facts, Fleet, Prepared, Profile, prepare};
use crate::error::RuntimeError;
use crate::inventory::{self, Loaders, Model};

mod demand;
pub mod device;

pub(crate) use demand::SLOTS_PROFILED;

/// Puts a system together. Whatever is not chosen is what the fleet says.
pub struct Builder {
    fleet: Fleet,
    loaders: Loaders,
    device: Option<Arc<dyn Device>>,
    policy: Option<Arc<dyn SchedulingPolicy>>,
    planner: Box<dyn Planner>,
    queues: Option<u32>,
}

impl Builder {
    /// A builder for a fleet.
    pub fn new(fleet: Fleet) -> Self {
        let planner = Box::new(LowestOffsetFirst);
        Self { fleet, loaders: Loaders::default(), device: None, policy: None, planner, queues: None }
    }

    /// Chooses the backends.
    #[must_use]
    pub fn loaders(self, loaders: Loaders) -> Self {
        Self { loaders, ..self }
    }

    /// Chooses the device instead of the fleet's.
    #[must_use]
    pub fn device(self, device: Arc<dyn Device>) -> Self {
        Self { device: Some(device), ..self }
    }

    /// Says how many hardware queues a GPU gives this process, where the fleet's device is opened here: the value of
    /// `CUDA_DEVICE_MAX_CONNECTIONS` in the process's environment, or 8, the driver's default, where it is unset. Nothing
    /// here reads the environment, and a number that is too large lets lanes share a queue unseen, so that a GPU is not
    /// opened without it.
    #[must_use]
    pub fn queues(self, queues: u32) -> Self {
        Self { queues: Some(queues), ..self }
    }

    /// Chooses the policy instead of the fleet's.
    #[must_use]
    pub fn policy(self, policy: Arc<dyn SchedulingPolicy>) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Chooses the memory planner.
    #[must_use]
    pub fn planner(self, planner: Box<dyn Planner>) -> Self {
        Self { planner, ..self }
    }

    /// Divides the device and describes every model; `tell` hears each model's name first.
    ///
    /// # Errors
    /// What device, backends or fleet refuse, with the fleet's line where there is one.
    pub fn build(self, tell: impl FnMut(&str)) -> Result<System, RuntimeError> {
        let device = match self.device {
            Some(device) => device,
            None => device::open_told(&self.fleet, self.queues)?,
        };
        let partitions = device::divide(device.as_ref(), &self.fleet)?;
        let places = device::places(device.as_ref(), &self.fleet, &partitions)?;
        let policy = match self.policy {
            Some(policy) => policy,
            None => policy::by_name(self.fleet.policy()).map(Arc::from).ok_or_else(|| {
                let (what, legal) = (self.fleet.policy().to_owned(), policy::legal_names());
                RuntimeError::System {
                    what: "choosing the policy",
                    reason: format!("`{what}` is none of: {legal}"),
                }
            })?,
        };
        let models = inventory::inspect(&self.fleet, &self.loaders, tell)?;
        let lanes = self.fleet.first_lanes();
        let clock = HostClock::start();
        Ok(System {
            fleet: self.fleet,
            device,
            partitions,
            places,
            policy,
            planner: self.planner,
            models,
            lanes,
            clock,
        })
    }
}

/// A fleet on a device: described, divided, not loaded yet.
pub struct System {
    fleet: Fleet,
    device: Arc<dyn Device>,
    partitions: Vec<(Partition, u16)>,
    places: Vec<PartitionId>,
    policy: Arc<dyn SchedulingPolicy>,
    planner: Box<dyn Planner>,
    models: Vec<Model>,
    lanes: Vec<LaneId>,
    clock: HostClock,
}

impl System {
    /// Other models on the same device, its partitions and its clock; every task is where its fleet says.
    ///
    /// # Panics
    /// If there is not one model for each task, or the fleet has other partitions.
    pub fn beside(&self, fleet: Fleet, models: Vec<Model>) -> Self {
        assert_eq!(fleet.tasks().len(), models.len(), "one model for each task");
        assert_eq!(fleet.partitions(), self.fleet.partitions(), "the device is divided once");
        Self {
            lanes: fleet.first_lanes(),
            fleet,
            device: Arc::clone(&self.device),
            partitions: self.partitions.clone(),
            places: self.places.clone(),
            policy: Arc::clone(&self.policy),
            planner: Box::new(LowestOffsetFirst),
            models,
            clock: self.clock,
        }
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The device.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// The partitions with their numbers of lanes.
    pub fn partitions(&self) -> &[(Partition, u16)] {
        &self.partitions
    }

    /// The lanes, each with what the device binds it in, its partition or a twin of it, and whether it has a carrier of its
    /// own.
    pub fn places(&self) -> impl Iterator<Item = (LaneId, PartitionId, bool)> {
        let own = self.fleet.own_carriers();
        let lanes = (0..=u16::MAX).map(LaneId::new).zip(&self.places);
        lanes.map(move |(lane, &place)| (lane, place, own.contains(&lane)))
    }

    /// How many lanes there are.
    pub fn lane_count(&self) -> usize {
        self.places.len()
    }

    /// The policy, to be asked or shared.
    pub fn policy(&self) -> &Arc<dyn SchedulingPolicy> {
        &self.policy
    }

    /// The models, by task.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The lane of each task.
    pub fn lanes(&self) -> &[LaneId] {
        &self.lanes
    }

    /// The tasks of each lane, by lane.
    pub fn by_lane(&self) -> Vec<Vec<TaskId>> {
        let mut lanes = vec![Vec::new(); self.lane_count()];
        for (model, lane) in self.models.iter().zip(&self.lanes) {
            lanes[lane.index()].push(model.task);
        }
        lanes
    }

    /// Puts every task on a lane: what admission chose.
    ///
    /// # Panics
    /// If there is not one lane for each task.
    pub fn assign(&mut self, lanes: Vec<LaneId>) {
        assert_eq!(lanes.len(), self.models.len(), "one lane for each task");
        self.lanes = lanes;
    }

    /// The one host clock.
    pub const fn clock(&self) -> HostClock {
        self.clock
    }

    /// The task set of the fleet with these budgets and overheads.
    ///
    /// # Errors
    /// As [`prepare()`]; [`ConfigError::Stale`](crate::config::ConfigError::Stale) if the profile was taken on partitions
    /// of other sizes.
    pub fn prepare(
        &self,
        profile: Option<&Profile>,
        calibration: &Calibration,
    ) -> Result<Prepared, RuntimeError> {
        if let Some(profile) = profile {
            profile.matches_partitions(&self.partitions)?;
        }
        let facts: Vec<Facts> = self.models.iter().map(|model| Facts::from(&model.description)).collect();
        Ok(prepare(&self.fleet, profile, calibration, &self.lanes, &facts)?)
    }

    /// What libraries take of the device by themselves when they load the fleet's models, as far as it was measured.
    pub fn outside(&self, profile: Option<&Profile>) -> Bytes {
        let of = |model: &Model| profile.and_then(|profile| profile.task(&model.config.name));
        let taken = self.models.iter().filter_map(of).map(|task| task.memory.outside.get());
        Bytes::new(taken.fold(0, u64::saturating_add))
    }

    /// The memory that a plan of the fleet may take: what the device may give, without what libraries take by
    /// themselves.
    pub fn room(&self, profile: Option<&Profile>) -> Bytes {
        self.device.context().memory.saturating_sub(self.outside(profile))
    }

    /// One plan for all tasks.
    ///
    /// # Errors
    /// [`RuntimeError::Memory`] with the missing bytes and the smallest change.
    pub fn plan(&self, demands: &[Demand], capacity: Bytes) -> Result<MemoryPlan, RuntimeError> {
        Ok(MemoryOrchestrator::with_align(aegis_context::ALIGNMENT)?.plan(
            demands,
            capacity,
            self.planner.as_ref(),
        )?)
    }
}

/// The largest number of jobs that may be pending by the contract alone: ceil(D / T), what a certificate grants at
/// most. Input slots are sized by it before a certificate exists.
pub fn slots_by_contract(set: &TaskSet) -> Vec<u32> {
    set.tasks()
        .iter()
        .map(|task| u32::try_from(task.deadline.get().div_ceil(task.period.get())).unwrap_or(u32::MAX))
        .collect()
}
