//! A file in the making, which takes its name only when it is complete and on disk.
//!
//! It lies beside its target as `.plan-XXXXXX.part`, locked by whoever writes it. A writer that is
//! killed leaves it there; its lock is gone with it, and the next writer in that folder removes it.

use std::fs::{self, File, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::PlanError;

const PREFIX: &str = ".plan-";
const SUFFIX: &str = ".part";

/// Dropping it before [`Part::publish`] leaves nothing behind.
pub(crate) struct Part {
    target: PathBuf,
    file: NamedTempFile,
}

impl Part {
    /// Starts a file that will stand at `target`, after removing what killed writers left in that
    /// folder. Being in the same folder, the rename at the end is atomic.
    pub(crate) fn create(target: &Path) -> Result<Self, PlanError> {
        let failed = |source| PlanError::Io {
            action: "create a temporary file beside",
            path: target.to_owned(),
            source,
        };
        let folder = folder_of(target);
        remove_abandoned(folder);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        readable_by_umask(&mut builder);
        loop {
            let file = builder.tempfile_in(folder).map_err(failed)?;
            // Where files cannot be locked, nobody takes this one for abandoned either.
            let _ = file.as_file().lock();
            // Between creation and lock, another writer may have done so.
            if file.path().exists() {
                return Ok(Self { target: target.to_owned(), file });
            }
        }
    }

    /// Where the file will stand.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the file lies until then.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, to be written.
    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Syncs the file and moves it to its name.
    pub(crate) fn publish(self) -> Result<(), PlanError> {
        let Self { target, file } = self;
        let failed = |action| {
            let path = target.clone();
            move |source| PlanError::Io { action, path, source }
        };
        file.as_file().sync_all().map_err(failed("sync"))?;
        file.persist(&target)
            .map_err(|error| failed("rename the finished file to")(error.error))?;
        sync_folder(&target).map_err(failed("sync the folder of"))
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes the files of writers that are no more. What cannot be read or removed stays: it is in
/// nobody's way.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_part = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        if !name.to_str().is_some_and(is_part) || !entry.file_type().is_ok_and(|it| it.is_file()) {
            continue;
        }
        let path = entry.path();
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Temporary files are private by default; a plan is an ordinary file under the umask.
fn readable_by_umask(builder: &mut tempfile::Builder<'_, '_>) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = builder;
}

/// Makes the rename itself durable, where folders can be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_abandoned_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.plan");
        for name in [".plan-killed.part", ".plan-other", "mine.part"] {
            fs::write(folder.path().join(name), "left").unwrap();
        }
        let first = Part::create(&target).unwrap();
        let second = Part::create(&target).unwrap();
        let found = names(folder.path());
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(!found.contains(&".plan-killed.part".into()), "{found:?}");
        drop(first);
        second.publish().unwrap();
        assert_eq!(names(folder.path()), [".plan-other", "a.plan", "mine.part"]);
    }
}
