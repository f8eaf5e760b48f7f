//! The migrations of both databases: the files of `migrations`, in their order.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::schema;

/// The number of a migration, its file without the ending, and what it says.
type File = (i64, &'static str, &'static str);

macro_rules! files {
    ($folder:literal, $($number:literal $file:literal,)*) => {
        &[$(($number, $file, include_str!(concat!("../migrations/", $folder, "/", $file, ".sql")))),*]
    };
}

macro_rules! of_folder {
    ($folder:literal $(, $number:literal $file:literal)?) => {
        files! {
            $folder,
            1 "0001_pages",
            2 "0002_access",
            3 "0003_trash",
            4 "0004_last_seen",
            5 "0005_events",
            6 "0006_rooms",
            7 "0007_history",
            8 "0008_webhooks",
            9 "0009_permissions_by_user",
            10 "0010_search",
            11 "0011_trash_by_age",
            13 "0013_aliases",
            14 "0014_rebuilt_pages",
            15 "0015_history_policies",
            $($number $file,)?
        }
    };
}

const POSTGRES: &[File] = of_folder!("postgres");
const SQLITE: &[File] = of_folder!("sqlite", 16 "0016_large_values");

pub(crate) fn postgres() -> Migrator {
    migrator(POSTGRES)
}

pub(crate) fn sqlite() -> Migrator {
    migrator(SQLITE)
}

/// Made here rather than by sqlx's macro, which would compile both drivers, and SQLite, a second time for the compiler's own use.
fn migrator(files: &[File]) -> Migrator {
    let migration = |(number, file, text): &File| {
        let description = file.split_once('_').map_or(*file, |(_, words)| words);
        Migration::new(
            *number,
            description.replace('_', " ").into(),
            MigrationType::Simple,
            SqlStr::from_static(text),
            false,
        )
    };
    let mut migrator = Migrator::with_migrations(files.iter().map(migration).collect());
    migrator.dangerous_set_table_name(schema::TABLE);
    migrator
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::{File, POSTGRES, SQLITE};

    #[test]
    fn every_file_is_a_migration_under_its_own_number() {
        for (folder, migrations) in [("postgres", POSTGRES), ("sqlite", SQLITE)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(folder);
            let there: BTreeSet<String> = fs::read_dir(folder)
                .expect("a folder of the project")
                .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
                .collect();
            let known = |(number, file, _): &File| {
                let digits = file.split('_').next().and_then(|digits| digits.parse().ok());
                assert_eq!(digits, Some(*number), "{file}");
                format!("{file}.sql")
            };
            let listed: Vec<String> = migrations.iter().map(known).collect();
            assert_eq!(listed, there.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_migration_asks_to_run_outside_a_transaction() {
        let all = POSTGRES.iter().chain(SQLITE);
        for (_, file, text) in all {
            assert!(
                !text.starts_with("-- no-transaction"),
                "{file} would run inside one"
            );
        }
    }
}
