//! What the feature `tvm` needs beside the programs. It comes out of an environment with TVM's compiler, which is large, so
//! nothing of it is fetched here.

use std::path::Path;

use super::folder::{self, Folder};
use crate::error::Error;
use crate::models_tvm::{LIBRARIES_FOLDER, MODELS_FOLDER};

/// Puts TVM's libraries with their licences into the bundle, as they lie in `cache`. With `models` also what its tests
/// read, for those processors for which it was made: compiled models with inputs and outputs.
///
/// # Errors
/// [`Error::Bundle`] where the libraries are not there, [`Error::Io`].
pub fn put(bundle: &Folder, cache: &Path, models: bool) -> Result<(), Error> {
    let source = cache.join(LIBRARIES_FOLDER);
    if !source.is_dir() {
        let (folder, command) = (source.display(), "`cargo xtask models --tvm`, with `--for cuda` for a GPU");
        return Err(Error::Bundle(format!(
            "the feature `tvm` wants TVM's libraries, and there is no {folder}; {command}, puts them there"
        )));
    }
    all_of(bundle, cache, LIBRARIES_FOLDER)?;
    if models && cache.join(MODELS_FOLDER).is_dir() { all_of(bundle, cache, MODELS_FOLDER) } else { Ok(()) }
}

fn all_of(bundle: &Folder, cache: &Path, folder: &str) -> Result<(), Error> {
    let (source, place) = (cache.join(folder), Path::new("cache").join(folder));
    let put = |file: &Path| bundle.data(&place.join(file).to_string_lossy(), &source.join(file));
    folder::files_below(&source)?.iter().try_for_each(|file| put(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_go_with_the_libraries_where_models_are_wanted() {
        let at = tempfile::tempdir().unwrap();
        let cache = Folder::at(&at.path().join("all"));
        let files = ["tvm/lib/a.so", "tvm/lib/licences/a", "tvm/models/m.cpu.tvm", "tvm/models/m.0.x.f32"];
        files.iter().for_each(|file| cache.bytes(file, b"..").unwrap());
        for (models, count) in [(true, 4), (false, 2)] {
            let made = at.path().join(count.to_string());
            put(&Folder::at(&made), &at.path().join("all"), models).unwrap();
            let found = folder::files_below(&made.join("cache")).unwrap();
            let found: Vec<&str> = found.iter().map(|file| file.to_str().unwrap()).collect();
            let mut wanted = files[..count].to_vec();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn libraries_that_are_not_there_are_asked_for() {
        let at = tempfile::tempdir().unwrap();
        let refusal = put(&Folder::at(&at.path().join("made")), at.path(), true).unwrap_err().to_string();
        assert!(refusal.contains("tvm/lib") && refusal.contains("cargo xtask models --tvm"), "{refusal}");
    }
}
