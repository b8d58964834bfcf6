//! Fleets judged for a machine that is not this one, from its files.

use crate::bench::Folder;
use crate::elsewhere::{self, CALM, DATE, GPU, MACHINE, TIGHT, with};

fn calm() -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, &CALM, "");
    folder
}

#[test]
fn another_device_is_judged_and_named() {
    let folder = calm();
    let line = format!("judged for: {GPU} (driver 1) of {MACHINE}, measured on {DATE}, not this machine");
    folder.aegis(&with("admit", &[])).says(0, &[&line, "ADMITTED", "memory: ", " of 1GiB"]);
    folder.aegis(&with("plan", &[])).says(0, &[&line, "lower bound"]);
    let runs = ["--sets", "3", "--horizon", "60ms"];
    folder.aegis(&with("simulate", &runs)).says(0, &[&line, "3 runs", " 0 violations"]);
    for command in ["admit", "plan", "simulate"] {
        let json = folder.aegis(&with(command, &["--format", "json"])).json();
        assert_eq!(json["judged_for"]["machine"], MACHINE, "{json}");
        assert_eq!(json["judged_for"]["measured"], DATE);
    }
}

#[test]
fn what_is_simulated_stays_within_its_bounds() {
    let json =
        calm().aegis(&with("simulate", &["--sets", "6", "--horizon", "120ms", "--format", "json"])).json();
    assert_eq!(json["violations"], 0);
    for task in json["tasks"].as_array().expect("tasks") {
        let span = |key: &str| task[key].as_u64().expect("a span");
        assert!(span("longest_response_ns") > 0, "every task ran: {json}");
        assert!(span("longest_response_ns") <= span("wcrt_ns"), "{json}");
    }
}

#[test]
fn nothing_runs_with_the_files_of_another_machine() {
    let folder = calm();
    let answer = folder.aegis(&with("run", &["--trace", "run.aegis"]));
    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(!folder.path("run.aegis").exists());
    // Beside the fleet and not asked for, such files are a mistake, and no verdict.
    std::fs::copy(folder.path("gpu.json"), folder.path("platform.json")).unwrap();
    let answer = folder.aegis(&["admit", "fleet.toml"]);
    assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{answer:?}");
}

#[test]
fn files_of_two_machines_are_no_device() {
    let folder = calm();
    elsewhere::profile(&folder, &CALM, |profile| profile.machine = "a third, 4 cores; spin".into());
    folder.aegis(&with("admit", &[])).refuses(2, &["gpu-profile.json", "a third, 4 cores", MACHINE]);
    elsewhere::profile(&folder, &CALM, |profile| {
        profile.device.as_mut().expect("recorded").name = "a small GPU".into();
    });
    folder.aegis(&with("admit", &[])).refuses(2, &["a small GPU", GPU]);
    elsewhere::profile(&folder, &CALM, |_| {});
    elsewhere::calibration(&folder, |calibration| calibration.device = None);
    folder.aegis(&with("admit", &[])).refuses(2, &["gpu.json: device", "is missing"]);
    elsewhere::calibration(&folder, |calibration| {
        calibration.device.as_mut().expect("recorded").lanes = 1;
    });
    folder.aegis(&with("admit", &[])).refuses(2, &["device.lanes = 1"]);
}

#[test]
fn units_and_memory_are_those_of_the_other_device() {
    let folder = calm();
    let text = std::fs::read_to_string(folder.path("fleet.toml")).unwrap();
    // Sizes are rounded up as the device does, and budgets hold on partitions of the profiled size.
    folder
        .write("fleet.toml", text.replace("sms = 64", "sms = 57"))
        .aegis(&with("admit", &[]))
        .says(0, &["ADMITTED"]);
    folder.write("fleet.toml", text.replace("sms = 64", "sms = 56"));
    folder.aegis(&with("admit", &[])).refuses(2, &["stale", "56 units"]);
    folder.write("fleet.toml", text.replace("sms = 64", "sms = 200"));
    folder.aegis(&with("admit", &[])).refuses(2, &["fleet.toml:", "has 200 SMs", "1 to 132 SMs"]);
    // Groups of eight do not make up 132: one partition has the rest, too.
    folder.write("fleet.toml", text.replace("sms = 64", "sms = 132"));
    folder.aegis(&with("admit", &[])).refuses(2, &["stale", "132 units"]);
    folder.write("fleet.toml", text.replace("memory = \"1GiB\"\n", ""));
    folder.aegis(&with("admit", &[])).refuses(2, &["device.memory", "gpu.json does not tell"]);
    let known = |bytes: u64| {
        elsewhere::calibration(&folder, |calibration| {
            let limits = calibration.limits.as_mut().expect("recorded");
            limits.memory = Some(aegis_types::Bytes::new(bytes));
        });
    };
    known(1 << 30);
    folder.aegis(&with("admit", &[])).says(0, &[" of 1GiB"]);
    known(1 << 20);
    folder.aegis(&with("admit", &[])).says(3, &["REFUSED: the fleet needs", "missing"]);
}

#[test]
fn a_refused_fleet_has_its_miss_replayed() {
    let folder = Folder::new();
    elsewhere::write(&folder, &TIGHT, "");
    folder.aegis(&with("simulate", &[])).says(3, &["REFUSED", "replayed: ", "after its deadline"]);
    let json = folder.aegis(&with("simulate", &["--format", "json"])).json();
    assert_eq!(json["replayed"], true, "{json}");
}

#[test]
fn simulations_of_fleets_refuse_what_makes_no_sense() {
    let folder = calm();
    folder.aegis(&["simulate", "--platform", "gpu.json"]).refuses(2, &["<FLEET>"]);
    folder.aegis(&["simulate", "nothing.toml"]).refuses(2, &["nothing.toml"]);
}
