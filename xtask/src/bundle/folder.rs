//! The folder that a bundle is put together in: files with the right permissions, and their hashes.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fetch::sha256;

/// The list of hashes, as `sha256sum -c` takes it.
pub const SUMS: &str = "SHA256SUMS";

/// A folder that files are put into, by paths relative to it.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`; it comes into being with its first file.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Writes a text file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn text(&self, place: &str, text: &str) -> Result<(), Error> {
        self.put(place, 0o644, |path| std::fs::write(path, text))
    }

    /// Writes a file that is read only.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn bytes(&self, place: &str, content: &[u8]) -> Result<(), Error> {
        self.put(place, 0o644, |path| std::fs::write(path, content))
    }

    /// Writes a text file that can be started.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn script(&self, place: &str, text: &str) -> Result<(), Error> {
        self.put(place, 0o755, |path| std::fs::write(path, text))
    }

    /// Copies a program; returns where it lies.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn program(&self, place: &str, source: &Path) -> Result<PathBuf, Error> {
        self.copied(place, source, 0o755)?;
        Ok(self.root.join(place))
    }

    /// Copies a file that is read only.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn data(&self, place: &str, source: &Path) -> Result<(), Error> {
        self.copied(place, source, 0o644)
    }

    fn copied(&self, place: &str, source: &Path, mode: u32) -> Result<(), Error> {
        // Opened first, so that a missing source is named as what it is.
        drop(File::open(source).map_err(Error::io("open", source))?);
        self.put(place, mode, |path| std::fs::copy(source, path).map(drop))
    }

    fn put(
        &self,
        place: &str,
        mode: u32,
        write: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let path = self.root.join(place);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        write(&path).map_err(Error::io("write", &path))?;
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(Error::io("write", &path))
    }
}

/// Every file below `root`, relative to it and sorted.
///
/// # Errors
/// [`Error::Io`].
pub fn files_below(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let path = root.join(&folder);
        for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
            let entry = entry.map_err(Error::io("read", &path))?;
            let kind = entry.file_type().map_err(Error::io("read", &path))?;
            let place = folder.join(entry.file_name());
            if kind.is_dir() { open.push(place) } else { files.push(place) }
        }
    }
    files.sort();
    Ok(files)
}

/// The permissions of a file as an archive keeps them: a program or not, whatever the umask was.
pub fn mode(facts: &Metadata) -> u32 {
    if facts.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 }
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, relative to the bundle.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// Hashes every file below `root`.
///
/// # Errors
/// [`Error::Io`].
pub fn entries(root: &Path) -> Result<Vec<Entry>, Error> {
    files_below(root)?
        .into_iter()
        .map(|path| {
            let file = root.join(&path);
            let open = File::open(&file).map_err(Error::io("open", &file))?;
            let bytes = open.metadata().map_err(Error::io("read", &file))?.len();
            let sha256 = sha256(open).map_err(Error::io("read", &file))?;
            Ok(Entry { path: path.to_string_lossy().into_owned(), bytes, sha256 })
        })
        .collect()
}

/// Writes the list of hashes of everything that lies below `root`.
///
/// # Errors
/// [`Error::Io`].
pub fn write_sums(root: &Path) -> Result<(), Error> {
    let lines = entries(root)?.into_iter().map(|entry| format!("{}  {}\n", entry.sha256, entry.path));
    Folder::at(root).text(SUMS, &lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order_with_their_hash_and_mode() {
        let made = tempfile::tempdir().unwrap();
        let folder = Folder::at(made.path());
        folder.script("b/run.sh", "x").unwrap();
        folder.text("a", "").unwrap();
        let entries = entries(made.path()).unwrap();
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a", "b/run.sh"]);
        assert_eq!(entries[0].sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mode_of = |path: &str| mode(&std::fs::metadata(made.path().join(path)).unwrap());
        assert_eq!((mode_of("a"), mode_of("b/run.sh")), (0o644, 0o755));
    }

    #[test]
    fn a_missing_source_is_named_and_not_its_place() {
        let made = tempfile::tempdir().unwrap();
        let error = Folder::at(made.path()).data("here", Path::new("no-such-source")).unwrap_err();
        assert!(error.to_string().contains("no-such-source"), "{error}");
    }
}
