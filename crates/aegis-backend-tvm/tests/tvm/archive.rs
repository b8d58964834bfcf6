//! Archives with one thing changed: every other byte is the compiled model's own, and all checksums are right.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The parts of an archive, by name.
pub fn parts(artifact: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(artifact)).expect("an archive");
    let mut read = |index| {
        let mut entry = archive.by_index(index).expect("listed");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("whole");
        (entry.name().expect("text").into_owned(), bytes)
    };
    (0..3).map(&mut read).collect()
}

/// An archive of these parts.
pub fn pack(parts: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(name, options).expect("in memory");
        writer.write_all(bytes).expect("in memory");
    }
    writer.finish().expect("in memory").into_inner()
}

/// The archive with one part changed.
pub fn with(artifact: &[u8], name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut parts = parts(artifact);
    let (_, bytes) = parts.iter_mut().find(|(part, _)| part == name).expect("listed");
    change(bytes);
    pack(&parts, CompressionMethod::Stored)
}

/// The archive with one text of its description replaced.
pub fn saying(artifact: &[u8], from: &str, to: &str) -> Vec<u8> {
    with(artifact, "description.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("text");
        assert!(text.contains(from), "the description does not say {from}");
        *bytes = text.replacen(from, to, 1).into_bytes();
    })
}
