//! The pending jobs of one task: a bounded queue that never allocates after construction.

use std::collections::VecDeque;

use super::job::{Job, JobState};

/// At most Q jobs, oldest first. Only the oldest may have started, so jobs of a task run in order.
#[derive(Debug)]
pub(super) struct JobQueue {
    jobs: VecDeque<Job>,
    bound: usize,
    /// Whether pending jobs may have the slots of another bound.
    moved: bool,
}

impl JobQueue {
    pub(super) fn new(bound: usize) -> Self {
        Self { jobs: VecDeque::with_capacity(bound), bound, moved: false }
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

    /// The slot that a job of this number gets where nothing ever changed the bound.
    pub(super) fn natural(&self, number: u64) -> u32 {
        u32::try_from(number % self.bound as u64).expect("the queue bound fits u32")
    }

    /// The slot for the next job, of this number: the natural one, or the first that is free where a change of the bound
    /// has left that to another job.
    pub(super) fn free_slot(&self, number: u64) -> u32 {
        let taken = |slot: u32| self.jobs.iter().any(|job| job.slot == slot);
        let natural = self.natural(number);
        // Pending jobs have numbers that are less than the bound apart, so that no two of them share a slot.
        if !self.moved || !taken(natural) {
            return natural;
        }
        // Fewer jobs are pending than there are slots.
        (0..).find(|&slot| !taken(slot)).unwrap_or(natural)
    }

    /// A queue of at least `bound` with the jobs of this one, each in its slot.
    pub(super) fn with_bound(&self, bound: usize) -> Self {
        let bound = bound.max(self.bound);
        let mut jobs = VecDeque::with_capacity(bound);
        jobs.extend(self.jobs.iter().copied());
        Self { jobs, bound, moved: self.moved || bound != self.bound }
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
