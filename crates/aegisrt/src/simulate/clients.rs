//! Clients of sporadic tasks: submissions within their contracts, as late and as early as these allow, and floods.

use aegis_sched::engine::{Answer, Decision};
use aegis_sched::platform::ChargedTask;
use aegis_sched::{Arrival, Task, TaskSet};
use aegis_types::{Nanos, TaskId, Time};

use super::faults::Flood;
use super::generate::{Latency, Scenario};
use crate::feed::SplitMix;

/// All clients of a run.
#[derive(Clone, Debug)]
pub struct Clients {
    ports: Vec<Option<Port>>,
    /// Submissions that were taken, accepted and refused.
    pub counts: Counts,
}

/// What became of submissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Seen by the driver.
    pub taken: u64,
    /// Answered with a job.
    pub accepted: u64,
    /// Answered with a refusal.
    pub refused: u64,
}

#[derive(Clone, Debug)]
struct Port {
    period: u64,
    /// Longest time from a nominal arrival to its visibility.
    delay: u64,
    nominal: u64,
    visible: Time,
    /// Visible instants of a flood, latest first.
    extra: Vec<Time>,
    token: u64,
}

impl Clients {
    /// The clients of a scenario. Nominal arrivals keep their periods; how much of the jitter each uses is drawn.
    pub fn new(scenario: &Scenario, charged: &[ChargedTask], floods: &[Flood], draw: &mut SplitMix) -> Self {
        let client = scenario.set.platform().overheads.client;
        let mut ports: Vec<Option<Port>> = scenario.set.tasks().iter().map(|_| None).collect();
        for task in scenario.sporadic() {
            let delay = delay(task, &charged[task.id.index()], client, scenario.latency);
            let period = task.period.get();
            let nominal = if draw.below(2) == 0 { 0 } else { draw.below(period) };
            let extra = floods.iter().filter(|flood| flood.task == task.id).flat_map(instants).collect();
            let mut port = Port { period, delay: delay.get(), nominal, visible: Time::ZERO, extra, token: 0 };
            port.extra.sort_unstable_by(|a, b| b.cmp(a));
            port.schedule(draw);
            ports[task.id.index()] = Some(port);
        }
        Self { ports, counts: Counts::default() }
    }

    /// Clients of the tasks of `set`, of which those with a number were here before under it. New ones begin after `now`.
    pub fn change(
        &mut self,
        set: &TaskSet,
        charged: &[ChargedTask],
        numbers: &[Option<TaskId>],
        (latency, now): (Latency, Time),
        draw: &mut SplitMix,
    ) {
        let mut before = std::mem::take(&mut self.ports);
        for ((task, charged), number) in set.tasks().iter().zip(charged).zip(numbers) {
            let mut known = number.and_then(|number| before.get_mut(number.index())?.take());
            let delay = delay(task, charged, set.platform().overheads.client, latency);
            if let Some(port) = &mut known {
                port.period = task.period.get();
                port.delay_at_most(delay.get(), now);
            }
            let fresh = |draw: &mut SplitMix| {
                let (period, delay) = (task.period.get(), delay.get());
                let nominal = now.get() + 1 + draw.below(period);
                let mut port = Port { period, delay, nominal, visible: now, extra: Vec::new(), token: 0 };
                port.schedule(draw);
                port
            };
            let port = (task.arrival == Arrival::Sporadic).then(|| known.unwrap_or_else(|| fresh(draw)));
            self.ports.push(port);
        }
    }

    /// The next instant at which a submission becomes visible.
    pub fn next_visible(&self) -> Option<Time> {
        self.ports.iter().flatten().map(Port::next).min()
    }

    /// Takes one submission of the task that is visible at `now`; returns its token.
    pub fn take(&mut self, task: TaskId, now: Time, draw: &mut SplitMix) -> Option<u64> {
        let port = self.ports.get_mut(task.index())?.as_mut()?;
        if port.next() > now {
            return None;
        }
        if port.visible <= now {
            port.nominal += port.period + if draw.below(2) == 0 { 0 } else { draw.below(port.period) };
            port.schedule(draw);
        } else {
            port.extra.pop();
        }
        port.token += 1;
        self.counts.taken += 1;
        Some(port.token)
    }

    /// Counts an answer.
    pub fn answered(&mut self, answer: &Answer) {
        match answer.decision {
            Decision::Accepted { .. } => self.counts.accepted += 1,
            Decision::Refused { .. } => self.counts.refused += 1,
        }
    }
}

impl Port {
    /// What is to be submitted next comes no later after its nominal arrival than `delay`: where it would, it arrives
    /// later.
    fn delay_at_most(&mut self, delay: u64, now: Time) {
        self.delay = delay;
        if self.visible.get() > self.nominal + delay {
            self.nominal = self.nominal.max(now.get().saturating_sub(delay));
            self.visible = Time::new(self.nominal + delay);
        }
    }

    /// At once, as late as allowed, or in between.
    fn schedule(&mut self, draw: &mut SplitMix) {
        let delay = match draw.below(3) {
            0 => 0,
            1 => self.delay,
            _ => draw.below(self.delay + 1),
        };
        self.visible = Time::new(self.nominal + delay);
    }

    fn next(&self) -> Time {
        self.extra.last().map_or(self.visible, |&extra| extra.min(self.visible))
    }
}

/// Longest time from a nominal arrival to its visibility. In a crisp world detection takes no time, so that the client
/// uses all of J'.
fn delay(task: &Task, charged: &ChargedTask, client: Nanos, latency: Latency) -> Nanos {
    match latency {
        Latency::Crisp => charged.jitter,
        Latency::Drawn | Latency::Slowest => task.jitter.saturating_add(client),
    }
}

fn instants(flood: &Flood) -> impl Iterator<Item = Time> {
    let (from, gap) = (flood.from, flood.gap);
    (0..flood.count).map(move |index| from.saturating_add(Nanos::new(gap.get() * index)))
}
