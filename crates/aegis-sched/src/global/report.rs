//! What one queue over the lanes of a partition could certify, beside what the lanes certify.

use std::fmt::{self, Write};

use aegis_types::Nanos;

use crate::analysis;
use crate::analysis::problem::LaneProblem;
use crate::policy::PolicyClass;

use super::{SharedQueue, Test, carry_in, density, response};

/// One, in millionths.
const ONE_PPM: u64 = 1_000_000;

/// The largest factor that is tried, in millionths.
const SCALE_MAX: u64 = 1 << 30;

/// A test for one queue over several servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharedTest {
    /// [`density::common_blocking`].
    CommonBlocking,
    /// [`density::own_blocking`].
    OwnBlocking,
    /// [`response::test`].
    Response,
    /// [`carry_in::test`].
    CarryIn,
}

impl SharedTest {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CommonBlocking, Self::OwnBlocking, Self::Response, Self::CarryIn];

    /// What it says of a queue.
    pub fn run(self, queue: &SharedQueue) -> Outcome {
        let test: Test = match self {
            Self::CommonBlocking => density::common_blocking,
            Self::OwnBlocking => density::own_blocking,
            Self::Response => response::test,
            Self::CarryIn => carry_in::test,
        };
        if queue.servers == 0 {
            return Outcome::NotApplicable { why: "a queue without servers" };
        }
        if queue.tasks.iter().any(|task| task.period.is_zero() || task.segments.is_empty()) {
            return Outcome::NotApplicable { why: "a task has no period or no segment" };
        }
        test(queue)
    }
}

impl fmt::Display for SharedTest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::CommonBlocking => "density, common blocking",
            Self::OwnBlocking => "density, own blocking",
            Self::Response => "response",
            Self::CarryIn => "response, limited carry-in",
        })
    }
}

/// What a sufficient test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every deadline is met, always.
    Certified,
    /// The test does not show it; another may.
    NotCertified,
    /// The test does not cover these tasks or this order.
    NotApplicable {
        /// What it asks for.
        why: &'static str,
    },
}

/// A test and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// The test.
    pub test: SharedTest,
    /// What it says of the tasks as they are.
    pub outcome: Outcome,
    /// A factor for all budgets, in millionths, at which it certifies all tasks, while one millionth more it does
    /// not; `None` where there is none.
    pub scale_ppm: Option<u64>,
}

/// One queue beside several: how much of the same tasks each certifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedQueueReport {
    /// Lanes, and servers of the shared queue.
    pub servers: u32,
    /// Whether every lane certifies its own tasks.
    pub lanes_certified: bool,
    /// As [`TestReport::scale_ppm`], for lanes with a queue each and the tasks where they are.
    pub lanes_scale_ppm: Option<u64>,
    /// What tests say of one queue.
    pub tests: Vec<TestReport>,
}

impl SharedQueueReport {
    /// The best factor that a test certifies for one queue.
    pub fn shared_scale_ppm(&self) -> Option<u64> {
        self.tests.iter().filter_map(|test| test.scale_ppm).max()
    }

    /// Whether some test certifies the tasks as they are for one queue.
    pub fn shared_certified(&self) -> bool {
        self.tests.iter().any(|test| test.outcome == Outcome::Certified)
    }

    /// In one line for people.
    pub fn describe(&self) -> String {
        let certified = |yes: bool| if yes { "certified" } else { "not certified" };
        let factor = |ppm: Option<u64>| {
            ppm.map_or_else(
                || "at no scale of budgets".to_owned(),
                |ppm| format!("up to {}.{:03} x the budgets", ppm / ONE_PPM, ppm % ONE_PPM / 1_000),
            )
        };
        let mut line = format!(
            "one queue per lane: {}, {}; one queue for {} lanes: {}, {}",
            certified(self.lanes_certified),
            factor(self.lanes_scale_ppm),
            self.servers,
            certified(self.shared_certified()),
            factor(self.shared_scale_ppm()),
        );
        let best =
            self.tests.iter().filter(|test| test.scale_ppm.is_some()).max_by_key(|test| test.scale_ppm);
        if let Some(best) = best {
            // Writing to a string does not fail.
            let _written = write!(line, " ({})", best.test);
        }
        line
    }
}

/// Why lanes cannot be looked at as one queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedQueueError {
    /// There are no lanes, or more than are counted.
    #[error("{lanes} lanes; legal is 1 to 65536")]
    Lanes {
        /// How many there are.
        lanes: usize,
    },
    /// Lanes order their jobs in different ways.
    #[error("lanes order by {first} and by {other}; legal is one order")]
    MixedClasses {
        /// The order of the first lane.
        first: PolicyClass,
        /// Another one.
        other: PolicyClass,
    },
    /// A lane's bounds are asked to cover overrun, which the tests for one queue do not.
    #[error("an overrun of {overrun}; legal is none")]
    Overrun {
        /// The overrun.
        overrun: Nanos,
    },
}

/// The most lanes that are looked at.
const LANES_MAX: usize = 1 << 16;

/// Compares the lanes of one partition, with a queue each, with one queue that all of them serve.
///
/// Budgets are taken as they are: they were charged for the same lanes running at once.
///
/// # Errors
/// [`SharedQueueError`] where the lanes are no queue.
pub fn shared_queue(lanes: &[LaneProblem]) -> Result<SharedQueueReport, SharedQueueError> {
    let queue = joined(lanes)?;
    let tests = SharedTest::ALL.into_iter().map(|test| {
        let outcome = test.run(&queue);
        let scale_ppm = if matches!(outcome, Outcome::NotApplicable { .. }) {
            None
        } else {
            largest_scale(|ppm| test.run(&scaled(&queue, ppm)) == Outcome::Certified)
        };
        TestReport { test, outcome, scale_ppm }
    });
    let fit = |ppm: u64| {
        lanes.iter().all(|lane| {
            let queue = SharedQueue { servers: 1, class: lane.class, tasks: lane.tasks.clone() };
            analysis::fits_soon(&LaneProblem { tasks: scaled(&queue, ppm).tasks, ..lane.clone() })
        })
    };
    Ok(SharedQueueReport {
        servers: queue.servers,
        lanes_certified: lanes.iter().all(analysis::fits),
        lanes_scale_ppm: largest_scale(fit),
        tests: tests.collect(),
    })
}

fn joined(lanes: &[LaneProblem]) -> Result<SharedQueue, SharedQueueError> {
    let outside = SharedQueueError::Lanes { lanes: lanes.len() };
    let Some(first) = lanes.first().filter(|_| lanes.len() <= LANES_MAX) else { return Err(outside) };
    let servers = u32::try_from(lanes.len()).map_err(|_| outside)?;
    for lane in lanes {
        if lane.class != first.class {
            return Err(SharedQueueError::MixedClasses { first: first.class, other: lane.class });
        }
        if !lane.overrun.is_zero() {
            return Err(SharedQueueError::Overrun { overrun: lane.overrun });
        }
    }
    let mut tasks: Vec<_> = lanes.iter().flat_map(|lane| lane.tasks.iter().cloned()).collect();
    tasks.sort_by_key(|task| task.id);
    Ok(SharedQueue { servers, class: first.class, tasks })
}

/// The tasks with all budgets times a factor, rounded up.
fn scaled(queue: &SharedQueue, ppm: u64) -> SharedQueue {
    let scale = |span: Nanos| {
        let product = (u128::from(span.get()) * u128::from(ppm)).div_ceil(u128::from(ONE_PPM));
        Nanos::new(u64::try_from(product).unwrap_or(u64::MAX))
    };
    let mut queue = queue.clone();
    for task in &mut queue.tasks {
        task.segments.iter_mut().for_each(|segment| *segment = scale(*segment));
    }
    queue
}

/// A factor that holds while the next millionth does not.
fn largest_scale(mut holds: impl FnMut(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, SCALE_MAX);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low > 0).then_some(low)
}
