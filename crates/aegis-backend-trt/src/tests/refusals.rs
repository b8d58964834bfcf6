//! Plans and fleets that do not fit are refused with the place and what would be legal, and leave nothing behind.

use std::collections::BTreeMap;

use aegis_cuda::BackendError;

use super::bench::{Bench, shapes};

/// A plan with one line more.
fn plan(line: &str) -> String {
    format!("mockplan 1\ninput x 0 2x3\noutput y 0 6\nweights 300\ncontext 64\nscratch 128\n{line}\nend\n")
}

/// A plan with an open axis and two ranges for it.
const OPEN: &str =
    "mockplan 1\ninput x 0 ?x4\nprofile x 1x4 2x4\nprofile x 8x4 16x4\noutput y 0 ?x4\nweights 300\nend\n";

/// Inspecting and loading both refuse with all the words.
fn refused(
    bench: &mut Bench,
    plan: &str,
    shapes: &BTreeMap<String, Vec<u64>>,
    words: &[&str],
) -> BackendError {
    let inspected = bench.inspect(plan, shapes).err();
    let loaded = bench.load(plan, shapes).err();
    assert_eq!(inspected, loaded, "{plan}");
    let error = loaded.unwrap_or_else(|| panic!("not refused: {plan}"));
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}\n{plan}");
    }
    bench.assert_empty(plan);
    error
}

#[test]
fn a_plan_that_the_library_refuses_is_told_in_the_librarys_words_once() {
    let Some(mut bench) = Bench::open() else { return };
    let words = ["`net`", "refuses it", "magic tag does not match (invalid argument)"];
    let error = refused(&mut bench, "no plan", &BTreeMap::new(), &words);
    assert!(matches!(error, BackendError::InvalidModel { .. }), "{error}");
    assert_eq!(error.to_string().matches("magic tag").count(), 1, "{error}");
    refused(
        &mut bench,
        &plan("fail read"),
        &BTreeMap::new(),
        &["one of many (internal error)", "and 5 more errors"],
    );
    refused(&mut bench, &plan("silent"), &BTreeMap::new(), &["gave no reason"]);
    refused(&mut bench, "", &BTreeMap::new(), &["is empty"]);
    refused(
        &mut bench,
        &plan("fail context"),
        &BTreeMap::new(),
        &["makes no context", "no context today (invalid state)"],
    );
}

#[test]
fn a_warning_is_no_reason_of_what_fails_later() {
    let Some(mut bench) = Bench::open() else { return };
    refused(&mut bench, &plan("warn\naux 1"), &BTreeMap::new(), &["--maxAuxStreams=0"]);
    let error = refused(&mut bench, "no plan", &BTreeMap::new(), &["magic tag"]);
    assert!(!error.to_string().contains("another GPU") && !error.to_string().contains("nobody"), "{error}");
}

#[test]
fn a_plan_that_this_backend_cannot_serve_is_refused_with_what_would_be_legal() {
    let Some(mut bench) = Bench::open() else { return };
    let none = BTreeMap::new();
    refused(&mut bench, &plan("aux 2"), &none, &["2 streams beside the lane's", "--maxAuxStreams=0"]);
    refused(&mut bench, &plan("host x"), &none, &["`x` lies on the host", "on the device"]);
    refused(&mut bench, &plan("vector y"), &none, &["`y`", "Thirty-two wide", "linear"]);
    for (number, word) in [(6, "floats of 8 bits"), (9, "integers of 4 bits"), (77, "type 77")] {
        refused(&mut bench, &plan("").replace("y 0", &format!("y {number}")), &none, &["`y`", word]);
    }
    let values = OPEN.replace("end", "values y\nend");
    refused(&mut bench, &values, &shapes(&[("x", &[2, 4])]), &["`y`", "[?, 4]", "values of a job"]);
}

#[test]
fn shapes_are_fixed_by_the_fleet_inside_the_plans_ranges() {
    let Some(mut bench) = Bench::open() else { return };
    for (given, words) in [
        (shapes(&[]), ["axis 0 is not fixed", "[?, 4]"]),
        (shapes(&[("x", &[2])]), ["1 axes in the fleet", "[?, 4]"]),
        (shapes(&[("x", &[2, 5])]), ["axis 1 is 5 in `shapes` but 4", "legal is 4"]),
        (shapes(&[("x", &[5, 4])]), ["[5, 4]", "[1, 4] to [2, 4], or [8, 4] to [16, 4]"]),
        (shapes(&[("x", &[2, 4]), ("w", &[1])]), ["`w`", "legal: x"]),
    ] {
        let error = refused(&mut bench, OPEN, &given, &words);
        assert!(matches!(error, BackendError::Shape { .. }), "{error}");
    }
    for rows in [1, 2, 8, 16] {
        let described = bench.inspect(OPEN, &shapes(&[("x", &[rows, 4])])).unwrap();
        assert_eq!(described.outputs[0].shape, [rows, 4]);
    }
}

#[test]
fn ranges_are_taken_together() {
    let Some(mut bench) = Bench::open() else { return };
    let two = "mockplan 1\ninput x 0 ?\ninput w 0 ?\nprofile x 1 4\nprofile x 5 9\nprofile w 1 4\nprofile w 5 9\n\
               output y 0 1\nweights 9\nend\n";
    assert!(bench.inspect(two, &shapes(&[("x", &[7]), ("w", &[6])])).is_ok());
    refused(
        &mut bench,
        two,
        &shapes(&[("x", &[2]), ("w", &[6])]),
        &["together", "[1] to [4], or [5] to [9]"],
    );
}
