//! Generated networks and fleets, read by those who have to: ONNX Runtime and the runtime's own configuration.
//!
//! What needs ONNX Runtime needs the folder named by `AEGIS_CACHE`, and says so where there is none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aegis_backend_onnx::{OnnxRuntime, Reference};
use aegis_benches::networks::fleets::{Costs, FLEETS, FleetPlan, Kind, Place, write};
use aegis_benches::networks::{DESIGNS, Precision, Size};
use aegis_cuda::{DeviceKind, TensorSpec};
use aegis_sched::Criticality;
use aegisrt::config::{BackendKind, Fleet};
use aegisrt::feed::Feed;

fn runtime() -> Option<OnnxRuntime> {
    let Some(cache) = std::env::var_os("AEGIS_CACHE") else {
        println!("skip: AEGIS_CACHE is not set");
        return None;
    };
    let library = PathBuf::from(cache).join("onnxruntime/libonnxruntime.so");
    Some(OnnxRuntime::load(&library).expect("the cache's library loads"))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// Each network runs, its outputs are numbers that depend on its input, and 16 bits say much the same as 32.
#[test]
fn every_network_runs_and_means_the_same_in_both_precisions() {
    let Some(runtime) = runtime() else { return };
    for design in &DESIGNS {
        let run = |precision, job: u64| -> Vec<Vec<f32>> {
            let made = design.make(Size::Tiny, precision, 5);
            let mut model = Reference::open(&runtime, &made.file, &BTreeMap::new())
                .unwrap_or_else(|error| panic!("{} {precision:?}: {error}", design.name));
            let named = |spec: &TensorSpec| (spec.name.clone(), spec.shape.clone());
            assert_eq!(model.inputs().iter().map(named).collect::<Vec<_>>(), made.inputs, "{}", design.name);
            let inputs = Feed::seeded(7, model.inputs()).sample(job).to_vec();
            let outputs = model.run_shaped(&inputs).expect("runs");
            let shapes: Vec<_> = outputs.iter().map(|output| output.shape.clone()).collect();
            let told: Vec<_> = made.outputs.iter().map(|(_, shape)| shape.clone()).collect();
            assert_eq!(shapes, told, "{}: shapes", design.name);
            outputs.iter().map(|output| floats(&output.bytes)).collect()
        };
        let [first, second] = [run(Precision::Fp32, 0), run(Precision::Fp32, 1)];
        assert_ne!(first, second, "{}: outputs depend on inputs", design.name);
        for (full, half) in first.iter().zip(&run(Precision::Fp16, 0)) {
            let largest = full.iter().fold(0f32, |most, value| most.max(value.abs()));
            assert!(largest.is_finite() && largest > 0.0, "{}: {largest}", design.name);
            let apart = full.iter().zip(half).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(apart <= 0.05 * largest, "{}: {apart} of {largest}", design.name);
        }
    }
}

fn place(kind: Kind, critical: u32) -> Place {
    let device = if kind == Kind::Host { DeviceKind::Host } else { DeviceKind::Cuda };
    Place {
        kind,
        backend: BackendKind::of(device).name().to_owned(),
        precision: Precision::Fp32,
        cores: vec![0, 1, 2],
        sms: 132,
        lanes: 4,
        critical,
    }
}

/// Every fleet on every kind of place is one that the runtime reads, with the tasks and chains of its table. Networks
/// are small here, because only the fleet is looked at.
#[test]
fn every_fleet_is_read_by_the_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    for plan in &FLEETS {
        let plan = FleetPlan { size: Size::Tiny, ..*plan };
        for (kind, critical) in [(Kind::Host, 0), (Kind::Host, 1), (Kind::Cuda, 0), (Kind::Cuda, 32)] {
            let target = "0.5".parse().expect("a utilisation");
            let written = write(&plan, &place(kind, critical), &Costs::default(), target, folder.path())
                .unwrap_or_else(|error| panic!("{}: {error}", plan.name));
            let fleet = Fleet::read(&written.fleet).unwrap_or_else(|error| panic!("{}: {error}", plan.name));
            assert_eq!((fleet.tasks().len(), fleet.chains().len()), (plan.roles.len(), plan.chains.len()));
            assert_eq!(fleet.partitions().len(), if critical > 0 { 2 } else { 1 });
            check_groups(&fleet, &plan);
            for (task, role) in fleet.tasks().iter().zip(plan.roles) {
                assert_eq!(task.name, role.name);
                assert!(task.model.is_file(), "{}", task.model.display());
                let apart = critical > 0 && task.criticality == Criticality::High;
                assert_eq!(task.partition.index(), usize::from(critical > 0 && !apart), "{}", role.name);
            }
        }
    }
}

/// The groups of the table, each with its share of all lanes and what its tasks are granted.
fn check_groups(fleet: &Fleet, plan: &FleetPlan) {
    assert_eq!(fleet.groups().len(), plan.groups.len(), "{}", plan.name);
    let lanes: u64 = fleet.partitions().iter().map(|partition| u64::from(partition.lanes)).sum();
    for (position, (group, written)) in fleet.groups().iter().zip(plan.groups).enumerate() {
        let own = fleet.tasks().iter().filter(|task| fleet.group_of(task) == Some(position));
        assert!(own.clone().all(|task| task.name.starts_with(&format!("{}.", group.name))), "{}", group.name);
        assert_eq!((group.name.as_str(), own.clone().count()), (written.name, 3));
        let granted: u64 = own.map(|task| task.budget.memory.get()).sum();
        assert_eq!(group.memory.map(aegis_types::Bytes::get), Some(granted));
        let (share, missed) = (lanes * u64::from(written.share) * 10_000, u64::from(written.missed) * 100);
        assert_eq!(group.utilisation.map(aegisrt::config::Share::ppm), Some(share));
        assert_eq!(group.miss_rate.map(aegisrt::config::Share::ppm), Some(missed));
    }
}

#[test]
fn a_place_that_cannot_be_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("fleet");
    let plan = FleetPlan { size: Size::Tiny, ..*FleetPlan::find("offline").expect("a fleet") };
    let check = |place: &Place, part: &str| {
        let target = "0.5".parse().expect("a utilisation");
        let error = write(&plan, place, &Costs::default(), target, &inside).expect_err("refused").to_string();
        assert!(error.contains(part) && error.contains("legal"), "{error}");
        assert!(!inside.exists(), "something was written");
    };
    check(&place(Kind::Host, 3), "3 units for critical tasks of 3");
    check(&Place { cores: Vec::new(), ..place(Kind::Host, 0) }, "without a core");
    check(&Place { lanes: 1, ..place(Kind::Cuda, 16) }, "without a lane for each partition");
}
