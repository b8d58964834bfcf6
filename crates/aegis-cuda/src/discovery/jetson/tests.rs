//! A tree of files stands in for a board.

use tempfile::TempDir;

use super::*;
use crate::discovery::Millicelsius;

struct Board(TempDir);

impl Board {
    fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A board whose governor is called `governor`.
    fn with(governor: &str) -> Self {
        let board = Self::empty();
        board.write("proc/device-tree/model", "Some Developer Kit\0");
        board.write("proc/device-tree/compatible", "nvidia,board-0000+module-0000\0nvidia,chip\0");
        board.write("proc/meminfo", "MemTotal:       31457280 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n");
        board.write("sys/class/devfreq/15340000.vic/cur_freq", "115200000\n");
        board.write(&format!("sys/class/devfreq/{governor}/cur_freq"), "1300500000\n");
        board.write(&format!("sys/class/devfreq/{governor}/max_freq"), "1300500000\n");
        board.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        board.write("sys/class/thermal/thermal_zone0/temp", "50000\n");
        board.write("sys/class/thermal/thermal_zone1/type", "GPU-therm\n");
        board.write("sys/class/thermal/thermal_zone1/temp", "44093\n");
        board.write("var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n");
        board.write(
            "etc/nvpmodel.conf",
            "# < POWER_MODEL >\n< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
        );
        board.write(
            "etc/nv_tegra_release",
            "# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic\n",
        );
        board
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn source(&self) -> Jetson {
        Jetson::below(self.0.path())
    }

    fn report(&self) -> GpuReport {
        let mut found = self.source().devices().unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }
}

#[test]
fn a_board_tells_what_its_files_hold() {
    let board = Board::with("17000000.gpu");
    board.write("sys/class/devfreq/17000000.gpu/device/load", "985\n");
    board.write("sys/kernel/debug/bpmp/debug/clk/emc/rate", "3199000000\n");
    let report = board.report();
    assert_eq!(report.identity.board, Reading::Known("Some Developer Kit".into()));
    assert_eq!(report.identity.integrated, Reading::Known(true));
    assert_eq!(report.memory.total, Reading::Known(Bytes::new(30 << 30)));
    assert_eq!(report.memory.free, Reading::Known(Bytes::new(1 << 20)));
    assert_eq!(report.clocks.sm, Reading::Known(Hertz::new(1_300_500_000)));
    assert_eq!(report.clocks.sm_max, Reading::Known(Hertz::new(1_300_500_000)));
    assert_eq!(report.clocks.memory, Reading::Known(Hertz::new(3_199_000_000)));
    assert_eq!(report.clocks.load, Reading::Known(Permille::new(985)));
    assert_eq!(report.clocks.temperature, Reading::Known(Millicelsius::new(44_093)));
    assert_eq!(report.clocks.power_mode, Reading::Known("2 (MODE_30W)".into()));
    assert_eq!(board.source().driver_version(), Reading::Known("board release 36.3.0".into()));
    let missing = report.clocks.memory_max.reason().unwrap();
    assert!(missing.starts_with("/sys/kernel/debug/bpmp/debug/clk/emc/max_rate: "), "{missing}");
    let missing = report.clocks.throttle.reason().unwrap();
    assert!(missing.contains("/17000000.gpu/available_frequencies: "), "{missing}");
    let missing = report.clocks.power.reason().unwrap();
    assert!(missing.starts_with("/sys/class/hwmon: "), "{missing}");
}

#[test]
fn the_governor_is_found_by_name_by_node_or_by_load() {
    let renamed = |path: &str, text: &str| {
        let board = Board::with("17000000.chip");
        assert_eq!(board.source().devices().unwrap_err(), "/sys/class/devfreq has no GPU");
        board.write(&format!("sys/class/devfreq/17000000.chip/{path}"), text);
        board.report()
    };
    let by_node = renamed("device/of_node/name", "gpu\0");
    assert_eq!(by_node.clocks.sm, Reading::Known(Hertz::new(1_300_500_000)));
    assert!(by_node.clocks.load.reason().is_some_and(|reason| reason.starts_with("/sys/")));
    let by_load = renamed("device/load", "0\n");
    assert_eq!(by_load.clocks.load, Reading::Known(Permille::new(0)));
}

#[test]
fn other_machines_have_no_board() {
    let reason = Board::empty().source().devices().unwrap_err();
    assert!(reason.starts_with("/proc/device-tree/compatible: "), "{reason}");
    let board = Board::with("ff9a0000.gpu");
    board.write("proc/device-tree/compatible", "acme,board\0acme,chip\0");
    assert_eq!(board.source().devices().unwrap_err(), "the device tree is of another vendor's board");
}

#[test]
fn files_that_hold_something_else_are_named() {
    let board = Board::with("17000000.gpu");
    board.write("sys/class/devfreq/17000000.gpu/cur_freq", "fast\n");
    board.write("sys/class/devfreq/17000000.gpu/device/load", "99999999999\n");
    board.write("sys/class/thermal/thermal_zone1/temp", "");
    board.write("var/lib/nvpmodel/status", "fmode:quiet\n");
    board.write("proc/meminfo", "MemTotal: 1 pages\n");
    board.write("etc/nv_tegra_release", "none\n");
    let report = board.report();
    let told = [
        (report.clocks.sm.to_string(), "/sys/class/devfreq/17000000.gpu/cur_freq holds `fast`"),
        (report.clocks.load.to_string(), "a load of 99999999999 thousandths"),
        (report.clocks.temperature.to_string(), "/sys/class/thermal/thermal_zone1/temp holds ``"),
        (report.clocks.power_mode.to_string(), "/var/lib/nvpmodel/status holds `fmode:quiet`"),
        (report.memory.total.to_string(), "/proc/meminfo does not tell MemTotal"),
        (board.source().driver_version().to_string(), "/etc/nv_tegra_release does not name a release"),
    ];
    for (text, expected) in told {
        assert!(text.starts_with("unknown (") && text.contains(expected), "{text}");
    }
}

#[test]
fn a_change_of_power_mode_or_clock_is_a_departure() {
    let board = Board::with("17000000.gpu");
    let device = board.report().identity;
    let before = board.source().regime(&device);
    assert_eq!(before.departs(&board.source().regime(&device)), Vec::<String>::new());
    board.write("var/lib/nvpmodel/status", "pmode:0007 fmode:quiet\n");
    board.write("sys/class/devfreq/17000000.gpu/cur_freq", "306000000\n");
    assert_eq!(
        before.departs(&board.source().regime(&device)),
        ["the SM clock was 1300.5 MHz and is 306 MHz", "the power mode was 2 (MODE_30W) and is 7"]
    );
    let discrete = Identity { integrated: Reading::Known(false), ..Identity::untold() };
    assert_eq!(board.source().regime(&discrete), Regime::untold());
}
