//! Pages in a folder: files that each hold an update, and what y-sweet keeps in its folder.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};
use crdt::{Limits, Update};

/// Endings of files that hold an update. Without it, the path in the folder is the page.
const ENDINGS: &[&str] = &["update", "yjs", "ydoc", "bin"];
/// The file that y-sweet keeps of a document, in a folder that has the document's name.
const Y_SWEET: &str = "data.ysweet";

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

/// Reads a folder and those in it, in the order of names, until `take` wants no more: names of pages and their updates.
pub(super) fn read(
    top: &Path,
    take: &mut impl FnMut(String, Result<Bytes, YSweetError>) -> bool,
) -> io::Result<()> {
    read_in(top, top, take).map(drop)
}

/// Says whether more is wanted.
fn read_in(
    top: &Path,
    folder: &Path,
    take: &mut impl FnMut(String, Result<Bytes, YSweetError>) -> bool,
) -> io::Result<bool> {
    let entries: io::Result<BTreeSet<PathBuf>> = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect();
    for path in entries? {
        let goes_on = if path.is_dir() {
            read_in(top, &path, take)?
        } else if path.file_name() == Some(OsStr::new(Y_SWEET)) {
            take(name(top, folder), y_sweet(&std::fs::read(&path)?.into()))
        } else if is_update(&path) {
            take(
                name(top, &path.with_extension("")),
                Ok(std::fs::read(&path)?.into()),
            )
        } else {
            true
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
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
