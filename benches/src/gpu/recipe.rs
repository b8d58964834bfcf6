//! What an experiment runs: a text for the kernel backend, or a network that is made anew wherever it is needed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aegis_backend_onnx::OnnxRuntime;
use aegis_backend_onnx::segment::Cutter;
use aegis_cuda::ModelRequest;
use serde::{Deserialize, Serialize};

use super::error::ExperimentError;
use crate::networks::{Design, Precision, Size};

/// How the file of a model comes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Recipe {
    /// A model of kernels, as its text.
    Kernel(String),
    /// A generated network.
    Network {
        /// Its design's name.
        design: String,
        /// Seed of its weights.
        seed: u64,
        /// Whether it computes with 16 bits.
        half: bool,
        /// Into how many segments it is cut.
        pieces: usize,
    },
}

impl Recipe {
    /// The word for what runs it, in a fleet.
    pub const fn backend(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "kernel",
            Self::Network { .. } => "onnx",
        }
    }

    /// The file's bytes; `runtime` is asked where a network may be cut.
    ///
    /// # Errors
    /// [`ExperimentError::Illegal`] for a design that there is not, or a cut network without a runtime; what the runtime
    /// refuses.
    pub fn file(&self, runtime: Option<&OnnxRuntime>) -> Result<Cow<'_, [u8]>, ExperimentError> {
        let (design, seed, half, pieces) = match self {
            Self::Kernel(text) => return Ok(Cow::Borrowed(text.as_bytes())),
            Self::Network { design, seed, half, pieces } => (design, *seed, *half, *pieces),
        };
        let found = Design::find(design).ok_or_else(|| ExperimentError::Illegal {
            what: format!("there is no network `{design}`"),
            legal: "the name of a design".into(),
        })?;
        let precision = if half { Precision::Fp16 } else { Precision::Fp32 };
        let whole = found.make(Size::Full, precision, seed).file;
        if pieces < 2 {
            return Ok(Cow::Owned(whole));
        }
        let runtime = runtime.ok_or_else(|| ExperimentError::Illegal {
            what: format!("`{design}` is to be cut, and nothing is there that runs it"),
            legal: "cutting with ONNX Runtime at hand".into(),
        })?;
        cut(runtime, design, &whole, pieces).map(Cow::Owned)
    }
}

/// A network cut into pieces of about as many nodes each.
fn cut(runtime: &OnnxRuntime, name: &str, whole: &[u8], pieces: usize) -> Result<Vec<u8>, ExperimentError> {
    let shapes = BTreeMap::new();
    let request = ModelRequest { name, artifact: whole, shapes: &shapes, allow_control_flow: false };
    let cutter = Cutter::open(runtime, &request)?;
    let mut cuts: Vec<usize> = (1..pieces).map(|piece| piece * cutter.atoms() / pieces).collect();
    cuts.retain(|cut| *cut > 0);
    cuts.dedup();
    Ok(cutter.write(&cuts)?)
}

impl From<String> for Recipe {
    fn from(text: String) -> Self {
        Self::Kernel(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_survive_a_round_trip_and_make_the_same_file_again() {
        let network =
            |design: &str, pieces| Recipe::Network { design: design.into(), seed: 3, half: true, pieces };
        for recipe in [Recipe::from("kernel 1\n".to_owned()), network("signs", 1)] {
            let text = serde_json::to_string(&recipe).expect("it is JSON");
            let read: Recipe = serde_json::from_str(&text).expect("it is read back");
            assert_eq!(read, recipe);
            let file = |recipe: &Recipe| recipe.file(None).map(Cow::into_owned).expect("a file");
            assert!(file(&read) == file(&recipe) && !file(&read).is_empty());
        }
        for bad in [network("director", 1), network("signs", 2)] {
            assert!(matches!(bad.file(None), Err(ExperimentError::Illegal { .. })));
        }
    }
}
