//! One thread that keeps graphs running on several streams, and what each launch took.

use std::sync::Arc;

use aegis_cuda::{CompletionFlag, Graph, HostClock, Stream};
use aegis_types::{DispatchSeq, Nanos, Time};

use super::super::error::ExperimentError;
use super::super::spread::Spread;
use crate::counting::count;

/// Launches at the beginning of a slice that are not counted: the thread comes from elsewhere.
const WARM_UP: u64 = 20;
/// Work that takes longer than this hangs.
const HANG: Nanos = Nanos::from_millis(2_000);

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// Both calls of a launch.
    pub(super) hold: Spread,
    /// From before the launch to the flag seen.
    pub(super) round: Spread,
}

impl Side {
    /// Adds another slice.
    pub(super) fn merge(&mut self, other: &Self) {
        self.hold.merge(&other.hold);
        self.round.merge(&other.round);
    }
}

/// A launch that is under way.
#[derive(Clone, Copy)]
struct Launched {
    begun: Time,
    held: Time,
}

/// A stream with its graphs, one for each size.
pub(super) struct Runner {
    graphs: Vec<Box<dyn Graph>>,
    stream: Box<dyn Stream>,
    flag: Arc<dyn CompletionFlag>,
    sequence: DispatchSeq,
    running: Option<Launched>,
}

impl Runner {
    /// A stream on which nothing is under way.
    pub(super) fn new(graphs: Vec<Box<dyn Graph>>, stream: Box<dyn Stream>) -> Self {
        let flag = stream.flag();
        Self { graphs, stream, flag, sequence: DispatchSeq::NONE, running: None }
    }

    /// Both calls of a launch.
    fn launch(&mut self, clock: &HostClock, size: usize) -> Result<(), ExperimentError> {
        self.sequence = self.sequence.next();
        let begun = clock.now();
        self.stream.replay(self.graphs[size].as_ref())?;
        self.stream.signal(self.sequence)?;
        self.running = Some(Launched { begun, held: clock.now() });
        Ok(())
    }

    /// The launch that has ended, if there is one; `now` is the time of the caller's last look.
    fn ended(&mut self, now: Time) -> Result<Option<Launched>, ExperimentError> {
        let Some(running) = self.running else { return Ok(None) };
        if self.flag.load() == self.sequence {
            self.running = None;
            return Ok(Some(running));
        }
        if now.since(running.begun) > HANG {
            let (what, seconds) = ("a graph with copies".to_owned(), HANG.get() / 1_000_000_000);
            return Err(ExperimentError::Hung { what, seconds });
        }
        Ok(None)
    }
}

/// Keeps every runner busy until `end`, and waits for what is under way then.
pub(super) fn keep_busy<'a>(
    runners: impl Iterator<Item = &'a mut Runner>,
    clock: &HostClock,
    size: usize,
    end: Time,
) -> Result<Side, ExperimentError> {
    let mut runners: Vec<&mut Runner> = runners.collect();
    for runner in &mut runners {
        runner.launch(clock, size)?;
    }
    let (mut side, mut open, mut seen) = (Side::default(), runners.len(), 0);
    while open > 0 {
        let now = clock.now();
        for runner in &mut runners {
            let Some(launched) = runner.ended(now)? else { continue };
            let at = clock.now();
            seen += 1;
            if seen > WARM_UP {
                side.hold.add(launched.held.since(launched.begun));
                side.round.add(at.since(launched.begun));
            }
            if at < end {
                runner.launch(clock, size)?;
            } else {
                open -= 1;
            }
        }
    }
    Ok(side)
}

/// How often both calls of `launches` launches, one after the other, took memory from the heap.
pub(super) fn allocations(
    runner: &mut Runner,
    clock: &HostClock,
    launches: u64,
) -> Result<u64, ExperimentError> {
    let mut total = 0;
    for number in 0..launches {
        let size = usize::from(number % 2 == 1);
        let (launched, allocated) = count(|| runner.launch(clock, size));
        launched?;
        total += allocated;
        while runner.ended(clock.now())?.is_none() {
            std::hint::spin_loop();
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::atomic::{AtomicU64, Ordering};

    use aegis_cuda::{DeviceError, DeviceSlice};
    use aegis_types::{LaneId, PartitionId};

    use super::*;

    /// A stream whose work is done `late` looks after its signal, and that counts its launches.
    struct Scripted {
        flag: Arc<ScriptedFlag>,
        replayed: Arc<AtomicU64>,
        refuses: bool,
    }

    #[derive(Default)]
    struct ScriptedFlag {
        stored: AtomicU64,
        looks: AtomicU64,
        late: u64,
    }

    struct ScriptedGraph;

    impl Graph for ScriptedGraph {
        fn operations(&self) -> usize {
            1
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    impl CompletionFlag for ScriptedFlag {
        fn load(&self) -> DispatchSeq {
            let looks = self.looks.fetch_add(1, Ordering::Relaxed);
            let stored = self.stored.load(Ordering::Relaxed);
            DispatchSeq::new(if looks < self.late { stored - 1 } else { stored })
        }
    }

    impl Stream for Scripted {
        fn lane(&self) -> LaneId {
            LaneId::new(0)
        }

        fn partition(&self) -> PartitionId {
            PartitionId::new(0)
        }

        fn copy(&mut self, _from: &DeviceSlice, _to: &DeviceSlice) -> Result<(), DeviceError> {
            Ok(())
        }

        fn signal(&mut self, seq: DispatchSeq) -> Result<(), DeviceError> {
            self.flag.stored.store(seq.get(), Ordering::Relaxed);
            self.flag.looks.store(0, Ordering::Relaxed);
            Ok(())
        }

        fn flag(&self) -> Arc<dyn CompletionFlag> {
            Arc::<ScriptedFlag>::clone(&self.flag)
        }

        fn synchronize(&mut self) -> Result<(), DeviceError> {
            Ok(())
        }

        fn replay(&mut self, _graph: &dyn Graph) -> Result<(), DeviceError> {
            self.replayed.fetch_add(1, Ordering::Relaxed);
            if self.refuses { Err(DeviceError::Unsupported { what: "a refusal" }) } else { Ok(()) }
        }

        fn as_any_mut(&mut self) -> &mut dyn Any {
            self
        }
    }

    fn scripted(late: u64, refuses: bool) -> (Runner, Arc<AtomicU64>) {
        let flag = Arc::new(ScriptedFlag { late, ..ScriptedFlag::default() });
        let replayed = Arc::new(AtomicU64::new(0));
        let stream = Scripted { flag, replayed: Arc::clone(&replayed), refuses };
        let graphs: Vec<Box<dyn Graph>> = vec![Box::new(ScriptedGraph), Box::new(ScriptedGraph)];
        (Runner::new(graphs, Box::new(stream)), replayed)
    }

    #[test]
    fn every_launch_is_waited_for_and_counted_after_the_first_ones() {
        let clock = HostClock::start();
        let (mut runners, replayed): (Vec<Runner>, Vec<_>) = (0..30).map(|n| scripted(n, false)).unzip();
        // The end is over: each is launched once.
        let side = keep_busy(runners.iter_mut(), &clock, 1, Time::ZERO).expect("nothing refuses");
        assert!(replayed.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        assert_eq!((side.hold.count(), side.round.count()), (30 - WARM_UP, 30 - WARM_UP));
        assert!(runners.iter().all(|runner| runner.running.is_none()), "something is under way");
        // The end is ahead: launched again and again, and nothing is lost or counted twice.
        let end = clock.now().saturating_add(Nanos::from_millis(5));
        let side = keep_busy(runners.iter_mut(), &clock, 0, end).expect("nothing refuses");
        let launches: u64 = replayed.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(side.round.count() + WARM_UP, launches - 30);
        assert!(side.round.max() >= side.hold.max());
    }

    #[test]
    fn refusals_and_hanging_work_end_a_slice() {
        let clock = HostClock::start();
        let (mut refusing, _) = scripted(0, true);
        let refused = keep_busy(std::iter::once(&mut refusing), &clock, 0, Time::ZERO);
        assert!(matches!(refused, Err(ExperimentError::Device(_))), "{refused:?}");
        let (mut slow, _) = scripted(u64::MAX, false);
        slow.launch(&clock, 0).expect("launched");
        let late = clock.now().saturating_add(HANG).saturating_add(Nanos::new(1));
        assert!(matches!(slow.ended(clock.now()), Ok(None)));
        assert!(matches!(slow.ended(late), Err(ExperimentError::Hung { .. })));
    }

    #[test]
    fn launches_whose_allocations_are_counted_come_one_after_the_other() {
        let (mut runner, replayed) = scripted(3, false);
        let allocated = allocations(&mut runner, &HostClock::start(), 11).expect("nothing refuses");
        assert_eq!((allocated, replayed.load(Ordering::Relaxed)), (0, 11));
        assert_eq!(runner.sequence, DispatchSeq::new(11));
    }
}
