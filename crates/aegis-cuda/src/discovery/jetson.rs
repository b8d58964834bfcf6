//! What the files of a board's system tell of an integrated GPU.
//!
//! On such boards the management library is missing or tells little; the kernel's device tree, its frequency governors
//! and the board's power-mode service tell the rest. Every path is taken below one root, so that a tree of files
//! stands in for a board. Nothing here knows a board or a chip by its name: a GPU is what the governor's node calls
//! one on a board of the vendor.

mod heat;

use std::fs;
use std::path::{Path, PathBuf};

use aegis_types::Bytes;

use super::Source;
use super::quantity::{Hertz, Permille};
use super::reading::Reading;
use super::regime::Regime;
use super::report::{GpuReport, Identity};
use super::shared::SharedMemory;
use heat::OverCurrents;

/// The first part of the vendor's entries in a device tree.
const VENDOR: &str = "nvidia,";

/// The end of the name under which the system lists an accelerator for deep learning, with the unit's number.
const ACCELERATOR: &str = "nvdla";

/// The files of a board.
#[derive(Debug)]
pub struct Jetson {
    root: PathBuf,
    /// Over-current events until the files were opened: counters only grow, so an event is a difference.
    over_currents: OverCurrents,
}

impl Jetson {
    /// The files below `root`; `/` is this machine.
    pub fn below(root: &Path) -> Self {
        let mut board = Self { root: root.to_owned(), over_currents: Vec::new() };
        board.over_currents = board.over_currents();
        board
    }

    /// The folder of the GPU's frequency governor.
    fn governor(&self) -> Result<PathBuf, String> {
        let compatible = self.text("proc/device-tree/compatible")?;
        if !compatible.split('\0').any(|entry| entry.starts_with(VENDOR)) {
            return Err("the device tree is of another vendor's board".to_owned());
        }
        let folder = "sys/class/devfreq";
        self.entries(folder)?
            .into_iter()
            .map(|name| format!("{folder}/{name}"))
            .find(|entry| self.is_gpu(entry))
            .map(PathBuf::from)
            .ok_or_else(|| format!("/{folder} has no GPU"))
    }

    /// Some releases call the governor after the chip; the node's own name or its load then tells what it is.
    fn is_gpu(&self, entry: &str) -> bool {
        let named = |text: &str| text.to_ascii_lowercase().contains("gpu");
        named(entry)
            || self.text(&format!("{entry}/device/of_node/name")).is_ok_and(|name| named(&name))
            || self.text(&format!("{entry}/device/load")).is_ok()
    }

    fn frequency(&self, file: &str) -> Reading<Hertz> {
        let governor = self.governor();
        governor
            .and_then(|folder| self.number(&format!("{}/{file}", folder.display())))
            .map(Hertz::new)
            .into()
    }

    /// The memory controller's clock, which only an administrator may read.
    fn memory_clock(&self, file: &str) -> Reading<Hertz> {
        self.number(&format!("sys/kernel/debug/bpmp/debug/clk/emc/{file}")).map(Hertz::new).into()
    }

    /// Thousandths of the sampling period in which the GPU worked.
    fn load(&self) -> Reading<Permille> {
        let places = self.governor().map_or_else(
            |_| Vec::new(),
            |folder| vec![format!("{}/device/load", folder.display()), "sys/devices/gpu.0/load".to_owned()],
        );
        let first = places.iter().map(|place| self.number(place)).reduce(Result::or);
        let load = first.unwrap_or_else(|| Err("there is no GPU".to_owned()));
        load.and_then(|load| u32::try_from(load).map_err(|_| format!("a load of {load} thousandths")))
            .map(Permille::new)
            .into()
    }

    /// The mode's number, and its name where the table of modes has it.
    fn power_mode(&self) -> Reading<String> {
        let path = "var/lib/nvpmodel/status";
        let number = self.text(path).and_then(|status| {
            let field = status.split_whitespace().find_map(|field| field.strip_prefix("pmode:"));
            let number = field.and_then(|digits| digits.parse::<u32>().ok());
            number.ok_or_else(|| format!("/{path} holds `{status}`, which names no mode"))
        });
        number
            .map(|number| {
                let table = self.text("etc/nvpmodel.conf").unwrap_or_default();
                mode_name(&table, number)
                    .map_or_else(|| number.to_string(), |name| format!("{number} ({name})"))
            })
            .into()
    }

    /// Whether the governor may not lower the GPU's clock: its bounds are one clock.
    fn is_clock_held(&self) -> Reading<bool> {
        match (self.frequency("min_freq"), self.frequency("max_freq")) {
            (Reading::Known(low), Reading::Known(high)) => Reading::Known(low == high),
            (Reading::Unknown(reason), _) | (_, Reading::Unknown(reason)) => Reading::Unknown(reason),
        }
    }

    /// Accelerators for deep learning that the board has beside its GPU, by the names of the system.
    fn accelerators(&self) -> Reading<Vec<String>> {
        let devices = self.entries("sys/bus/platform/devices");
        let named = |devices: Vec<String>| {
            let names = devices.iter().filter_map(|device| device.rsplit('.').next());
            names.filter(|name| name.starts_with(ACCELERATOR)).map(str::to_owned).collect()
        };
        devices.map(named).into()
    }

    /// The memory that the GPU shares with the system.
    fn shared(&self) -> Result<SharedMemory, String> {
        let known = |field| match self.memory(field) {
            Reading::Known(bytes) => Ok(bytes),
            Reading::Unknown(reason) => Err(reason),
        };
        Ok(SharedMemory { total: known("MemTotal")?, available: known("MemAvailable")? })
    }

    /// A quantity of the machine's memory, which is the GPU's too.
    fn memory(&self, field: &str) -> Reading<Bytes> {
        let path = "proc/meminfo";
        let found = self.text(path).and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            kibibytes
                .and_then(|kibibytes| kibibytes.checked_mul(1_024))
                .ok_or_else(|| format!("/{path} does not tell {field}"))
        });
        found.map(Bytes::new).into()
    }

    fn identity(&self) -> Identity {
        Identity {
            board: self.text("proc/device-tree/model").into(),
            integrated: Reading::Known(true),
            ..Identity::untold()
        }
    }

    /// The content of a file without what ends it.
    fn text(&self, path: &str) -> Result<String, String> {
        let bytes = fs::read(self.root.join(path)).map_err(|error| format!("/{path}: {error}"))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end_matches('\0').trim().to_owned())
    }

    fn number(&self, path: &str) -> Result<u64, String> {
        let text = self.text(path)?;
        text.parse().map_err(|_| format!("/{path} holds `{text}`, which is no whole number"))
    }

    /// The names in a folder, sorted: the system lists them in any order.
    fn entries(&self, path: &str) -> Result<Vec<String>, String> {
        let listed = fs::read_dir(self.root.join(path)).map_err(|error| format!("/{path}: {error}"))?;
        let mut names: Vec<String> =
            listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }
}

impl Source for Jetson {
    fn name(&self) -> &'static str {
        "board files"
    }

    fn driver_version(&self) -> Reading<String> {
        let path = "etc/nv_tegra_release";
        let release = self
            .text(path)
            .and_then(|text| board_release(&text).ok_or_else(|| format!("/{path} does not name a release")));
        release.into()
    }

    fn devices(&self) -> Result<Vec<GpuReport>, String> {
        self.governor()?;
        let mut report = GpuReport::untold(0);
        report.identity = self.identity();
        report.memory.total = self.memory("MemTotal");
        report.memory.free = self.memory("MemAvailable");
        report.memory.headroom = self.shared().map(SharedMemory::headroom).into();
        report.clocks.sm = self.frequency("cur_freq");
        report.clocks.sm_max = self.frequency("max_freq");
        report.clocks.memory = self.memory_clock("rate");
        report.clocks.memory_max = self.memory_clock("max_rate");
        report.clocks.power_mode = self.power_mode();
        report.clocks.load = self.load();
        report.clocks.temperature = self.temperature();
        report.clocks.power = self.power();
        report.clocks.throttle = self.throttle(&self.over_currents);
        report.board.zones = self.zones();
        report.board.accelerators = self.accelerators();
        report.board.clock_held = self.is_clock_held();
        Ok(vec![report])
    }

    fn regime(&self, device: &Identity) -> Regime {
        if self.governor().is_err() || !self.identity().is_same(device) {
            return Regime::untold();
        }
        Regime {
            sm_clock: self.frequency("cur_freq"),
            memory_clock: self.memory_clock("rate"),
            power_mode: self.power_mode(),
            throttle: self.throttle(&self.over_currents),
            headroom: self.shared().map(SharedMemory::headroom).into(),
            ..Regime::untold()
        }
    }
}

/// The name of a mode in the table of modes: `< POWER_MODEL ID=0 NAME=MAXN >`.
fn mode_name(table: &str, number: u32) -> Option<String> {
    table.lines().filter(|line| line.contains("POWER_MODEL")).find_map(|line| {
        let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let same = field("ID=")?.parse() == Ok(number);
        same.then(|| field("NAME=").map(str::to_owned)).flatten()
    })
}

/// `# R36 (release), REVISION: 3.0, ...` is release 36.3.0.
fn board_release(text: &str) -> Option<String> {
    let major = text.split_whitespace().find_map(|word| word.strip_prefix('R')?.parse::<u32>().ok())?;
    let (_, rest) = text.split_once("REVISION:")?;
    let minor = rest.split([',', '\n']).next()?.trim();
    Some(format!("board release {major}.{minor}"))
}

#[cfg(test)]
mod boards;
#[cfg(test)]
mod tests;
