//! Finds the token in a request: bearer header, query, WebSocket subprotocol, cookie, in this order.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;

/// A WebSocket subprotocol that carries a token begins with this.
pub const SUBPROTOCOL_PREFIX: &str = "yauth-";

/// Cookie that carries a token.
const COOKIE: &str = "accessToken";

/// A token and where it was found.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// In the `Authorization` header.
    Bearer(String),
    /// In the query (`token` or `yauth`) or a subprotocol: given by a page that knows it.
    Given(String),
    /// In a cookie, which a browser sends by itself: it counts only with an allowed `Origin`.
    Cookie(String),
    /// In the session cookie of NextAuth or Auth.js with this name: the same holds.
    Session(Arc<str>, String),
    /// In one of several cookies, of which the first that proves something counts: other applications on the same host leave
    /// theirs, under the same names.
    Cookies(Vec<Credential>),
}

/// Cookies that are tried, at most.
const MAX_COOKIES: usize = 16;
/// Shorter beginnings of a session in parts that are tried, at most.
const MAX_SHORTER: usize = 3;

impl Credential {
    /// The token; of several cookies that of the first.
    pub fn token(&self) -> &str {
        match self {
            Self::Bearer(token) | Self::Given(token) | Self::Cookie(token) | Self::Session(_, token) => token,
            Self::Cookies(cookies) => cookies.first().map_or("", Self::token),
        }
    }

    /// Whether a browser sends it by itself.
    pub fn is_cookie(&self) -> bool {
        matches!(self, Self::Cookie(_) | Self::Session(..) | Self::Cookies(_))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer([secret])",
            Self::Given(_) => "Given([secret])",
            Self::Cookie(_) => "Cookie([secret])",
            Self::Session(..) => "Session([secret])",
            Self::Cookies(_) => "Cookies([secret])",
        })
    }
}

/// The first credential of a request, with `sessions` for the names of session cookies. Empty ones do not count.
pub(super) fn find(headers: &HeaderMap, uri: &Uri, sessions: &[Arc<str>]) -> Option<Credential> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned())
    });
    let subprotocol = || {
        let offered = text(header::SEC_WEBSOCKET_PROTOCOL)?;
        offered
            .split(',')
            .find_map(|protocol| protocol.trim().strip_prefix(SUBPROTOCOL_PREFIX))
            .map(str::to_owned)
    };
    let full = |token: &String| !token.is_empty();
    bearer
        .filter(full)
        .map(Credential::Bearer)
        .or_else(|| {
            query_token(uri)
                .or_else(subprotocol)
                .filter(full)
                .map(Credential::Given)
        })
        .or_else(|| from_cookies(headers, sessions))
}

fn from_cookies(headers: &HeaderMap, sessions: &[Arc<str>]) -> Option<Credential> {
    let all = cookies(headers);
    let tokens = all
        .iter()
        .filter(|(name, value)| name == COOKIE && !value.is_empty())
        .map(|(_, value)| Credential::Cookie(value.clone()));
    let sessions = sessions.iter().flat_map(|name| {
        let found = session(&all, name).into_iter();
        found.map(|token| Credential::Session(name.clone(), token))
    });
    let mut found: Vec<_> = tokens.chain(sessions).take(MAX_COOKIES).collect();
    match found.len() {
        0 | 1 => found.pop(),
        _ => Some(Credential::Cookies(found)),
    }
}

fn query_token(uri: &Uri) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(name, _)| matches!(*name, "token" | "yauth"))
        .find_map(|(_, value)| {
            let value = value.replace('+', " ");
            let token = percent_decode_str(&value).decode_utf8().ok()?;
            (!token.is_empty()).then(|| token.into_owned())
        })
}

/// Every cookie of a request. What is no text spoils only itself.
fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let read = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        let (name, value) = pair.trim().split_once('=')?;
        let value = value.trim();
        let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some((name.trim().to_owned(), inner.unwrap_or(value).to_owned()))
    };
    pairs.filter_map(read).collect()
}

/// What a session cookie may hold. One that is too large comes as `NAME.0`, `NAME.1`, …; a part that is missing leaves something
/// that nobody sealed, and so does one that a longer session has left behind. Of parts with the same name (a browser sends those
/// of the narrowest path first) either may be the right one.
fn session(cookies: &[(String, String)], wanted: &str) -> Vec<String> {
    let number = |name: &str| {
        let digits = name.strip_prefix(wanted)?.strip_prefix('.')?;
        let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse::<u8>().ok()).flatten()
    };
    let parts = || {
        cookies
            .iter()
            .filter_map(|(name, value)| Some((number(name)?, value.as_str())))
    };
    let last: BTreeMap<u8, &str> = parts().collect();
    let mut first: BTreeMap<u8, &str> = BTreeMap::new();
    for (number, value) in parts() {
        first.entry(number).or_insert(value);
    }
    let mut found: Vec<String> = Vec::new();
    for parts in [&first, &last] {
        let values: Vec<&str> = parts.values().copied().collect();
        for left in 0..=MAX_SHORTER.min(values.len().saturating_sub(1)) {
            found.push(values.iter().take(values.len() - left).copied().collect());
        }
    }
    let whole = cookies.iter().filter(|(name, _)| name == wanted);
    found.extend(whole.map(|(_, value)| value.clone()));
    let decoded = found.iter().filter_map(|token| {
        let token = percent_decode_str(token).decode_utf8().ok()?.into_owned();
        (!token.is_empty()).then_some(token)
    });
    let mut distinct = Vec::new();
    for token in decoded {
        if distinct.len() == MAX_COOKIES {
            break;
        }
        if !distinct.contains(&token) {
            distinct.push(token);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(headers: &[(header::HeaderName, &str)], uri: &str) -> Option<Credential> {
        let map = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a header value")))
            .collect();
        let names: Vec<Arc<str>> = super::super::session_cookie::COOKIES.map(Arc::from).to_vec();
        find(&map, &uri.parse().expect("a URI"), &names)
    }

    #[test]
    fn the_first_source_wins() {
        let bearer = (header::AUTHORIZATION, "bearer a");
        let protocol = (header::SEC_WEBSOCKET_PROTOCOL, "chat, yauth-c");
        let cookie = (header::COOKIE, "theme=dark; accessToken=d");
        let all = [bearer, protocol.clone(), cookie.clone()];
        assert_eq!(
            find_in(&all, "/ws/p?token=b"),
            Some(Credential::Bearer("a".into()))
        );
        assert_eq!(
            find_in(&all[1..], "/ws/p?x=1&yauth=b%20b"),
            Some(Credential::Given("b b".into()))
        );
        assert_eq!(
            find_in(&all[1..], "/ws/p?token="),
            Some(Credential::Given("c".into()))
        );
        assert_eq!(find_in(&[cookie], "/ws/p"), Some(Credential::Cookie("d".into())));
        assert_eq!(find_in(&[], "/ws/p"), None);
    }

    /// What is tried of the cookies of a request: name and token.
    fn tried(cookies: &[u8]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        let line = axum::http::HeaderValue::from_bytes(cookies).expect("a header");
        headers.insert(header::COOKIE, line);
        let names: Vec<Arc<str>> = super::super::session_cookie::COOKIES.map(Arc::from).to_vec();
        let each = match find(&headers, &"/ws/p".parse().expect("a URI"), &names) {
            Some(Credential::Cookies(all)) => all,
            found => found.into_iter().collect(),
        };
        let described = each.into_iter().map(|credential| match credential {
            Credential::Session(name, token) => (name.to_string(), token),
            other @ (Credential::Bearer(_)
            | Credential::Given(_)
            | Credential::Cookie(_)
            | Credential::Cookies(_)) => (COOKIE.to_owned(), other.token().to_owned()),
        });
        described.collect()
    }

    #[test]
    fn a_session_cookie_may_come_in_parts() {
        let named = |name: &str, tokens: &[&str]| {
            let tokens = tokens.iter().map(|token| (name.to_owned(), (*token).to_owned()));
            tokens.collect::<Vec<_>>()
        };
        let v5 = "authjs.session-token";
        assert_eq!(tried(b"authjs.session-token=a%2Eb"), named(v5, &["a.b"]));
        let parts = "authjs.session-token=x; authjs.session-token.10=d; authjs.session-token.0=a; authjs.session-token.2=c; \
                     authjs.session-token.1=b; authjs.session-token.a=y; authjs.session-token.100=z; \
                     authjs.session-token2=z";
        assert_eq!(
            tried(parts.as_bytes()),
            named(v5, &["abcd", "abc", "ab", "a", "x"])
        );
        let twice = b"authjs.session-token.0=a; authjs.session-token.1=b; authjs.session-token.0=c";
        assert_eq!(tried(twice), named(v5, &["ab", "a", "cb", "c"]));
        let nothing: [&[u8]; 2] = [
            b"my-next-auth.session-token=a; next-auth.session-token=",
            b"next-auth.session-token=%ff",
        ];
        for cookies in nothing {
            assert_eq!(tried(cookies), []);
        }
    }

    #[test]
    fn no_cookie_hides_another() {
        let values = |cookies: &[u8]| {
            let tokens = tried(cookies).into_iter().map(|(_, token)| token);
            tokens.collect::<Vec<_>>()
        };
        assert_eq!(values("name=José; accessToken=a".as_bytes()), ["a"]);
        assert_eq!(values(b"name=Jos\xe9; accessToken=a"), ["a"]);
        assert_eq!(values(b"accessToken=\xff; accessToken=a"), ["a"]);
        assert_eq!(
            values(b"accessToken=a; accessToken=\"b\"; accessToken="),
            ["a", "b"]
        );
        assert_eq!(values(b"=; ;; a; accessToken=a"), ["a"]);
        let both = b"next-auth.session-token=c; accessToken=a; __Secure-authjs.session-token=b";
        assert_eq!(values(both), ["a", "b", "c"]);
        let many = "accessToken=a; ".repeat(1000);
        assert_eq!(values(many.as_bytes()).len(), MAX_COOKIES);
    }
}
