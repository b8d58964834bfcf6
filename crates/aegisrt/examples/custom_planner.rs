//! A memory planner of one's own, in one file: scratch lies at the lowest addresses, everything else above it.
//!
//! A planner is never trusted: the verifier judges every placement, so a wrong planner costs a refusal and never a byte
//! of somebody else's memory. The second planner below is wrong, and is refused.
//!
//! ```text
//! cargo run -p aegisrt --example custom_planner
//! ```

use std::cmp::Reverse;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::script::{Durations, ScriptedLoader};
use aegis_cuda::{SimClock, SimDevice, SimOptions};
use aegis_memory::{Buffer, MemoryError, MemoryPlan, Placed, Placement, Planner, Problem};
use aegis_types::{Bytes, MemoryClass};
use aegisrt::RuntimeError;
use aegisrt::config::Fleet;
use aegisrt::inventory::Loaders;
use aegisrt::system::Builder;

/// Scratch first, the largest buffer of a class before smaller ones, each at the lowest offset that is free for it:
/// what every job touches lies together, where a device may have its fastest pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScratchFirst;

impl Planner for ScratchFirst {
    fn name(&self) -> &str {
        "scratch-first"
    }

    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
        let mut order: Vec<&Buffer> = problem.buffers().iter().collect();
        let is_scratch = |buffer: &Buffer| buffer.class == MemoryClass::Scratch;
        order.sort_by_key(|buffer| {
            (buffer.fixed.is_none(), !is_scratch(buffer), Reverse(buffer.size), buffer.id)
        });
        let mut placed: Vec<(&Buffer, u64)> = Vec::with_capacity(order.len());
        for buffer in order {
            let offset = buffer.fixed.map_or_else(|| lowest(buffer, &placed), Bytes::get);
            placed.push((buffer, offset));
        }
        let peak = placed.iter().map(|(buffer, offset)| offset + buffer.size.get()).max().unwrap_or(0);
        let (peak, capacity) = (Bytes::new(peak), problem.capacity());
        if peak > capacity {
            return Err(MemoryError::NoPlacement { planner: self.name().into(), peak, capacity });
        }
        let entry =
            |(buffer, offset): (&Buffer, u64)| Placed { buffer: buffer.id, offset: Bytes::new(offset) };
        Ok(Placement { placed: placed.into_iter().map(entry).collect() })
    }
}

/// The lowest offset at which `buffer` meets nothing that it conflicts with. Sums stay in range: a [`Problem`] with
/// larger ones is refused when it is made.
fn lowest(buffer: &Buffer, placed: &[(&Buffer, u64)]) -> u64 {
    let size = buffer.size.get();
    let mut offset = 0u64;
    loop {
        let meets = |other: &Buffer, at: u64| at < offset + size && offset < at + other.size.get();
        let met = placed.iter().filter(|(other, at)| buffer.conflict(other).is_some() && meets(other, *at));
        match met.map(|(other, at)| at + other.size.get()).max() {
            Some(end) => offset = end.next_multiple_of(buffer.align.get()),
            None => return offset,
        }
    }
}

/// Puts everything at the same place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Careless;

impl Planner for Careless {
    fn name(&self) -> &str {
        "careless"
    }

    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
        let at_zero = |buffer: &Buffer| Placed { buffer: buffer.id, offset: Bytes::ZERO };
        Ok(Placement { placed: problem.buffers().iter().map(at_zero).collect() })
    }
}

/// Two partitions of one lane each: two models share the scratch of the first, the third has its own.
fn fleet(folder: &Path) -> Result<Fleet, Box<dyn Error>> {
    let mut text = String::from(
        "[device]\nkind = \"sim\"\n[[partition]]\nname = \"audio\"\nsms = 1\n[[partition]]\nname = \"vision\"\n\
         sms = 1\n[policy]\nkind = \"edf\"\n",
    );
    let models = [
        ("voice", "audio", "96KiB", "16KiB"),
        ("keyword", "audio", "48KiB", "4KiB"),
        ("detector", "vision", "512KiB", "256KiB"),
    ];
    for (name, partition, memory, scratch) in models {
        let script = format!(
            "script 1\ninput x f32 1x64\noutput y f32 1x8\nweights 8KiB\nscratch {scratch}\nsegment 1ms\nend\n"
        );
        std::fs::write(folder.join(format!("{name}.script")), script)?;
        text += &format!(
            "[[task]]\nname = \"{name}\"\nmodel = \"{name}.script\"\nbackend = \"script\"\nperiod = \"20ms\"\n\
             partition = \"{partition}\"\nbudget = {{ memory = \"{memory}\" }}\n"
        );
    }
    Ok(Fleet::parse(&folder.join("fleet.toml"), &text)?)
}

/// Plans the fleet with a planner.
///
/// # Errors
/// What fleet or device refuse; what the verifier finds wrong with the placement.
pub fn plan(planner: Box<dyn Planner>) -> Result<MemoryPlan, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let memory = Bytes::new(4 << 20);
    let options = SimOptions { units: 2, granularity: 1, memory, lanes: 2, slowdown: Vec::new() };
    let system = Builder::new(fleet(folder.path())?)
        .loaders(Loaders::default().with(Arc::new(ScriptedLoader::new(Durations::Longest))))
        .device(Arc::new(SimDevice::new(options, SimClock::new())?))
        .planner(planner)
        .build(|_| {})?;
    let demands = system.demands(None, &vec![1; system.models().len()])?;
    Ok(system.plan(&demands, memory)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let plan = plan(Box::new(ScratchFirst))?;
    println!("{}: {} of {} planned and verified", plan.parts().planner, plan.peak(), plan.parts().capacity);
    for lane in plan.lanes() {
        println!("{} scratch     {} at {}", lane.lane, lane.extent.len, lane.extent.offset);
    }
    for task in plan.tasks() {
        let (persistent, exchange) = (task.persistent, task.exchange);
        println!(
            "{} persistent  {} at {}, exchange {} at {}",
            task.task, persistent.len, persistent.offset, exchange.len, exchange.offset
        );
    }
    match self::plan(Box::new(Careless)).map_err(|error| error.downcast::<RuntimeError>()) {
        Err(Ok(refused)) => println!("careless: {refused}"),
        other => return Err(format!("a careless plan must be refused: {other:?}").into()),
    }
    Ok(())
}
