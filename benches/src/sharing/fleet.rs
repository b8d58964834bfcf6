//! Fleets of the demo's models. Periods and lanes do not matter here: orders are drawn and lanes are dealt.

use std::fmt::Write as _;
use std::path::Path;

use aegisrt::config::{ConfigError, Fleet};
use clap::ValueEnum;

/// Which tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The nine models of the demo, each once. One of them takes most of the scratch.
    Nine,
    /// Fifteen tasks: the nine, and those of a second camera and a second microphone.
    Fifteen,
}

/// A model of the demo: its file, the shapes that its inputs are fixed to, and its recurrent state.
struct Demo {
    name: &'static str,
    shapes: &'static [(&'static str, &'static [u64])],
    state: &'static [(&'static str, &'static str)],
    /// Whether there is one for each camera, or each microphone.
    doubled: bool,
    /// How often it is drawn: the detectors run as long as all others together.
    weight: u64,
}

const MODELS: [Demo; 9] = [
    Demo {
        name: "silero_vad",
        shapes: &[("input", &[1, 576]), ("h", &[1, 1, 128]), ("c", &[1, 1, 128])],
        state: &[("hn", "h"), ("cn", "c")],
        doubled: true,
        weight: 8,
    },
    Demo {
        name: "dtln_1",
        shapes: &[("input_2", &[1, 1, 257]), ("input_3", &[1, 2, 128, 2])],
        state: &[("tf_op_layer_stack_2", "input_3")],
        doubled: true,
        weight: 8,
    },
    Demo {
        name: "dtln_2",
        shapes: &[("input_4", &[1, 1, 512]), ("input_5", &[1, 2, 128, 2])],
        state: &[("tf_op_layer_stack_5", "input_5")],
        doubled: true,
        weight: 8,
    },
    plain("melspectrogram", &[("input", &[1, 1760])], false, 8),
    plain("speech_embedding", &[("input_1", &[1, 76, 32, 1])], false, 8),
    plain("ocr_det", &[("x", &[1, 3, 480, 640])], true, 1),
    plain("ocr_rec", &[("x", &[1, 3, 48, 320])], true, 4),
    plain("ocr_cls", &[("x", &[1, 3, 48, 192])], true, 8),
    plain("magika", &[("bytes", &[1, 2048])], false, 8),
];

const fn plain(
    name: &'static str,
    shapes: &'static [(&'static str, &'static [u64])],
    doubled: bool,
    weight: u64,
) -> Demo {
    Demo { name, shapes, state: &[], doubled, weight }
}

/// The tasks of a choice: names and models.
fn tasks(choice: Choice) -> Vec<(String, &'static Demo)> {
    let first = MODELS.iter().map(|model| (model.name.to_owned(), model));
    let second = MODELS.iter().filter(|model| model.doubled && choice == Choice::Fifteen);
    first.chain(second.map(|model| (format!("{}_2", model.name), model))).collect()
}

/// How often each task is drawn.
pub(super) fn weights(choice: Choice) -> Vec<u64> {
    tasks(choice).iter().map(|(_, model)| model.weight).collect()
}

/// The tasks of a choice, with models from a folder of files, as one fleet.
pub(super) fn demo(folder: &Path, choice: Choice) -> Result<Fleet, ConfigError> {
    let mut text = String::from(
        "[device]\nkind = \"host\"\n[[partition]]\nname = \"all\"\ncores = [0]\n[policy]\nkind = \"fifo\"\n",
    );
    for (seed, (name, model)) in (1..).zip(tasks(choice)) {
        let file = folder.join(format!("{}.onnx", model.name));
        let shapes: Vec<String> =
            model.shapes.iter().map(|(input, axes)| format!("\"{input}\" = {axes:?}")).collect();
        let state: Vec<String> =
            model.state.iter().map(|(output, input)| format!("[\"{output}\", \"{input}\"]")).collect();
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "[[task]]\nname = \"{name}\"\nmodel = {:?}\nbackend = \"onnx\"\nperiod = \"1s\"\npartition = \"all\"\n\
             shapes = {{ {} }}\nstate = [{}]\nbudget = {{ memory = \"128MiB\" }}\ninputs = {{ seed = {seed} }}",
            file.display().to_string(),
            shapes.join(", "),
            state.join(", "),
        );
    }
    Fleet::parse(&folder.join("fleet.toml"), &text)
}
