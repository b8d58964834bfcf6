//! Another planner in one file, and what a wrong one costs.

use aegis_memory::{
    Demand, Fault, LowestOffsetFirst, MemoryError, MemoryOrchestrator, Placed, Placement, Planner, Problem,
};
use aegis_types::{Bytes, LaneId, Severity, TaskId};

/// Downwards from the capacity, in the order of the numbers, with a gap before each buffer.
struct FromTheTop;

impl Planner for FromTheTop {
    fn name(&self) -> &str {
        "from-the-top"
    }

    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
        let mut top = problem.capacity().get();
        let mut placed = Vec::new();
        for buffer in problem.buffers() {
            let align = buffer.align.get();
            top = top.saturating_sub(buffer.size.get() + align) / align * align;
            placed.push(Placed { buffer: buffer.id, offset: Bytes::new(top) });
        }
        Ok(Placement { placed })
    }
}

/// Everything at offset zero.
struct AllAtZero;

impl Planner for AllAtZero {
    fn name(&self) -> &str {
        "all-at-zero"
    }

    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
        let at_zero = |buffer: &aegis_memory::Buffer| Placed { buffer: buffer.id, offset: Bytes::ZERO };
        Ok(Placement { placed: problem.buffers().iter().map(at_zero).collect() })
    }
}

fn fleet() -> Vec<Demand> {
    (0..4u16)
        .map(|number| Demand {
            task: TaskId::new(number),
            lane: LaneId::new(number % 2),
            persistent: Bytes::new(1000),
            exchange: Bytes::new(100),
            scratch: vec![Bytes::new(300), Bytes::new(700)],
        })
        .collect()
}

#[test]
fn any_planner_will_do() {
    let capacity = Bytes::new(20_000);
    let house = MemoryOrchestrator::new().plan(&fleet(), capacity, &LowestOffsetFirst).expect("fits");
    let other = MemoryOrchestrator::new().plan(&fleet(), capacity, &FromTheTop).expect("fits");
    assert_eq!(house.lower_bound(), other.lower_bound());
    assert_eq!(house.peak(), house.lower_bound());
    assert!(other.peak() > house.peak(), "it starts at the top");
    // The gaps are charged to those above them, so the charges of any plan add up to its peak.
    for plan in [house, other] {
        let tasks = plan.tasks().iter().map(|share| share.private.get());
        let lanes = plan.lanes().iter().map(|lane| lane.charged.get());
        assert_eq!(tasks.chain(lanes).sum::<u64>(), plan.peak().get());
    }
}

#[test]
fn a_wrong_planner_costs_a_refusal() {
    let error =
        MemoryOrchestrator::new().plan(&fleet(), Bytes::new(20_000), &AllAtZero).expect_err("illegal");
    let MemoryError::Rejected { planner, fault } = &error else { panic!("{error}") };
    assert_eq!(planner, "all-at-zero");
    assert!(matches!(**fault, Fault::Overlap { .. }), "{fault}");
    assert_eq!(error.severity(), Severity::Permanent);
}
