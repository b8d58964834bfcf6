//! A profile in stages: what one process found, the next goes on from.

use crate::bench::{Folder, cache, fleet, ready, task};

#[test]
fn stages_go_on_where_the_last_one_stopped() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &[task("one", &[]), task("two", &[])].concat());
    let profile = |more: &[&str]| {
        let command = ["profile", "fleet.toml", "--seconds", "300ms", "--samples", "20", "--strata", "2"];
        folder.aegis(&[&command, more].concat())
    };
    profile(&["--stage", "confirm"]).refuses(2, &["--stage", "explore first"]);
    profile(&["--level", "enemy"]).refuses(2, &["--level", "legal: fleet"]);

    let explored = profile(&["--stage", "explore", "--format", "json"]).json();
    assert_eq!((&explored["complete"], &explored["explored"]), (&false.into(), &2.into()), "{explored}");
    assert!(!folder.path("profile.json").exists() && folder.path("profile.campaign.json").exists());

    let confirmed = profile(&["--stage", "confirm"]);
    confirmed.says(0, &["strata", "slowdown on 1 lane,", "lane-mates", "wrote profile.json"]);
    assert!(confirmed.err.contains("[2/2] two"), "{confirmed:?}");
    let first = std::fs::read_to_string(folder.path("profile.json")).unwrap();
    assert!(first.contains("fleet level, 1 stratum of at least"), "{first}");

    let again = profile(&["--format", "json"]);
    assert!(again.err.is_empty(), "nothing is measured twice: {again:?}");
    let again = again.json();
    assert_eq!((&again["complete"], &again["level"]), (&true.into(), &"fleet".into()), "{again}");
    let segment = &again["tasks"][0]["segments"][0];
    assert!(segment["budget_ns"].as_u64() > segment["max_ns"].as_u64(), "{segment}");
    assert!(profile(&["--fresh"]).err.contains("[1/2] one"), "it was asked to");
    // Another margin is another campaign: samples are compared with budgets.
    assert!(profile(&["--margin", "40%"]).err.contains("[1/2] one"));
}

#[test]
fn a_campaign_that_was_damaged_is_named() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("one", &[]));
    folder.write("profile.campaign.json", "{");
    let profile = ["profile", "fleet.toml", "--seconds", "100ms"];
    folder.aegis(&profile).refuses(2, &["profile.campaign.json", "--fresh"]);
}

#[test]
fn spans_that_make_no_sense_are_refused() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("one", &[])));
    for option in ["--time-limit", "--budget-seconds"] {
        folder.aegis(&["profile", "fleet.toml", option, "0s"]).refuses(2, &[option, "above zero"]);
    }
    let both = ["profile", "fleet.toml", "--seconds", "1s", "--budget-seconds", "1s"];
    folder.aegis(&both).refuses(2, &["--seconds", "--budget-seconds"]);
}
