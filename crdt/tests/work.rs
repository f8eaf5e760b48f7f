//! What the costliest messages cost: steps are counted, not timed, and grow with what was sent and with nothing else.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use bytes::Bytes;
use pageroom_crdt::encoding::Write as _;
use pageroom_crdt::testing::steps_of;
use pageroom_crdt::{Admission, ClientId, Document, Limits, Update};

const GC: u8 = 0;
const STRING: u8 = 4;
const TYPE: u8 = 7;
const ANY: u8 = 8;
const AFTER: u8 = 0x80;
const KEYED: u8 = 0x20;
const MAP: u8 = 1;

/// An update being written.
#[derive(Default)]
struct Writer {
    sections: Vec<Vec<u8>>,
    deletes: Vec<Vec<u8>>,
}

impl Writer {
    /// Structs of one client from a clock on, each as it is on the wire.
    fn section(mut self, client: u64, clock: u32, structs: &[Vec<u8>]) -> Self {
        let mut out = Vec::new();
        out.put_number(structs.len() as u64);
        out.put_number(client);
        out.put_number(clock.into());
        out.extend(structs.concat());
        self.sections.push(out);
        self
    }

    /// Deletes of one client: clock and length of each range.
    fn deletes(mut self, client: u64, ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let ranges: Vec<_> = ranges.into_iter().collect();
        let mut out = Vec::new();
        out.put_number(client);
        out.put_number(ranges.len() as u64);
        for (clock, length) in ranges {
            out.put_number(clock.into());
            out.put_number(length.into());
        }
        self.deletes.push(out);
        self
    }

    fn update(self) -> Update {
        let mut out = Vec::new();
        out.put_number(self.sections.len() as u64);
        out.extend(self.sections.concat());
        out.put_number(self.deletes.len() as u64);
        out.extend(self.deletes.concat());
        Update::parse(Bytes::from(out), &Limits::default()).unwrap()
    }
}

fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A letter behind another.
fn letter_after(client: u64, clock: u32) -> Vec<u8> {
    bytes(|out| {
        out.put_byte(STRING | AFTER);
        out.put_number(client);
        out.put_number(clock.into());
        out.put_string("x");
    })
}

fn text_in_root(text: &str) -> Vec<u8> {
    bytes(|out| {
        out.put_raw(&[STRING, 1, 1, b't']);
        out.put_string(text);
    })
}

/// A map under a key of another.
fn map_in(client: u64, clock: u32, key: &str) -> Vec<u8> {
    bytes(|out| {
        out.put_raw(&[TYPE | KEYED, 0]);
        out.put_number(client);
        out.put_number(clock.into());
        out.put_string(key);
        out.put_byte(MAP);
    })
}

fn map_in_root(key: &str) -> Vec<u8> {
    bytes(|out| {
        out.put_raw(&[TYPE | KEYED, 1, 1, b'm']);
        out.put_string(key);
        out.put_byte(MAP);
    })
}

/// A value put under a key of the root map, behind another where there is one.
fn value(behind: Option<(u64, u32)>) -> Vec<u8> {
    bytes(|out| match behind {
        None => out.put_raw(&[ANY | KEYED, 1, 1, b'm', 1, b'k', 1, 120]),
        Some((client, clock)) => {
            out.put_byte(ANY | AFTER);
            out.put_number(client);
            out.put_number(clock.into());
            out.put_raw(&[1, 120]);
        }
    })
}

fn document(updates: impl IntoIterator<Item = Update>) -> Document {
    let mut document = Document::new(Limits::default());
    for update in updates {
        assert!(matches!(document.admit(update), Ok(Admission::New(_))));
    }
    document
}

/// The steps of an update that is new.
fn steps(document: &mut Document, update: Update) -> u64 {
    let (admitted, steps) = steps_of(|| document.admit(update));
    assert!(matches!(admitted, Ok(Admission::New(_))), "{admitted:?}");
    steps
}

/// Twice as much takes about twice as many steps.
#[track_caller]
fn grows_evenly(count: u32, steps: impl Fn(u32) -> u64) {
    let (once, twice) = (steps(count), steps(2 * count));
    assert!(
        twice <= 5 * once / 2,
        "{count}: {once} steps, twice that: {twice}"
    );
}

/// Every second letter of a text of its own pieces.
fn with_holes(letters: u32) -> Document {
    document([
        Writer::default()
            .section(1, 0, &[text_in_root(&"x".repeat(letters as usize))])
            .update(),
        Writer::default()
            .deletes(1, (0..letters / 2).map(|at| (2 * at, 1)))
            .update(),
    ])
}

/// A letter of each of so many authors behind the same one.
fn by_many_authors(first: u32, authors: u32) -> Update {
    let letters = (first..first + authors).fold(Writer::default(), |writer, author| {
        writer.section(u64::from(author), 0, &[letter_after(1, 0)])
    });
    letters.update()
}

#[test]
fn authors_who_all_write_at_one_place() {
    let begun = || document([Writer::default().section(1, 0, &[text_in_root("x")]).update()]);
    grows_evenly(2048, |authors| steps(&mut begun(), by_many_authors(100, authors)));
    // Again and again by others.
    let mut document = begun();
    let counted: Vec<_> = (0..6)
        .map(|round| steps(&mut document, by_many_authors(100 + 4096 * round, 4096)))
        .collect();
    let (first, most) = (counted[0], counted.iter().max().copied().unwrap());
    assert!(most <= 2 * first, "{counted:?} steps");
}

#[test]
fn deleting_half_of_a_long_text() {
    grows_evenly(200_000, |letters| {
        let text = "x".repeat(letters as usize);
        let mut document = document([Writer::default().section(1, 0, &[text_in_root(&text)]).update()]);
        let delete = Writer::default().deletes(1, [(0, letters / 2)]).update();
        steps(&mut document, delete)
    });
}

#[test]
fn deleting_very_many_pieces_of_a_text_looks_at_each_block_once() {
    let letters = 100_000;
    let text = "x".repeat(letters as usize);
    let mut document = document([Writer::default().section(1, 0, &[text_in_root(&text)]).update()]);
    let delete = Writer::default()
        .deletes(1, (0..letters / 2).map(|at| (2 * at, 1)))
        .update();
    let size = delete.len() as u64;
    let steps = steps(&mut document, delete);
    assert!(steps < 8 * size, "{steps} steps for {size} bytes");
}

#[test]
fn ranges_that_name_the_same_again_and_again() {
    let mut document = with_holes(40_000);
    let delete = Writer::default()
        .deletes(1, (0..20_000).map(|at| (at % 7, 40_000 - 7)))
        .update();
    let size = delete.len() as u64;
    let steps = steps(&mut document, delete);
    // And the gaps, once.
    assert!(steps < 8 * (size + 40_000), "{steps} steps for {size} bytes");
}

#[test]
fn asking_whether_everything_is_deleted_of_what_has_holes() {
    let mut document = with_holes(100_000);
    let delete = Writer::default().deletes(1, [(0, 100_000)]).update();
    let (is_known, steps) = steps_of(|| document.contains(&delete));
    assert_eq!(is_known, Ok(false));
    assert!(steps < 10, "{steps} steps");
}

/// Maps within maps, as deep as may be; a clock is a level.
fn chain(levels: u32) -> Update {
    let maps: Vec<_> = (0..levels)
        .map(|level| match level {
            0 => map_in_root("first"),
            _ => map_in(1, level - 1, "k"),
        })
        .collect();
    Writer::default().section(1, 0, &maps).update()
}

#[test]
fn what_comes_deep_inside_costs_no_more_than_what_comes_outside() {
    let structs = |deep: u32| -> Vec<_> {
        (0..4000u32)
            .map(|at| map_in(1, deep - at % 2, &at.to_string()))
            .collect()
    };
    let of_depth = |deep: u32| {
        let mut document = document([chain(501)]);
        let update = Writer::default().section(2, 0, &structs(deep)).update();
        steps(&mut document, update)
    };
    let (outside, inside) = (of_depth(1), of_depth(500));
    assert!(inside <= outside + outside / 4, "{outside} and {inside}");
}

#[test]
fn deleting_deep_chains_rewrites_no_block_for_every_level() {
    // Chains side by side, each of which lies in few blocks.
    let chains = 40;
    let depth = 400;
    let mut maps = Vec::new();
    for number in 0..chains {
        let first = maps.len() as u32;
        maps.push(map_in_root(&number.to_string()));
        maps.extend((1..depth).map(|level| map_in(1, first + level - 1, "k")));
    }
    let update = Writer::default().section(1, 0, &maps).update();
    let size = update.len() as u64;
    let mut document = document([update]);
    let roots = (0..chains).map(|number| (number * depth, 1));
    let steps = steps(&mut document, Writer::default().deletes(1, roots).update());
    assert!(steps < 8 * size, "{steps} steps for a page of {size} bytes");
    let state = document.encode().unwrap();
    assert!(
        state.len() < 2000,
        "all of it is collected: {} bytes",
        state.len()
    );
}

/// Two clients who overwrite each other's value in turn.
fn quarrel(turns: u32) -> Update {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        one.push(value(turn.checked_sub(1).map(|before| (2, before))));
        other.push(value(Some((1, turn))));
    }
    Writer::default()
        .section(2, 0, &other)
        .section(1, 0, &one)
        .update()
}

#[test]
fn values_put_behind_the_first_of_a_long_quarrel_one_by_one() {
    // Each loses against the line of the second client that follows there, however long that is.
    grows_evenly(1000, |turns| {
        let mut document = document([quarrel(turns)]);
        let late: Vec<_> = (0..turns).map(|turn| value(Some((2, turn)))).collect();
        // The client id is smaller than the one of what follows.
        steps(&mut document, Writer::default().section(0, 0, &late).update())
    });
}

#[test]
fn of_values_put_at_once_behind_long_lines_of_others_the_one_that_stays_is_known() {
    let mut document = document([quarrel(500)]);
    // Whoever was away since the first value: of a larger client id than the one that replaced it then.
    let away = Writer::default().section(3, 0, &[value(Some((1, 0)))]).update();
    steps(&mut document, away);
    let state = Update::parse(document.encode().unwrap(), &Limits::default()).unwrap();
    let known = Writer::default().deletes(2, [(0, 500)]).update();
    assert_eq!(
        document.contains(&known),
        Ok(true),
        "the last of the quarrel is replaced"
    );
    assert_eq!(
        document.contains(&Writer::default().deletes(3, [(0, 1)]).update()),
        Ok(false)
    );
    // The same where all comes at once, and where it comes in another order.
    let mut other = Document::new(Limits::default());
    assert!(matches!(other.admit(state), Ok(Admission::New(_))));
    assert_eq!(other.encode(), document.encode());
}

#[test]
fn parts_that_wait_for_something_take_no_more_room_than_they_have() {
    // Each client's struct is behind one of a client that nobody knows.
    let mut update = Writer::default();
    for client in (10..5010).rev() {
        update = update.section(client, 0, &[letter_after(client + 1_000_000, 0)]);
    }
    let update = update.update();
    let size = update.len() as u64;
    let mut document = Document::new(Limits::default());
    let (admitted, steps) = steps_of(|| document.admit(update));
    assert!(matches!(admitted, Ok(Admission::Early { .. })));
    assert!(steps < 12 * size, "{steps} steps for {size} bytes");
}

#[test]
fn what_waits_for_many_things_is_looked_at_in_pieces() {
    // Each letter of the first client is behind one of the second, whose letters come one by one.
    let letters = 4000;
    let waiting: Vec<_> = (0..letters).map(|clock| letter_after(2, clock)).collect();
    let mut document = Document::new(Limits::default());
    let Ok(Admission::Early { update, .. }) =
        document.admit(Writer::default().section(1, 0, &waiting).update())
    else {
        panic!("it waits");
    };
    assert_eq!(document.park(update), Ok(true));
    let most = (0..letters)
        .map(|clock| {
            let letter = match clock {
                0 => text_in_root("x"),
                _ => letter_after(2, clock - 1),
            };
            let update = Writer::default().section(2, clock, &[letter]).update();
            let (ready, steps) = steps_of(|| {
                assert!(matches!(document.admit(update), Ok(Admission::New(_))));
                document.take_ready([ClientId(2)].into_iter())
            });
            assert_eq!(ready.map(|ready| ready.len()), Ok(1), "one letter");
            steps
        })
        .max();
    assert!(most < Some(20_000), "{most:?} steps for one letter");
    assert_eq!(document.state_vector().get(ClientId(1)), letters);
    assert_eq!(document.pending_bytes(), 0);
}

#[test]
fn collected_structs_beside_each_other_are_one() {
    let parts: Vec<_> = (0..1000).map(|_| vec![GC, 1]).collect();
    let mut document = document([Writer::default().section(1, 0, &parts).update()]);
    let state = document.encode().unwrap();
    assert!(state.len() < 16, "{state:?}");
}
