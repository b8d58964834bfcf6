//! Fleets with the files that they name, so that they run where the bundle is.
//!
//! A fleet names models and recorded inputs by paths from its own folder. In the bundle these lie elsewhere: what is in
//! the cache goes to `cache`, where the programs look for it anyway, what stands below the folder of the fleets keeps its
//! place there, and the rest goes to `fleets/beside`, a folder for each where it came from. The paths in the fleet's text
//! are written anew, and nothing else of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::folder::{self, Folder};
use crate::error::Error;

/// Where fleets lie in a bundle.
const FLEETS: &str = "fleets";

/// How a model in ONNX's format names a file with the data of a constant: the key `location` and the path, each behind
/// its field's number and its length.
const LOCATION: &[u8] = b"\x0a\x08location\x12";

/// Puts every fleet of the folders `sources` into the bundle with what it names. `cache` is where downloads and made
/// models lie. Returns the places of all files.
///
/// # Errors
/// [`Error::Io`] naming a file that is not there, [`Error::Bundle`] for a fleet that cannot be read or rewritten, and for
/// two files that would go to one place.
pub fn put(bundle: &Folder, sources: &[PathBuf], cache: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let mut files = Files { cache: cache.canonicalize().ok(), ..Files::default() };
    for source in sources {
        let source = real(source)?;
        for path in folder::files_below(&source)? {
            if path.extension().is_some_and(|end| end == "toml") {
                let text = files.rewritten(&source, &path)?;
                bundle.text(&Path::new(FLEETS).join(&path).to_string_lossy(), &text)?;
            }
        }
    }
    // Fleets are there already, as they read there.
    let named = files.placed.iter().filter(|(_, file)| file.extension().is_none_or(|end| end != "toml"));
    named.into_iter().try_for_each(|(place, file)| bundle.data(&place.to_string_lossy(), file))?;
    Ok(files.placed.into_keys().collect())
}

/// Where files go.
#[derive(Default)]
struct Files {
    cache: Option<PathBuf>,
    /// Folders that are neither the cache nor of fleets, in the order in which they were met.
    strangers: Vec<PathBuf>,
    /// By place in the bundle, the file that goes there.
    placed: BTreeMap<PathBuf, PathBuf>,
}

impl Files {
    /// The text of a fleet with the paths that it has in the bundle; what they lead to is placed.
    fn rewritten(&mut self, source: &Path, path: &Path) -> Result<String, Error> {
        let fleet = source.join(path);
        let mut text = std::fs::read_to_string(&fleet).map_err(Error::io("read", &fleet))?;
        let place = self.place(source, &fleet)?;
        let written = table(&fleet, &text)?;
        let mut wanted = written.clone();
        for path in paths(&mut wanted) {
            let named = path.clone();
            let file = real(&fleet.with_file_name("").join(&named))?;
            let target = self.place(source, &file)?;
            for beside in beside(&file)? {
                self.place(source, &beside)?;
            }
            *path = from(&place, &target);
            text = rewrite(&text, &named, path);
        }
        // Texts are replaced wherever they stand: in a name as well, or by the path of another task.
        if table(&fleet, &text)? != wanted {
            let reason = "a path is written with escapes or stands for something else too; legal: plain paths between quotes";
            return Err(Error::Bundle(format!("{}: {reason}", fleet.display())));
        }
        Ok(text)
    }

    /// The place of a file in the bundle. Files of one folder stay together: a model may name others beside it.
    fn place(&mut self, source: &Path, file: &Path) -> Result<PathBuf, Error> {
        let cached = self.cache.as_ref().and_then(|cache| file.strip_prefix(cache).ok());
        let place = match (cached, file.strip_prefix(source)) {
            (Some(rest), _) => Path::new("cache").join(rest),
            (None, Ok(rest)) => Path::new(FLEETS).join(rest),
            (None, Err(_)) => {
                let number = self.stranger(file.parent().unwrap_or(file));
                let name = file.file_name().unwrap_or_default();
                Path::new(FLEETS).join("beside").join(number.to_string()).join(name)
            }
        };
        match self.placed.insert(place.clone(), file.to_owned()) {
            Some(other) if other != file => Err(Error::Bundle(format!(
                "{} and {} would both go to {}; legal: fleets of different names",
                other.display(),
                file.display(),
                place.display()
            ))),
            _ => Ok(place),
        }
    }

    fn stranger(&mut self, folder: &Path) -> usize {
        let known = self.strangers.iter().position(|stranger| stranger == folder);
        known.unwrap_or_else(|| {
            self.strangers.push(folder.to_owned());
            self.strangers.len() - 1
        })
    }
}

fn real(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(Error::io("find", path))
}

fn table(fleet: &Path, text: &str) -> Result<Table, Error> {
    text.parse().map_err(|error| Error::Bundle(format!("{}: {error}", fleet.display())))
}

/// The paths that a fleet names: none in a file of another kind.
fn paths(fleet: &mut Table) -> impl Iterator<Item = &mut String> {
    let tasks = fleet.get_mut("task").and_then(Value::as_array_mut).into_iter().flatten();
    let entries = tasks.filter_map(Value::as_table_mut).flat_map(|task| task.iter_mut());
    let named = entries.filter_map(|(key, value)| match key.as_str() {
        "model" => Some(value),
        "inputs" => value.get_mut("file"),
        _ => None,
    });
    named.filter_map(|value| if let Value::String(path) = value { Some(path) } else { None })
}

/// The text with another path wherever this one stands between quotes.
fn rewrite(text: &str, old: &str, new: &str) -> String {
    let quoted = |path: &str| ['"', '\''].map(|mark| format!("{mark}{path}{mark}"));
    let pairs = quoted(old).into_iter().zip(quoted(new));
    pairs.fold(text.to_owned(), |text, (old, new)| text.replace(&old, &new))
}

/// The way to `target` from the folder of `fleet`, both places in the bundle.
fn from(fleet: &Path, target: &Path) -> String {
    let folder = fleet.parent().unwrap_or(fleet);
    let common = folder.components().zip(target.components()).take_while(|(one, other)| one == other).count();
    let up = folder.components().skip(common).map(|_| "..".to_owned());
    let down = target.components().skip(common).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// The files in which a model keeps data of its constants; none where it keeps all itself.
fn beside(model: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    if model.extension().is_none_or(|end| end != "onnx") {
        return Ok(BTreeSet::new());
    }
    let bytes = std::fs::read(model).map_err(Error::io("read", model))?;
    let mut files = BTreeSet::new();
    let starts = bytes.windows(LOCATION.len()).enumerate().filter(|(_, window)| *window == LOCATION);
    for (at, _) in starts {
        // Paths of less than 128 bytes have one byte of length. What is no path of a file there is data that looks alike.
        let Some((&length, rest)) = bytes[at + LOCATION.len()..].split_first() else { continue };
        let name = rest.get(..length.into()).and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| length < 128 && !name.is_empty()) else { continue };
        let file = model.with_file_name(name);
        if let Ok(found) = file.canonicalize() {
            files.insert(found);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a cache, fleets and strangers, and what becomes of the fleets in a bundle.
    struct Case {
        folder: tempfile::TempDir,
    }

    impl Case {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (place, bytes) in files {
                Folder::at(folder.path()).bytes(place, bytes).unwrap();
            }
            Self { folder }
        }

        fn put(&self) -> Result<PathBuf, Error> {
            let (at, made) = (self.folder.path(), self.folder.path().join("made"));
            let sources = ["own", "other"].map(|name| at.join(name));
            let sources: Vec<PathBuf> = sources.into_iter().filter(|source| source.is_dir()).collect();
            put(&Folder::at(&made), &sources, &at.join("cache"))?;
            Ok(made)
        }
    }

    const FLEET: &str = "# kept\n[[task]]\nmodel = \"../../cache/models/a.onnx\"\n[[task]]\nmodel = 'b.kernel'\n\
                         inputs = { file = \"../../else/where.bin\" }\n";

    #[test]
    fn every_path_of_a_fleet_leads_to_its_file_in_the_bundle() {
        let case = Case::new(&[
            ("own/deep/fleet.toml", FLEET.as_bytes()),
            ("own/deep/b.kernel", b"b"),
            ("own/notes.toml", b"text = 1\n"),
            ("cache/models/a.onnx", b"..\x0a\x08location\x12\x06a.data.."),
            ("cache/models/a.data", b"data"),
            ("else/where.bin", b"bin"),
        ]);
        let made = case.put().unwrap();
        let place = made.join("fleets/deep/fleet.toml");
        let text = std::fs::read_to_string(&place).unwrap();
        assert!(text.starts_with("# kept\n"), "{text}");
        let mut fleet = table(&place, &text).unwrap();
        let read = |path: &mut String| std::fs::read(place.with_file_name("").join(path)).unwrap();
        let found: Vec<Vec<u8>> = paths(&mut fleet).map(read).collect();
        assert_eq!(found.len(), 3, "{text}");
        assert!(found.contains(&b"b".to_vec()) && found.contains(&b"bin".to_vec()), "{text}");
        assert_eq!(std::fs::read(made.join("cache/models/a.data")).unwrap(), b"data");
        assert!(made.join("fleets/notes.toml").is_file());
    }

    #[test]
    fn files_of_one_name_from_two_folders_stay_apart() {
        let fleet = b"[[task]]\nmodel = \"../x/m.kernel\"\n[[task]]\nmodel = \"../y/m.kernel\"\n";
        let case = Case::new(&[("own/f.toml", fleet), ("x/m.kernel", b"x"), ("y/m.kernel", b"y")]);
        let made = case.put().unwrap();
        let text = std::fs::read_to_string(made.join("fleets/f.toml")).unwrap();
        assert!(text.contains("\"beside/0/m.kernel\"") && text.contains("\"beside/1/m.kernel\""), "{text}");
        assert_eq!(std::fs::read(made.join("fleets/beside/1/m.kernel")).unwrap(), b"y");
    }

    #[test]
    fn two_fleets_of_one_name_are_refused() {
        let case = Case::new(&[("own/f.toml", b""), ("other/f.toml", b"")]);
        let error = case.put().unwrap_err().to_string();
        assert!(error.contains("own/f.toml") && error.contains("other/f.toml"), "{error}");
    }

    #[test]
    fn what_is_missing_or_cannot_be_rewritten_is_named() {
        for (text, word) in [
            ("[[task]]\nmodel = \"none.onnx\"\n", "none.onnx"),
            ("[[task]]\nmodel = \"../\\u0062.kernel\"\n", "escapes"),
            ("[[task]]\nname = \"../b.kernel\"\nmodel = \"../b.kernel\"\n", "something else"),
            ("[[task]\n", "f.toml"),
        ] {
            let case = Case::new(&[("own/f.toml", text.as_bytes()), ("b.kernel", b"b")]);
            let error = case.put().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
