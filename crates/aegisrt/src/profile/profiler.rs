//! A campaign on a system: restartable stages, and the profile that comes out.

use std::path::Path;

use aegis_memory::MemoryError;
use aegis_types::{Bytes, ContentHash, Nanos, TaskId};

use super::bed::CrewBed;
use super::campaign::{Campaign, Stop};
use super::claim;
use super::enemies::Opposition;
use super::mix::{Mix, Role, Stratum};
use super::state::{CampaignState, Observed, TaskCampaign};
use super::{ProfileOptions, Victim};
use crate::carrier::LaneReport;
use crate::config::profile::{Level, Slowdown, SlowdownTable};
use crate::config::{
    CalibratedDevice, Calibration, LaneCompany, LaunchMode, MemoryProfile, Profile, SegmentProfile,
    TaskProfile, shapes_hash,
};
use crate::error::RuntimeError;
use crate::machine;
use crate::run::with_crew;
use crate::system::{SLOTS_PROFILED, System};

/// Which part of a campaign to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Try mixes and freeze the strata of every task.
    Explore,
    /// Measure frozen strata afresh.
    Confirm,
    /// Both, task by task.
    All,
}

impl Stage {
    /// Whether it has anything to do for a task.
    fn is_due(self, task: &TaskCampaign) -> bool {
        match self {
            Self::Explore => task.frozen.is_none(),
            Self::Confirm | Self::All => !task.is_confirmed(),
        }
    }
}

/// Why a stage ended early.
enum Halt {
    Stop(Stop),
    /// What is known could not be kept.
    Unsaved(RuntimeError),
}

/// What a task takes that nothing is known of.
const NO_MEMORY: MemoryProfile = MemoryProfile {
    persistent: Bytes::ZERO,
    exchange: Bytes::ZERO,
    scratch: Bytes::ZERO,
    outside: Bytes::ZERO,
};

/// How far a campaign is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tasks whose strata are frozen.
    pub explored: usize,
    /// Tasks whose strata are all confirmed.
    pub confirmed: usize,
    /// Tasks there are.
    pub tasks: usize,
}

impl Progress {
    /// How far that campaign is.
    pub fn of(state: &CampaignState) -> Self {
        let count = |done: fn(&TaskCampaign) -> bool| state.tasks.iter().filter(|task| done(task)).count();
        Self {
            explored: count(|task| task.frozen.is_some()),
            confirmed: count(TaskCampaign::is_confirmed),
            tasks: state.tasks.len(),
        }
    }

    /// Whether nothing is left to be done.
    pub const fn is_complete(&self) -> bool {
        self.confirmed == self.tasks
    }
}

/// Profiles the tasks of a system, each on the lane that it stands on.
pub struct WcetProfiler<'a> {
    system: &'a System,
    calibration: &'a Calibration,
    options: ProfileOptions,
    opposition: Opposition,
    realtime: bool,
}

impl<'a> WcetProfiler<'a> {
    /// A profiler without enemies.
    pub fn new(system: &'a System, calibration: &'a Calibration, options: ProfileOptions) -> Self {
        let opposition = Opposition::none(system.models().len());
        Self { system, calibration, options, opposition, realtime: false }
    }

    /// Says which of the system's tasks are enemies.
    #[must_use]
    pub fn against(self, opposition: Opposition) -> Self {
        Self { opposition, ..self }
    }

    /// Asks for the system's real-time class for all threads.
    #[must_use]
    pub fn realtime(self, realtime: bool) -> Self {
        Self { realtime, ..self }
    }

    /// A campaign of this fleet that knows nothing yet.
    pub fn blank(&self) -> CampaignState {
        CampaignState::new(self.circumstances(), self.opposition.tasks())
    }

    /// What is known of this fleet in the file of an earlier campaign, or nothing.
    ///
    /// # Errors
    /// As [`CampaignState::load`].
    pub fn recall(&self, path: &Path) -> Result<CampaignState, RuntimeError> {
        let segments: Vec<u16> = self.victims().iter().map(|victim| victim.segments).collect();
        let segments = &segments[..self.opposition.tasks().min(segments.len())];
        let lanes = self.system.lane_count();
        let known = CampaignState::load(path, self.circumstances(), lanes, segments)?;
        Ok(known.unwrap_or_else(|| self.blank()))
    }

    /// Hash of all that a measurement depends on and this process can tell: machine, device, models, shapes, lanes,
    /// enemies and options. The margin is among the options because confirmation compares samples with budgets.
    pub fn circumstances(&self) -> ContentHash {
        let context = self.system.device().context();
        let mut text = format!(
            "{}\n{}\n{}\n{}\n{:?}\n{:?}\n{:?}\n{}\n",
            self.calibration.machine,
            self.calibration.driver,
            self.stall(),
            context.name,
            context.versions,
            self.system.partitions(),
            self.options,
            self.realtime
        );
        for model in self.system.models() {
            let shapes = shapes_hash(&model.config.shapes);
            let lane = self.system.lanes()[model.task.index()];
            let hash = model.description.hash;
            text.push_str(&format!("{:?} {hash} {shapes} {lane}\n", model.config.name));
        }
        let own = self.system.fleet().own_carriers();
        if !own.is_empty() {
            text.push_str(&format!("{own:?}\n"));
        }
        if self.system.fleet().launch() == LaunchMode::Driver {
            text.push_str("launched by the driver\n");
        }
        text.push_str(&format!("{:?}", self.opposition));
        ContentHash::of(text.as_bytes())
    }

    /// Does a stage from where `state` stands, for at most `limit`. `tell` hears each task before it is measured,
    /// `save` the state after each. A stage that `limit` cut is no error: the same call goes on.
    ///
    /// # Errors
    /// What device, memory or a model refuses; a segment that failed; that there is nothing to confirm; what `save`
    /// says.
    pub fn run(
        &self,
        state: CampaignState,
        stage: Stage,
        limit: Option<Nanos>,
        mut tell: impl FnMut(&str),
        mut save: impl FnMut(&CampaignState) -> Result<(), RuntimeError>,
    ) -> Result<CampaignState, RuntimeError> {
        if stage == Stage::Confirm && !state.is_frozen() {
            return Err(RuntimeError::System {
                what: "confirming",
                reason: "not every task was explored; legal: the stage explore first, or all".into(),
            });
        }
        if !state.tasks.iter().any(|task| stage.is_due(task) || task.memory.is_none()) {
            return Ok(state);
        }
        let (victims, enemies) = self.opposition.split(self.victims());
        let clock = self.system.clock();
        let ((mut state, result), reports) = with_crew(self.system, self.realtime, |plant| {
            let until = clock.now().saturating_add(limit.unwrap_or(Nanos::MAX));
            let bed = CrewBed::new(plant, clock, self.is_asynchronous(), self.stall());
            let campaign = Campaign::new(bed, &victims, &enemies, self.options);
            let mut campaign = campaign.resume(state).until(until);
            let result = self.measure(&mut campaign, stage, &mut tell, &mut save);
            (campaign.into_result(), result)
        })
        .map_err(|error| self.crowded(error))?;
        match result {
            Ok(()) | Err(Halt::Stop(Stop::TimeUp)) => {}
            Err(Halt::Stop(Stop::Failed(failed))) => return Err(self.failed(&reports, failed.task)),
            Err(Halt::Stop(stop @ Stop::NotExplored { .. })) => {
                return Err(RuntimeError::System { what: "confirming", reason: stop.to_string() });
            }
            Err(Halt::Unsaved(error)) => return Err(error),
        }
        remember(&mut state, &reports);
        save(&state)?;
        Ok(state)
    }

    /// A stage, task by task. What is known of a task that was cut is saved as well.
    fn measure(
        &self,
        campaign: &mut Campaign<CrewBed<'_>>,
        stage: Stage,
        tell: &mut impl FnMut(&str),
        save: &mut impl FnMut(&CampaignState) -> Result<(), RuntimeError>,
    ) -> Result<(), Halt> {
        let due: Vec<bool> = campaign.result().tasks.iter().map(|task| stage.is_due(task)).collect();
        for (position, _) in due.iter().enumerate().filter(|(_, due)| **due) {
            tell(&self.system.models()[position].config.name);
            let done = match stage {
                Stage::Explore => campaign.explore(position),
                Stage::Confirm => campaign.confirm(position),
                Stage::All => campaign.explore(position).and_then(|()| campaign.confirm(position)),
            };
            let saved = save(campaign.result());
            done.map_err(Halt::Stop)?;
            saved.map_err(Halt::Unsaved)?;
        }
        // Memory is known of what ran: a task that an earlier process measured runs once.
        for (position, _) in due.iter().enumerate().filter(|(_, due)| !**due) {
            if campaign.result().tasks[position].memory.is_none() {
                campaign.touch(position).map_err(Halt::Stop)?;
            }
        }
        Ok(())
    }

    fn is_asynchronous(&self) -> bool {
        self.system.device().context().capabilities.asynchronous
    }

    fn victims(&self) -> Vec<Victim> {
        let victim = |model: &crate::inventory::Model| Victim {
            task: model.task,
            lane: self.system.lanes()[model.task.index()],
            segments: u16::try_from(model.description.graph.segments()).unwrap_or(u16::MAX),
            slots: SLOTS_PROFILED,
        };
        self.system.models().iter().map(victim).collect()
    }

    /// A shortage of memory is the enemies' where there are any: the fleet by itself may well fit.
    fn crowded(&self, error: RuntimeError) -> RuntimeError {
        let own = self.opposition.tasks();
        match &error {
            RuntimeError::Memory(MemoryError::Shortage(shortage)) if own < self.system.models().len() => {
                let reason = format!(
                    "{own} tasks and the enemies beside them need {} of device memory, and the device was opened with \
                     {} of {} that the fleet's limit and the enemies came to; legal: a device with {} more free memory, \
                     tasks with smaller budget.memory, or fewer lanes",
                    shortage.needed,
                    shortage.capacity,
                    self.system
                        .fleet()
                        .memory()
                        .map_or_else(|| "all".to_owned(), |memory| memory.to_string()),
                    shortage.missing,
                );
                RuntimeError::System { what: "making room for enemies", reason }
            }
            _ => error,
        }
    }

    /// A failing task with what its carrier last heard from the backend.
    fn failed(&self, reports: &[LaneReport], task: TaskId) -> RuntimeError {
        let models = reports.iter().flat_map(|report| &report.models);
        let reason = models
            .filter(|model| model.task == task)
            .find_map(|model| model.failure.clone())
            .unwrap_or_else(|| "a segment failed, or its lane was lost".to_owned());
        let problem = format!("it fails when it runs: {reason}");
        let legal = "a model that runs on the task's inputs; seeded whole numbers are 0 to 255, and others, such as the \
                     numbers of a vocabulary, come from inputs = { file = ... }";
        self.system.fleet().complain(task, "model", problem, legal).into()
    }

    /// The profile of a campaign that is complete, to be saved as `path`, with budgets of that level.
    ///
    /// # Errors
    /// [`RuntimeError::System`] if something was not confirmed, or the level was not.
    pub fn profile(&self, state: &CampaignState, path: &Path, level: Level) -> Result<Profile, RuntimeError> {
        let tasks =
            state.tasks.iter().enumerate().map(|(position, task)| self.task(state, position, task, level));
        let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        let machine = format!("{}; {}", self.calibration.machine, self.calibration.driver);
        let rows = state.tasks.iter().enumerate().flat_map(|(position, task)| self.slowdowns(position, task));
        let lanes = u16::try_from(self.system.lane_count()).unwrap_or(u16::MAX);
        let table = SlowdownTable { lanes, rows: rows.collect() };
        let profile = Profile::new(path, machine, machine::wall_clock(), self.company(), tasks);
        let (wait, flushed) = (self.system.fleet().wait(), self.opposition.is_flushing());
        let profile = profile.in_place(self.system.partitions(), wait, flushed);
        let profile = profile.counted(self.is_asynchronous());
        let left_out = state.tasks.iter().any(|task| task.stalled > 0);
        let profile = profile.without_stalls(left_out.then_some(self.stall()));
        Ok(profile.at(level, table).on(self.device(lanes)))
    }

    /// The device, where budgets are its own.
    fn device(&self, lanes: u16) -> Option<CalibratedDevice> {
        let context = self.system.device().context();
        self.is_asynchronous().then(|| CalibratedDevice {
            name: context.name.clone(),
            versions: context.versions.clone(),
            lanes,
            own_carriers: self.system.fleet().own_carriers(),
            launch: self.system.fleet().launch(),
            regime: None,
        })
    }

    fn task(
        &self,
        state: &CampaignState,
        position: usize,
        task: &TaskCampaign,
        level: Level,
    ) -> Result<TaskProfile, RuntimeError> {
        let model = &self.system.models()[position];
        let words = self.words(state, position);
        let margin = self.options.margin_ppm;
        let segment = |segment| claim::segment_profile(task, level, segment, margin, &words);
        let segments: Option<Vec<SegmentProfile>> =
            (0..model.description.graph.segments()).map(segment).collect();
        let segments = segments.filter(|_| task.is_confirmed()).ok_or_else(|| RuntimeError::System {
            what: "making a budget",
            reason: format!(
                "nothing of the {level} level was confirmed of task `{}`, or the margin of {margin} ppm leaves the \
                 range of time; legal: the fleet level, or a device with enemies",
                model.config.name
            ),
        })?;
        Ok(TaskProfile {
            task: model.config.name.clone(),
            model: model.description.hash,
            shapes: shapes_hash(&model.config.shapes),
            segments,
            memory: task.memory.clone().unwrap_or(NO_MEMORY),
            alone: task.only(Stratum::Alone).map_or(Nanos::ZERO, Observed::median),
            turn: claim::with_margin(task.turn, margin).unwrap_or(Nanos::MAX),
        })
    }

    /// Stalls of the host up to this long are declared: longer ones void the jobs in flight when the fleet is served.
    fn stall(&self) -> Nanos {
        self.calibration.overheads.stall
    }

    /// What the certificate's text says of the victim's state and the campaign.
    fn words(&self, state: &CampaignState, position: usize) -> String {
        let others = self.system.lane_count().saturating_sub(1);
        let lane = self.system.lanes()[position];
        let tasks = &self.system.lanes()[..self.opposition.tasks()];
        let mates = tasks.iter().filter(|other| **other == lane).count() > 1;
        let between = match (mates, self.opposition.is_flushing()) {
            (true, _) => "lane-mates in between",
            (false, true) => "a flush in between",
            (false, false) => "no lane-mate in between",
        };
        let campaign: String = state.circumstances.to_string().chars().take(12).collect();
        let regime = self.calibration.device.as_ref().and_then(|device| device.regime.as_ref());
        let clock = regime.and_then(|regime| regime.sm_clock.known());
        let regime = clock.map_or_else(|| "regime not read".to_owned(), |clock| format!("SM clock {clock}"));
        let pauses = self.options.pause_max;
        let from = if self.is_asynchronous() { "from the post" } else { "from the launch" };
        let stalled = match state.tasks[position].stalled {
            0 => String::new(),
            left_out => {
                format!(", {left_out} left out over stalls of the host of more than {}", self.stall())
            }
        };
        format!(
            "{from}, {between}, pauses up to {pauses}{stalled}, lanes beside: {others}; {regime}; campaign {campaign}"
        )
    }

    fn company(&self) -> Vec<LaneCompany> {
        let partitions = self.system.partitions().iter();
        let partitions = partitions.flat_map(|(p, lanes)| std::iter::repeat_n(&p.name, (*lanes).into()));
        let name = |task: &TaskId| self.system.models()[task.index()].config.name.clone();
        let own = |task: &&TaskId| task.index() < self.opposition.tasks();
        let company = |(partition, tasks): (&String, Vec<TaskId>)| LaneCompany {
            partition: partition.clone(),
            tasks: tasks.iter().filter(own).map(name).collect(),
        };
        partitions.zip(self.system.by_lane()).map(company).collect()
    }

    /// How much slower the task was in each company that was tried, by medians.
    fn slowdowns(&self, position: usize, task: &TaskCampaign) -> Vec<Slowdown> {
        let alone = task.only(Stratum::Alone).map_or(Nanos::ZERO, Observed::median);
        let ppm = |median: Nanos| {
            let ppm = u128::from(median.get()) * 1_000_000 / u128::from(alone.get().max(1));
            u64::try_from(ppm).unwrap_or(u64::MAX)
        };
        let row = |observed: &Observed| {
            let beside = self.beside(&observed.mix)?;
            Some((beside, ppm(observed.median())))
        };
        let mut rows: Vec<(String, u64)> = task.explored.iter().filter_map(row).collect();
        let chosen = task.explored.iter().filter(|observed| observed.mix.stratum == Stratum::Chosen);
        rows.extend(chosen.map(|observed| (Slowdown::WORST.to_owned(), ppm(observed.median()))).max());
        let task = &self.system.models()[position].config.name;
        rows.into_iter().map(|(beside, ppm)| Slowdown { task: task.clone(), beside, ppm }).collect()
    }

    /// The name of a company of one kind; `None` for mixes.
    fn beside(&self, mix: &Mix) -> Option<String> {
        let mut roles = mix.roles.iter().filter(|role| **role != Role::Idle);
        match (mix.stratum, roles.next()) {
            (Stratum::Own, _) => Some(Slowdown::NONE.to_owned()),
            (Stratum::Fleet, _) => Some(Slowdown::ALL.to_owned()),
            (Stratum::Screen, Some(Role::Task(task))) => {
                Some(self.system.models().get(task.index())?.config.name.clone())
            }
            (Stratum::Enemy, Some(Role::Enemy(kind))) if roles.all(|role| *role == Role::Enemy(*kind)) => {
                self.opposition.name(*kind).map(str::to_owned)
            }
            _ => None,
        }
    }
}

/// What carriers learned of memory and turns; what an earlier process learned is kept where it is more.
fn remember(state: &mut CampaignState, reports: &[LaneReport]) {
    for used in reports.iter().flat_map(|report| &report.models) {
        let Some(task) = state.tasks.get_mut(used.task.index()) else { continue };
        if task.explored.is_empty() {
            continue;
        }
        task.turn = task.turn.max(used.turn);
        task.plain = used.plain;
        let most = task.memory.get_or_insert(NO_MEMORY);
        most.persistent = most.persistent.max(used.memory.persistent);
        most.exchange = most.exchange.max(used.memory.exchange);
        most.scratch = most.scratch.max(used.memory.scratch);
        most.outside = most.outside.max(used.outside);
    }
}
