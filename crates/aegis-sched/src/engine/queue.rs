//! The pending jobs of one task: a bounded queue that never allocates after construction.

use std::collections::VecDeque;

use super::job::{Job, JobState};

/// At most Q jobs, oldest first. Only the oldest may have started, so jobs of a task run in order.
#[derive(Debug)]
pub(super) struct JobQueue {
    jobs: VecDeque<Job>,
    bound: usize,
}

impl JobQueue {
    pub(super) fn new(bound: usize) -> Self {
        Self { jobs: VecDeque::with_capacity(bound), bound }
    }

    pub(super) const fn bound(&self) -> usize {
        self.bound
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.jobs.len() >= self.bound
    }

    /// # Panics
    /// If the queue is full: its bound is what input slots and memory were sized for.
    pub(super) fn push(&mut self, job: Job) {
        assert!(!self.is_full(), "{} was accepted beyond the queue bound {}", job.id, self.bound);
        self.jobs.push_back(job);
    }

    pub(super) fn head(&self) -> Option<&Job> {
        self.jobs.front()
    }

    pub(super) fn head_mut(&mut self) -> Option<&mut Job> {
        self.jobs.front_mut()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Job> {
        self.jobs.back_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Removes the oldest job that has not started.
    pub(super) fn remove_unstarted(&mut self) -> Option<Job> {
        // Jobs run in order, so that at most the oldest one has started.
        let position = self.jobs.iter().take(2).position(|job| job.state == JobState::Queued)?;
        self.jobs.remove(position)
    }
}
