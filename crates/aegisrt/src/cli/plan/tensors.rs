//! `aegis plan --tensors`: what the scratch of each model would take if a plan placed every tensor inside it.
//!
//! Backends that take memory ask for a block or for one tensor after the other, and none accepts offsets, so tasks run
//! with one opaque block each. This shows what that costs. Tasks of a lane run one at a time, so that a lane needs as
//! much as the largest of them, and lanes run at once, so that their needs add up.

use std::collections::BTreeMap;

use aegis_backend_onnx::segment::Lifetimes;
use aegis_memory::verify::check_placement;
use aegis_memory::{Buffer, BufferId, Goal, MemoryError, MemoryPlan, Problem, Search, TaskShare};
use aegis_types::{Bytes, LaneId, MemoryClass};
use serde_json::{Value, json};

use super::super::answer::CliError;
use super::super::figures::{percent, size};
use super::super::setup::Setup;
use super::super::table::Grid;
use crate::error::RuntimeError;
use crate::inventory::Model;

/// How far the search for one model's placement goes, in decisions, and in how many at a time.
const NODES: u64 = 200_000;
const STEP: u64 = 1_000;

/// Room for the tensors of one model: what they take is asked, not whether they fit.
const AMPLE: Bytes = Bytes::new(1 << 62);

/// One task's tensors.
struct Row {
    name: String,
    lane: LaneId,
    /// What the plan gives it as one block.
    block: Bytes,
    placed: Option<Placed>,
}

/// Tensors that were placed and verified.
struct Placed {
    nodes: usize,
    tensors: usize,
    open: usize,
    total: Bytes,
    bound: Bytes,
    peak: Bytes,
}

/// The table, for people and for programs.
pub struct Tensors {
    rows: Vec<Row>,
    /// Whether blocks were measured; they are as large as budgets allow otherwise.
    measured: bool,
}

impl Tensors {
    /// Takes every model apart and places its tensors.
    ///
    /// # Errors
    /// What the library refuses, and [`MemoryError`] if a placement is illegal.
    pub fn of(setup: &Setup, plan: &MemoryPlan) -> Result<Self, CliError> {
        let row = |share: &TaskShare| {
            let model = &setup.system.models()[share.task.index()];
            let placed = placed(setup, model, plan.parts().align)?;
            Ok(Row { name: model.config.name.clone(), lane: share.lane, block: share.shared, placed })
        };
        let rows = plan.tasks().iter().map(row).collect::<Result<_, CliError>>()?;
        Ok(Self { rows, measured: setup.profile.is_some() })
    }

    /// For each lane its largest block, and the largest need with tensors placed: of its tasks whose tensors are known
    /// that, of the others the block.
    fn lanes(&self) -> BTreeMap<LaneId, (Bytes, Bytes)> {
        let mut lanes = BTreeMap::new();
        for row in &self.rows {
            let tensors = row.placed.as_ref().map_or(row.block, |placed| placed.peak);
            let (block, placed) = lanes.entry(row.lane).or_insert((Bytes::ZERO, Bytes::ZERO));
            *block = row.block.max(*block);
            *placed = tensors.max(*placed);
        }
        lanes
    }

    /// For people.
    pub fn text(&self) -> String {
        let header =
            ["task", "lane", "nodes", "tensors", "all at once", "lower bound", "placed", "one block"];
        let mut tasks = Grid::new(2, &header);
        for row in &self.rows {
            let dash = || "-".to_owned();
            let cells = row.placed.as_ref().map_or_else(
                || vec![dash(), dash(), dash(), dash(), dash()],
                |it| {
                    let counts = [it.nodes.to_string(), it.tensors.to_string()];
                    counts.into_iter().chain([it.total, it.bound, it.peak].map(size)).collect()
                },
            );
            tasks.row([vec![row.name.clone(), row.lane.to_string()], cells, vec![size(row.block)]].concat());
        }
        let mut lanes = Grid::new(1, &["lane", "one block", "tensors placed"]);
        let (mut blocks, mut placed) = (0u64, 0u64);
        for (lane, (block, tensors)) in self.lanes() {
            lanes.row([lane.to_string(), size(block), size(tensors)]);
            blocks = blocks.saturating_add(block.get());
            placed = placed.saturating_add(tensors.get());
        }
        let saved = blocks.saturating_sub(placed);
        format!(
            "\n{}\n{}\njoint plan   {} of scratch with every tensor placed, {} with one block for each task: {} less\n\
             {}{}note: no backend here accepts a plan of tensors, so every task runs with its block\n",
            tasks.text(),
            lanes.text(),
            size(Bytes::new(placed)),
            size(Bytes::new(blocks)),
            percent(saved, blocks),
            self.open_text(),
            if self.measured { "" } else { "note: blocks were not measured, and are what budgets allow\n" },
        )
    }

    fn open_text(&self) -> String {
        let open = self.rows.iter().filter_map(|row| Some((row, row.placed.as_ref()?.open)));
        let lines = open.filter(|(_, open)| *open > 0).map(|(row, open)| {
            format!(
                "note: {open} tensors of `{}` are not counted, because a job's data decide their size\n",
                row.name
            )
        });
        lines.collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let task = |row: &Row| {
            json!({
                "task": row.name, "lane": row.lane.get(), "block_bytes": row.block.get(),
                "tensors": row.placed.as_ref().map(|it| json!({
                    "nodes": it.nodes, "count": it.tensors, "open": it.open, "total_bytes": it.total.get(),
                    "lower_bound_bytes": it.bound.get(), "placed_bytes": it.peak.get(),
                })),
            })
        };
        let lane = |(lane, (block, placed)): (LaneId, (Bytes, Bytes))| json!({ "lane": lane.get(), "block_bytes": block.get(), "placed_bytes": placed.get() });
        json!({
            "accepted": false, "measured": self.measured,
            "tasks": self.rows.iter().map(task).collect::<Vec<_>>(),
            "lanes": self.lanes().into_iter().map(lane).collect::<Vec<_>>(),
        })
    }
}

/// The tensors of one model, placed; `None` where no library takes it apart.
fn placed(setup: &Setup, model: &Model, align: Bytes) -> Result<Option<Placed>, CliError> {
    let library =
        setup.libraries.onnx().filter(|_| model.loader.name() == crate::config::BackendKind::Onnx.name());
    let Some(library) = library else { return Ok(None) };
    let lifetimes = Lifetimes::of(library, &model.request()).map_err(RuntimeError::from)?;
    let problem = problem(&lifetimes, model, align)?;
    let mut search = Search::new(&problem, Goal::Least, 0);
    while search.nodes() < NODES && !search.step(STEP) {}
    let rejected = |fault| MemoryError::Rejected { planner: "search".to_owned(), fault: Box::new(fault) };
    let peak = check_placement(&problem, &search.placement()).map_err(rejected)?;
    Ok(Some(Placed {
        nodes: lifetimes.nodes,
        tensors: lifetimes.tensors.len(),
        open: lifetimes.open.len(),
        total: lifetimes.total(),
        bound: problem.lower_bound(),
        peak,
    }))
}

/// The tensors of one model as buffers, sizes rounded up as an arena's are.
fn problem(lifetimes: &Lifetimes, model: &Model, align: Bytes) -> Result<Problem, MemoryError> {
    let overflow = || MemoryError::Overflow { place: model.config.name.clone() };
    let buffers = (0..).map(BufferId).zip(&lifetimes.tensors).map(|(id, tensor)| {
        Ok(Buffer {
            id,
            size: tensor.bytes.checked_align_up(align).ok_or_else(overflow)?,
            align,
            lower: tensor.from,
            upper: tensor.to,
            owner: model.task,
            lane: LaneId::new(0),
            class: MemoryClass::Scratch,
            fixed: None,
        })
    });
    Problem::new(buffers.collect::<Result<_, MemoryError>>()?, AMPLE)
}
