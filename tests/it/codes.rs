//! `docs/codes.md` is what the code says of refusals, with a word for authors of clients on each.

use pageroom::{
    protocols::codes::{close_code, status},
    rooms::RefusalCode,
};

use crate::docs::{assert_made, read};

/// When a refusal comes, and what a client does about it.
fn told(code: RefusalCode) -> (&'static str, &'static str) {
    match code {
        RefusalCode::Unauthenticated => (
            "No token was shown (on a socket: not within `PAGEROOM_AUTH_TIMEOUT_SECONDS`), or one that proves nothing here.",
            "Sign the user in, and connect with a token.",
        ),
        RefusalCode::TokenExpired => (
            "The token was good, and its time is over.",
            "Fetch a fresh token and connect with it; better before the old one ends.",
        ),
        RefusalCode::TokenRevoked => (
            "The user was signed out everywhere, or the token was withdrawn.",
            "Sign the user in again.",
        ),
        RefusalCode::Forbidden => (
            "The user may not see the page, or not do this; access was taken away; or the origin of a browser's page is not allowed.",
            "Say so, and leave the page alone until somebody gives access.",
        ),
        RefusalCode::ReadOnly => (
            "An edit by somebody who may read the page and not change it.",
            "Make the editor read-only. The connection stays; open the page anew to be rid of the edit.",
        ),
        RefusalCode::PageDeleted => (
            "The page is in the trash, or goes there now.",
            "Show that it is gone. What it lacks of this client's is kept by the client alone.",
        ),
        RefusalCode::PageRenamed => (
            "The page has another id now.",
            "Connect again at once, under the old id or the new one: both lead to the page.",
        ),
        RefusalCode::PageRebuilt => (
            "The page was compacted: it has another document, of which this client has no copy.",
            "Drop the local document and open the page with an empty one; merged, everything would be there twice.",
        ),
        RefusalCode::RoomFull => (
            "The page has as many members as it may have.",
            "Wait some seconds, longer each time, and try again.",
        ),
        RefusalCode::RateLimited => (
            "Too much in too short a time, or more connections or pages than one user, address or connection may have.",
            "Wait `retryAfterMs` or `Retry-After` where it is given, else some seconds; close what is not needed.",
        ),
        RefusalCode::TooLarge => (
            "A message or a body is over its limit, or the page has reached its own.",
            "Send less. The same again is refused again.",
        ),
        RefusalCode::Malformed => (
            "Bytes that are no message, a request that makes no sense, or an id that no page can have.",
            "Mend the program: the sentence says what was wrong.",
        ),
        RefusalCode::NotFound => (
            "There is no such page, version, field, address or event.",
            "Do not ask again as it is.",
        ),
        RefusalCode::Conflict => (
            "What was asked contradicts the present state, such as an id that is taken or a page that was not joined.",
            "Read the present state and decide anew.",
        ),
        RefusalCode::Unavailable => (
            "The store or a reader cannot serve now, the server has as many connections as it may have, or this client does not read.",
            "Keep what is not acknowledged; try again after a second, and longer each time.",
        ),
        RefusalCode::Draining => (
            "The server is stopping.",
            "Connect again at once: another server, or this one when it is back.",
        ),
        RefusalCode::Internal => (
            "A defect of the server, which its log tells of.",
            "Try again, longer each time, and give up after a few times.",
        ),
    }
}

#[test]
fn every_code_is_in_its_document() {
    let mut made = "# Codes of refusals\n\nMade from the code. Whatever is refused is refused with one of these codes and a sentence for people, in every \
                    protocol but in the words of [applications with events of their own](../README.md#applications-with-events-of-their-own). \
                    Programs compare the code; the sentence may change.\n\n\
                    | code | close code | HTTP | try again as it is | when | what a client does |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for code in RefusalCode::ALL {
        let (when, what) = told(code);
        let again = if code.is_retryable() { "yes" } else { "no" };
        made += &format!(
            "| `{}` | {} | {} | {again} | {when} | {what} |\n",
            code.as_str(),
            close_code(code),
            status(code).as_u16(),
        );
    }
    made += REST;
    assert_made("docs/codes.md", &made);
    for document in ["README.md", "docs/README.md"] {
        assert!(
            read(document).contains("codes.md)"),
            "{document} does not lead to the codes"
        );
    }
}

/// A client that knows only the close code must not do the opposite of what the refusal asks for.
#[test]
fn a_close_code_says_whether_to_come_back() {
    for code in RefusalCode::ALL {
        let close = close_code(code);
        let is_for_good = (4400..4500).contains(&close);
        assert!(is_for_good || (1011..=1013).contains(&close), "{code:?}: {close}");
        // Who comes too often is to stay away, and only a program that knows why can say for how long.
        let is_known = code == RefusalCode::RateLimited;
        assert_eq!(is_for_good, !code.is_retryable() || is_known, "{code:?}: {close}");
    }
}

const REST: &str = "
4400 to 4499 are for good: come back with something else, or not at all (4429: not soon, and not by yourself). 1011 to 1013 are for now. y-websocket 3.1 and
newer keeps to that by itself, and emits `closed`; older ones connect again whatever the code, so an application calls `provider.disconnect()` in
`connection-close` when `event.code` is one of the former.

## Where a code stands

| client | a page or a connection that is refused | a change or a request that is refused |
|---|---|---|
| y-websocket | the upgrade is answered with 101, then the socket is closed: `event.code` is the close code, `event.reason` is `code: sentence` | a frame `02 00 reason` of the auth protocol; the connection stays |
| Hocuspocus | `authenticationFailed`, or `close` for a page that was open, with `code: sentence` as the reason; the socket is closed with the close code when it has no page left, or when each page must be opened anew | `SyncStatus(0)`: the edit is not stored, and `hasUnsyncedChanges` stays |
| y-socket.io | `connect_error` with `error.data.code` | the event `error`, or the callback's `{ ok: false, error }` |
| Socket.IO events | `connect_error` with `error.data.code`; `access_revoked` for a page or a room that is closed from now on, `error {code}` when the connection ends (with `token_expired` that alone) | the callback's `{ ok: false, error: { code, message, retryable } }`, with `retryAfterMs` where it is known; without a callback the event `error` |
| y-sweet | as y-websocket; its HTTP as REST | as y-websocket |
| REST | – | the status, and `{ \"error\": { \"code\", \"message\", \"retryable\" } }` beside the members of RFC 9457 |

Over HTTP there are besides: 405 (`not_found`) for a method that an address
does not have, 412 (`conflict`) when `If-Match` or `If-None-Match` names another state, and 426 for a request of a WebSocket's address that is none.
`page_renamed` comes with a `Location`, or as 503 in the moment of the renaming. `/api/broadcast` and `/api/kick` answer with `{ \"error\": sentence }` and, where
what they are sent makes no sense, 400.

A browser shows no status of an upgrade that fails, which is why sockets are closed only after they are open. A connection that ends with 1006, or with no
code at all, was cut on its way: come back, after a second and longer each time.
";
