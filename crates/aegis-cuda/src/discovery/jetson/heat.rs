//! What a board tells of heat and power, and of what they do to its clocks.

use std::collections::BTreeSet;

use super::Jetson;
use crate::discovery::quantity::{Hertz, Millicelsius, Milliwatts};
use crate::discovery::reading::Reading;
use crate::discovery::regime::ThrottleReason;
use crate::discovery::report::ThermalZone;

const THERMAL: &str = "sys/class/thermal";
const SENSORS: &str = "sys/class/hwmon";
/// What over-current sensors are called; each of their counters is of one rail.
const OVER_CURRENT: &str = "soctherm_oc";
/// Power monitors of the rails.
const MONITOR: &str = "ina3221";

/// The events of one over-current counter, and the counter's place.
pub(super) type OverCurrents = Vec<(String, u64)>;

impl Jetson {
    /// Every zone that can be read. Zones of parts that are switched off refuse, and are left out.
    pub(super) fn zones(&self) -> Reading<Vec<ThermalZone>> {
        let zones = self.entries(THERMAL).map(|entries| {
            let zones = entries.iter().filter(|name| name.starts_with("thermal_zone"));
            zones.filter_map(|name| self.zone(name)).collect()
        });
        zones.into()
    }

    fn zone(&self, entry: &str) -> Option<ThermalZone> {
        let folder = format!("{THERMAL}/{entry}");
        let name = self.text(&format!("{folder}/type")).ok()?;
        let temperature = self.text(&format!("{folder}/temp")).ok()?.parse().ok()?;
        Some(ThermalZone { name, temperature: Millicelsius::new(temperature) })
    }

    /// The temperature of the GPU's zone.
    pub(super) fn temperature(&self) -> Reading<Millicelsius> {
        let of_gpu = |zone: &String| {
            let kind = self.text(&format!("{THERMAL}/{zone}/type"));
            kind.is_ok_and(|kind| kind.to_ascii_lowercase().contains("gpu"))
        };
        let zone = self.entries(THERMAL).and_then(|zones| {
            zones
                .into_iter()
                .filter(|zone| zone.starts_with("thermal_zone"))
                .find(of_gpu)
                .ok_or_else(|| format!("/{THERMAL} has no zone of the GPU"))
        });
        zone.and_then(|zone| {
            let path = format!("{THERMAL}/{zone}/temp");
            let text = self.text(&path)?;
            text.parse().map_err(|_| format!("/{path} holds `{text}`, which is no temperature"))
        })
        .map(Millicelsius::new)
        .into()
    }

    /// What the rail that feeds the GPU draws; boards name it differently and put other parts on it, too.
    pub(super) fn power(&self) -> Reading<Milliwatts> {
        self.rail().and_then(|rail| self.drawn(&rail)).into()
    }

    /// The files of the GPU's rail, up to the number that tells voltage from current.
    fn rail(&self) -> Result<(String, u32), String> {
        let monitors = self.entries(SENSORS)?.into_iter().map(|entry| format!("{SENSORS}/{entry}"));
        for monitor in monitors.filter(|folder| self.is_named(folder, MONITOR)) {
            let is_gpu = |&channel: &u32| {
                let label = self.text(&format!("{monitor}/in{channel}_label"));
                label.is_ok_and(|label| label.to_ascii_uppercase().contains("GPU"))
            };
            if let Some(channel) = (1..=3).find(is_gpu) {
                return Ok((monitor, channel));
            }
        }
        Err(format!("/{SENSORS} has no monitor of the GPU's rail"))
    }

    fn drawn(&self, (monitor, channel): &(String, u32)) -> Result<Milliwatts, String> {
        let volts = self.number(&format!("{monitor}/in{channel}_input"))?;
        let amperes = self.number(&format!("{monitor}/curr{channel}_input"))?;
        // Thousandths of volts and of amperes.
        let milliwatts = volts.checked_mul(amperes).map(|product| product / 1_000);
        let milliwatts = milliwatts.and_then(|power| u32::try_from(power).ok());
        milliwatts
            .map(Milliwatts::new)
            .ok_or_else(|| format!("/{monitor} tells {volts} mV and {amperes} mA, which is no power"))
    }

    /// What holds the GPU's clock down, as far as files tell: an idle GPU, an operator's limit, a cooling device at
    /// work, an over-current event since `before` was taken.
    pub(super) fn throttle(&self, before: &OverCurrents) -> Reading<BTreeSet<ThrottleReason>> {
        let highest = match self.highest_clock() {
            Ok(highest) => highest,
            Err(reason) => return Reading::Unknown(reason),
        };
        let mut reasons = BTreeSet::new();
        if self.load().known().is_some_and(|load| load.get() == 0) {
            reasons.insert(ThrottleReason::Idle);
        }
        if self.frequency("max_freq").known().is_some_and(|allowed| *allowed < highest) {
            reasons.insert(ThrottleReason::ClockSetting);
        }
        if self.is_cooled() {
            reasons.insert(ThrottleReason::Heat);
        }
        if self.has_new_event(before) {
            reasons.insert(ThrottleReason::HardwareSlowdown);
        }
        Reading::Known(reasons)
    }

    /// The highest clock that the GPU's governor knows, whatever an operator allows.
    fn highest_clock(&self) -> Result<Hertz, String> {
        let path = format!("{}/available_frequencies", self.governor()?.display());
        let text = self.text(&path)?;
        let all: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        let highest = all.and_then(|all| all.into_iter().max());
        highest.map(Hertz::new).ok_or_else(|| format!("/{path} holds `{text}`, which lists no clocks"))
    }

    /// Whether a cooling device that slows the GPU or the whole board down is at work. Fans slow nothing down.
    fn is_cooled(&self) -> bool {
        let devices = self.entries(THERMAL).unwrap_or_default();
        let mut folders = devices
            .iter()
            .filter(|name| name.starts_with("cooling_device"))
            .map(|name| format!("{THERMAL}/{name}"));
        folders.any(|folder| {
            let kind = self.text(&format!("{folder}/type")).unwrap_or_default().to_ascii_lowercase();
            let slows = kind.contains("gpu") || kind.contains("hot-surface");
            slows && self.number(&format!("{folder}/cur_state")).is_ok_and(|state| state > 0)
        })
    }

    /// Every over-current counter with its value.
    pub(super) fn over_currents(&self) -> OverCurrents {
        let mut counters = Vec::new();
        for entry in self.entries(SENSORS).unwrap_or_default() {
            let folder = format!("{SENSORS}/{entry}");
            if !self.is_named(&folder, OVER_CURRENT) {
                continue;
            }
            for file in self.entries(&folder).unwrap_or_default() {
                let path = format!("{folder}/{file}");
                if file.ends_with("_event_cnt")
                    && let Ok(events) = self.number(&path)
                {
                    counters.push((path, events));
                }
            }
        }
        counters
    }

    fn has_new_event(&self, before: &OverCurrents) -> bool {
        let counted =
            |place: &str| before.iter().find(|(path, _)| path == place).map_or(0, |(_, events)| *events);
        self.over_currents().iter().any(|(place, events)| *events > counted(place))
    }

    fn is_named(&self, folder: &str, name: &str) -> bool {
        self.text(&format!("{folder}/name")).is_ok_and(|found| found == name)
    }
}
