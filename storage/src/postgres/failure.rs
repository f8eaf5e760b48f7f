//! What an error of PostgreSQL means for a caller.

use crate::{StoreError, error};

/// Codes: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    let reason = error.to_string();
    let Some(database) = error.as_database_error() else {
        return error::without_code(&error);
    };
    let code = database.code().unwrap_or_default();
    match &*code {
        "53100" => StoreError::Full { reason },
        "25006" | "42501" => StoreError::ReadOnly { reason },
        // No such database (yet); lock not available; a statement or a transaction took too long.
        "3D000" | "55P03" | "57014" | "25P03" | "25P04" => StoreError::Unavailable { reason },
        // By class: connection, authorization, transaction rollback, resources, operator intervention, system.
        code => match code.get(..2) {
            Some("08" | "28" | "40" | "53" | "57" | "58") => StoreError::Unavailable { reason },
            _ => StoreError::Statement { reason },
        },
    }
}
