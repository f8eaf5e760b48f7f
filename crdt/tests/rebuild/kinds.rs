//! Each kind of content, and each way in which something can be gone.

use bytes::Bytes;
use pageroom_crdt::encoding::Write as _;
use pageroom_crdt::testing::dump;
use pageroom_crdt::{Admission, Document, Limits, RebuildError, StateVector};

use super::writer::*;

/// Kind, what dumps call it, its content, and its ticks.
fn contents() -> Vec<(u8, &'static str, Vec<u8>, u32)> {
    let named = |tag: u8, name: &str| [vec![tag], text(name)].concat();
    vec![
        (
            JSON,
            "json",
            [vec![2], text("undefined"), text("{\"a\" : 1.0}")].concat(),
            2,
        ),
        (BINARY, "binary", vec![3, 0, 255, 7], 1),
        (STRING, "string", text("w\u{f6}rd \u{1f600}"), 7),
        (EMBED, "embed", text("{\"image\":  \"\\ud83d\"}"), 1),
        (
            FORMAT,
            "format",
            [text("bold"), text("{ \"x\":null}")].concat(),
            1,
        ),
        (TYPE, "type", vec![0], 1),
        (TYPE, "type", vec![1], 1),
        (TYPE, "type", vec![2], 1),
        (TYPE, "type", named(3, "paragraph"), 1),
        (TYPE, "type", vec![4], 1),
        (TYPE, "type", named(5, "hook"), 1),
        (TYPE, "type", vec![6], 1),
        // A map of one entry, a number that is not in the form that Yjs would choose, a negative zero.
        (
            ANY,
            "any",
            vec![3, 118, 1, 1, b'k', 127, 123, 64, 69, 0, 0, 0, 0, 0, 0, 125, 0x40],
            3,
        ),
        (
            DOC,
            "doc",
            [
                text("a-guid"),
                vec![118, 1, 4, b'm', b'e', b't', b'a', 119, 1, b'x'],
            ]
            .concat(),
            1,
        ),
    ]
}

#[test]
fn every_kind_of_content_is_copied_byte_for_byte() {
    for (kind, name, content, ticks) in contents() {
        let shown = content.escape_ascii().to_string();
        // Behind something deleted, before something deleted.
        let structs = [
            item(STRING, At::Root("r"), &text("xy")),
            item(kind, At::After(7, 1), &content),
            item(STRING, At::After(7, 1 + ticks), &text("z")),
        ];
        let in_list = update(&[(7, &structs)], &[(7, 0, 2), (7, 2 + ticks, 1)]);
        assert_eq!(rebuilt(in_list), format!("3:0+{ticks} {name} in \"r\" {shown}\n"));
        // Under a key, in place of something.
        if ticks == 1 {
            let structs = [
                item(ANY, At::RootKey("r", "key"), &[1, 120]),
                item(kind, At::After(7, 0), &content),
            ];
            let under_key = update(&[(7, &structs)], &[(7, 0, 1)]);
            assert_eq!(
                rebuilt(under_key),
                format!("3:0+1 {name} in \"r\" at \"key\" {shown}\n")
            );
        }
    }
}

#[test]
fn pieces_that_follow_each_other_become_one() {
    for (kind, name, first, second, joined) in [
        (
            STRING,
            "string",
            text("ab"),
            text("\u{1f600}d"),
            text("ab\u{1f600}d"),
        ),
        (
            ANY,
            "any",
            vec![2, 120, 121],
            vec![3, 126, 127, 120],
            vec![5, 120, 121, 126, 127, 120],
        ),
        (
            JSON,
            "json",
            [vec![2], text("1"), text("2")].concat(),
            [vec![3], text("3"), text("4"), text("5")].concat(),
            [vec![5], text("1"), text("2"), text("3"), text("4"), text("5")].concat(),
        ),
    ] {
        // Of two clients, with something deleted between them.
        let of_first = [
            item(kind, At::Root("r"), &first),
            item(STRING, At::After(1, 1), &text("x")),
        ];
        let of_second = [item(kind, At::After(1, 2), &second)];
        let bytes = update(&[(2, &of_second), (1, &of_first)], &[(1, 2, 1)]);
        assert_eq!(
            rebuilt(bytes),
            format!("3:0+5 {name} in \"r\" {}\n", joined.escape_ascii())
        );
    }
}

#[test]
fn what_is_of_another_kind_or_in_another_type_stays_apart() {
    let structs = [
        item(STRING, At::Root("r"), &text("a")),
        item(FORMAT, At::After(1, 0), &[text("b"), text("1")].concat()),
        item(STRING, At::After(1, 1), &text("c")),
        item(ANY, At::After(1, 2), &[1, 120]),
        item(TYPE, At::After(1, 3), &[2]),
        item(STRING, At::In(1, 4), &text("in")),
        item(STRING, At::After(1, 4), &text("d")),
        item(STRING, At::Root("s"), &text("e")),
    ];
    assert_eq!(
        rebuilt(update(&[(1, &structs)], &[])),
        "3:0+1 string in \"r\" \\x01a\n\
         3:1+1 format after 3:0 \\x01b\\x011\n\
         3:2+1 string after 3:1 \\x01c\n\
         3:3+1 any after 3:2 \\x01x\n\
         3:4+1 type after 3:3 \\x02\n\
         3:5+2 string in 3:4 \\x02in\n\
         3:7+1 string after 3:4 \\x01d\n\
         3:8+1 string in \"s\" \\x01e\n"
    );
}

#[test]
fn all_is_written_in_the_order_in_which_it_is_read() {
    let element = [vec![3], text("p")].concat();
    let structs = [
        item(TYPE, At::Root("z"), &element),
        item(ANY, At::InKey(1, 0, "level"), &[1, 120]),
        item(ANY, At::InKey(1, 0, "align"), &[1, 121]),
        item(TYPE, At::In(1, 0), &[6]),
        item(STRING, At::In(1, 3), &text("hi")),
        item(TYPE, At::After(1, 0), &element),
        // Before all others.
        item(TYPE, At::RootKey("a", "map"), &[1]),
        item(ANY, At::InKey(1, 7, "inner"), &[1, 126]),
    ];
    assert_eq!(
        rebuilt(update(&[(1, &structs)], &[])),
        "3:0+1 type in \"a\" at \"map\" \\x01\n\
         3:1+1 any in 3:0 at \"inner\" \\x01~\n\
         3:2+1 type in \"z\" \\x03\\x01p\n\
         3:3+1 type in 3:2 \\x06\n\
         3:4+2 string in 3:3 \\x02hi\n\
         3:6+1 any in 3:2 at \"align\" \\x01y\n\
         3:7+1 any in 3:2 at \"level\" \\x01x\n\
         3:8+1 type after 3:2 \\x03\\x01p\n"
    );
}

#[test]
fn of_a_key_only_the_last_value_is_live() {
    let of_first = [item(ANY, At::RootKey("m", "k"), &[1, 119, 1, b'1'])];
    // Put at once: the one of the greater client is the last.
    let of_second = [item(ANY, At::RootKey("m", "k"), &[1, 119, 1, b'2'])];
    let both: [(u64, &[Vec<u8>]); 2] = [(2, &of_second), (1, &of_first)];
    assert_eq!(
        rebuilt(update(&both, &[])),
        "3:0+1 any in \"m\" at \"k\" \\x01w\\x012\n"
    );
    // The last is deleted, so the key has no value, whatever was before.
    assert_eq!(rebuilt(update(&both, &[(2, 0, 1)])), "");
    // Of several values in one struct, which was accepted once, readers see the last.
    let long = [item(ANY, At::RootKey("m", "k"), &[2, 120, 121])];
    assert_eq!(
        rebuilt(update(&[(1, &long)], &[])),
        "3:0+1 any in \"m\" at \"k\" \\x01y\n"
    );
}

#[test]
fn what_is_in_something_deleted_is_gone_and_so_is_what_was_collected() {
    let structs = [
        item(TYPE, At::Root("r"), &[0]),
        item(TYPE, At::In(1, 0), &[1]),
        item(STRING, At::InKey(1, 1, "k"), &text("x")),
        item(STRING, At::Root("s"), &text("a")),
        vec![0, 2],
        item(DELETED, At::After(1, 3), &[4]),
        item(STRING, At::After(1, 9), &text("b")),
    ];
    let bytes = update(&[(1, &structs)], &[(1, 0, 1), (1, 4, 6)]);
    assert_eq!(rebuilt(bytes.clone()), "3:0+2 string in \"s\" \\x02ab\n");
    // The same where what is deleted keeps its content.
    let limits = Limits {
        keeps_deleted: true,
        ..Limits::default()
    };
    let mut keeping = Document::load(limits, [bytes]).unwrap();
    assert_eq!(
        dump(&keeping.rebuilt(REBUILDER).unwrap()),
        "3:0+2 string in \"s\" \\x02ab\n"
    );
}

#[test]
fn half_a_character_becomes_what_every_replica_makes_of_it() {
    // Something was put between its halves, and each of the halves is shown as U+FFFD since, also when that is deleted again.
    let of_first = [item(STRING, At::Root("t"), &text("a\u{1f600}b"))];
    let of_second = [item(STRING, At::Between((1, 1), (1, 2)), &text("x"))];
    let both: [(u64, &[Vec<u8>]); 2] = [(2, &of_second), (1, &of_first)];
    let halves = |between: &str| {
        let text = text(&format!("a\u{fffd}{between}\u{fffd}b"));
        let ticks = 4 + between.len();
        format!("3:0+{ticks} string in \"t\" {}\n", text.escape_ascii())
    };
    assert_eq!(rebuilt(update(&both, &[])), halves("x"));
    assert_eq!(rebuilt(update(&both, &[(2, 0, 1)])), halves(""));
    // Where what is deleted keeps its content, half of a character may be deleted.
    let limits = Limits {
        keeps_deleted: true,
        ..Limits::default()
    };
    let bytes = update(&[(1, &of_first)], &[(1, 2, 1)]);
    let mut keeping = Document::load(limits, [bytes]).unwrap();
    let expected = format!("3:0+3 string in \"t\" {}\n", text("a\u{fffd}b").escape_ascii());
    assert_eq!(dump(&keeping.rebuilt(REBUILDER).unwrap()), expected);
}

#[test]
fn a_document_without_anything_live_becomes_an_empty_one() {
    assert_eq!(
        Document::new(Limits::default())
            .rebuilt(REBUILDER)
            .unwrap()
            .as_ref(),
        [0, 0]
    );
    let structs = [item(STRING, At::Root("t"), &text("gone"))];
    let mut document = load(update(&[(1, &structs)], &[(1, 0, 4)]));
    assert_eq!(document.rebuilt(REBUILDER).unwrap().as_ref(), [0, 0]);
}

#[test]
fn what_waits_would_be_lost() {
    let structs = [item(STRING, At::After(9, 0), &text("b"))];
    let waiting = update(&[(1, &structs)], &[]);
    let mut document = load(update(&[], &[]));
    let Ok(Admission::Early { update: early, .. }) = document.admit(parse(waiting)) else {
        panic!("it builds on something");
    };
    document.park(early).unwrap();
    let bytes = document.pending_bytes();
    assert_eq!(document.rebuilt(REBUILDER), Err(RebuildError::Parked { bytes }));
    // And when it is found to wait only on waking up.
    let snapshot = document.snapshot().unwrap();
    let mut known = StateVector::new();
    known.advance(pageroom_crdt::ClientId(1), 1);
    let mut asleep = Document::asleep(Limits::default(), snapshot.state, &known.encode()).unwrap();
    assert!(asleep.rebuilt(REBUILDER).is_err());
}

#[test]
fn a_document_that_broke_says_so() {
    let mut document = Document::new(Limits::default());
    document.break_at_next_encode();
    assert!(matches!(
        document.rebuilt(REBUILDER),
        Err(RebuildError::Broken(_))
    ));
}

#[test]
fn types_may_be_nested_deeper_than_calls() {
    const LEVELS: u32 = 60_000;
    let mut structs = vec![item(TYPE, At::Root("r"), &[0])];
    structs.extend((1..LEVELS).map(|level| item(TYPE, At::In(1, level - 1), &[0])));
    structs.push(item(STRING, At::In(1, LEVELS - 1), &text("deep")));
    let limits = Limits {
        max_nesting: u16::MAX,
        ..Limits::default()
    };
    let mut document = Document::load(limits, [update(&[(1, &structs)], &[])]).unwrap();
    let rebuilt = document.rebuilt(REBUILDER).unwrap();
    let lines = dump(&rebuilt);
    assert_eq!(lines.lines().count() as u32, LEVELS + 1);
    assert!(lines.ends_with("3:60000+4 string in 3:59999 \\x04deep\n"));
}

/// One struct of many ticks, and something between each two of them.
fn interleaved(kind: u8, whole: &[u8], ticks: u32, between: &[u8]) -> Bytes {
    let of_first = [item(kind, At::Root("r"), whole)];
    let of_second: Vec<_> = (0..ticks - 1)
        .map(|at| item(EMBED, At::Between((1, at), (1, at + 1)), between))
        .collect();
    update(&[(2, &of_second), (1, &of_first)], &[])
}

#[test]
fn a_long_struct_in_many_pieces_is_gone_through_once() {
    const TICKS: u32 = 20_000;
    let mut values = Vec::new();
    values.put_number(TICKS.into());
    values.extend(std::iter::repeat_n(120, TICKS as usize));
    let letters = text(&"x".repeat(TICKS as usize));
    for (kind, whole) in [(ANY, values), (STRING, letters)] {
        let mut document = load(interleaved(kind, &whole, TICKS, &text("1")));
        let rebuilt = document.rebuilt(REBUILDER).unwrap();
        assert_eq!(dump(&rebuilt).lines().count() as u32, 2 * TICKS - 1);
        assert_eq!(load(rebuilt).state_vector().get(REBUILDER), 2 * TICKS - 1);
    }
}
