//! Other certificates that take over while the run goes on: what the account keeps of the tasks and lanes before.

use aegis_sched::replay::Takeover;
use aegis_sched::{Certificate, LaneCertificate, TaskSet};
use aegis_types::Nanos;

use super::{Checks, LaneShadow, TaskShadow, excluded, lane_shadow, largest, shadow, unseen};

/// A certificate that takes over from the one before it, at the next start of an engine in the records.
#[derive(Clone, Copy, Debug)]
pub struct Successor<'a> {
    /// Its tasks.
    pub set: &'a TaskSet,
    /// The certificate.
    pub certificate: &'a Certificate,
    /// How it takes over.
    pub takeover: Takeover<'a>,
}

/// The bounds that the jobs of a lane keep until it idles.
#[derive(Debug)]
pub(super) struct Former<'a> {
    certificate: &'a Certificate,
    /// By task of the certificate in force, its position in that one's lane.
    positions: Vec<Option<usize>>,
}

impl<'a> Checks<'a> {
    /// The certificates that take over in the course of the run, in this order.
    #[must_use]
    pub fn followed_by(self, successors: Vec<Successor<'a>>) -> Self {
        Self { successors: successors.into_iter(), ..self }
    }

    /// An engine started after the first one.
    pub(super) fn succeeded(&mut self) {
        match self.successors.next() {
            Some(next) => self.follow(&next),
            None => self.report(6, "the engine started twice".into()),
        }
    }

    fn follow(&mut self, next: &Successor<'a>) {
        self.settle_decision();
        self.settle_apart();
        let numbers = self.numbers(next);
        let positions = |number: &Option<usize>| Some(self.tasks.get((*number)?)?.position);
        let positions: Vec<_> = numbers.iter().map(positions).collect();
        self.take_tasks(next, &numbers);
        for index in 0..self.lanes.len() {
            let fresh = lane_shadow(self.lanes[index].id, next.set, next.certificate);
            let lane = &mut self.lanes[index];
            match next.takeover {
                Takeover::AtIdle => lane.start_anew(fresh),
                Takeover::Widened { .. } => (lane.tasks, lane.tolerance) = (fresh.tasks, fresh.tolerance),
                Takeover::Narrowed { .. } => {
                    lane.tasks = fresh.tasks;
                    lane.turn = lane.turn.and_then(|turn| renumbered(turn, &numbers));
                    if lane.pending == 0 {
                        lane.tolerance = fresh.tolerance;
                    } else {
                        let (certificate, positions) = (self.certificate, positions.clone());
                        self.former[index] = Some(Former { certificate, positions });
                    }
                }
            }
        }
        self.certificate = next.certificate;
        self.excluded = excluded(next.set);
        self.largest = largest(&self.tasks);
        self.unseen = unseen(next.set);
        self.cycle = 0;
    }

    /// For each task that follows its number before; `None` where it begins.
    fn numbers(&self, next: &Successor<'a>) -> Vec<Option<usize>> {
        let count = next.set.tasks().len();
        match next.takeover {
            Takeover::AtIdle => vec![None; count],
            Takeover::Widened { .. } => {
                (0..count).map(|task| (task < self.tasks.len()).then_some(task)).collect()
            }
            Takeover::Narrowed { numbers } => numbers.iter().map(|number| Some(number.index())).collect(),
        }
    }

    /// Jobs that are pending stay with their tasks; whoever leaves, or changes its number, has none.
    fn take_tasks(&mut self, next: &Successor<'a>, numbers: &[Option<usize>]) {
        let shadows = next.set.tasks().iter().filter_map(|task| shadow(task, next.certificate));
        let mut before = std::mem::replace(&mut self.tasks, shadows.collect());
        let mut lost = Vec::new();
        for (place, (task, number)) in self.tasks.iter_mut().zip(numbers).enumerate() {
            let Some(old) = number.and_then(|number| before.get_mut(number)) else { continue };
            if *number == Some(place) {
                task.pending = std::mem::take(&mut old.pending);
            }
            task.take_over(old);
        }
        lost.extend(before.iter().flat_map(|task| task.pending.iter().map(|job| job.id)));
        if let Some(job) = lost.first() {
            self.report(
                4,
                format!("{} pending jobs were left behind by a change, the first is {job}", lost.len()),
            );
        }
        if let Takeover::Widened { retiring } = next.takeover {
            for task in retiring {
                if let Some(task) = self.tasks.get_mut(task.index()) {
                    task.retired = true;
                }
            }
        }
    }

    /// The bounds that are claimed for jobs of a task, and its position among them.
    pub(super) fn bounds(&self, task: usize) -> (&'a LaneCertificate, usize) {
        let TaskShadow { lane, position, .. } = self.tasks[task];
        let former = self.former[lane].as_ref();
        let kept = former.and_then(|former| Some((former.certificate, (*former.positions.get(task)?)?)));
        let (certificate, position) = kept.unwrap_or((self.certificate, position));
        (&certificate.lanes()[lane], position)
    }

    /// A lane has idled: what it goes on with is under the certificate in force alone.
    pub(super) fn settle_former(&mut self, lane: usize) {
        if self.former[lane].take().is_some() {
            let id = self.lanes[lane].id;
            let in_force = self.certificate.lanes().iter().find(|certified| certified.lane() == id);
            self.lanes[lane].tolerance = in_force.map_or(Nanos::ZERO, LaneCertificate::tolerance);
        }
    }
}

impl TaskShadow {
    /// A queue never shrinks, and jobs are counted on.
    fn take_over(&mut self, old: &Self) {
        self.queue = self.queue.max(old.queue);
        self.accepted = old.accepted;
        self.last_arrival = old.last_arrival;
        self.covered_max = old.covered_max;
        self.retired = old.retired;
    }
}

impl LaneShadow {
    /// Of an idle lane only its dispatches, its last breach and its counts go on.
    fn start_anew(&mut self, fresh: Self) {
        let (last_dispatch, last_breach, counts) = (self.last_dispatch, self.last_breach, self.counts);
        *self = Self { last_dispatch, last_breach, counts, ..fresh };
    }
}

/// Whose turn it is by the new numbers: the holder's, or else that of the last one before it that stays is over.
fn renumbered((last, left): (usize, u64), numbers: &[Option<usize>]) -> Option<(usize, u64)> {
    let place = numbers.iter().rposition(|number| number.is_some_and(|number| number <= last))?;
    Some((place, if numbers[place] == Some(last) { left } else { 0 }))
}
