//! Lanes in whole ticks: each runs the ready job with the least key without preemption; what a tick achieves is up to
//! the caller.

/// A job to be released.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub task: usize,
    pub lane: usize,
    pub key: u64,
    pub arrival: u64,
    pub release: u64,
    /// What it has to do, in the caller's units.
    pub work: u64,
}

/// A job on its lane.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub job: Job,
    pub left: u64,
    /// When its lane decided for it.
    pub decided: u64,
}

/// A job that ended.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub task: usize,
    pub arrival: u64,
    pub decided: u64,
    pub end: u64,
}

/// Runs all jobs. `tick` takes work off what runs, lane by lane; what has none left ends with the tick.
pub fn run(lanes: usize, mut jobs: Vec<Job>, mut tick: impl FnMut(&mut [Option<Running>])) -> Vec<Done> {
    let mut running: Vec<Option<Running>> = vec![None; lanes];
    let (mut done, mut now) = (Vec::new(), 0);
    while !jobs.is_empty() || running.iter().any(Option::is_some) {
        for (lane, slot) in running.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
            let ready = jobs.iter().enumerate().filter(|(_, job)| job.lane == lane && job.release <= now);
            if let Some((next, _)) = ready.min_by_key(|(_, job)| (job.key, job.task, job.arrival)) {
                let job = jobs.remove(next);
                *slot = Some(Running { job, left: job.work, decided: now });
            }
        }
        tick(&mut running);
        now += 1;
        for slot in &mut running {
            if let Some(ended) = slot.filter(|running| running.left == 0) {
                let (task, arrival) = (ended.job.task, ended.job.arrival);
                done.push(Done { task, arrival, decided: ended.decided, end: now });
                *slot = None;
            }
        }
        assert!(now < 100_000, "the lanes never end");
    }
    done
}
