//! An archive of pages: a tar file with two entries a page, what is known of it as JSON and the page itself as one Yjs update (v1).
//!
//! Ids are percent-encoded in the names of entries. Pages stand in the order of their ids, so an archive that ends too early says where to
//! go on. What a page was before, its versions and the permissions for prefixes of ids are not in it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use storage::PageId;

use super::folder::{self, FileError};

const FOLDER: &str = "pages/";
const DESCRIPTION: &str = ".json";
const UPDATE: &str = ".update";

/// Letters of an id that stay in the name of a file, on every system.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Longest description that is read, in bytes.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 20;

/// What is known of a page.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    pub(super) page_id: String,
    #[serde(default)]
    pub(super) seq: u64,
    /// Times are RFC 3339.
    #[serde(default)]
    pub(super) created_at: Option<String>,
    #[serde(default)]
    pub(super) updated_at: Option<String>,
    /// Since when it is in the trash.
    #[serde(default)]
    pub(super) deleted_at: Option<String>,
    #[serde(default)]
    pub(super) permissions: Vec<Permitted>,
}

/// A permission on exactly this page.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permitted {
    pub(super) user: String,
    pub(super) role: String,
    #[serde(default)]
    pub(super) expires_at: Option<String>,
}

/// An archive that is written.
pub(super) struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Archive<W> {
    pub(super) fn new(output: W) -> Self {
        Self(tar::Builder::new(output))
    }

    pub(super) fn put(&mut self, described: &Described, update: &[u8]) -> io::Result<()> {
        let name = utf8_percent_encode(&described.page_id, NAME).to_string();
        let description = serde_json::to_vec(described)?;
        self.append(&format!("{FOLDER}{name}{DESCRIPTION}"), &description)?;
        self.append(&format!("{FOLDER}{name}{UPDATE}"), update)
    }

    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        self.0.append_data(&mut header, name, content)
    }

    /// Says that nothing follows.
    pub(super) fn finish(self) -> io::Result<W> {
        let mut output = self.0.into_inner()?;
        output.flush()?;
        Ok(output)
    }
}

/// A page of an archive.
pub(super) struct Archived {
    pub(super) described: Described,
    pub(super) update: Result<Bytes, FileError>,
    /// Where its entries end, in bytes from the beginning.
    end: u64,
}

/// Reads the pages of an archive one after the other, until `take` says no. Entries of other names are passed over, and so is a
/// description without its page.
pub(super) fn read(
    input: impl Read,
    with_updates: bool,
    mut take: impl FnMut(Archived) -> bool,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(input);
    let mut described: Option<Described> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let is_text = str::from_utf8(&path).is_ok();
        let path = String::from_utf8_lossy(&path);
        let Some(name) = path.strip_prefix(FOLDER) else {
            continue;
        };
        if name.ends_with(DESCRIPTION) {
            let mut bytes = Vec::new();
            entry
                .by_ref()
                .take(MAX_DESCRIPTION_BYTES)
                .read_to_end(&mut bytes)?;
            described = Some(serde_json::from_slice(&bytes)?);
        } else if let Some(name) = name.strip_suffix(UPDATE) {
            let page_id = percent_decode_str(name).decode_utf8_lossy();
            let is_text = is_text && percent_decode_str(name).decode_utf8().is_ok();
            let (start, size) = (entry.raw_file_position(), entry.size());
            let update = match (is_text, with_updates) {
                // It would be shown as another page is called.
                (false, _) => Err(FileError::Name),
                (true, false) => Ok(Bytes::new()),
                // An entry may say that it is as long as anything, and consist of gaps.
                (true, true) => match folder::whole(&mut entry) {
                    Err(FileError::Unreadable(error)) => return Err(error),
                    read => read,
                },
            };
            let page_id = page_id.into_owned();
            let page = Archived {
                described: described
                    .take()
                    .filter(|described| described.page_id == page_id)
                    .unwrap_or_else(|| Described {
                        page_id,
                        ..Described::default()
                    }),
                update,
                // Entries are as long as whole blocks.
                end: size
                    .checked_next_multiple_of(512)
                    .and_then(|size| start.checked_add(size))
                    .unwrap_or(u64::MAX),
            };
            if !take(page) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What a file that was begun has already.
pub(super) struct Begun {
    /// The last page that is there whole.
    pub(super) last: Option<PageId>,
    /// Where the next one goes.
    end: u64,
}

impl Begun {
    /// Looks into an archive that may end anywhere. `None` when it is complete.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut begun = Self { last: None, end: 0 };
        let read = read(&mut file, false, |page| {
            // What is announced may not be there.
            let is_whole = page.end <= length;
            if let (true, Ok(id)) = (is_whole, PageId::new(&page.described.page_id)) {
                begun = Self {
                    last: Some(id),
                    end: page.end,
                };
            }
            is_whole
        });
        if read.is_err() && begun.last.is_none() && !begins_archive(&mut file)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is no archive of pages",
            ));
        }
        // Behind the last entry stand two empty blocks.
        let mut rest = Vec::new();
        file.seek(SeekFrom::Start(begun.end))?;
        file.take(1025).read_to_end(&mut rest)?;
        let is_complete = rest.len() >= 1024 && rest.iter().take(1024).all(|byte| *byte == 0);
        Ok((!is_complete).then_some(begun))
    }

    /// Opens the file for what follows; what is not whole is cut off.
    pub(super) fn go_on(&self, path: &Path) -> io::Result<File> {
        let mut file = File::options().write(true).open(path)?;
        file.set_len(self.end)?;
        file.seek(SeekFrom::Start(self.end))?;
        Ok(file)
    }
}

/// Whether a file begins as an archive does, of which nothing else may be there yet.
fn begins_archive(file: &mut File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    Read::take(&mut *file, 512).read_to_end(&mut head)?;
    // What marks the head of an entry stands behind its name, its owners, its size and its times.
    Ok(head.is_empty() || head.get(257..262) == Some(b"ustar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(id: &str) -> Described {
        Described {
            page_id: id.to_owned(),
            seq: 7,
            ..Described::default()
        }
    }

    fn pages(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut pages = Vec::new();
        let read = read(bytes, true, |page| {
            pages.push((page.described.page_id, page.update.unwrap().to_vec()));
            true
        });
        // Where it was cut off, it ends with an error behind the last page.
        let _ = read;
        pages
    }

    #[test]
    fn an_archive_that_was_cut_anywhere_is_gone_on_with() {
        let ids = ["a", "b/ü .%", &"long".repeat(60)];
        let write = |archive: &mut Archive<Vec<u8>>, ids: &[&str]| {
            for id in ids {
                archive.put(&described(id), id.repeat(300).as_bytes()).unwrap();
            }
        };
        let mut archive = Archive::new(Vec::new());
        write(&mut archive, &ids);
        let whole = archive.finish().unwrap();
        let expected: Vec<_> = ids
            .iter()
            .map(|id| ((*id).to_owned(), id.repeat(300).into_bytes()))
            .collect();
        assert_eq!(pages(&whole), expected);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pages.tar");
        for length in (0..whole.len()).step_by(97) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let begun = match Begun::of(&path) {
                Ok(Some(begun)) => begun,
                // Of the first entry's head too little is there to tell what it is.
                Err(_) if length < 262 => continue,
                // The end is there and a part of what fills the last record.
                Ok(None) => {
                    assert_eq!(pages(&whole[..length]), expected, "{length}");
                    continue;
                }
                Err(error) => panic!("{length}: {error}"),
            };
            let there = pages(&whole[..usize::try_from(begun.end).unwrap()]).len();
            assert_eq!(
                begun.last.as_ref().map(PageId::as_str),
                there.checked_sub(1).map(|last| ids[last]),
                "{length}"
            );
            let mut rest = Archive::new(Vec::new());
            write(&mut rest, &ids[there..]);
            begun
                .go_on(&path)
                .unwrap()
                .write_all(&rest.finish().unwrap())
                .unwrap();
            assert_eq!(pages(&std::fs::read(&path).unwrap()), expected, "{length}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(Begun::of(&path).unwrap().is_none());
        std::fs::write(&path, "something else ".repeat(100)).unwrap();
        assert!(Begun::of(&path).is_err());
    }
}
