//! `aegis plan --svg`: where the plan of a fleet, or the placement of an instance, puts its bytes.

use aegis_memory::csv::Instance;
use aegis_memory::{LaneScratch, MemoryPlan, Placement, Problem, TaskShare};
use aegis_sched::TaskSet;
use aegis_types::Bytes;

use super::drawing::{Band, Block, Drawing, Fill};
use crate::cli::figures::size;
use crate::cli::verdict;

/// The plan of a fleet. Lanes run at the same time, so each has a band of its own, in which its tasks take turns; what
/// is exclusive goes across all bands. `segments` holds what each segment of each task needs, by task.
pub fn of_fleet(plan: &MemoryPlan, set: &TaskSet, segments: &[Vec<Bytes>]) -> Drawing {
    let mut picture = Drawing {
        title: format!("Memory plan: {} for {} models", size(plan.peak()), plan.tasks().len()),
        subtitle: "across all lanes: weights, and paler what is handed over; within a lane: scratch, one segment at \
                   a time"
            .to_owned(),
        across: "lanes, in each its tasks in turn, segment by segment".to_owned(),
        span: (0, 0),
        peak: plan.peak(),
        bound: plan.lower_bound(),
        bands: Vec::new(),
        blocks: Vec::new(),
        legend: plan.tasks().iter().map(|share| verdict::name(share.task, set)).collect(),
    };
    let mut used = Vec::new();
    for lane in plan.lanes() {
        let from = picture.span.1;
        for (colour, share) in plan.tasks().iter().enumerate().filter(|(_, share)| share.lane == lane.lane) {
            let whole = [share.shared];
            let needs = segments.get(share.task.index()).map_or(&whole[..], Vec::as_slice);
            // What was measured counts, and it is known of a task as a whole: a declaration is drawn only where it is
            // the reason for the size.
            let declared = needs.iter().max().and_then(|most| most.checked_align_up(plan.parts().align));
            let needs = if declared == Some(share.shared) { needs } else { &whole[..] };
            for (number, &need) in needs.iter().enumerate() {
                let at = picture.span.1;
                picture.span.1 += 1;
                used.push(turn(
                    &picture.legend[colour],
                    lane,
                    (at, number),
                    need.min(lane.extent.len),
                    colour,
                ));
            }
        }
        picture.bands.push(Band { from, to: picture.span.1, name: lane.lane.to_string() });
    }
    let (from, to) = picture.span;
    for lane in plan.lanes() {
        let words = format!("{}: scratch, {}", lane.lane, placed(lane.extent.offset, lane.extent.len));
        let (offset, len) = (lane.extent.offset, lane.extent.len);
        let label = String::new();
        picture.blocks.push(Block { from, to, offset, len, colour: 0, fill: Fill::Held, label, words });
    }
    for (colour, share) in plan.tasks().iter().enumerate() {
        picture.blocks.extend(exclusive(&picture.legend[colour], share, (from, to), colour));
    }
    picture.blocks.extend(used);
    picture.blocks.retain(|block| !block.len.is_zero());
    picture
}

/// What one segment uses of its lane's scratch: the first bytes of it.
fn turn(name: &str, lane: &LaneScratch, (at, number): (u64, usize), need: Bytes, colour: usize) -> Block {
    Block {
        from: at,
        to: at + 1,
        offset: lane.extent.offset,
        len: need,
        colour,
        fill: Fill::Solid,
        label: name.to_owned(),
        words: format!("{name}, segment {number}: scratch of {}, {}", lane.lane, size(need)),
    }
}

fn exclusive(name: &str, share: &TaskShare, (from, to): (u64, u64), colour: usize) -> [Block; 2] {
    let kinds = [(share.persistent, Fill::Solid, "persistent"), (share.exchange, Fill::Pale, "exchange")];
    kinds.map(|(extent, fill, kind)| Block {
        from,
        to,
        offset: extent.offset,
        len: extent.len,
        colour,
        fill,
        label: name.to_owned(),
        words: format!("{name}: {kind}, {}", placed(extent.offset, extent.len)),
    })
}

fn placed(offset: Bytes, len: Bytes) -> String {
    format!("{} at offset {}", size(len), offset.get())
}

/// The placement of single buffers, each for as long as it lives, with its gaps.
pub fn of_instance(
    instance: &Instance,
    problem: &Problem,
    placement: &Placement,
    [peak, bound]: [Bytes; 2],
) -> Drawing {
    let buffers = problem.buffers();
    let mut blocks = Vec::with_capacity(placement.placed.len());
    for place in &placement.placed {
        let Some(buffer) = buffers.get(place.buffer.index()) else { continue };
        let name = instance.name(buffer.id).map_or_else(|| buffer.id.to_string(), str::to_owned);
        let words = format!(
            "{name}: {} bytes at offset {}, from {} to {}",
            buffer.size.get(),
            place.offset.get(),
            buffer.lower,
            buffer.upper
        );
        let block = Block {
            from: buffer.lower,
            to: buffer.upper,
            offset: place.offset,
            len: buffer.size,
            colour: buffer.id.index(),
            fill: Fill::Solid,
            label: name,
            words,
        };
        let mut from = buffer.lower;
        // Gaps stand by buffer and time.
        let first = problem.gaps().partition_point(|gap| gap.buffer < buffer.id);
        for gap in problem.gaps()[first..].iter().take_while(|gap| gap.buffer == buffer.id) {
            blocks.push(Block { from, to: gap.lower, ..block.clone() });
            blocks.extend(gap.window.map(|(start, behind)| Block {
                from: gap.lower,
                to: gap.upper,
                offset: Bytes::new(place.offset.get().saturating_add(start.get())),
                len: behind.saturating_sub(start),
                ..block.clone()
            }));
            from = gap.upper;
        }
        blocks.push(Block { from, ..block });
    }
    blocks.retain(|block| block.from < block.to && !block.len.is_zero());
    Drawing {
        title: format!("Placement of {} buffers: {} bytes", buffers.len(), peak.get()),
        subtitle: String::new(),
        across: "instants".to_owned(),
        span: (
            buffers.iter().map(|buffer| buffer.lower).min().unwrap_or(0),
            buffers.iter().map(|buffer| buffer.upper).max().unwrap_or(1),
        ),
        peak,
        bound,
        bands: Vec::new(),
        blocks,
        legend: Vec::new(),
    }
}
