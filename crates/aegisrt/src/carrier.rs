//! Carriers: the threads that own lanes.
//!
//! On a device whose work runs where it is launched there is one for each lane. On an asynchronous device one, the
//! launcher, carries all lanes but those that the fleet gives a carrier of their own: models whose launches take long
//! keep only lanes of their own carrier waiting. A carrier binds its lanes, loads their models there (vendor libraries tie
//! contexts to threads), says of each that it is ready, and then serves their mailboxes. It decides nothing. Where the fleet
//! lets the driver launch, its thread is the carrier of all lanes.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use aegis_context::{Lane, MemoryUse};
use aegis_cuda::{CompletionFlag, Device, HostClock};
use aegis_types::records::SegmentOutcome;
use aegis_types::{Bytes, LaneId, Nanos, PartitionId, Sink, Time};

use crate::config::LaunchMode;
use crate::driven::{Driven, Shared};
use crate::error::RuntimeError;
use crate::launcher::{Bridge, Carried, Launcher, Loss};
use crate::mailbox::{Launch, Mailbox};
use crate::plant::LanePort;
use crate::realtime::{self, Role};
use crate::stall::Gap;
use crate::waiting::Waiting;

/// What a carrier carries on one lane. Made on the carrier's thread and never leaves it.
pub trait Work {
    /// Runs what is launched, on an asynchronous device enqueues it; tells `ended` how that ended, and then stores the
    /// dispatch's number into the lane's completion flag, or enqueues the store: whoever sees the flag sees what
    /// `ended` wrote.
    fn run(&mut self, launch: &Launch, ended: &mut dyn FnMut(SegmentOutcome));

    /// The flag of an asynchronous device showed a launch that `run` ended as `outcome`: takes what it left to whoever
    /// wants it. The lane's next launch comes after this.
    fn landed(&mut self, launch: &Launch, outcome: SegmentOutcome) {
        let _nothing_is_left = (launch, outcome);
    }

    /// Finds out, without waiting, whether what is in flight can still end; [`lost`](Self::lost) tells.
    fn probe(&mut self) {}

    /// How long the carrier of an asynchronous device was busy with asking after `launch`, which the other lanes waited
    /// for. Apart from [`turned`](Self::turned), because a long segment is asked after often.
    fn asked(&mut self, launch: &Launch, took: Nanos) {
        let _nobody_counts = (launch, took);
    }

    /// Whether the device is done with everything that was enqueued, so that the lane may be given back after a loss;
    /// never waits. So is a device that is lost.
    fn settled(&mut self) -> bool {
        true
    }

    /// Why the lane will never land again, if that is so.
    fn lost(&self) -> Option<&str> {
        None
    }

    /// How long the carrier of an asynchronous device was busy with this lane in one visit, which the other lanes waited
    /// for; `launch` is the latest that it was busy with. Returns by how much that is longer than such visits usually are,
    /// where it is more than twice as long: the thread did not run all the time.
    fn turned(&mut self, launch: &Launch, turn: Nanos) -> Nanos {
        let _nobody_counts = (launch, turn);
        Nanos::ZERO
    }

    /// Records what was loaded.
    fn loaded(&self, now: Time, sink: &mut dyn Sink);

    /// Compares what a segment took of memory and time with its task's budget, and records a breach. On an asynchronous
    /// device `occupancy` ends when the carrier came to look, a visit to each other lane after the flag at most: what is
    /// recorded may be a breach that the engine, which looks at the flag, does not see.
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
    /// Memory of the device that loading it took besides its budget, as its backend saw it.
    pub outside: Bytes,
    /// On an asynchronous device the median of the carrier's visits to launch or to end a segment of the model,
    /// copies out of staging included, which the other lanes waited for; zero elsewhere. Not the longest visit: among
    /// many thousand that is one in which the thread did not run.
    pub turn: Nanos,
    /// Outputs that were kept for comparison, by job number.
    pub outputs: Vec<(u64, Vec<Vec<u8>>)>,
    /// The last error of a segment that failed, for people.
    pub failure: Option<String>,
    /// Whether some of its segments are launched by calls of their own where the device could replay graphs: that takes
    /// the carrier far longer, and may wait for the device.
    pub plain: bool,
    /// What its backend said of how it was loaded, for people.
    pub remarks: Vec<String>,
}

/// Makes the work of a lane, on the lane's thread.
pub type MakeWork = Box<dyn FnOnce(Lane) -> Result<Box<dyn Work>, RuntimeError> + Send>;

/// A lane to be carried.
pub struct LaneSpec {
    /// The lane.
    pub lane: LaneId,
    /// Its partition.
    pub partition: PartitionId,
    /// Whether an asynchronous device gives it a carrier of its own. Its partition is then a twin that no other carrier's
    /// lanes are bound to.
    pub own_carrier: bool,
    /// What it will carry.
    pub make: MakeWork,
    /// Where the carrier's records go.
    pub sink: Box<dyn Sink + Send>,
}

/// How carriers serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrewOptions {
    /// How they wait.
    pub waiting: Waiting,
    /// Whether they ask for the system's real-time class once everything is loaded.
    pub realtime: bool,
    /// Whether there are any on an asynchronous device; on others there always are.
    pub launch: LaunchMode,
}

/// The carriers of a device. They end when the crew is joined.
pub struct Crew {
    /// By lane.
    seats: Vec<Seat>,
    threads: Vec<Member>,
    /// What the driver carries itself.
    driven: Option<Shared>,
}

/// A lane of the crew.
struct Seat {
    lane: LaneId,
    port: LanePort,
}

impl Seat {
    /// Whether what was posted last did not land.
    fn is_flying(&self) -> bool {
        self.port.mailbox.take(self.port.flag.load()).is_some()
    }
}

/// A thread with its lanes.
struct Member {
    lanes: Vec<LaneId>,
    thread: JoinHandle<Result<Vec<LaneReport>, Loss>>,
}

/// A carrier while it loads.
struct Recruit {
    member: Member,
    gap: Arc<Gap>,
    /// Lets it load its next lane, and serve after the last. Without it, it gives back what it loaded and ends.
    go: Sender<()>,
    ready: Receiver<Ready>,
}

/// How long carriers that are ready may take to end when another cannot be started.
const LOAD_GRACE: Duration = Duration::from_secs(10);

type Ready = Result<Arc<dyn CompletionFlag>, RuntimeError>;

/// A lane to be carried, and where it is posted to.
type Posted = (LaneSpec, Arc<Mailbox>);

impl Crew {
    /// Starts the carriers of these lanes and waits until all are ready. Models load one lane after the other, in the order
    /// of `lanes` whoever carries them, so that refusals and records come in the same order in every run. `driver` is
    /// woken when work lands, unless it spins. Where the driver launches, the calling thread has to be the driver.
    ///
    /// # Errors
    /// The first lane's error; the carriers already started have ended then, and gave everything back.
    pub fn start(
        device: &Arc<dyn Device>,
        clock: HostClock,
        driver: &Thread,
        options: CrewOptions,
        lanes: Vec<LaneSpec>,
    ) -> Result<Self, RuntimeError> {
        let asynchronous = device.context().capabilities.asynchronous;
        if options.waiting.sleeps() {
            // Whoever opened the device need not be who drives it.
            let driver = driver.clone();
            device.set_waker(Arc::new(move || driver.unpark()));
        }
        let posts: Vec<Arc<Mailbox>> = lanes.iter().map(|_| Arc::default()).collect();
        if asynchronous && options.launch == LaunchMode::Driver {
            let (waiting, gap) = (options.waiting, Arc::default());
            let bridge = Bridge { clock, driver: None, waiting, asynchronous, gap, fellows: posts };
            return Self::on_this_thread(device.as_ref(), bridge, lanes);
        }
        let order: Vec<LaneId> = lanes.iter().map(|spec| spec.lane).collect();
        let mut recruits = Vec::new();
        for group in groups(lanes.into_iter().zip(posts.iter().cloned()), asynchronous) {
            // A device that is lost is lost for all lanes; a lane whose work runs on its own thread, for itself.
            let fellows = match asynchronous {
                true => posts.clone(),
                false => group.iter().map(|(_, mailbox)| Arc::clone(mailbox)).collect(),
            };
            let (driver, waiting, gap) = (Some(driver.clone()), options.waiting, Arc::default());
            let bridge = Bridge { clock, driver, waiting, asynchronous, gap, fellows };
            match hire(Arc::clone(device), bridge, options.realtime, group) {
                Ok(recruit) => recruits.push(recruit),
                Err(error) => return dismiss(recruits, error),
            }
        }
        let mut seats = Vec::with_capacity(order.len());
        for (lane, mailbox) in order.into_iter().zip(posts) {
            let carrier = recruits.iter().position(|recruit| recruit.member.lanes.contains(&lane));
            let number = carrier.expect("every lane is in one group");
            match recruits[number].load_next(lane) {
                Ok(flag) => {
                    let Recruit { member, gap, .. } = &recruits[number];
                    let (carrier, gap) = (member.thread.thread().clone(), Arc::clone(gap));
                    seats.push(Seat { lane, port: LanePort { mailbox, flag, carrier, gap } });
                }
                Err(Some(error)) => return dismiss(recruits, error),
                Err(None) => {
                    let reason = match recruits.swap_remove(number).member.thread.join() {
                        Ok(_) => "it ended without a word".to_owned(),
                        Err(panic) => panic_text(&*panic),
                    };
                    return dismiss(recruits, RuntimeError::CarrierLost { lane, reason });
                }
            }
        }
        let serve = |Recruit { member, go, .. }: Recruit| {
            // Whoever is gone by now says why when it is joined.
            let _gone = go.send(());
            member
        };
        Ok(Self { seats, threads: recruits.into_iter().map(serve).collect(), driven: None })
    }

    /// Loads the lanes on the calling thread, which drives and launches.
    fn on_this_thread(
        device: &dyn Device,
        bridge: Bridge,
        lanes: Vec<LaneSpec>,
    ) -> Result<Self, RuntimeError> {
        let (mut seats, mut carried) = (Vec::with_capacity(lanes.len()), Vec::with_capacity(lanes.len()));
        for (spec, mailbox) in lanes.into_iter().zip(bridge.fellows.iter().cloned()) {
            let lane = spec.lane;
            let loaded = load_lane(device, spec, Arc::clone(&mailbox))?;
            let (flag, gap) = (Arc::clone(&loaded.flag), Arc::clone(&bridge.gap));
            let port = LanePort { mailbox, flag, carrier: std::thread::current(), gap };
            seats.push(Seat { lane, port });
            carried.push(loaded);
        }
        let driven = Some(Rc::new(RefCell::new(Driven::new(carried, bridge))));
        Ok(Self { seats, threads: Vec::new(), driven })
    }

    /// What the driver carries itself.
    pub(crate) fn driven(&self) -> Option<Shared> {
        self.driven.clone()
    }

    /// The lanes as the driver reaches them.
    pub fn ports(&self) -> Vec<LanePort> {
        self.seats.iter().map(|seat| seat.port.clone()).collect()
    }

    /// Ends every carrier after the segments that are in flight, and collects what was learned, by lane.
    ///
    /// # Errors
    /// [`RuntimeError::CarrierLost`] for the first lane that was lost, whose carrier panicked, or whose segment does not
    /// end within `grace`.
    pub fn join(mut self, grace: Duration) -> Result<Vec<LaneReport>, RuntimeError> {
        self.close();
        let lost = |Loss { lane, reason }| RuntimeError::CarrierLost { lane, reason };
        if let Some(driven) = self.driven.take() {
            let grace = Nanos::new(u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX));
            return driven.borrow_mut().end(grace).map_err(lost);
        }
        let last = Instant::now() + grace;
        let mut reports = Vec::with_capacity(self.seats.len());
        let (mut gone, mut hung) = (None, None);
        for Member { lanes, thread } in std::mem::take(&mut self.threads) {
            let first = lanes.first().copied().unwrap_or_default();
            match ended(thread, last) {
                None => hung = hung.or(Some(self.flying_among(&lanes).unwrap_or(first))),
                Some(Ok(Ok(ended))) => reports.extend(lanes.into_iter().zip(ended)),
                Some(Ok(Err(loss))) => gone = gone.or(Some(loss)),
                Some(Err(panic)) => {
                    gone = gone.or(Some(Loss { lane: first, reason: panic_text(&*panic) }));
                }
            }
        }
        // A loss says more than another carrier's segment that does not end because of it.
        let hung = hung.map(|lane| Loss { lane, reason: Loss::ENDLESS.into() });
        if let Some(loss) = gone.or(hung) {
            return Err(lost(loss));
        }
        reports.sort_by_key(|(lane, _)| *lane);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// The first of these lanes on which something was posted and did not land.
    fn flying_among(&self, lanes: &[LaneId]) -> Option<LaneId> {
        let seats = self.seats.iter().filter(|seat| lanes.contains(&seat.lane));
        seats.into_iter().find(|seat| seat.is_flying()).map(|seat| seat.lane)
    }

    fn close(&self) {
        self.seats.iter().for_each(|seat| seat.port.mailbox.close());
        self.threads.iter().for_each(|member| member.thread.thread().unpark());
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.close();
        if let Some(driven) = self.driven.take() {
            // Nobody asked for the reports, but whoever submitted something waits for it.
            let _reports = driven.borrow_mut().end(Nanos::ZERO);
        }
    }
}

/// Lanes with their mailboxes, by carrier; every carrier's in their order.
fn groups(lanes: impl Iterator<Item = Posted>, asynchronous: bool) -> Vec<Vec<Posted>> {
    let (own, shared): (Vec<Posted>, Vec<Posted>) =
        lanes.partition(|(spec, _)| spec.own_carrier || !asynchronous);
    let own = own.into_iter().map(|lane| vec![lane]);
    std::iter::once(shared).filter(|group| !group.is_empty()).chain(own).collect()
}

/// Starts one carrier, which waits before it loads its first lane.
fn hire(
    device: Arc<dyn Device>,
    bridge: Bridge,
    realtime: bool,
    group: Vec<Posted>,
) -> Result<Recruit, RuntimeError> {
    let lanes: Vec<LaneId> = group.iter().map(|(spec, _)| spec.lane).collect();
    let (tell, ready): (Sender<Ready>, Receiver<Ready>) = channel();
    let (go, gone): (Sender<()>, Receiver<()>) = channel();
    let own = group.first().filter(|(spec, _)| spec.own_carrier).map(|(spec, _)| spec.lane);
    let name = match (bridge.asynchronous, own, lanes.first()) {
        (false, _, Some(lane)) => format!("aegis-{lane}"),
        (true, Some(lane), _) => format!("aegis-launcher-{lane}"),
        _ => "aegis-launcher".to_owned(),
    };
    let gap = Arc::clone(&bridge.gap);
    let carry = move || match load(device.as_ref(), group, &gone, &tell) {
        Some(lanes) => {
            realtime::enter(Role::Carrier, realtime);
            Launcher::new(lanes, bridge).serve()
        }
        None => Ok(Vec::new()),
    };
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(carry)
        .map_err(|error| RuntimeError::System { what: "starting a carrier", reason: error.to_string() })?;
    Ok(Recruit { member: Member { lanes, thread }, gap, go, ready })
}

impl Recruit {
    /// Lets it load `lane`, its next, and waits until it has.
    ///
    /// # Errors
    /// Its refusal; none if it ended without one.
    fn load_next(&self, lane: LaneId) -> Result<Arc<dyn CompletionFlag>, Option<RuntimeError>> {
        debug_assert!(self.member.lanes.contains(&lane), "{lane} is another carrier's");
        self.go.send(()).map_err(|_| None)?;
        match self.ready.recv() {
            Ok(loaded) => loaded.map_err(Some),
            Err(_) => Err(None),
        }
    }
}

/// Ends carriers that do not serve yet, and returns the error for which they do.
///
/// # Errors
/// `error`, or that a carrier does not end.
fn dismiss(recruits: Vec<Recruit>, error: RuntimeError) -> Result<Crew, RuntimeError> {
    let threads = recruits.into_iter().map(|recruit| recruit.member).collect();
    Crew { seats: Vec::new(), threads, driven: None }.join(LOAD_GRACE)?;
    Err(error)
}

/// How a thread ended, unless it goes on beyond `last`.
fn ended<T>(thread: JoinHandle<T>, last: Instant) -> Option<std::thread::Result<T>> {
    while !thread.is_finished() && Instant::now() < last {
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.is_finished().then(|| thread.join())
}

/// Binds and loads lanes in order on the calling thread, each when it is let, and tells of each; `None` after the first
/// refusal, or where nobody wants more.
fn load(
    device: &dyn Device,
    group: Vec<Posted>,
    go: &Receiver<()>,
    tell: &Sender<Ready>,
) -> Option<Vec<Carried>> {
    let mut carried = Vec::with_capacity(group.len());
    for (spec, mailbox) in group {
        go.recv().ok()?;
        // The crew waits for each message and outlives it.
        let _gone = match load_lane(device, spec, mailbox) {
            Ok(loaded) => {
                let flag = Arc::clone(&loaded.flag);
                carried.push(loaded);
                tell.send(Ok(flag))
            }
            Err(error) => {
                // What was loaded before is given back before the refusal is told.
                carried.clear();
                let _gone = tell.send(Err(error));
                return None;
            }
        };
    }
    go.recv().ok()?;
    Some(carried)
}

/// Binds a lane and loads its models on the calling thread.
fn load_lane(device: &dyn Device, spec: LaneSpec, mailbox: Arc<Mailbox>) -> Result<Carried, RuntimeError> {
    let LaneSpec { lane, partition, make, sink, .. } = spec;
    let bound = Lane::bind(device, partition, lane)?;
    let flag = bound.flag();
    Ok(Carried::new(lane, make(bound)?, mailbox, flag, sink))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
