//! Places in documents as editors make them, in both forms.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Save;
use crate::state_vector::ClientId;
use crate::testing::{Random, Replica};

fn view(updates: &[&[u8]]) -> View {
    let mut view = View::new(true);
    for update in updates {
        view.apply(update).expect("an update");
    }
    view
}

/// A page with this content of ProseMirror's.
fn page(content: &Value) -> View {
    let save = Save {
        content: json!({ "type": "doc", "content": content }),
        format: Some(Format::Prosemirror),
        default_format: Format::Html,
        field: None,
        candidates: Vec::new(),
        had_current: false,
    };
    let merged = View::new(true).merge(ClientId(7), &save).expect("a save");
    view(&[&merged.update])
}

fn other(view: &View, place: Place) -> Option<Place> {
    let places = view.places(&[place], Format::Html).expect("places");
    places.into_iter().next().flatten()
}

fn position(view: &View, field: Option<&str>, at: u32) -> Option<RelativePosition> {
    let field = field.map(str::to_owned);
    match other(view, Place::Offset(Offset { field, at }))? {
        Place::Position(position) => Some(position),
        Place::Offset(_) => panic!("the other form was asked for"),
    }
}

fn offset(view: &View, position: &RelativePosition) -> Option<(Option<String>, u32)> {
    match other(view, Place::Position(position.clone()))? {
        Place::Offset(offset) => Some((offset.field, offset.at)),
        Place::Position(_) => panic!("the other form was asked for"),
    }
}

fn json_of(position: &Option<RelativePosition>) -> Value {
    serde_json::to_value(position).expect("JSON")
}

#[test]
fn places_in_text_count_utf16_units_and_stay_before_what_they_were_before() {
    let mut ada = Replica::new(ClientId(1));
    ada.insert(0, "a😀b");
    let before = view(&[&ada.encode()]);
    let b = position(&before, None, 3);
    assert_eq!(
        json_of(&b),
        json!({ "type": null, "tname": "text", "item": { "client": 1, "clock": 3 }, "assoc": 0 })
    );
    let end = position(&before, None, 4);
    assert_eq!(
        json_of(&end),
        json!({ "type": null, "tname": "text", "item": null, "assoc": 0 })
    );
    assert_eq!(position(&before, None, 400), end, "a longer text than there is");
    let mut ben = Replica::new(ClientId(2));
    ben.apply(&ada.encode());
    ben.insert(0, "日本");
    ada.insert(1, "🎉");
    ada.apply(&ben.encode());
    let after = view(&[&ada.encode()]);
    let [b, end] = [b, end].map(|place| place.expect("a place"));
    assert_eq!(offset(&after, &b), Some((None, 7)));
    assert_eq!(offset(&after, &end), Some((None, 8)));
    ada.replace(6, 2, "");
    let after = view(&[&ada.encode()]);
    assert_eq!(offset(&after, &b), Some((None, 6)), "what it was before is gone");
}

#[test]
fn places_are_in_the_field_that_holds_the_content_or_in_one_that_is_named() {
    let mut ada = Replica::new(ClientId(1));
    ada.insert(0, "text");
    let page = view(&[&ada.encode()]);
    assert_eq!(position(&page, None, 1), position(&page, Some("text"), 1));
    assert_eq!(position(&page, Some("map"), 1), None);
    assert_eq!(position(&page, Some("nothing"), 1), None);
    assert_eq!(position(&View::new(true), None, 0), None);
    // What holds the content is known by its name.
    let text: Value = json!([{ "type": "paragraph", "content": [{ "type": "text", "text": "a page" }] }]);
    let save = Save {
        content: json!({ "type": "doc", "content": text }),
        format: Some(Format::Prosemirror),
        default_format: Format::Html,
        field: None,
        candidates: Vec::new(),
        had_current: false,
    };
    let saved = View::new(true).merge(ClientId(7), &save).expect("a save").update;
    let page = view(&[&ada.encode(), &saved]);
    let in_text = position(&page, Some("text"), 1).expect("a place");
    assert_eq!(offset(&page, &in_text), Some((Some("text".to_owned()), 1)));
    let in_page = position(&page, None, 3).expect("a place");
    assert_eq!(offset(&page, &in_page), Some((None, 3)));
}

#[test]
fn nothing_is_at_places_that_the_page_does_not_have() {
    let mut ada = Replica::new(ClientId(1));
    ada.insert(0, "text");
    let page = view(&[&ada.encode()]);
    for stranger in [
        json!({ "item": { "client": 2, "clock": 0 } }),
        json!({ "item": { "client": 1, "clock": 4 } }),
        json!({ "type": { "client": 1, "clock": 0 } }),
        json!({ "type": { "client": 9_007_199_254_740_993_u64, "clock": 0 } }),
        json!({ "tname": "elsewhere" }),
        json!({}),
    ] {
        let place: RelativePosition = serde_json::from_value(stranger.clone()).expect("a place");
        assert_eq!(offset(&page, &place), None, "{stranger}");
    }
}

/// The document of ProseMirror's guide: numbers are between its tokens.
fn guide() -> Value {
    json!([
        { "type": "paragraph", "content": [{ "type": "text", "text": "One" }] },
        { "type": "blockquote", "content": [
            { "type": "paragraph", "content": [{ "type": "text", "text": "Two" }, { "type": "image" }] },
        ] },
        { "type": "paragraph" },
        { "type": "horizontalRule" },
        { "type": "paragraph", "content": [
            { "type": "text", "text": "😀" }, { "type": "hardBreak" }, { "type": "text", "text": "x" },
        ] },
    ])
}

#[test]
fn numbers_in_xml_are_positions_of_prosemirror() {
    let page = page(&guide());
    // <p>One</p><blockquote><p>Two<img></p></blockquote><p></p><hr><p>😀<br>x</p>
    let end = 5 + 8 + 2 + 1 + 6;
    let there: Vec<_> = (0..=end + 3)
        .map(|at| position(&page, None, at).expect("a place"))
        .collect();
    for (at, place) in (0..=end + 3).zip(&there) {
        assert_eq!(offset(&page, place), Some((None, at.min(end))), "{at}");
    }
    let items: Vec<_> = there
        .iter()
        .map(|place| place.item.map(|item| item.clock))
        .collect();
    let distinct: std::collections::BTreeSet<_> = (there.iter().take(end as usize + 1))
        .map(|place| json_of(&Some(place.clone())).to_string())
        .collect();
    assert_eq!(distinct.len(), end as usize + 1, "{items:?}");
}

/// The same document, with the names of the basic schema, as y-prosemirror 1.3.7 makes it under client id 7.
const BY_Y_PROSEMIRROR: &str = "0111070007010764656661756c740309706172616772617068070007000604000701034f6e65870700030a626c6f636b71756f\
    74650700070503097061726167726170680700070606040007070354776f8707070305696d6167652800070b0373726301770178870705030970617261677261706887\
    070d030f686f72697a6f6e74616c5f72756c6587070e03097061726167726170680700070f060400071004f09f9880870710030a686172645f627265616b870713060400\
    0714017800";

/// Where its `absolutePositionToRelativePosition` says that positions 0 to 22 are: the type and the item by their clocks.
const ABSOLUTE_TO_RELATIVE: [(Option<u32>, Option<u32>); 23] = [
    (None, Some(0)),
    (Some(1), Some(2)),
    (Some(1), Some(3)),
    (Some(1), Some(4)),
    (Some(1), None),
    (None, Some(5)),
    (Some(5), Some(6)),
    (Some(7), Some(8)),
    (Some(7), Some(9)),
    (Some(7), Some(10)),
    (Some(7), None),
    (Some(6), None),
    (Some(5), None),
    (None, Some(13)),
    (Some(13), None),
    (None, Some(14)),
    (None, Some(15)),
    (Some(16), Some(17)),
    (Some(16), Some(18)),
    (Some(16), None),
    (Some(20), Some(21)),
    (Some(20), None),
    (None, None),
];

#[test]
fn positions_are_those_of_y_prosemirror() {
    let hex: Vec<_> = BY_Y_PROSEMIRROR.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digits = hex
        .chunks(2)
        .map(|two| std::str::from_utf8(two).expect("two digits"));
    let update: Vec<_> = digits
        .map(|two| u8::from_str_radix(two, 16).expect("a byte"))
        .collect();
    let page = view(&[&update]);
    for (at, (kind, item)) in (0..).zip(ABSOLUTE_TO_RELATIVE) {
        let id = |clock: Option<u32>| clock.map(|clock| json!({ "client": 7, "clock": clock }));
        let tname = kind.is_none().then_some("default");
        let relative = json!({ "type": id(kind), "tname": tname, "item": id(item), "assoc": 0 });
        let place = position(&page, None, at);
        assert_eq!(json_of(&place), relative, "at {at}");
        assert_eq!(offset(&page, &place.expect("a place")), Some((None, at)));
    }
}

proptest! {
    /// Whatever somebody says a place is, it is one of the page or none.
    #[test]
    fn any_relative_position_is_a_place_of_the_page_or_none(
        seed in 0..u64::MAX,
        places in proptest::collection::vec(
            (proptest::option::of((0..3_u64, 0..60_u32)), proptest::option::of((0..3_u64, 0..60_u32)), 0..5_usize, -1..2),
            30,
        ),
    ) {
        let mut random = Random::new(seed);
        let mut ada = Replica::new(ClientId(1));
        for _ in 0..20 {
            ada.edit(&mut random);
        }
        let page = view(&[&ada.encode()]);
        let id = |id: Option<(u64, u32)>| id.map(|(client, clock)| json!({ "client": client, "clock": clock }));
        let places = places.into_iter().map(|(kind, item, name, assoc)| {
            let name = ["text", "xml", "map", "array", "nothing"].get(name);
            let place = json!({ "type": id(kind), "item": id(item), "tname": name, "assoc": assoc });
            Place::Position(serde_json::from_value(place).expect("a place"))
        });
        let places: Vec<_> = places.collect();
        let other = page.places(&places, Format::Text).expect("the document library finds them or not");
        let end = 10_000;
        for place in other.into_iter().flatten() {
            let Place::Offset(offset) = place else { panic!("the other form was asked for") };
            prop_assert!(offset.at < end, "{offset:?}");
        }
    }

    #[test]
    fn a_number_becomes_the_same_number_again(seed in 0..u64::MAX) {
        let mut random = Random::new(seed);
        let mut ada = Replica::new(ClientId(1));
        for _ in 0..20 {
            ada.edit(&mut random);
        }
        let page = view(&[&ada.encode()]);
        let length = u32::try_from(ada.text().encode_utf16().count()).expect("a small number");
        for at in 0..=length {
            if let Some(place) = position(&page, Some("text"), at) {
                let (_, again) = offset(&page, &place).expect("the page has it");
                prop_assert_eq!(again, at);
            }
        }
        for at in 0..200 {
            if let Some(place) = position(&page, Some("xml"), at) {
                let (_, again) = offset(&page, &place).expect("the page has it");
                prop_assert!(again <= at);
                let here = position(&page, Some("xml"), again).expect("a place");
                prop_assert_eq!(offset(&page, &here).map(|(_, at)| at), Some(again));
            }
        }
    }
}
