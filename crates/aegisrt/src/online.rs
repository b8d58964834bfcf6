//! Tasks added and removed while a driver serves: a new set is asked for, judged, and served from the first instant at
//! which that is proven to be legal.
//!
//! A set that does not fit is refused and nothing changes. Where old and new tasks are certified together (see
//! [`aegis_sched::mode`]), the engine of their union takes over at once, with jobs pending and segments in flight: new
//! tasks are served and removed ones get no more jobs. When the removed tasks have none left, the engine of the new set
//! takes over in turn; lanes that are busy then keep the union's bounds until they idle. Every other change waits for an
//! instant at which all lanes are idle. Each engine records its start, and what it was made from is known, so that the
//! trace can be replayed (see [`aegis_sched::replay_changes`]).
//!
//! Judging and making engines take time and memory on the thread that asks; on a thread that serves deadlines that is a
//! host stall, and is seen as one. The world must be able to serve other tasks ([`Changeable`]): lanes of models that
//! were loaded for a run ([`crate::plant::HostPlant`]) are not, because nothing is loaded while a certificate is in force.

use std::sync::Arc;

use aegis_sched::admission::{Depth, Refusal};
use aegis_sched::engine::ChangeError;
use aegis_sched::mode::{Obstacle, Transition, transition};
use aegis_sched::replay::{Change, Takeover};
use aegis_sched::{AdmissionController, Arrival, Certificate, SchedulingPolicy, TaskSet};
use aegis_types::{Sink, TaskId, Time};

use crate::driver::{Driver, Plant};

/// A world that can serve other tasks.
pub trait Changeable: Plant {
    /// From here on tasks are those of `set`. `numbers` has for each its number before, `None` where it is new. What is
    /// in flight belongs to tasks that keep their numbers.
    fn change(&mut self, set: &TaskSet, numbers: &[Option<TaskId>]);
}

/// What became of a new set that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Its tasks are served; removed tasks get no more jobs. Their contracts are charged until they have none left.
    AtOnce,
    /// It is served when all lanes are idle.
    AtIdle {
        /// Why not at once.
        because: Vec<Obstacle>,
    },
}

/// Why a new set is not served. What was served before is served on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnlineError {
    /// It does not fit.
    #[error("the new set does not fit: {0:?}")]
    Refused(Box<Refusal>),
    /// One change at a time.
    #[error("another change is under way; a change is asked for when the one before is made")]
    UnderWay,
    /// The engine cannot be followed now.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A change that was accepted and is not made yet.
struct Pending {
    set: TaskSet,
    certificate: Certificate,
    /// The numbers of its tasks in the engine that serves; `None` where all lanes have to idle.
    numbers: Option<Vec<TaskId>>,
}

impl Pending {
    /// Whether nothing pending stands in its way: it is asked in every cycle, and only then an engine is made.
    fn is_due<P: Plant>(&self, driver: &Driver<P>) -> bool {
        let engine = driver.engine();
        let stays =
            |task: TaskId| self.numbers.as_ref().is_some_and(|it| it.get(task.index()) == Some(&task));
        engine.is_idle() || engine.tasks().all(|task| engine.pending(task) == 0 || stays(task))
    }
}

/// A driver whose tasks can change.
pub struct Online<P> {
    driver: Driver<P>,
    set: TaskSet,
    policy: Arc<dyn SchedulingPolicy>,
    depth: Depth,
    pending: Option<Pending>,
}

impl<P: Changeable> Online<P> {
    /// What `driver` serves is `set` under `policy`; new sets are judged as deeply as `depth` says.
    pub fn new(driver: Driver<P>, set: TaskSet, policy: Arc<dyn SchedulingPolicy>, depth: Depth) -> Self {
        Self { driver, set, policy, depth, pending: None }
    }

    /// The driver.
    pub const fn driver(&self) -> &Driver<P> {
        &self.driver
    }

    /// The driver, to run it to its end. A change that is not made until then is made no more.
    pub const fn driver_mut(&mut self) -> &mut Driver<P> {
        &mut self.driver
    }

    /// The tasks of the engine that serves, by their numbers there; removed ones among them until they have left.
    pub const fn set(&self) -> &TaskSet {
        &self.set
    }

    /// Whether a change was accepted that is not made yet.
    pub const fn is_changing(&self) -> bool {
        self.pending.is_some()
    }

    /// Asks for another set. Tasks are the same where their names are.
    ///
    /// # Errors
    /// [`OnlineError`]; nothing changes.
    pub fn ask(&mut self, new: &TaskSet, sink: &mut dyn Sink) -> Result<Accepted, OnlineError> {
        if self.is_changing() {
            return Err(OnlineError::UnderWay);
        }
        let controller = AdmissionController::new(Box::new(Arc::clone(&self.policy)));
        let epoch = self.driver.engine().certificate().epoch();
        let found = transition(&controller, &self.set, new, epoch, self.depth);
        let set = new.clone();
        match found.map_err(OnlineError::Refused)? {
            Transition::AtIdle { then, because, .. } => {
                self.pending = Some(Pending { set, certificate: then, numbers: None });
                Ok(Accepted::AtIdle { because })
            }
            Transition::AtOnce { union, then } => {
                let ids = union.set.tasks().iter().map(|task| task.id);
                let retiring: Vec<TaskId> = ids.filter(|id| !union.numbers.contains(id)).collect();
                let known = self.set.tasks().len();
                let old = |task: &aegis_sched::Task| (task.id.index() < known).then_some(task.id);
                let numbers: Vec<_> = union.set.tasks().iter().map(old).collect();
                let takeover = Takeover::Widened { retiring: &retiring };
                self.follow(union.set, &union.certificate, takeover, &numbers, sink)?;
                self.pending = Some(Pending { set, certificate: then, numbers: Some(union.numbers) });
                Ok(Accepted::AtOnce)
            }
        }
    }

    /// Serves until `until`, or until a change was made. Returns whether one was.
    pub fn serve(&mut self, until: Time, sink: &mut dyn Sink) -> bool {
        self.driver.begin();
        while self.driver.serve(until, sink) {
            // Every source was looked at, and nothing is in transit that the longer cycles of before have delayed.
            if self.make(sink) {
                return true;
            }
            self.driver.rest(until);
        }
        false
    }

    /// Makes the change that is under way, if this is an instant for it.
    fn make(&mut self, sink: &mut dyn Sink) -> bool {
        let Some(Pending { set, certificate, numbers }) = self.pending.take_if(|it| it.is_due(&self.driver))
        else {
            return false;
        };
        let same: Vec<Option<TaskId>> = match &numbers {
            Some(numbers) => numbers.iter().copied().map(Some).collect(),
            None => set.tasks().iter().map(|task| self.number(&task.name)).collect(),
        };
        let takeover = numbers.as_ref().map_or(Takeover::AtIdle, |numbers| Takeover::Narrowed { numbers });
        if self.follow(set.clone(), &certificate, takeover, &same, sink).is_ok() {
            return true;
        }
        self.pending = Some(Pending { set, certificate, numbers });
        false
    }

    fn number(&self, name: &str) -> Option<TaskId> {
        self.set.tasks().iter().find(|task| task.name == name).map(|task| task.id)
    }

    fn follow(
        &mut self,
        set: TaskSet,
        certificate: &Certificate,
        takeover: Takeover<'_>,
        numbers: &[Option<TaskId>],
        sink: &mut dyn Sink,
    ) -> Result<(), ChangeError> {
        let now = self.driver.plant_mut().now();
        let change = Change { set: &set, certificate, policy: Arc::clone(&self.policy), takeover };
        let next = change.after(self.driver.engine(), now)?;
        let sporadic = set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic);
        self.driver.follow(next, sporadic.map(|task| task.id).collect(), sink);
        self.driver.plant_mut().change(&set, numbers);
        self.set = set;
        Ok(())
    }
}
