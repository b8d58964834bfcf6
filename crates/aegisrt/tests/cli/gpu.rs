//! Fleets on a GPU, on a machine that has none: every command says so, and what is wrong in the fleet comes first.
//!
//! Where there is a GPU the first test has nothing to say, and prints that.

use crate::bench::{Answer, Folder};

const COMMANDS: [&str; 5] = ["admit", "plan", "run", "profile", "calibrate"];

fn fleet(device: &str) -> String {
    format!(
        "[device]\nkind = \"{device}\"\n\n[[partition]]\nname = \"all\"\nsms = 8\n\n[policy]\nkind = \"edf\"\n\n\
         [[task]]\nname = \"light\"\nmodel = \"light.kernel\"\nbackend = \"kernel\"\nperiod = \"10ms\"\n\
         partition = \"all\"\nbudget = {{ memory = \"8MiB\", compute = \"1ms\" }}\n"
    )
}

fn no_gpu(answer: &Answer) -> bool {
    answer.err.contains("device `cuda:") && answer.err.contains("is not available")
}

#[test]
fn without_a_gpu_every_command_says_so() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet("cuda:0")).write("light.kernel", "kernel 1\n");
    for command in COMMANDS {
        let answer = folder.aegis(&[command, "fleet.toml"]);
        if !no_gpu(&answer) && !answer.err.contains("device `cuda:") {
            eprintln!("skipped: there seems to be a GPU: {answer:?}");
            return;
        }
        answer.refuses(2, &["error: device `cuda:0` is not available: "]);
        assert_eq!(answer.err.lines().count(), 1, "{}", answer.err);
        let json = folder.aegis(&[command, "fleet.toml", "--format", "json"]).json();
        assert_eq!(json["exit_code"], 2, "{json}");
        assert!(json["error"].as_str().is_some_and(|error| error.contains("cuda:0")), "{json}");
    }
}

#[test]
fn a_device_that_is_not_there_is_said_before_files_that_are_not() {
    let folder = Folder::new();
    folder.write("fleet.toml", fleet("cuda:65535"));
    for command in ["admit", "plan", "run", "calibrate"] {
        folder.aegis(&[command, "fleet.toml"]).refuses(2, &["device `cuda:65535` is not available: "]);
    }
}

#[test]
fn a_wrong_fleet_is_said_before_a_missing_device() {
    let folder = Folder::new();
    folder.calibrated();
    for (from, to, part) in [
        ("\"kernel\"\nperiod", "\"tract\"\nperiod", "\"tensorrt\" on the cuda device"),
        ("sms = 8", "cores = [0]", "divided by sms"),
        ("cuda:0", "cuda:all", "no such device"),
        ("kind = \"cuda:0\"", "kind = \"cuda:0\"\nwait = \"never\"", "no such way to wait"),
    ] {
        let text = fleet("cuda:0");
        assert!(text.contains(from), "{from}");
        folder.write("fleet.toml", text.replace(from, to));
        for command in COMMANDS {
            folder.aegis(&[command, "fleet.toml"]).refuses(2, &["error: fleet.toml:", part]);
        }
    }
}

#[test]
fn queues_that_no_driver_understands_are_refused() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet("cuda:0"));
    for value in ["0", "33", "many"] {
        let mut command = folder.command(&["plan", "fleet.toml"]);
        command.env("CUDA_DEVICE_MAX_CONNECTIONS", value);
        let answer = Answer::of(command.output().unwrap());
        answer.refuses(2, &["CUDA_DEVICE_MAX_CONNECTIONS", value, "1 to 32"]);
    }
}
