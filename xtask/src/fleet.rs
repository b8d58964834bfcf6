//! The demo's fleet: nine trained models in two partitions of one core each, audio beside vision.

use std::fmt::Write as _;
use std::path::Path;

use crate::models::{MODELS, Model, Tensor};

/// How often the application would like each model to run, and what it is granted.
struct Wish {
    model: &'static str,
    partition: &'static str,
    /// The period that the signal suggests: a hop of audio, a frame of video.
    natural: &'static str,
    memory: &'static str,
    criticality: &'static str,
}

const WISHES: [Wish; 9] = [
    wish("silero_vad", "audio", "32ms", "16MiB", "high"),
    wish("dtln_1", "audio", "8ms", "16MiB", "high"),
    wish("dtln_2", "audio", "8ms", "16MiB", "high"),
    wish("melspectrogram", "audio", "80ms", "16MiB", "medium"),
    wish("speech_embedding", "audio", "80ms", "16MiB", "medium"),
    wish("ocr_det", "vision", "100ms", "96MiB", "high"),
    wish("ocr_rec", "vision", "100ms", "48MiB", "medium"),
    wish("ocr_cls", "vision", "50ms", "16MiB", "medium"),
    wish("magika", "vision", "200ms", "32MiB", "low"),
];

const fn wish(
    model: &'static str,
    partition: &'static str,
    natural: &'static str,
    memory: &'static str,
    criticality: &'static str,
) -> Wish {
    Wish { model, partition, natural, memory, criticality }
}

/// The fleet with natural periods, on two cores of those that may be used.
pub fn natural(cache: &Path, cores: [u32; 2]) -> String {
    let mut text = String::from(
        "# Nine trained models, audio beside vision, at the periods that their signals suggest.\n\n\
         [device]\nkind = \"host\"\nmemory = \"768MiB\"\n\n",
    );
    for (name, core) in ["audio", "vision"].into_iter().zip(cores) {
        let _ = writeln!(text, "[[partition]]\nname = \"{name}\"\ncores = [{core}]\n");
    }
    text.push_str("[policy]\nkind = \"edf\"\n");
    for (seed, wish) in (1..).zip(&WISHES) {
        if let Some(model) = MODELS.iter().find(|model| model.name == wish.model) {
            text.push_str(&task(cache, wish, model, model.name, wish.natural, None, seed));
        }
    }
    text
}

/// One more classifier, at a rate that its partition has no room for.
pub fn one_more(cache: &Path) -> String {
    let wish = &WISHES[7];
    let model = MODELS.iter().find(|model| model.name == wish.model);
    model.map_or_else(String::new, |model| {
        task(cache, wish, model, "second_classifier", "20ms", Some("8ms"), 99)
    })
}

fn task(
    cache: &Path,
    wish: &Wish,
    model: &Model,
    name: &str,
    period: &str,
    compute: Option<&str>,
    seed: u32,
) -> String {
    let mut text = String::new();
    let shapes: Vec<String> = model.inputs.iter().map(shape).collect();
    let file = cache.join("models").join(format!("{}.onnx", model.name));
    // Writing into a `String` cannot fail.
    let _ = writeln!(
        text,
        "\n[[task]]\nname = \"{name}\"\nmodel = {:?}\nbackend = \"onnx\"",
        file.display().to_string()
    );
    let _ = writeln!(
        text,
        "period = \"{period}\"\npartition = \"{}\"\ncriticality = \"{}\"",
        wish.partition, wish.criticality
    );
    let _ = writeln!(text, "shapes = {{ {} }}", shapes.join(", "));
    if !model.state.is_empty() {
        let pairs: Vec<String> =
            model.state.iter().map(|(output, input)| format!("[\"{output}\", \"{input}\"]")).collect();
        let _ = writeln!(text, "state = [{}]", pairs.join(", "));
    }
    let compute = compute.map_or_else(String::new, |span| format!(", compute = \"{span}\""));
    let _ = writeln!(
        text,
        "budget = {{ memory = \"{}\", streams = 1{compute} }}\ninputs = {{ seed = {seed} }}",
        wish.memory
    );
    text
}

fn shape(tensor: &Tensor) -> String {
    format!("\"{}\" = {:?}", tensor.name, tensor.shape)
}

/// The first two cores that this process may use, or the same one twice where there is only one.
pub fn two_cores() -> [u32; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0-1");
    let cores: Vec<u32> = list.trim().split(',').flat_map(range).take(2).collect();
    match cores[..] {
        [first, second] => [first, second],
        [only] => [only, only],
        _ => [0, 1],
    }
}

/// The numbers of `4` or `0-3`; none for anything else.
fn range(text: &str) -> Vec<u32> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) => (first..=last).take(2).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_a_wish_and_every_tensor_a_shape() {
        let text = natural(Path::new("cache"), [0, 1]);
        for model in &MODELS {
            assert!(text.contains(&format!("name = \"{}\"", model.name)), "{}", model.name);
            for input in model.inputs {
                assert!(text.contains(&shape(input)), "{}", input.name);
            }
        }
        assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
        assert!(toml::from_str::<toml::Table>(&one_more(Path::new("cache"))).is_ok());
    }

    #[test]
    fn core_lists_are_read() {
        assert_eq!(range("0-3"), [0, 1]);
        assert_eq!(range("5"), [5]);
        assert!(range("x").is_empty());
    }
}
