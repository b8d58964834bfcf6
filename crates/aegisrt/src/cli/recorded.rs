//! Fleets judged for a machine that is not this one: a device that exists as its measured files only.
//!
//! Verdicts and memory plans are computed from files. With `--platform FILE` and `--profile FILE` of another machine
//! they are computed for that machine, and say so; without, files of another machine are refused as a mistake. Nothing
//! is ever run on a [`RecordedDevice`]: it has partitions and limits, no memory and no stream.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_cuda::cuda::apportion::{Split, apportion};
use aegis_cuda::{
    Capabilities, Device, DeviceContext, DeviceError, DeviceKind, DeviceMemory, MemorySpace, Partition,
    PartitionRequest, Stream, Units,
};
use aegis_types::{Bytes, LaneId, PartitionId};
use serde_json::{Value, json};

use super::Environment;
use super::answer::CliError;
use super::setup::{FleetArgs, Setup, lanes_of, open_device};
use crate::config::{Calibration, Fleet, Profile};
use crate::machine;

/// Whom a verdict is about, where it is not the machine that computes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The device, with its versions.
    pub device: String,
    /// The machine.
    pub machine: String,
    /// When its overheads were measured.
    pub date: String,
}

impl Origin {
    /// For programs.
    pub fn json(&self) -> Value {
        json!({ "device": self.device, "machine": self.machine, "measured": self.date })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.device != self.machine {
            write!(f, "{} of ", self.device)?;
        }
        write!(f, "{}, measured on {}, not this machine", self.machine, self.date)
    }
}

impl Setup {
    /// As [`Setup::open`], and for another machine where `--platform` names a calibration that was made there.
    ///
    /// # Errors
    /// As [`Setup::open`], and what the files leave open about the other machine.
    pub fn judge(args: &FleetArgs, fleet: Fleet, environment: &Environment) -> Result<Self, CliError> {
        match foreign(args, &fleet, environment)? {
            None => Self::open(args, fleet, environment),
            Some(calibration) => Self::open_recorded(args, fleet, calibration, environment),
        }
    }

    fn open_recorded(
        args: &FleetArgs,
        fleet: Fleet,
        calibration: Calibration,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let device = RecordedDevice::new(&fleet, &calibration)?;
        let origin = device.origin(&calibration);
        calibration.matches_device(&device.context, lanes_of(&fleet))?;
        calibration.matches_wait(fleet.wait())?;
        let profile = profile_of(args, &calibration)?;
        if let Some(profile) = &profile {
            profile.matches_device(&device.context)?;
            profile.matches_wait(fleet.wait())?;
        }
        let mut setup = Self::assemble(Arc::new(device), fleet, calibration, profile, environment)?;
        setup.origin = Some(origin);
        Ok(setup)
    }
}

/// The calibration, if one is named and it was not made here.
fn foreign(
    args: &FleetArgs,
    fleet: &Fleet,
    environment: &Environment,
) -> Result<Option<Calibration>, CliError> {
    let named = args.platform.as_deref().filter(|path| path.exists() && fleet.device() != DeviceKind::Sim);
    let Some(path) = named else { return Ok(None) };
    let calibration = Calibration::load(path)?;
    if calibration.matches(&machine::name(), &machine::kernel()).is_err() {
        return Ok(Some(calibration));
    }
    let Some(recorded) = calibration.device.clone().filter(|_| fleet.device() == DeviceKind::Cuda) else {
        return Ok(None);
    };
    // Machines that are rented by the hour are often alike but for the GPU.
    let here = open_device(fleet, environment).is_ok_and(|device| {
        let found = device.context();
        found.name == recorded.name && found.versions == recorded.versions
    });
    Ok((!here).then_some(calibration))
}

/// The profile that is named or stands beside the fleet, made where the calibration was.
fn profile_of(args: &FleetArgs, calibration: &Calibration) -> Result<Option<Profile>, CliError> {
    let path = args.profile_path();
    if args.profile.is_none() && !path.exists() {
        return Ok(None);
    }
    let profile = Profile::load(&path)?;
    let machine = profile.machine.split(';').next().unwrap_or_default().to_owned();
    if machine == calibration.machine {
        return Ok(Some(profile));
    }
    Err(CliError::Input(format!(
        "{}: measured on {machine:?}, and {} on {:?}; legal: --platform and --profile of one machine",
        path.display(),
        calibration.path().display(),
        calibration.machine
    )))
}

/// A device of another machine, as its files tell of it.
#[derive(Debug)]
pub struct RecordedDevice {
    context: DeviceContext,
    made: Mutex<Vec<Partition>>,
}

impl RecordedDevice {
    /// The device that the calibration was made on.
    ///
    /// # Errors
    /// That neither fleet nor calibration tell how much memory it has.
    pub fn new(fleet: &Fleet, calibration: &Calibration) -> Result<Self, CliError> {
        let (kind, recorded) = (fleet.device(), calibration.device.as_ref());
        // Limits of a GPU say nothing about its host.
        let limits = calibration.limits.filter(|_| kind == DeviceKind::Cuda || recorded.is_none());
        let memory = memory(fleet, limits.and_then(|limits| limits.memory), calibration.path())?;
        let cuda = kind == DeviceKind::Cuda;
        let capabilities =
            Capabilities { partitions: true, asynchronous: cuda, graphs: cuda, unified_memory: !cuda };
        let measured = recorded.map_or(u32::from(lanes_of(fleet)), |device| device.lanes.into());
        let context = DeviceContext {
            kind,
            name: recorded.map_or_else(|| calibration.machine.clone(), |device| device.name.clone()),
            versions: recorded.map_or_else(Vec::new, |device| device.versions.clone()),
            units: limits.map_or(u32::MAX, |limits| limits.units),
            unit_granularity: limits.map_or(1, |limits| limits.granularity.max(1)),
            unit_minimum: limits.map_or(1, |limits| limits.minimum),
            memory,
            // Lanes that were measured together had a queue each.
            queue_limit: limits.map_or(measured, |limits| limits.queues),
            copy_engines: 0,
            capabilities: limits.map_or(capabilities, |limits| limits.capabilities),
        };
        Ok(Self { context, made: Mutex::default() })
    }

    fn origin(&self, calibration: &Calibration) -> Origin {
        let DeviceContext { name, versions, .. } = &self.context;
        let versions =
            if versions.is_empty() { String::new() } else { format!(" ({})", versions.join(", ")) };
        let date = if calibration.date.is_empty() { "a day that is not told" } else { &calibration.date };
        Origin {
            device: format!("{name}{versions}"),
            machine: calibration.machine.clone(),
            date: date.to_owned(),
        }
    }

    fn units(&self, request: &PartitionRequest) -> Result<(u32, Vec<u32>), DeviceError> {
        let DeviceContext { unit_granularity, unit_minimum, units, .. } = self.context;
        let bad = |reason: String| {
            let legal = format!("multiples of {unit_granularity}, from {unit_minimum} to {units} in all");
            Err(DeviceError::BadPartition { partition: request.name.clone(), reason, legal })
        };
        match &request.units {
            Units::These(numbers) => Ok((u32::try_from(numbers.len()).unwrap_or(u32::MAX), numbers.clone())),
            Units::Count(count) => match count.checked_next_multiple_of(unit_granularity) {
                Some(count) => Ok((count.max(unit_minimum), Vec::new())),
                None => bad(format!("it has {count} units")),
            },
        }
    }

    /// As the GPU itself divides: groups, and a remainder for one partition.
    fn by_groups(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        let DeviceContext { unit_granularity, units, .. } = self.context;
        let shares = apportion(&Split::of(units, unit_granularity), requests)?;
        let made = (0..).zip(requests).zip(shares).map(|((id, request), share)| Partition {
            id: PartitionId::new(id),
            name: request.name.clone(),
            units: share.units,
            unit_numbers: Vec::new(),
        });
        Ok(made.collect())
    }

    /// Rounded up to what the device offers, one after the other.
    fn by_units(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        let mut left = self.context.units;
        let mut made = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            let (units, unit_numbers) = self.units(request)?;
            let Some(rest) = left.checked_sub(units) else {
                return Err(DeviceError::BadPartition {
                    partition: request.name.clone(),
                    reason: format!("it needs {units} units"),
                    legal: format!("at most {left} that no other partition has"),
                });
            };
            left = rest;
            // A checked fleet has far fewer partitions than u16 numbers.
            let id = PartitionId::new(u16::try_from(index).unwrap_or(u16::MAX));
            made.push(Partition { id, name: request.name.clone(), units, unit_numbers });
        }
        Ok(made)
    }
}

/// Device memory: what the fleet grants, at most what the device is known to have.
fn memory(fleet: &Fleet, known: Option<Bytes>, path: &Path) -> Result<Bytes, CliError> {
    match (fleet.memory(), known) {
        (Some(granted), Some(known)) => Ok(granted.min(known)),
        (Some(bytes), None) | (None, Some(bytes)) => Ok(bytes),
        (None, None) => {
            let problem = format!("is missing, and {} does not tell how much there is", path.display());
            let legal = "a size, for example \"2GiB\": the device is not here to be asked";
            Err(fleet.complain_device("memory", problem, legal).into())
        }
    }
}

impl Device for RecordedDevice {
    fn context(&self) -> &DeviceContext {
        &self.context
    }

    fn partition(&self, requests: &[PartitionRequest]) -> Result<Vec<Partition>, DeviceError> {
        let made = match self.context.kind {
            DeviceKind::Cuda if self.context.units < u32::MAX => self.by_groups(requests)?,
            _ => self.by_units(requests)?,
        };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&made);
        Ok(made)
    }

    fn partitions(&self) -> Vec<Partition> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reserve(&self, _space: MemorySpace, _bytes: Bytes) -> Result<Arc<dyn DeviceMemory>, DeviceError> {
        Err(DeviceError::Unsupported { what: "memory of a device that is not here" })
    }

    fn bind_lane(&self, _partition: PartitionId, _lane: LaneId) -> Result<Box<dyn Stream>, DeviceError> {
        Err(DeviceError::Unsupported { what: "a lane of a device that is not here" })
    }
}
