//! Sources that are made up stand in for libraries, beside the sources of the machine that runs the tests.

use aegis_types::Bytes;

use super::*;

#[derive(Clone, Debug)]
struct Fake {
    name: &'static str,
    reports: Vec<GpuReport>,
    regime: Regime,
}

impl Fake {
    fn of(name: &'static str, reports: Vec<GpuReport>) -> Candidate {
        Candidate::of(name, Ok(Self { name, reports, regime: Regime::untold() }))
    }
}

impl Source for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn devices(&self) -> Result<Vec<GpuReport>, String> {
        Ok(self.reports.clone())
    }

    fn regime(&self, _device: &Identity) -> Regime {
        self.regime.clone()
    }
}

fn missing(name: &'static str) -> Candidate {
    Candidate { name, source: Err("not installed".to_owned()) }
}

fn device(ordinal: u32, place: &str) -> GpuReport {
    let mut report = GpuReport::untold(ordinal);
    report.identity.pci = Reading::Known(place.to_owned());
    report.identity.integrated = Reading::Known(false);
    report
}

#[test]
fn sources_that_number_devices_differently_are_laid_together_by_place() {
    let mut hot = device(0, "b");
    hot.clocks.temperature = Reading::Known(Millicelsius::new(90_000));
    hot.memory.total = Reading::Known(Bytes::new(1));
    let mut first = device(0, "a");
    first.memory.total = Reading::Known(Bytes::new(2));
    let sources = Sources::of(vec![
        Fake::of("one", vec![first.clone(), device(1, "b")]),
        Fake::of("other", vec![hot, device(1, "a"), device(2, "hidden from this process")]),
    ]);
    let found = sources.discover(4);
    assert_eq!(found.devices.len(), 2);
    assert!(found.devices.iter().all(|device| device.queue_limit == 4));
    assert_eq!(found.devices[0].memory.total, first.memory.total);
    assert_eq!(found.devices[0].clocks.temperature, Reading::Unknown("no source tells it".into()));
    assert_eq!(found.devices[1].ordinal, 1);
    assert_eq!(found.devices[1].clocks.temperature, Reading::Known(Millicelsius::new(90_000)));
    assert_eq!(found.devices[1].memory.total, Reading::Known(Bytes::new(1)));
}

#[test]
fn without_the_driver_the_next_source_lists_the_devices() {
    let sources = Sources::of(vec![missing("driver"), Fake::of("other", vec![device(3, "a")])]);
    let found = sources.discover(QUEUES);
    assert_eq!(found.devices.len(), 1);
    let reason = "driver: not installed";
    assert_eq!(found.cuda, Reading::Unknown(reason.into()));
    assert_eq!(found.devices[0].multiprocessors.count, Reading::Unknown(reason.into()));
    assert_eq!(found.sources[0].devices, Reading::Unknown("not installed".into()));
    assert_eq!(found.sources[1].devices, Reading::Known(1));
}

#[test]
fn an_untold_state_says_which_source_is_missing() {
    let mut told = Regime::untold();
    told.sm_clock = Reading::Known(Hertz::from_megahertz(1));
    let fake = Fake { name: "other", reports: Vec::new(), regime: told };
    let sources = Sources::of(vec![missing("library"), Candidate::of("other", Ok(fake))]);
    let regime = sources.regime(&Identity::untold());
    assert_eq!(regime.sm_clock, Reading::Known(Hertz::from_megahertz(1)));
    assert_eq!(regime.others, Reading::Unknown("library: not installed".into()));
    assert_eq!(regime.unwatched().len(), 5);
}

#[test]
fn this_machine_is_told_with_a_reason_for_everything_that_is_missing() {
    let sources = Sources::system();
    let found = sources.discover(QUEUES);
    assert_eq!(found.sources.len(), 3);
    if found.devices.is_empty() {
        assert!(found.cuda.reason().is_some_and(|reason| reason.starts_with("driver: ")), "{found:?}");
        assert!(found.driver.reason().is_some_and(|reason| !reason.is_empty()), "{found:?}");
        assert!(found.sources.iter().all(|source| source.devices.known().is_none_or(|count| *count == 0)));
    }
    for device in &found.devices {
        let regime = sources.regime(&device.identity);
        assert_eq!(regime.departs(&regime), Vec::<String>::new());
    }
    let blind = sources.regime(&Identity::untold());
    assert!(blind.unwatched().iter().all(|reason| !reason.ends_with("()")), "{blind:?}");
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Discovery>(&text).unwrap(), found);
}

#[test]
fn versions_are_read_from_the_drivers_notation() {
    assert_eq!(CudaVersion::from_number(12_040).to_string(), "12.4");
    assert_eq!(CudaVersion::from_number(13_000).to_string(), "13.0");
}
