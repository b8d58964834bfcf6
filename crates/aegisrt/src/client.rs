//! Submission of jobs by the application: bounded, wait-free, and refused rather than buffered.
//!
//! A client fills a packet (preallocated, one for each job that may be pending), submits it, and gets it back with the
//! outputs or with the reason of a refusal. Packets travel by ownership through bounded queues, so nothing is copied
//! behind anybody's back and nothing is locked:
//!
//! ```text
//! free --fill--> submitted --driver: accepted--> accepted --carrier: ran--> returned --> free
//!                     \------driver: refused------------------------------> returned
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use aegis_cuda::TensorSpec;
use aegis_sched::engine::{Answer, Decision};
use aegis_types::records::{JobOutcome, Refusal};
use aegis_types::{JobId, Severity, TaskId};
use crossbeam::queue::ArrayQueue;

/// The data of one job, owned by whoever holds it.
#[derive(Debug)]
pub struct Packet {
    token: u64,
    /// One buffer for each input that is not state, in the model's order.
    pub inputs: Vec<Vec<u8>>,
    /// One buffer for each output, filled when the job completed.
    pub outputs: Vec<Vec<u8>>,
    fate: Option<Fate>,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The job ended.
    Ended {
        /// The job.
        job: JobId,
        /// How. Only a completed job has outputs.
        outcome: JobOutcome,
    },
    /// The arrival was refused.
    Refused(Refusal),
}

impl Packet {
    /// The number that answers and records carry.
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// What became of it; `None` before it was submitted.
    pub const fn fate(&self) -> Option<Fate> {
        self.fate
    }
}

/// Why a submission did not reach the driver. The packet comes back with the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many submissions as fit are waiting for the driver.
    #[error("the submission queue of the task is full; at most {0} may wait")]
    Full(usize),
}

impl SubmitError {
    /// Submitting again later may succeed.
    pub const fn severity(&self) -> Severity {
        Severity::Transient
    }
}

/// The queues of one sporadic task, shared by client, driver and carrier.
#[derive(Debug)]
pub struct Port {
    task: TaskId,
    free: ArrayQueue<Box<Packet>>,
    submitted: ArrayQueue<Box<Packet>>,
    accepted: ArrayQueue<Box<Packet>>,
    returned: ArrayQueue<Box<Packet>>,
    tokens: AtomicU64,
}

impl Port {
    /// The port of `task` for `pending` jobs at once, with packets for `inputs` (those that are not state) and
    /// `outputs`.
    pub fn new(task: TaskId, pending: usize, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Self {
        // One packet more than may be pending, so that a client can see a refusal for a full queue.
        let packets = pending.max(1) + 1;
        let buffers = |specs: &[TensorSpec]| -> Vec<Vec<u8>> {
            specs.iter().map(|spec| vec![0; usize::try_from(spec.bytes.get()).unwrap_or(0)]).collect()
        };
        let free = ArrayQueue::new(packets);
        for _ in 0..packets {
            let packet = Packet { token: 0, inputs: buffers(inputs), outputs: buffers(outputs), fate: None };
            // The queue has room for exactly these packets.
            let _full = free.push(Box::new(packet));
        }
        let queue = || ArrayQueue::new(packets);
        Self {
            task,
            free,
            submitted: queue(),
            accepted: queue(),
            returned: queue(),
            tokens: AtomicU64::new(1),
        }
    }

    /// The task.
    pub const fn task(&self) -> TaskId {
        self.task
    }

    /// Driver: the next submission. The driver holds the packet until the engine answers.
    pub(crate) fn next_submission(&self) -> Option<Box<Packet>> {
        self.submitted.pop()
    }

    /// Driver: forwards a packet as the engine answered.
    pub(crate) fn settle(&self, mut packet: Box<Packet>, answer: &Answer) {
        let queue = match answer.decision {
            Decision::Accepted { job, .. } => {
                packet.fate = Some(Fate::Ended { job, outcome: JobOutcome::Dropped });
                &self.accepted
            }
            Decision::Refused { reason, .. } => {
                packet.fate = Some(Fate::Refused(reason));
                &self.returned
            }
        };
        // There are no more packets than any queue holds.
        let _full = queue.push(packet);
    }

    /// Carrier: the packet of `job`. Packets of earlier jobs, which were dropped, go back to their client.
    pub(crate) fn packet_of(&self, job: JobId) -> Option<Box<Packet>> {
        while let Some(packet) = self.accepted.pop() {
            match packet.fate {
                Some(Fate::Ended { job: this, .. }) if this == job => return Some(packet),
                _ => self.give_back(packet),
            }
        }
        None
    }

    /// Carrier: gives a packet back to its client.
    pub(crate) fn give_back(&self, packet: Box<Packet>) {
        let _full = self.returned.push(packet);
    }

    /// Returns every packet that still waits for its job, at the end of a run.
    pub(crate) fn close(&self) {
        while let Some(packet) = self.accepted.pop() {
            self.give_back(packet);
        }
    }
}

impl Packet {
    /// Carrier: notes how the job ended.
    pub(crate) fn end(&mut self, job: JobId, outcome: JobOutcome) {
        self.fate = Some(Fate::Ended { job, outcome });
    }
}

/// The application's end of a port. One thread at a time.
#[derive(Debug)]
pub struct Client {
    port: Arc<Port>,
    driver: Thread,
}

impl Client {
    /// The client of `port`, whose submissions wake `driver`.
    pub const fn new(port: Arc<Port>, driver: Thread) -> Self {
        Self { port, driver }
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.port.task()
    }

    /// A packet to fill, or `None` while all are under way.
    pub fn packet(&self) -> Option<Box<Packet>> {
        self.port.free.pop()
    }

    /// Submits a packet. Its job arrives when the driver sees it; whether it is accepted is told by the packet that
    /// comes back.
    ///
    /// # Errors
    /// [`SubmitError::Full`], with the packet.
    pub fn submit(&self, mut packet: Box<Packet>) -> Result<u64, (Box<Packet>, SubmitError)> {
        let token = self.port.tokens.fetch_add(1, Ordering::Relaxed);
        packet.token = token;
        packet.fate = None;
        match self.port.submitted.push(packet) {
            Ok(()) => {
                self.driver.unpark();
                Ok(token)
            }
            Err(packet) => Err((packet, SubmitError::Full(self.port.submitted.capacity()))),
        }
    }

    /// The next packet that came back, if there is one.
    pub fn returned(&self) -> Option<Box<Packet>> {
        self.port.returned.pop()
    }

    /// Hands a packet back for reuse.
    pub fn recycle(&self, packet: Box<Packet>) {
        let _full = self.port.free.push(packet);
    }
}
