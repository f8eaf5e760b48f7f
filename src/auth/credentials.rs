//! Finds the token in a request: bearer header, query, WebSocket subprotocol, cookie, in this order.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;

use super::session_cookie;

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
    Session(&'static str, String),
}

impl Credential {
    /// The token.
    pub fn token(&self) -> &str {
        match self {
            Self::Bearer(token) | Self::Given(token) | Self::Cookie(token) | Self::Session(_, token) => token,
        }
    }

    /// Whether a browser sends it by itself.
    pub fn is_cookie(&self) -> bool {
        matches!(self, Self::Cookie(_) | Self::Session(..))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer([secret])",
            Self::Given(_) => "Given([secret])",
            Self::Cookie(_) => "Cookie([secret])",
            Self::Session(..) => "Session([secret])",
        })
    }
}

/// The first credential of a request. Empty ones do not count.
pub fn find(headers: &HeaderMap, uri: &Uri) -> Option<Credential> {
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
        .or_else(|| cookie(headers, COOKIE).filter(full).map(Credential::Cookie))
        .or_else(|| {
            let found = |name| Some(Credential::Session(name, session(headers, name).filter(full)?));
            session_cookie::COOKIES.into_iter().find_map(found)
        })
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

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
}

fn cookie(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let mut cookies = cookies(headers);
    cookies.find_map(|(name, value)| (name == wanted).then(|| value.to_owned()))
}

/// A session cookie, which is cut into `NAME.0`, `NAME.1`, … when it is too large for one. A part that is missing leaves
/// something that nobody sealed.
fn session(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let number = |name: &str| {
        let digits = name.strip_prefix(wanted)?.strip_prefix('.')?;
        let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse::<u8>().ok()).flatten()
    };
    let parts: BTreeMap<u8, &str> = cookies(headers)
        .filter_map(|(name, value)| Some((number(name)?, value)))
        .collect();
    let whole = match parts.is_empty() {
        true => cookie(headers, wanted)?,
        false => parts.into_values().collect(),
    };
    Some(percent_decode_str(&whole).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(headers: &[(header::HeaderName, &str)], uri: &str) -> Option<Credential> {
        let map = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a header value")))
            .collect();
        find(&map, &uri.parse().expect("a URI"))
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

    #[test]
    fn a_session_cookie_may_come_in_parts() {
        let find = |cookies: &str| match find_in(&[(header::COOKIE, cookies)], "/ws/p") {
            Some(Credential::Session(name, token)) => Some((name, token)),
            Some(_) | None => None,
        };
        let named = |name: &'static str, token: &str| Some((name, token.to_owned()));
        assert_eq!(
            find("authjs.session-token=a%2Eb"),
            named("authjs.session-token", "a.b")
        );
        let parts = "authjs.session-token=x; authjs.session-token.10=d; authjs.session-token.0=a; authjs.session-token.2=c; \
                     authjs.session-token.1=b; authjs.session-token.a=y; authjs.session-token.100=z; \
                     authjs.session-token2=z";
        assert_eq!(find(parts), named("authjs.session-token", "abcd"));
        let both = "next-auth.session-token=a; __Secure-next-auth.session-token=b";
        assert_eq!(find(both), named("__Secure-next-auth.session-token", "b"));
        assert_eq!(
            find("my-next-auth.session-token=a; next-auth.session-token="),
            None
        );
        assert_eq!(find("next-auth.session-token=%ff"), None);
    }
}
