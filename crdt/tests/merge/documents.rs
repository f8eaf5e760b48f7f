//! Two saves of one document and a typist who has heard of neither, with everything that each may have done: paragraphs, headings, lists and
//! marks. What is put in is there once and in one piece, what is taken out is gone, marks are on their words, the outcome is a document, and
//! all replicas are the same.
//!
//! `DOCUMENTS_CASES=20000` runs more cases, `DOCUMENTS_SEED=7` one alone, and tells what happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;

use pageroom_crdt::testing::{Random, Replica};
use pageroom_crdt::{ClientId, Format, Save};
use serde_json::{Value, json};

use crate::page::{Page, certain, save};

const CASES: u64 = 600;
const FIELD: &str = "xml";
const MARKS: [&str; 2] = ["bold", "italic"];

#[derive(Debug, Clone, PartialEq)]
struct Word {
    text: String,
    marks: BTreeSet<&'static str>,
    /// Nothing is put between this word and the one before it.
    is_glued: bool,
}

impl Word {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            marks: BTreeSet::new(),
            is_glued: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Block {
    /// A paragraph, or a heading of this level.
    Text { level: Option<u8>, words: Vec<Word> },
    List {
        name: &'static str,
        items: Vec<Vec<Block>>,
    },
}

impl Block {
    fn paragraph(words: Vec<Word>) -> Self {
        Self::Text { level: None, words }
    }

    fn words(&self) -> Vec<Word> {
        match self {
            Self::Text { words, .. } => words.clone(),
            Self::List { items, .. } => items.iter().flatten().flat_map(Self::words).collect(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text { level, words } => {
                let mut runs: Vec<(String, &BTreeSet<&str>)> = Vec::new();
                let none = BTreeSet::new();
                for (number, word) in words.iter().enumerate() {
                    let space = (number > 0).then_some((" ", &none));
                    for (text, marks) in space.into_iter().chain([(word.text.as_str(), &word.marks)]) {
                        match runs.last_mut() {
                            Some((run, of_run)) if *of_run == marks => run.push_str(text),
                            _ => runs.push((text.to_owned(), marks)),
                        }
                    }
                }
                let text = |(text, marks): &(String, &BTreeSet<&str>)| {
                    let marks: Vec<_> = marks.iter().map(|mark| json!({ "type": mark })).collect();
                    match marks.is_empty() {
                        true => json!({ "type": "text", "text": text }),
                        false => json!({ "type": "text", "marks": marks, "text": text }),
                    }
                };
                let mut block = match level {
                    Some(level) => json!({ "type": "heading", "attrs": { "level": level } }),
                    None => json!({ "type": "paragraph" }),
                };
                if !runs.is_empty() {
                    block["content"] = runs.iter().map(text).collect();
                }
                block
            }
            Self::List { name, items } => {
                let item = |item: &Vec<Self>| json!({ "type": "listItem", "content": item.iter().map(Self::json).collect::<Vec<_>>() });
                json!({ "type": name, "content": items.iter().map(item).collect::<Vec<_>>() })
            }
        }
    }
}

fn document(blocks: &[Block]) -> Value {
    json!({ "type": "doc", "content": blocks.iter().map(Block::json).collect::<Vec<_>>() })
}

/// The same in HTML.
fn html(document: &Value) -> Value {
    let mut page = Page::new();
    page.save(&in_field(document.clone(), Format::Prosemirror));
    page.view().whole(FIELD, Format::Html).unwrap().unwrap()
}

fn in_field(content: Value, format: Format) -> Save {
    Save {
        field: Some(FIELD.to_owned()),
        ..save(content, format)
    }
}

/// The way to a list of blocks: of each list on it where it stands, and which of its items.
type Way = Vec<(usize, usize)>;

fn ways(blocks: &[Block], way: &Way, found: &mut Vec<Way>) {
    found.push(way.clone());
    for (at, block) in blocks.iter().enumerate() {
        if let Block::List { items, .. } = block {
            for (item, blocks) in items.iter().enumerate() {
                let way = way.iter().copied().chain([(at, item)]).collect();
                ways(blocks, &way, found);
            }
        }
    }
}

fn at<'a>(blocks: &'a mut Vec<Block>, way: &[(usize, usize)]) -> &'a mut Vec<Block> {
    let Some(((at_list, item), rest)) = way.split_first() else {
        return blocks;
    };
    match &mut blocks[*at_list] {
        Block::List { items, .. } => at(&mut items[*item], rest),
        Block::Text { .. } => panic!("the way goes through lists"),
    }
}

/// What somebody does with a document.
struct Author {
    blocks: Vec<Block>,
    /// The words of which each insertion is made.
    inserted: Vec<[String; 2]>,
    deleted: BTreeSet<String>,
    /// Words that it has put elsewhere, which nobody can tell from taking them out and putting them in.
    moved: BTreeSet<String>,
    marked: Vec<(String, &'static str)>,
    done: Vec<String>,
}

/// Where words come from that are there once.
struct Words(u64);

impl Words {
    /// A word that has little in common with others.
    fn next(&mut self) -> Word {
        self.0 += 1;
        let mut random = Random::new(self.0);
        let letters = (0..8).map(|_| char::from(b'a' + random.below(15) as u8));
        Word::new(&letters.collect::<String>())
    }

    fn some(&mut self, count: u32) -> Vec<Word> {
        (0..count).map(|_| self.next()).collect()
    }
}

impl Author {
    fn new(blocks: &[Block]) -> Self {
        Self {
            blocks: blocks.to_vec(),
            inserted: Vec::new(),
            deleted: BTreeSet::new(),
            moved: BTreeSet::new(),
            marked: Vec::new(),
            done: Vec::new(),
        }
    }

    fn phrase(&mut self, words: &mut Words) -> Vec<Word> {
        let mut phrase = words.some(2);
        phrase[1].is_glued = true;
        self.inserted
            .push([phrase[0].text.clone(), phrase[1].text.clone()]);
        phrase
    }

    fn is_own(&self, word: &Word) -> bool {
        self.inserted.iter().flatten().any(|own| *own == word.text)
    }

    fn moves(&mut self, words: &[Word]) {
        self.moved.extend(words.iter().map(|word| word.text.clone()));
    }

    /// A place of a block, which may be a list.
    fn pick(&self, random: &mut Random) -> (Way, usize) {
        let mut found = Vec::new();
        ways(&self.blocks, &Vec::new(), &mut found);
        let mut blocks = self.blocks.clone();
        let way = random.pick(&found).clone();
        let length = at(&mut blocks, &way).len() as u32;
        (way, random.below(length) as usize)
    }

    /// One change, if it can be made at the place that chance has it.
    fn edit(&mut self, words: &mut Words, random: &mut Random) {
        let (way, index) = self.pick(random);
        let mut blocks = self.blocks.clone();
        let list = at(&mut blocks, &way);
        let is_first_of_item = !way.is_empty() && index == 0;
        let what = random.below(20);
        let before = list[index].words();
        let is_alone = list.len() == 1;
        let is_own = |word: &Word| self.is_own(word);
        match (&mut list[index], what) {
            (Block::Text { words: of_block, .. }, 0..=5) => {
                let places: Vec<usize> = (0..=of_block.len())
                    .filter(|at| of_block.get(*at).is_none_or(|word| !word.is_glued))
                    .collect();
                let at = *random.pick(&places);
                drop(of_block.splice(at..at, self.phrase(words)));
            }
            (Block::Text { words: of_block, .. }, 6 | 7) if !of_block.is_empty() => {
                let at = random.below(of_block.len() as u32) as usize;
                if is_own(&of_block[at]) {
                    return;
                }
                let word = of_block.remove(at);
                self.deleted.insert(word.text);
            }
            (Block::Text { words: of_block, .. }, 8 | 9) if !of_block.is_empty() => {
                let at = random.below(of_block.len() as u32) as usize;
                if is_own(&of_block[at]) {
                    return;
                }
                let mark = *random.pick(&MARKS);
                of_block[at].marks.insert(mark);
                self.marked.push((of_block[at].text.clone(), mark));
            }
            (
                Block::Text {
                    level: Some(level), ..
                },
                10,
            ) => *level = 1 + random.below(3) as u8,
            (_, 11 | 12) => {
                let phrase = self.phrase(words);
                let block = match random.below(4) {
                    0 => Block::Text {
                        level: Some(2),
                        words: phrase,
                    },
                    1 => Block::List {
                        name: "bulletList",
                        items: vec![vec![Block::paragraph(phrase)]],
                    },
                    _ => Block::paragraph(phrase),
                };
                list.insert(index + 1, block);
            }
            (Block::List { items, .. }, 13) => {
                let phrase = self.phrase(words);
                let at = random.below(items.len() as u32 + 1) as usize;
                items.insert(at, vec![Block::paragraph(phrase)]);
            }
            (Block::List { items, .. }, 14) if items.len() > 1 => {
                let at = random.below(items.len() as u32) as usize;
                let gone: Vec<Word> = items[at].iter().flat_map(Block::words).collect();
                if gone.iter().any(is_own) {
                    return;
                }
                items.remove(at);
                self.deleted.extend(gone.into_iter().map(|word| word.text));
            }
            (_, 15) if !is_alone && !is_first_of_item && !before.iter().any(is_own) => {
                list.remove(index);
                self.deleted.extend(before.into_iter().map(|word| word.text));
            }
            (Block::Text { level, .. }, 16) if way.is_empty() => {
                *level = if level.is_some() { None } else { Some(1) };
                self.moves(&before);
            }
            (Block::Text { words: of_block, .. }, 17) if of_block.len() > 1 => {
                let at = 1 + random.below(of_block.len() as u32 - 1) as usize;
                if of_block[at].is_glued {
                    return;
                }
                let rest = of_block.split_off(at);
                // Either part may be taken for the one that was there.
                self.moves(&before);
                list.insert(index + 1, Block::paragraph(rest));
            }
            (Block::Text { level: None, .. }, 18) if way.is_empty() => {
                let block = list.remove(index);
                list.insert(
                    index,
                    Block::List {
                        name: "orderedList",
                        items: vec![vec![block]],
                    },
                );
                self.moves(&before);
            }
            (_, 19) if way.is_empty() && !is_alone => {
                let to = random.below(list.len() as u32) as usize;
                // Who has seen it only before and after cannot tell which of them was put past which.
                for block in &list[index.min(to)..=index.max(to)] {
                    self.moves(&block.words());
                }
                let block = list.remove(index);
                list.insert(to, block);
            }
            _ => return,
        }
        self.done.push(format!("{what} at {way:?} {index}"));
        self.blocks = blocks;
    }
}

/// A document of up to five blocks.
fn beginning(words: &mut Words, random: &mut Random) -> Vec<Block> {
    let blocks = 2 + random.below(4);
    let mut begun = Vec::new();
    for _ in 0..blocks {
        begun.push(match random.below(5) {
            0 => Block::Text {
                level: Some(1 + random.below(2) as u8),
                words: words.some(1 + random.below(3)),
            },
            1 => Block::List {
                name: random.pick::<&str>(&["bulletList", "orderedList"]),
                items: (0..1 + random.below(3))
                    .map(|_| {
                        let mut item = vec![Block::paragraph(words.some(1 + random.below(3)))];
                        if random.below(4) == 0 {
                            let inner = vec![Block::paragraph(words.some(1 + random.below(2)))];
                            item.push(Block::List {
                                name: "bulletList",
                                items: vec![inner],
                            });
                        }
                        item
                    })
                    .collect(),
            },
            _ => Block::paragraph(words.some(random.below(6))),
        });
    }
    for block in &mut begun {
        if let Block::Text { words, .. } = block
            && let Some(word) = words.first_mut()
            && random.below(4) == 0
        {
            word.marks.insert("bold");
        }
    }
    begun
}

/// What is in a document: its texts, and the marks of each word. An error where it is none.
#[derive(Default)]
struct Read {
    texts: Vec<String>,
    marks: BTreeMap<String, BTreeSet<String>>,
}

impl Read {
    fn of(document: &Value) -> Result<Self, String> {
        let mut read = Self::default();
        let blocks = document["content"].as_array().ok_or("no document")?;
        read.blocks(blocks)?;
        Ok(read)
    }

    fn blocks(&mut self, blocks: &[Value]) -> Result<(), String> {
        for block in blocks {
            let children = block["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            match block["type"].as_str() {
                Some("paragraph" | "heading") => self.text(children)?,
                Some("bulletList" | "orderedList") if !children.is_empty() => {
                    for item in children {
                        let within = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
                        let begins = within.first().and_then(|first| first["type"].as_str());
                        if item["type"] != "listItem" || begins != Some("paragraph") {
                            return Err(format!("no item: {item}"));
                        }
                        self.blocks(within)?;
                    }
                }
                _ => return Err(format!("no block: {block}")),
            }
        }
        Ok(())
    }

    fn text(&mut self, pieces: &[Value]) -> Result<(), String> {
        let mut all = String::new();
        for piece in pieces {
            let text = piece["text"]
                .as_str()
                .ok_or_else(|| format!("no text: {piece}"))?;
            let marks = piece["marks"].as_array().map(Vec::as_slice).unwrap_or_default();
            let marks: BTreeSet<_> = marks
                .iter()
                .filter_map(|mark| mark["type"].as_str())
                .map(str::to_owned)
                .collect();
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                self.marks
                    .entry(word.to_owned())
                    .or_default()
                    .extend(marks.clone());
            }
            all.push_str(text);
        }
        self.texts.push(all);
        Ok(())
    }

    fn count(&self, of: &str) -> usize {
        self.texts.iter().map(|text| text.matches(of).count()).sum()
    }
}

/// A typist, who edits the page as it was at the beginning and is heard last.
struct Typist {
    replica: Replica,
    updates: Vec<bytes::Bytes>,
    /// Each with the words of the block that it is in.
    inserted: Vec<([String; 2], Vec<String>)>,
    deleted: BTreeSet<String>,
}

impl Typist {
    fn new(page: &mut Page) -> Self {
        let mut replica = Replica::new(ClientId(77));
        replica.apply(&page.encode());
        Self {
            replica,
            updates: Vec::new(),
            inserted: Vec::new(),
            deleted: BTreeSet::new(),
        }
    }

    fn edit(&mut self, words: &mut Words, random: &mut Random) {
        let texts = self.replica.xml_texts();
        if texts.is_empty() {
            return;
        }
        let index = random.below(texts.len() as u32) as usize;
        let text = &texts[index];
        let of_block: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let is_own = |word: &String| self.inserted.iter().any(|(own, _)| own.contains(word));
        if random.below(4) == 0 && of_block.len() > 1 && !is_own(&of_block[0]) {
            let length = of_block[0].len() as u32 + 1;
            self.updates
                .push(self.replica.replace_in_xml(index, 0, length, ""));
            self.deleted.insert(of_block[0].clone());
            return;
        }
        let phrase = words.some(2);
        let phrase = [phrase[0].text.clone(), phrase[1].text.clone()];
        let written = phrase.join(" ");
        let (place, written) = match random.below(2) {
            0 => (0, format!("{written} ")),
            _ => (text.len(), format!(" {written}")),
        };
        self.updates
            .push(self.replica.replace_in_xml(index, place as u32, 0, &written));
        self.inserted.push((phrase, of_block));
    }
}

/// Runs a case; gives what is wrong.
#[expect(clippy::print_stdout, reason = "for who looks for a fault")]
fn run(seed: u64, format: Format, is_told: bool) -> Option<String> {
    let (mut random, mut words) = (Random::new(seed), Words(1000 * seed));
    let base = beginning(&mut words, &mut random);
    let of_base: Vec<Word> = base.iter().flat_map(Block::words).collect();
    let written = |blocks: &[Block]| match format {
        Format::Html => html(&document(blocks)),
        Format::Text
        | Format::Prosemirror
        | Format::Markdown
        | Format::Blocknote
        | Format::Delta
        | Format::Json => document(blocks),
    };
    let mut page = Page::new();
    page.save(&in_field(written(&base), format));
    let (mut typist, begun) = (Typist::new(&mut page), page.encode());
    let mut authors = [Author::new(&base), Author::new(&base)];
    for author in &mut authors {
        for _ in 0..1 + random.below(5) {
            author.edit(&mut words, &mut random);
        }
    }
    for _ in 0..random.below(3) {
        typist.edit(&mut words, &mut random);
    }
    let mut updates = vec![begun];
    let mut told = format!("base {}\n", written(&base));
    for author in &authors {
        let saved = Save {
            candidates: vec![certain(written(&base))],
            ..in_field(written(&author.blocks), format)
        };
        let merged = page.save(&saved);
        let _ = writeln!(
            told,
            "saved {} {:?}\n  outcome {}",
            saved.content, author.done, merged.content
        );
        updates.push(merged.update);
    }
    for update in &typist.updates {
        page.apply(update);
        updates.push(update.clone());
    }
    let outcome = page.view().whole(FIELD, Format::Prosemirror).unwrap().unwrap();
    let _ = writeln!(told, "outcome with the typist {outcome}");
    if is_told {
        println!("{told}");
    }
    let fault = fault(&outcome, &of_base, &authors, &typist);
    fault.or_else(|| differences(&mut page, typist.replica, &updates, &mut random))
}

fn fault(outcome: &Value, base: &[Word], [ada, bob]: &[Author; 2], typist: &Typist) -> Option<String> {
    let read = match Read::of(outcome) {
        Ok(read) => read,
        Err(fault) => return Some(fault),
    };
    for [head, tail] in ada.inserted.iter().chain(&bob.inserted) {
        let counts = [head, tail].map(|word| read.count(word));
        if counts != [1, 1] || read.count(&format!("{head} {tail}")) != 1 {
            return Some(format!("{head} {tail} is there {counts:?} times"));
        }
    }
    let is_moved = |word: &String| ada.moved.contains(word) || bob.moved.contains(word);
    let is_gone = |word: &String| ada.deleted.contains(word) || bob.deleted.contains(word);
    for ([head, tail], of_block) in &typist.inserted {
        let counts = [head, tail].map(|word| read.count(word));
        // Yjs drops what is written into something that is gone.
        let is_gone = of_block.iter().any(|word| is_moved(word) || is_gone(word));
        if counts != [1, 1] && !(is_gone && counts == [0, 0]) {
            return Some(format!(
                "{head} {tail} is there {counts:?} times, as typed beside {of_block:?}"
            ));
        }
    }
    for Word {
        text: word, marks, ..
    } in base
    {
        let moved = [ada, bob].map(|author| author.moved.contains(word));
        let deleted = [ada, bob].map(|author| author.deleted.contains(word));
        let is_typed_over = typist.deleted.contains(word);
        let count = read.count(word);
        // Of two who put a text elsewhere each has put it there.
        let most = if moved == [true, true] { 2 } else { 1 };
        let is_deleted = deleted != [false, false] || is_typed_over;
        let comes_back = moved[0] && !deleted[0] || moved[1] && !deleted[1];
        let is_well = match (is_deleted, comes_back) {
            (true, true) => count <= most,
            (true, false) => count == 0,
            (false, _) => (1..=most).contains(&count),
        };
        if !is_well {
            return Some(format!(
                "{word} is there {count} times, deleted {deleted:?} {is_typed_over}, moved {moved:?}"
            ));
        }
        // Words that run into each other where a typist takes out what parts them, who has not heard of that, are Yjs' matter.
        let is_run_into = !typist.deleted.is_empty() && !read.marks.contains_key(word);
        if count == 0 || moved != [false, false] || is_run_into {
            continue;
        }
        let of_authors = ada
            .marked
            .iter()
            .chain(&bob.marked)
            .filter(|(marked, _)| marked == word);
        let expected = marks.iter().chain(of_authors.map(|(_, mark)| mark));
        let expected: BTreeSet<String> = expected.map(|mark| (*mark).to_owned()).collect();
        if read.marks.get(word) != Some(&expected) {
            return Some(format!(
                "{word} has the marks {:?}, not {expected:?}",
                read.marks.get(word)
            ));
        }
    }
    None
}

/// Whether somebody who hears the same has something else.
fn differences(
    page: &mut Page,
    mut typist: Replica,
    updates: &[bytes::Bytes],
    random: &mut Random,
) -> Option<String> {
    let mut late = Replica::new(ClientId(78));
    let mut in_another_order = updates.to_vec();
    random.shuffle(&mut in_another_order);
    for update in in_another_order.iter().filter(|update| !update.is_empty()) {
        late.apply(update);
    }
    typist.apply(&page.encode());
    let shown = page.view().json(Some(FIELD)).unwrap();
    for replica in [late, typist] {
        let there = replica.json();
        if Some(&there[FIELD]) != shown.as_ref() {
            return Some(format!("there is {there}, and here {shown:?}"));
        }
    }
    // What has come of it is nothing new.
    let outcome = page.view().whole(FIELD, Format::Prosemirror).unwrap().unwrap();
    let again = Save {
        candidates: vec![certain(outcome.clone())],
        ..in_field(outcome, Format::Prosemirror)
    };
    let merged = page.save(&again);
    (!merged.update.is_empty()).then(|| format!("saved once more it becomes {}", merged.content))
}

#[test]
fn of_two_saves_and_a_typist_each_change_of_a_document_is_there_once() {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let alone = number("DOCUMENTS_SEED");
    let cases = number("DOCUMENTS_CASES").unwrap_or(CASES);
    let seeds = alone.map_or(0..cases, |seed| seed..seed + 1);
    let mut faults = Vec::new();
    for (seed, format) in
        seeds.flat_map(|seed| [Format::Prosemirror, Format::Html].map(|format| (seed, format)))
    {
        if let Some(fault) = run(seed, format, alone.is_some()) {
            faults.push(format!("{format:?}, seed {seed}: {fault}"));
        }
    }
    let count = faults.len();
    faults.truncate(60);
    assert!(faults.is_empty(), "{count} faults:\n{}", faults.join("\n"));
}
