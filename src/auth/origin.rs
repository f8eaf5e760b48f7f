//! Which pages may connect: the exact origins that are configured, and our own.
//!
//! Our own is that of `PAGEROOM_PUBLIC_URL`, else of the name under which a trusted proxy says that it was reached, else of the name that
//! the request is for. What others than trusted proxies say of how they were reached has been taken away before anything is asked here
//! ([`forget_claims`](super::forget_claims)).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderValue, header};

use super::{complaints, proxies::Reached};
use crate::rooms::{Refusal, RefusalCode};

const UNKNOWN_NAME: &str = "the server is not known by this name: allow it with CORS_ORIGIN";
const NOT_ALLOWED: &str = "pages of this origin may not connect: allow it with CORS_ORIGIN";
const COOKIE_ALONE: &str = "a cookie counts only with an Origin header";
const COOKIE_OF_ANY_PAGE: &str = "a cookie does not count from a page without an origin";

/// The origin of a page: scheme, host and port as a browser writes them. Shells of applications have schemes of their own
/// (`capacitor://localhost`, `chrome-extension://ID`, `file://`), and pages without an origin send `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// The text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an origin: {problem}")]
pub struct NotAnOrigin {
    text: String,
    problem: &'static str,
}

/// What pages without an origin send, such as those in a sandboxed frame.
const NULL: &str = "null";
/// Schemes that no page has.
const NO_PAGE: [&str; 8] = [
    "ws",
    "wss",
    "ftp",
    "data",
    "blob",
    "about",
    "javascript",
    "mailto",
];

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let bad = |problem| NotAnOrigin {
            text: text.to_owned(),
            problem,
        };
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case(NULL) {
            return Ok(Self(NULL.to_owned()));
        }
        let (scheme, rest) = trimmed
            .split_once("://")
            .ok_or_else(|| bad("write scheme, host and port, like `https://app.example.com`"))?;
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || NO_PAGE.contains(&scheme.as_str()) {
            return Err(bad("no page has this scheme: write `https://app.example.com`"));
        }
        let authority = rest.trim_end_matches('/');
        let is_web = matches!(scheme.as_str(), "http" | "https");
        if authority.is_empty() && !is_web {
            return Ok(Self(format!("{scheme}://")));
        }
        let (host, port) = host_and_port(authority).map_err(bad)?;
        let host = if is_web {
            web_host(&host).map_err(bad)?
        } else {
            host
        };
        let is_default = matches!((scheme.as_str(), port), ("http", Some(80)) | ("https", Some(443)));
        Ok(Self(match port.filter(|_| !is_default) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    if authority.contains('*') {
        return Err("wildcards match nothing: name each origin");
    }
    if authority.contains(['/', '?', '#', '@', '\\']) {
        return Err("it ends after the host and port");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let port = port.map(|port| port.parse::<u16>().ok().filter(|number| *number != 0));
    if port == Some(None) {
        return Err("its port is none: ports are between 1 and 65535");
    }
    if !host.is_ascii() {
        return Err("browsers send such a name encoded: write its `xn--` form");
    }
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    if host.is_empty() || !(is_bracketed || host.bytes().all(is_name)) {
        return Err("its host is no name and no address");
    }
    Ok((host.to_ascii_lowercase(), port.flatten()))
}

/// A host as browsers write it.
fn web_host(host: &str) -> Result<String, &'static str> {
    let no_address = "its host is no address";
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let v6: Ipv6Addr = v6.parse().map_err(|_| no_address)?;
        return Ok(format!("[{v6}]"));
    }
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let looks_like_address = last.bytes().all(|byte| byte.is_ascii_digit());
    if looks_like_address && host.parse::<Ipv4Addr>().is_err() {
        return Err(no_address);
    }
    Ok(host.to_owned())
}

impl Origin {
    /// The origin as a browser writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_web(&self) -> bool {
        self.0.starts_with("http://") || self.0.starts_with("https://")
    }

    fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }

    fn host(&self) -> &str {
        let host = match self.authority().strip_prefix('[') {
            Some(v6) => v6.split(']').next(),
            None => self.authority().split(':').next(),
        };
        host.unwrap_or_default()
    }

    /// Whether it is a page that a server on this machine serves.
    fn is_loopback(&self) -> bool {
        let host = self.host();
        self.is_web()
            && (host == "localhost"
                || host.ends_with(".localhost")
                || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
    }
}

/// Which origins may connect.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    /// Those that are configured.
    pub allowed: Vec<Origin>,
    /// Where clients reach the server, if that is said.
    pub public: Option<Origin>,
    /// Whether pages of this machine may too: while nothing else is configured and the server runs open on loopback, for
    /// development servers.
    pub loopback: bool,
    /// Whether requests must be for a name of this machine or one that is configured: where everybody may do everything, because only
    /// programs of this machine reach it. A browser does so for a page of a stranger whose name has been pointed here; that page may send
    /// any header but `Host`, so no other is believed.
    pub own_names: bool,
}

impl OriginPolicy {
    /// Checks the `Origin` of a request. Programs that are no browsers send none; with a cookie it must be there, because a
    /// browser sends cookies with other people's pages as well.
    pub fn check(&self, headers: &HeaderMap, with_cookie: bool) -> Result<(), Refusal> {
        if self.own_names && !self.is_for_own_name(headers) {
            let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
            let host = complaints::shown(&String::from_utf8_lossy(host.unwrap_or_default()));
            if complaints::is_due_of_stranger(&format!("name {host}")) {
                tracing::warn!(
                    host,
                    "requests for this name are refused, because without tokens a stranger's page could make them: if it is the \
                     server's, allow it with CORS_ORIGIN, or set JWT_SECRET"
                );
            }
            return Err(forbidden(UNKNOWN_NAME));
        }
        let Some(sent) = headers.get(header::ORIGIN) else {
            return match with_cookie {
                true => Err(forbidden(COOKIE_ALONE)),
                false => Ok(()),
            };
        };
        // Any page can send these, from a sandboxed frame or a file: only a token that the page itself knows says who it is.
        if with_cookie && matches!(sent.as_bytes(), b"null" | b"file://") {
            return Err(forbidden(COOKIE_OF_ANY_PAGE));
        }
        match self.lets_in(sent, headers) {
            true => Ok(()),
            false => Err(forbidden(NOT_ALLOWED)),
        }
    }

    /// Checks a request with which a browser asks whether its page may make another one. It is the browser that refuses.
    pub fn check_preflight(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match headers.get(header::ORIGIN) {
            Some(sent) if !self.lets_in(sent, headers) => Err(forbidden(NOT_ALLOWED)),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether pages of an origin may connect, and read answers. Everything that must know asks here.
    pub fn lets_in(&self, sent: &HeaderValue, headers: &HeaderMap) -> bool {
        let origin = sent.to_str().ok().and_then(|text| text.parse::<Origin>().ok());
        origin.is_some_and(|origin| self.allows(&origin, headers))
    }

    /// Whether a request is for a name that this server goes by. Programs that name none are no browsers.
    fn is_for_own_name(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(header::HOST) else {
            return true;
        };
        let named = host.to_str().ok();
        let named = named.and_then(|host| format!("http://{host}").parse::<Origin>().ok());
        named.is_some_and(|named| {
            let is_its = |allowed: &Origin| allowed.is_web() && allowed.host() == named.host();
            named.is_loopback() || self.allowed.iter().chain(&self.public).any(is_its)
        })
    }

    fn allows(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        // Without tokens our own name is no proof: a stranger's name may have been pointed at this machine.
        self.allowed.contains(origin)
            || self.public.as_ref() == Some(origin)
            || match self.loopback {
                true => origin.is_loopback(),
                false => self.is_own(origin, headers),
            }
    }

    /// Whether a page comes from where a request found the server.
    fn is_own(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        if self.public.is_some() {
            return false;
        }
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let told = match self.own_names {
            true => None,
            false => Reached::told(headers).host,
        };
        let host = told.as_deref().or(named).unwrap_or_default();
        ["http", "https"]
            .iter()
            .any(|scheme| format!("{scheme}://{host}").parse::<Origin>().as_ref() == Ok(origin))
    }
}

/// The origin that a page says it is of, as far as it is repeated to whoever runs the server.
pub fn shown_origin(headers: &HeaderMap) -> Option<String> {
    let sent = headers.get(header::ORIGIN)?;
    Some(complaints::shown(&String::from_utf8_lossy(sent.as_bytes())))
}

/// Whether somebody was refused for where a page came from, whoever it was.
pub(super) fn is_refused_for_origin(refusal: &Refusal) -> bool {
    refusal.message == NOT_ALLOWED
}

/// Whether somebody was refused for the name under which the server was asked.
pub(super) fn is_refused_for_name(refusal: &Refusal) -> bool {
    refusal.message == UNKNOWN_NAME
}

/// Whether a cookie did not count for where it came from.
pub(super) fn is_refused_for_cookie(refusal: &Refusal) -> bool {
    [COOKIE_ALONE, COOKIE_OF_ANY_PAGE].contains(&&*refusal.message)
}

fn forbidden(message: &'static str) -> Refusal {
    Refusal::new(RefusalCode::Forbidden, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &OriginPolicy, host: &str, origin: Option<&str>, with_cookie: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a host"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
        }
        policy.check(&headers, with_cookie).is_ok()
    }

    #[test]
    fn exact_origins_and_our_own_may_connect() {
        let policy = OriginPolicy {
            allowed: vec!["https://App.example.com:443/".parse().expect("an origin")],
            ..OriginPolicy::default()
        };
        for (origin, with_cookie, allowed) in [
            (None, false, true),
            (None, true, false),
            (Some("https://app.example.com"), true, true),
            (Some("http://app.example.com"), false, false),
            (Some("https://app.example.com:8443"), false, false),
            (Some("https://app.example.com.evil.net"), false, false),
            (Some("https://pages.example.com:3001"), false, true),
            (Some("http://localhost:5173"), false, false),
            (Some("null"), false, false),
        ] {
            assert_eq!(
                check(&policy, "pages.example.com:3001", origin, with_cookie),
                allowed,
                "{origin:?} {with_cookie}"
            );
        }
        let open = OriginPolicy {
            loopback: true,
            own_names: true,
            ..OriginPolicy::default()
        };
        assert!(check(
            &open,
            "127.0.0.1:3001",
            Some("http://localhost:5173"),
            false
        ));
        assert!(check(&open, "127.0.0.1:3001", Some("http://[::1]:5173"), false));
        assert!(!check(&open, "127.0.0.1:3001", Some("https://evil.net"), false));
    }

    #[test]
    fn a_stranger_s_name_is_not_ours() {
        let policy = OriginPolicy {
            allowed: vec!["https://pages.example.com".parse().expect("an origin")],
            own_names: true,
            ..OriginPolicy::default()
        };
        for (host, ours) in [
            ("localhost:3001", true),
            ("127.0.0.1", true),
            ("127.8.0.1:80", true),
            ("[::1]:3001", true),
            ("pages.example.com", true),
            ("pages.example.com:3001", true),
            ("evil.net", false),
            ("localhost.evil.net:3001", false),
            ("evil.net:3001", false),
            ("192.0.2.1:3001", false),
            ("a@localhost", false),
            ("", false),
        ] {
            assert_eq!(check(&policy, host, None, false), ours, "{host}");
        }
    }

    #[test]
    fn our_own_origin_is_what_is_said_then_what_a_proxy_says_then_what_the_request_is_for() {
        let public = "https://pages.example.com".parse().ok();
        let tokens = OriginPolicy::default();
        let behind = OriginPolicy {
            public: public.clone(),
            ..OriginPolicy::default()
        };
        let open = OriginPolicy {
            loopback: true,
            own_names: true,
            ..OriginPolicy::default()
        };
        let open_behind = OriginPolicy {
            public,
            ..open.clone()
        };
        let (pages, inner) = ("https://pages.example.com", "http://127.0.0.1:3001");
        let forwarded = Some(("forwarded", "for=192.0.2.1;host=pages.example.com"));
        let x_forwarded = Some(("x-forwarded-host", "pages.example.com"));
        for (policy, host, told, origin, allowed) in [
            (&tokens, "127.0.0.1:3001", None, inner, true),
            (&tokens, "127.0.0.1:3001", None, pages, false),
            (&tokens, "127.0.0.1:3001", x_forwarded, pages, true),
            (&tokens, "127.0.0.1:3001", forwarded, pages, true),
            // A page of the visitor's own machine is not ours because the server is at the same address of its own.
            (&tokens, "127.0.0.1:3001", x_forwarded, inner, false),
            (&behind, "127.0.0.1:3001", None, pages, true),
            (&behind, "127.0.0.1:3001", None, inner, false),
            (&behind, "127.0.0.1:3001", None, "http://pages.example.com", false),
            (
                &behind,
                "evil.net",
                Some(("x-forwarded-host", "evil.net")),
                "https://evil.net",
                false,
            ),
            (&open, "127.0.0.1:3001", x_forwarded, pages, false),
            // A stranger's page whose name was pointed here may say what it wants of how it came.
            (
                &open,
                "evil.net",
                Some(("x-forwarded-host", "127.0.0.1")),
                inner,
                false,
            ),
            (&open_behind, "127.0.0.1:3001", None, pages, true),
            (&open_behind, "pages.example.com", None, pages, true),
            (&open_behind, "127.0.0.1:3001", None, inner, true),
            (&open_behind, "evil.net", None, pages, false),
            (&open_behind, "evil.net", x_forwarded, pages, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a host"));
            headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
            if let Some((name, value)) = told {
                headers.insert(name, value.parse().expect("a header"));
            }
            let checked = policy.check(&headers, false).is_ok();
            assert_eq!(checked, allowed, "{policy:?} {headers:?}");
        }
    }

    #[test]
    fn what_is_no_origin_says_so() {
        for bad in [
            "*",
            "example.com",
            "localhost:5173",
            "ftp://a",
            "wss://a",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://*.example.com",
            "https://*",
            "https://example.com:99999",
            "https://example.com:0",
            "https://example.com:",
            "https://example.com:http",
            "https://",
            "https://a b",
            "https://b\u{fc}cher.example",
            "https://1.2.3",
            "https://[::1",
            "https://[x]",
            "://a",
            "1a://b",
            "",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shells_of_applications_are_let_in_by_name_alone() {
        let shells = [
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "https://tauri.localhost",
            "app://-",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
            "vscode-webview://0k5i6jpd",
            "file://",
            "null",
        ];
        let policy = |allowed: &[&str]| OriginPolicy {
            allowed: allowed
                .iter()
                .map(|text| text.parse().expect("an origin"))
                .collect(),
            ..OriginPolicy::default()
        };
        for shell in shells {
            assert!(
                check(&policy(&[shell]), "pages.example.com", Some(shell), false),
                "{shell}"
            );
            let other = policy(&["https://app.example.com"]);
            assert!(!check(&other, "pages.example.com", Some(shell), false), "{shell}");
            let everything: Vec<_> = shells.iter().copied().filter(|other| *other != shell).collect();
            assert!(
                !check(&policy(&everything), "pages.example.com", Some(shell), false),
                "{shell}"
            );
        }
        assert!(check(&policy(&["file:///"]), "a", Some("file://"), false));
        let open = OriginPolicy {
            loopback: true,
            own_names: true,
            ..OriginPolicy::default()
        };
        for (origin, allowed) in [
            ("http://app.localhost:5173", true),
            ("https://127.0.0.2", true),
            ("capacitor://localhost", false),
            ("null", false),
            ("file://", false),
        ] {
            assert_eq!(
                check(&open, "127.0.0.1:3001", Some(origin), false),
                allowed,
                "{origin}"
            );
        }
    }

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        for (given, written) in [
            ("HTTPS://App.Example.com:443/", "https://app.example.com"),
            ("http://[0:0:0:0:0:0:0:1]:80", "http://[::1]"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
            ("App://-", "app://-"),
            (" NULL ", "null"),
            ("file:///", "file://"),
        ] {
            assert_eq!(
                given.parse::<Origin>().expect("an origin").as_str(),
                written,
                "{given}"
            );
        }
    }

    #[test]
    fn a_page_without_an_origin_needs_a_token_that_it_knows() {
        for origin in ["null", "file://"] {
            let policy = OriginPolicy {
                allowed: vec![origin.parse().expect("an origin")],
                ..OriginPolicy::default()
            };
            assert!(
                check(&policy, "pages.example.com", Some(origin), false),
                "{origin}"
            );
            assert!(
                !check(&policy, "pages.example.com", Some(origin), true),
                "{origin}"
            );
        }
    }
}
