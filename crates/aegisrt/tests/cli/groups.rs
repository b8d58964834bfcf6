//! Groups of tasks on the command line: refusals with what would fit, plans, and agreements in virtual time.

use serde_json::Value;

use crate::bench::{Answer, Folder};
use crate::elsewhere::{self, Row, with};

/// Four tenants on two lanes; `burst` has clients.
const TENANTS: [Row<'static>; 5] = [
    ("gold.search", 0, 20, 2_000, "group = \"gold\""),
    ("gold.faces", 1, 40, 2_000, "group = \"gold\""),
    ("silver.voice", 0, 40, 2_000, "group = \"silver\""),
    ("burst.video", 1, 20, 2_000, "group = \"burst\"\narrival = \"sporadic\""),
    ("burst.thumbs", 0, 40, 2_000, "group = \"burst\"\narrival = \"sporadic\""),
];

fn groups(gold: &str, burst: &str) -> String {
    format!(
        "[[group]]\nname = \"gold\"\nmiss_rate = 0\n{gold}\n[[group]]\nname = \"silver\"\nmiss_rate = 0.01\n\
         [[group]]\nname = \"burst\"\nmiss_rate = 0.1\n{burst}\n"
    )
}

fn tenants(gold: &str, burst: &str) -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, &TENANTS, &groups(gold, burst));
    folder
}

fn number(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {json}"))
}

fn json(folder: &Folder, command: &str, more: &[&str]) -> Value {
    folder.aegis(&with(command, &[more, &["--format", "json"]].concat())).json()
}

/// The text between two others.
fn between<'a>(answer: &'a Answer, before: &str, after: &str) -> &'a str {
    let (_, rest) = answer.out.split_once(before).unwrap_or_else(|| panic!("{before} in {}", answer.out));
    rest.split_once(after).map_or(rest, |(found, _)| found)
}

#[test]
fn groups_that_fit_are_shown_beside_their_budgets() {
    let folder = tenants("memory = \"8MiB\"\nutilisation = 0.5", "");
    let parts = ["ADMITTED", "misses agreed", "gold", "8MiB", "0.50", "burst", "10%"];
    folder.aegis(&with("admit", &[])).says(0, &parts);
    folder.aegis(&with("plan", &[])).says(0, &["headroom", "misses agreed", "gold", "8MiB"]);
    let json = json(&folder, "admit", &[]);
    assert_eq!((&json["admitted"], &json["groups"][0]["fits"]), (&true.into(), &true.into()), "{json}");
    assert_eq!(json["groups"][0]["tasks"], serde_json::json!([0, 1]));
    assert_eq!(number(&json, "/groups/2/miss_rate_agreed_ppm"), 100_000);
    assert_eq!(json["groups"][1]["memory_budget_bytes"], Value::Null);
}

#[test]
fn a_group_that_takes_too_much_time_is_refused_with_a_period_that_fits() {
    let folder = tenants("utilisation = 0.12", "");
    let answer = folder.aegis(&with("admit", &[]));
    answer.says(
        3,
        &["In time alone", "REFUSED: group `gold`", "its budget is 0.12", "most is taken by `gold.search`"],
    );
    assert!(!answer.out.contains("ADMITTED"), "{}", answer.out);
    let period = between(&answer, "would fit with a period of ", " for `gold.search`").to_owned();
    folder.aegis(&with("simulate", &[])).refuses(3, &["group `gold`", "its budget is 0.12"]);
    // Time is none of the plan's business.
    folder.aegis(&with("plan", &[])).says(0, &["gold", "0.12"]);
    let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it is there");
    let with_period = |period: &str| {
        folder.write("fleet.toml", text.replacen("period = \"20ms\"", &format!("period = \"{period}\""), 1));
        folder.aegis(&with("admit", &[]))
    };
    with_period(&period).says(0, &["ADMITTED"]);
    let micros = period.parse::<aegis_types::Nanos>().expect("a span").get() / 1_000;
    with_period(&format!("{}us", micros - 1)).says(3, &["REFUSED: group `gold`"]);
}

/// Where no period of one task gives enough, those of the group do together.
#[test]
fn a_group_of_which_no_task_can_give_enough_is_told_by_how_much_all_would() {
    let folder = tenants("utilisation = 0.03", "");
    let answer = folder.aegis(&with("admit", &[]));
    answer.says(3, &["REFUSED: group `gold`", "its budget is 0.03"]);
    let factor: f64 = between(&answer, "all periods of the group times ", "\n").parse().expect("a number");
    let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it is there");
    let with_factor = |factor: f64| {
        let mut longer = text.clone();
        // The first task of 20 ms and the first of 40 ms are those of the group.
        for millis in [20.0, 40.0] {
            let period = format!("{}ns", (millis * 1e6 * factor).ceil());
            longer =
                longer.replacen(&format!("period = \"{millis}ms\""), &format!("period = \"{period}\""), 1);
        }
        folder.write("fleet.toml", longer);
        folder.aegis(&with("admit", &[]))
    };
    with_factor(factor).says(0, &["ADMITTED"]);
    with_factor(factor - 0.000_01).says(3, &["REFUSED: group `gold`"]);
}

#[test]
fn a_group_that_needs_too_much_memory_is_refused_before_anything_is_planned_or_run() {
    let folder = tenants("memory = \"1MiB\"", "");
    let says = ["REFUSED: group `gold`", "its budget is 1MiB", "too much", "most is taken by `gold.search`"];
    folder.aegis(&with("admit", &[])).says(3, &says);
    folder.aegis(&with("plan", &[])).refuses(3, &["group `gold`", "its budget is 1MiB"]);
    let json = json(&folder, "admit", &[]);
    assert_eq!((&json["admitted"], &json["memory"]["fits"]), (&false.into(), &true.into()), "{json}");
    let asks = number(&json, "/groups/0/memory_bytes");
    assert!(asks > 1 << 20, "{json}");
    for (budget, code) in [(asks, 0), (asks - 1, 3)] {
        let folder = tenants(&format!("memory = \"{budget}B\""), "");
        assert_eq!(folder.aegis(&with("admit", &[])).code, code, "{budget}");
        assert_eq!(folder.aegis(&with("plan", &[])).code, code, "{budget}");
    }
    // Either of two equal tasks leaves enough; the one that frees least and comes first is named.
    let folder = tenants(&format!("memory = \"{}B\"", asks - 1), "");
    folder.aegis(&with("admit", &[])).says(3, &["would fit with `gold.search` in another group"]);
}

/// Of tasks that nobody measured a budget can be cut, to the byte. Such tasks declare what a job takes.
#[test]
fn a_budget_that_was_not_measured_is_cut_to_what_the_group_leaves() {
    let Some(cache) = crate::bench::cache() else { return };
    let fleet = |first: &str| {
        let task = |name: &str, memory: &str| {
            let budget = format!("{{ memory = \"{memory}\", compute = \"2ms\" }}");
            crate::bench::task(name, &[("group", "\"pair\""), ("budget", &budget)])
        };
        let group = "\n[[group]]\nname = \"pair\"\nmemory = \"60MiB\"\n".to_owned();
        crate::bench::ready(&cache, &[task("one", first), task("two", "24MiB"), group].concat())
    };
    let refused = fleet("40MiB").aegis(&["admit", "fleet.toml"]);
    refused.says(
        3,
        &[
            "need 64MiB of memory together",
            "4MiB too much",
            "a memory budget of 36MiB for `one` instead of 40MiB",
        ],
    );
    fleet("36MiB").aegis(&["admit", "fleet.toml"]).says(0, &["ADMITTED"]);
    let run = fleet("40MiB").aegis(&["run", "fleet.toml", "--duration", "1s"]);
    run.refuses(3, &["group `pair`", "64MiB"]);
    let json = fleet("30MiB").aegis(&["plan", "fleet.toml", "--headroom", "one", "--format", "json"]).json();
    assert_eq!(
        (number(&json, "/headroom/budget_bytes"), &json["headroom"]["binding"]),
        (36 << 20, &"group".into())
    );
    let served =
        fleet("36MiB").aegis(&["run", "fleet.toml", "--duration", "300ms", "--format", "json"]).json();
    assert_eq!(served["groups"][0]["group"], "pair", "{served}");
    assert!(number(&served, "/groups/0/jobs") >= 4, "{served}");
    assert_eq!(served["groups"][0]["kept"], Value::Null, "nothing was agreed");
}

#[test]
fn headroom_ends_where_the_group_does() {
    let asks = number(&json(&tenants("memory = \"1GiB\"", ""), "admit", &[]), "/groups/0/memory_bytes");
    let free =
        number(&json(&tenants("", ""), "plan", &["--headroom", "gold.search"]), "/headroom/budget_bytes");
    let folder = tenants(&format!("memory = \"{}B\"", asks + 12_345), "");
    let found = json(&folder, "plan", &["--headroom", "gold.search"]);
    assert_eq!(found["headroom"]["binding"], "group", "{found}");
    let (most, needs) = (number(&found, "/headroom/budget_bytes"), number(&found, "/headroom/needs_bytes"));
    assert_eq!(most - needs, 12_345);
    assert!(most < free);
    folder.aegis(&with("plan", &["--headroom", "gold.search"])).says(0, &["binding      group `gold`"]);
    // A group that leaves more than the device has does not bind.
    let wide = json(&tenants("memory = \"8GiB\"", ""), "plan", &["--headroom", "gold.search"]);
    assert_eq!(
        (number(&wide, "/headroom/budget_bytes"), &wide["headroom"]["binding"]),
        (free, &"device memory".into())
    );
    // The lane of the grown task holds as much scratch as it says, and not a byte more.
    let grown = |by: u64| {
        elsewhere::profile(&folder, &TENANTS, |profile| {
            profile.tasks[0].memory.persistent = aegis_types::Bytes::new((1 << 20) + by);
        });
        folder.aegis(&with("plan", &[])).code
    };
    assert_eq!((grown(12_345), grown(12_346)), (0, 3));
}

const RUNS: [&str; 4] = ["--sets", "6", "--horizon", "400ms"];

#[test]
fn who_is_not_in_overload_keeps_what_was_agreed() {
    let folder = tenants("", "");
    let calm = json(&folder, "simulate", &RUNS);
    for group in 0..3 {
        assert_eq!(calm["groups"][group]["kept"], true, "{calm}");
        assert!(number(&calm, &format!("/groups/{group}/jobs")) > 0, "{calm}");
    }
    let overload = [&RUNS[..], &["--overload", "burst=3"]].concat();
    folder
        .aegis(&with("simulate", &overload))
        .says(0, &["not served", "BROKEN", "group `burst`: agreement broken", "was agreed", " 0 violations"]);
    let json = json(&folder, "simulate", &overload);
    let kept: Vec<&Value> = (0..3).map(|group| &json["groups"][group]["kept"]).collect();
    assert_eq!(kept, [true, true, false], "{json}");
    assert_eq!((number(&json, "/violations"), number(&json, "/groups/0/unserved")), (0, 0), "{json}");
    // What was let in was in time: the overload is all in what was refused.
    assert_eq!((number(&json, "/groups/2/missed"), number(&json, "/groups/2/lost")), (0, 0), "{json}");
    assert!(number(&json, "/groups/2/refused") * 3 > number(&json, "/groups/2/jobs"), "{json}");
    // What the overload adds is refused; what the contract lets in is served as before.
    let served = |json: &Value| number(json, "/groups/2/jobs") - number(json, "/groups/2/unserved");
    assert!(served(&json) >= served(&calm), "{json} {calm}");
}

#[test]
fn an_overload_that_cannot_be_is_refused() {
    let folder = tenants("", "");
    let asks = |overload: &str| folder.aegis(&with("simulate", &["--overload", overload]));
    asks("bust=3").refuses(2, &["--overload: `bust`: no such group", "gold, silver, burst"]);
    asks("gold=3").refuses(2, &["`gold`", "none of its tasks has clients", "sporadic"]);
    asks("burst=1").refuses(2, &["from 2 to 1000"]);
    let ungrouped = Folder::new();
    elsewhere::write(&ungrouped, &elsewhere::CALM, "");
    ungrouped.aegis(&with("simulate", &["--overload", "burst=3"])).refuses(2, &["a fleet with groups"]);
    assert!(!ungrouped.aegis(&with("admit", &[])).out.contains("misses agreed"), "no groups, no table");
}

/// Lanes are found for a part of the fleet; a group of which nothing is left goes with its tasks.
#[test]
fn what_is_left_out_leaves_no_empty_group() {
    let rows: [Row<'_>; 3] = [
        ("a", 0, 20, 12_000, "group = \"first\"\ncriticality = \"high\""),
        ("b", 1, 20, 12_000, "group = \"first\"\ncriticality = \"high\""),
        ("c", 1, 20, 12_000, "group = \"second\"\ncriticality = \"low\""),
    ];
    let folder = Folder::new();
    elsewhere::write(&folder, &rows, "[[group]]\nname = \"first\"\n[[group]]\nname = \"second\"\n");
    let json = json(&folder, "admit", &["--assign", "all"]);
    assert_eq!(json["assign"]["left_out"][0]["task"], "c", "{json}");
    let names: Vec<&Value> =
        json["groups"].as_array().expect("groups").iter().map(|group| &group["group"]).collect();
    assert_eq!(names, ["first"], "{json}");
}

/// The shortest periods that fit the lanes may be too short for a group.
#[test]
fn fitted_periods_are_judged_by_the_groups_too() {
    let folder = tenants("utilisation = 0.12", "");
    folder.aegis(&with("admit", &["--fit", "1ms"])).says(3, &["0 of 5 periods", "REFUSED: group `gold`"]);
    tenants("utilisation = 0.5", "").aegis(&with("admit", &["--fit", "1ms"])).says(0, &["ADMITTED", "gold"]);
}

/// Groups are followed while tasks come and go: a change is refused for the group's time alone, and agreements are
/// counted over the whole run.
#[test]
fn changes_keep_to_what_groups_may_take() {
    let folder = Folder::new();
    let extra: Row<'_> = ("gold.extra", 1, 20, 2_000, "group = \"gold\"");
    let rows: Vec<Row<'_>> = TENANTS.into_iter().chain([extra]).collect();
    elsewhere::write(&folder, &rows, "");
    let text = elsewhere::fleet("edf", &[extra], "");
    folder.write("extra.toml", &text[text.find("[[task]]").expect("there is a task")..]);
    folder.write("changes.toml", "[[change]]\nat = \"50ms\"\nadd = \"extra.toml\"\n");
    let asks = |gold: &str, more: &[&str]| {
        folder.write("fleet.toml", elsewhere::fleet("edf", &TENANTS, &groups(gold, "")));
        folder.aegis(&with("simulate", &[&["--changes", "changes.toml"], more].concat()))
    };
    asks("utilisation = 0.5", &[]).says(0, &["in effect from", "not served", "gold", "kept", "0 violations"]);
    let tight = asks("utilisation = 0.2", &[]);
    tight.says(
        3,
        &["change 1 at 50ms", "REFUSED: group `gold`", "its budget is 0.2", "what was served is served on"],
    );
    let json = asks("utilisation = 0.2", &["--format", "json"]).json();
    assert_eq!((&json["refused"], &json["changes"][0]["reply"]), (&1.into(), &"refused".into()), "{json}");
    assert_eq!((&json["groups"][0]["group"], &json["groups"][0]["kept"]), (&"gold".into(), &true.into()));
    assert!(number(&json, "/groups/0/jobs") > 0 && number(&json, "/groups/0/unserved") == 0, "{json}");
    asks("utilisation = 0.05", &[]).refuses(3, &["group `gold`", "its budget is 0.05"]);
}
