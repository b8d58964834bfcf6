//! What the tests work on: a folder of their own, the program, and what it answered.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aegis_sched::Overheads;
use aegis_types::Nanos;
use aegisrt::config::{Calibration, WaitMode};
use aegisrt::machine;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

/// The folder with models and library; prints the skip where there is none.
pub fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("AEGIS_CACHE").map(PathBuf::from);
    if cache.is_none() {
        eprintln!("skipped: AEGIS_CACHE names no folder with models and library");
    }
    cache
}

/// A core that the tests may use.
pub fn core() -> u64 {
    let answer = Folder::new().aegis(&["devices", "--format", "json"]);
    answer.json()["devices"][0]["cores"][0].as_u64().expect("there is a core")
}

/// A folder that goes away with the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.path(name), content).expect("the folder can be written");
        self
    }

    /// A calibration of this machine with small overheads, so that verdicts do not depend on the machine's mood.
    pub fn calibrated(&self) -> &Self {
        let micro = Nanos::from_micros(1);
        let overheads = Overheads {
            poll: micro,
            release: micro,
            arrival: micro,
            completion: micro,
            decision: micro,
            dispatch: micro,
            control: micro,
            handoff: Nanos::from_millis(1),
            launch_lock: Nanos::ZERO,
            wakeup: Nanos::from_millis(1),
            client: micro,
            notify: micro,
            stall: Nanos::from_millis(5_000),
        };
        let path = self.path("platform.json");
        let mut calibration = Calibration::new(&path, overheads);
        calibration.machine = machine::name();
        calibration.kernel = machine::kernel();
        calibration.wait = Some(WaitMode::Blocking);
        calibration.save(&path).expect("the folder can be written");
        self
    }

    /// The program, about to run in this folder. Of the environment it sees the cache only if the test has it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("aegis"));
        command.args(arguments).current_dir(self.0.path()).env_remove("AEGIS_ONNXRUNTIME");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn aegis(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.command(arguments).output().expect("the program runs"))
    }
}

/// What the program answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("no signal ended it"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Checks the exit code and that the error names everything that it should.
    #[track_caller]
    pub fn refuses(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    /// Checks the exit code and that the answer says everything that it should.
    #[track_caller]
    pub fn says(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.out.contains(part), "{part:?} is not in {}", self.out);
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A fleet of one partition with `tasks`, on a core of this machine.
pub fn fleet(lanes: u16, tasks: &str) -> String {
    let core = core();
    format!(
        "[device]\nkind = \"host\"\nmemory = \"512MiB\"\n\n[[partition]]\nname = \"all\"\ncores = [{core}]\n\
         lanes = {lanes}\n\n[policy]\nkind = \"edf\"\n{tasks}"
    )
}

/// A task on silero-vad, the smallest of the models, as `models/silero_vad.onnx` below the cache; `more` replaces
/// keys of the same name.
pub fn task(name: &str, more: &[(&str, &str)]) -> String {
    let mut keys = vec![
        ("name", format!("\"{name}\"")),
        ("model", "\"model.onnx\"".to_owned()),
        ("backend", "\"onnx\"".to_owned()),
        ("period", "\"100ms\"".to_owned()),
        ("partition", "\"all\"".to_owned()),
        ("shapes", "{ input = [1, 576], h = [1, 1, 128], c = [1, 1, 128] }".to_owned()),
        ("state", "[[\"hn\", \"h\"], [\"cn\", \"c\"]]".to_owned()),
        ("budget", "{ memory = \"32MiB\", compute = \"20ms\" }".to_owned()),
    ];
    for (key, value) in more {
        match keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = (*value).to_owned(),
            None => keys.push((key, (*value).to_owned())),
        }
    }
    let lines: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!("\n[[task]]\n{lines}")
}

/// A folder with a calibration, the fleet of these tasks and the model.
pub fn ready(cache: &Path, tasks: &str) -> Folder {
    let folder = Folder::new();
    let model = std::fs::read(cache.join("models").join("silero_vad.onnx")).expect("the cache has the model");
    folder.calibrated().write("fleet.toml", fleet(1, tasks)).write("model.onnx", model);
    folder
}
