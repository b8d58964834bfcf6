//! Sporadic tasks under `aegis run --clients`: their jobs run, are right, and too many of them are refused where they belong.

use serde_json::Value;

use crate::bench::{Folder, cache, ready, task};

const SPORADIC: (&str, &str) = ("arrival", "\"sporadic\"");

/// A sporadic task in a group of its own beside a periodic one.
fn tenants(cache: &std::path::Path) -> Folder {
    let tasks =
        task("burst.vad", &[SPORADIC, ("group", "\"burst\"")]) + &task("gold.vad", &[("group", "\"gold\"")]);
    let groups =
        "\n[[group]]\nname = \"burst\"\nmiss_rate = 0.1\n\n[[group]]\nname = \"gold\"\nmiss_rate = 0.5\n";
    ready(cache, &(tasks + groups))
}

fn run(folder: &Folder, more: &[&str]) -> Value {
    let arguments = [&["run", "fleet.toml", "--duration", "2s", "--format", "json"], more].concat();
    let answer = folder.aegis(&arguments);
    assert!(matches!(answer.code, 0 | 4), "a busy machine may be late and nothing worse: {answer:?}");
    answer.json()
}

fn number(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {json}"))
}

#[test]
fn jobs_of_clients_run_and_are_right() {
    let Some(cache) = cache() else { return };
    // Its state goes from job to job, so that one job left out would be seen in all behind it.
    let folder = ready(&cache, &task("vad", &[SPORADIC]));
    for pattern in ["dense", "random"] {
        let more = ["--clients", pattern, "--check-outputs", "--poison", "--trace", "run.aegis"];
        let json = run(&folder, &more);
        let compared = number(&json, "/outputs/0/jobs");
        assert!(compared > 0 && json["outputs"][0]["wrong"].is_null(), "{json}");
        let submitted = number(&json, "/clients/0/submitted");
        assert_eq!(json["clients"][0]["task"], "vad");
        assert!(submitted >= compared, "{json}");
        assert_eq!(json["notes"], serde_json::json!([]), "somebody submits its jobs");
        folder.aegis(&["replay", "run.aegis"]).says(0, &["identical"]);
    }
    let answer = folder.aegis(&["run", "fleet.toml", "--duration", "300ms", "--clients", "dense"]);
    answer.says(answer.code, &["clients: ", " submitted"]);
}

#[test]
fn an_overload_is_refused_and_counted_at_its_group() {
    let Some(cache) = cache() else { return };
    let folder = tenants(&cache);
    let json = run(&folder, &["--clients", "dense", "--overload", "burst=5"]);
    let (asked, refused) = (number(&json, "/groups/0/jobs"), number(&json, "/groups/0/refused"));
    assert_eq!(json["groups"][0]["group"], "burst", "{json}");
    assert!(refused > 0 && refused < asked, "one in a period is let in: {json}");
    assert_eq!(json["groups"][0]["kept"], false, "{json}");
    assert_eq!(number(&json, "/groups/1/refused"), 0, "{json}");
    // What was left when the run ended reached nobody: as many packets as there are.
    let submitted = number(&json, "/clients/0/submitted");
    assert!((asked..=asked + 2).contains(&submitted), "{submitted} submitted, {asked} asked for: {json}");
}

#[test]
fn clients_of_nobody_are_refused() {
    let Some(cache) = cache() else { return };
    let folder = tenants(&cache);
    let run = |more: &[&str]| folder.aegis(&[&["run", "fleet.toml"], more].concat());
    run(&["--overload", "burst=2"]).refuses(2, &["--clients"]);
    run(&["--clients", "dense", "--overload", "gold=2"])
        .refuses(2, &["`gold`", "none of its tasks has clients"]);
    run(&["--clients", "dense", "--overload", "silver=2"])
        .refuses(2, &["no such group", "legal: burst, gold"]);
    run(&["--clients", "often"]).refuses(2, &["often", "dense", "random"]);
    let periodic = ready(&cache, &task("vad", &[]));
    periodic.aegis(&["run", "fleet.toml", "--clients", "dense"]).refuses(2, &["--clients", "\"sporadic\""]);
}
