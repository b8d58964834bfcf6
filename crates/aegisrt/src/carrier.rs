//! Carriers: one thread for each lane of a device whose work runs where it is launched.
//!
//! A carrier binds its lane, loads its models there (vendor libraries tie contexts to threads), says that it is ready,
//! and then serves its mailbox: wait, run, answer, signal. It decides nothing.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use aegis_context::{Lane, MemoryUse};
use aegis_cuda::{CompletionFlag, Device, HostClock};
use aegis_types::records::{SegmentOutcome, SegmentRan};
use aegis_types::{DispatchSeq, LaneId, Nanos, PartitionId, Record, Sink, Time};

use crate::error::RuntimeError;
use crate::mailbox::{Landing, Launch, Mailbox};
use crate::plant::LanePort;

/// What a carrier carries. Made on the carrier's thread and never leaves it.
pub trait Work {
    /// Runs what is launched, tells `ended` how it ended, and then stores the dispatch's number into the lane's
    /// completion flag: whoever sees the flag sees what `ended` wrote.
    fn run(&mut self, launch: &Launch, ended: &mut dyn FnMut(SegmentOutcome));

    /// Records what was loaded.
    fn loaded(&self, now: Time, sink: &mut dyn Sink);

    /// Compares what a segment took of memory and time with its task's budget, and records a breach.
    fn watch(&mut self, launch: &Launch, occupancy: Nanos, now: Time, sink: &mut dyn Sink);

    /// Gives everything back, and what was learned.
    fn finish(self: Box<Self>) -> LaneReport;
}

/// What a carrier learned while serving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneReport {
    /// Of each model of the lane.
    pub models: Vec<ModelReport>,
}

/// What a carrier learned of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReport {
    /// The task.
    pub task: aegis_types::TaskId,
    /// Memory in use at most.
    pub memory: MemoryUse,
    /// Outputs that were kept for comparison, by job number.
    pub outputs: Vec<(u64, Vec<Vec<u8>>)>,
    /// The last error of a segment that failed, for people.
    pub failure: Option<String>,
}

/// Makes the work of a lane, on the lane's thread.
pub type MakeWork = Box<dyn FnOnce(Lane) -> Result<Box<dyn Work>, RuntimeError> + Send>;

/// A lane to be carried.
pub struct LaneSpec {
    /// The lane.
    pub lane: LaneId,
    /// Its partition.
    pub partition: PartitionId,
    /// What it will carry.
    pub make: MakeWork,
    /// Where the carrier's records go.
    pub sink: Box<dyn Sink + Send>,
}

/// The carriers of a device. They end when the crew is joined.
pub struct Crew {
    members: Vec<Member>,
}

struct Member {
    lane: LaneId,
    mailbox: Arc<Mailbox>,
    flag: Arc<dyn CompletionFlag>,
    thread: JoinHandle<LaneReport>,
}

/// How long carriers that are ready may take to end when another cannot be started.
const LOAD_GRACE: Duration = Duration::from_secs(10);

type Ready = Result<Arc<dyn CompletionFlag>, RuntimeError>;

impl Crew {
    /// Starts a carrier for each lane and waits until all are ready. Models load one lane after the other, so that
    /// refusals and records come in the same order in every run. `driver` is woken when work lands.
    ///
    /// # Errors
    /// The first lane's error; the carriers already started have ended then, and gave everything back.
    pub fn start(
        device: &Arc<dyn Device>,
        clock: HostClock,
        driver: &Thread,
        lanes: Vec<LaneSpec>,
    ) -> Result<Self, RuntimeError> {
        let mut crew = Self { members: Vec::with_capacity(lanes.len()) };
        for spec in lanes {
            match start_member(Arc::clone(device), clock, driver.clone(), spec) {
                Ok(member) => crew.members.push(member),
                Err(error) => {
                    crew.join(LOAD_GRACE)?;
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    /// The lanes as the driver reaches them.
    pub fn ports(&self) -> Vec<LanePort> {
        self.members
            .iter()
            .map(|member| LanePort {
                mailbox: Arc::clone(&member.mailbox),
                flag: Arc::clone(&member.flag),
                carrier: member.thread.thread().clone(),
            })
            .collect()
    }

    /// Ends every carrier after the segment that it runs, and collects what was learned, by lane.
    ///
    /// # Errors
    /// [`RuntimeError::CarrierLost`] for the first lane whose carrier panicked or does not end within `grace`.
    pub fn join(mut self, grace: Duration) -> Result<Vec<LaneReport>, RuntimeError> {
        self.close();
        let last = Instant::now() + grace;
        let mut reports = Vec::with_capacity(self.members.len());
        for member in std::mem::take(&mut self.members) {
            while !member.thread.is_finished() && Instant::now() < last {
                std::thread::sleep(Duration::from_millis(1));
            }
            let lane = member.lane;
            if !member.thread.is_finished() {
                return Err(RuntimeError::CarrierLost { lane, reason: "its segment does not end".into() });
            }
            let report = member.thread.join();
            reports.push(
                report.map_err(|panic| RuntimeError::CarrierLost { lane, reason: panic_text(&*panic) })?,
            );
        }
        Ok(reports)
    }

    fn close(&self) {
        for member in &self.members {
            member.mailbox.close();
            member.thread.thread().unpark();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.close();
    }
}

/// Tells the driver if the carrier panics.
struct Obituary<'a> {
    mailbox: &'a Mailbox,
    driver: &'a Thread,
}

impl Drop for Obituary<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mailbox.mark_dead();
            self.driver.unpark();
        }
    }
}

fn start_member(
    device: Arc<dyn Device>,
    clock: HostClock,
    driver: Thread,
    spec: LaneSpec,
) -> Result<Member, RuntimeError> {
    let mailbox = Arc::new(Mailbox::default());
    let (tell, ready): (Sender<Ready>, Receiver<Ready>) = channel();
    let LaneSpec { lane, partition, make, mut sink } = spec;
    let post = Arc::clone(&mailbox);
    let thread = std::thread::Builder::new()
        .name(format!("aegis-{lane}"))
        .spawn(move || {
            let work =
                Lane::bind(device.as_ref(), partition, lane).map_err(RuntimeError::from).and_then(|lane| {
                    let flag = lane.flag();
                    make(lane).map(|work| (flag, work))
                });
            match work {
                Ok((flag, work)) => {
                    // The crew waits for this message and outlives it.
                    let _gone = tell.send(Ok(flag));
                    let _obituary = Obituary { mailbox: &post, driver: &driver };
                    serve(lane, work, &post, clock, &driver, sink.as_mut())
                }
                Err(error) => {
                    let _gone = tell.send(Err(error));
                    LaneReport::default()
                }
            }
        })
        .map_err(|error| RuntimeError::System { what: "starting a carrier", reason: error.to_string() })?;
    match ready.recv() {
        Ok(Ok(flag)) => Ok(Member { lane, mailbox, flag, thread }),
        Ok(Err(error)) => {
            let _report = thread.join();
            Err(error)
        }
        Err(_) => {
            let reason = match thread.join() {
                Ok(_) => "it ended without a word".to_owned(),
                Err(panic) => panic_text(&*panic),
            };
            Err(RuntimeError::CarrierLost { lane, reason })
        }
    }
}

/// Serves the mailbox until it is closed and empty.
fn serve(
    lane: LaneId,
    mut work: Box<dyn Work>,
    mailbox: &Mailbox,
    clock: HostClock,
    driver: &Thread,
    sink: &mut dyn Sink,
) -> LaneReport {
    let mut last = DispatchSeq::NONE;
    work.loaded(clock.now(), sink);
    loop {
        let Some(launch) = mailbox.take(last) else {
            if mailbox.is_closed() {
                return work.finish();
            }
            std::thread::park();
            continue;
        };
        last = launch.dispatch;
        let entered = clock.now();
        let mut left = entered;
        work.run(&launch, &mut |outcome| {
            left = clock.now();
            mailbox.land(Landing { outcome, entered, left });
        });
        driver.unpark();
        let Launch { job, segment, dispatch, .. } = launch;
        sink.emit(SegmentRan { job, lane, segment, dispatch, entered, left }.at(left));
        work.watch(&launch, left.since(entered), left, sink);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
