//! The engine against a scheduler so naive that it can be read at a glance: it looks at every nanosecond, keeps all
//! jobs in one list, and sorts whenever it decides.

use super::world::{Fixture, Seeded, Spec, for_seeds, random_fleet, random_script};

const UNTIL: u64 = 600;

struct NaiveJob {
    task: usize,
    number: u64,
    arrival: u64,
    released: u64,
    done: usize,
    ended: Option<u64>,
}

#[derive(Default)]
struct Naive {
    jobs: Vec<NaiveJob>,
    /// (stamp, task, job number, segment)
    schedule: Vec<(u64, u16, u64, u16)>,
    refused: Vec<(u64, u16)>,
    /// Per lane: job in flight and when it ends.
    flight: [Option<(usize, u64)>; 3],
    /// Per lane: task that last had a turn, and what is left of it.
    turn: [Option<(usize, u32)>; 3],
}

impl Naive {
    fn run(
        specs: &[Spec],
        submissions: &[(u64, u16)],
        policy: &str,
        runs: impl Fn(usize, u64, usize) -> u64,
    ) -> Self {
        let mut naive = Self::default();
        let mut timers: Vec<Option<u64>> = specs.iter().map(|spec| spec.offset).collect();
        for t in 0..=UNTIL {
            naive.complete(specs, t);
            for (task, timer) in timers.iter_mut().enumerate() {
                if *timer == Some(t) {
                    naive.arrive(specs, task, t, Some(t));
                    *timer = Some(t + specs[task].period);
                }
            }
            for &(_, task) in submissions.iter().filter(|submission| submission.0 == t) {
                let task = usize::from(task);
                let legal = naive.legal_arrival(specs, task, t);
                naive.arrive(specs, task, t, legal);
            }
            for lane in 0..3 {
                naive.decide(specs, lane, t, policy, &runs);
            }
        }
        naive
    }

    fn complete(&mut self, specs: &[Spec], t: u64) {
        for slot in &mut self.flight {
            if let Some((job, end)) = *slot
                && end == t
            {
                let job = &mut self.jobs[job];
                job.done += 1;
                job.ended = (job.done == specs[job.task].segments.len()).then_some(t);
                *slot = None;
            }
        }
        for (task, left) in self.turn.iter_mut().flatten() {
            if self.jobs.iter().all(|job| job.task != *task || job.ended.is_some()) {
                *left = 0;
            }
        }
    }

    /// The first instant within the jitter that is a period after the last arrival.
    fn legal_arrival(&self, specs: &[Spec], task: usize, t: u64) -> Option<u64> {
        let last = self.jobs.iter().filter(|job| job.task == task).map(|job| job.arrival).max();
        let spec = &specs[task];
        (t.saturating_sub(spec.jitter)..=t).find(|a| last.is_none_or(|last| last + spec.period <= *a))
    }

    fn arrive(&mut self, specs: &[Spec], task: usize, t: u64, arrival: Option<u64>) {
        let pending = self.jobs.iter().filter(|job| job.task == task && job.ended.is_none()).count();
        let number = self.jobs.iter().filter(|job| job.task == task).count() as u64;
        match arrival {
            Some(arrival) if pending < specs[task].queue as usize => {
                self.jobs.push(NaiveJob { task, number, arrival, released: t, done: 0, ended: None });
            }
            _ => self.refused.push((t, u16::try_from(task).unwrap())),
        }
    }

    fn decide(
        &mut self,
        specs: &[Spec],
        lane: usize,
        t: u64,
        policy: &str,
        runs: &impl Fn(usize, u64, usize) -> u64,
    ) {
        if self.flight[lane].is_some() {
            return;
        }
        let key = |job: &NaiveJob| {
            let spec = &specs[job.task];
            match policy {
                "fifo" => job.released,
                "rm" => spec.period,
                "dm" => spec.deadline,
                "fp" => job.task as u64,
                _ => job.arrival + spec.deadline,
            }
        };
        let mut ready: Vec<usize> = (0..self.jobs.len())
            .filter(|&index| {
                let job = &self.jobs[index];
                let first = self.jobs.iter().find(|other| other.task == job.task && other.ended.is_none());
                usize::from(specs[job.task].lane) == lane
                    && job.ended.is_none()
                    && first.is_some_and(|first| first.number == job.number)
            })
            .collect();
        ready.sort_by_key(|&index| (key(&self.jobs[index]), self.jobs[index].task));
        if policy == "fair" {
            self.take_turns(specs, lane, &mut ready);
        }
        if let Some(&index) = ready.first() {
            let job = &self.jobs[index];
            let segment = u16::try_from(job.done).unwrap();
            self.schedule.push((t, u16::try_from(job.task).unwrap(), job.number, segment));
            self.flight[lane] = Some((index, t + runs(job.task, job.number, job.done)));
        }
    }
}

impl Naive {
    /// Puts the job of the task whose turn it is first, and notes that its turn goes on or begins.
    fn take_turns(&mut self, specs: &[Spec], lane: usize, ready: &mut [usize]) {
        let count = specs.len();
        let (last, left) = self.turn[lane].unwrap_or((count - 1, 0));
        let of = |task: usize| ready.iter().position(|&index| self.jobs[index].task == task);
        let goes_on = of(last).filter(|_| left > 0).map(|position| (position, left - 1));
        let around = (last + 1..count).chain(0..=last);
        let begins = || around.clone().find_map(|task| Some((of(task)?, specs[task].weight - 1)));
        if let Some((position, left)) = goes_on.or_else(begins) {
            ready.swap(0, position);
            self.turn[lane] = Some((self.jobs[ready[0]].task, left));
        }
    }
}

fn check(policy: &'static str, seed: u64) {
    let mut random = Seeded(seed ^ 0xA5);
    let (specs, submissions) = random_fleet(&mut random, UNTIL);
    let fixture = Fixture::new(policy, 5, &specs);
    let mut world = fixture.world();
    random_script(&mut random, &specs, &mut world, 50);
    let script = world.script.clone();
    world.run(&submissions, UNTIL);
    let runs = |task: usize, number: u64, segment: usize| {
        let job = aegis_types::JobId::new(aegis_types::TaskId::new(u16::try_from(task).unwrap()), number);
        script[&(job, u16::try_from(segment).unwrap())][0].0
    };
    let naive = Naive::run(&specs, &submissions, policy, runs);
    let mut expected = naive.schedule;
    let mut seen = world.schedule();
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected, "{policy}: {specs:?}");
    let mut responses: Vec<(u64, u64, u64)> = naive
        .jobs
        .iter()
        .filter_map(|job| Some((job.task as u64, job.number, job.ended? - job.arrival)))
        .collect();
    let mut measured: Vec<(u64, u64, u64)> = world
        .ends
        .iter()
        .map(|end| (end.job.task.get().into(), end.job.number, end.response().get()))
        .collect();
    responses.sort_unstable();
    measured.sort_unstable();
    assert_eq!(measured, responses, "{policy}: {specs:?}");
    let refused: Vec<(u64, u16)> = world
        .all::<aegis_types::records::JobRefused>()
        .into_iter()
        .map(|(at, refusal)| (at, refusal.task.get()))
        .collect();
    let mut unmet = naive.refused;
    unmet.sort_unstable();
    let mut refused = refused;
    refused.sort_unstable();
    assert_eq!(refused, unmet, "{policy}: {specs:?}");
}

#[test]
fn schedules_equal_those_of_a_naive_scheduler() {
    for_seeds("schedules_equal_those_of_a_naive_scheduler", 150, |seed| {
        for policy in crate::policy::POLICIES {
            check(policy, seed);
        }
    });
}
