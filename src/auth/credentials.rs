//! Finds the token in a request: bearer header, query, WebSocket subprotocol, cookie, in this order.

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
}

impl Credential {
    /// The token.
    pub fn token(&self) -> &str {
        match self {
            Self::Bearer(token) | Self::Given(token) | Self::Cookie(token) => token,
        }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer([secret])",
            Self::Given(_) => "Given([secret])",
            Self::Cookie(_) => "Cookie([secret])",
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
        .or_else(|| cookie(headers).filter(full).map(Credential::Cookie))
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

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies.flat_map(|cookies| cookies.split(';')).find_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE).then(|| value.to_owned())
    })
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
}
