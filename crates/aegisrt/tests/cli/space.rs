//! `aegis plan` beyond its tables: pictures, headroom, pressure, and what lanes cost.

use aegis_types::Bytes;
use serde_json::Value;

use crate::bench::{Folder, cache, ready, task};
use crate::elsewhere::{self, CALM, with};

fn calm() -> Folder {
    let folder = Folder::new();
    elsewhere::write(&folder, &CALM, "");
    folder
}

fn number(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {json}"))
}

/// Gives the first task another budget.
fn budget(folder: &Folder, bytes: u64, compute: &str) {
    let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it is there");
    let (before, rest) = text.split_once("budget = {").expect("a budget");
    let (_, after) = rest.split_once('}').expect("it ends");
    folder.write("fleet.toml", format!("{before}budget = {{ memory = \"{bytes}B\"{compute} }}{after}"));
}

#[test]
fn a_task_that_was_measured_may_grow_by_its_headroom_and_no_further() {
    let folder = calm();
    let json = folder.aegis(&with("plan", &["--headroom", "camera", "--format", "json"])).json();
    let (most, needs) = (number(&json, "/headroom/budget_bytes"), number(&json, "/headroom/needs_bytes"));
    assert!(most > needs && most < 2 << 30, "{json}");
    let grown = |by: u64| {
        budget(&folder, 2 << 30, "");
        elsewhere::profile(&folder, &CALM, |profile| {
            profile.tasks[0].memory.persistent = Bytes::new((1 << 20) + by);
        });
        folder.aegis(&with("plan", &[]))
    };
    grown(most - needs).says(0, &["peak", "1GiB of 1GiB", "level 2 of 2", "its end would free"]);
    grown(most - needs + 1).refuses(3, &["missing", "`camera`"]);
}

#[test]
fn a_budget_that_was_not_measured_is_the_largest_that_is_planned() {
    let Some(cache) = cache() else { return };
    let with = |bytes: u64| {
        let budget = format!("{{ memory = \"{bytes}B\", compute = \"2ms\" }}");
        ready(&cache, &[task("one", &[("budget", &budget)]), task("two", &[])].concat())
    };
    let json = with(64 << 20).aegis(&["plan", "fleet.toml", "--headroom", "one", "--format", "json"]).json();
    let most = number(&json, "/headroom/budget_bytes");
    assert_eq!(number(&json, "/budget_bytes"), 64 << 20);
    with(most).aegis(&["plan", "fleet.toml"]).says(0, &["there is no profile", "level 2 of 2"]);
    with(most + 1).aegis(&["plan", "fleet.toml"]).refuses(3, &["missing"]);
}

#[test]
fn headroom_is_told_with_what_binds_and_for_tasks_that_are_there() {
    let folder = calm();
    let says = ["can have a budget of", "has          8MiB, of which it needs", "binding      device memory"];
    folder.aegis(&with("plan", &["--headroom", "policy"])).says(0, &says);
    folder.aegis(&with("plan", &["--headroom", "radar"])).refuses(2, &["`radar`", "camera, detector"]);
}

#[test]
fn a_plan_is_drawn_with_every_model() {
    let folder = calm();
    folder
        .aegis(&with("plan", &["--svg", "plan.svg"]))
        .says(0, &["wrote plan.svg", "headroom", "level 0 of 2"]);
    let svg = std::fs::read_to_string(folder.path("plan.svg")).expect("it is written");
    for words in
        ["<svg xmlns=", "camera", "detector", "tracker", "policy", "lane0", "lane1", "lower bound", "peak"]
    {
        assert!(svg.contains(words), "{words} is not in {svg}");
    }
    // Each task owns two extents and uses scratch in each of its two segments.
    for kind in ["persistent, ", "exchange, ", "segment 0: ", "segment 1: "] {
        assert_eq!(svg.matches(kind).count(), CALM.len(), "{kind}");
    }
    folder.aegis(&with("plan", &["--svg", "model.kernel"])).refuses(2, &["--svg", "would replace"]);
    folder.write("b.csv", "id,lower,upper,size\n<a>,0,3,4\nb,3,9,4\n");
    folder.aegis(&["plan", "b.csv", "--svg", "b.svg"]).says(0, &["optimal", "wrote b.svg"]);
    let svg = std::fs::read_to_string(folder.path("b.svg")).expect("it is written");
    assert!(svg.contains("&lt;a&gt;: 4 bytes at offset 0, from 0 to 3") && !svg.contains("<a>"), "{svg}");
    folder.aegis(&["plan", "b.csv", "--headroom", "b"]).refuses(2, &["--headroom", "a fleet"]);
}

#[test]
fn thirty_models_are_drawn_without_a_clash() {
    let names: Vec<String> = (0..30).map(|number| format!("model_{number:02}")).collect();
    let rows: Vec<elsewhere::Row<'_>> =
        (0..).zip(&names).map(|(number, name)| (name.as_str(), number % 2, 1000, 100, "")).collect();
    let folder = Folder::new();
    elsewhere::write(&folder, &rows, "");
    elsewhere::profile(&folder, &rows, |profile| {
        for (number, task) in (0..).zip(&mut profile.tasks) {
            task.memory.persistent = Bytes::new((1 + number * 7 % 11) << 17);
            task.memory.scratch = Bytes::new((1 + number * 5 % 13) << 16);
        }
    });
    folder.aegis(&with("plan", &["--svg", "plan.svg"])).says(0, &["wrote plan.svg"]);
    let svg = std::fs::read_to_string(folder.path("plan.svg")).expect("it is written");
    for name in &names {
        // At least in the legend, in two tooltips of what it owns, and in one of what it uses.
        assert!(svg.matches(name.as_str()).count() >= 4, "{name}");
    }
}

#[test]
fn levels_are_the_users() {
    let folder = calm();
    let json = folder.aegis(&with("plan", &["--pressure", "1,100", "--format", "json"])).json();
    // Eight MiB or so of one GiB.
    assert_eq!((number(&json, "/pressure/level"), number(&json, "/pressure/highest")), (0, 2), "{json}");
    budget(&folder, 64 << 20, "");
    elsewhere::profile(&folder, &CALM, |profile| profile.tasks[0].memory.persistent = Bytes::new(32 << 20));
    let json = folder.aegis(&with("plan", &["--pressure", "1,100", "--format", "json"])).json();
    assert_eq!(number(&json, "/pressure/level"), 1, "{json}");
    assert_eq!(json["pressure"]["holders"][0]["task"], "camera");
    assert!(number(&json, "/pressure/holders/0/frees_bytes") >= 32 << 20, "{json}");
    // The fleet's own levels, unless others are asked for.
    let text = std::fs::read_to_string(folder.path("fleet.toml")).expect("it is there");
    folder.write(
        "fleet.toml",
        text.replacen("[[partition]]", "[memory]\npressure = [1, 2, 3]\n\n[[partition]]", 1),
    );
    let json = folder.aegis(&with("plan", &["--format", "json"])).json();
    assert_eq!((number(&json, "/pressure/level"), number(&json, "/pressure/highest")), (3, 3), "{json}");
    folder
        .aegis(&with("plan", &[]))
        .says(0, &["level 3 of 3", "levels from 1%, 2%, 3%", "its end would free"]);
    folder.aegis(&with("plan", &["--pressure", "100"])).says(0, &["level 0 of 1"]);
    folder.aegis(&with("plan", &["--pressure", "90,70"])).refuses(2, &["threshold 1 is 70", "above 90"]);
}

#[test]
fn where_lanes_are_open_the_price_of_each_number_of_them_is_told() {
    let folder = calm();
    assert!(!folder.aegis(&with("plan", &[])).out.contains("lanes in use"), "every lane is fixed");
    let text = elsewhere::fleet("edf", &CALM, "");
    folder.write("fleet.toml", text.replace("lane = 0\n", "").replace("lane = 1\n", ""));
    folder.aegis(&with("plan", &[])).says(0, &["lanes in use", "scratch from"]);
    let json = folder.aegis(&with("plan", &["--format", "json"])).json();
    // All tasks need as much: with one lane three of four are saved, with two lanes two.
    let private = number(&json, "/lane_counts/0/private_bytes");
    for (lanes, of) in [(0, 1), (1, 2)] {
        for end in ["least", "most"] {
            let taken = number(&json, &format!("/lane_counts/0/scratch/{lanes}/{end}_bytes"));
            assert_eq!(taken * 4, private * of, "{json}");
        }
    }
}

/// Tasks that were measured, on a device that is too small for them by a known number of bytes.
#[test]
fn a_fleet_that_does_not_fit_names_bytes_tasks_and_the_smallest_change() {
    let folder = calm();
    budget(&folder, 2 << 30, "");
    let persistent = |bytes: [u64; 4]| {
        elsewhere::profile(&folder, &CALM, |profile| {
            for (task, bytes) in profile.tasks.iter_mut().zip(bytes) {
                task.memory.persistent = Bytes::new(bytes);
            }
        });
        let json = folder.aegis(&with("admit", &["--format", "json"])).json();
        assert_eq!((&json["admitted"], &json["memory"]["fits"]), (&false.into(), &false.into()), "{json}");
        json["memory"].clone()
    };
    let memory = persistent([1 << 30, 1 << 20, 1 << 20, 1 << 20]);
    let (needed, missing) = (number(&memory, "/needed_bytes"), number(&memory, "/missing_bytes"));
    assert_eq!(needed - missing, 1 << 30, "{memory}");
    assert_eq!(memory["holders"][0]["task"], "camera");
    // Any of them would do but the small ones, which hold too little.
    assert_eq!((&memory["change"]["kind"], &memory["change"]["task"]), (&"drop".into(), &"camera".into()));
    assert!(number(&memory, "/change/frees_bytes") >= missing, "{memory}");
    assert_eq!((&memory["unmeasured"], memory["budget_cut"].is_null()), (&serde_json::json!([]), true));
    let answer = folder.aegis(&with("admit", &[]));
    answer.says(3, &["In time alone", "missing; most is held by `camera`", "would fit without `camera`"]);
}

/// Tasks that nobody measured: what would fit is a smaller budget, and exactly that one fits.
#[test]
fn a_budget_that_nobody_measured_is_cut_to_what_fits() {
    let Some(cache) = cache() else { return };
    let with = |bytes: u64| {
        let budget = format!("{{ memory = \"{bytes}B\", compute = \"2ms\" }}");
        ready(&cache, &[task("one", &[("budget", &budget)]), task("two", &[])].concat())
    };
    let folder = with(600 << 20);
    let json = folder.aegis(&["admit", "fleet.toml", "--format", "json"]).json();
    let memory = &json["memory"];
    assert_eq!((&memory["fits"], &memory["unmeasured"]), (&false.into(), &serde_json::json!(["one", "two"])));
    assert_eq!(
        (&memory["budget_cut"]["task"], number(memory, "/budget_cut/from_bytes")),
        (&"one".into(), 600 << 20)
    );
    let most = number(memory, "/budget_cut/to_bytes");
    folder
        .aegis(&["admit", "fleet.toml"])
        .says(3, &["would fit with a budget of", "`one`", "no profile knows one, two"]);
    with(most).aegis(&["plan", "fleet.toml"]).says(0, &["there is no profile"]);
    with(most + 1).aegis(&["plan", "fleet.toml"]).refuses(3, &["missing"]);
}

/// No plan of tensors is accepted, so what is shown is a comparison: never below what is alive at once, never above all.
#[test]
fn tensors_inside_a_model_are_placed_beside_its_block() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &[task("one", &[]), task("two", &[])].concat());
    folder
        .aegis(&["plan", "fleet.toml", "--tensors"])
        .says(0, &["tensors placed", "joint plan", "no backend here accepts", "were not measured"]);
    let json = folder.aegis(&["plan", "fleet.toml", "--tensors", "--format", "json"]).json();
    let tensors = &json["tensors"];
    assert_eq!((&tensors["accepted"], &tensors["measured"]), (&false.into(), &false.into()));
    let inside = |name: &str| number(tensors, &format!("/tasks/0/tensors/{name}"));
    assert!(inside("count") > 5 && inside("nodes") >= inside("count"), "{tensors}");
    assert!(inside("lower_bound_bytes") <= inside("placed_bytes"), "{tensors}");
    assert!(inside("placed_bytes") < inside("total_bytes"), "{tensors}");
    // Two tasks with one model on one lane: the lane needs as much as one of them.
    assert_eq!(number(tensors, "/lanes/0/placed_bytes"), inside("placed_bytes"));
    let calm = calm();
    calm.aegis(&with("plan", &["--tensors"])).says(0, &["tensors placed", "0.0% less"]);
    calm.write("b.csv", "id,lower,upper,size\na,0,3,4\n");
    calm.aegis(&["plan", "b.csv", "--tensors"]).refuses(2, &["--tensors", "a fleet"]);
}
