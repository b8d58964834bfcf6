//! The oracle: periodic tasks, each release and each cost of theirs, walked through tick by tick by the words of the
//! policies. It shares nothing with what it judges.

use crate::generate::Rng;

/// A task in plain numbers.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    pub offset: u64,
    pub period: u64,
    pub jitter: u64,
    pub cost: u64,
    pub deadline: u64,
}

/// By what the lane stays free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Precautious,
    CriticalWindow,
}

/// A job of a run: its task, its arrival, its release and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    pub task: usize,
    pub arrival: u64,
    pub release: u64,
    pub cost: u64,
}

/// Tasks under a rule, until an instant.
pub struct World<'a> {
    pub tasks: &'a [Plain],
    pub rule: Rule,
    /// Whether the rule is kept; otherwise jobs run in the same order, and no lane stays free.
    pub kept: bool,
    pub end: u64,
}

impl World<'_> {
    /// The end of one hyperperiod after the largest offset.
    pub fn once(tasks: &[Plain]) -> u64 {
        let hyperperiod = (1..).find(|span| tasks.iter().all(|task| span % task.period == 0));
        tasks.iter().map(|task| task.offset).max().unwrap_or(0)
            + hyperperiod.expect("periods have a multiple")
    }

    fn arrivals(&self) -> Vec<(usize, u64)> {
        let of = |(index, task): (usize, &Plain)| {
            let (offset, period) = (task.offset, task.period);
            (0..)
                .map(move |k| (index, offset + k * period))
                .take_while(|(_, at)| *at < self.end)
                .collect::<Vec<_>>()
        };
        self.tasks.iter().enumerate().flat_map(of).collect()
    }

    /// What is first in turn: the shorter period, or the earlier deadline; then the smaller number.
    fn urgency(&self, job: &Drawn) -> (u64, usize, u64) {
        let task = &self.tasks[job.task];
        match self.rule {
            Rule::Precautious => (task.period, job.task, job.arrival),
            Rule::CriticalWindow => (job.arrival + task.deadline, job.task, job.arrival),
        }
    }

    /// Arrival of the next job of a task that is not released yet. Jobs from the end on never are.
    fn to_come(&self, task: usize, at: u64, jobs: &[Drawn]) -> u64 {
        let unreleased =
            jobs.iter().filter(|job| job.task == task && job.release > at).map(|job| job.arrival);
        unreleased.min().unwrap_or_else(|| {
            let Plain { offset, period, .. } = self.tasks[task];
            (0..)
                .map(|k| offset + k * period)
                .find(|arrival| *arrival >= self.end)
                .expect("tasks go on for ever")
        })
    }

    fn forbidden(&self, job: &Drawn, at: u64, jobs: &[Drawn]) -> bool {
        if !self.kept {
            return false;
        }
        let number = |value: u64| i64::try_from(value).expect("small numbers");
        let task = |index: usize| &self.tasks[index];
        let end = number(at) + number(task(job.task).cost);
        match self.rule {
            Rule::Precautious => {
                let shortest = self.tasks.iter().map(|task| task.period).min().expect("there are tasks");
                let urgent = (0..self.tasks.len()).filter(|&other| task(other).period == shortest);
                let next = urgent
                    .map(|other| (self.to_come(other, at, jobs), other))
                    .min_by_key(|&(arrival, other)| (arrival + task(other).jitter, arrival, other));
                let (arrival, other) = next.expect("some task has the shortest period");
                let latest = number(arrival + task(other).deadline) - number(task(other).cost);
                task(job.task).period != shortest && end > latest
            }
            Rule::CriticalWindow => {
                let mut others: Vec<(u64, u64)> = (0..self.tasks.len())
                    .filter(|&other| other != job.task)
                    .map(|other| (self.to_come(other, at, jobs) + task(other).deadline, task(other).cost))
                    .collect();
                others.sort_unstable();
                // Everything up to a deadline has to fit between the end of the job and that deadline.
                let mut work = 0;
                others.iter().any(|(deadline, cost)| {
                    work += number(*cost);
                    end + work > number(*deadline)
                })
            }
        }
    }

    /// Start and end of each job that starts before the end, in the order of `jobs`.
    pub fn walk(&self, jobs: &[Drawn]) -> Vec<Option<(u64, u64)>> {
        let mut ran: Vec<Option<(u64, u64)>> = vec![None; jobs.len()];
        let mut free = 0;
        for at in 0..self.end {
            if at < free {
                continue;
            }
            let ready = (0..jobs.len()).filter(|&job| jobs[job].release <= at && ran[job].is_none());
            let Some(first) = ready.min_by_key(|&job| self.urgency(&jobs[job])) else { continue };
            if !self.forbidden(&jobs[first], at, jobs) {
                free = at + jobs[first].cost;
                ran[first] = Some((at, free));
            }
        }
        ran
    }

    /// Whether a job is late in a run; one that has not started by the end has waited until then.
    pub fn is_late(&self, jobs: &[Drawn]) -> bool {
        let late = |(job, ran): (&Drawn, Option<(u64, u64)>)| {
            ran.map_or(self.end, |(_, end)| end) > job.arrival + self.tasks[job.task].deadline
        };
        jobs.iter().zip(self.walk(jobs)).any(late)
    }

    /// A run with releases and costs that are drawn, extremes often among them.
    pub fn drawn(&self, rng: &mut Rng) -> Vec<Drawn> {
        let mut jobs = self.longest();
        for job in &mut jobs {
            let task = self.tasks[job.task];
            job.release = job.arrival + [0, task.jitter, rng.range(0, task.jitter)][rng.range(0, 2) as usize];
            job.cost = [task.cost, 1, rng.range(1, task.cost)][rng.range(0, 2) as usize];
        }
        jobs
    }

    /// How many runs there are.
    pub fn combinations(&self) -> u64 {
        let choices = |&(task, _): &(usize, u64)| (self.tasks[task].jitter + 1) * self.tasks[task].cost;
        self.arrivals().iter().map(choices).fold(1, u64::saturating_mul)
    }

    /// The run in which every release is prompt and every cost the longest.
    pub fn longest(&self) -> Vec<Drawn> {
        let drawn = |(task, arrival)| Drawn { task, arrival, release: arrival, cost: self.tasks[task].cost };
        self.arrivals().into_iter().map(drawn).collect()
    }

    /// Every run: each release and each cost of each job.
    pub fn every(&self, mut see: impl FnMut(&[Drawn])) {
        let mut jobs: Vec<Drawn> = self.longest().into_iter().map(|job| Drawn { cost: 1, ..job }).collect();
        loop {
            see(&jobs);
            let more = jobs.iter_mut().any(|job| {
                let task = &self.tasks[job.task];
                if job.cost < task.cost {
                    job.cost += 1;
                    return true;
                }
                job.cost = 1;
                if job.release < job.arrival + task.jitter {
                    job.release += 1;
                    return true;
                }
                job.release = job.arrival;
                false
            });
            if !more {
                return;
            }
        }
    }

    /// Longest response of each task over every run, and whether some job was late.
    pub fn responses(&self) -> (Vec<u64>, bool) {
        let (mut longest, mut late) = (vec![0; self.tasks.len()], false);
        self.every(|jobs| {
            late |= self.is_late(jobs);
            for (job, ran) in jobs.iter().zip(self.walk(jobs)) {
                let response = ran.map_or(0, |(_, end)| end - job.arrival);
                longest[job.task] = longest[job.task].max(response);
            }
        });
        (longest, late)
    }
}
