//! How pages are found by the words of their text.

use super::{Place, append, commit_one, compact, page, snapshot};
use crate::{IdRange, Search, SharedStore, Snapshot, prefix_range};

/// Stores a page with a text.
async fn write(store: &SharedStore, id: &str, text: &str) {
    let committed = commit_one(store, append(id, [b"x"])).await;
    let text = text.to_owned();
    compact(
        store,
        id,
        Snapshot {
            text,
            ..snapshot(committed.last_seq, b"x")
        },
    )
    .await;
}

fn everywhere() -> Vec<IdRange> {
    vec![prefix_range("").unwrap()]
}

/// The pages that are found, in the order of their ids.
async fn found(store: &SharedStore, search: &str, ranges: &[IdRange]) -> Vec<String> {
    let search = Search::parse(search).unwrap();
    let found = store.search(&search, ranges, 0, 100).await.unwrap();
    let mut ids: Vec<_> = found.iter().map(|found| found.page.as_str().to_owned()).collect();
    ids.sort();
    ids
}

pub async fn pages_are_found_by_the_words_of_their_snapshots(place: &dyn Place) {
    let store = place.open().await;
    write(&store, "greeting", "Hello, World! Example.com is don't e-mail.").await;
    write(
        &store,
        "cafe",
        "Das CAF\u{c9} \u{fb01}ndet Ma\u{df}e in der Stra\u{df}e",
    )
    .await;
    write(&store, "tokyo", "東京タワーは高い").await;
    write(&store, "numbers", "version 1e5 of 2024-11-29 costs 12.50 and 007").await;
    write(&store, "greek", "ΟΔΟΣ").await;
    let table: &[(&str, &[&str])] = &[
        ("hello", &["greeting"]),
        ("HELLO world", &["greeting"]),
        ("example", &["greeting"]),
        ("example.com", &["greeting"]),
        ("\"e-mail\"", &["greeting"]),
        ("don", &["greeting"]),
        ("hell", &[]),
        ("hell*", &["greeting"]),
        ("\"hello world\"", &["greeting"]),
        ("\"world hello\"", &[]),
        ("\"hello wor\"*", &["greeting"]),
        ("\"hell world\"*", &[]),
        ("hello -world", &[]),
        ("hello -\"world hello\"", &["greeting"]),
        ("café", &["cafe"]),
        ("cafe\u{301}", &["cafe"]),
        ("cafe", &[]),
        ("findet", &["cafe"]),
        ("straße", &["cafe"]),
        ("東京", &["tokyo"]),
        ("京東", &[]),
        ("タワ", &["tokyo"]),
        ("1e5", &["numbers"]),
        ("2024-11-29", &["numbers"]),
        ("12.50", &["numbers"]),
        ("007", &["numbers"]),
        ("7", &[]),
        ("οδος", &["greek"]),
        ("of*", &["numbers"]),
        ("in* -x", &["cafe"]),
        ("' OR 1=1", &[]),
        ("nothing", &[]),
    ];
    for (search, pages) in table {
        assert_eq!(found(&store, search, &everywhere()).await, *pages, "{search}");
    }
    // The newest snapshot counts, and is there for another process.
    write(&store, "greeting", "Goodbye").await;
    let other = place.open().await;
    assert_eq!(found(&other, "goodbye", &everywhere()).await, ["greeting"]);
    assert_eq!(found(&other, "hello", &everywhere()).await, [""; 0]);
    let text = other.searched_text(&page("greeting")).await.unwrap();
    assert_eq!(text, Some((2, "Goodbye".to_owned())));
    assert_eq!(other.searched_text(&page("never")).await.unwrap(), None);
}

pub async fn what_is_found_is_in_range_and_not_in_the_trash(place: &dyn Place) {
    let store = place.open().await;
    for (n, id) in ["a", "team/1", "team/2", "team2", "z"].into_iter().enumerate() {
        // The more often the word is there, the better it answers.
        let text = "word ".repeat(n + 1) + &"else ".repeat(9 - n);
        write(&store, id, &text).await;
    }
    let page_z = ("z".to_owned(), "z".to_owned());
    let ranges = [prefix_range("team/").unwrap(), page_z];
    assert_eq!(found(&store, "word", &ranges).await, ["team/1", "team/2", "z"]);
    assert_eq!(found(&store, "word", &[]).await, [""; 0]);
    let deleted = Some(std::time::SystemTime::UNIX_EPOCH);
    assert!(store.set_deleted(&page("team/1"), deleted).await.unwrap());
    assert_eq!(found(&store, "word", &ranges).await, ["team/2", "z"]);
    assert!(store.set_deleted(&page("team/1"), None).await.unwrap());
    let search = Search::parse("word").unwrap();
    let all = store.search(&search, &everywhere(), 0, 100).await.unwrap();
    let ids: Vec<_> = all.iter().map(|found| found.page.as_str()).collect();
    assert_eq!(ids, ["z", "team2", "team/2", "team/1", "a"]);
    assert!(all.is_sorted_by(|one, next| one.score > next.score));
    let some = store.search(&search, &everywhere(), 1, 2).await.unwrap();
    assert_eq!(some, all[1..3]);
}

pub async fn no_text_and_no_search_is_an_error(place: &dyn Place) {
    let store = place.open().await;
    let every_letter: String = (0..=0x0010_ffff_u32)
        .filter_map(char::from_u32)
        .flat_map(|letter| [letter, ' '])
        .collect();
    let texts = [
        String::new(),
        "\0".to_owned(),
        "a\0b ' \\ \" :* <-> | & ! ( )".to_owned(),
        "x".repeat(1 << 20),
        "word ".repeat(1 << 20),
        // As many different words as there is room for.
        (0..1_000_000).fold(String::new(), |text, n| text + &format!("{n:x} ")),
        every_letter.clone(),
        every_letter.chars().rev().collect(),
    ];
    for (n, text) in texts.iter().enumerate() {
        if n == 3 {
            any_search_is_answered(&store, &every_letter).await;
        }
        write(&store, &format!("{n}"), text).await;
    }
    assert_eq!(found(&store, "a", &everywhere()).await, ["2", "5", "6", "7"]);
    assert_eq!(found(&store, &"x".repeat(1000), &everywhere()).await, ["3"]);
}

/// Whatever is searched for, beside pages that are small: here it is about what is asked.
async fn any_search_is_answered(store: &SharedStore, every_letter: &str) {
    let letters: Vec<char> = every_letter.chars().filter(|letter| *letter != ' ').collect();
    let odd: Vec<char> = letters.into_iter().step_by(1009).collect();
    for some in odd.chunks(50) {
        let some: String = some.iter().collect();
        for search in [format!("\"{some}\"*"), format!("a -'{some}\\")] {
            if let Ok(search) = Search::parse(&search) {
                store.search(&search, &everywhere(), 0, 10).await.unwrap();
            }
        }
    }
    for search in [
        "a'b",
        "a\\b",
        "a:*",
        "\"a",
        "a & b | !c",
        "near(a b)",
        "words:a",
        "{a}",
        "^a",
        "a+b",
    ] {
        found(store, search, &everywhere()).await;
    }
}
