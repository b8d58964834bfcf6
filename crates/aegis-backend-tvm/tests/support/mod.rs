//! What the tests stand on: compiled models with the outputs they should have, a lane, a judge.

pub mod lane;

use std::path::{Path, PathBuf};

/// The folder with the library and the models; `None` where there is none.
pub fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("AEGIS_CACHE")?).join("tvm");
    folder.join("models").is_dir().then_some(folder)
}

/// The compiled models of the tests.
pub const MODELS: [&str; 4] = ["mlp", "cnn", "twin", "resnet_small"];

/// A compiled model: its file, and the inputs and right outputs of two jobs.
pub struct Model {
    pub name: &'static str,
    pub artifact: Vec<u8>,
    pub jobs: Vec<Vec<Vec<u8>>>,
    pub right: Vec<Vec<Vec<u8>>>,
}

impl Model {
    /// Reads a model that was compiled for `target`: `cpu`, `cuda-sm_90`, `cuda-source-sm_90`.
    pub fn read(folder: &Path, name: &'static str, target: &str) -> Self {
        let models = folder.join("models");
        let read = |file: String| {
            let path = models.join(file);
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let outputs: &[&str] = if matches!(name, "cnn" | "twin") { &["y", "z"] } else { &["y"] };
        let job = |job: usize| vec![read(format!("{name}.{job}.x.f32"))];
        let right =
            |job: usize| outputs.iter().map(|output| read(format!("{name}.{job}.{output}.f32"))).collect();
        Self {
            name,
            artifact: read(format!("{name}.{target}.tvm")),
            jobs: (0..2).map(job).collect(),
            right: (0..2).map(right).collect(),
        }
    }

    /// Says what is wrong with the outputs of a job, whose inputs tell which one it was.
    pub fn judge(&self, inputs: &[Vec<u8>], outputs: &[Vec<u8>]) -> Result<(), String> {
        let job = self.jobs.iter().position(|job| job == inputs).ok_or("inputs of no job")?;
        if outputs.len() != self.right[job].len() {
            return Err(format!("{} outputs of {}", outputs.len(), self.right[job].len()));
        }
        for (index, (right, output)) in self.right[job].iter().zip(outputs).enumerate() {
            let (right, output) = (floats(right), floats(output));
            let scale = right.iter().fold(0_f32, |most, value| most.max(value.abs()));
            let off = right.iter().zip(&output).fold(0_f32, |most, (a, b)| most.max((a - b).abs()));
            let close = off.is_finite() && off <= 1e-5 * scale.max(1.0);
            if !close || right.len() != output.len() || output.iter().any(|value| !value.is_finite()) {
                let name = self.name;
                return Err(format!(
                    "{name}: job {job}, output {index}: off by {off} where values reach {scale}"
                ));
            }
        }
        Ok(())
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}
