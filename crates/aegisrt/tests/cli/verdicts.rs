//! What `aegis admit` says besides yes and no: terms, witness, changes, margins, and a picture.

use serde_json::Value;

use crate::bench::Folder;
use crate::elsewhere::{self, CALM, Row, TIGHT, with};

fn folder(rows: &[Row<'_>]) -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, rows, "");
    folder
}

fn json(folder: &Folder, more: &[&str]) -> Value {
    folder.aegis(&with("admit", &[&["--format", "json"], more].concat())).json()
}

/// The fleet with a key of one task set, written with the others' as they are.
fn changed(rows: &[Row<'_>], task: &str, key: &str, value: &str) -> Folder {
    let folder = folder(rows);
    let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it was written");
    let mut table: toml::Table = text.parse().expect("it is TOML");
    for entry in table["task"].as_array_mut().expect("tasks") {
        if entry["name"].as_str() == Some(task) {
            let entry = entry.as_table_mut().expect("a table");
            entry.insert(key.into(), value.into());
        }
    }
    folder.write("fleet.toml", table.to_string());
    folder
}

fn admitted(folder: &Folder) -> bool {
    folder.aegis(&with("admit", &[])).code == 0
}

#[test]
fn every_bound_is_told_term_by_term() {
    let folder = folder(&CALM);
    let answer = folder.aegis(&with("admit", &[]));
    answer.says(
        0,
        &["Bounds, term by term:", "its own segments", "; slack ", "; binding: blocked by detector"],
    );
    assert!(answer.out.lines().all(|line| line.chars().count() <= 130), "{}", answer.out);
    let json = json(&folder, &[]);
    assert_eq!((&json["schema"], &json["witness"]), (&"aegis-admit-1".into(), &Value::Null));
    for task in json["tasks"].as_array().unwrap() {
        let terms = task["terms"].as_array().unwrap();
        let sum: u64 = terms.iter().map(|term| term["span_ns"].as_u64().unwrap()).sum();
        assert_eq!(Some(sum), task["wcrt_ns"].as_u64());
        assert!(terms.contains(&task["binding"]), "{task}");
    }
}

#[test]
fn a_refusal_has_a_witness() {
    let folder = folder(&TIGHT);
    let command = "`aegis simulate fleet.toml --platform gpu.json --profile gpu-profile.json` replays it";
    let words =
        [command, "witness: contracts allow this schedule", "`long` has just started", "after its deadline"];
    folder.aegis(&with("admit", &[])).says(3, &words);
    let json = json(&folder, &[]);
    let (miss, witness) = (&json["witness"]["miss"], &json["witness"]);
    assert_eq!((&witness["blocker"], &miss["task"]), (&"long".into(), &"short".into()));
    assert!(miss["end_ns"].as_u64() > miss["deadline_ns"].as_u64());
}

#[test]
fn every_change_that_is_named_admits() {
    let folder = folder(&TIGHT);
    folder
        .aegis(&with("admit", &["--what-if"]))
        .says(3, &["What would admit the fleet", "period: ", "segments: "]);
    let json = json(&folder, &["--what-if"]);
    let found = json["what_if"].as_array().unwrap();
    let mut tried = 0;
    for change in found {
        let task = change["task"].as_str().unwrap();
        for (kind, key) in [("period", "period_ns"), ("deadline", "deadline_ns")] {
            if change["kind"] == kind {
                let span = change[key].as_u64().unwrap();
                assert!(admitted(&changed(&TIGHT, task, kind, &format!("{span}ns"))), "{change}");
                assert!(!admitted(&changed(&TIGHT, task, kind, &format!("{}ns", span - 1))), "{change}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 2, "{json}");
    assert!(found.iter().any(|change| change["kind"] == "lane" && change["confirmed"] == false), "{json}");
}

#[test]
fn without_a_refusal_no_change_is_looked_for() {
    let folder = folder(&CALM);
    folder.aegis(&with("admit", &["--what-if"])).says(0, &["no change is needed"]);
    assert_eq!(json(&folder, &["--what-if"])["what_if"], serde_json::json!([]));
    assert_eq!(json(&folder, &[])["what_if"], Value::Null);
}

#[test]
fn margins_are_where_the_verdict_turns() {
    let folder = folder(&CALM);
    folder
        .aegis(&with("admit", &["--sensitivity"]))
        .says(0, &["T >=", "the fleet: deadlines hold with all budgets times "]);
    let json = json(&folder, &["--sensitivity"]);
    let margins = &json["sensitivity"];
    assert!(margins["scale_ppm"].as_u64() > Some(1_000_000), "{margins}");
    for margin in margins["tasks"].as_array().unwrap() {
        let task = margin["task"].as_str().unwrap();
        let span = margin["deadline_min_ns"].as_u64().unwrap();
        for (span, fits) in [(span, true), (span - 1, false)] {
            assert_eq!(admitted(&changed(&CALM, task, "deadline", &format!("{span}ns"))), fits, "{margin}");
        }
    }
}

#[test]
fn a_chart_of_thirty_tasks_is_a_picture_and_nothing_else() {
    let names: Vec<String> =
        (0..30).map(|index| format!("task-{index}-with.a_rather_long_name_indeed")).collect();
    let rows: Vec<Row<'_>> = names
        .iter()
        .zip(0u16..)
        .map(|(name, index)| (name.as_str(), index % 2, 100 + 10 * u64::from(index), 2_000, ""))
        .collect();
    let folder = folder(&rows);
    folder.aegis(&with("admit", &["--chart", "a.svg"])).says(0, &["wrote a.svg"]);
    let text = std::fs::read_to_string(folder.path("a.svg")).unwrap();
    let elements = elements(&text);
    assert!(text.starts_with("<svg xmlns=") && text.matches("http").count() == 1, "nothing is fetched");
    assert!(!text.contains("<script") && !text.contains("href") && !text.contains("url("));
    let (width, height) = (number(&elements[0], "width"), number(&elements[0], "height"));
    let mut rows = std::collections::BTreeSet::new();
    for element in elements.iter().filter(|element| element.starts_with("rect")) {
        let at = |key: &str| if element.contains(&format!(" {key}=")) { number(element, key) } else { 0.0 };
        assert!(at("x") + at("width") <= width && at("y") + at("height") <= height, "{element}");
        if element.contains("#eeeeee") {
            rows.insert((at("y") * 10.0) as u64);
        }
    }
    let tops: Vec<u64> = rows.into_iter().collect();
    assert_eq!(tops.len(), 30, "a row for each task");
    assert!(tops.windows(2).all(|pair| pair[1] - pair[0] >= 200), "rows do not touch");
    for name in &names {
        assert!(text.contains(&name[..27]), "{name} is shown");
    }
    folder.aegis(&with("admit", &["--chart", "fleet.toml"])).refuses(2, &["--chart", "would replace"]);
}

/// The tags of a text that is well-formed XML; panics where it is not.
fn elements(text: &str) -> Vec<String> {
    let (mut open, mut all, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "{}", &rest[..start]);
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        let name = |tag: &str| tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or("").to_owned();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed), "{tag}");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(name(tag));
            }
            all.push(tag.to_owned());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} are open");
    all
}

fn number(tag: &str, key: &str) -> f64 {
    let (_, rest) = tag.split_once(&format!(" {key}=\"")).unwrap_or_else(|| panic!("no {key} in {tag}"));
    rest.split('"').next().and_then(|value| value.parse().ok()).expect("a number")
}
