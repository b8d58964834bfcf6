//! Files that are no files: what never ends is refused, and a pipe is read like a file.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::bench::{Answer, Folder, cache, fleet, ready, task};

#[test]
fn what_never_ends_is_refused() {
    let folder = Folder::new();
    folder.calibrated().write("fleet.toml", fleet(1, &task("vad", &[]))).write("model.onnx", "weights");
    std::os::unix::fs::symlink("/dev/zero", folder.path("zero.csv")).unwrap();
    let cases: [&[&str]; 9] = [
        &["admit", "/dev/zero"],
        &["plan", "/dev/zero"],
        &["simulate", "/dev/zero"],
        &["calibrate", "/dev/zero"],
        &["admit", "fleet.toml", "--platform", "/dev/zero"],
        &["admit", "fleet.toml", "--profile", "/dev/zero"],
        &["admit", "fleet.toml", "--what-if", "/dev/zero"],
        &["simulate", "fleet.toml", "--changes", "/dev/zero"],
        &["plan", "zero.csv"],
    ];
    for arguments in cases {
        folder.aegis(arguments).refuses(2, &["zero", "no end"]);
    }
    folder.aegis(&["replay", "/dev/zero"]).refuses(2, &["/dev/zero", "no trace"]);
    #[cfg(feature = "onnx")]
    folder.aegis(&["segment", "/dev/zero", "--max", "1ms", "-o", "out"]).refuses(2, &["no regular file"]);
}

#[test]
fn a_fleet_may_come_through_a_pipe() {
    let Some(cache) = cache() else { return };
    let folder = ready(&cache, &task("vad", &[]));
    let text = std::fs::read_to_string(folder.path("fleet.toml")).unwrap();
    let model = folder.path("model.onnx").display().to_string();
    folder.write("fleet.toml", text.replace("model.onnx", &model));
    let mut cat = Command::new("cat");
    cat.stdin(File::open(folder.path("fleet.toml")).unwrap()).stdout(Stdio::piped());
    let mut piped = cat.spawn().unwrap();
    let mut command = folder.command(&["admit", "/dev/stdin", "--platform", "platform.json"]);
    let output = command.stdin(piped.stdout.take().unwrap()).output().unwrap();
    Answer::of(output).says(0, &["ADMITTED"]);
    assert!(piped.wait().unwrap().success());
}
