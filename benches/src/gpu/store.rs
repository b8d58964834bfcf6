//! Results on disk: one file a stage, written whole after each part, so that a stage that was cut off goes on where it
//! stopped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ExperimentError;

/// The time that a stage may take.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    end: Instant,
}

impl Allowance {
    /// So long from here.
    pub fn of(span: Duration) -> Self {
        Self { end: Instant::now() + span }
    }

    /// What is left; zero when it is over.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether at least `needed` is left.
    pub fn allows(&self, needed: Duration) -> bool {
        self.left() >= needed
    }

    /// `share` of what is left, in parts of `of`, at most `most`.
    pub fn part(&self, share: u32, of: u32, most: Duration) -> Duration {
        (self.left() * share / of.max(1)).min(most)
    }
}

/// Where a stage's results are.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// When it was opened: progress is told from there.
    begun: Instant,
}

impl Store {
    /// Results in `folder`, which is made.
    ///
    /// # Errors
    /// [`ExperimentError::File`] with the system's reason.
    pub fn open(folder: &Path) -> Result<Self, ExperimentError> {
        std::fs::create_dir_all(folder).map_err(|error| file(folder, &error))?;
        Ok(Self { folder: folder.to_owned(), begun: Instant::now() })
    }

    /// Says on the error stream what begins, with the seconds since the store was opened.
    pub fn tell(&self, what: &str) {
        eprintln!("[{:6.1} s] {what}", self.begun.elapsed().as_secs_f64());
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a stage, whose name has no spaces, whatever the stage is called.
    pub fn path(&self, stage: &str) -> PathBuf {
        self.folder.join(format!("{}.json", stage.replace(' ', "-")))
    }

    /// What a stage wrote before; `None` where there is nothing or another version wrote it.
    pub fn load<T: DeserializeOwned>(&self, stage: &str) -> Option<T> {
        let text = std::fs::read(self.path(stage)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes what a stage has so far; a reader sees the old file or the new one.
    ///
    /// # Errors
    /// [`ExperimentError::File`] with the system's reason.
    pub fn save<T: Serialize>(&self, stage: &str, result: &T) -> Result<(), ExperimentError> {
        let path = self.path(stage);
        let beside = path.with_extension("json.part");
        let text = serde_json::to_vec(result)
            .map_err(|error| ExperimentError::File { path: path.clone(), reason: error.to_string() })?;
        std::fs::write(&beside, text).map_err(|error| file(&beside, &error))?;
        std::fs::rename(&beside, &path).map_err(|error| file(&path, &error))
    }

    /// Writes a file beside the results and says where it is.
    ///
    /// # Errors
    /// [`ExperimentError::File`] with the system's reason.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, ExperimentError> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| file(parent, &error))?;
        }
        std::fs::write(&path, bytes).map_err(|error| file(&path, &error))?;
        Ok(path)
    }
}

fn file(path: &Path, error: &std::io::Error) -> ExperimentError {
    ExperimentError::File { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nonsense_is_nothing() {
        let folder = std::env::temp_dir().join(format!("aegis-gpu-store-{}", std::process::id()));
        let store = Store::open(&folder).expect("a folder");
        assert_eq!(store.load::<Vec<u64>>("floor"), None);
        store.save("floor", &vec![1u64, 2]).expect("written");
        assert_eq!(store.load::<Vec<u64>>("floor"), Some(vec![1, 2]));
        store.write("floor.json", b"{").expect("written");
        assert_eq!(store.load::<Vec<u64>>("floor"), None);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn an_allowance_is_divided_and_never_negative() {
        let allowance = Allowance::of(Duration::from_secs(100));
        assert!(allowance.allows(Duration::from_secs(99)) && !allowance.allows(Duration::from_secs(101)));
        assert!(allowance.part(1, 2, Duration::from_secs(500)) <= Duration::from_secs(50));
        assert_eq!(allowance.part(1, 2, Duration::from_secs(3)), Duration::from_secs(3));
        assert_eq!(Allowance::of(Duration::ZERO).left(), Duration::ZERO);
    }
}
