//! `fleet.toml` as it is written: shapes of tables and values, before their meaning is checked.
//!
//! Whole numbers are read as `i64`, so that a negative or too large one is answered with the range that is legal and
//! not with the name of a machine type.

use std::collections::BTreeMap;

use aegis_sched::{Criticality, OnOverrun};
use aegis_types::{Bytes, Nanos};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetFile {
    pub(super) device: DeviceFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<MemoryFile>,
    #[serde(default)]
    pub(super) partition: Vec<PartitionFile>,
    pub(super) policy: PolicyFile,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) group: Vec<GroupFile>,
    #[serde(default)]
    pub(super) task: Vec<TaskFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) chain: Vec<ChainFile>,
}

/// A file of tasks that are asked about beside a fleet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TasksFile {
    pub(super) task: Vec<TaskFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceFile {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wait: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) launch: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemoryFile {
    pub(super) pressure: Vec<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionFile {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cores: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sms: Option<i64>,
    #[serde(default = "one")]
    pub(super) lanes: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) own_carriers: Vec<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    pub(super) kind: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupFile {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) utilisation: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) miss_rate: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    pub(super) name: String,
    pub(super) model: String,
    pub(super) backend: String,
    pub(super) period: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<Nanos>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) natural_period: Option<Nanos>,
    pub(super) partition: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) lane: LaneFile,
    #[serde(default)]
    pub(super) arrival: ArrivalFile,
    #[serde(default)]
    pub(super) offset: Nanos,
    #[serde(default)]
    pub(super) jitter: Nanos,
    #[serde(default)]
    pub(super) retry: i64,
    #[serde(default)]
    pub(super) on_overrun: OnOverrun,
    #[serde(default)]
    pub(super) criticality: Criticality,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) priority: Option<i64>,
    #[serde(default = "one")]
    pub(super) weight: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) allow_control_flow: bool,
    #[serde(default)]
    pub(super) state: Vec<Vec<String>>,
    pub(super) budget: BudgetFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inputs: Option<InputsFile>,
    #[serde(default)]
    pub(super) shapes: BTreeMap<String, Vec<i64>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ArrivalFile {
    #[default]
    Periodic,
    Sporadic,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetFile {
    pub(super) memory: Bytes,
    #[serde(default = "one")]
    pub(super) streams: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compute: Option<Nanos>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChainFile {
    pub(super) name: String,
    pub(super) tasks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reaction: Option<Nanos>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) age: Option<Nanos>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) skips: BTreeMap<String, i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) gaps: BTreeMap<String, Nanos>,
}

/// `"auto"` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LaneFile {
    #[default]
    Auto,
    Number(i64),
}

const fn one() -> i64 {
    1
}

impl Serialize for LaneFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Number(number) => to.serialize_i64(*number),
        }
    }
}

impl<'de> Deserialize<'de> for LaneFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Lane;
        impl de::Visitor<'_> for Lane {
            type Value = LaneFile;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"auto\" or the number of a lane within the partition")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LaneFile, E> {
                if text == "auto" {
                    Ok(LaneFile::Auto)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LaneFile, E> {
                Ok(LaneFile::Number(number))
            }
        }
        from.deserialize_any(Lane)
    }
}

/// What is legal at a key path, indices left out, for messages about a missing key or a value of the wrong type.
pub(super) fn legal(path: &str) -> &'static str {
    LEGAL.iter().find(|(key, _)| *key == path).map_or_else(|| legal_below(path), |(_, legal)| legal)
}

/// Keys that exist in the table that `path` lies in.
fn legal_below(path: &str) -> &'static str {
    let table = path.rsplit_once('.').map_or("", |(table, _)| table);
    match table {
        "" => "the tables device, memory, partition, policy, group, task and chain",
        "device" => "kind, memory, wait, launch",
        "memory" => "pressure",
        "partition" => "name, cores or sms, lanes, own_carriers",
        "policy" => "kind",
        "task" => {
            "name, model, backend, period, deadline, natural_period, partition, group, lane, arrival, offset, \
             jitter, retry, on_overrun, criticality, priority, weight, exclude, allow_control_flow, state, budget, inputs, shapes"
        }
        "task.budget" => "memory, streams, compute",
        "task.inputs" => "seed or file",
        "group" => "name, memory, utilisation, miss_rate",
        "chain" => "name, tasks, reaction, age, skips, gaps",
        "chain.skips" => SKIPS,
        "chain.gaps" => GAPS,
        "task.shapes" => "one array of axis lengths for each input, for example x = [1, 3, 480, 640]",
        _ => "what the enclosing key says",
    }
}

const SPAN: &str = "a text of a number with a unit above zero, for example \"33ms\"; units are ns, us, ms, s";
const SPAN_OR_ZERO: &str = "a text of a number with a unit, for example \"0ms\"; units are ns, us, ms, s";
const SKIPS: &str = "whole numbers from 0 by task of the chain, for example { detector = 1 }";
const GAPS: &str = "spans by task of the chain, at least its period, for example { camera = \"50ms\" }";
const SIZE: &str =
    "a text of a number with a unit above zero, for example \"256MiB\"; units are B, KiB, MiB, GiB";
/// The devices that a fleet may name.
pub(super) const DEVICES: &str = "\"host\", \"sim\", or \"cuda:0\" with the number of a GPU of this machine";
/// Whatever is wrong with a shape, the answer is the same.
pub(super) const SHAPES: &str = "a table of axis lengths by input name, for example { x = [1, 3, 480, 640] }";
/// Whatever is wrong with thresholds, the answer is the same.
pub(super) const PRESSURE: &str =
    "an array of at most 8 rising whole percentages from 1 to 100, for example [70, 90]";
/// Whatever is wrong with a pair of state tensors, the answer is the same.
pub(super) const STATE: &str =
    "pairs of an output's and an input's name, for example [[\"h_out\", \"h_in\"]], each input once";

/// Whatever is wrong with who launches, the answer is the same.
pub(super) const LAUNCH: &str =
    "\"carrier\", or \"driver\" on a device whose work runs later than it is launched, without own_carriers";
/// Whatever is wrong with carriers of their own, the answer is the same.
pub(super) const OWN_CARRIERS: &str = "an array of numbers of lanes of the partition, from 0, each once, on a device whose lanes share a launcher";

/// Whatever is wrong with a budget of utilisation, the answer is the same.
pub(super) const UTILISATION: &str = "a number above 0 of at most six places, at most 65535: 0.5 is half of one lane's time, 2 is that of two lanes";
/// Whatever is wrong with an agreed rate of misses, the answer is the same.
pub(super) const MISS_RATE: &str =
    "a number from 0 to 1 of at most six places: 0.01 is one job in a hundred, 0 is none";

/// Whatever is wrong with an exclusion, the answer is the same.
pub(super) const EXCLUDE: &str =
    "an array of names of other tasks, which have a lane by number as the task itself has";

const LEGAL: &[(&str, &str)] = &[
    ("device", "a table [device] with kind and, if wanted, memory, wait and launch"),
    ("device.kind", DEVICES),
    ("device.memory", SIZE),
    ("device.wait", "\"spin\", \"hybrid\" or \"blocking\""),
    ("device.launch", LAUNCH),
    ("memory", "a table [memory] with pressure"),
    ("memory.pressure", PRESSURE),
    ("partition", "tables [[partition]] with name, cores or sms, and lanes"),
    ("partition.name", "a text that no other partition has"),
    ("partition.cores", "an array of core numbers, for example [0, 1]"),
    ("partition.sms", "a whole number above zero"),
    ("partition.lanes", "a whole number above zero"),
    ("partition.own_carriers", OWN_CARRIERS),
    ("policy", "a table [policy] with kind"),
    ("policy.kind", "\"fifo\", \"rm\", \"dm\", \"fp\", \"edf\", \"fair\", \"p-rm\" or \"cw-edf\""),
    ("group", "tables [[group]] with name and, if wanted, memory, utilisation and miss_rate"),
    ("group.name", "a text that no other group has"),
    ("group.memory", SIZE),
    ("group.utilisation", UTILISATION),
    ("group.miss_rate", MISS_RATE),
    ("task", "tables [[task]] with name, model, backend, period, partition and budget"),
    ("task.name", "a text that no other task has"),
    ("task.model", "a text with the path of a file, relative to the folder of this file"),
    (
        "task.backend",
        "\"onnx\", \"tract\" or \"tvm\" on the host device, \"kernel\", \"onnx\", \"tvm\" or \"tensorrt\" on a cuda \
         device, \"script\" on the sim device",
    ),
    ("task.period", SPAN),
    ("task.deadline", SPAN),
    ("task.natural_period", SPAN),
    ("task.partition", "the name of a partition"),
    ("task.group", "the name of a group"),
    ("task.lane", "\"auto\" or the number of a lane within the partition, from 0"),
    ("task.arrival", "\"periodic\" or \"sporadic\""),
    ("task.offset", SPAN_OR_ZERO),
    ("task.jitter", SPAN_OR_ZERO),
    ("task.retry", "a whole number from 0"),
    ("task.on_overrun", "\"skip\" or \"keep\""),
    ("task.criticality", "\"low\", \"medium\" or \"high\""),
    ("task.priority", "a whole number from 0, the most urgent"),
    ("task.weight", "a whole number from 1: segments of a turn under the policy \"fair\""),
    ("task.exclude", EXCLUDE),
    ("task.allow_control_flow", "true or false"),
    ("task.state", STATE),
    ("task.budget", "a table such as { memory = \"256MiB\", streams = 1, compute = \"12ms\" }"),
    ("task.budget.memory", SIZE),
    ("task.budget.streams", "a whole number above zero"),
    ("task.budget.compute", SPAN),
    ("task.inputs", "{ seed = 1 } or { file = \"recorded.bin\" }"),
    ("task.inputs.seed", "a whole number from 0"),
    (
        "task.inputs.file",
        "a text with the path of a file, relative to the folder of this file: for each job the elements of every input \
         that is no state, in the model's order, little-endian, nothing between",
    ),
    ("task.shapes", SHAPES),
    ("chain", "tables [[chain]] with name, tasks and, if wanted, reaction, age, skips and gaps"),
    ("chain.name", "a text that no other chain has"),
    ("chain.tasks", "an array of task names, from the input's to the output's"),
    ("chain.reaction", SPAN),
    ("chain.age", SPAN),
    ("chain.skips", SKIPS),
    ("chain.gaps", GAPS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_own_legal_text() {
        for (position, (key, text)) in LEGAL.iter().enumerate() {
            assert_eq!(legal(key), *text);
            assert!(LEGAL[..position].iter().all(|(other, _)| other != key), "{key} stands twice");
        }
        for policy in aegis_sched::POLICIES.iter().chain(aegis_sched::policy::INSERTING) {
            assert!(legal("policy.kind").contains(&format!("\"{policy}\"")), "{policy} is not named");
        }
    }

    /// The reader itself lists the keys of a table when it meets one that it does not know.
    #[test]
    fn every_key_is_named_among_those_of_its_table() {
        fn check<T: serde::de::DeserializeOwned + std::fmt::Debug>(table: &str) {
            let error = toml::from_str::<T>("other = 1").expect_err("no table has this key").to_string();
            let (_, expected) = error.split_once("expected ").expect("the keys are listed");
            let key = |below: &str| if table.is_empty() { below.into() } else { format!("{table}.{below}") };
            let listed = legal(&key("other"));
            for below in expected.split('`').skip(1).step_by(2) {
                assert!(listed.contains(below), "{below} is not named in {listed}");
                assert!(LEGAL.iter().any(|(known, _)| *known == key(below)), "{below} has no legal text");
            }
        }
        check::<FleetFile>("");
        check::<DeviceFile>("device");
        check::<MemoryFile>("memory");
        check::<PartitionFile>("partition");
        check::<PolicyFile>("policy");
        check::<GroupFile>("group");
        check::<TaskFile>("task");
        check::<BudgetFile>("task.budget");
        check::<InputsFile>("task.inputs");
        check::<ChainFile>("chain");
    }
}
