//! What a bundle for a board holds beyond programs: fleets, a script that runs them, a service, and what to know.

use crate::bundle::platform::JETPACK_6;
use crate::bundle::{Addition, Features, Options, Order};

/// The models of the fleet on the CPU.
pub const MODELS: [&str; 5] = ["silero_vad", "dtln_1", "dtln_2", "ocr_cls", "magika"];

const FLEET: &str = include_str!("board/orin.toml");

const TEXTS: [(&str, &str); 6] = [
    ("fleets/orin.toml", FLEET),
    ("fleets/orin-gpu.toml", include_str!("board/orin-gpu.toml")),
    ("fleets/detector.kernel", include_str!("board/detector.kernel")),
    ("fleets/policy.kernel", include_str!("board/policy.kernel")),
    ("systemd/aegisrt.service", include_str!("board/aegisrt.service")),
    ("JETSON.txt", include_str!("board/JETSON.txt")),
];

/// The program of the bundle that a user of the board starts.
const RUN: &str = include_str!("board/run.sh");

/// A bundle for the board, without symbols; `tests` names the crates whose test programs go in.
pub fn order(features: Features, out: Option<std::path::PathBuf>, tests: Vec<String>) -> Order {
    let options = Options {
        out,
        target: Some(super::TARGET.to_owned()),
        tests: !tests.is_empty(),
        packages: tests,
        strip: true,
        features,
        ..Options::default()
    };
    let filled = |text: &str| {
        let glibc = JETPACK_6.glibc.to_string();
        text.replace("@PLATFORM@", JETPACK_6.name)
            .replace("@GLIBC@", &glibc)
            .replace("@CUDA@", JETPACK_6.cuda)
    };
    let text =
        |(place, text): &(&'static str, &str)| Addition { place, text: filled(text), is_program: false };
    let mut additions: Vec<Addition> = TEXTS.iter().map(text).collect();
    additions.push(Addition { place: "run.sh", text: RUN.to_owned(), is_program: true });
    Order {
        platform: JETPACK_6,
        ending: Some("jetson"),
        models: MODELS.to_vec(),
        additions,
        ..Order::new(options)
    }
}

/// The fleet of the board as this machine can emulate it: on its first cores, three models, and times as long as an
/// emulator needs.
pub fn emulated(cores: [u32; 2]) -> String {
    let kept = ["silero_vad", "dtln_1", "ocr_cls"];
    let mut parts = FLEET.split("[[task]]");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts.filter(|part| kept.iter().any(|name| part.contains(&format!("name = \"{name}\"")))) {
        text.push_str("[[task]]");
        text.push_str(part);
    }
    for (board, own) in ["[4]", "[5]"].into_iter().zip(cores) {
        text = text.replace(&format!("cores = {board}"), &format!("cores = [{own}]"));
    }
    text.replace("ms\"", "00ms\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{MODELS as KNOWN, Tensor};
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn the_fleet_names_the_packed_models_with_their_shapes() {
        let fleet: toml::Table = toml::from_str(FLEET).unwrap();
        let tasks = fleet["task"].as_array().unwrap();
        assert_eq!(tasks.len(), MODELS.len());
        for (task, name) in tasks.iter().zip(MODELS) {
            let model = KNOWN.iter().find(|model| model.name == name).unwrap();
            assert_eq!(task["name"].as_str(), Some(name));
            assert_eq!(task["model"].as_str().unwrap(), format!("../cache/{}", model.place()));
            let shapes = task["shapes"].as_table().unwrap();
            assert_eq!(shapes.len(), model.inputs.len(), "{name}");
            for Tensor { name, shape } in model.inputs {
                let written: Vec<u64> = shapes[*name]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|extent| extent.as_integer().unwrap().unsigned_abs())
                    .collect();
                assert_eq!(&written, shape, "{name}");
            }
        }
    }

    #[test]
    fn the_emulated_fleet_is_a_part_of_the_boards_with_longer_periods() {
        let fleet: toml::Table = toml::from_str(&emulated([0, 1])).unwrap();
        let periods: Vec<&str> =
            fleet["task"].as_array().unwrap().iter().map(|task| task["period"].as_str().unwrap()).collect();
        assert_eq!(periods, ["3200ms", "1600ms", "5000ms"]);
        let cores: Vec<i64> = fleet["partition"]
            .as_array()
            .unwrap()
            .iter()
            .map(|partition| partition["cores"][0].as_integer().unwrap())
            .collect();
        assert_eq!(cores, [0, 1]);
    }

    #[test]
    fn a_bundle_for_the_board_says_what_it_needs() {
        let order = order(Features::default(), None, Vec::new());
        let text = |place: &str| {
            order
                .additions
                .iter()
                .find(|addition| addition.place == place)
                .map(|addition| addition.text.clone())
        };
        let facts = text("JETSON.txt").unwrap();
        for word in ["glibc 2.35", "JetPack 6.0 (CUDA 12.2)", "DLA", "jetson_clocks"] {
            assert!(facts.contains(word), "{word}: {facts}");
        }
        assert!(!facts.contains('@'), "{facts}");
        assert!(!order.options.tests && order.options.strip);
        // What changes a board is written as a comment only.
        let service = text("systemd/aegisrt.service").unwrap();
        for line in
            service.lines().filter(|line| line.contains("nvpmodel -") || line.contains("/jetson_clocks"))
        {
            assert!(line.starts_with('#'), "{line}");
        }
        assert!(service.contains("\nLimitRTPRIO=20\n"), "{service}");
    }

    /// A board whose settings stand as `clocks` and `governor` say.
    fn check(low: &str, governor: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/device-tree/model", "A Developer Kit\0");
        put("var/lib/nvpmodel/status", "pmode:0002\n");
        put("sys/class/devfreq/17000000.gpu/min_freq", low);
        put("sys/class/devfreq/17000000.gpu/max_freq", "1300500000\n");
        put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor);
        put("run.sh", RUN);
        let mut command = Command::new("sh");
        command.arg(folder.path().join("run.sh")).arg("--check").env("AEGIS_BOARD_ROOT", folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_script_names_what_would_help_and_only_that() {
        let slow = check("306000000\n", "schedutil\n");
        for word in ["A Developer Kit", "pmode:0002", "sudo jetson_clocks", "echo performance", "isolcpus"] {
            assert!(slow.contains(word), "{word}: {slow}");
        }
        let fast = check("1300500000\n", "performance\n");
        assert!(!fast.contains("jetson_clocks") && !fast.contains("echo performance"), "{fast}");
    }

    #[test]
    fn the_script_refuses_a_fleet_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.sh"), RUN).unwrap();
        let run = |argument: &str| {
            let mut command = Command::new("sh");
            command.arg(folder.path().join("run.sh")).arg(argument);
            command.output().unwrap()
        };
        assert_eq!(run("fleets/none.toml").status.code(), Some(2));
        assert_eq!(run("--chek").status.code(), Some(2));
        assert!(!Path::new(&folder.path().join("state")).exists());
    }

    /// The kernels that are compiled into the programs are taken by the driver of the oldest release.
    #[test]
    fn kernels_are_of_a_version_that_the_oldest_driver_compiles_for_the_board() {
        for text in [
            include_str!("../../../crates/aegis-cuda/src/cuda/copy.ptx"),
            include_str!("../../../crates/aegis-cuda/src/kernel/kernels.ptx"),
        ] {
            let value = |word: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap();
                line.trim().trim_start_matches("sm_").replace('.', "").parse::<u32>().unwrap()
            };
            // CUDA 12.2 knows PTX up to 8.2, and Orin is of compute capability 8.7.
            assert!(value(".version ") <= 82, "{text}");
            assert!(value(".target ") <= 87, "{text}");
        }
    }

    /// Functions of the driver without which the device does not open are all older than the oldest release; what came
    /// later is asked for and done without.
    #[test]
    fn no_function_of_a_later_driver_is_required() {
        let table = include_str!("../../../crates/aegis-cuda/src/cuda/api.rs");
        let required =
            table.split("    Api {").nth(1).and_then(|rest| rest.split("\n    }\n").next()).unwrap();
        assert!(required.matches("= \"cu").count() > 40, "{required}");
        // What CUDA 12.3 and later brought, by the names under which the driver's interface documents it.
        for later in [
            "cuGreenCtx",
            "cuDevSmResource",
            "cuDevResource",
            "cuCtxFromGreenCtx",
            "cuFuncLoad",
            "cuDeviceGetDevResource",
        ] {
            assert!(!required.contains(later), "{later} is not in the driver of CUDA 12.2");
            assert!(table.contains(later), "{later} has another name: this test looks at nothing");
        }
    }
}
