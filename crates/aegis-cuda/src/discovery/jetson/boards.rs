//! Whole boards, as trees of files below `tests/fixtures/orin`: everything that a source tells of them at once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aegis_types::Bytes;
use tempfile::TempDir;

use super::Jetson;
use crate::discovery::report::ThermalZone;
use crate::discovery::{
    Candidate, Discovery, Hertz, Identity, Millicelsius, Milliwatts, Permille, Reading, Regime, Source,
    Sources, ThrottleReason,
};

/// The folder of one board. The variable is read at run time: the program may have been built elsewhere.
fn place(board: &str) -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo and the bundle's script set it");
    PathBuf::from(manifest).join("tests/fixtures/orin").join(board)
}

fn discovered(board: &str) -> Discovery {
    let files = Candidate::of("board files", Ok(Jetson::below(&place(board))));
    let driver = Candidate { name: "driver", source: Err("libcuda.so.1 cannot be loaded".to_owned()) };
    Sources::of(vec![driver, files]).discover(8)
}

const fn kibibytes(count: u64) -> Bytes {
    Bytes::new(count << 10)
}

fn reasons(all: &[ThrottleReason]) -> Reading<BTreeSet<ThrottleReason>> {
    Reading::Known(all.iter().copied().collect())
}

#[test]
fn a_large_board_at_its_highest_clocks() {
    let found = discovered("agx-jetpack-6");
    assert_eq!(found.driver, Reading::Known("board release 36.4.3".into()));
    assert_eq!(found.devices.len(), 1);
    let gpu = &found.devices[0];
    assert_eq!(gpu.identity.board, Reading::Known("NVIDIA Jetson AGX Orin Developer Kit".into()));
    assert_eq!(gpu.identity.integrated, Reading::Known(true));
    assert_eq!(gpu.memory.total, Reading::Known(kibibytes(64_349_336)));
    assert_eq!(gpu.memory.free, Reading::Known(kibibytes(60_817_408)));
    // A sixteenth of all memory stays with the system.
    let floor = Bytes::new((64_349_336 << 10) / 16);
    assert_eq!(gpu.memory.headroom, Reading::Known(kibibytes(60_817_408).checked_sub(floor).unwrap()));
    assert_eq!(gpu.clocks.sm, Reading::Known(Hertz::new(1_300_500_000)));
    assert_eq!(gpu.clocks.sm_max, Reading::Known(Hertz::new(1_300_500_000)));
    assert_eq!(gpu.clocks.memory, Reading::Known(Hertz::new(3_199_000_000)));
    assert_eq!(gpu.clocks.memory_max, Reading::Known(Hertz::new(3_199_000_000)));
    assert_eq!(gpu.clocks.load, Reading::Known(Permille::new(412)));
    assert_eq!(gpu.clocks.temperature, Reading::Known(Millicelsius::new(44_718)));
    assert_eq!(gpu.clocks.power, Reading::Known(Milliwatts::new(6_087)));
    assert_eq!(gpu.clocks.power_mode, Reading::Known("0 (MAXN)".into()));
    assert_eq!(gpu.clocks.throttle, reasons(&[]), "events of before the files were opened count for nothing");
    assert_eq!(gpu.board.clock_held, Reading::Known(true));
    assert_eq!(gpu.board.accelerators, Reading::Known(vec!["nvdla0".into(), "nvdla1".into()]));
    let zones = gpu.board.zones.known().unwrap();
    assert_eq!(zones.len(), 6, "three zones are of parts that are switched off: {zones:?}");
    let hottest = zones.iter().max_by_key(|zone| zone.temperature).unwrap();
    assert_eq!(hottest.temperature, Millicelsius::new(48_531));
    let missing = gpu.multiprocessors.count.reason().unwrap();
    assert!(missing.contains("libcuda.so.1"), "how it divides is the driver's subject: {missing}");
}

#[test]
fn a_small_board_that_is_hot_idle_and_short_of_memory() {
    let found = discovered("nano-jetpack-6");
    assert_eq!(found.driver, Reading::Known("board release 36.3.0".into()));
    let gpu = &found.devices[0];
    assert_eq!(
        gpu.memory.headroom,
        Reading::Known(kibibytes(903_168).checked_sub(Bytes::new((7_802_232 << 10) / 16)).unwrap())
    );
    assert_eq!(gpu.clocks.sm, Reading::Known(Hertz::new(408_000_000)));
    assert_eq!(gpu.clocks.power, Reading::Known(Milliwatts::new(4_414)));
    assert_eq!(gpu.clocks.power_mode, Reading::Known("1 (7W)".into()));
    let expected = [ThrottleReason::Idle, ThrottleReason::ClockSetting, ThrottleReason::Heat];
    assert_eq!(gpu.clocks.throttle, reasons(&expected));
    assert_eq!(gpu.board.clock_held, Reading::Known(false));
    assert_eq!(gpu.board.accelerators, Reading::Known(Vec::new()));
    let gpu_zone = ThermalZone { name: "gpu-thermal".into(), temperature: Millicelsius::new(95_031) };
    assert!(gpu.board.zones.known().unwrap().contains(&gpu_zone));
    let missing = gpu.clocks.memory.reason().unwrap();
    assert!(missing.starts_with("/sys/kernel/debug/bpmp/debug/clk/emc/rate: "), "{missing}");
}

#[test]
fn a_report_of_a_board_survives_a_file_and_one_without_a_board_is_read() {
    let found = discovered("agx-jetpack-6");
    let mut value = serde_json::to_value(&found).unwrap();
    assert_eq!(serde_json::from_value::<Discovery>(value.clone()).unwrap(), found);
    let device = value["devices"][0].as_object_mut().unwrap();
    device.remove("board");
    device["memory"].as_object_mut().unwrap().remove("headroom");
    let older = serde_json::from_value::<Discovery>(value).unwrap();
    assert_eq!(older.devices[0].board.accelerators, Reading::untold());
    assert_eq!(older.devices[0].memory.headroom, Reading::untold());
}

/// A copy of a board whose files can be changed.
fn copied(board: &str) -> TempDir {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = TempDir::new().unwrap();
    copy(&place(board), folder.path());
    folder
}

/// What a certificate of the large board would object to after `path` was changed to `text`.
fn departures(path: &str, text: &str) -> Vec<String> {
    let folder = copied("agx-jetpack-6");
    let board = Jetson::below(folder.path());
    let device = Identity { integrated: Reading::Known(true), ..Identity::untold() };
    let before: Regime = board.regime(&device);
    std::fs::write(folder.path().join(path), text).unwrap();
    before.departs(&board.regime(&device))
}

#[test]
fn what_a_certificate_rests_on_is_watched_on_a_board() {
    let nothing = Vec::<String>::new();
    assert_eq!(
        departures("sys/class/thermal/cooling_device0/cur_state", "3\n"),
        nothing,
        "a fan slows nothing down"
    );
    assert_eq!(departures("sys/class/hwmon/hwmon0/name", "pwmfan\n"), nothing);
    for (path, text, expected) in [
        ("sys/class/thermal/cooling_device2/cur_state", "1\n", "the clocks are held down: heat"),
        ("sys/class/thermal/cooling_device4/cur_state", "1\n", "the clocks are held down: heat"),
        ("sys/class/hwmon/hwmon2/oc3_event_cnt", "1\n", "the clocks are held down: hardware slowdown"),
        (
            "sys/class/devfreq/17000000.gpu/max_freq",
            "816000000\n",
            "the clocks are held down: clocks set by an operator",
        ),
        (
            "sys/class/devfreq/17000000.gpu/cur_freq",
            "306000000\n",
            "the SM clock was 1300.5 MHz and is 306 MHz",
        ),
        (
            "sys/kernel/debug/bpmp/debug/clk/emc/rate",
            "2133000000\n",
            "the memory clock was 3199 MHz and is 2133 MHz",
        ),
        ("var/lib/nvpmodel/status", "pmode:0002\n", "the power mode was 0 (MAXN) and is 2 (MODE_30W)"),
    ] {
        assert_eq!(departures(path, text), [expected], "{path}");
    }
    let short = departures("proc/meminfo", "MemTotal: 64349336 kB\nMemAvailable: 4021833 kB\n");
    assert_eq!(short.len(), 1, "{short:?}");
    assert!(short[0].ends_with("the system runs short"), "{short:?}");
}

#[test]
fn an_idle_board_has_not_slowed_down() {
    let folder = copied("agx-jetpack-6");
    let board = Jetson::below(folder.path());
    let device = Identity { integrated: Reading::Known(true), ..Identity::untold() };
    let before = board.regime(&device);
    let governor = folder.path().join("sys/class/devfreq/17000000.gpu");
    std::fs::write(governor.join("cur_freq"), "306000000\n").unwrap();
    std::fs::write(governor.join("device/load"), "0\n").unwrap();
    assert_eq!(before.departs(&board.regime(&device)), Vec::<String>::new());
}
