//! Bytes that break other servers, and what becomes of them here. Each test is named after what it protects from.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::time::Instant;

use bytes::Bytes;
use pageroom_crdt::encoding::Write as _;
use pageroom_crdt::testing::{Random, Replica, dump};
use pageroom_crdt::{
    Admission, Awareness, AwarenessLimits, ClientId, DecodeError, Document, Limits, Missing, Refusal,
    StateVector, Update, merge,
};

fn hex(text: &str) -> Bytes {
    let digits: Vec<_> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

fn parse(bytes: impl Into<Bytes>) -> Result<Update, DecodeError> {
    Update::parse(bytes.into(), &Limits::default())
}

fn admit(document: &mut Document, bytes: impl Into<Bytes>) -> Result<Admission, Refusal> {
    document.admit(parse(bytes).unwrap())
}

fn new(document: &mut Document, bytes: impl Into<Bytes>) -> Update {
    match admit(document, bytes).unwrap() {
        Admission::New(update) => update,
        other @ (Admission::Known | Admission::Early { .. } | Admission::Partly { .. }) => {
            panic!("not new: {other:?}")
        }
    }
}

fn document(parts: &[&str]) -> Document {
    let mut document = Document::new(Limits::default());
    for part in parts {
        new(&mut document, hex(part));
    }
    document
}

fn json(document: &mut Document) -> serde_json::Value {
    document.content().unwrap().json(None).unwrap().unwrap()
}

fn needs(client: u64, clock: u32) -> Missing {
    Missing {
        client: ClientId(client),
        clock,
    }
}

fn missing(document: &mut Document, bytes: Bytes) -> Missing {
    match admit(document, bytes).unwrap() {
        Admission::Early { missing, .. } => missing,
        other @ (Admission::New(_) | Admission::Known | Admission::Partly { .. }) => {
            panic!("not early: {other:?}")
        }
    }
}

/// A text of one character, at the start of root type `t`: `client:clock`.
const A_1_0: &str = "01 01 01 00 04 01 01 74 01 61 00";

#[test]
fn r1_a_gap_that_is_filled_by_an_overlapping_piece_uses_no_freed_memory() {
    let mut document = Document::new(Limits::default());
    let (gap, overlapping) = (hex("0101070104010174016200"), hex("01010700040101740361626300"));
    assert_eq!(missing(&mut document, gap.clone()), needs(7, 1));
    new(&mut document, overlapping);
    assert_eq!(admit(&mut document, gap), Ok(Admission::Known));
    assert_eq!(json(&mut document), serde_json::json!({"t": "abc"}));
}

#[test]
fn r2_a_count_reserves_no_memory_for_what_is_not_there() {
    for bytes in [&[0xff, 0xff, 0xff, 0x7f][..], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
        assert!(matches!(parse(bytes.to_vec()), Err(DecodeError::Read(_))));
        assert!(matches!(
            StateVector::decode(bytes, &Limits::default()),
            Err(DecodeError::Read(_))
        ));
        #[expect(clippy::disallowed_methods, reason = "some moment")]
        let now = Instant::now();
        let applied = Awareness::new(AwarenessLimits::default()).apply(now, 1, bytes, |_, _| true);
        assert!(matches!(applied, Err(DecodeError::Read(_))));
    }
    // Also where structs, ranges and values are counted.
    for bytes in [
        "01 ffffff7f 01 00",
        "00 01 01 ffffff7f",
        "01 01 01 00 08 01 01 74 ffffff7f",
    ] {
        assert!(matches!(parse(hex(bytes)), Err(DecodeError::Read(_))), "{bytes}");
    }
}

#[test]
fn r3_counts_inside_values_do_not_add_up() {
    let mut bytes = hex("01 01 01 00 08 01 01 74 01").to_vec();
    for _ in 0..8 {
        bytes.extend(hex("76 80808020 01 6b"));
    }
    assert!(matches!(parse(bytes), Err(DecodeError::Read(_))));
}

fn nested_value(depth: usize) -> Vec<u8> {
    let mut bytes = hex("01 01 01 00 08 01 01 74 01").to_vec();
    bytes.extend([117, 1].repeat(depth));
    bytes.extend([126, 0]);
    bytes
}

#[test]
fn r4_nested_values_do_not_exhaust_the_stack() {
    assert_eq!(
        parse(nested_value(8000)).unwrap_err(),
        DecodeError::ValueTooDeep { limit: 1000 }
    );
    assert_eq!(
        parse(nested_value(1001)).unwrap_err(),
        DecodeError::ValueTooDeep { limit: 1000 }
    );
    for depth in [64, 1000] {
        let mut document = Document::new(Limits::default());
        new(&mut document, nested_value(depth));
        let mut copy = Document::new(Limits::default());
        new(&mut copy, document.encode().unwrap());
        assert_eq!(
            copy.encode().unwrap(),
            document.encode().unwrap(),
            "{depth} levels"
        );
    }
}

/// A map in root type `t`, a map in it under `k`, and so on.
fn nested_types(depth: u32) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.put_number(u64::from(depth));
    bytes.extend(hex("01 00  27 01 01 74 01 6b 01"));
    for level in 1..depth {
        bytes.extend(hex("27 00 01"));
        bytes.put_number(u64::from(level - 1));
        bytes.extend(hex("01 6b 01"));
    }
    bytes.push(0);
    bytes
}

#[test]
fn r5_nested_types_do_not_exhaust_the_stack() {
    let mut document = Document::new(Limits::default());
    assert_eq!(
        admit(&mut document, nested_types(5000)),
        Err(Refusal::NestingTooDeep { limit: 512 })
    );
    assert_eq!(
        admit(&mut document, nested_types(513)),
        Err(Refusal::NestingTooDeep { limit: 512 })
    );
    assert!(
        document.state_vector().is_empty(),
        "a refused update leaves nothing behind"
    );
    new(&mut document, nested_types(512));
    assert!(json(&mut document).is_object());
    // One level more in a second update: its parent is in the first.
    let deeper = hex("01 01 02 00 27 00 01 ff03 01 6b 01 00");
    assert_eq!(
        admit(&mut document, deeper),
        Err(Refusal::NestingTooDeep { limit: 512 })
    );
    // Deleting all of it goes through every level.
    new(&mut document, hex("00 01 01 01 00 01"));
    assert_eq!(document.snapshot().unwrap().state_vector, hex("01 01 8004"));
}

#[test]
fn r6_clocks_near_the_end_of_their_range_are_refused() {
    let bytes = "010407acc7e48b6d2801016d016b017d01a807110177016e0128000713017a017d010107011101";
    assert!(parse(hex(bytes)).is_err());
    // One tick beyond 2^30.
    assert_eq!(
        parse(hex("01 01 01 ffffffff03 00 02 00")).unwrap_err(),
        DecodeError::ClockTooLarge { client: ClientId(1) }
    );
    assert!(parse(hex("01 01 01 ffffffff03 00 01 00")).is_ok());
}

#[test]
fn r7_nothing_of_length_zero_is_taken() {
    for bytes in [
        "0101100700280103012200",
        // A collected struct, a text, a list of values, a deleted struct, a section of no structs.
        "01 01 01 00 00 00 00",
        "01 01 01 00 04 01 01 74 00 00",
        "01 01 01 00 08 01 01 74 00 00",
        "01 01 01 00 01 01 01 74 00 00",
        "01 00 01 00 00",
    ] {
        assert!(
            matches!(parse(hex(bytes)), Err(DecodeError::Empty { .. })),
            "{bytes}"
        );
    }
}

/// Clients that each insert one character at the same place.
fn crowd(clients: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_number(clients);
    for client in 1..=clients {
        bytes.put_number(1);
        bytes.put_number(client);
        bytes.extend(hex("00 04 01 01 74 01 61"));
    }
    bytes.push(0);
    bytes
}

#[test]
fn r8_a_crowd_of_made_up_clients_is_refused() {
    let mut document = Document::new(Limits::default());
    assert_eq!(
        admit(&mut document, crowd(100_001)).map(drop),
        Err(Refusal::TooManyClients { limit: 100_000 })
    );
    new(&mut document, crowd(5000));
    // What is known does not count: somebody may bring the whole history of a long-lived page.
    let more = parse(crowd(5004)).unwrap();
    assert!(matches!(document.admit(more), Ok(Admission::New(update)) if update.ranges().len() == 4));
}

#[test]
fn r9_an_update_that_waits_for_ever_is_in_nobodys_way() {
    let mut document = document(&[A_1_0]);
    let before = document.encode().unwrap();
    let mut bytes = hex("01 01 02 00 84 09 00").to_vec();
    bytes.put_string(&"x".repeat(100_000));
    bytes.push(0);
    assert_eq!(missing(&mut document, bytes.into()), needs(9, 1));
    assert_eq!(document.encode().unwrap(), before);
}

#[test]
fn r10_deletes_of_what_is_not_there_yet_delete_nothing_later() {
    let mut document = document(&[A_1_0]);
    assert_eq!(missing(&mut document, hex("00 01 01 01 01 05")), needs(1, 2));
    assert_eq!(missing(&mut document, hex("00 01 05 01 00 01")), needs(5, 1));
    new(&mut document, hex("01 01 01 01 84 01 00 05 62 63 64 65 66 00"));
    assert_eq!(json(&mut document), serde_json::json!({"t": "abcdef"}));
}

#[test]
fn r11_whose_changes_an_update_has_is_told() {
    let mut document = document(&[A_1_0]);
    let forged = new(&mut document, hex("01 01 01 01 84 01 00 01 7a 00"));
    let ranges: Vec<_> = forged
        .ranges()
        .map(|range| (range.client, range.start, range.end))
        .collect();
    assert_eq!(ranges, [(ClientId(1), 1, 2)]);
}

#[test]
fn r12_what_is_behind_a_gap_is_not_shown() {
    let mut document = Document::new(Limits::default());
    assert_eq!(
        missing(&mut document, hex("0101096404010174017100")),
        needs(9, 100)
    );
    // Hidden behind a skip that pretends there is none.
    let hidden = hex("01 02 09 00 0a 64 04 01 01 74 01 71 00");
    assert_eq!(missing(&mut document, hidden.clone()), needs(9, 100));
    assert!(document.state_vector().is_empty());
    // When the gap is filled, the rest is taken, without the skip.
    let mut filling = hex("01 01 09 00 04 01 01 74").to_vec();
    filling.put_string(&"f".repeat(100));
    filling.push(0);
    new(&mut document, filling);
    assert_eq!(
        new(&mut document, hidden).bytes(),
        &hex("01 01 09 64 04 01 01 74 01 71 00")
    );
}

#[test]
fn characters_in_a_list_do_not_hang_its_reader() {
    // A list with a character that takes two UTF-16 units, beside XML and plain values.
    for first in ["07 01 01 74 03 01 70", "08 01 01 74 01 7d 01", "07 01 01 74 00"] {
        let mut bytes = hex("01 02 01 00").to_vec();
        bytes.extend(hex(first));
        bytes.extend(hex("84 01 00 04 f09f9880 00"));
        let mut document = Document::new(Limits::default());
        new(&mut document, bytes);
        assert!(document.content().unwrap().text(None).unwrap().is_some());
        assert!(json(&mut document)["t"].as_str().is_some());
    }
    // And in a list inside a map.
    let mut document = document(&["01 02 01 00 27 01 01 74 01 6b 00 04 00 01 00 04 f09f9880 00"]);
    assert_eq!(json(&mut document), serde_json::json!({"t": {"k": "\u{1f600}"}}));
}

#[test]
fn a_subdocument_in_a_deleted_type_uses_no_freed_memory() {
    // A map under a key, a subdocument in it; then the map is deleted. Only a memory checker sees it go wrong.
    let mut document = document(&["01 02 01 00 27 01 01 74 01 6b 01 29 00 01 00 01 73 01 67 76 00 00"]);
    assert_eq!(
        json(&mut document),
        serde_json::json!({"t": {"k": {"s": {"guid": "g"}}}})
    );
    new(&mut document, hex("00 01 01 01 00 01"));
    // The same in one batch.
    new(
        &mut document,
        hex("01 02 02 00 27 01 01 74 01 6c 01 29 00 02 00 01 73 01 67 76 00 00"),
    );
    new(&mut document, hex("00 01 02 01 00 01"));
    assert_eq!(json(&mut document), serde_json::json!({"t": {}}));
    document.snapshot().unwrap();
}

#[test]
fn structs_that_wait_for_each_other_never_enter() {
    let mut document = Document::new(Limits::default());
    // Each after the other, which may wait as in Yjs; and one after itself, or after its own future, which is refused.
    let each_other = hex("02 01 02 00 84 01 00 01 62 01 01 00 84 02 00 01 61 00");
    assert!(matches!(
        admit(&mut document, each_other),
        Ok(Admission::Early { .. })
    ));
    for own in ["01 01 01 00 84 01 00 01 61 00", "01 01 01 00 44 01 05 01 61 00"] {
        assert_eq!(
            admit(&mut document, hex(own)),
            Err(Refusal::Cyclic { client: ClientId(1) })
        );
    }
    assert!(document.state_vector().is_empty());
    // Crossing back and forth between clients is fine as long as there is an order.
    let zigzag = "02  02 02 00 84 01 00 01 62 84 01 01 01 64  02 01 00 04 01 01 74 01 61 84 02 00 01 63  00";
    new(&mut document, hex(zigzag));
    assert_eq!(json(&mut document), serde_json::json!({"t": "abcd"}));
}

#[test]
fn a_struct_between_neighbours_of_different_types_is_refused() {
    let mut document = document(&[A_1_0, "01 01 02 00 04 01 01 75 01 62 00"]);
    let torn = admit(&mut document, hex("01 01 03 00 c4 01 00 02 00 01 78 00"));
    assert_eq!(
        torn,
        Err(Refusal::InconsistentOrigins {
            client: ClientId(3),
            clock: 0
        })
    );
    // A collected neighbour beside one that is alive.
    new(&mut document, hex("01 01 04 00 00 01 00"));
    // As in Yjs, what stands beside something collected is collected.
    new(&mut document, hex("01 01 03 00 c4 04 00 01 00 01 78 00"));
    assert_eq!(
        dump(
            &document
                .diff(
                    &[(ClientId(1), 1), (ClientId(2), 1), (ClientId(4), 1)]
                        .into_iter()
                        .collect()
                )
                .unwrap()
        ),
        "3:0+1 gc\ndelete 4:0..1\ndelete 3:0..1\n"
    );
}

/// Where such a struct goes, Yjs finds in one way while it holds the right origin and the origin as one item, and in another when it
/// holds them apart. Undoing writes it too, and means: behind the origin.
#[test]
fn a_struct_before_what_it_stands_behind_goes_to_the_same_place_in_every_order() {
    let abc = "01 01 01 00 04 01 04 74 65 78 74 03 61 62 63 00";
    let parts = [
        "01 01 02 00 c4 01 00 01 01 01 58 00",
        "01 01 03 00 c4 01 01 01 02 01 58 00",
    ];
    for (astray, expected, taken) in [
        (
            "01 01 04 00 c4 01 01 01 01 01 59 00",
            "aXbXcY",
            "01 01 04 00 84 01 01 01 59 00",
        ),
        (
            "01 01 04 00 c4 01 02 01 01 01 59 00",
            "aXbXcY",
            "01 01 04 00 84 01 02 01 59 00",
        ),
        (
            "01 01 04 00 c4 01 02 01 00 01 59 00",
            "aXbXcY",
            "01 01 04 00 84 01 02 01 59 00",
        ),
    ] {
        for at in 0..=parts.len() {
            let mut document = document(&[abc]);
            let mut told = vec![document.encode().unwrap()];
            let (before, after) = parts.split_at(at);
            for part in before.iter().chain([&astray]).chain(after) {
                told.push(new(&mut document, hex(part)).bytes().clone());
            }
            assert!(told.contains(&hex(taken)));
            assert_eq!(json(&mut document), serde_json::json!({"text": expected}));
            // A client that hears one after the other, and one that hears all in another order.
            let replicas = [told.clone(), {
                let (first, rest) = told.split_first().unwrap();
                [first].into_iter().chain(rest.iter().rev()).cloned().collect()
            }];
            for updates in replicas {
                let mut replica = Replica::new(ClientId(9));
                for update in updates {
                    replica.apply(&update);
                }
                assert_eq!(replica.text(), expected);
            }
        }
    }
}

/// It names its own first tick as its right origin, which is known by then.
#[test]
fn a_struct_before_itself_is_refused_in_parts_too() {
    let mut document = document(&["01 01 04 00 04 01 04 74 65 78 74 01 61 00"]);
    for update in [
        "01 01 04 00 44 04 00 02 61 62 00",
        "01 01 04 00 44 04 01 02 61 62 00",
    ] {
        let refused = Err(Refusal::Cyclic { client: ClientId(4) });
        assert_eq!(admit(&mut document, hex(update)), refused);
    }
}

/// The same of what comes in one update, in parts, before what it builds on, and from the store.
#[test]
fn a_struct_before_what_it_stands_behind_is_known_however_it_comes() {
    let whole = "02  01 04 00 c4 01 01 01 00 01 59  01 01 00 04 01 04 74 65 78 74 03 61 62 63 00";
    let taken = "4:0+1 string after 1:1 \\x01Y\n";
    let (abc, astray) = (
        "01 01 01 00 04 01 04 74 65 78 74 03 61 62 63 00",
        "01 01 04 00 c4 01 01 01 00 01 59 00",
    );
    let mut at_once = document(&[whole]);
    let mut early = Document::new(Limits::default());
    let update = parse(hex(astray)).unwrap();
    assert!(matches!(early.admit(update.clone()), Ok(Admission::Early { .. })));
    early.park(update).unwrap();
    new(&mut early, hex(abc));
    assert_eq!(early.take_ready([ClientId(1)].into_iter()).unwrap().len(), 1);
    let mut loaded = Document::load(Limits::default(), [hex(abc), hex(astray)]).unwrap();
    for document in [&mut at_once, &mut early, &mut loaded] {
        let lacking = document.diff(&[(ClientId(1), 3)].into_iter().collect()).unwrap();
        assert_eq!(dump(&lacking), taken);
        assert_eq!(json(document), serde_json::json!({"text": "abcY"}));
    }
}

/// Inserted before what the same client wrote earlier: the clocks are the wrong way round, the places are not.
#[test]
fn a_right_origin_of_a_lower_clock_is_kept_where_it_stands_behind() {
    let mut document = document(&[
        "01 01 01 00 04 01 04 74 65 78 74 01 62 00",
        "01 01 01 01 44 01 00 01 61 00",
    ]);
    let between = hex("01 01 02 00 c4 01 01 01 00 01 58 00");
    assert_eq!(new(&mut document, between.clone()).bytes(), &between);
    assert_eq!(json(&mut document), serde_json::json!({"text": "aXb"}));
}

#[test]
fn several_values_at_once_under_a_key_are_refused_when_they_live() {
    let mut document = Document::new(Limits::default());
    let live = hex("01 03 07 00 07 01 01 61 01 24 00 07 00 01 6c 05 64 65 66 67 68 84 07 02 01 78 00");
    assert!(matches!(
        admit(&mut document, live),
        Err(Refusal::LongUnderKey { clock: 1, .. })
    ));
    assert!(document.state_vector().is_empty());
    new(
        &mut document,
        hex("01 02 07 00 07 01 01 61 01 21 00 07 00 01 6c 05 00"),
    );
}

#[test]
fn what_is_complete_enters_before_what_is_not() {
    // Client 2 writes "m" and needs nothing; of client 1 the clocks 0 and 1 are missing.
    let mut document = Document::new(Limits::default());
    let Ok(Admission::Partly { new, early, missing }) = admit(
        &mut document,
        hex("02 01 02 00 04 01 04 6d696e65 01 6d 01 01 02 84 01 01 01 43 00"),
    ) else {
        panic!("not partly new");
    };
    assert_eq!(dump(new.bytes()), "2:0+1 string in \"mine\" \\x01m\n");
    assert_eq!(dump(early.bytes()), "1:2+1 string after 1:1 \\x01C\n");
    assert_eq!((missing.client, missing.clock), (ClientId(1), 2));
    self::new(&mut document, hex("01 01 01 00 04 01 01 74 02 41 42 00"));
    self::new(&mut document, early.bytes().clone());
    assert_eq!(json(&mut document), serde_json::json!({"mine": "m", "t": "ABC"}));
}

#[test]
fn the_content_of_what_is_deleted_goes_and_what_was_in_it_is_collected() {
    // A list with a map and a text behind it; the map has a value, which another client's value replaces.
    let parts = [
        "01 03 01 00 07 01 01 6c 01 28 00 01 00 01 6b 01 7e 84 01 00 03 61 62 63 00",
        "01 01 02 00 a8 01 01 01 78 00",
    ];
    let mut document = document(&parts);
    assert_eq!(
        dump(&document.encode().unwrap()),
        "2:0+1 any after 1:1 \\x01x\n1:0+1 type in \"l\" \\x01\n1:1+1 deleted in 1:0 at \"k\" \\x01\n1:2+3 string after 1:0 \\x03abc\ndelete 1:1..2\n"
    );
    new(&mut document, hex("00 01 01 02 00 01 03 01"));
    assert_eq!(
        dump(&document.encode().unwrap()),
        "2:0+1 gc\n1:0+1 deleted in \"l\" \\x01\n1:1+1 gc\n1:2+1 string after 1:0 \\x01a\n1:3+1 deleted after 1:2 \\x01\n1:4+1 string after 1:3 \\x01c\ndelete 2:0..1\ndelete 1:0..2\ndelete 1:3..4\n"
    );
}

#[test]
fn a_parent_that_is_no_type_is_refused_and_one_that_is_gone_collects() {
    let mut document = document(&[A_1_0]);
    let child = hex("01 01 02 00 04 00 01 00 01 78 00");
    assert_eq!(
        admit(&mut document, child.clone()),
        Err(Refusal::ParentNotAType {
            client: ClientId(2),
            clock: 0
        })
    );
    // The same in the batch in which its parent is deleted.
    new(&mut document, hex("00 01 01 01 00 01"));
    assert!(admit(&mut document, child).is_err());
    // A parent that arrived without its content may have been a type.
    new(&mut document, hex("01 01 05 00 01 01 01 74 01 01 05 01 00 01"));
    new(&mut document, hex("01 01 06 00 04 00 05 00 01 78 00"));
    assert_eq!(
        *document.state_vector(),
        [(1, 1), (5, 1), (6, 1)]
            .map(|(c, n)| (ClientId(c), n))
            .into_iter()
            .collect()
    );
}

#[test]
fn what_nobody_knows_is_refused() {
    // An unknown type, kind, parent and value; bytes after the end; text that is not UTF-8.
    for bytes in [
        "01 01 01 00 07 01 01 74 09 00",
        "01 01 01 00 0b 01 01 74 00",
        "01 01 01 00 14 01 01 74 01 61 00",
        "01 01 01 00 04 02 01 74 01 61 00",
        "01 01 01 00 08 01 01 74 01 10 00",
    ] {
        assert!(
            matches!(parse(hex(bytes)), Err(DecodeError::UnknownTag { .. })),
            "{bytes}"
        );
    }
    assert!(matches!(
        parse(hex("00 00 00")),
        Err(DecodeError::TrailingBytes { position: 2 })
    ));
    assert!(parse(hex("01 01 01 00 04 01 01 74 01 ff 00")).is_err());
    // What cannot be read as JSON is kept all the same.
    assert!(parse(hex("01 01 01 00 05 01 01 74 01 7b 00")).is_ok());
    for bytes in [
        "02 01 01 00 00 01 01 01 01 00 01 00",
        "00 02 01 01 00 01 01 01 02 01",
    ] {
        assert_eq!(
            parse(hex(bytes)),
            Err(DecodeError::DuplicateClient { client: ClientId(1) }),
            "{bytes}"
        );
    }
}

#[test]
fn client_ids_of_53_bits_are_told_apart() {
    let mut document = Document::new(Limits::default());
    new(
        &mut document,
        hex("01 01 ffffffffffffff0f 00 04 01 01 74 01 61 00"),
    );
    assert!(parse(hex("01 01 8080808080808010 00 04 01 01 74 01 61 00")).is_err());
    new(
        &mut document,
        hex("01 01 ffffffff0f 00 84 ffffffffffffff0f 00 01 62 00"),
    );
    assert_eq!(json(&mut document), serde_json::json!({"t": "ab"}));
    assert_eq!(document.state_vector().get(ClientId::MAX), 1);
}

#[test]
fn a_big_integer_stays_one_for_those_who_get_it_now() {
    let mut document = Document::new(Limits::default());
    let bytes = hex("01 01 01 00 28 01 01 74 01 6b 01 7a 0000000000000009 00");
    assert_eq!(new(&mut document, bytes.clone()).bytes(), &bytes);
    assert_eq!(json(&mut document), serde_json::json!({"t": {"k": 9}}));
}

#[test]
fn obsolete_json_content_is_passed_on_as_it_came() {
    let mut document = Document::new(Limits::default());
    let json_content = hex("01 01 01 00 02 01 01 74 03 01 31 09 756e646566696e6564 07 7b2261223a317d 00");
    let passed_on = new(&mut document, json_content.clone());
    assert_eq!(passed_on.bytes(), &json_content);
    assert_eq!(json(&mut document), serde_json::json!({"t": [1, null, {"a": 1}]}));
    assert_eq!(admit(&mut document, json_content), Ok(Admission::Known));
}

#[test]
fn a_partly_known_text_is_cut_as_yjs_cuts_it() {
    // "a" and half of a surrogate pair are known; the author's text is whole.
    let mut document = document(&["01 01 01 00 04 01 01 74 04 61 efbfbd 00"]);
    let whole = hex("01 01 01 00 04 01 01 74 06 61 f09f9880 62 00");
    let rest = new(&mut document, whole);
    assert_eq!(
        dump(rest.bytes()),
        "1:2+2 string after 1:1 \\x04\\xef\\xbf\\xbdb\n"
    );
    assert_eq!(
        json(&mut document),
        serde_json::json!({"t": "a\u{fffd}\u{fffd}b"})
    );
}

#[test]
fn every_kind_that_can_be_cut_is_cut() {
    for (known, whole, rest) in [
        // What comes deleted is named as deleted, as Yjs does.
        ("00 01", "00 03", "1:1+2 gc\ndelete 1:1..3\n"),
        (
            "01 01 01 74 01",
            "01 01 01 74 03",
            "1:1+2 deleted after 1:0 \\x02\ndelete 1:1..3\n",
        ),
        (
            "08 01 01 74 01 7e",
            "08 01 01 74 03 7e 7f 78",
            "1:1+2 any after 1:0 \\x02\\x7fx\n",
        ),
        (
            "02 01 01 74 01 01 31",
            "02 01 01 74 02 01 31 01 32",
            "1:1+1 json after 1:0 \\x01\\x012\n",
        ),
        (
            "04 01 01 74 01 61",
            "04 01 01 74 03 61 62 63",
            "1:1+2 string after 1:0 \\x02bc\n",
        ),
    ] {
        let mut document = document(&[&format!("01 01 01 00 {known} 00")]);
        let update = new(&mut document, hex(&format!("01 01 01 00 {whole} 00")));
        assert_eq!(dump(update.bytes()), rest);
    }
}

#[test]
fn values_under_one_key_are_not_merged_into_one() {
    let mut document = Document::new(Limits::default());
    let first = new(&mut document, hex("01 01 01 00 28 01 01 74 01 6b 01 7d 01 00"));
    let second = new(&mut document, hex("01 01 01 01 a8 01 00 01 7d 02 01 01 01 00 01"));
    let merged = merge([&first, &second]);
    assert_eq!(dump(merged.bytes()).lines().count(), 3);
    let mut client = Document::new(Limits::default());
    client.admit(merged).unwrap();
    assert_eq!(json(&mut client), serde_json::json!({"t": {"k": 2}}));
}

#[test]
fn typing_is_merged_into_one_text() {
    let mut replica = Replica::new(ClientId(1));
    let mut document = Document::new(Limits::default());
    let typed: Vec<_> = "typing 😀"
        .chars()
        .enumerate()
        .map(|(at, character)| new(&mut document, replica.insert(at as u32, &character.to_string())))
        .collect();
    assert_eq!(
        dump(merge(&typed).bytes()),
        format!(
            "1:0+9 string in \"text\" {}\n",
            "\\x0btyping \\xf0\\x9f\\x98\\x80"
        )
    );
}

#[test]
fn random_bytes_are_refused_or_parsed() {
    let mut random = Random::new(3);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(48))
            .map(|_| (random.bits() & random.bits()) as u8)
            .collect();
        if let Ok(update) = parse(bytes) {
            drop(Document::new(Limits::default()).admit(update));
        }
    }
}

#[test]
fn a_document_that_broke_says_so_from_then_on() {
    let mut document = document(&[A_1_0]);
    new(&mut document, hex("01 01 01 01 84 01 00 01 62 00"));
    document.break_at_next_encode();
    assert_eq!(document.encode(), Err(pageroom_crdt::ApplyError::Failed));
    assert!(admit(&mut document, hex("01 01 05 00 04 01 01 74 01 61 00")).is_err());
}

#[test]
fn a_load_says_which_part_is_to_blame() {
    use pageroom_crdt::LoadError;
    let load =
        |parts: &[&str]| Document::load(Limits::default(), parts.iter().map(|part| hex(part))).map(drop);
    assert!(matches!(
        load(&[A_1_0, "07"]),
        Err(LoadError::Malformed { part: 1, .. })
    ));
    let after = "01 01 01 01 84 01 00 01 62 00";
    assert_eq!(load(&[after, A_1_0]), Ok(()));
    // What is not there yet may come: it waits, and is part of what is stored and told.
    assert_eq!(load(&[after]), Ok(()));
    let mut waiting = Document::load(Limits::default(), [hex(after)]).unwrap();
    assert!(waiting.state_vector().is_empty());
    assert_eq!(waiting.encode().unwrap(), hex(after));
    let snapshot = waiting.snapshot().unwrap();
    let mut again = Document::asleep(Limits::default(), snapshot.state, &snapshot.state_vector).unwrap();
    new(&mut again, hex(A_1_0));
    let ready = again.take_ready([ClientId(1)].into_iter()).unwrap();
    assert_eq!(ready.len(), 1);
    assert_eq!(again.state_vector().get(ClientId(1)), 2);
    assert!(matches!(
        load(&[A_1_0, "01 01 02 00 04 00 01 00 01 78 00"]),
        Err(LoadError::Inconsistent { part: 1, .. })
    ));
    // A sleeping document whose state is not what its state vector says.
    let mut document = Document::asleep(Limits::default(), hex(A_1_0), &[1, 1, 2]).unwrap();
    assert!(document.encode().is_ok());
    assert!(admit(&mut document, hex(after)).is_err());
}

/// Newer Yjs clients write characters straight into an element; the document library's own walk over its children never ends then.
#[test]
fn characters_straight_in_an_element_are_read_as_its_text() {
    let mut document = Document::new(Limits::default());
    new(
        &mut document,
        hex("01 02 05 00 07 01 03 78 6d 6c 03 01 70 04 00 05 00 04 f0 9f 98 80 00"),
    );
    let content = document.content().unwrap();
    assert_eq!(
        content.json(None).unwrap(),
        Some(serde_json::json!({ "xml": "<p>😀</p>" }))
    );
    assert_eq!(content.text(None).unwrap().as_deref(), Some("😀"));
}

/// "a", "b", "c" and "d" of client 1, one update each.
const LETTERS: [&str; 4] = [
    "01 01 01 00 04 01 01 74 01 61 00",
    "01 01 01 01 84 01 00 01 62 00",
    "01 01 01 02 84 01 01 01 63 00",
    "01 01 01 03 84 01 02 01 64 00",
];

fn parked(document: &mut Document, update: Bytes) -> bool {
    match document.admit(parse(update).unwrap()).unwrap() {
        Admission::Early { update, .. } => document.park(update).unwrap(),
        admission @ (Admission::New(_) | Admission::Known | Admission::Partly { .. }) => {
            panic!("{admission:?}")
        }
    }
}

#[test]
fn what_is_parked_is_told_to_those_who_lack_it() {
    let [a, b, c, d] = LETTERS.map(hex);
    let mut document = Document::new(Limits::default());
    new(&mut document, a);
    let admitted = document.encode().unwrap();
    assert!(parked(&mut document, c.clone()));
    assert!(parked(&mut document, d.clone()));
    // The deletion of "d" waits for it.
    assert!(parked(&mut document, hex("00 01 01 01 03 01")));
    let whole = document.encode().unwrap();
    let mut newcomer = Document::load(Limits::default(), [whole.clone()]).unwrap();
    assert_eq!(newcomer.state_vector().get(ClientId(1)), 1);
    assert_eq!(newcomer.encode().unwrap(), whole, "the same waits there");
    // Who knows some of it gets the rest, and no one more than that.
    let has = |clock| [(ClientId(1), clock)].into_iter().collect();
    assert_eq!(
        document.diff(&has(1)).unwrap(),
        hex("01 02 01 02 84 01 01 01 63 84 01 02 01 64 01 01 01 03 01")
    );
    assert_eq!(
        document.diff(&has(3)).unwrap(),
        hex("01 01 01 03 84 01 02 01 64 01 01 01 03 01")
    );
    assert_eq!(document.diff(&has(4)).unwrap(), hex("00 01 01 01 03 01"));
    assert_eq!(document.admitted_since(&has(0)).unwrap(), admitted);
    // The missing part completes both.
    for document in [&mut document, &mut newcomer] {
        new(document, b.clone());
        document.take_ready([ClientId(1)].into_iter()).unwrap();
        assert_eq!(document.pending_bytes(), 0);
        assert_eq!(document.state_vector().get(ClientId(1)), 4);
        assert_eq!(
            document.content().unwrap().text(None).unwrap().as_deref(),
            Some("abc")
        );
    }
}

#[test]
fn a_skip_at_the_end_of_structs_is_not_passed_on() {
    let mut document = document(&[]);
    let update = new(&mut document, hex("01 02 01 00 04 01 01 74 01 61 0a 03 00"));
    let ends: Vec<_> = update.ranges().map(|range| range.end).collect();
    assert_eq!((ends, document.state_vector().get(ClientId(1))), (vec![1], 1));
}

#[test]
fn what_waits_never_takes_the_place_of_what_is_there() {
    let mut document = document(&[]);
    // Three letters of client 2, which has written nothing yet, behind one that nobody has.
    assert!(parked(&mut document, hex("01 01 02 00 84 09 00 03 78 79 7a 00")));
    let honest = new(&mut document, hex("01 01 02 00 04 01 01 74 01 61 00"));
    for state in [
        document.encode().unwrap(),
        document.diff(&[(ClientId(7), 1)].into_iter().collect()).unwrap(),
    ] {
        let mut loaded = Document::load(Limits::default(), [state]).unwrap();
        assert_eq!(loaded.contains(&honest), Ok(true));
        assert!(json(&mut loaded)["t"].as_str().unwrap().starts_with('a'));
    }
}

#[test]
fn what_waits_already_is_not_kept_again_however_it_is_put_together() {
    let [a, b, c, d] = LETTERS.map(hex);
    let mut document = Document::new(Limits::default());
    new(&mut document, a);
    assert!(parked(&mut document, c.clone()));
    let bytes = document.pending_bytes();
    assert!(!parked(&mut document, c.clone()));
    assert_eq!(document.pending_bytes(), bytes);
    // Only what is new of a larger piece is kept.
    let both = merge([&parse(c).unwrap(), &parse(d.clone()).unwrap()]);
    assert!(parked(&mut document, both.bytes().clone()));
    assert!(document.pending_bytes() <= 2 * bytes);
    let bytes = document.pending_bytes();
    let whole = document.encode().unwrap();
    assert!(document.contains(&parse(whole.clone()).unwrap()).unwrap());
    for again in [d, whole] {
        match document.admit(parse(again).unwrap()).unwrap() {
            Admission::Early { update, .. } => assert!(!document.park(update).unwrap()),
            admission @ (Admission::New(_) | Admission::Known | Admission::Partly { .. }) => {
                panic!("{admission:?}")
            }
        }
    }
    assert_eq!(document.pending_bytes(), bytes);
    new(&mut document, b);
    document.take_ready([ClientId(1)].into_iter()).unwrap();
    assert_eq!(document.pending_bytes(), 0);
    assert_eq!(
        document.content().unwrap().text(None).unwrap().as_deref(),
        Some("abcd")
    );
}

#[test]
fn what_waits_already_has_a_place_also_when_there_is_no_more() {
    let [_, b, c, d] = LETTERS.map(hex);
    let limits = Limits {
        max_pending_bytes: 400,
        ..Limits::default()
    };
    let mut document = Document::new(limits);
    assert!(parked(&mut document, b.clone()));
    assert!(parked(&mut document, c.clone()));
    let full = document.admit(parse(d).unwrap()).unwrap();
    let Admission::Early { update, .. } = full else {
        panic!("{full:?}")
    };
    assert!(document.park(update).is_err());
    let both = merge([&parse(b).unwrap(), &parse(c).unwrap()]);
    assert!(!parked(&mut document, both.bytes().clone()));
}

/// Somebody may have the struct as it was before it was deleted.
#[test]
fn what_came_early_and_deleted_is_told_as_deleted() {
    let mut document = document(&[]);
    // Client 1's first struct is deleted, and stands behind one of client 2 that is not there.
    let early = parse(hex("0101010081020001 0101010001")).unwrap();
    document.park(early).unwrap();
    new(&mut document, hex("01010200040101740178 00"));
    let ready = document.take_ready([ClientId(2)].into_iter()).unwrap();
    let told = merge(&ready);
    assert_eq!(told.ranges().len(), 1);
    assert!(told.has_deletes(), "{}", dump(told.bytes()));
}
