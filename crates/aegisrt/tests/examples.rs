//! The examples, compiled and run: a policy and a planner of one's own are one file each, written against the public
//! interface, and nothing in the product knows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_cuda::kernel::{KernelLoader, reference};
use aegis_cuda::{Device, SimOptions};
use aegis_memory::{LowestOffsetFirst, MemoryError, MemoryPlan};
use aegis_sched::ReplayEnd;
use aegis_types::{Bytes, Nanos, TaskId};
use aegisrt::RuntimeError;
use aegisrt::config::{Fleet, WaitMode};
use aegisrt::inventory::Loaders;
use aegisrt::system::{Builder, System};

#[path = "../../aegis-context/tests/late/mod.rs"]
mod late;

#[path = "../examples/custom_planner.rs"]
#[expect(dead_code, reason = "its main is run by hand")]
mod custom_planner;

#[path = "../examples/custom_policy.rs"]
#[expect(dead_code, reason = "its main is run by hand")]
mod custom_policy;

/// Each example with the words by which the product would know it.
const EXAMPLES: [(&str, &[&str]); 2] = [
    ("custom_policy", &["ShortestBudgetFirst", "shortest-budget-first"]),
    ("custom_planner", &["ScratchFirst", "scratch-first", "Careless"]),
];

/// Whether the machine kept its pace is not asked: what was decided is.
#[test]
fn a_policy_of_ones_own_is_admitted_served_and_replayed() {
    let shown = custom_policy::rehearse(Nanos::from_millis(100)).expect("the light fleet is admitted");
    assert_eq!(shown.policy, "shortest-budget-first");
    assert_eq!(shown.replay.end, ReplayEnd::Identical);
    let completed: Vec<u64> = shown.tally.tasks().iter().map(|task| task.completed()).collect();
    assert_eq!(completed, [1, 1, 1], "one job of each task");
    // All three are released at one stamp: the one with the shortest budget has the largest number.
    assert_eq!(shown.order, [2, 1, 0].map(TaskId::new));
    assert!(shown.wcrt.is_sorted_by(|a, b| a >= b), "the shorter, the sooner: {:?}", shown.wcrt);
    let fifo = shown.wcrt_fifo[2].expect("admitted under fifo too");
    assert!(shown.wcrt[2] < fifo, "the shortest task gains: {} beside {fifo}", shown.wcrt[2]);
}

#[test]
fn a_planner_of_ones_own_is_verified() {
    let plan = custom_planner::plan(Box::new(custom_planner::ScratchFirst)).expect("it fits");
    assert_eq!(plan.parts().planner, "scratch-first");
    let scratch_end = plan.lanes().iter().filter_map(|lane| lane.extent.end()).max().expect("two lanes");
    let private = plan.tasks().iter().flat_map(|task| [task.persistent, task.exchange]);
    assert_eq!((plan.lanes().len(), plan.tasks().len()), (2, 3));
    assert!(private.filter(|extent| !extent.len.is_zero()).all(|extent| extent.offset >= scratch_end));
    assert_eq!(MemoryPlan::try_from(plan.parts().clone()), Ok(plan.clone()));
    let house = custom_planner::plan(Box::new(LowestOffsetFirst)).expect("it fits");
    assert_ne!(house.lanes(), plan.lanes(), "the planner of the house places scratch elsewhere");
}

#[test]
fn a_wrong_planner_is_refused_by_name() {
    let error = custom_planner::plan(Box::new(custom_planner::Careless)).expect_err("everything overlaps");
    let refused = error.downcast::<RuntimeError>().expect("the runtime's own error");
    let RuntimeError::Memory(MemoryError::Rejected { planner, .. }) = *refused else { panic!("{refused}") };
    assert_eq!(planner, "careless");
}

#[test]
fn each_example_is_one_file_that_brings_everything() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (name, words) in EXAMPLES {
        let text = read(&folder.join(format!("{name}.rs")));
        for word in words {
            assert!(text.contains(word), "{name}: `{word}` is not what the example is about");
        }
        for line in text.lines().map(str::trim_start) {
            let more = ["mod ", "pub mod ", "include!", "#[path", "extern crate", "macro_rules!"];
            assert!(!more.iter().any(|start| line.starts_with(start)), "{name}: `{line}` needs another file");
            if let Some(path) = line.strip_prefix("use ") {
                let root = path.split(':').next().unwrap_or_default();
                let known = matches!(root, "std" | "tempfile") || root.starts_with("aegis");
                assert!(known, "{name}: `{line}` needs more than the product and the standard library");
            }
        }
    }
}

/// A policy or planner that had to be registered somewhere would be named there.
#[test]
fn nothing_in_the_product_names_the_examples() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut examined = 0;
    for member in entries(&crates) {
        let mut files = vec![member.join("Cargo.toml")];
        below(&member.join("src"), &mut files);
        for file in files.iter().filter(|file| file.is_file()) {
            let text = read(file);
            examined += 1;
            for (name, words) in EXAMPLES {
                let found = words.iter().copied().chain([name]).find(|word| text.contains(word));
                assert_eq!(found, None, "{} names an example", file.display());
            }
        }
    }
    assert!(examined > 100, "only {examined} files were found under {}", crates.display());
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("a readable folder").path()).collect()
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.is_dir() {
            below(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The fleet for GPUs on a device of that shape: nothing is launched.
fn gpu_example() -> System {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gpu/fleet.toml");
    let fleet = Fleet::read(&path).expect("the example is legal");
    assert_eq!((fleet.tasks().len(), fleet.partitions().len(), fleet.wait()), (6, 2, WaitMode::Spin));
    let options =
        SimOptions { memory: fleet.memory().expect("it says"), units: 132, ..SimOptions::default() };
    let device = Arc::new(late::LateDevice::new(true, options));
    let shared: Arc<dyn Device> = Arc::<late::LateDevice>::clone(&device);
    let loaders = Loaders::default().with(Arc::new(KernelLoader::new()));
    let system = Builder::new(fleet).loaders(loaders).device(shared).build(|_| {});
    assert_eq!(device.operations(), [], "describing launches nothing");
    system.expect("every model is one of kernels")
}

#[test]
fn the_fleet_for_gpus_is_described_and_planned_without_one() {
    let system = gpu_example();
    let slots = vec![1; 6];
    let demands = system.demands(None, &slots).expect("every budget holds its task");
    let plan = system.plan(&demands, system.device().context().memory).expect("it fits into its memory");
    assert!(plan.peak() >= plan.lower_bound());
    for (model, demand) in system.models().iter().zip(&demands) {
        let (name, needs) = (&model.config.name, &model.description.memory);
        let io = model.io_plan(1).bytes(&model.description).expect("legal").expect("small").get();
        let cuts = model.description.graph.segments() as u64 - 1;
        assert_eq!(demand.exchange.get(), io + 4096 * cuts, "{name}: the state of a job crosses every cut");
        assert_eq!(
            demand.scratch_max(),
            needs.scratch.iter().flatten().copied().max().expect("declared"),
            "{name}"
        );
        let staging = system.staging(&slots).expect("it can be addressed")[model.task.index()].get();
        let all = demand.persistent.get() + demand.exchange.get() + demand.scratch_max().get() + staging;
        assert_eq!(all, model.config.budget.memory.get(), "{name}: nothing of the budget is left");
    }
    let staging = system.staging(&slots).expect("it can be addressed");
    for (model, staged) in system.models().iter().zip(&staging) {
        let io = model.io_plan(1).bytes(&model.description).expect("legal").expect("small");
        let state = !model.config.state.is_empty();
        assert!(
            !staged.is_zero() && (if state { *staged < io } else { *staged == io }),
            "{}",
            model.config.name
        );
    }
    // Twice the slots, twice the inputs: what is staged counts against the budget as much as what is on the device.
    let rest = |slots: u32| system.demands(None, &[slots; 6]).map(|demands| demands[0].persistent.get());
    let (one, three) = (rest(1).expect("it fits"), rest(3).expect("it fits"));
    let image = 3 * 160 * 160 * 4;
    assert_eq!(one - three, 2 * 2 * image, "two more slots, on the device and in staging");
    let error = rest(4_000).expect_err("too many slots").to_string();
    assert!(error.contains("budget.memory") && error.contains("of staging"), "{error}");
}

#[test]
fn models_of_the_fleet_for_gpus_answer_by_their_inputs() {
    for model in gpu_example().models() {
        let inputs = |job: u8| -> Vec<Vec<u8>> {
            let bytes = |spec: &aegis_cuda::TensorSpec| vec![job; spec.bytes.get() as usize];
            model.description.inputs.iter().map(bytes).collect()
        };
        let answers = |job: u8| reference(&model.request(), &inputs(job)).expect("it can be computed");
        let (one, two) = (answers(1), answers(2));
        let sizes: Vec<Bytes> = one.iter().map(|output| Bytes::new(output.len() as u64)).collect();
        let described: Vec<Bytes> = model.description.outputs.iter().map(|spec| spec.bytes).collect();
        assert_eq!(sizes, described, "{}", model.config.name);
        assert_ne!(one, two, "{}", model.config.name);
    }
}
