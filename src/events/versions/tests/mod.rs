//! What authors may have had.

mod crossings;

use serde_json::value::RawValue;

use super::*;
use crate::events::desk::nearest_of;

const ADA: SocketId = SocketId(1);
const BEN: SocketId = SocketId(2);

fn versions() -> Versions {
    Versions::new(VersionLimits {
        count: 3,
        bytes: 10_000,
    })
}

fn text(text: &str) -> Content {
    let json = serde_json::Value::from(text).to_string();
    RawValue::from_string(json).expect("JSON").into()
}

fn contents(bases: &Bases) -> Vec<String> {
    let contents = bases.contents.iter();
    let text = |content: &Content| serde_json::from_str(content.get()).expect("a text");
    contents.map(text).collect()
}

/// A save of `content`, made from `base` for certain, of which `outcome` came.
fn save(versions: &mut Versions, author: SocketId, content: &str, base: Option<&str>, outcome: (Seq, &str)) {
    let (content, base, merged) = (text(content), base.map(text), text(outcome.1));
    versions.saved(
        author,
        SavedContent {
            content: &content,
            base: base.as_ref(),
            is_certain: true,
            outcome: (outcome.0, &merged),
            differs: content.get() != merged.get(),
        },
    );
}

#[test]
fn an_author_had_what_it_saved_what_it_was_sent_or_something_of_before_it_came() {
    let mut versions = versions();
    versions.learn(1, &text("1"));
    versions.learn(2, &text("2"));
    versions.came(ADA, false);
    assert_eq!(contents(&versions.bases(ADA)), ["2", "1"]);
    versions.learn(3, &text("3"));
    assert_eq!(contents(&versions.bases(ADA)), ["2", "1"], "it was not sent this");
    assert_eq!(versions.send_latest(None), [ADA]);
    assert_eq!(versions.send_latest(None), [], "it has it now");
    assert_eq!(contents(&versions.bases(ADA)), ["3", "2", "1"]);
    save(&mut versions, ADA, "mine", Some("2"), (4, "3 and mine"));
    assert_eq!(
        contents(&versions.bases(ADA)),
        ["mine", "3"],
        "the third was on its way"
    );
    assert_eq!(versions.send_latest(None), [ADA], "it came out otherwise");
    assert_eq!(contents(&versions.bases(ADA)), ["3 and mine", "mine", "3"]);
    let more = "3 and mine and more";
    save(&mut versions, ADA, more, Some("3 and mine"), (5, more));
    assert_eq!(
        contents(&versions.bases(ADA)),
        [more],
        "what it takes away again is gone"
    );
    assert_eq!(versions.send_latest(None), [], "it came out as it was saved");
    assert_eq!(versions.latest().map(|(seq, _)| seq), Some(5));
    assert!(versions.bases(BEN).contents.is_empty());
}

#[test]
fn what_somebody_has_saved_may_come_back_with_it_over_another_connection() {
    let mut versions = versions();
    versions.learn(1, &text("1"));
    versions.came(ADA, false);
    save(&mut versions, ADA, "1 mine", Some("1"), (2, "1 theirs mine"));
    versions.went(ADA);
    versions.came(BEN, false);
    assert_eq!(contents(&versions.bases(BEN)), ["1 theirs mine", "1 mine", "1"]);
    assert_eq!(versions.latest().map(|(seq, _)| seq), Some(2));
    assert_eq!(
        versions.at(2).map(|content| content.get()),
        Some("\"1 theirs mine\"")
    );
    // Of one author only what it has saved last.
    save(
        &mut versions,
        BEN,
        "1 mine more",
        Some("1 mine"),
        (3, "1 theirs mine more"),
    );
    save(
        &mut versions,
        BEN,
        "1 mine most",
        Some("1 mine more"),
        (4, "1 theirs mine most"),
    );
    versions.went(BEN);
    versions.came(ADA, false);
    let bases = contents(&versions.bases(ADA));
    assert_eq!(bases, ["1 theirs mine most", "1 mine most", "1 theirs mine more"]);
}

#[test]
fn who_has_heard_what_it_was_sent_is_certain_to_have_had_that() {
    let mut versions = versions();
    versions.came(ADA, true);
    versions.pinged(ADA, 1);
    versions.pinged(ADA, 2);
    versions.learn(1, &text("1"));
    assert_eq!(versions.send_latest(None), [ADA]);
    versions.pinged(ADA, 3);
    for number in [1, 2] {
        versions.answered(ADA, number);
        assert!(
            !versions.bases(ADA).are_certain,
            "it was asked before it was sent anything"
        );
    }
    versions.pinged(ADA, 4);
    versions.answered(ADA, 3);
    let bases = versions.bases(ADA);
    assert!(bases.are_certain);
    assert_eq!(contents(&bases), ["1"]);
}

#[test]
fn who_goes_on_in_another_form_takes_along_what_it_may_have_had() {
    let (mut before, mut after) = (versions(), versions());
    before.learn(1, &text("1"));
    before.came(ADA, false);
    assert_eq!(before.send_latest(None), [ADA]);
    before.learn(2, &text("2"));
    let carried = before.carried(ADA);
    assert!(!carried.has_latest);
    after.learn(2, &text("2"));
    after.went_on(ADA, carried);
    let bases = after.bases(ADA);
    assert!(bases.are_certain);
    assert_eq!(contents(&bases), ["1"], "it has not been sent the second");
    assert_eq!(after.send_latest(None), [ADA]);
    assert_eq!(contents(&after.bases(ADA)), ["2", "1"]);
    save(&mut after, ADA, "1 more", Some("1"), (3, "2 more"));
    assert_eq!(contents(&after.bases(ADA)), ["1 more", "2"], "nothing older");
    after.went_on(BEN, Carried::nothing());
    assert!(!after.bases(BEN).are_certain && after.bases(BEN).contents.is_empty());
    let huge = text(&"x".repeat(20_000));
    after.went(BEN);
    let carried = Carried {
        bases: Bases {
            contents: vec![huge],
            has_nothing: false,
            are_certain: true,
            lacks_some: false,
        },
        has_latest: true,
    };
    after.went_on(BEN, carried);
    assert!(!after.bases(BEN).are_certain, "it is too much to be kept");
    assert!(after.bytes <= 10_000);
}

#[test]
fn who_came_to_an_empty_page_is_not_certain_to_have_had_anything_before_its_first_save() {
    let mut versions = versions();
    versions.came(ADA, true);
    versions.came(BEN, true);
    let begun = "from the application, by Ada";
    save(&mut versions, ADA, begun, None, (1, begun));
    assert!(versions.bases(ADA).are_certain);
    let bases = versions.bases(BEN);
    assert!(bases.contents.is_empty() && !bases.are_certain);
    assert_eq!(versions.send_latest(None), [BEN]);
    let bases = versions.bases(BEN);
    assert_eq!(contents(&bases), ["from the application, by Ada"]);
    assert!(!bases.are_certain, "it may have crossed the save");
}

#[test]
fn who_came_to_an_empty_page_may_show_it_empty_until_its_first_save() {
    let mut versions = versions();
    versions.came(ADA, true);
    versions.learn(1, &text("written by others"));
    assert_eq!(versions.send_latest(None), [ADA]);
    versions.pinged(ADA, 1);
    versions.answered(ADA, 1);
    let base = |versions: &Versions, saved: &Content| {
        let (base, is_certain) = nearest_of(versions.bases(ADA), saved).expect("a base");
        (base.get().to_owned(), is_certain)
    };
    // It was busy when that came.
    let nothing = (r#""""#.to_owned(), true);
    assert_eq!(base(&versions, &text("mine alone")), nothing);
    let theirs = (text("written by others").get().to_owned(), true);
    assert_eq!(base(&versions, &text("written by others and me")), theirs);
    assert_eq!(base(&versions, &text("written by others")), theirs);
    let document =
        r#"{"type":"doc","content":[{"type":"paragraph","content":[{"type":"text","text":"x"}]}]}"#;
    let document = RawValue::from_string(document.to_owned()).expect("JSON").into();
    let nothing = (r#"{"type":"doc","content":[]}"#.to_owned(), true);
    assert_eq!(base(&versions, &document), nothing);
    save(&mut versions, ADA, "mine", None, (2, "mine written by others"));
    let later = base(&versions, &text("more"));
    assert_eq!(later.0, text("mine").get(), "and not nothing any more");
}

#[test]
fn what_an_author_was_sent_may_be_on_its_way_to_it_where_it_is_not_certain_what_it_had() {
    let mut versions = versions();
    versions.came(ADA, true);
    versions.learn(1, &text("by others"));
    assert_eq!(versions.send_latest(None), [ADA]);
    let (saved, base) = (text("of the application and mine"), text("by others"));
    versions.saved(
        ADA,
        SavedContent {
            content: &saved,
            base: Some(&base),
            is_certain: false,
            outcome: (2, &text("of the application and mine by others")),
            differs: true,
        },
    );
    // It shows that only now, without what it has saved.
    let (base, is_certain) = nearest_of(versions.bases(ADA), &text("by others and more")).expect("a base");
    assert_eq!((base.get(), is_certain), (text("by others").get(), true));
}

#[test]
fn versions_are_bounded_by_count_and_size() {
    let mut versions = versions();
    versions.came(ADA, false);
    for number in 1..=5 {
        versions.learn(number, &text(&number.to_string()));
        versions.send_latest(None);
    }
    assert_eq!(contents(&versions.bases(ADA)), ["5", "4", "3"]);
    // It may have had one of those that were forgotten.
    assert!(versions.bases(ADA).lacks_some);
    let (base, is_certain) = nearest_of(versions.bases(ADA), &text("3 and more")).expect("a base");
    assert_eq!(
        (base.get(), is_certain),
        ("\"3\"", false),
        "in doubt nothing is deleted"
    );
    let (_, is_certain) = nearest_of(versions.bases(ADA), &text("4 and more")).expect("a base");
    assert!(is_certain, "the one before that is further");
    versions.learn(6, &text(&"x".repeat(9_999)));
    versions.send_latest(None);
    assert_eq!(versions.bases(ADA).contents.len(), 1, "the latest is always kept");
    assert!(!versions.went(ADA));
}

#[test]
fn what_authors_save_counts_as_kept() {
    let mut versions = versions();
    let authors: Vec<SocketId> = (10..20).map(SocketId).collect();
    for (seq, author) in (1..).zip(&authors) {
        versions.came(*author, false);
        save(
            &mut versions,
            *author,
            &"x".repeat(3_000),
            None,
            (seq, &seq.to_string()),
        );
    }
    assert!(versions.bytes <= 10_000, "{} bytes are kept", versions.bytes);
    let kept = authors
        .iter()
        .filter(|author| versions.authors[author].saved.is_some());
    assert_eq!(kept.count(), 3, "the latest");
    for author in &authors {
        versions.went(*author);
    }
    let left: usize = (versions.kept.iter())
        .map(|version| version.content.get().len())
        .sum();
    assert_eq!(versions.bytes, left);
}

#[test]
fn a_version_is_found_by_its_sequence_number() {
    let mut versions = versions();
    versions.learn(3, &text("a"));
    versions.learn(5, &text("a"));
    versions.learn(7, &text("b"));
    for seq in 3..=5 {
        assert_eq!(
            versions.at(seq).map(|content| content.get()),
            Some("\"a\""),
            "{seq}"
        );
    }
    assert_eq!(versions.at(7).map(|content| content.get()), Some("\"b\""));
    assert_eq!(versions.at(2).map(|content| content.get()), None);
    assert_eq!(
        versions.at(6).map(|content| content.get()),
        None,
        "nobody was sent that"
    );
}

fn older(contents: &[(Seq, &str)], are_more: bool) -> Older {
    Older {
        contents: contents
            .iter()
            .map(|(seq, content)| (*seq, text(content)))
            .collect(),
        are_more,
    }
}

#[test]
fn who_comes_first_may_have_a_copy_from_before() {
    let mut versions = versions();
    versions.learn(7, &text("one three"));
    versions.came(ADA, false);
    versions.returned(ADA);
    assert_eq!(
        versions.unread_past(ADA, &text("one three")),
        None,
        "it has what there is"
    );
    assert_eq!(versions.unread_past(ADA, &text("one two")), Some(7));
    versions.learn_past(older(
        &[(6, "one three"), (5, "one two three"), (4, "one two three")],
        false,
    ));
    assert_eq!(
        versions.unread_past(ADA, &text("one two")),
        None,
        "it is learnt once"
    );
    assert_eq!(contents(&versions.bases(ADA)), ["one three", "one two three"]);
    assert!(!versions.bases(ADA).lacks_some);
    assert_eq!(versions.at(6).map(|content| content.get()), Some("\"one three\""));
    assert_eq!(
        versions.at(4).map(|content| content.get()),
        Some("\"one two three\"")
    );
    // A copy of what is the oldest of all is certain.
    let (base, is_certain) = nearest_of(versions.bases(ADA), &text("two three mine")).expect("a base");
    assert_eq!((base.get(), is_certain), ("\"one two three\"", true));
    save(&mut versions, ADA, "one mine", Some("one three"), (8, "one mine"));
    assert_eq!(
        contents(&versions.bases(ADA)),
        ["one mine"],
        "it has nothing of then any more"
    );
    versions.came(BEN, false);
    assert_eq!(
        contents(&versions.bases(BEN)),
        ["one mine", "one three"],
        "one that has only come now has nothing of before the first"
    );
    versions.returned(BEN);
    assert_eq!(
        contents(&versions.bases(BEN)),
        ["one mine", "one three", "one two three"],
        "one that has returned may have"
    );
}

#[test]
fn of_the_past_only_so_much_is_kept_and_what_is_not_may_have_been_the_base() {
    let past = older(&[(3, "a b c"), (2, "a b"), (1, "a")], false);
    let mut versions = versions();
    versions.learn(4, &text("a b c d"));
    versions.came(ADA, false);
    versions.returned(ADA);
    versions.learn_past(past);
    assert_eq!(contents(&versions.bases(ADA)), ["a b c d", "a b c", "a b"]);
    let (_, is_certain) = nearest_of(versions.bases(ADA), &text("a mine")).expect("a base");
    assert!(!is_certain);
    let (_, is_certain) = nearest_of(versions.bases(ADA), &text("a b c mine")).expect("a base");
    assert!(is_certain);

    let mut versions = self::versions();
    versions.learn(4, &text("a b c d"));
    versions.came(ADA, false);
    versions.returned(ADA);
    versions.learn_past(older(&[(3, "a b c")], true));
    let (_, is_certain) = nearest_of(versions.bases(ADA), &text("a mine")).expect("a base");
    assert!(!is_certain, "there is more than was learnt");

    let mut versions = self::versions();
    versions.learn(4, &text("a b c d"));
    versions.came(ADA, false);
    versions.returned(ADA);
    versions.lacks_past(ADA);
    let (_, is_certain) = nearest_of(versions.bases(ADA), &text("a mine")).expect("a base");
    assert!(!is_certain, "it could not be learnt");
    assert_eq!(
        versions.unread_past(ADA, &text("a mine")),
        Some(4),
        "later it may"
    );
}

#[test]
fn a_page_that_was_empty_when_its_first_author_came_has_no_past() {
    let mut versions = versions();
    versions.came(ADA, true);
    versions.learn(1, &text("one"));
    versions.came(BEN, false);
    versions.returned(BEN);
    assert_eq!(versions.unread_past(BEN, &text("two")), None);
}
