//! Which units belong to which partition, and which lanes are bound: the bookkeeping that a device without a driver
//! of its own keeps here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aegis_types::{LaneId, PartitionId};

use crate::device::{Partition, PartitionRequest, Units};
use crate::error::DeviceError;

/// How finely a device can be divided, and how many lanes it carries.
#[derive(Clone, Debug)]
pub(crate) struct Grain {
    /// The units there are, by the system's numbers, ascending.
    pub(crate) units: Vec<u32>,
    /// Partition sizes are multiples of this.
    pub(crate) granularity: u32,
    /// Smallest partition.
    pub(crate) minimum: u32,
    /// Lanes that the whole device carries.
    pub(crate) lanes: u32,
    /// Whether a partition carries no more lanes than it has units.
    pub(crate) lane_per_unit: bool,
}

/// Partitions and bound lanes of one device.
#[derive(Debug)]
pub(crate) struct Division {
    grain: Grain,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Partition>,
    /// What further threads bind lanes to, numbered behind the partitions; each is on the units of one of those.
    twins: Vec<Partition>,
    divided: bool,
    lanes: BTreeMap<LaneId, PartitionId>,
}

impl Division {
    /// One partition of all units and no lane.
    pub(crate) fn whole(grain: Grain) -> Self {
        let whole = Partition {
            id: PartitionId::new(0),
            name: "all".into(),
            units: u32::try_from(grain.units.len()).unwrap_or(u32::MAX),
            unit_numbers: grain.units.clone(),
        };
        let (partitions, twins, lanes) = (vec![whole], Vec::new(), BTreeMap::new());
        let state = State { partitions, twins, divided: false, lanes };
        Self { grain, state: Mutex::new(state) }
    }

    /// One partition of `units` that have no numbers, and no lane: for a device whose driver does the dividing.
    pub(crate) fn undivided(units: u32, lanes: u32) -> Self {
        let grain = Grain { units: Vec::new(), granularity: 1, minimum: 1, lanes, lane_per_unit: false };
        let division = Self::whole(grain);
        division.lock().partitions.iter_mut().for_each(|whole| whole.units = units);
        division
    }

    /// Divides the units among partitions; nothing changes on an error.
    pub(crate) fn divide(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        self.divide_with(|| make_partitions(&self.grain, requests))
    }

    /// Records the division that `make` makes; nothing changes on an error.
    pub(crate) fn divide_with(
        &self,
        make: impl FnOnce() -> Result<Vec<Partition>, DeviceError>,
    ) -> Result<Vec<Partition>, DeviceError> {
        let mut state = self.lock();
        if state.divided {
            return Err(DeviceError::Unsupported { what: "a second division" });
        }
        if !state.lanes.is_empty() || !state.twins.is_empty() {
            return Err(DeviceError::Unsupported { what: "a division after a lane was bound" });
        }
        let made = make()?;
        state.partitions.clone_from(&made);
        state.divided = true;
        Ok(made)
    }

    /// A further number for the units of `partition`, for which `make` makes what the device needs; nothing changes on an
    /// error.
    pub(crate) fn twin_with(
        &self,
        partition: PartitionId,
        make: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<PartitionId, DeviceError> {
        let mut state = self.lock();
        let made = state.partitions.len();
        let Some(first) = state.partitions.get(partition.index()).cloned() else {
            return Err(DeviceError::UnknownPartition { partition, made });
        };
        let id = u16::try_from(made + state.twins.len()).map(PartitionId::new);
        let id = id.map_err(|_| bad(&first.name, "it is one twin too many", "at most 65536 of all"))?;
        make()?;
        state.twins.push(Partition { id, ..first });
        Ok(id)
    }

    pub(crate) fn partitions(&self) -> Vec<Partition> {
        self.lock().partitions.clone()
    }

    /// How many lanes of a partition are taken.
    pub(crate) fn lanes_of(&self, partition: PartitionId) -> usize {
        self.lock().lanes.values().filter(|&&taken| taken == partition).count()
    }

    /// Takes a lane until the seat is dropped.
    pub(crate) fn take_lane(
        self: &Arc<Self>,
        partition: PartitionId,
        lane: LaneId,
    ) -> Result<(Seat, Partition), DeviceError> {
        let mut state = self.lock();
        let made = state.partitions.len() + state.twins.len();
        let Some(found) = state.partitions.iter().chain(&state.twins).nth(partition.index()).cloned() else {
            return Err(DeviceError::UnknownPartition { partition, made });
        };
        if state.lanes.contains_key(&lane) {
            return Err(DeviceError::LaneTaken { lane });
        }
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let asked = count(state.lanes.len()).saturating_add(1);
        if asked > self.grain.lanes {
            return Err(DeviceError::TooManyStreams { asked, limit: self.grain.lanes });
        }
        let here = state.lanes.values().filter(|&&p| p == partition).count();
        let asked = count(here).saturating_add(1);
        if self.grain.lane_per_unit && asked > found.units {
            return Err(DeviceError::TooManyStreams { asked, limit: found.units });
        }
        state.lanes.insert(lane, partition);
        drop(state);
        Ok((Seat { division: Arc::clone(self), lane, partition }, found))
    }

    /// Poisoning is ignored: no operation leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane that is taken; dropping it frees the lane.
#[derive(Debug)]
pub(crate) struct Seat {
    division: Arc<Division>,
    lane: LaneId,
    partition: PartitionId,
}

impl Seat {
    pub(crate) const fn lane(&self) -> LaneId {
        self.lane
    }

    pub(crate) const fn partition(&self) -> PartitionId {
        self.partition
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.division.lock().lanes.remove(&self.lane);
    }
}

/// Named units are claimed first, so that a count never takes a unit that another partition names.
fn make_partitions(grain: &Grain, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
    if requests.is_empty() {
        return Err(bad("", "no partition is asked for", "one or more partitions"));
    }
    let mut free: BTreeSet<u32> = grain.units.iter().copied().collect();
    let mut names = BTreeSet::new();
    for request in requests {
        if !names.insert(request.name.as_str()) {
            return Err(bad(&request.name, "the name is used twice", "a name of its own for each partition"));
        }
        if let Units::These(numbers) = &request.units {
            claim_named(grain, &request.name, numbers, &mut free)?;
        }
    }
    let mut made = Vec::with_capacity(requests.len());
    for (position, request) in requests.iter().enumerate() {
        let unit_numbers = match &request.units {
            Units::These(numbers) => numbers.clone(),
            Units::Count(count) => claim_count(grain, &request.name, *count, &mut free)?,
        };
        let id = u16::try_from(position)
            .map_err(|_| bad(&request.name, "it is one too many", "at most 65536 partitions"))?;
        made.push(Partition {
            id: PartitionId::new(id),
            name: request.name.clone(),
            units: u32::try_from(unit_numbers.len()).unwrap_or(u32::MAX),
            unit_numbers,
        });
    }
    Ok(made)
}

fn claim_named(
    grain: &Grain,
    name: &str,
    numbers: &[u32],
    free: &mut BTreeSet<u32>,
) -> Result<(), DeviceError> {
    let len = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    if len < grain.minimum || !len.is_multiple_of(grain.granularity) {
        return Err(bad(name, &format!("it has {len} units"), &sizes(grain)));
    }
    for number in numbers {
        if !free.remove(number) {
            let exists = grain.units.binary_search(number).is_ok();
            let reason = if exists { "is named twice" } else { "does not exist or may not be used" };
            let legal = format!("each of the units {} once", list(&grain.units));
            return Err(bad(name, &format!("unit {number} {reason}"), &legal));
        }
    }
    Ok(())
}

fn claim_count(
    grain: &Grain,
    name: &str,
    count: u32,
    free: &mut BTreeSet<u32>,
) -> Result<Vec<u32>, DeviceError> {
    let left = u32::try_from(free.len()).unwrap_or(u32::MAX);
    let wanted = count.checked_next_multiple_of(grain.granularity).filter(|_| count > 0);
    let Some(wanted) = wanted.filter(|&wanted| wanted >= grain.minimum) else {
        return Err(bad(name, &format!("it has {count} units"), &sizes(grain)));
    };
    if wanted > left {
        let legal = format!("at most {left} units that no other partition has, of {}", list(&grain.units));
        return Err(bad(name, &format!("it needs {wanted} units"), &legal));
    }
    Ok((0..wanted).filter_map(|_| free.pop_first()).collect())
}

fn sizes(grain: &Grain) -> String {
    format!(
        "multiples of {}, from {} to {}, of the units {}",
        grain.granularity,
        grain.minimum,
        grain.units.len(),
        list(&grain.units)
    )
}

fn list(units: &[u32]) -> String {
    let words: Vec<String> = units.iter().map(u32::to_string).collect();
    words.join(", ")
}

fn bad(partition: &str, reason: &str, legal: &str) -> DeviceError {
    DeviceError::BadPartition { partition: partition.into(), reason: reason.into(), legal: legal.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(number: u16) -> LaneId {
        LaneId::new(number)
    }

    #[test]
    fn twins_are_numbered_behind_the_partitions_and_told_to_nobody() {
        let division = Arc::new(Division::undivided(132, 3));
        let (home, nowhere) = (PartitionId::new(0), PartitionId::new(5));
        let refused = division.twin_with(home, || Err(DeviceError::Unsupported { what: "twins" }));
        assert_eq!(refused, Err(DeviceError::Unsupported { what: "twins" }));
        assert_eq!(
            division.twin_with(nowhere, || panic!("of nothing")),
            Err(DeviceError::UnknownPartition { partition: nowhere, made: 1 })
        );
        let twin = division.twin_with(home, || Ok(())).expect("of all units");
        assert_eq!((twin, division.partitions().len()), (PartitionId::new(1), 1));
        let of_a_twin = division.twin_with(twin, || panic!("of a twin"));
        assert!(matches!(of_a_twin, Err(DeviceError::UnknownPartition { .. })), "{of_a_twin:?}");
        let (seat, found) = division.take_lane(twin, lane(1)).expect("a lane of the twin");
        assert_eq!((seat.partition(), found.units), (twin, 132));
        assert_eq!((division.lanes_of(twin), division.lanes_of(home)), (1, 0));
        drop(seat);
        let divided = division.divide_with(|| panic!("after a twin was made"));
        assert!(matches!(divided, Err(DeviceError::Unsupported { .. })), "{divided:?}");
    }
}
