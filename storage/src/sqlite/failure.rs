//! What an error of SQLite means for a caller.

use std::path::Path;

use crate::{StoreError, error};

/// Result codes: <https://sqlite.org/rescode.html>.
pub(super) fn failure(error: sqlx::Error, file: &Path) -> StoreError {
    let reason = error.to_string();
    if let sqlx::Error::ColumnDecode { .. } = error {
        // Such as a value in parts of which some are gone.
        let reason = format!("{reason}: the file is damaged");
        return StoreError::Statement { reason };
    }
    let Some(error) = error.as_database_error() else {
        return error::without_code(&error);
    };
    let code: i32 = error
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    // The low byte is the kind of the result.
    match (code & 0xff, code) {
        (13, _) | (_, IOERR_SHMSIZE) => StoreError::Full { reason },
        (3 | 8, _) => StoreError::ReadOnly { reason },
        (14, _) => cannot_open(reason, file),
        // INTERNAL, BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, PROTOCOL
        (2 | 5 | 6 | 7 | 9 | 10 | 15, _) => StoreError::Unavailable { reason },
        // CORRUPT, NOTADB
        (11 | 26, _) => StoreError::Statement {
            reason: format!("{reason}: the file is damaged, or is no SQLite file"),
        },
        _ => StoreError::Statement { reason },
    }
}

/// The shared-memory file beside the database could not grow.
const IOERR_SHMSIZE: i32 = 4874;

/// SQLite says only that it cannot open the file; the folder tells more.
fn cannot_open(reason: String, file: &Path) -> StoreError {
    let folder = match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => file,
    };
    if folder.is_dir() {
        StoreError::ReadOnly { reason }
    } else {
        StoreError::Unavailable {
            reason: format!("{reason}: there is no folder {}", folder.display()),
        }
    }
}
