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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread::Thread;

use aegis_cuda::TensorSpec;
use aegis_sched::engine::{Answer, Decision};
use aegis_types::records::{JobOutcome, Refusal};
use aegis_types::{JobId, Severity, TaskId};
use crossbeam::queue::ArrayQueue;

/// The data of one job, owned by whoever holds it.
#[derive(Debug)]
pub struct Packet {
    task: TaskId,
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many submissions as fit are waiting for the driver.
    #[error("the submission queue of the task is full; at most {0} may wait")]
    Full(usize),
    /// The packet was made for another task.
    #[error("the packet is one of {given}; legal: one of {legal}")]
    Foreign {
        /// Whose packet it is.
        given: TaskId,
        /// Whose port it was given to.
        legal: TaskId,
    },
    /// A buffer of the packet was added, removed or resized.
    #[error("the packet's {what} are of {given:?} bytes; legal: {legal:?}")]
    Shape {
        /// Inputs or outputs.
        what: &'static str,
        /// The sizes given.
        given: Vec<usize>,
        /// The sizes of the model's tensors.
        legal: Vec<usize>,
    },
    /// The run is over.
    #[error("the run is over; nothing is accepted any more")]
    Closed,
}

impl SubmitError {
    /// Only a full queue may empty; the rest stays wrong.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Full(_) => Severity::Transient,
            Self::Foreign { .. } | Self::Shape { .. } | Self::Closed => Severity::Permanent,
        }
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
    input_sizes: Vec<usize>,
    output_sizes: Vec<usize>,
    closed: AtomicBool,
}

impl Port {
    /// The port of `task` for `pending` jobs at once, with packets for `inputs` (those that are not state) and
    /// `outputs`.
    pub fn new(task: TaskId, pending: usize, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Self {
        // One packet more than may be pending, so that a client can see a refusal for a full queue.
        let packets = pending.max(1) + 1;
        let sizes = |specs: &[TensorSpec]| -> Vec<usize> {
            specs.iter().map(|spec| usize::try_from(spec.bytes.get()).unwrap_or(0)).collect()
        };
        let (input_sizes, output_sizes) = (sizes(inputs), sizes(outputs));
        let buffers = |sizes: &[usize]| sizes.iter().map(|&size| vec![0; size]).collect();
        let free = ArrayQueue::new(packets);
        for _ in 0..packets {
            let (inputs, outputs) = (buffers(&input_sizes), buffers(&output_sizes));
            let packet = Packet { task, token: 0, inputs, outputs, fate: None };
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
            input_sizes,
            output_sizes,
            closed: AtomicBool::new(false),
        }
    }

    /// Whether a packet may be submitted: its buffers are public, so their sizes are checked again.
    fn check(&self, packet: &Packet) -> Result<(), SubmitError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(SubmitError::Closed);
        }
        if packet.task != self.task {
            return Err(SubmitError::Foreign { given: packet.task, legal: self.task });
        }
        let buffers =
            [("inputs", &packet.inputs, &self.input_sizes), ("outputs", &packet.outputs, &self.output_sizes)];
        for (what, buffers, legal) in buffers {
            if !buffers.iter().map(Vec::len).eq(legal.iter().copied()) {
                let given = buffers.iter().map(Vec::len).collect();
                return Err(SubmitError::Shape { what, given, legal: legal.clone() });
            }
        }
        Ok(())
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

    /// Client: leaves a packet for the driver. One that comes while the port is closed goes back: a driver that is gone
    /// takes nothing.
    fn leave(&self, packet: Box<Packet>) -> Result<(), Box<Packet>> {
        self.submitted.push(packet)?;
        // Either this thread sees that the port was closed, or who closes it sees the packet.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Acquire) {
            self.refuse_submitted();
        }
        Ok(())
    }

    /// Returns every packet that still waits, at the end of a run.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        while let Some(mut packet) = self.accepted.pop() {
            if let Some(Fate::Ended { job, .. }) = packet.fate {
                packet.end(job, JobOutcome::Stopped);
            }
            self.give_back(packet);
        }
        self.refuse_submitted();
    }

    fn refuse_submitted(&self) {
        while let Some(mut packet) = self.submitted.pop() {
            packet.fate = Some(Fate::Refused(Refusal::Stopping));
            self.give_back(packet);
        }
    }
}

impl Packet {
    /// The job that it was accepted as.
    pub(crate) fn job(&self) -> Option<JobId> {
        match self.fate {
            Some(Fate::Ended { job, .. }) => Some(job),
            _ => None,
        }
    }

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
    /// [`SubmitError`], with the packet.
    pub fn submit(&self, mut packet: Box<Packet>) -> Result<u64, (Box<Packet>, SubmitError)> {
        if let Err(error) = self.port.check(&packet) {
            return Err((packet, error));
        }
        let token = self.port.tokens.fetch_add(1, Ordering::Relaxed);
        packet.token = token;
        packet.fate = None;
        match self.port.leave(packet) {
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

#[cfg(test)]
mod tests {
    use aegis_cuda::ElementType;
    use aegis_types::{Bytes, Time};

    use super::*;

    fn client(task: u16) -> Client {
        let spec = |bytes| TensorSpec {
            name: "x".into(),
            element: ElementType::U8,
            shape: vec![bytes],
            bytes: Bytes::new(bytes),
        };
        let port = Port::new(TaskId::new(task), 1, &[spec(4)], &[spec(2)]);
        Client::new(Arc::new(port), std::thread::current())
    }

    fn accept(client: &Client, number: u64) -> JobId {
        let packet = client.port.next_submission().expect("submitted");
        let job = JobId::new(client.task(), number);
        let decision = Decision::Accepted { job, slot: 0 };
        client.port.settle(packet, &Answer { task: client.task(), token: 1, decision });
        job
    }

    #[test]
    fn a_packet_of_the_wrong_shape_or_task_comes_back() {
        let (one, other) = (client(1), client(2));
        let mut packet = one.packet().expect("free");
        packet.inputs[0].push(0);
        let (mut packet, error) = one.submit(packet).expect_err("too long");
        assert_eq!(error, SubmitError::Shape { what: "inputs", given: vec![5], legal: vec![4] });
        packet.inputs[0].pop();
        let (packet, error) = other.submit(packet).expect_err("foreign");
        assert_eq!(error, SubmitError::Foreign { given: TaskId::new(1), legal: TaskId::new(2) });
        assert!(one.submit(packet).is_ok());
    }

    #[test]
    fn a_dropped_job_gives_its_packet_back_when_the_next_one_runs() {
        let client = client(1);
        for number in 0..2 {
            client.submit(client.packet().expect("two packets")).expect("room");
            accept(&client, number);
        }
        let second = JobId::new(client.task(), 1);
        let packet = client.port.packet_of(second).expect("its packet");
        assert_eq!(packet.job(), Some(second));
        let dropped = client.returned().expect("the first one").fate();
        let job = JobId::new(client.task(), 0);
        assert_eq!(dropped, Some(Fate::Ended { job, outcome: JobOutcome::Dropped }));
    }

    #[test]
    fn every_packet_comes_back_at_the_end() {
        let client = client(1);
        client.submit(client.packet().expect("free")).expect("room");
        let job = accept(&client, 0);
        client.submit(client.packet().expect("free")).expect("room");
        client.port.close();
        let fates =
            [client.returned(), client.returned()].map(|packet| packet.and_then(|packet| packet.fate()));
        let stopped = Fate::Ended { job, outcome: JobOutcome::Stopped };
        assert_eq!(fates, [Some(stopped), Some(Fate::Refused(Refusal::Stopping))]);
        assert!(client.packet().is_none(), "both packets are with the client");
    }

    #[test]
    fn a_packet_that_meets_the_end_comes_back() {
        let client = client(1);
        let packet = client.packet().expect("free");
        assert_eq!(client.port.check(&packet), Ok(()), "the run goes on");
        client.port.close();
        client.port.leave(packet).expect("room");
        let fate = client.returned().and_then(|packet| packet.fate());
        assert_eq!(fate, Some(Fate::Refused(Refusal::Stopping)));
    }

    #[test]
    fn a_closed_port_refuses() {
        let client = client(1);
        let packet = client.packet().expect("free");
        client.port.close();
        assert_eq!(client.submit(packet).expect_err("closed").1, SubmitError::Closed);
    }

    #[test]
    fn a_refusal_says_why() {
        let client = client(1);
        client.submit(client.packet().expect("free")).expect("room");
        let packet = client.port.next_submission().expect("submitted");
        let decision = Decision::Refused { reason: Refusal::TooEarly, legal_from: Time::new(5) };
        client.port.settle(packet, &Answer { task: client.task(), token: 1, decision });
        let fate = client.returned().and_then(|packet| packet.fate());
        assert_eq!(fate, Some(Fate::Refused(Refusal::TooEarly)));
    }
}
