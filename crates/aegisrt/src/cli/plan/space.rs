//! What sharing is worth with each number of lanes.

use aegis_memory::{LaneCount, MemoryPlan, lane_counts};
use aegis_types::Bytes;
use serde_json::json;

use super::super::figures::{percent, size};
use super::super::table::Grid;
use crate::config::Fleet;

/// What a partition's scratch takes with each number of lanes in use.
struct Spread {
    partition: String,
    private: Bytes,
    counts: Vec<LaneCount>,
}

/// The partitions where the lanes of all tasks are open and there is more than one. Where a lane is fixed, the plan
/// above says what it costs.
fn spreads(plan: &MemoryPlan, fleet: &Fleet) -> Vec<Spread> {
    let fixed = fleet.fixed_lanes();
    let mut found = Vec::new();
    for (index, partition) in (0u16..).zip(fleet.partitions()) {
        let id = aegis_types::PartitionId::new(index);
        let lanes = fleet.lanes_of(id).len();
        let inside: Vec<usize> =
            (0..fleet.tasks().len()).filter(|&task| fleet.tasks()[task].partition == id).collect();
        let open = inside.iter().all(|&task| fixed.get(task).is_some_and(Option::is_none));
        if lanes < 2 || inside.len() < 2 || !open {
            continue;
        }
        let shares = plan.tasks().iter().filter(|share| inside.contains(&share.task.index()));
        let needs: Vec<Bytes> = shares.map(|share| share.shared).collect();
        let private = needs.iter().fold(0u64, |sum, need| sum.saturating_add(need.get()));
        let counts = lane_counts(&needs, lanes);
        found.push(Spread { partition: partition.name.clone(), private: Bytes::new(private), counts });
    }
    found
}

/// A table of what sharing is worth with each number of lanes; nothing where no lanes are open.
pub fn lanes_text(plan: &MemoryPlan, fleet: &Fleet) -> String {
    let mut grid = Grid::new(1, &["partition", "lanes in use", "scratch from", "to", "saved from", "to"]);
    let spreads = spreads(plan, fleet);
    for Spread { partition, private, counts } in &spreads {
        for LaneCount { lanes, least, most } in counts {
            let saved = |taken: &Bytes| percent(private.saturating_sub(*taken).get(), private.get());
            grid.row([
                partition.clone(),
                lanes.to_string(),
                size(*least),
                size(*most),
                saved(most),
                saved(least),
            ]);
        }
    }
    if spreads.is_empty() { String::new() } else { format!("\n{}", grid.text()) }
}

/// For programs.
pub fn lanes_json(plan: &MemoryPlan, fleet: &Fleet) -> serde_json::Value {
    let spread = |Spread { partition, private, counts }: Spread| {
        let count = |count: &LaneCount| json!({ "lanes": count.lanes, "least_bytes": count.least.get(), "most_bytes": count.most.get() });
        json!({
            "partition": partition, "private_bytes": private.get(),
            "scratch": counts.iter().map(count).collect::<Vec<_>>(),
        })
    };
    spreads(plan, fleet).into_iter().map(spread).collect()
}
