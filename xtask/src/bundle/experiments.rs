//! The script that runs the experiments on a GPU, one after the other.

/// Its text.
pub const SCRIPT: &str = include_str!("scripts/run-experiments.sh");

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};

    use super::super::folder::Folder;
    use super::*;

    /// A bundle whose experiments say how they were started; `isolation` fails.
    fn bundle() -> tempfile::TempDir {
        let made = tempfile::tempdir().unwrap();
        let folder = Folder::at(made.path());
        folder.script("run-experiments.sh", SCRIPT).unwrap();
        let program = "#!/bin/sh\necho \"ran $*\"\ncase $* in *isolation) exit 1 ;; esac\n";
        folder.script("bin/aegis-gpu", program).unwrap();
        made
    }

    fn start(bundle: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new("sh");
        command.arg(bundle.join("run-experiments.sh")).args(["--out", "results"]).args(arguments);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(bundle);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    #[test]
    fn experiments_are_run_in_order_and_their_tables_kept() {
        let bundle = bundle();
        let (code, said, _) = start(bundle.path(), &["--device", "1", "determinism", "overhead-driver"]);
        assert_eq!(code, Some(0));
        let wanted = "== determinism\nran --device 1 --out results/determinism --seconds 90 determinism\n\
                      == overhead-driver\n\
                      ran --device 1 --out results/overhead-driver --seconds 60 --driver-launches overhead\n";
        assert_eq!(said, wanted);
        let table = std::fs::read_to_string(bundle.path().join("results/determinism/table.txt")).unwrap();
        assert_eq!(table, "ran --device 1 --out results/determinism --seconds 90 determinism\n");
    }

    #[test]
    fn what_fails_or_lacks_something_is_named_and_the_rest_is_run() {
        let bundle = bundle();
        let (code, said, complaints) = start(bundle.path(), &["isolation", "rivals", "floor"]);
        assert_eq!(code, Some(1));
        assert!(
            said.ends_with("== floor\nran --device 0 --out results/floor --seconds 30 floor\n"),
            "{said}"
        );
        assert!(complaints.contains("isolation: ended with exit code 1"), "{complaints}");
        assert!(complaints.contains("rivals: left out, there is no "), "{complaints}");
        assert!(complaints.contains("cache/onnxruntime/libonnxruntime.so"), "{complaints}");
    }

    #[test]
    fn a_wrong_argument_runs_nothing() {
        for arguments in [&["floor", "floot"][..], &["--device", "a"], &["--what"], &["--device"]] {
            let bundle = bundle();
            let (code, said, complaints) = start(bundle.path(), arguments);
            assert_eq!((code, said.as_str()), (Some(2), ""), "{arguments:?}");
            assert!(complaints.contains("usage: sh run-experiments.sh"), "{complaints}");
            assert!(!bundle.path().join("results").exists());
        }
    }
}
