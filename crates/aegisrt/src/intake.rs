//! Files that somebody hands in. A device need not end, and a model is no pipe: neither may hold a command for ever.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

use aegis_types::Bytes;

/// More than any text that people write or tools measure has.
pub(crate) const TEXT_MAX: Bytes = Bytes::new(256 << 20);

/// The text of a file or a pipe, which has at most `max`.
///
/// # Errors
/// The system's reason, or that there is more.
pub(crate) fn text(path: &Path, max: Bytes) -> Result<String> {
    let mut text = String::new();
    let mut source = File::open(path)?.take(max.get().saturating_add(1));
    // Pieces of characters at the limit must not be called what is wrong.
    let read = source.read_to_string(&mut text);
    if source.limit() == 0 {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than {max}, or no end")));
    }
    read.map(|_| text)
}

/// The content of a regular file: pipes and devices may never answer, or never end.
///
/// # Errors
/// The system's reason, or what else it is.
pub(crate) fn content(path: &Path) -> Result<Vec<u8>> {
    check_regular(path)?;
    std::fs::read(path)
}

/// Checks that a file is a regular one, without opening it.
///
/// # Errors
/// The system's reason, or what else it is.
pub(crate) fn check_regular(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path)?;
    match (kind.is_file(), kind.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => Err(Error::new(ErrorKind::IsADirectory, "it is a folder")),
        _ => Err(Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused_and_the_limit_is_legal() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("text");
        std::fs::write(&path, "fünf").expect("written");
        assert_eq!(text(&path, Bytes::new(5)).expect("as long as may be"), "fünf");
        for max in 1..5 {
            let error = text(&path, Bytes::new(max)).expect_err("longer").to_string();
            assert!(error.contains("more than") && error.contains("no end"), "{error}");
        }
        assert!(text(Path::new("/dev/zero"), Bytes::new(1 << 20)).is_err());
        assert_eq!(text(Path::new("/dev/null"), Bytes::new(1 << 20)).expect("it ends"), "");
        assert_eq!(content(&path).expect("regular"), "fünf".as_bytes());
        for (path, says) in [(folder.path(), "folder"), (Path::new("/dev/zero"), "no regular file")] {
            let error = content(path).expect_err("no file").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
