//! The events as `src/events/asyncapi.json` lists them are those that the code reads and sends.

use std::collections::{BTreeMap, BTreeSet};

use pageroom::{
    events::{Profiles, is_reserved},
    protocols::events::decode,
};
use serde_json::Value as Json;
use socketioxide_core::Value;

use crate::tidy::{Source, files, is_test, rust};

/// Functions that send an event, and have its name among their arguments.
const SENDING: [&str; 10] = [
    "channel",
    "event_text",
    "tell",
    "tell_all",
    "tell_in",
    "tell_kept",
    "tell_one",
    "tell_others",
    "tell_own",
    "with_update",
];

fn document() -> Json {
    serde_json::from_str(include_str!("../../src/events/asyncapi.json")).expect("JSON")
}

fn messages<'a>(document: &'a Json, channel: &str) -> BTreeMap<&'a str, &'a Json> {
    let messages = document["channels"][channel]["messages"]
        .as_object()
        .expect("messages");
    messages
        .iter()
        .map(|(name, message)| (name.as_str(), message))
        .collect()
}

/// What an event is of: a profile, or a part that every client has.
fn tag(message: &Json) -> &str {
    message["tags"][0]["name"].as_str().expect("a tag")
}

/// The code of a folder, file by file, without tests and comments.
fn code(folder: &str) -> Vec<String> {
    let ours = rust(folder).into_iter().filter(|source| !is_test(source));
    let code = |source: Source| {
        let lines: Vec<&str> = source.code().map(|(_, line)| line).collect();
        lines.join("\n")
    };
    ours.map(code).collect()
}

/// Whether a text can be the name of an event.
fn is_name(text: &str) -> bool {
    let is_of_names = |letter: char| letter.is_alphanumeric() || matches!(letter, ':' | '-' | '_');
    !text.is_empty() && text.chars().all(is_of_names)
}

/// The texts in a piece of code that can be names, line by line.
fn texts(code: &str) -> impl Iterator<Item = &str> {
    let texts = code.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    texts.filter(|text| is_name(text))
}

/// The arguments behind an opening bracket, as they are written.
fn arguments(code: &str) -> Vec<&str> {
    let (mut depth, mut in_text, mut start, mut found) = (0_usize, false, 0, Vec::new());
    for (at, letter) in code.char_indices() {
        match letter {
            '"' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(&code[start..at]);
                start = at + 1;
            }
            ')' | ']' | '}' if depth == 0 => {
                found.push(&code[start..at]);
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    found.into_iter().map(str::trim).collect()
}

/// The names that stand in calls which send events.
fn sent(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for function in SENDING {
        for (at, call) in code.match_indices(&format!("{function}(")) {
            let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
            if code[..at].chars().next_back().is_some_and(is_part) {
                continue;
            }
            let arguments = arguments(&code[at + call.len()..]).into_iter();
            let text = |argument: &str| {
                let text = argument.strip_prefix('"')?.strip_suffix('"')?;
                is_name(text).then(|| text.to_owned())
            };
            names.extend(arguments.filter_map(text));
        }
    }
    names
}

/// What an event of a client is of, where there is one of this name.
fn spoken(name: &str) -> Option<&'static str> {
    let mut arguments = Value::Str(serde_json::json!([name]).to_string().into(), None);
    match decode(&mut arguments, &crdt::Limits::default()) {
        Ok(None) => Profiles::default().of(name).map(|profile| profile.name),
        Ok(Some(_)) | Err(_) => Some("pages"),
    }
}

#[test]
fn the_document_is_one_of_asyncapi() {
    let document = document();
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let tags: Vec<_> = document["info"]["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .map(|tag| &tag["name"])
        .collect();
    let operations = document["operations"].as_object().expect("operations");
    for (channel, is_tagged) in [
        ("from_clients", true),
        ("to_clients", true),
        ("acknowledgements", false),
    ] {
        for (name, message) in messages(&document, channel) {
            assert!(message["payload"].is_object(), "{name} has a schema");
            let summary = message["summary"].as_str().expect("a sentence");
            assert!(summary.ends_with('.'), "{name}: {summary}");
            assert!(
                !is_tagged || tags.contains(&&message["tags"][0]["name"]),
                "{name}"
            );
        }
    }
    for name in messages(&document, "from_clients").keys() {
        let operation = &operations[*name];
        let message = format!("#/channels/from_clients/messages/{name}");
        assert_eq!(operation["messages"][0]["$ref"], message);
        let answers = operation["reply"]["messages"].as_array().expect("answers");
        let refusal = "#/channels/acknowledgements/messages/refused";
        assert!(answers.iter().any(|answer| answer["$ref"] == refusal), "{name}");
    }
    let mut values = vec![&document];
    while let Some(value) = values.pop() {
        if let Some(Json::String(reference)) = value.get("$ref") {
            let pointer = reference
                .strip_prefix('#')
                .expect("a reference into the document");
            assert!(document.pointer(pointer).is_some(), "there is no {reference}");
        }
        match value {
            Json::Object(fields) => values.extend(fields.values()),
            Json::Array(items) => values.extend(items),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
}

#[test]
fn clients_send_what_is_listed_and_nothing_else_is_read() {
    let document = document();
    let listed: BTreeSet<_> = messages(&document, "from_clients")
        .into_iter()
        .map(|(name, message)| (name.to_owned(), tag(message)))
        .collect();
    let code = code("src");
    let texts: BTreeSet<&str> = code.iter().flat_map(|code| texts(code)).collect();
    // The code has some names in two parts.
    let names = ["", "join_", "leave_"]
        .into_iter()
        .flat_map(|start| texts.iter().map(move |text| format!("{start}{text}")));
    let read: BTreeSet<_> = names
        .filter_map(|name| {
            let of = spoken(&name)?;
            Some((name, of))
        })
        .collect();
    assert_eq!(listed, read);
}

#[test]
fn clients_receive_what_is_listed_and_nothing_else_is_sent() {
    let document = document();
    let listed = messages(&document, "to_clients");
    let sending: Vec<_> = ["src/connections", "src/events", "src/protocols"]
        .into_iter()
        .flat_map(code)
        .collect();
    let code = code("src");
    let texts: BTreeSet<&str> = code.iter().flat_map(|code| texts(code)).collect();
    let of_library: BTreeSet<&str> = document["channels"]["to_clients"]["x-reserved"]
        .as_array()
        .expect("names")
        .iter()
        .filter_map(Json::as_str)
        .collect();
    for name in &of_library {
        assert!(
            is_reserved(name) && !listed.contains_key(name),
            "{name} is Socket.IO's"
        );
    }
    let reserved = texts
        .iter()
        .filter(|text| is_reserved(text) && !of_library.contains(*text));
    let sent: BTreeSet<String> = sending.iter().flat_map(|code| sent(code)).collect();
    assert!(sent.len() > 20, "calls are found: {sent:?}");
    let missing: Vec<_> = reserved
        .copied()
        .chain(sent.iter().map(String::as_str))
        .filter(|name| !listed.contains_key(name))
        .collect();
    assert!(missing.is_empty(), "sent and not listed: {missing:?}");
    let pages = files("src/events", &[".md"]);
    for (name, message) in listed {
        let is_documented = pages.iter().any(|page| page.text.contains(name));
        let is_known = texts.contains(name) || is_documented;
        assert!(is_known, "{name} is nowhere in the code");
        let is_backends = message["payload"].to_string().contains("/ByBackend");
        assert_ne!(
            is_backends,
            is_reserved(name),
            "{name}: whether backends may send it"
        );
    }
}

#[test]
fn events_of_which_the_last_one_counts_are_marked() {
    let document = document();
    let source = include_str!("../../src/events/broadcast.rs");
    let (_, list) = source.split_once("const MOMENTARY").expect("the list");
    let (list, _) = list.split_once("];").expect("its end");
    let momentary: BTreeSet<_> = texts(list).collect();
    assert!(momentary.contains("cursor_moved"));
    for (name, message) in messages(&document, "to_clients") {
        let is_marked = message["x-momentary"] == true;
        assert!(is_marked || !momentary.contains(name), "{name} is momentary");
        let is_right = !is_marked || momentary.contains(name);
        assert!(is_right, "{name} is not momentary");
    }
    let listed = messages(&document, "to_clients");
    assert!(momentary.iter().all(|name| listed.contains_key(name)));
}

#[test]
fn every_code_of_a_refusal_is_listed() {
    let document = document();
    let listed: BTreeSet<_> = document["components"]["schemas"]["Code"]["enum"]
        .as_array()
        .expect("codes")
        .iter()
        .filter_map(Json::as_str)
        .collect();
    let source = include_str!("../../src/rooms/refusal.rs");
    let arms = source
        .lines()
        .filter(|line| line.trim_start().starts_with("Self::"));
    let codes: BTreeSet<_> = arms.flat_map(texts).collect();
    assert!(codes.contains("read_only"));
    assert_eq!(listed, codes);
}

#[test]
fn names_are_found_in_calls_that_send() {
    let code = r#"
        socket.tell("a", &json!({ "b": "c" }));
        rooms.tell(std::slice::from_ref(&room), None, "d:e", &body);
        retell("f"); tell(event, "not a name");
    "#;
    assert_eq!(sent(code), BTreeSet::from(["a".to_owned(), "d:e".to_owned()]));
}
