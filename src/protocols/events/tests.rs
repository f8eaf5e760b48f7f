//! The events dialect word by word: what each event is read as, what is refused, and what is written.

use crdt::{AwarenessChange, ClientId};

use super::*;
use crate::{
    protocols::socket_io,
    rooms::{RefusalCode, ServerMessage},
};

/// The place of an attachment.
fn place(number: u32) -> Json {
    json!({ "_placeholder": true, "num": number })
}

/// Reads an event of these arguments.
fn read_event(arguments: &Json, attachments: &[&'static [u8]]) -> Result<Option<Request>, RefusalCode> {
    let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes));
    let mut arguments = Value::Str(arguments.to_string().into(), Some(attachments.collect()));
    decode(&mut arguments, &Limits::default()).map_err(|refusal| refusal.code)
}

#[test]
fn each_event_is_read_as_what_it_asks_for() {
    let bytes = Bytes::from_static;
    let join = |state_vector, in_object| PageRequest::Join {
        since: None,
        state_vector,
        in_object,
    };
    for (arguments, attachment, expected) in [
        (json!(["join_page", "team/a"]), None, join(None, false)),
        (
            json!(["join_page", { "pageId": "team/a" }]),
            None,
            join(None, true),
        ),
        (
            json!(["join_page", { "pageId": "team/a", "since": { "epoch": "e", "offset": 7 } }]),
            None,
            PageRequest::Join {
                since: Some(Since {
                    epoch: "e".to_owned(),
                    offset: 7,
                }),
                state_vector: None,
                in_object: true,
            },
        ),
        (
            json!(["join_page", { "pageId": "team/a", "stateVector": place(0), "more": 1 }]),
            Some(&[1, 7, 2][..]),
            join(Some(bytes(&[1, 7, 2])), true),
        ),
        (json!(["leave_page", "team/a"]), None, PageRequest::Leave),
        (
            json!(["leave_page", { "pageId": "team/a" }]),
            None,
            PageRequest::Leave,
        ),
        (
            json!(["page_delta", { "pageId": "team/a", "update": place(0) }]),
            Some(&[0, 0]),
            PageRequest::Delta(bytes(&[0, 0])),
        ),
        (
            json!(["page_sync", { "pageId": "team/a", "stateVector": place(0) }]),
            Some(&[0]),
            PageRequest::Sync(bytes(&[0])),
        ),
        (
            json!(["page_awareness", { "pageId": "team/a", "update": place(0) }]),
            Some(&[1, 7, 1, 2, b'{', b'}']),
            PageRequest::Awareness(bytes(&[1, 7, 1, 2, b'{', b'}'])),
        ),
    ] {
        let page = PageId::new("team/a").expect("a page id");
        let attachments: Vec<&[u8]> = attachment.into_iter().collect();
        let read = read_event(&arguments, &attachments);
        assert_eq!(read, Ok(Some(Request::Page(page, expected))), "{arguments}");
    }
    let refresh = read_event(&json!(["auth:refresh", { "token": "fresh" }]), &[]);
    assert_eq!(refresh, Ok(Some(Request::Refresh("fresh".to_owned()))));
    for not_ours in [
        json!(["chat", { "pageId": 7 }]),
        json!(["joined_page"]),
        json!([""]),
    ] {
        assert_eq!(read_event(&not_ours, &[]), Ok(None), "{not_ours}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let with = |event: &str, field: &str, value: Json| json!([event, { "pageId": "a", field: value }]);
    let cases: &[(Json, &[&'static [u8]])] = &[
        (json!([]), &[]),
        (json!([7]), &[]),
        (json!({ "0": "join_page" }), &[]),
        (json!("join_page"), &[]),
        (json!(["join_page"]), &[]),
        (json!(["join_page", null]), &[]),
        (json!(["join_page", 7]), &[]),
        (json!(["join_page", ""]), &[]),
        (json!(["join_page", "a/../b"]), &[]),
        (json!(["join_page", "a\u{0}b"]), &[]),
        (json!(["join_page", "x".repeat(1000)]), &[]),
        (json!(["join_page", {}]), &[]),
        (json!(["join_page", { "pageId": null }]), &[]),
        (with("join_page", "stateVector", json!("AA")), &[]),
        (with("join_page", "stateVector", json!(null)), &[]),
        (with("join_page", "stateVector", place(0)), &[]),
        (with("join_page", "stateVector", place(0)), &[&[]]),
        (with("join_page", "stateVector", place(0)), &[&[9, 9]]),
        (json!(["leave_page"]), &[]),
        (json!(["leave_page", { "page": "a" }]), &[]),
        (json!(["page_delta", "a"]), &[]),
        (json!(["page_delta", { "pageId": "a" }]), &[]),
        (json!(["page_delta", { "update": place(0) }]), &[&[0, 0]]),
        (with("page_delta", "update", json!("AAA=")), &[]),
        (json!(["page_sync", { "pageId": "a" }]), &[]),
        (with("page_sync", "stateVector", place(0)), &[&[1, 7]]),
        (with("page_awareness", "update", place(0)), &[&[1]]),
        (with("page_awareness", "update", place(0)), &[&[1, 7, 1, 1, b'{']]),
        (json!(["auth:refresh"]), &[]),
        (json!(["auth:refresh", "token"]), &[]),
        (json!(["auth:refresh", { "token": 7 }]), &[]),
    ];
    for (arguments, attachments) in cases {
        let read = read_event(arguments, attachments);
        assert_eq!(read, Err(RefusalCode::Malformed), "{arguments} {attachments:?}");
    }
}

/// Frames as a client sees them: the texts, and attachments as lists of bytes.
fn shown(write: impl FnOnce(&mut Vec<Frame>)) -> Vec<String> {
    let mut frames = Vec::new();
    write(&mut frames);
    let show = |frame: Frame| match frame {
        Frame::Text(text) => text.to_string(),
        Frame::SharedText(text) => String::from_utf8_lossy(&text).into_owned(),
        Frame::Binary(bytes) => format!("{:?}", &bytes[..]),
        Frame::Parts(first, rest) => format!("{:?}", [first, rest].concat()),
    };
    frames.into_iter().map(show).collect()
}

fn viewers() -> Vec<Arc<str>> {
    vec!["ada".into(), "guest:2".into()]
}

#[test]
fn what_is_said_of_a_page_is_written_so() {
    let words = PageWords::new(PageId::new("team/a").expect("a page id"));
    let bytes = |bytes: &'static [u8]| Bytes::from_static(bytes);
    let change = AwarenessChange {
        client: ClientId(7),
        clock: 1,
        state: Some("{}".into()),
    };
    let awareness = ServerMessage::Awareness(vec![change]);
    let delta = [
        r#"451-["page_delta",{"pageId":"team/a","update":{"_placeholder":true,"num":0}}]"#,
        "[1, 2, 3]",
    ];
    for message in [
        ServerMessage::Delta(bytes(&[1, 2, 3])),
        ServerMessage::SyncStep2(bytes(&[1, 2, 3])),
    ] {
        let written = shown(|frames| words.delta(socket_io::attachment(&message), frames));
        assert_eq!(written, delta, "{message:?}");
    }
    assert_eq!(
        shown(|frames| words.awareness(socket_io::attachment(&awareness), frames)),
        [
            r#"451-["page_awareness",{"pageId":"team/a","update":{"_placeholder":true,"num":0}}]"#,
            "[1, 7, 1, 2, 123, 125]",
        ]
    );
    assert_eq!(
        shown(|frames| words.ask(bytes(&[0]), frames)),
        [
            r#"451-["page_sync",{"pageId":"team/a","stateVector":{"_placeholder":true,"num":0}}]"#,
            "[0]",
        ]
    );
    assert_eq!(
        shown(|frames| words.synced(Some(4), bytes(&[5]), bytes(&[0]), frames)),
        [
            concat!(
                r#"462-4[{"ok":true,"pageId":"team/a","update":{"_placeholder":true,"num":0},"#,
                r#""stateVector":{"_placeholder":true,"num":1}}]"#
            ),
            "[5]",
            "[0]",
        ]
    );
    assert_eq!(
        shown(|frames| words.synced(None, bytes(&[5]), bytes(&[0]), frames)),
        [""; 0]
    );
}

#[test]
fn a_joiner_is_told_and_answered() {
    let words = PageWords::new(PageId::new("a").expect("a page id"));
    let joined = |synced| Joined {
        role: "edit",
        seq: 7,
        synced,
        missed: Map::new(),
    };
    let told = r#"42["joined_page",{"pageId":"a"}]"#;
    assert_eq!(
        shown(|frames| words.joined(Some(1), &viewers(), joined(None), frames)),
        [
            told,
            r#"431[{"ok":true,"pageId":"a","role":"edit","seq":7,"viewers":["ada","guest:2"]}]"#
        ]
    );
    assert_eq!(
        shown(|frames| words.joined(None, &viewers(), joined(None), frames)),
        [told]
    );
    let synced = Some((Bytes::from_static(&[5]), Bytes::from_static(&[0])));
    assert_eq!(
        shown(|frames| words.joined(Some(1), &viewers(), joined(synced), frames)),
        [
            told,
            concat!(
                r#"462-1[{"ok":true,"pageId":"a","role":"edit","seq":7,"viewers":["ada","guest:2"],"#,
                r#""update":{"_placeholder":true,"num":0},"stateVector":{"_placeholder":true,"num":1}}]"#
            ),
            "[5]",
            "[0]",
        ]
    );
}

#[test]
fn refusals_are_answers_or_events_of_their_own() {
    let page = PageId::new("a").expect("a page id");
    let refusal = Refusal::new(RefusalCode::RateLimited, "later");
    let wait = Some(Duration::from_millis(1500));
    let error = r#""code":"rate_limited","message":"later""#;
    assert_eq!(
        shown(|frames| refused(Some(9), Some(&page), &refusal, wait, frames)),
        [format!(
            r#"439[{{"error":{{{error},"retryAfterMs":1500,"retryable":true}},"ok":false}}]"#
        )]
    );
    assert_eq!(
        shown(|frames| refused(None, Some(&page), &refusal, None, frames)),
        [format!(
            r#"42["error",{{{error},"pageId":"a","retryable":true}}]"#
        )]
    );
    assert_eq!(
        shown(|frames| refused(None, None, &refusal, None, frames)),
        [format!(r#"42["error",{{{error},"retryable":true}}]"#)]
    );
    assert_eq!(
        shown(|frames| auth_expiring(Duration::from_secs(60), frames)),
        [r#"42["auth_expiring",{"expiresInMs":60000}]"#]
    );
    assert_eq!(shown(|frames| answer(None, &json!({}), frames)), [""; 0]);
}
