//! Memory that libraries take of a device by themselves: measured, left room for, and told.

use aegis_types::Bytes;

use crate::bench::Folder;
use crate::elsewhere::{self, CALM, with};

/// The calm fleet on 1 GiB, whose first task's library takes so much by itself.
fn folder(outside: u64) -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, &CALM, "");
    elsewhere::profile(&folder, &CALM, |profile| {
        profile.tasks[0].memory.outside = Bytes::new(outside);
    });
    folder
}

#[test]
fn what_no_plan_reaches_is_told_beside_the_plan() {
    let beside = folder(64 << 20);
    beside.aegis(&with("plan", &[])).says(0, &["outside", "64MiB", "as measured", "of 960MiB"]);
    let json = beside.aegis(&with("plan", &["--format", "json"])).json();
    assert_eq!((&json["outside_bytes"], &json["capacity_bytes"]), (&(64 << 20).into(), &(960 << 20).into()));
    let nothing = folder(0).aegis(&with("plan", &[]));
    assert!(nothing.code == 0 && !nothing.out.contains("outside"), "{}", nothing.out);
}

#[test]
fn a_fleet_that_fits_only_without_it_is_refused() {
    // The plan itself takes some MiB, and one byte is left.
    let full = folder((1 << 30) - 1);
    let said = ["1GiB", "1073741823B", "libraries take by themselves"];
    full.aegis(&with("plan", &[])).refuses(3, &said);
    full.aegis(&with("admit", &[])).says(3, &said);
}
