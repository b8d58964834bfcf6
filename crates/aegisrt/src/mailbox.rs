//! One command and one answer between the driver and a carrier: plain atomics, because a lane has at most one segment
//! in flight.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aegis_sched::engine::Dispatch;
use aegis_types::record::Word;
use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, JobId, SegmentIndex, Time};

/// What a carrier is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The job.
    pub job: JobId,
    /// Which of its segments.
    pub segment: SegmentIndex,
    /// The input slot that holds the job's data.
    pub slot: u32,
    /// The number that the completion flag must carry.
    pub dispatch: DispatchSeq,
}

impl From<&Dispatch> for Launch {
    fn from(command: &Dispatch) -> Self {
        Self { job: command.job, segment: command.segment, slot: command.slot, dispatch: command.dispatch }
    }
}

/// What a carrier says of the launch that its flag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// How the segment ended.
    pub outcome: SegmentOutcome,
    /// When the launch call was entered.
    pub entered: Time,
    /// When the launch call returned: on a synchronous device the work was done then, on an asynchronous one it was
    /// enqueued. The store of the flag comes after it.
    pub left: Time,
}

/// The slot between the driver and one carrier.
///
/// Ordering: [`post`](Mailbox::post) publishes the command by storing the dispatch number last (release), and
/// [`take`](Mailbox::take) reads it first (acquire). The answer is published by the completion flag, which the stream
/// stores with release after [`land`](Mailbox::land), itself or by the device behind everything enqueued before.
#[derive(Debug, Default)]
pub struct Mailbox {
    job: AtomicU64,
    segment: AtomicU64,
    slot: AtomicU64,
    dispatch: AtomicU64,
    outcome: AtomicU64,
    entered: AtomicU64,
    left: AtomicU64,
    closed: AtomicBool,
    dead: AtomicBool,
}

impl Mailbox {
    /// Posts a command. The previous one must have landed.
    pub fn post(&self, launch: Launch) {
        self.job.store(launch.job.to_word(), Ordering::Relaxed);
        self.segment.store(launch.segment.to_word(), Ordering::Relaxed);
        self.slot.store(launch.slot.into(), Ordering::Relaxed);
        self.dispatch.store(launch.dispatch.get(), Ordering::Release);
    }

    /// The command that was posted after `last`, if there is one.
    pub fn take(&self, last: DispatchSeq) -> Option<Launch> {
        let dispatch = DispatchSeq::new(self.dispatch.load(Ordering::Acquire));
        if dispatch == last {
            return None;
        }
        Some(Launch {
            job: JobId::from_word(self.job.load(Ordering::Relaxed)),
            segment: SegmentIndex::from_word(self.segment.load(Ordering::Relaxed)).unwrap_or_default(),
            slot: u32::try_from(self.slot.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            dispatch,
        })
    }

    /// Stores the answer; the caller signals the completion flag afterwards.
    pub fn land(&self, landing: Landing) {
        self.outcome.store(landing.outcome.to_word(), Ordering::Relaxed);
        self.entered.store(landing.entered.get(), Ordering::Relaxed);
        self.left.store(landing.left.get(), Ordering::Relaxed);
    }

    /// The answer to the launch whose number was just read from the completion flag.
    pub fn landing(&self) -> Landing {
        Landing {
            outcome: SegmentOutcome::from_word(self.outcome.load(Ordering::Relaxed))
                .unwrap_or(SegmentOutcome::Failed),
            entered: Time::new(self.entered.load(Ordering::Relaxed)),
            left: Time::new(self.left.load(Ordering::Relaxed)),
        }
    }

    /// Tells the carrier to end when it is idle.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Notes that the lane was lost or its carrier ended by itself: it will never land again.
    pub fn mark_dead(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Whether the lane will never land again.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Whether the carrier is to end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aegis_types::TaskId;

    use super::*;

    #[test]
    fn commands_and_answers_cross_threads_whole() {
        let mailbox = Arc::new(Mailbox::default());
        let flag = Arc::new(AtomicU64::new(0));
        let carrier = {
            let (mailbox, flag) = (Arc::clone(&mailbox), Arc::clone(&flag));
            std::thread::spawn(move || {
                let mut last = DispatchSeq::NONE;
                while !mailbox.is_closed() {
                    let Some(launch) = mailbox.take(last) else {
                        std::hint::spin_loop();
                        continue;
                    };
                    last = launch.dispatch;
                    let seq = launch.dispatch.get();
                    assert_eq!((launch.job.number, u64::from(launch.slot)), (seq * 3, seq % 7));
                    let (entered, left) = (Time::new(seq), Time::new(seq * 2));
                    mailbox.land(Landing { outcome: SegmentOutcome::NotStarted, entered, left });
                    flag.store(seq, Ordering::Release);
                }
            })
        };
        for seq in 1..2_000u64 {
            let job = JobId::new(TaskId::new(1), seq * 3);
            let slot = u32::try_from(seq % 7).expect("small");
            let dispatch = DispatchSeq::new(seq);
            mailbox.post(Launch { job, segment: SegmentIndex::new(0), slot, dispatch });
            while flag.load(Ordering::Acquire) != seq {
                std::thread::yield_now();
            }
            assert_eq!(mailbox.landing().left, Time::new(seq * 2));
        }
        mailbox.close();
        carrier.join().expect("the carrier saw consistent commands");
    }
}
