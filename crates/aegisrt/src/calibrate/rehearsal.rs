//! Models that keep an asynchronous device busy while the runtime itself is measured: on every lane a few, of lengths
//! that differ, so that lanes never fall into step.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use aegis_cuda::kernel::KernelLoader;
use aegis_cuda::{BackendLoader, DeviceContext, Units};

use crate::config::{BackendKind, Fleet};
use crate::error::RuntimeError;
use crate::inventory::{self, Loaders};
use crate::system::System;

/// What is rehearsed with.
#[derive(Clone)]
pub struct Rehearsal {
    /// What runs the models.
    pub loader: Arc<dyn BackendLoader>,
    /// A model of one segment that does nothing: what it takes is the floor under every launch.
    pub floor: String,
    /// Models that go round on every lane, each with small inputs and outputs.
    pub busy: Vec<String>,
}

/// Inputs and outputs of 4 KiB each, so that a launch copies as a small network's does.
const EDGES: &str = "kernel 1\ninput x f32 1024\noutput y f32 1024\n";

/// Memory that each model is granted: far more than a model with 4 KiB of inputs and outputs takes.
const BUDGET: &str = "2MiB";

impl Rehearsal {
    /// Kernels of the built-in workload: they wait for the device's clock, compute on as many multiprocessors as there
    /// are, and launch a chain of small ones.
    pub fn kernels(device: &DeviceContext) -> Self {
        let model = |steps: &str| format!("{EDGES}segment\n{steps}\nend\n");
        let blocks = device.units.max(1);
        Self {
            loader: Arc::new(KernelLoader::new()),
            floor: "kernel 1\ninput x u32 16\noutput y u32 16\nsegment\nstorm 1\nend\n".to_owned(),
            busy: vec![
                model("hold 30us"),
                model(&format!("compute blocks={blocks} threads=256 rounds=200 repeat=4")),
                model("hold 70us"),
                model("storm 12"),
            ],
        }
    }

    /// The system beside `system`, on the same device and partitions, with [`busy`](Self::busy) on every lane.
    ///
    /// # Errors
    /// What the loader refuses of its own models.
    pub fn system(&self, system: &System) -> Result<System, RuntimeError> {
        let fleet = Fleet::parse(Path::new("calibration"), &self.fleet(system.fleet()))?;
        let loaders = Loaders::default().with(Arc::clone(&self.loader));
        let artifact = |task: &crate::config::TaskConfig| {
            let position = task.model.to_str().and_then(|number| number.parse::<usize>().ok());
            let text = position.and_then(|position| self.busy.get(position));
            text.map(|text| text.clone().into_bytes()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        };
        let models = inventory::inspect_with(&fleet, &loaders, |_| {}, artifact)?;
        Ok(system.beside(fleet, models))
    }

    /// The partitions of the fleet, and on each of their lanes a task for each model. Nothing is released: periods
    /// mean nothing.
    fn fleet(&self, fleet: &Fleet) -> String {
        let device = fleet.device_config();
        let mut text = format!("[device]\nkind = \"{}\"\n[policy]\nkind = \"edf\"\n", device.word());
        let backend = BackendKind::of(device.kind).name();
        for partition in fleet.partitions() {
            let units = match &partition.units {
                Units::Count(count) => format!("sms = {count}"),
                Units::These(cores) => format!("cores = {cores:?}"),
            };
            let (name, lanes, own) = (&partition.name, partition.lanes, &partition.own_carriers);
            // Writing into a text cannot fail.
            let _ok = write!(
                text,
                "[[partition]]\nname = \"{name}\"\n{units}\nlanes = {lanes}\nown_carriers = {own:?}\n"
            );
        }
        for (position, partition) in fleet.partitions().iter().enumerate() {
            for (lane, model) in
                (0..partition.lanes).flat_map(|lane| (0..self.busy.len()).map(move |m| (lane, m)))
            {
                let _ok = write!(
                    text,
                    "[[task]]\nname = \"{position}-{lane}-{model}\"\nmodel = \"{model}\"\nbackend = \"{backend}\"\nperiod = \"1s\"\n\
                     partition = \"{}\"\nlane = {lane}\nbudget = {{ memory = \"{BUDGET}\" }}\n",
                    partition.name
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aegis_cuda::{Capabilities, DeviceKind, ModelRequest};
    use aegis_types::Bytes;

    use super::*;

    /// Names of partitions may be as long as names of tasks, and differ only at the end.
    #[test]
    fn every_lane_of_any_partitions_has_every_model() {
        let named = |name: &str| format!("[[partition]]\nname = \"{name}\"\nsms = 2\nlanes = 2\n");
        let long = "p".repeat(63);
        let (one, other) = (named(&format!("{long}1")), named(&format!("{long}2")));
        let text = format!(
            "[device]\nkind = \"sim\"\n[policy]\nkind = \"edf\"\n{one}{other}[[task]]\nname = \"t\"\nmodel = \"m\"\n\
             backend = \"script\"\nperiod = \"1s\"\npartition = \"{long}1\"\nbudget = {{ memory = \"1MiB\" }}\n"
        );
        let fleet = Fleet::parse(Path::new("fleet.toml"), &text).expect("it is legal");
        let (loader, busy) = (Arc::new(KernelLoader::new()), vec![String::new(); 3]);
        let rehearsal = Rehearsal { loader, floor: String::new(), busy };
        let made = Fleet::parse(Path::new("calibration"), &rehearsal.fleet(&fleet)).expect("names differ");
        let mut lanes: Vec<_> = made.fixed_lanes().into_iter().flatten().map(|lane| lane.get()).collect();
        lanes.sort_unstable();
        assert_eq!(lanes, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    /// On any device: the loader needs none to say whether a model is one.
    #[test]
    fn kernels_are_models_of_one_segment_that_fit_their_grant() {
        for units in [0, 1, 16, 132] {
            let device = DeviceContext {
                kind: DeviceKind::Cuda,
                name: "any".into(),
                versions: Vec::new(),
                units,
                unit_granularity: 1,
                unit_minimum: 1,
                memory: Bytes::new(1 << 30),
                queue_limit: 8,
                copy_engines: 1,
                capabilities: Capabilities {
                    partitions: true,
                    asynchronous: true,
                    graphs: true,
                    unified_memory: false,
                },
            };
            let Rehearsal { loader, floor, busy } = Rehearsal::kernels(&device);
            let shapes = BTreeMap::new();
            for text in busy.iter().chain([&floor]) {
                let (name, artifact) = ("rehearsal", text.as_bytes());
                let request = ModelRequest { name, artifact, shapes: &shapes, allow_control_flow: false };
                let model = loader.inspect(&request).unwrap_or_else(|error| panic!("{error}\n{text}"));
                assert_eq!(model.graph.segments(), 1, "{text}");
                let scratch = model.memory.scratch.into_iter().flatten();
                let sum = model.memory.weights.get() + scratch.map(Bytes::get).sum::<u64>();
                assert!(sum < 1 << 20, "{text}");
            }
        }
    }
}
