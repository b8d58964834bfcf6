//! `aegis run FLEET --clients PATTERN`: clients of this command's own, so that sporadic tasks run without a program.
//!
//! One thread is all of them. It counts a period from the submission before, which is what a contract asks of a client, and so
//! submits a little less often than a contract lets in: each of its wake-ups is late by what the system takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aegis_sched::{Arrival, Task};
use aegis_types::TaskId;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::answer::CliError;
use super::super::figures;
use super::super::overload::Overload;
use super::super::setup::Setup;
use super::super::verdict;
use crate::client::{Client, SubmitError};
use crate::feed::SplitMix;

/// The first jobs are submitted together, so long after the clients were handed out: the driver starts in between.
const HEAD: Duration = Duration::from_millis(30);
/// How long the thread sleeps at most: whether the run is over is looked at so often.
const LOOK: Duration = Duration::from_millis(20);
/// Seed of the random pattern; each task has its own numbers.
const SEED: u64 = 0xC11E_4715;

/// When clients submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Pattern {
    /// A period after the job before: as often as the contract lets in.
    Dense,
    /// A period after the job before and longer, by half a period on average (exponentially distributed).
    Random,
}

/// How the clients of one task behave.
struct Habit {
    /// From one submission to the next, at least.
    gap: Duration,
    random: Option<SplitMix>,
    inputs: Vec<Vec<u8>>,
}

/// What the clients of one task did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Submitted {
    task: TaskId,
    /// Jobs that reached the driver, which refused some or none.
    jobs: u64,
    /// Jobs that were due while as many as fit were under way.
    withheld: u64,
}

/// The clients of a run, before it.
pub(super) struct Plan(BTreeMap<TaskId, Habit>);

impl Plan {
    /// Clients for every sporadic task of a fleet; those of groups in overload submit more than they may.
    ///
    /// # Errors
    /// A fleet without sporadic tasks, an overload of nobody, or inputs that cannot be read.
    pub(super) fn of(pattern: Pattern, overloads: &[Overload], setup: &Setup) -> Result<Self, CliError> {
        let set = &setup.prepared.set;
        let sporadic: Vec<&Task> =
            set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic).collect();
        if sporadic.is_empty() {
            return Err(CliError::Input(
                "--clients: a clock releases every job of this fleet; legal: a fleet with a task of arrival = \
                 \"sporadic\""
                    .to_owned(),
            ));
        }
        let mut habits = BTreeMap::new();
        for task in sporadic {
            let feed = setup.system.models()[task.id.index()].feed()?;
            let random = SplitMix(SEED ^ (task.id.index() as u64) << 32);
            let habit = Habit {
                gap: Duration::from_nanos(task.period.get()),
                random: (pattern == Pattern::Random).then_some(random),
                inputs: feed.sample(0).to_vec(),
            };
            habits.insert(task.id, habit);
        }
        for overload in overloads {
            for task in overload.tasks(setup.system.fleet(), set)? {
                habits.entry(task.id).and_modify(|habit| habit.gap = overload.gap(task));
            }
        }
        Ok(Self(habits))
    }

    /// Starts them on the ports of a run.
    pub(super) fn start(mut self, clients: Vec<Client>) -> Crowd {
        let first = Instant::now() + HEAD;
        let caller = |client: Client| Some(Caller::new(self.0.remove(&client.task())?, client, first));
        let callers: Vec<Caller> = clients.into_iter().filter_map(caller).collect();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        Crowd { ended, thread: std::thread::spawn(move || call(callers, &seen)) }
    }
}

/// The clients of a run that goes on.
pub(super) struct Crowd {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Submitted>>,
}

impl Crowd {
    /// Ends them, and says what they did.
    pub(super) fn stop(self) -> Vec<Submitted> {
        self.ended.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // What the clients counted is not worth a failure of the run.
        self.thread.join().unwrap_or_default()
    }
}

struct Caller {
    client: Client,
    habit: Habit,
    next: Instant,
    done: Submitted,
}

impl Caller {
    /// Puts the inputs into every packet of the task, where they stay.
    fn new(habit: Habit, client: Client, first: Instant) -> Self {
        let mut packets = Vec::new();
        while let Some(mut packet) = client.packet() {
            for (buffer, bytes) in packet.inputs.iter_mut().zip(&habit.inputs) {
                buffer.clone_from(bytes);
            }
            packets.push(packet);
        }
        packets.into_iter().for_each(|packet| client.recycle(packet));
        let done = Submitted { task: client.task(), jobs: 0, withheld: 0 };
        Self { client, habit, next: first, done }
    }

    /// Submits a job, unless as many as fit are under way. `false` once the run is over.
    fn submit(&mut self) -> bool {
        while let Some(packet) = self.client.returned() {
            self.client.recycle(packet);
        }
        match self.client.packet().map(|packet| self.client.submit(packet)) {
            Some(Ok(_token)) => self.done.jobs += 1,
            Some(Err((_, SubmitError::Closed))) => return false,
            Some(Err((packet, _))) => {
                self.client.recycle(packet);
                self.done.withheld += 1;
            }
            None => self.done.withheld += 1,
        }
        let gap = self.habit.gap;
        let longer = self
            .habit
            .random
            .as_mut()
            .map_or(Duration::ZERO, |random| gap.mul_f64(-(1.0 - random.unit()).ln() / 2.0));
        // From behind the submission: one that took long must not bring the next one nearer than the contract lets in.
        self.next = Instant::now() + gap + longer;
        true
    }
}

/// Submits until the run is over.
fn call(mut callers: Vec<Caller>, ended: &AtomicBool) -> Vec<Submitted> {
    while !ended.load(Ordering::Acquire) {
        let Some(caller) = callers.iter_mut().min_by_key(|caller| caller.next) else { break };
        let left = caller.next.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::park_timeout(left.min(LOOK));
        } else if !caller.submit() {
            break;
        }
    }
    callers.into_iter().map(|caller| caller.done).collect()
}

/// What all clients did, in a line.
pub(super) fn text(done: &[Submitted]) -> String {
    let sum = |of: fn(&Submitted) -> u64| done.iter().map(of).sum::<u64>();
    let (jobs, withheld) = (sum(|one| one.jobs), sum(|one| one.withheld));
    let mut text = format!("clients: {} submitted", figures::counted(jobs, "job"));
    if withheld > 0 {
        text.push_str(&format!("; {withheld} not, because as many as fit were under way"));
    }
    text
}

/// What the clients of each task did.
pub(super) fn json(done: &[Submitted], setup: &Setup) -> Value {
    let one = |one: &Submitted| {
        let task = verdict::name(one.task, &setup.prepared.set);
        json!({ "task": task, "submitted": one.jobs, "withheld": one.withheld })
    };
    done.iter().map(one).collect()
}
