//! Pages in a folder: files that each hold an update, and what y-sweet keeps in its folder.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};
use crdt::{Limits, Update};

/// Endings of files that hold an update. Without it, the path in the folder is the page.
const ENDINGS: &[&str] = &["update", "yjs", "ydoc", "bin"];
/// The file that y-sweet keeps of a document, in a folder that has the document's name.
const Y_SWEET: &str = "data.ysweet";

/// Most bytes of a page that are read: more than that no store keeps in one row.
pub(super) const MAX_PAGE_BYTES: u64 = 1 << 30;

/// Why a file was not read as a page.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("it is a link, and links are not followed: copy what it leads to")]
    Link,
    #[error("it is no file that has an end")]
    NoFile,
    #[error("it is larger than {} MiB", MAX_PAGE_BYTES >> 20)]
    TooLarge,
    #[error("its name is not UTF-8, and would be another page's as it is shown here")]
    Name,
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is no file of y-sweet's that can be read: {0}")]
    YSweet(#[from] YSweetError),
}

/// Why a file of y-sweet's was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum YSweetError {
    #[error("it ends in the middle of an entry")]
    Short,
    #[error("it goes on behind its last entry")]
    Long,
    #[error("it holds no document of the kind that y-sweet writes")]
    Unknown,
    #[error("one of the updates in it is none: {0}")]
    Update(#[from] crdt::DecodeError),
}

/// Takes the name of a page and its update, and says whether more is wanted.
type Take<'a> = &'a mut dyn FnMut(String, Result<Bytes, FileError>) -> bool;

/// Reads a folder and those in it, in the order of names, until `take` wants no more. What cannot be read ends only itself; links are not followed,
/// because they may lead in circles and out of the folder.
///
/// # Errors
/// When the folder itself cannot be listed.
pub(super) fn read(top: &Path, take: Take<'_>) -> io::Result<()> {
    for path in listed(top)? {
        if !read_at(top, &path, take) {
            break;
        }
    }
    Ok(())
}

fn listed(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Says whether more is wanted.
fn read_at(top: &Path, path: &Path, take: Take<'_>) -> bool {
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        // Of something that has gone since it was listed only its name says whether it was meant.
        Err(error) => return !is_meant(path) || take(name(top, path), Err(error.into())),
    };
    if kind.is_dir() {
        return match listed(path) {
            Ok(paths) => paths.iter().all(|path| read_at(top, path, take)),
            Err(error) => take(name(top, path), Err(error.into())),
        };
    }
    let leads_to_folder = || kind.is_symlink() && path.is_dir();
    if !is_meant(path) && !leads_to_folder() {
        return true;
    }
    let is_y_sweet = path.file_name() == Some(OsStr::new(Y_SWEET));
    let page = match is_y_sweet {
        true => path.parent().unwrap_or(top).to_owned(),
        false => path.with_extension(""),
    };
    let is_text = page.strip_prefix(top).unwrap_or(&page).to_str().is_some();
    let update = match (kind.is_symlink(), kind.is_file()) {
        (true, _) => Err(FileError::Link),
        (false, false) => Err(FileError::NoFile),
        (false, true) if !is_text => Err(FileError::Name),
        (false, true) => file(path, is_y_sweet),
    };
    take(name(top, &page), update)
}

fn file(path: &Path, is_y_sweet: bool) -> Result<Bytes, FileError> {
    let bytes = whole(File::open(path)?)?;
    match is_y_sweet {
        true => Ok(y_sweet(&bytes)?),
        false => Ok(bytes),
    }
}

/// What something holds to its end, if that is not too far away.
pub(super) fn whole(input: impl Read) -> Result<Bytes, FileError> {
    let mut bytes = Vec::new();
    input.take(MAX_PAGE_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_PAGE_BYTES {
        true => Err(FileError::TooLarge),
        false => Ok(bytes.into()),
    }
}

/// Whether a file is one that a page is in.
fn is_meant(path: &Path) -> bool {
    is_update(path) || path.file_name() == Some(OsStr::new(Y_SWEET))
}

fn is_update(path: &Path) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn name(top: &Path, path: &Path) -> String {
    let name = path.strip_prefix(top).unwrap_or(path);
    let parts = name.iter().map(OsStr::to_string_lossy);
    parts.collect::<Vec<_>>().join("/")
}

/// The document in a file of y-sweet's, as one update.
///
/// The file is a map from keys to values (`sync_kv.rs` of y-sweet 0.9): a count, and then for each entry the length of its key, the key, the length
/// of its value, and the value; numbers have eight bytes, the lowest first. Keys are those of `yrs-kvstore` 0.3 (its `keys.rs`): `0 1`, four
/// bytes for the document, and `0` for its state or `2` for an update that came after it. A file holds one document.
fn y_sweet(file: &Bytes) -> Result<Bytes, YSweetError> {
    let mut rest = file.clone();
    let mut updates = Vec::new();
    for _ in 0..rest.try_get_u64_le().map_err(|_| YSweetError::Short)? {
        let (key, value) = (part(&mut rest)?, part(&mut rest)?);
        if let [0, 1, _, _, _, _, 0 | 2, ..] = *key {
            updates.push(Update::parse(value, &Limits::default())?);
        }
    }
    match (rest.is_empty(), updates.is_empty()) {
        (false, _) => Err(YSweetError::Long),
        (true, true) => Err(YSweetError::Unknown),
        (true, false) => Ok(crdt::merge(&updates).bytes().clone()),
    }
}

/// A length, and so many bytes.
fn part(rest: &mut Bytes) -> Result<Bytes, YSweetError> {
    let length = rest.try_get_u64_le().map_err(|_| YSweetError::Short)?;
    match usize::try_from(length) {
        Ok(length) if length <= rest.len() => Ok(rest.split_to(length)),
        _ => Err(YSweetError::Short),
    }
}

#[cfg(test)]
mod tests {
    use crdt::{ClientId, testing::Replica};

    use super::*;

    /// A file as y-sweet writes it.
    fn file(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut file = (entries.len() as u64).to_le_bytes().to_vec();
        for part in entries.iter().flat_map(|(key, value)| [key, value]) {
            file.extend((part.len() as u64).to_le_bytes());
            file.extend(*part);
        }
        file
    }

    #[test]
    fn the_state_and_the_updates_behind_it_are_one_document() {
        let mut writer = Replica::new(ClientId(7));
        writer.insert(0, "state");
        let state = writer.encode();
        let (first, second) = (writer.insert(5, ", more"), writer.insert(11, ", most"));
        let whole = file(&[
            (b"\0\0doc\0", &[0, 0, 0, 9]),
            (&[0, 1, 0, 0, 0, 9, 0], &state),
            (&[0, 1, 0, 0, 0, 9, 1], b"a state vector"),
            (&[0, 1, 0, 0, 0, 9, 2, 0, 0, 0, 1, 0], &first),
            (&[0, 1, 0, 0, 0, 9, 2, 0, 0, 0, 2, 0], &second),
            (&[0, 1, 0, 0, 0, 9, 3, b'm', 0], b"of somebody"),
        ]);
        let update = y_sweet(&whole.clone().into()).expect("a document");
        let mut reader = Replica::new(ClientId(8));
        reader.apply(&update);
        assert_eq!(reader.text(), "state, more, most");
        for end in 0..whole.len() {
            let cut = y_sweet(&whole[..end].to_vec().into());
            assert!(matches!(cut, Err(YSweetError::Short)), "{end}: {cut:?}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(matches!(y_sweet(&longer.into()), Err(YSweetError::Long)));
        let nothing = file(&[(b"\0\0doc\0", &[0, 0, 0, 9])]);
        assert!(matches!(y_sweet(&nothing.into()), Err(YSweetError::Unknown)));
        let broken = file(&[(&[0, 1, 0, 0, 0, 9, 0], b"\xff")]);
        assert!(matches!(y_sweet(&broken.into()), Err(YSweetError::Update(_))));
        let huge = u64::MAX.to_le_bytes().to_vec();
        assert!(matches!(y_sweet(&huge.into()), Err(YSweetError::Short)));
    }
}
