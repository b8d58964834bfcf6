//! The files that the rules look at: what git tracks, and what it would track after `git add`.

use std::path::Path;
use std::process::Command;

use super::lexer::{Token, code_of, tokens_of};
use crate::error::Error;

/// One file of the checkout.
pub struct SourceFile {
    path: String,
    text: String,
    code: String,
    tokens: Vec<Token>,
    lines: Vec<usize>,
}

/// All files of the checkout, by path.
pub struct Tree {
    files: Vec<SourceFile>,
}

impl Tree {
    /// Reads every tracked file below `root`, and every untracked one that git does not ignore.
    ///
    /// # Errors
    /// [`Error::Workspace`] where git cannot list the files, [`Error::Io`] where one cannot be read.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let mut files = Vec::new();
        for path in listed(root)? {
            let place = root.join(&path);
            // A file that is deleted but not yet committed is listed and gone.
            if place.is_file() {
                let bytes = std::fs::read(&place).map_err(Error::io("read", &place))?;
                files.push(SourceFile::new(&path, &String::from_utf8_lossy(&bytes)));
            }
        }
        Ok(Self { files })
    }

    /// A tree out of (path, text), for tests of the rules.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| SourceFile::new(path, text)).collect() }
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter()
    }

    /// Every Rust file.
    pub fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files().filter(|file| file.is_rust())
    }

    /// The file at `path`, relative to the root.
    pub fn find(&self, path: &str) -> Option<&SourceFile> {
        self.files().find(|file| file.path == path)
    }
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        let tokens = tokens_of(&code);
        let lines = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code, tokens, lines }
    }

    /// Path relative to the root, with `/` between its parts.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole content.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds Rust code.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The crate's folder (`crates/NAME`, `xtask`, `benches`) that it belongs to.
    pub fn crate_folder(&self) -> &str {
        let depth = if self.path.starts_with("crates/") { 2 } else { 1 };
        let end = self.path.match_indices('/').nth(depth - 1).map_or(self.path.len(), |(at, _)| at);
        &self.path[..end]
    }

    /// Words and signs of its code.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Text of the token at `index`; empty past the end, so that looking ahead needs no check.
    pub fn token(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &self.code[token.start..token.end])
    }

    /// Byte where the token at `index` starts; the end of the text past the last token.
    pub fn offset(&self, index: usize) -> usize {
        self.tokens.get(index).map_or(self.text.len(), |token| token.start)
    }

    /// Line of a byte, counted from 1.
    pub fn line_at(&self, offset: usize) -> usize {
        self.lines.partition_point(|&end| end < offset) + 1
    }

    /// Line of the token at `index`, counted from 1.
    pub fn line(&self, index: usize) -> usize {
        self.line_at(self.offset(index))
    }

    /// Index of the bracket that closes the one at `open`; past the end where it is never closed.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for index in open..self.tokens.len() {
            match self.token(index) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return index;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }
}

fn listed(root: &Path) -> Result<Vec<String>, Error> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = command.output().map_err(|error| {
        Error::Workspace(format!("git is needed to list the tracked files, and cannot be started: {error}"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Workspace(format!("git ls-files failed: {}", said.trim())));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<String> =
        names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let status = Command::new("git").current_dir(folder).args(arguments).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn it_holds_tracked_and_new_files_but_no_ignored_ones() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet"]);
        for (name, text) in [(".gitignore", "target\n"), ("kept.rs", "fn a() {}"), ("new.md", "text")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::create_dir(folder.path().join("target")).unwrap();
        std::fs::write(folder.path().join("target/built.rs"), "").unwrap();
        git(folder.path(), &["add", "kept.rs"]);
        let tree = Tree::read(folder.path()).unwrap();
        let paths: Vec<&str> = tree.files().map(SourceFile::path).collect();
        assert_eq!(paths, [".gitignore", "kept.rs", "new.md"]);
        assert_eq!(tree.rust().count(), 1);
    }

    #[test]
    fn a_folder_without_git_is_an_error_and_not_an_empty_tree() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Tree::read(folder.path()), Err(Error::Workspace(_))));
    }

    #[test]
    fn files_know_their_crate_and_their_lines() {
        let file = SourceFile::new("crates/aegis-types/src/a.rs", "fn a() {\n    b();\n}\n");
        assert_eq!(file.crate_folder(), "crates/aegis-types");
        assert_eq!(SourceFile::new("xtask/src/main.rs", "").crate_folder(), "xtask");
        let closing = file.closing(4);
        assert_eq!((file.token(closing), file.line(4), file.line(closing)), ("}", 1, 3));
    }
}
