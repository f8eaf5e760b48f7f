//! Old clients that save whole contents and Yjs clients that edit, with every crossing there is between them: what is written is there once
//! and in one piece, what is deleted is gone, and all see the same in the end.
//!
//! `CROSSINGS_CASES=20000` runs more cases, `CROSSINGS_SEED=7` one alone, and tells what happens in it.

use std::{collections::VecDeque, env, fmt::Write as _};

use bytes::Bytes;
use crdt::{
    Candidate, ClientId, Document, Format, Limits, Save, Update,
    testing::{Random, Replica, traces::SequentialTrace},
};
use serde_json::{Value as Json, json, value::RawValue};

use super::super::*;
use crate::events::desk::nearest_of;

/// Cases that are always run. Each was a fault once.
const KEPT: [(Format, u64); 23] = [
    (Format::Text, 794),
    (Format::Text, 959),
    (Format::Text, 1376),
    (Format::Text, 1630),
    (Format::Html, 2973),
    (Format::Html, 3402),
    (Format::Prosemirror, 5881),
    (Format::Html, 959),
    (Format::Prosemirror, 959),
    (Format::Html, 706),
    (Format::Prosemirror, 706),
    (Format::Html, 923),
    (Format::Prosemirror, 923),
    (Format::Html, 990),
    (Format::Prosemirror, 990),
    (Format::Html, 1749),
    (Format::Prosemirror, 1749),
    (Format::Html, 3309),
    (Format::Prosemirror, 3309),
    (Format::Html, 3881),
    (Format::Prosemirror, 3881),
    (Format::Html, 4996),
    (Format::Prosemirror, 4996),
];
const CASES: u64 = 400;
const FORMATS: [Format; 3] = [Format::Text, Format::Html, Format::Prosemirror];
const OLD: usize = 3;
const EDITORS: usize = 3;

/// Two words that are inserted together, and nowhere else.
#[derive(Clone, Copy, Default)]
struct Phrase {
    /// Somebody has deleted it, of whom it is certain that it had it.
    is_deleted: bool,
    /// Somebody has written between its words.
    is_split: bool,
}

/// A word that has little in common with others. Those of every fourth phrase begin with a letter of their own.
fn word(number: usize, is_bold: bool) -> String {
    let mut random = Random::new(number as u64);
    let letters = (0..8).map(|at| match (at, is_bold) {
        (0, true) => 'q',
        _ => char::from(b'a' + random.below(15) as u8),
    });
    letters.collect()
}

fn head(number: usize) -> String {
    word(2 * number, number.is_multiple_of(4))
}

fn tail(number: usize) -> String {
    word(2 * number + 1, number.is_multiple_of(4))
}

fn written(number: usize) -> String {
    format!("{} {}", head(number), tail(number))
}

/// A phrase behind which nothing is to be written without a space.
fn paragraph(number: usize) -> String {
    format!("{} ", written(number))
}

/// A change of a text: where, what goes, and what comes.
struct Edit {
    at: usize,
    deleted: usize,
    text: String,
}

/// The phrases of one page.
#[derive(Default)]
struct Phrases(Vec<Phrase>);

impl Phrases {
    /// The phrases that are in a text in one piece, with where they begin.
    fn within(&self, text: &str) -> Vec<(usize, usize)> {
        let at = |number| Some((text.find(&written(number))?, number));
        (0..self.0.len()).filter_map(at).collect()
    }

    fn next(&mut self) -> usize {
        self.0.push(Phrase::default());
        self.0.len() - 1
    }

    /// An edit of a text by somebody. Gives it with the phrase that it deletes.
    fn edit(&mut self, text: &str, random: &mut Random) -> (Edit, Option<usize>) {
        let there = self.within(text);
        if !there.is_empty() && random.below(4) == 0 {
            let (at, number) = *random.pick(&there);
            let end = at + written(number).len();
            // With a space beside it.
            let (from, to) = match (text[..at].ends_with(' '), text[end..].starts_with(' ')) {
                (true, _) => (at - 1, end),
                (false, true) => (at, end + 1),
                (false, false) => (at, end),
            };
            let (at, deleted, text) = (from, to - from, String::new());
            return (Edit { at, deleted, text }, Some(number));
        }
        let number = self.next();
        let inside = !there.is_empty() && random.below(6) == 0;
        let at = if inside {
            let (at, within) = *random.pick(&there);
            self.0[within].is_split = true;
            at + head(within).len()
        } else {
            let spaces = text.match_indices(' ').map(|(at, _)| at);
            let is_inside = |at: &usize| {
                let within = |(begin, number): &(usize, usize)| begin + head(*number).len() == *at;
                there.iter().any(within)
            };
            let mut places: Vec<usize> = spaces.filter(|at| !is_inside(at)).collect();
            places.extend([0, text.len()]);
            *random.pick(&places)
        };
        let text = match at {
            0 => format!("{} ", written(number)),
            _ => format!(" {}", written(number)),
        };
        (Edit { at, deleted: 0, text }, None)
    }
}

/// Units of UTF-16, as Yjs counts.
fn units(text: &str) -> u32 {
    text.encode_utf16().count() as u32
}

/// The pieces of a paragraph in an old client's document, and whether they are bold.
fn pieces(paragraph: &str) -> Vec<(&str, bool)> {
    let is_bold = |word: &str| word.len() == 8 && word.starts_with('q');
    let words = paragraph.split_inclusive(' ');
    let parts = words.flat_map(|part| match part.strip_suffix(' ') {
        Some(word) if is_bold(word) => vec![(word, true), (" ", false)],
        _ => vec![(part, is_bold(part))],
    });
    parts.filter(|(text, _)| !text.is_empty()).collect()
}

/// A whole content of paragraphs.
fn write(format: Format, paragraphs: &[String]) -> Json {
    match format {
        Format::Text => paragraphs.join("\n").into(),
        Format::Html => {
            let mut html = String::new();
            for paragraph in paragraphs {
                html.push_str("<p>");
                for (text, is_bold) in pieces(paragraph) {
                    let _ = match is_bold {
                        true => write!(html, "<strong>{text}</strong>"),
                        false => write!(html, "{text}"),
                    };
                }
                html.push_str("</p>");
            }
            html.into()
        }
        Format::Prosemirror | Format::Markdown | Format::Blocknote | Format::Delta | Format::Json => {
            let text = |(text, is_bold): (String, bool)| match is_bold {
                true => json!({ "type": "text", "text": text, "marks": [{ "type": "bold" }] }),
                false => json!({ "type": "text", "text": text }),
            };
            let paragraph = |paragraph: &String| {
                let pieces = pieces(paragraph);
                let runs = pieces.chunk_by(|one, next| one.1 == next.1);
                let run = |run: &[(&str, bool)]| (run.iter().map(|(text, _)| *text).collect(), run[0].1);
                let content: Vec<_> = runs.map(run).map(text).collect();
                match content.is_empty() {
                    true => json!({ "type": "paragraph" }),
                    false => json!({ "type": "paragraph", "content": content }),
                }
            };
            json!({ "type": "doc", "content": paragraphs.iter().map(paragraph).collect::<Vec<_>>() })
        }
    }
}

/// The paragraphs of a whole content.
fn read(content: &Json) -> Vec<String> {
    if let Some(blocks) = content["content"].as_array() {
        let texts = |block: &Json| -> String {
            let texts = block["content"].as_array().into_iter().flatten();
            texts.filter_map(|text| text["text"].as_str()).collect()
        };
        return blocks.iter().map(texts).collect();
    }
    let text = content.as_str().unwrap_or_default();
    if !text.starts_with("<p") {
        return text.split('\n').map(str::to_owned).collect();
    }
    let blocks = text.split_terminator("</p>").map(|block| {
        let mut plain = String::new();
        for part in block.split('<') {
            // The first part is text; each other one begins with the rest of a tag.
            plain.push_str(part.split_once('>').map_or("", |(_, text)| text));
        }
        plain
    });
    blocks.collect()
}

fn content(json: &Json) -> Content {
    RawValue::from_string(json.to_string()).expect("JSON").into()
}

/// What the server sends to an old client.
enum Down {
    Content(Json),
    Ping(u64),
}

/// What an old client sends.
enum Up {
    Save(OldSave),
    Pong(u64),
}

#[derive(Clone)]
struct OldSave {
    content: Json,
    /// What it was made from, which the server does not know.
    base: Json,
    deleted: Vec<usize>,
}

/// A client that saves whole contents.
struct Old {
    id: SocketId,
    paragraphs: Vec<String>,
    /// What its next save is made from, and what it has deleted since.
    base: Json,
    deleted: Vec<usize>,
    is_dirty: bool,
    /// It shows nothing new for so many saves.
    ignores: u32,
    /// It has shown something new since it sent what is still on its way.
    has_shown: bool,
    /// It has had something of the page's own, or has saved.
    knows: bool,
    /// It has saved over this connection before it has heard what it was sent on joining: it does not show that.
    has_saved_first: Option<bool>,
    /// It has been sent something while it was busy.
    has_missed: bool,
    down: VecDeque<Down>,
    up: VecDeque<Up>,
}

impl Old {
    fn edit(&mut self, phrases: &mut Phrases, random: &mut Random) {
        if self.paragraphs.is_empty() || random.below(8) == 0 {
            let at = random.below(self.paragraphs.len() as u32 + 1) as usize;
            self.paragraphs.insert(at, paragraph(phrases.next()));
        } else {
            let at = random.below(self.paragraphs.len() as u32) as usize;
            let paragraph = &mut self.paragraphs[at];
            let (edit, deleted) = phrases.edit(paragraph, random);
            paragraph.replace_range(edit.at..edit.at + edit.deleted, &edit.text);
            self.deleted.extend(deleted);
        }
        self.is_dirty = true;
    }

    fn save(&mut self, format: Format, times: u32) {
        let content = write(format, &self.paragraphs);
        let save = OldSave {
            base: std::mem::replace(&mut self.base, content.clone()),
            content,
            deleted: std::mem::take(&mut self.deleted),
        };
        if self.up.is_empty() {
            self.has_shown = false;
        }
        let again = OldSave {
            content: save.content.clone(),
            base: save.content.clone(),
            deleted: Vec::new(),
        };
        self.up.push_back(Up::Save(save));
        for _ in 1..times {
            self.up.push_back(Up::Save(again.clone()));
        }
        self.is_dirty = false;
        self.has_saved_first.get_or_insert(true);
        self.ignores = self.ignores.saturating_sub(1);
    }

    /// Takes what was sent to it, unless it is busy.
    fn hear(&mut self) {
        match self.down.pop_front() {
            Some(Down::Content(_)) if self.has_saved_first == Some(true) => {
                self.has_saved_first = Some(false)
            }
            Some(Down::Content(content)) if !self.is_dirty && self.ignores == 0 => {
                self.paragraphs = read(&content);
                self.base = content;
                (self.has_shown, self.knows) = (true, true);
                self.has_saved_first.get_or_insert(false);
            }
            // Who has had nothing yet and answers is taken to show what it was sent. This is assumed, not known: of clients that answer while
            // they go on showing the application's copy 22 of 9,023 cases lose what others have written, with the first save.
            Some(Down::Ping(number)) if self.knows || !self.has_missed => self.up.push_back(Up::Pong(number)),
            Some(Down::Content(_)) => {
                self.has_missed = true;
                self.has_saved_first.get_or_insert(false);
            }
            Some(Down::Ping(_)) | None => {}
        }
    }
}

/// A Yjs client, and its updates that are on their way.
struct Editor {
    replica: Replica,
    /// With the phrase that each brings.
    up: VecDeque<(Bytes, Option<usize>)>,
}

impl Editor {
    fn edit(&mut self, format: Format, phrases: &mut Phrases, random: &mut Random) {
        let texts = match format {
            Format::Text => vec![self.replica.text()],
            Format::Html
            | Format::Prosemirror
            | Format::Markdown
            | Format::Blocknote
            | Format::Delta
            | Format::Json => self.replica.xml_texts(),
        };
        let before = phrases.0.len();
        let update = if texts.is_empty() || format != Format::Text && random.below(8) == 0 {
            let at = random.below(texts.len() as u32 + 1);
            self.replica.insert_paragraph(at, &written(phrases.next()))
        } else {
            let index = random.below(texts.len() as u32) as usize;
            let text = &texts[index];
            let (edit, deleted) = phrases.edit(text, random);
            if let Some(number) = deleted {
                phrases.0[number].is_deleted = true;
            }
            let at = units(&text[..edit.at]);
            let length = units(&text[edit.at..edit.at + edit.deleted]);
            match format {
                Format::Text => self.replica.replace(at, length, &edit.text),
                Format::Html
                | Format::Prosemirror
                | Format::Markdown
                | Format::Blocknote
                | Format::Delta
                | Format::Json => self.replica.replace_in_xml(index, at, length, &edit.text),
            }
        };
        let brought = (phrases.0.len() > before).then_some(before);
        self.up.push_back((update, brought));
    }
}

/// How often the server was right.
#[derive(Debug, Default)]
struct Figures {
    saves: usize,
    /// Of what is not certain: nothing is deleted.
    uncertain: usize,
    /// Another base was taken than the one that the author had.
    other_bases: usize,
}

struct World {
    format: Format,
    page: Document,
    versions: Versions,
    seq: Seq,
    arriving: BTreeSet<SocketId>,
    old: Vec<Old>,
    editors: Vec<Editor>,
    phrases: Phrases,
    sockets: u64,
    pings: u64,
    saves: u64,
    figures: Figures,
}

impl World {
    /// A page on which a trace has been typed, or an empty one whose old clients have loaded something elsewhere, or nothing.
    fn new(format: Format, trace: &str, random: &mut Random) -> (Self, String) {
        let replica = |number| Replica::new(ClientId(1 + number as u64));
        let mut world = Self {
            format,
            page: Document::new(Limits::default()),
            versions: Versions::new(VersionLimits {
                count: 64,
                bytes: 8 << 20,
            }),
            seq: 0,
            arriving: BTreeSet::new(),
            old: Vec::new(),
            editors: (0..EDITORS)
                .map(|number| Editor {
                    replica: replica(number),
                    up: VecDeque::new(),
                })
                .collect(),
            phrases: Phrases::default(),
            sockets: 0,
            pings: 0,
            saves: 0,
            figures: Figures::default(),
        };
        let words: Vec<&str> = trace.split_whitespace().collect();
        let begin = random.below(words.len() as u32 - 40) as usize;
        let words = &words[begin..begin + 12 * random.below(4) as usize];
        let paragraphs: Vec<String> = words.chunks(12).map(|words| words.join(" ") + " ").collect();
        let kind = random.below(3);
        let (typed, loaded) = match kind {
            0 => (paragraphs, Vec::new()),
            1 => (Vec::new(), paragraphs),
            _ => (Vec::new(), Vec::new()),
        };
        world.type_in(&typed);
        for _ in 0..OLD {
            world.join(loaded.clone());
        }
        world.refresh(None);
        if kind == 0 {
            world.deliver_all();
        }
        let all = [typed, loaded].concat().concat();
        (world, all)
    }

    fn field(&self) -> &'static str {
        match self.format {
            Format::Text => "text",
            Format::Html
            | Format::Prosemirror
            | Format::Markdown
            | Format::Blocknote
            | Format::Delta
            | Format::Json => "xml",
        }
    }

    /// An author types these paragraphs, character by character, and goes.
    fn type_in(&mut self, paragraphs: &[String]) {
        let mut author = Replica::new(ClientId(900));
        let mut before = 0;
        for (number, paragraph) in paragraphs.iter().enumerate() {
            if self.format != Format::Text {
                let update = author.insert_paragraph(number as u32, paragraph);
                self.take(&update);
                continue;
            }
            let text = match number {
                0 => paragraph.clone(),
                _ => format!("\n{paragraph}"),
            };
            for character in text.chars() {
                let update = author.insert(before, character.encode_utf8(&mut [0; 4]));
                before += character.len_utf16() as u32;
                self.take(&update);
            }
        }
    }

    fn join(&mut self, paragraphs: Vec<String>) {
        let id = self.new_socket();
        self.old.push(Old {
            id,
            base: write(self.format, &paragraphs),
            paragraphs,
            deleted: Vec::new(),
            is_dirty: false,
            ignores: 0,
            has_shown: false,
            knows: false,
            has_missed: false,
            has_saved_first: None,
            down: VecDeque::new(),
            up: VecDeque::new(),
        });
    }

    fn new_socket(&mut self) -> SocketId {
        self.sockets += 1;
        self.arriving.insert(SocketId(self.sockets));
        SocketId(self.sockets)
    }

    fn take(&mut self, update: &Bytes) {
        let update = Update::parse(update.clone(), &Limits::default()).expect("an update");
        self.page.admit(update).expect("an update that fits");
        self.seq += 1;
    }

    fn whole(&mut self) -> Option<Json> {
        let (format, field) = (self.format, self.field());
        let view = self.page.content().expect("a view");
        let whole = view
            .content(Some(format), format, Some(field))
            .expect("a content");
        whole.map(|whole| whole.content)
    }

    /// Reads the page and sends authors what is new to them, as is done a while after the edits of others.
    fn refresh(&mut self, except: Option<SocketId>) {
        let whole = self.whole();
        if let Some(whole) = &whole {
            self.versions.learn(self.seq, &content(whole));
        }
        for id in std::mem::take(&mut self.arriving) {
            self.versions.came(id, whole.is_none());
        }
        self.send(except);
    }

    fn send(&mut self, except: Option<SocketId>) {
        let behind = self.versions.send_latest(except);
        let Some((_, latest)) = self.versions.latest() else {
            return;
        };
        let latest: Json = serde_json::from_str(latest.get()).expect("JSON");
        for old in self.old.iter_mut().filter(|old| behind.contains(&old.id)) {
            old.down.push_back(Down::Content(latest.clone()));
        }
    }

    /// Of a case that runs alone it is told what happens.
    #[expect(clippy::print_stderr, reason = "for who looks for a fault")]
    fn tell(&self, what: impl FnOnce() -> String) {
        if number("CROSSINGS_SEED").is_some() {
            eprintln!("{}", what());
        }
    }

    /// What an old client has sent arrives.
    fn hear_old(&mut self, index: usize) {
        let id = self.old[index].id;
        match self.old[index].up.pop_front() {
            Some(Up::Save(save)) => {
                let old = &mut self.old[index];
                old.knows = true;
                if !old.down.iter().any(|down| matches!(down, Down::Content(_))) {
                    old.has_saved_first = Some(false);
                }
                self.merge(id, &save);
            }
            Some(Up::Pong(number)) => self.versions.answered(id, number),
            None => {}
        }
    }

    fn merge(&mut self, author: SocketId, save: &OldSave) {
        if self.arriving.contains(&author) {
            self.refresh(Some(author));
            // It is not sent what the page had.
            let joined = self.old.iter_mut().filter(|old| old.id == author);
            joined.for_each(|old| old.has_saved_first = Some(false));
        }
        let saved = content(&save.content);
        let bases = self.versions.bases(author);
        let are_certain = bases.are_certain;
        let nearest = nearest_of(bases, &saved);
        let is_certain = nearest
            .as_ref()
            .map_or(are_certain, |(_, is_certain)| *is_certain);
        let nearest = nearest.map(|(content, _)| content);
        let candidate = nearest.iter().map(|base| Candidate {
            content: serde_json::from_str(base.get()).expect("JSON"),
            is_certain,
        });
        self.saves += 1;
        let merged = self.page.content().expect("a view").merge(
            ClientId(1000 + self.saves),
            &Save {
                content: save.content.clone(),
                format: Some(self.format),
                default_format: self.format,
                field: Some(self.field().to_owned()),
                candidates: candidate.collect(),
                had_current: false,
            },
        );
        let merged = merged.expect("a save that is merged");
        if !merged.update.is_empty() {
            self.take(&merged.update);
        }
        let is_right = nearest
            .as_ref()
            .is_some_and(|base| base.get() == content(&save.base).get());
        self.tell(|| {
            let sides = [
                ("had", save.base.to_string()),
                (
                    "taken",
                    nearest.as_ref().map_or("-", |base| base.get()).to_owned(),
                ),
                ("saved", save.content.to_string()),
                ("outcome", merged.content.to_string()),
            ];
            let sides = sides
                .map(|(name, content)| format!("\n  {name:8} {content}"))
                .concat();
            format!(
                "{author:?} saves, certain {is_certain}, deleted {:?}{sides}",
                save.deleted
            )
        });
        self.figures.saves += 1;
        self.figures.uncertain += usize::from(!is_certain);
        self.figures.other_bases += usize::from(!is_right);
        // What the server takes it to have had before says what it deletes. What nobody else has ever had is gone with it.
        let is_in = |content: &Json, number: usize| read(content).concat().contains(&head(number));
        let base: Option<Json> = nearest
            .as_ref()
            .filter(|_| is_certain)
            .map(|base| serde_json::from_str(base.get()).expect("JSON"));
        for number in &save.deleted {
            let deletes = base.as_ref().is_some_and(|base| is_in(base, *number));
            if deletes || !is_in(&save.base, *number) {
                self.phrases.0[*number].is_deleted = true;
            }
        }
        self.versions.saved(
            author,
            SavedContent {
                content: &saved,
                base: nearest.as_ref().filter(|_| merged.base.is_some()),
                is_certain,
                outcome: (self.seq, &content(&merged.content)),
                differs: merged.differs,
            },
        );
        self.send(None);
    }

    /// An old client has lost its connection, with what was on its way, and comes back with the copy that it has.
    fn come_back(&mut self, index: usize, loses: bool) {
        if !self.old[index].knows {
            return;
        }
        if !loses || self.old[index].has_shown {
            while !self.old[index].up.is_empty() {
                self.hear_old(index);
            }
        }
        self.versions.went(self.old[index].id);
        let id = self.new_socket();
        let old = &mut self.old[index];
        old.id = id;
        old.has_saved_first = None;
        old.down.clear();
        let mut lost = std::mem::take(&mut old.up).into_iter().filter_map(|up| match up {
            Up::Save(save) => Some(save),
            Up::Pong(_) => None,
        });
        if let Some(first) = lost.next() {
            // Its program has the changes of these still in its copy.
            old.base = first.base;
            let deleted = lost.flat_map(|save| save.deleted);
            old.deleted.extend(first.deleted.into_iter().chain(deleted));
            old.is_dirty = true;
        }
    }

    fn hear_editor(&mut self, index: usize) {
        let Some((update, brought)) = self.editors[index].up.pop_front() else {
            return;
        };
        self.take(&update);
        let whole = self.whole();
        self.tell(|| format!("editor {index} brings {brought:?}\n  outcome  {whole:?}"));
    }

    fn update_editor(&mut self, index: usize) {
        let editor = &mut self.editors[index];
        let missing = self.page.diff(&editor.replica.state_vector()).expect("a diff");
        editor.replica.apply(&missing);
    }

    /// One thing happens.
    fn step(&mut self, random: &mut Random) {
        let old = random.below(OLD as u32) as usize;
        let editor = random.below(EDITORS as u32) as usize;
        match random.below(24) {
            0..=4 => self.old[old].edit(&mut self.phrases, random),
            5..=7 => {
                let times = if random.below(6) == 0 { 3 } else { 1 };
                if self.old[old].is_dirty || random.below(4) == 0 {
                    self.old[old].save(self.format, times);
                }
            }
            8..=10 => self.hear_old(old),
            11..=13 => self.old[old].hear(),
            14 => self.old[old].ignores = 1 + random.below(6),
            15 => {
                let loses = random.below(2) == 0;
                self.come_back(old, loses);
            }
            16 | 17 => self.editors[editor].edit(self.format, &mut self.phrases, random),
            18 => self.hear_editor(editor),
            19 => self.update_editor(editor),
            20 => {
                self.pings += 1;
                self.versions.pinged(self.old[old].id, self.pings);
                self.old[old].down.push_back(Down::Ping(self.pings));
            }
            _ => self.refresh(None),
        }
    }

    fn deliver_all(&mut self) {
        for index in 0..OLD {
            self.old[index].ignores = 0;
            if self.old[index].is_dirty {
                self.old[index].save(self.format, 1);
            }
            while !self.old[index].up.is_empty() {
                self.hear_old(index);
            }
        }
        for index in 0..EDITORS {
            while !self.editors[index].up.is_empty() {
                self.hear_editor(index);
            }
        }
        self.refresh(None);
        for index in 0..EDITORS {
            self.update_editor(index);
        }
        for old in &mut self.old {
            while !old.down.is_empty() {
                old.hear();
            }
        }
    }

    /// Everything arrives, and then one more edit, which all hear.
    fn settle(&mut self) {
        self.deliver_all();
        self.deliver_all();
        let number = self.phrases.next();
        let update = match self.format {
            Format::Text => self.editors[0]
                .replica
                .insert(0, &format!("{} ", written(number))),
            Format::Html
            | Format::Prosemirror
            | Format::Markdown
            | Format::Blocknote
            | Format::Delta
            | Format::Json => self.editors[0].replica.insert_paragraph(0, &written(number)),
        };
        self.editors[0].up.push_back((update, None));
        self.deliver_all();
    }

    /// What is wrong in the end.
    fn fault(&mut self, typed: &str) -> Option<String> {
        let whole = self.whole().expect("a content");
        let paragraphs = read(&whole);
        let mut text = paragraphs.join("\n");
        for (number, old) in self.old.iter().enumerate() {
            if old.paragraphs != paragraphs {
                return Some(format!(
                    "old client {number} has {:?}, not {paragraphs:?}",
                    old.paragraphs
                ));
            }
        }
        let shown = self.page.content().expect("a view").json(None).expect("content");
        for (number, editor) in self.editors.iter().enumerate() {
            let shown_there = editor.replica.json();
            let field = self.field();
            if shown.as_ref().map(|shown| &shown[field]) != Some(&shown_there[field]) {
                return Some(format!("editor {number} has {shown_there}, not {shown:?}"));
            }
        }
        for (number, phrase) in self.phrases.0.iter().enumerate() {
            let count = |of: &str| text.matches(of).count();
            let (whole, head, tail) = (
                count(&written(number)),
                count(&head(number)),
                count(&tail(number)),
            );
            let is_whole = phrase.is_split || whole == head;
            let is_well = match phrase.is_deleted {
                false => (head, tail) == (1, 1) && is_whole,
                true => (head, tail) == (0, 0),
            };
            if !is_well {
                let what = if phrase.is_deleted {
                    "deleted"
                } else {
                    "not deleted"
                };
                return Some(format!(
                    "phrase {number}, {what}, is there {head} and {tail} times, {whole} times in one piece: {text:?}"
                ));
            }
        }
        for number in 0..self.phrases.0.len() {
            text = text.replace(&head(number), "").replace(&tail(number), "");
        }
        let words = |text: &str| -> String { text.chars().filter(|one| !one.is_whitespace()).collect() };
        let (left, typed) = (words(&text), words(typed));
        // What was loaded elsewhere comes with the first save, if there is one.
        let is_well = left == typed || left.is_empty() && self.saves == 0;
        (!is_well).then(|| format!("of the text before is left {left:?}, not {typed:?}"))
    }
}

/// Runs a case; gives what is wrong.
fn run(format: Format, seed: u64, trace: &str, figures: &mut Figures) -> Option<String> {
    let mut random = Random::new(seed);
    let (mut world, typed) = World::new(format, trace, &mut random);
    for _ in 0..10 + random.below(50) {
        world.step(&mut random);
    }
    world.settle();
    let fault = world.fault(&typed);
    figures.saves += world.figures.saves;
    figures.uncertain += world.figures.uncertain;
    figures.other_bases += world.figures.other_bases;
    fault
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
#[expect(clippy::print_stdout, reason = "figures of a long run")]
fn what_is_written_is_never_lost_nor_doubled_however_saves_and_edits_cross() {
    let trace = include_bytes!("../../../../tests/traces/automerge-paper.json.gz");
    let trace = SequentialTrace::read(trace).end_content;
    // Without what is special in HTML, which is another test's matter.
    let trace = trace.replace(['<', '>', '&', '"', '~', '\u{a0}'], "");
    let seeds: Vec<(Format, u64)> = match number("CROSSINGS_SEED") {
        Some(seed) => FORMATS.iter().map(|format| (*format, seed)).collect(),
        None => {
            let cases = number("CROSSINGS_CASES").unwrap_or(CASES);
            let fresh = (0..cases).flat_map(|seed| FORMATS.iter().map(move |format| (*format, seed)));
            KEPT.into_iter().chain(fresh).collect()
        }
    };
    let (mut figures, mut faults) = (Figures::default(), Vec::new());
    for (format, seed) in &seeds {
        if let Some(fault) = run(*format, *seed, &trace, &mut figures) {
            faults.push(format!("{format:?}, seed {seed}: {fault}"));
        }
    }
    println!("{} cases, {figures:?}", seeds.len());
    let count = faults.len();
    faults.truncate(10);
    assert!(
        faults.is_empty(),
        "{count} of {} cases:\n{}",
        seeds.len(),
        faults.join("\n")
    );
}
