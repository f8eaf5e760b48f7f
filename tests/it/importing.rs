//! Imports of what somebody else has put together, and imports that were cut short.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, process::Command};

use serde_json::json;
use storage::{NewUpdate, PageCommit, PageId, StoreOptions};

use crate::{
    moving::{database, held, pageroom},
    support::replica::insertion,
};

/// An entry of an archive, as `export-all` writes it.
fn entry(archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, name, content).expect("an entry");
}

#[tokio::test]
async fn links_pipes_and_names_that_are_no_text_end_nothing_but_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = database(folder.path(), "pages.db");
    let files = folder.path().join("files");
    fs::create_dir_all(files.join("deep/er")).expect("a folder");
    fs::write(folder.path().join("outside.update"), insertion(9, 0, "of others")).expect("a file");
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, files.join(name)).expect("a link");
    // Two of these make a walk that follows them as long as anything.
    link(".", "circle");
    link("..", "deep/circle");
    link("../outside.update", "out.update");
    link("nothing at all", "nowhere.update");
    link("../outside.update", "notes.txt");
    let pipe = files.join("pipe.update");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    fs::write(files.join("deep/er/a.update"), insertion(1, 0, "one")).expect("a file");
    // Shown as text, both are called the same.
    for (byte, text) in [(b'\xfe', "two"), (b'\xff', "three")] {
        let name = [b"x", &[byte][..], b".update"].concat();
        fs::write(files.join(OsStr::from_bytes(&name)), insertion(2, 0, text)).expect("a file");
    }
    fs::write(files.join("z.update"), insertion(3, 0, "last")).expect("a file");
    let (complete, said) = pageroom(&store, &["import", files.to_str().expect("a path")]);
    assert!(!complete, "something was refused");
    assert!(
        said.contains("2 new, 0 merged, 0 there already, 7 refused"),
        "{said}"
    );
    for reason in [
        "it is a link",
        "it is no file that has an end",
        "its name is not UTF-8",
    ] {
        assert!(said.contains(reason), "{said}");
    }
    let pages = held(&store).await["pages"].clone();
    assert_eq!(pages["deep/er/a"]["content"], json!({ "text": "one" }));
    assert_eq!(pages["z"]["content"], json!({ "text": "last" }));
    assert_eq!(pages.as_object().map(serde_json::Map::len), Some(2));
}

/// Ten kilobytes that say they are three gigabytes of nothing.
fn gaps() -> Vec<u8> {
    const SIZE: u64 = 3 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_path("pages/gaps.update").expect("a name");
    header.set_size(512);
    header.set_entry_type(tar::EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().expect("a GNU header");
    gnu.set_real_size(SIZE);
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(512);
    gnu.sparse[1].set_offset(SIZE);
    gnu.sparse[1].set_length(0);
    header.set_cksum();
    [header.as_bytes(), &[0; 512][..]].concat()
}

#[tokio::test]
async fn an_archive_is_not_unpacked_into_more_than_a_page_may_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = database(folder.path(), "pages.db");
    let archive = folder.path().join("pages.tar");
    let mut rest = tar::Builder::new(Vec::new());
    entry(&mut rest, "pages/b%FF.update", &insertion(1, 0, "no text"));
    entry(&mut rest, "pages/c.update", &insertion(2, 0, "behind it"));
    let bytes = [gaps(), rest.into_inner().expect("an archive")].concat();
    fs::write(&archive, bytes).expect("a file");
    let (complete, said) = pageroom(&store, &["import", archive.to_str().expect("a path")]);
    assert!(!complete, "something was refused");
    assert!(
        said.contains("\"gaps\" was not imported: it is larger than 1024 MiB"),
        "{said}"
    );
    assert!(said.contains("its name is not UTF-8"), "{said}");
    assert!(
        said.contains("1 new, 0 merged, 0 there already, 2 refused"),
        "{said}"
    );
}

/// An archive of the page `gone`, which is in the trash there and shared with somebody.
fn archive_of_trash(folder: &Path, update: &[u8]) -> String {
    let mut archive = tar::Builder::new(Vec::new());
    let description = json!({
        "pageId": "gone",
        "deletedAt": "2098-01-01T00:00:00Z",
        "permissions": [{ "user": "ada", "role": "edit" }],
    });
    let description = serde_json::to_vec(&description).expect("JSON");
    entry(&mut archive, "pages/gone.json", &description);
    entry(&mut archive, "pages/gone.update", update);
    let path = folder.join("pages.tar");
    fs::write(&path, archive.into_inner().expect("an archive")).expect("a file");
    path.to_str().expect("a path").to_owned()
}

/// Stores one row of the page `gone`, and nothing beside it: as an import that was killed behind it.
async fn cut_short(database: &str, update: &[u8]) {
    let store = storage::open(database, &StoreOptions::default())
        .await
        .expect("a store");
    let commit = PageCommit {
        page: PageId::new("gone").expect("an id"),
        size_bytes: None,
        updates: vec![NewUpdate {
            data: update.to_vec().into(),
            user: None,
        }],
        generation: None,
    };
    store.commit_alone(&commit).await.expect("a commit");
    store.close().await;
}

#[tokio::test]
async fn an_import_that_was_killed_is_brought_to_its_end_when_it_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let update = insertion(1, 0, "the third one");
    let archive = archive_of_trash(folder.path(), &update);
    let (whole, killed) = (
        database(folder.path(), "whole.db"),
        database(folder.path(), "killed.db"),
    );
    let (complete, said) = pageroom(&whole, &["import", &archive]);
    assert!(complete && said.contains("1 new"), "{said}");
    cut_short(&killed, &update).await;
    let (complete, said) = pageroom(&killed, &["import", &archive]);
    assert!(complete && said.contains("1 there already"), "{said}");
    let expected = held(&whole).await;
    assert_eq!(
        expected["deleted"].as_array().map(Vec::len),
        Some(1),
        "{expected}"
    );
    assert_eq!(held(&killed).await, expected);
}

#[tokio::test]
async fn a_page_that_is_in_use_is_not_put_into_the_trash_by_an_archive() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = archive_of_trash(folder.path(), &insertion(1, 0, "before"));
    let store = database(folder.path(), "pages.db");
    cut_short(&store, &insertion(2, 0, "since")).await;
    let (complete, said) = pageroom(&store, &["import", &archive]);
    assert!(complete && said.contains("1 merged"), "{said}");
    let there = held(&store).await;
    assert_eq!(there["deleted"], json!([]), "{there}");
    let text = there["pages"]["gone"]["content"]["text"]
        .as_str()
        .unwrap_or_default();
    assert!(text.contains("before") && text.contains("since"), "{there}");
}
