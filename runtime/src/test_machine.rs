//! A machine of files, for tests.

use std::fs;

use tempfile::TempDir;

use crate::machine::Roots;

pub(crate) struct Machine {
    folder: TempDir,
}

impl Machine {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            machine.file(path, text);
        }
        machine
    }

    /// Writes a file; a path that ends in a slash is a folder.
    pub(crate) fn file(&self, path: &str, text: &str) {
        let full = self.folder.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
            return;
        }
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        fs::write(full, text).unwrap();
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::inside(self.folder.path())
    }
}
