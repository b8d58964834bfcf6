//! What is known of one GPU, as plain values.
//!
//! Every value is a [`Reading`]. Each source fills in a report of its own, and reports of one device are laid over
//! one another field by field, so a source never has to know what another one tells.

use std::collections::BTreeSet;
use std::fmt;

use aegis_types::Bytes;
use serde::{Deserialize, Serialize};

use super::quantity::{Hertz, Millicelsius, Milliwatts, Permille};
use super::reading::Reading;
use super::regime::ThrottleReason;

/// Defines a group of readings, and how two sources' groups become one. A field that one of the three functions
/// forgets would be lost without a word, so the field is written once.
macro_rules! readings {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $value:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                // What was written before there was such a field tells nothing of it.
                #[serde(default = "Reading::untold")]
                pub $field: Reading<$value>,
            )+
        }

        impl $name {
            /// Nothing told.
            pub const fn untold() -> Self {
                Self { $($field: Reading::untold(),)+ }
            }

            /// This group, with the other source's values where this one has none.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)+ }
            }

            /// The same with `reason` wherever no source had one.
            #[must_use]
            pub fn settled(self, reason: &str) -> Self {
                Self { $($field: self.$field.settled(reason),)+ }
            }
        }
    };
}
pub(super) use readings;

readings! {
    /// Which device it is.
    pub struct Identity {
        /// The vendor's name.
        pub name: String,
        /// The board it is part of, where the system names it.
        pub board: String,
        /// The vendor's identifier of this very device.
        pub uuid: String,
        /// Where it stands on the bus, as `domain:bus:device.function` in lower-case hexadecimal digits.
        pub pci: String,
        /// Its memory is the host's; otherwise it has its own.
        pub integrated: bool,
        /// The generation of its instruction set.
        pub compute_capability: ComputeCapability,
    }
}

impl Identity {
    /// Whether both are one device: by identifier, else by place; an integrated device has neither in every source,
    /// and a board has one.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |mine: &Reading<String>, theirs: &Reading<String>| match (mine.known(), theirs.known()) {
            (Some(mine), Some(theirs)) => Some(mine == theirs),
            _ => None,
        };
        let integrated = |one: &Self| one.integrated.known() == Some(&true);
        match (same(&self.pci, &other.pci), same(&self.uuid, &other.uuid)) {
            // An instance of a divided device has an identifier of its own at the place of the whole.
            (Some(place), _) => place,
            (None, Some(identifier)) => identifier,
            (None, None) => integrated(self) && integrated(other),
        }
    }
}

/// The generation of a device's instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ComputeCapability {
    /// The number before the point.
    pub major: u32,
    /// The number behind the point.
    pub minor: u32,
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

readings! {
    /// Its streaming multiprocessors, and how they can be divided among partitions.
    pub struct Multiprocessors {
        /// How many there are.
        pub count: u32,
        /// Partition sizes are the smallest one plus multiples of this.
        pub granularity: u32,
        /// The smallest partition.
        pub minimum: u32,
        /// How many of the smallest partitions one split gives.
        pub groups: u32,
    }
}

readings! {
    /// Its memory.
    pub struct DeviceMemoryReport {
        /// All of it.
        pub total: Bytes,
        /// What nobody uses.
        pub free: Bytes,
        /// What may be taken of memory that the system shares; see [`SharedMemory`](super::shared::SharedMemory).
        pub headroom: Bytes,
        /// The L2 cache.
        pub l2: Bytes,
        /// The largest part of the L2 cache that can be set aside for persisting accesses.
        pub l2_persisting_max: Bytes,
        /// Errors in memory are corrected.
        pub ecc: bool,
        /// Host memory can be mapped into its addresses.
        pub maps_host_memory: bool,
    }
}

readings! {
    /// What runs beside what, and how work is handed over.
    pub struct Abilities {
        /// Engines that copy beside computation.
        pub copy_engines: u32,
        /// Kernels of several streams run side by side.
        pub concurrent_kernels: bool,
        /// Streams may have priorities.
        pub stream_priorities: bool,
        /// Streams write 64-bit values to memory.
        pub stream_writes: bool,
        /// It can be divided into green contexts.
        pub green_contexts: bool,
        /// Work can be captured into graphs and replayed.
        pub graphs: bool,
        /// All blocks of a kernel can be made to run at once.
        pub cooperative_launch: bool,
    }
}

readings! {
    /// How fast it runs.
    pub struct Clocks {
        /// Clock of the SMs.
        pub sm: Hertz,
        /// Highest clock of the SMs.
        pub sm_max: Hertz,
        /// Clock of the memory.
        pub memory: Hertz,
        /// Highest clock of the memory.
        pub memory_max: Hertz,
        /// What holds the clocks down.
        pub throttle: BTreeSet<ThrottleReason>,
        /// The power mode that the board is set to.
        pub power_mode: String,
        /// Share of the last sampling period in which a kernel ran.
        pub load: Permille,
        /// Temperature of the device.
        pub temperature: Millicelsius,
        /// Power it draws.
        pub power: Milliwatts,
    }
}

readings! {
    /// What of a board around the device has to do with it.
    pub struct BoardReport {
        /// Temperatures, in the order of the system.
        pub zones: Vec<ThermalZone>,
        /// Accelerators for deep learning beside the device, by name. They are second devices that nothing here uses:
        /// their work shares the memory of all, so that a budget measured while one of them idles does not hold while
        /// it works.
        pub accelerators: Vec<String>,
        /// The clock of the device is held at one value; otherwise a governor moves it with the load.
        pub clock_held: bool,
    }
}

/// A place of a board whose temperature is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThermalZone {
    /// The system's name for it.
    pub name: String,
    /// How hot it is.
    pub temperature: Millicelsius,
}

readings! {
    /// Who may use it and who does.
    pub struct Tenancy {
        /// Whether several processes may use it.
        pub compute_mode: String,
        /// It is divided into instances by its hardware.
        pub mig: bool,
        /// Contexts of this process are shared with others through a server.
        pub mps: bool,
        /// Other processes that have a context on it, ascending by number.
        pub others: Vec<GpuProcess>,
    }
}

/// Another process on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its number, as the source gives it.
    pub pid: u32,
    /// Device memory that it holds.
    pub memory: Reading<Bytes>,
}

/// All that is known of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuReport {
    /// Its number: `cuda:0` is the device of ordinal 0. Without the driver, the order of the source that lists it.
    pub ordinal: u32,
    /// Which device it is.
    pub identity: Identity,
    /// Its streaming multiprocessors.
    pub multiprocessors: Multiprocessors,
    /// Its memory.
    pub memory: DeviceMemoryReport,
    /// What runs beside what.
    pub abilities: Abilities,
    /// Streams that run independently, by the process's setting.
    pub queue_limit: u32,
    /// How fast it runs.
    pub clocks: Clocks,
    /// Who uses it.
    pub tenancy: Tenancy,
    /// What of its board has to do with it.
    #[serde(default = "BoardReport::untold")]
    pub board: BoardReport,
}

impl GpuReport {
    /// A report in which nothing is told yet.
    pub const fn untold(ordinal: u32) -> Self {
        Self {
            ordinal,
            identity: Identity::untold(),
            multiprocessors: Multiprocessors::untold(),
            memory: DeviceMemoryReport::untold(),
            abilities: Abilities::untold(),
            queue_limit: super::QUEUES,
            clocks: Clocks::untold(),
            tenancy: Tenancy::untold(),
            board: BoardReport::untold(),
        }
    }

    /// This report, with the other source's values where this one has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            ordinal: self.ordinal,
            identity: self.identity.or(other.identity),
            multiprocessors: self.multiprocessors.or(other.multiprocessors),
            memory: self.memory.or(other.memory),
            abilities: self.abilities.or(other.abilities),
            queue_limit: self.queue_limit,
            clocks: self.clocks.or(other.clocks),
            tenancy: self.tenancy.or(other.tenancy),
            board: self.board.or(other.board),
        }
    }

    /// The same with `reason` wherever no source had one.
    #[must_use]
    pub fn settled(self, reason: &str) -> Self {
        Self {
            ordinal: self.ordinal,
            identity: self.identity.settled(reason),
            multiprocessors: self.multiprocessors.settled(reason),
            memory: self.memory.settled(reason),
            abilities: self.abilities.settled(reason),
            queue_limit: self.queue_limit,
            clocks: self.clocks.settled(reason),
            tenancy: self.tenancy.settled(reason),
            board: self.board.settled(reason),
        }
    }
}

/// A place on the bus in one notation; sources differ in the length of the domain and in case. `None` if it is none.
pub(super) fn pci_place(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.split(':');
    let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
    let (domain, bus, device) = (hex()?, hex()?, hex()?);
    let function: u32 = u32::from_str_radix(function, 16).ok()?;
    parts.next().is_none().then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uuid: Option<&str>, pci: Option<&str>, integrated: bool) -> Identity {
        let told = |value: Option<&str>| {
            value.map_or_else(Reading::untold, |value| Reading::Known(value.to_owned()))
        };
        let known = Reading::Known(integrated);
        Identity { uuid: told(uuid), pci: told(pci), integrated: known, ..Identity::untold() }
    }

    #[test]
    fn a_device_is_known_again_by_place_then_identifier_then_by_being_the_only_one() {
        let cases = [
            (identity(Some("a"), Some("1"), false), identity(Some("a"), Some("1"), false), true),
            (identity(Some("instance"), Some("1"), false), identity(Some("a"), Some("1"), false), true),
            (identity(Some("a"), Some("1"), false), identity(Some("a"), Some("2"), false), false),
            (identity(Some("a"), None, false), identity(Some("a"), Some("1"), false), true),
            (identity(Some("a"), None, false), identity(Some("b"), Some("1"), false), false),
            (identity(Some("a"), Some("1"), true), identity(None, None, true), true),
            (identity(Some("a"), Some("1"), false), identity(None, None, true), false),
            (identity(None, None, false), identity(None, None, false), false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(one.is_same(&other), expected, "{one:?} and {other:?}");
            assert_eq!(other.is_same(&one), expected, "{other:?} and {one:?}");
        }
    }

    #[test]
    fn places_have_one_notation() {
        assert_eq!(pci_place("00000000:3B:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(pci_place("0000:3b:00.0").as_deref(), Some("0000:3b:00.0"));
        for bad in ["", "3b:00.0", "0000:3b:00", "0000:3b:00.0:1", "x:3b:00.0", "0:0:0:0.0"] {
            assert_eq!(pci_place(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_report_survives_a_file_with_its_reasons() {
        let mut report = GpuReport::untold(2).settled("nobody told");
        report.multiprocessors.count = Reading::Known(132);
        report.memory.total = Reading::Known(Bytes::new(85_520_809_984));
        report.identity.compute_capability = Reading::Known(ComputeCapability { major: 9, minor: 0 });
        report.tenancy.others =
            Reading::Known(vec![GpuProcess { pid: 4, memory: Reading::Unknown("not permitted".into()) }]);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""count":{"known":132}"#), "{text}");
        assert!(text.contains(r#""granularity":{"unknown":"nobody told"}"#), "{text}");
        assert_eq!(serde_json::from_str::<GpuReport>(&text).unwrap(), report);
    }
}
