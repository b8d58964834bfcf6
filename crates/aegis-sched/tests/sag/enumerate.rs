//! The oracle: every release and every cost of every job, each combination walked through tick by tick.

use aegis_sched::sag::{Edge, IdleRule, Job};

/// What one walk is given.
pub struct World<'a> {
    pub jobs: &'a [Job],
    pub edges: &'a [Edge],
    pub cores: usize,
    pub idle: Option<IdleRule>,
}

/// Earliest and latest completion of every job over all that was walked.
pub type Seen = Vec<[u64; 2]>;

/// Whether every job met its deadline in all that was walked.
pub fn all_met(jobs: &[Job], seen: &Seen) -> bool {
    jobs.iter().zip(seen).all(|(job, seen)| seen[1] <= job.deadline.get())
}

impl World<'_> {
    fn ready(&self, at: u64, job: usize, release: &[u64], delay: &[u64], done: &[Option<u64>]) -> bool {
        let place = |key| self.jobs.iter().position(|job| job.key == key).expect("a job of the set");
        release[job] <= at
            && self
                .edges
                .iter()
                .zip(delay)
                .filter(|(edge, _)| edge.to == self.jobs[job].key)
                .all(|(edge, delay)| done[place(edge.from)].is_some_and(|end| end + delay <= at))
    }

    /// The latest start that the rule allows, straight from its definition.
    fn allowed(&self, at: u64, job: usize, started: &[bool]) -> bool {
        let own = &self.jobs[job];
        let first = self.jobs.iter().map(|job| job.priority).min().expect("a set has jobs");
        let to_come = |wanted: &dyn Fn(&Job) -> bool| {
            (0..self.jobs.len())
                .filter(|&other| !started[other] && wanted(&self.jobs[other]))
                .map(|other| &self.jobs[other])
                .filter(|other| other.release_max.get() > at)
                .min_by_key(|other| (other.release_max, other.release_min, other.key))
        };
        let need = |job: &Job| i128::from(job.cost_max.get());
        let mut room = i128::MAX;
        match self.idle {
            None => {}
            Some(IdleRule::PrecautiousRm) => {
                if own.priority != first
                    && let Some(next) = to_come(&|other| other.priority == first)
                {
                    room = i128::from(next.deadline.get()) - need(next);
                }
            }
            Some(IdleRule::CriticalWindowEdf) => {
                let mut tasks: Vec<u64> = self.jobs.iter().map(|job| job.key.task).collect();
                tasks.retain(|&task| task != own.key.task);
                tasks.sort_unstable();
                tasks.dedup();
                let mut next: Vec<&Job> =
                    tasks.iter().filter_map(|&task| to_come(&|other| other.key.task == task)).collect();
                next.sort_by_key(|job| std::cmp::Reverse(job.deadline));
                for job in next {
                    room = room.min(i128::from(job.deadline.get())) - need(job);
                }
            }
        }
        i128::from(at) <= room.saturating_sub(need(own))
    }

    /// Completions of one combination.
    pub fn walk(&self, release: &[u64], cost: &[u64], delay: &[u64]) -> Vec<u64> {
        let count = self.jobs.len();
        let (mut started, mut done) = (vec![false; count], vec![None; count]);
        let mut busy_until = vec![0u64; self.cores];
        let mut at = 0;
        while started.contains(&false) {
            // A start may free nothing and complete nothing at this instant: costs are above zero.
            while let Some(core) = busy_until.iter().position(|&until| until <= at) {
                let now: Vec<_> = done.iter().map(|end: &Option<u64>| end.filter(|&end| end <= at)).collect();
                let next = (0..count)
                    .filter(|&job| !started[job] && self.ready(at, job, release, delay, &now))
                    .min_by_key(|&job| (self.jobs[job].priority, self.jobs[job].key));
                match next {
                    Some(job) if self.allowed(at, job, &started) => {
                        started[job] = true;
                        done[job] = Some(at + cost[job]);
                        busy_until[core] = at + cost[job];
                    }
                    _ => break,
                }
            }
            at += 1;
        }
        done.into_iter().map(|end| end.expect("every job was started")).collect()
    }

    /// How many combinations there are.
    pub fn combinations(&self) -> u64 {
        self.ranges().iter().map(|[low, high]| high - low + 1).product()
    }

    fn ranges(&self) -> Vec<[u64; 2]> {
        let releases = self.jobs.iter().map(|job| [job.release_min.get(), job.release_max.get()]);
        let costs = self.jobs.iter().map(|job| [job.cost_min.get(), job.cost_max.get()]);
        let delays = self.edges.iter().map(|edge| [edge.delay_min.get(), edge.delay_max.get()]);
        releases.chain(costs).chain(delays).collect()
    }

    /// Walks all combinations.
    pub fn enumerate(&self) -> Seen {
        let ranges = self.ranges();
        let mut values: Vec<u64> = ranges.iter().map(|range| range[0]).collect();
        let count = self.jobs.len();
        let mut seen = vec![[u64::MAX, 0]; count];
        loop {
            self.see(&values, &mut seen);
            let Some(place) = (0..values.len()).find(|&place| values[place] < ranges[place][1]) else {
                return seen;
            };
            values[place] += 1;
            for lower in 0..place {
                values[lower] = ranges[lower][0];
            }
        }
    }

    /// Walks one combination: releases, costs, delays.
    pub fn see(&self, values: &[u64], seen: &mut Seen) {
        let count = self.jobs.len();
        let ends = self.walk(&values[..count], &values[count..2 * count], &values[2 * count..]);
        for (seen, end) in seen.iter_mut().zip(ends) {
            *seen = [seen[0].min(end), seen[1].max(end)];
        }
    }

    /// Walks random combinations, extremes often among them.
    pub fn sample(&self, rng: &mut super::generate::Rng, walks: u64) -> Seen {
        let ranges = self.ranges();
        let mut seen = vec![[u64::MAX, 0]; self.jobs.len()];
        for _ in 0..walks {
            let pick = |range: &[u64; 2]| match rng.range(0, 3) {
                0 => range[0],
                1 => range[1],
                _ => rng.range(range[0], range[1]),
            };
            let values: Vec<u64> = ranges.iter().map(pick).collect();
            self.see(&values, &mut seen);
        }
        seen
    }
}
