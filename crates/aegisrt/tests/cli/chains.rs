//! Cause-effect chains on the command line: bounds, limits, refusals.

use crate::bench::{Answer, Folder};
use crate::elsewhere::{self, CALM, TIGHT, with};

fn chain(limits: &str) -> String {
    format!("[[chain]]\nname = \"see-act\"\ntasks = [\"camera\", \"detector\", \"policy\"]\n{limits}")
}

fn admit(limits: &str, more: &[&str]) -> Answer {
    let folder = Folder::new();
    elsewhere::write(&folder, &CALM, &chain(limits));
    folder.aegis(&with("admit", more))
}

/// Reaction and age from the response times of the answer alone: sum of T + R, and the same without the last T.
fn expected(json: &serde_json::Value) -> (u64, u64) {
    let response = |name: &str| {
        let tasks = json["tasks"].as_array().expect("tasks");
        tasks.iter().find(|task| task["task"] == name).expect("the task")["wcrt_ns"]
            .as_u64()
            .expect("a bound")
    };
    let gaps = [33_000_000, 50_000_000, 10_000_000];
    let reaction: u64 =
        ["camera", "detector", "policy"].iter().zip(gaps).map(|(name, gap)| gap + response(name)).sum();
    (reaction, reaction - 10_000_000)
}

#[test]
fn reaction_and_age_are_shown_with_what_each_task_adds() {
    admit("", &[]).says(0, &["ADMITTED", "chain `see-act`: reaction at most", "adds to age", "detector"]);
    let json = admit("", &["--format", "json"]).json();
    let (reaction, age) = expected(&json);
    let chain = &json["chains"][0];
    assert_eq!((chain["reaction_ns"].as_u64(), chain["age_ns"].as_u64()), (Some(reaction), Some(age)));
    assert_eq!(chain["held_age_ns"].as_u64(), Some(age + 10_000_000));
    for (key, sum) in [("reaction_ns", reaction), ("age_ns", age)] {
        let hops = chain["hops"].as_array().expect("hops").iter();
        assert_eq!(hops.map(|hop| hop[key].as_u64().expect("a span")).sum::<u64>(), sum, "{key}");
    }
}

#[test]
fn a_limit_is_kept_or_the_fleet_is_refused_to_the_nanosecond() {
    let (reaction, age) = expected(&admit("", &["--format", "json"]).json());
    for (key, bound) in [("reaction", reaction), ("age", age)] {
        let kept = format!("{key} = \"{bound}ns\"");
        admit(&kept, &[]).says(0, &["ADMITTED", " kept"]);
        let broken = format!("{key} = \"{}ns\"", bound - 1);
        let answer = admit(&broken, &[]);
        answer.says(
            3,
            &["EXCEEDED", "REFUSED: chain `see-act`", "`detector` adds most: 50ms between arrivals"],
        );
        assert!(!answer.out.contains("ADMITTED"), "{}", answer.out);
        let json = admit(&broken, &["--format", "json"]).json();
        assert_eq!((&json["admitted"], &json["chains"][0]["holds"]), (&false.into(), &false.into()));
    }
}

#[test]
fn lost_jobs_and_longer_gaps_count() {
    let base = admit("", &["--format", "json"]).json()["chains"][0]["reaction_ns"].as_u64().unwrap();
    let with_skips = admit("skips = { detector = 2 }", &["--format", "json"]).json();
    assert_eq!(with_skips["chains"][0]["reaction_ns"].as_u64(), Some(base + 2 * 50_000_000));
    let with_gap = admit("gaps = { camera = \"40ms\" }", &["--format", "json"]).json();
    assert_eq!(with_gap["chains"][0]["reaction_ns"].as_u64(), Some(base + 7_000_000));
}

#[test]
fn fitted_periods_are_judged_by_the_chains_too() {
    let folder = Folder::new();
    let chain = |limit: &str| format!("[[chain]]\nname = \"c\"\ntasks = [\"short\"]\nage = \"{limit}\"\n");
    for (limit, code, word) in [("1s", 0, " kept"), ("1ms", 3, "REFUSED: chain `c`: data are up to")] {
        elsewhere::write(&folder, &TIGHT, &chain(limit));
        let fitted = folder.aegis(&with("admit", &["--fit", "1ms", "--write", "fitted.toml"]));
        fitted.says(code, &["(stretched)", "judged for: ", word, "wrote fitted.toml"]);
    }
    assert!(std::fs::read_to_string(folder.path("fitted.toml")).unwrap().contains("[[chain]]"));
}

#[test]
fn a_fleet_that_does_not_fit_has_no_chains_to_judge() {
    let folder = Folder::new();
    elsewhere::write(&folder, &TIGHT, "[[chain]]\nname = \"c\"\ntasks = [\"long\"]\nreaction = \"1ms\"\n");
    folder.aegis(&with("admit", &[])).says(3, &["chains: 1 not judged"]);
}
