//! Fleets with lanes that have a carrier of their own, judged by files of another machine: measured with the same carriers
//! or refused, and no search for lanes moves a task to another carrier.

use aegis_types::LaneId;
use aegisrt::config::Fleet;

use crate::bench::Folder;
use crate::elsewhere::{self, CALM, with};

/// The calm fleet, its lane 1 with a carrier of its own; both files say so where `measured` does.
fn folder(measured: [bool; 2]) -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, &CALM, "");
    let fleet = elsewhere::fleet("edf", &CALM, "").replace("lanes = 2", "lanes = 2\nown_carriers = [1]");
    folder.write("fleet.toml", fleet);
    let own = |had: bool| if had { vec![LaneId::new(1)] } else { Vec::new() };
    elsewhere::calibration(&folder, |calibration| {
        let device = calibration.device.as_mut().expect("a GPU");
        device.own_carriers = own(measured[0]);
    });
    elsewhere::profile(&folder, &CALM, |profile| {
        profile.device.as_mut().expect("a GPU").own_carriers = own(measured[1]);
    });
    folder
}

#[test]
fn files_of_other_carriers_are_refused_on_the_command_line() {
    let refused = |measured, parts: &[&str]| {
        for command in ["admit", "plan", "simulate"] {
            folder(measured).aegis(&with(command, &[])).refuses(2, &[&["own_carriers"], parts].concat());
        }
    };
    refused([false, true], &["gpu.json", "aegis calibrate"]);
    refused([true, false], &["gpu-profile.json", "aegis profile"]);
    folder([true, true]).aegis(&with("admit", &[])).says(0, &["ADMITTED"]);
}

#[test]
fn a_search_for_lanes_leaves_tasks_on_their_carriers() {
    let folder = folder([true, true]);
    let lanes = |name: &str| Fleet::read(&folder.path(name)).expect("it is a fleet").fixed_lanes();
    for scope in ["all", "sizes"] {
        let found =
            folder.aegis(&with("admit", &["--format", "json", "--assign", scope, "--write", "found.toml"]));
        let json = found.json();
        assert_eq!(found.code, 0, "{json}");
        assert_eq!(lanes("found.toml"), lanes("fleet.toml"), "{scope}");
        if scope == "sizes" {
            let ways = json["assign"]["sizes"]["ways"].as_array().expect("a list");
            assert_eq!(ways.len(), 1, "one lane leaves no room for its carrier: {json}");
            let skipped = json["assign"]["sizes"]["not_looked_at"][0].as_str().expect("a sentence");
            assert!(skipped.contains("own_carriers[0] = 1"), "{skipped}");
        }
    }
}
