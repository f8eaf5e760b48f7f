//! Copies a SQLite file while a server writes to it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions, Connection};

use super::{failure, file::check_folder, location::connect_options};
use crate::{BackupError, StoreError, StoreOptions, open::address};

/// Copies the file that `url` names into `copy`, as it is at one moment. See [`backup`](crate::backup()).
pub(crate) async fn backup(url: &str, copy: &Path) -> Result<u64, BackupError> {
    let options = connect_options(url, &StoreOptions::default())?.create_if_missing(false);
    let source = options.get_filename().to_owned();
    if !source.exists() {
        return Err(address(format!("names no file: there is no {}", source.display())).into());
    }
    let output = |error| BackupError::Output(copy.to_owned(), error);
    if copy.exists() {
        return Err(BackupError::Exists(copy.to_owned()));
    }
    check_folder(copy).map_err(|_| BackupError::NoFolder(copy.to_owned()))?;
    let unfinished = Unfinished::create(copy)?;
    // What the pages say is read by those who may read the file itself, and by nobody else.
    let permissions = fs::metadata(&source).map_err(output)?.permissions();
    fs::set_permissions(&unfinished.0, permissions).map_err(output)?;
    let name = unfinished.0.to_str();
    let name = name.ok_or_else(|| BackupError::Name(copy.to_owned()))?;
    let failed = |error| {
        let error = failure(error, &source);
        if let StoreError::Full { .. } = error {
            // Only the copy grows.
            return BackupError::Full(copy.to_owned());
        }
        BackupError::from(error)
    };
    let mut connection = options.connect().await.map_err(failed)?;
    // It reads within one transaction, beside which others write.
    sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    unfinished.become_whole(copy).map_err(output)
}

/// A copy that is not whole yet, under a name of its own. It goes when the copying fails.
struct Unfinished(PathBuf);

impl Unfinished {
    fn create(copy: &Path) -> Result<Self, BackupError> {
        let mut name = copy.as_os_str().to_owned();
        name.push(".unfinished");
        let path = PathBuf::from(name);
        match File::options().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(Self(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(BackupError::Unfinished(path))
            }
            Err(error) => Err(BackupError::Output(path, error)),
        }
    }

    /// Gives it its name when it is on the disk, unless something has that name by now. Says how large it is.
    fn become_whole(self, copy: &Path) -> std::io::Result<u64> {
        let file = File::open(&self.0)?;
        file.sync_all()?;
        fs::hard_link(&self.0, copy)?;
        fs::remove_file(&self.0)?;
        let folder = copy.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Where it has become whole there is nothing under this name.
        let _ = fs::remove_file(&self.0);
        // SQLite leaves its journal where the disk was full.
        let mut journal = self.0.as_os_str().to_owned();
        journal.push("-journal");
        let _ = fs::remove_file(journal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        let unfinished = Unfinished::create(&copy).unwrap();
        fs::write(folder.path().join("copy.db.unfinished-journal"), "left").unwrap();
        drop(unfinished);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
