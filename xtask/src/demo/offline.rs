//! `cargo xtask demo --offline`: the main job with nothing but cargo.
//!
//! No model and no library is fetched: networks are generated on the spot and run by the backend that is linked into the
//! program. Everything lies in folders of its own, so that the programs of the other demo stay what they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Aegis, EXPLAINED, REFUSED, Step, perform, write};
use crate::error::Error;
use crate::fleet;
use crate::process::{self, cargo};
use crate::workspace::Workspace;

/// Sum over tasks of estimated execution alone over period, on two cores.
const UTILISATION: &str = "0.8";

/// One more task than the cores have time for: it would keep one of them busy for 19 of every 20 ms.
const ONE_MORE: &str = "\
[[task]]
name = \"second_classifier\"
model = \"classifier_mobile.onnx\"
backend = \"tract\"
period = \"20ms\"
partition = \"all\"
budget = { memory = \"16MiB\", compute = \"19ms\" }
inputs = { seed = 99 }
";

/// Builds `aegis` with the one backend that needs nothing else, generates networks and fleet, then runs the steps.
pub fn run() -> Result<(), Error> {
    let workspace = Workspace::current();
    let built = workspace.offline();
    process::run(&mut build(&workspace, &built), None)?;
    let programs = built.join("release");
    let folder = built.join("demo");
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    process::run(&mut generate(&programs, &folder), None)?;
    write(&folder.join("one_more.toml"), ONE_MORE)?;
    perform(steps(&programs, &folder))
}

/// Both programs in one build, so that what they share is compiled once.
fn build(workspace: &Workspace, built: &Path) -> Command {
    let mut command = cargo(workspace.root());
    command.args(["build", "--release", "-p", "aegisrt", "-p", "aegis-benches"]);
    command.args(["--bin", "aegis", "--bin", "aegis-networks"]);
    command.args(["--no-default-features", "--features", "aegisrt/tract", "--target-dir"]).arg(built);
    command
}

fn generate(programs: &Path, folder: &Path) -> Command {
    let [first, second] = fleet::two_cores();
    let cores = if first == second { first.to_string() } else { format!("{first},{second}") };
    let mut command = Command::new(programs.join("aegis-networks"));
    command.args(["offline", "--device", "host", "--backend", "tract", "--utilisation", UTILISATION]);
    command.args(["--cores", &cores, "--out"]).arg(folder);
    command
}

/// As of the demo with trained models: what is here, what it costs, whether it fits, the run, and why it went as it did.
fn steps(programs: &Path, folder: &Path) -> Vec<Step> {
    let aegis = Aegis { program: programs.join("aegis"), folder: PathBuf::from(folder), cache: None };
    let (asked, fitted, real) = ("fleet.toml", "fitted.toml", "--realtime");
    vec![
        aegis.step("what this machine offers", &["devices"]),
        aegis.step("what the runtime itself costs here, every lane busy", &["calibrate", asked, real]),
        aegis.step(
            "what each network costs here, alone and beside the others",
            &["profile", asked, "--seconds", "3s", "--margin", "30%", real],
        ),
        aegis.step(
            "does the fleet fit, and at which periods?",
            &["admit", asked, "--fit", "1ms", "--slack", "10%", "--write", fitted],
        ),
        aegis
            .step(
                "what if one more classifier came, that takes 19 of every 20 ms?",
                &["admit", fitted, "--what-if", "one_more.toml"],
            )
            .ending_with(&[REFUSED]),
        aegis.step("one memory plan for all networks", &["plan", fitted]),
        aegis
            .step(
                "ten seconds of the real thing, outputs compared with plain runs",
                &["run", fitted, "--duration", "10s", "--trace", "run.aegis", "--check-outputs", real],
            )
            .ending_with(&[0, EXPLAINED]),
        aegis.step(
            "where the time of the detector's worst job went",
            &["explain", "run.aegis", "--task", "detector"],
        ),
        aegis.step("the same decisions again", &["replay", "run.aegis"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_fetched_and_no_other_program_is_started() {
        let workspace = Workspace::current();
        let mut commands =
            vec![build(&workspace, Path::new("built")), generate(Path::new("p"), Path::new("f"))];
        commands.extend(steps(Path::new("p"), Path::new("f")).into_iter().map(|step| step.command));
        for command in &commands {
            let program = Path::new(command.get_program()).file_name().and_then(|name| name.to_str());
            assert!(matches!(program, Some("cargo" | "aegis" | "aegis-networks")), "{program:?}");
            assert_eq!(command.get_envs().count(), 0, "{command:?}");
        }
        assert!(process::line(&commands[0]).contains("--no-default-features"));
        assert!(toml::from_str::<toml::Table>(ONE_MORE).is_ok());
    }
}
