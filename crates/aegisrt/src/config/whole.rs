//! Files that are written whole or not at all.
//!
//! What is written goes beside its place first and takes it at once, so that a reader finds the old file or the new one,
//! and a disk that is full costs nothing that was there. Three things are no such place. A link stands for what it
//! leads to, which is what is replaced. A device or a pipe, such as `/dev/stdout`, is written to: a file of its name
//! would take it away from everybody else on the machine. And a folder is refused.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes what `content` writes to `path`, as a whole.
///
/// # Errors
/// That of the system, or of `content`; what stood at `path` still stands then, unless it is a device or a pipe.
pub(crate) fn write<E: From<io::Error>>(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let known = fs::metadata(path).ok();
    if known.as_ref().is_some_and(|known| !known.is_file() && !known.is_dir()) {
        return through(File::options().write(true).open(path)?, content);
    }
    let target = fs::canonicalize(path).unwrap_or_else(|_| promised(path));
    let mut partial = OsString::from(&target);
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = File::create(&partial)?;
    let done = through(file, content).and_then(|()| {
        if let Some(known) = known {
            fs::set_permissions(&partial, known.permissions())?;
        }
        Ok(fs::rename(&partial, &target)?)
    });
    if done.is_err() {
        // What could not be written is of no use to anybody, and the first error says why.
        let _left = fs::remove_file(&partial);
    }
    done
}

/// Writes a text to `path`, as a whole.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_bytes(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    write(path, |out| out.write_all(bytes.as_ref()))
}

/// Whether writing to `path` reaches a file, and no device or pipe.
pub(crate) fn is_file_or_absent(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |known| known.is_file())
}

/// What a link to a file that is not there yet leads to; any other path as it is.
fn promised(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::read_link(path).map_or_else(|_| path.to_path_buf(), |to| folder.join(to))
}

fn through<E: From<io::Error>>(
    file: File,
    content: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = BufWriter::new(file);
    content(&mut out)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        write_bytes(&path, "one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_bytes(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn what_fails_half_way_leaves_what_was_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        write_bytes(&path, "old").unwrap();
        let cut = write(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no space left"))
        });
        assert_eq!(cut.unwrap_err().to_string(), "no space left");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert!(write_bytes(folder.path(), "a folder").is_err());
        let beside = folder.path().with_extension("partial");
        assert!(!beside.exists(), "{}", beside.display());
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        symlink("real", &link).unwrap();
        for text in ["where nothing is yet", "where something is"] {
            write_bytes(&link, text).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
        }
    }

    /// A pipe of our own stands for every device: were it replaced, only the test's folder would suffer.
    #[test]
    fn a_pipe_is_written_to_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: there is no mkfifo here");
            return;
        }
        assert!(!is_file_or_absent(&path) && is_file_or_absent(&folder.path().join("absent")));
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || fs::read_to_string(path).unwrap())
        };
        write_bytes(&path, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
        assert_eq!(names(folder.path()), ["pipe"]);
    }
}
