//! The fleet's models, read and described before anything is loaded.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;

use aegis_context::IoPlan;
use aegis_cuda::{BackendError, BackendLoader, ModelDescription, ModelRequest, TensorSpec};
use aegis_types::TaskId;

use crate::config::{Fleet, InputSource, TaskConfig};
use crate::error::RuntimeError;
use crate::feed::Feed;
use crate::intake;

/// The backends that a process has, by the word for each in a fleet.
#[derive(Clone, Default)]
pub struct Loaders(BTreeMap<&'static str, Arc<dyn BackendLoader>>);

impl Loaders {
    /// Adds a backend under its own name; a later one of the same name replaces it.
    #[must_use]
    pub fn with(mut self, loader: Arc<dyn BackendLoader>) -> Self {
        self.0.insert(loader.name(), loader);
        self
    }

    /// The backend of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn BackendLoader>> {
        self.0.get(name)
    }

    /// The names, for messages.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }
}

/// One task's model.
#[derive(Clone)]
pub struct Model {
    /// The task.
    pub task: TaskId,
    /// What the fleet says of it.
    pub config: TaskConfig,
    /// The artifact's bytes.
    pub artifact: Arc<[u8]>,
    /// What the backend says of it.
    pub description: ModelDescription,
    /// What runs it.
    pub loader: Arc<dyn BackendLoader>,
}

impl Model {
    /// The request that inspects or loads it.
    pub fn request(&self) -> ModelRequest<'_> {
        ModelRequest {
            name: &self.config.name,
            artifact: &self.artifact,
            shapes: &self.config.shapes,
            allow_control_flow: self.config.allow_control_flow,
        }
    }

    /// Whether an input is what an output of the job before left.
    pub fn is_state(&self, input: &TensorSpec) -> bool {
        self.config.state.iter().any(|pair| pair.input == input.name)
    }

    /// The inputs that are not state, in the model's order: what a client or a feed brings.
    pub fn fed_inputs(&self) -> Vec<TensorSpec> {
        self.description.inputs.iter().filter(|input| !self.is_state(input)).cloned().collect()
    }

    /// The prepared inputs of a periodic task.
    ///
    /// # Errors
    /// [`RuntimeError::Inputs`] if a recording does not fit.
    pub fn feed(&self) -> Result<Feed, RuntimeError> {
        let inputs = self.fed_inputs();
        match &self.config.inputs {
            InputSource::Seed(seed) => Ok(Feed::seeded(*seed, &inputs)),
            InputSource::File(path) => {
                Feed::recorded(&read(path)?, &inputs).map_err(|error| RuntimeError::Inputs {
                    task: self.config.name.clone(),
                    reason: format!("{}: {error}", path.display()),
                })
            }
        }
    }

    /// How its I/O is laid out with `slots` input slots. One job of a task runs at a time and its outputs are taken
    /// before the next, so outputs have one.
    pub fn io_plan(&self, slots: u32) -> IoPlan {
        let state = self.config.state.iter().map(|pair| (pair.output.clone(), pair.input.clone())).collect();
        IoPlan { input_slots: slots, output_slots: 1, state }
    }
}

/// Reads and describes every model of a fleet, in order; `tell` hears each name first.
///
/// # Errors
/// The first model that cannot be read or is refused by its backend, with the fleet's line.
pub fn inspect(fleet: &Fleet, loaders: &Loaders, tell: impl FnMut(&str)) -> Result<Vec<Model>, RuntimeError> {
    inspect_with(fleet, loaders, tell, |config| intake::content(&config.model))
}

/// As [`inspect`], for artifacts that `read` brings.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(
    fleet: &Fleet,
    loaders: &Loaders,
    mut tell: impl FnMut(&str),
    mut read: impl FnMut(&TaskConfig) -> std::io::Result<Vec<u8>>,
) -> Result<Vec<Model>, RuntimeError> {
    fleet
        .tasks()
        .iter()
        .enumerate()
        .map(|(index, config)| {
            // A checked fleet has far fewer tasks than u16 numbers.
            let task = TaskId::new(index as u16);
            tell(&config.name);
            let loader = loaders.get(config.backend.name()).ok_or_else(|| {
                fleet.complain(
                    task,
                    "backend",
                    format!("backend `{}` is not in this process", config.backend.name()),
                    format!("one of: {}", loaders.names().join(", ")),
                )
            })?;
            let refused = |error: BackendError| {
                let said = error.to_string();
                let (problem, legal) = legal_apart(&said);
                fleet.complain(task, "model", problem, legal.unwrap_or("a model that the backend accepts"))
            };
            let artifact = read(config).map_err(|error| {
                let problem = format!("`{}` cannot be read: {error}", config.model.display());
                fleet.complain(task, "model", problem, "the path of a readable model file")
            })?;
            let mut beside = |path: &str| read_beside(&config.model, path);
            let artifact: Arc<[u8]> =
                loader.complete(&config.name, artifact, &mut beside).map_err(refused)?.into();
            let request = ModelRequest {
                name: &config.name,
                artifact: &artifact,
                shapes: &config.shapes,
                allow_control_flow: config.allow_control_flow,
            };
            let description = loader.inspect(&request).map_err(refused)?;
            check_state(fleet, task, config, &description)?;
            Ok(Model { task, config: config.clone(), artifact, description, loader: Arc::clone(loader) })
        })
        .collect()
}

/// A file that a model names, in the model's folder or below it: a model that somebody gave away must not lead elsewhere.
pub(crate) fn read_beside(model: &Path, path: &str) -> std::io::Result<Vec<u8>> {
    let refused = |what| Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return refused("it leads out of the model's folder");
    }
    let file = model.parent().unwrap_or(Path::new("")).join(path);
    intake::content(&file)
}

/// What a backend refuses, and what would be legal where it says so itself.
pub(crate) fn legal_apart(said: &str) -> (&str, Option<&str>) {
    let apart = ["; legal is ", "; legal are "].iter().find_map(|words| said.rsplit_once(words));
    apart.map_or((said, None), |(problem, legal)| (problem, Some(legal)))
}

/// State pairs must name tensors of the model that have one type and shape.
fn check_state(
    fleet: &Fleet,
    task: TaskId,
    config: &TaskConfig,
    description: &ModelDescription,
) -> Result<(), RuntimeError> {
    let find = |specs: &[TensorSpec], name: &str| specs.iter().find(|spec| spec.name == name).cloned();
    let names =
        |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
    for pair in &config.state {
        let legal = || {
            let (outputs, inputs) = (names(&description.outputs), names(&description.inputs));
            format!("[output, input] with an output of: {outputs}; and an input of: {inputs}")
        };
        let output = find(&description.outputs, &pair.output);
        let input = find(&description.inputs, &pair.input);
        let problem = match (output, input) {
            (Some(a), Some(b)) if a.element == b.element && a.shape == b.shape => continue,
            (Some(a), Some(b)) => {
                format!(
                    "`{}` is {:?} {:?}, `{}` is {:?} {:?}",
                    a.name, a.element, a.shape, b.name, b.element, b.shape
                )
            }
            (None, _) => format!("the model has no output `{}`", pair.output),
            (_, None) => format!("the model has no input `{}`", pair.input),
        };
        return Err(fleet.complain(task, "state", problem, legal()).into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, RuntimeError> {
    intake::content(path)
        .map_err(|error| RuntimeError::File { path: path.display().to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_names_files_of_its_own_folder_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("models/m.onnx");
        std::fs::create_dir_all(folder.path().join("models/more")).expect("folders");
        for (path, text) in [("models/w.data", "w"), ("models/more/v.data", "v"), ("secret", "s")] {
            std::fs::write(folder.path().join(path), text).expect("written");
        }
        for (path, text) in [("w.data", "w"), ("./w.data", "w"), ("more/v.data", "v")] {
            assert_eq!(read_beside(&model, path).expect(path), text.as_bytes());
        }
        let absolute = folder.path().join("secret").display().to_string();
        for path in ["../secret", "more/../../secret", absolute.as_str()] {
            let error = read_beside(&model, path).expect_err(path).to_string();
            assert!(error.contains("out of the model's folder"), "{path}: {error}");
        }
        for path in ["more", "", "none"] {
            assert!(read_beside(&model, path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_legal_is_said_once() {
        assert_eq!(legal_apart("axis 2 is 32; legal is 64"), ("axis 2 is 32", Some("64")));
        assert_eq!(legal_apart("it has strings; legal are numbers"), ("it has strings", Some("numbers")));
        assert_eq!(legal_apart("it is cut"), ("it is cut", None));
    }
}
