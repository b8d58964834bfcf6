//! Tasks that come and go while a fleet is served, in virtual time: every change is asked for at its time, and the whole
//! run is checked and decided again from its records.

use std::sync::Arc;

use aegis_sched::admission::Depth;
use aegis_sched::engine::ChangeError;
use aegis_sched::mode::Obstacle;
use aegis_sched::replay::{Change, ReplayEnd, Takeover, replay_changes};
use aegis_sched::{Certificate, Engine, ModelError, SchedulingPolicy, Task, TaskSet, charge};
use aegis_types::records::{EngineStarted, JobFinished, JobOutcome, JobRefused, Refusal};
use aegis_types::{Nanos, RawRecord, Record, Sink, TaskId, Time};

use super::SimulateError;
use super::check::{Checks, Counts, Successor, Violation};
use super::faults::FaultPlan;
use super::generate::Scenario;
use super::plant::{SimPlant, Spans, device};
use crate::driver::Driver;
use crate::online::{Accepted, Online, OnlineError};

/// How long a run may drain: longer than the busy period of any certified lane that people wait for.
const GRACE: Nanos = Nanos::from_millis(100_000);
/// What is asked again is asked after the shortest period, and never after less than this.
const AGAIN_MIN: Nanos = Nanos::from_micros(100);

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// When, from the start of the run.
    pub at: Time,
    /// Names of tasks that go.
    pub remove: Vec<String>,
    /// Names of tasks that come.
    pub add: Vec<String>,
}

/// What was answered to a wish.
#[derive(Debug)]
pub enum Reply {
    /// New tasks are served from then on, and removed ones get no more jobs.
    AtOnce,
    /// It is made when all lanes are idle.
    AtIdle {
        /// Why not at once.
        because: Vec<Obstacle>,
    },
    /// The new set does not fit: what was served is served on.
    Refused,
    /// The new set breaks a term that no certificate speaks of: what was served is served on.
    Barred {
        /// Which term, and by how much.
        because: String,
    },
    /// What is wished is served already, because a change before was refused.
    Nothing,
    /// The run ended before it could be asked for.
    NotAsked {
        /// What stood in the way.
        because: OnlineError,
    },
}

/// What became of a wish.
#[derive(Debug)]
pub struct Told {
    /// The wish.
    pub wish: Wish,
    /// When it was answered: later than wished where another change was under way.
    pub asked: Time,
    /// The tasks that were served then.
    pub before: TaskSet,
    /// The tasks that were asked for.
    pub after: TaskSet,
    /// The answer.
    pub reply: Reply,
    /// From when the new tasks are served, if ever.
    pub made: Option<Time>,
    /// From when the tasks that went are charged no more, if ever.
    pub settled: Option<Time>,
}

/// What came of the jobs of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Jobs that ended.
    pub jobs: u64,
    /// Jobs that ended after their deadline.
    pub missed: u64,
    /// Jobs that ended after their bound.
    pub beyond: u64,
    /// Jobs that failed or were dropped, among those that ended.
    pub lost: u64,
    /// Jobs that were stopped at the end of the run, among those that ended.
    pub stopped: u64,
    /// Jobs that were asked for and not let in while the engine served.
    pub refused: u64,
    /// The longest response.
    pub longest: Nanos,
    /// The bound that was in force for it.
    pub bound: Nanos,
}

/// What came of a run with changes.
#[derive(Debug)]
pub struct Rehearsed {
    /// Of each wish, in order.
    pub told: Vec<Told>,
    /// Of each task that was ever wished for, in the order of the whole set.
    pub tasks: Vec<Served>,
    /// Counts of the checks.
    pub counts: Counts,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// How much more was not kept.
    pub more: u64,
    /// Everything that was recorded.
    pub records: Vec<RawRecord>,
}

/// A run with changes.
#[derive(Clone, Copy)]
pub struct Rehearsal<'a> {
    /// The world, with every task that is ever served; none of them excludes another.
    pub scenario: &'a Scenario,
    /// What is served from the start: a [`subset`].
    pub first: &'a TaskSet,
    /// Its certificate, under the policy of the scenario.
    pub certificate: &'a Certificate,
    /// What is asked for; each after the one before.
    pub wishes: &'a [Wish],
    /// When the engine is told to drain.
    pub horizon: Nanos,
    /// Says which term beyond certificates a set breaks, if any: it is not asked for then.
    pub terms: &'a dyn Fn(&TaskSet) -> Option<String>,
}

/// The tasks of a set that have these names, in the order of the names, numbered anew. Unknown names are left out.
///
/// # Errors
/// [`ModelError`] if they are no model.
pub fn subset<'a>(all: &TaskSet, names: impl IntoIterator<Item = &'a str>) -> Result<TaskSet, ModelError> {
    let known = names.into_iter().filter_map(|name| all.tasks().iter().find(|task| task.name == name));
    let numbered = (0u16..).map(TaskId::new).zip(known);
    let tasks = numbered.map(|(id, task)| Task { id, ..task.clone() }).collect();
    TaskSet::new(tasks, all.platform().clone())
}

/// How a certificate took over, with numbers of its own.
enum How {
    AtIdle,
    Widened(Vec<TaskId>),
    Narrowed(Vec<TaskId>),
}

/// A certificate that took over.
struct Phase {
    set: TaskSet,
    certificate: Certificate,
    how: How,
}

impl Phase {
    fn takeover(&self) -> Takeover<'_> {
        match &self.how {
            How::AtIdle => Takeover::AtIdle,
            How::Widened(retiring) => Takeover::Widened { retiring },
            How::Narrowed(numbers) => Takeover::Narrowed { numbers },
        }
    }

    fn successor(&self) -> Successor<'_> {
        Successor { set: &self.set, certificate: &self.certificate, takeover: self.takeover() }
    }
}

/// A run under way.
struct Stage<'a> {
    rehearsal: Rehearsal<'a>,
    policy: Arc<dyn SchedulingPolicy>,
    online: Online<SimPlant<Spans>>,
    kept: Vec<RawRecord>,
    phases: Vec<Phase>,
    /// What the change that is under way will be.
    coming: Option<How>,
    told: Vec<Told>,
}

impl Rehearsal<'_> {
    /// Serves, and asks for every wish at its time.
    ///
    /// # Errors
    /// [`SimulateError`] if the world cannot be built.
    pub fn run(&self) -> Result<Rehearsed, SimulateError> {
        let mut stage = Stage::new(*self)?;
        for wish in self.wishes {
            stage.ask(wish)?;
        }
        stage.serve(Time::new(self.horizon.get()));
        stage.online.driver_mut().run(Time::new(self.horizon.get()), GRACE, &mut stage.kept);
        stage.judge()
    }

    /// The world of the tasks that are served from the start.
    fn world(&self) -> Scenario {
        let all = self.scenario;
        let position = |task: &Task| all.set.tasks().iter().position(|known| known.name == task.name);
        let chosen: Vec<usize> = self.first.tasks().iter().filter_map(position).collect();
        let of = |values: &[u64]| chosen.iter().map(|&task| values[task]).collect();
        Scenario {
            set: self.first.clone(),
            shortest: of(&all.shortest),
            longest_share: of(&all.longest_share),
            waits: vec![Nanos::ZERO; chosen.len()],
            ..all.clone()
        }
    }
}

impl<'a> Stage<'a> {
    fn new(rehearsal: Rehearsal<'a>) -> Result<Self, SimulateError> {
        let Rehearsal { scenario, first, certificate, .. } = rehearsal;
        let policy: Arc<dyn SchedulingPolicy> = Arc::from(scenario.policy.make());
        let world = rehearsal.world();
        let device = device(first, &scenario.slowdown)?;
        let spans = Spans::bind(&device, first)?;
        let plant = SimPlant::new(&world, &charge(first)?, device, spans, &FaultPlan::none(), scenario.seed);
        let engine = Engine::new(first, certificate.clone(), Box::new(Arc::clone(&policy)), Time::ZERO)?;
        let sporadic = world.sporadic().map(|task| task.id).collect();
        let driver = Driver::new(engine, plant, sporadic, first.platform().overheads.stall);
        Ok(Self {
            rehearsal,
            online: Online::new(driver, first.clone(), Arc::clone(&policy), Depth::TIGHT),
            policy,
            kept: Vec::new(),
            phases: Vec::new(),
            coming: None,
            told: Vec::new(),
        })
    }

    fn serve(&mut self, until: Time) {
        while self.online.serve(until, &mut self.kept) {
            self.took_over();
        }
    }

    /// The change that was under way is made.
    fn took_over(&mut self) {
        let Some(how) = self.coming.take() else { return };
        let now = self.took(how);
        if let Some(told) =
            self.told.iter_mut().rev().find(|told| told.settled.is_none() && told.is_accepted())
        {
            told.made.get_or_insert(now);
            told.settled = Some(now);
        }
    }

    /// Keeps what took over just now; returns when it did.
    fn took(&mut self, how: How) -> Time {
        let engine = self.online.driver().engine();
        let (set, certificate) = (self.online.set().clone(), engine.certificate().clone());
        let now = engine.now();
        self.phases.push(Phase { set, certificate, how });
        now
    }

    /// Asks at the time of the wish, or as soon after it as a change may be asked for.
    fn ask(&mut self, wish: &Wish) -> Result<(), SimulateError> {
        let horizon = Time::new(self.rehearsal.horizon.get());
        self.serve(wish.at);
        let mut asked = wish.at;
        loop {
            if self.online.is_changing() && self.online.serve(horizon, &mut self.kept) {
                self.took_over();
            }
            let (before, after) = self.sets(wish)?;
            // Time goes on where no record tells of it.
            asked = asked.max(self.online.driver().engine().now());
            // What is under way may be what the wish is about.
            let same = !self.online.is_changing() && names(&before).eq(names(&after));
            if let Some(because) = (self.rehearsal.terms)(&after).filter(|_| !same) {
                self.tell((wish.clone(), asked), (before, after), Reply::Barred { because });
                return Ok(());
            }
            let found = if same { None } else { Some(self.online.ask(&after, &mut self.kept)) };
            if matches!(found, Some(Err(OnlineError::Change(ChangeError::Unsettled { .. })))) {
                let periods = before.tasks().iter().map(|task| task.period);
                let again = asked.saturating_add(periods.min().unwrap_or(AGAIN_MIN).max(AGAIN_MIN));
                if again < horizon {
                    self.serve(again);
                    asked = again;
                    continue;
                }
            }
            self.answered((wish.clone(), asked), (before, after), found);
            return Ok(());
        }
    }

    /// The tasks that are served, and those that are wished for.
    fn sets(&self, wish: &Wish) -> Result<(TaskSet, TaskSet), SimulateError> {
        let before = self.online.set().clone();
        let stays = names(&before).filter(|name| !wish.remove.iter().any(|gone| gone == name));
        let comes =
            wish.add.iter().map(String::as_str).filter(|name| names(&before).all(|known| known != *name));
        let after = subset(&self.rehearsal.scenario.set, stays.chain(comes))?;
        Ok((before, after))
    }

    fn tell(&mut self, (wish, asked): (Wish, Time), (before, after): (TaskSet, TaskSet), reply: Reply) {
        self.told.push(Told { wish, asked, before, after, reply, made: None, settled: None });
    }

    fn answered(
        &mut self,
        (wish, asked): (Wish, Time),
        (before, after): (TaskSet, TaskSet),
        found: Option<Result<Accepted, OnlineError>>,
    ) {
        let mut told = Told { wish, asked, before, after, reply: Reply::Nothing, made: None, settled: None };
        match found {
            None => {}
            Some(Err(OnlineError::Refused(_))) => told.reply = Reply::Refused,
            Some(Err(because)) => told.reply = Reply::NotAsked { because },
            Some(Ok(Accepted::AtIdle { because })) => {
                told.reply = Reply::AtIdle { because };
                self.coming = Some(How::AtIdle);
            }
            Some(Ok(Accepted::AtOnce)) => {
                told.reply = Reply::AtOnce;
                let union = self.online.set();
                let number = |name| union.tasks().iter().find(|task| task.name == name).map(|task| task.id);
                let numbers: Vec<TaskId> = names(&told.after).filter_map(number).collect();
                let ids = union.tasks().iter().map(|task| task.id);
                let retiring = ids.filter(|id| !numbers.contains(id)).collect();
                told.made = Some(self.took(How::Widened(retiring)));
                self.coming = Some(How::Narrowed(numbers));
            }
        }
        self.told.push(told);
    }

    /// What the records say of the whole run.
    fn judge(mut self) -> Result<Rehearsed, SimulateError> {
        let Rehearsal { first, certificate, scenario, .. } = self.rehearsal;
        let records: Vec<RawRecord> =
            (0u32..).zip(&self.kept).map(|(number, raw)| raw.placed(0, number)).collect();
        let successors = self.phases.iter().map(Phase::successor).collect();
        let mut checks = Checks::new(first, certificate, true, true).followed_by(successors);
        records.iter().for_each(|raw| checks.emit(*raw));
        let plant = self.online.driver_mut().plant_mut();
        for (at, lane) in &plant.collisions {
            checks.report(2, format!("{lane} was launched at {at} while a segment was in flight"));
        }
        if let Some(what) = plant.unanswered() {
            checks.report(4, what);
        }
        let change = |phase| {
            let Successor { set, certificate, takeover } = Phase::successor(phase);
            Change { set, certificate, policy: Arc::clone(&self.policy), takeover }
        };
        let changes: Vec<Change<'_>> = self.phases.iter().map(change).collect();
        let policy = Box::new(Arc::clone(&self.policy));
        let again = replay_changes(&records, first, certificate, policy, &changes)?;
        if again.end != ReplayEnd::Identical || again.equal != records.len() as u64 {
            checks.report(7, format!("a replay decides otherwise: {:?}", again.end));
        }
        let tasks = tally(&scenario.set, first, &self.phases, &records);
        let (counts, violations, more) = checks.finish();
        Ok(Rehearsed { told: self.told, tasks, counts, violations, more, records })
    }
}

impl Told {
    /// Whether it was made or will be.
    pub const fn is_accepted(&self) -> bool {
        matches!(self.reply, Reply::AtOnce | Reply::AtIdle { .. })
    }
}

/// Names of the tasks of a set, in order.
fn names(set: &TaskSet) -> impl Iterator<Item = &str> {
    set.tasks().iter().map(|task| task.name.as_str())
}

/// Jobs by the names of their tasks, which certificates number as they like.
fn tally(all: &TaskSet, first: &TaskSet, phases: &[Phase], records: &[RawRecord]) -> Vec<Served> {
    let mut served: Vec<Served> =
        names(all).map(|name| Served { name: name.to_owned(), ..Served::default() }).collect();
    let mut sets = std::iter::once(first).chain(phases.iter().map(|phase| &phase.set));
    let mut set = first;
    for raw in records {
        if EngineStarted::read(raw).is_some() {
            set = sets.next().unwrap_or(set);
        }
        let (ended, refused) = (JobFinished::read(raw), JobRefused::read(raw));
        let whose = ended.as_ref().map(|ended| ended.job.task).or(refused.as_ref().map(|job| job.task));
        let Some(task) = whose.and_then(|task| set.task(task)) else { continue };
        let Some(one) = served.iter_mut().find(|one| one.name == task.name) else { continue };
        let counts = |reason| matches!(reason, Refusal::TooEarly | Refusal::QueueFull | Refusal::LaneVoid);
        one.refused += u64::from(refused.is_some_and(|refused| counts(refused.reason)));
        let Some(ended) = ended else { continue };
        one.jobs += 1;
        one.lost += u64::from(matches!(ended.outcome, JobOutcome::Failed | JobOutcome::Dropped));
        one.stopped += u64::from(ended.outcome == JobOutcome::Stopped);
        one.missed += u64::from(ended.response > task.deadline);
        one.beyond += u64::from(ended.response > ended.bound);
        if ended.response > one.longest {
            (one.longest, one.bound) = (ended.response, ended.bound);
        }
    }
    served
}
