//! Which web pages may connect: the exact origins that are configured, and our own.

use std::str::FromStr;

use axum::http::{HeaderMap, Uri, header};

use crate::rooms::{Refusal, RefusalCode};

/// A web origin: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// The text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin: write scheme, host and port, like `https://app.example.com`")]
pub struct NotAnOrigin(String);

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let bad = || NotAnOrigin(text.to_owned());
        let trimmed = text.trim().trim_end_matches('/');
        let uri: Uri = trimmed.parse().map_err(|_| bad())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(bad());
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(bad());
        }
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(bad()),
        };
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().filter(|port| *port != default);
        Ok(Self(port.map_or_else(
            || format!("{scheme}://{host}"),
            |port| format!("{scheme}://{host}:{port}"),
        )))
    }
}

impl Origin {
    /// The origin as a browser writes it.
    pub fn as_str(&self) -> &str {
        &self.0
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

    fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Which origins may connect.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    /// Those that are configured.
    pub allowed: Vec<Origin>,
    /// Whether pages of this machine may too: while nothing else is configured and the server runs open on loopback, for
    /// development servers.
    pub loopback: bool,
    /// Whether requests must be for a name of this machine or one that is configured: where everybody may do everything, because only
    /// programs of this machine reach it. A browser does so for a page of a stranger whose name has been pointed here.
    pub own_names: bool,
}

impl OriginPolicy {
    /// Checks the `Origin` of a request. Programs that are no browsers send none; with a cookie it must be there, because a
    /// browser sends cookies with other people's pages as well.
    pub fn check(&self, headers: &HeaderMap, with_cookie: bool) -> Result<(), Refusal> {
        if self.own_names && !self.is_for_own_name(headers) {
            return Err(forbidden(
                "the server is not known by this name: allow it with CORS_ORIGIN",
            ));
        }
        let Some(sent) = headers.get(header::ORIGIN) else {
            return match with_cookie {
                true => Err(forbidden("a cookie counts only with an Origin header")),
                false => Ok(()),
            };
        };
        let origin = sent.to_str().ok().and_then(|text| text.parse::<Origin>().ok());
        match origin {
            Some(origin) if self.allows(&origin, headers) => Ok(()),
            Some(_) | None => Err(forbidden(
                "pages of this origin may not connect: allow it with CORS_ORIGIN",
            )),
        }
    }

    /// Whether a request is for a name that this server goes by. Programs that name none are no browsers.
    fn is_for_own_name(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(header::HOST) else {
            return true;
        };
        let named = host.to_str().ok();
        let named = named.and_then(|host| format!("http://{host}").parse::<Origin>().ok());
        named.is_some_and(|named| {
            named.is_loopback() || self.allowed.iter().any(|allowed| allowed.host() == named.host())
        })
    }

    fn allows(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        let own = || {
            let host = headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default();
            ["http", "https"]
                .iter()
                .any(|scheme| format!("{scheme}://{host}").parse::<Origin>().as_ref() == Ok(origin))
        };
        // Without tokens our own name is no proof: a stranger's name may have been pointed at this machine.
        self.allowed.contains(origin)
            || if self.loopback {
                origin.is_loopback()
            } else {
                own()
            }
    }
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
            loopback: false,
            own_names: false,
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
            allowed: vec![],
            loopback: true,
            own_names: true,
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
            loopback: false,
            own_names: true,
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
    fn what_is_no_origin_says_so() {
        for bad in ["*", "example.com", "ftp://a", "https://a/b", "https://u@a"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
