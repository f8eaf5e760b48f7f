//! Whose address a request counts for, behind proxies.
//!
//! A proxy appends the address that it was reached from, so a list of hops is read from the right, over proxies that are trusted, to
//! the first that is not: everything left of it is the client's own claim. A hop that cannot be read makes nobody exempt from
//! anything: whoever came over it shares a place with all others of whom the same is true.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use super::complaints;

/// The list that most proxies write.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What only a proxy writes, and says nothing of whose request it is.
const SIGNS_OF_PROXY: [&str; 7] = [
    "via",
    "x-real-ip",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
];

/// Where all count who come over a proxy on this machine from an address that nobody can read.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether somebody's word about others is taken.
pub fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    trusted.iter().any(|network| network.contains(&ip))
}

/// The address that a request counts for: the peer's, or behind trusted proxies that of the last hop which is none, by
/// `X-Forwarded-For` or `Forwarded` (RFC 7239). Limits, rates, delays and the audit log all ask here.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let listed = joined(headers, &X_FORWARDED_FOR)
        .map(|text| from_the_right(peer, text.split(',').map(str::to_owned), trusted));
    let forwarded = joined(headers, &header::FORWARDED)
        .map(|text| from_the_right(peer, forwarded_for(&text).into_iter(), trusted));
    match (listed, forwarded) {
        // What has come through a proxy is nothing of this machine's own.
        (None, None) if SIGNS_OF_PROXY.iter().any(|name| headers.contains_key(*name)) => unknown_behind(peer),
        (None, None) => peer,
        (Some(address), None) | (None, Some(address)) => address,
        (Some(listed), Some(forwarded)) if listed == forwarded => listed,
        // A proxy writes one of the two and passes the other on as the client sent it. Which is which, only its operator knows.
        (Some(_), Some(_)) => unknown_behind(peer),
    }
}

/// Tells whoever runs the server of a request for which no limit of addresses holds, although it may be a client's: from this machine, where
/// a proxy is trusted, and without a word of whose it is.
pub fn tell_of_silent_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) {
    let peer = peer.to_canonical();
    let says_whose = headers.contains_key(&X_FORWARDED_FOR) || headers.contains_key(header::FORWARDED);
    if peer.is_loopback() && is_trusted(peer, trusted) && !says_whose && complaints::is_due("silent proxy") {
        tracing::warn!(
            %peer,
            "PAGEROOM_TRUSTED_PROXIES names this address, and what comes from there has neither X-Forwarded-For nor Forwarded: if it is \
             a proxy's, let it send one of them, because no limit can tell its clients apart"
        );
    }
}

/// How a client reached the proxy that wrote these headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Over TLS.
    pub is_secure: bool,
    /// Under this name and port.
    pub host: Option<String>,
    /// Under this path, which the proxy has taken away.
    pub prefix: String,
}

impl Reached {
    /// What a trusted proxy tells, in the headers that proxies write or in `Forwarded`.
    pub fn told(headers: &HeaderMap) -> Self {
        let last = |name: &'static str| {
            let list = joined(headers, &HeaderName::from_static(name))?;
            let last = list.rsplit(',').map(str::trim).find(|item| !item.is_empty());
            last.map(str::to_owned)
        };
        let element = joined(headers, &header::FORWARDED)
            .filter(|text| !ends_quoted(text))
            .and_then(|text| elements(&text).last());
        let forwarded = |wanted: &str| {
            let mut pairs = element.iter().flatten();
            pairs
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.clone())
        };
        let proto = last("x-forwarded-proto").or_else(|| forwarded("proto"));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
        let is_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte);
        let host = last("x-forwarded-host").or_else(|| forwarded("host"));
        let prefix = last("x-forwarded-prefix").filter(|prefix| prefix.starts_with('/'));
        let prefix = prefix.filter(|prefix| !prefix.starts_with("//") && prefix.bytes().all(is_path));
        Self {
            is_secure: proto.is_some_and(|proto| matches!(&*proto.to_ascii_lowercase(), "https" | "wss")),
            host: host.filter(|host| !host.is_empty() && host.bytes().all(is_name)),
            prefix: prefix.map_or_else(String::new, |prefix| prefix.trim_end_matches('/').to_owned()),
        }
    }
}

/// Takes away what only a proxy may say of how it was reached, from a request of somebody else. Everything behind that may believe it.
pub fn forget_claims(headers: &mut HeaderMap) {
    let names = ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"];
    for name in names
        .map(HeaderName::from_static)
        .iter()
        .chain([&header::FORWARDED])
    {
        headers.remove(name);
    }
}

/// Where clients reach the server, as its operator says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Name, port and path, without a slash at its end.
    pub place: String,
}

impl PublicUrl {
    /// The origin of pages that are shown there.
    pub fn origin(&self) -> Option<super::Origin> {
        let authority = self.place.split('/').next().unwrap_or_default();
        format!("{}://{authority}", self.scheme).parse().ok()
    }
}

impl std::str::FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => ("https", rest),
            (None, Some(rest)) => ("http", rest),
            (None, None) => return Err("write http://… or https://…".to_owned()),
        };
        let place = rest.trim_end_matches('/');
        if place.contains(['?', '#', '@', ' ']) {
            return Err("write scheme, host, port and path, and nothing else".to_owned());
        }
        let authority = place.split('/').next().unwrap_or_default();
        let origin = format!("{scheme}://{authority}").parse::<super::Origin>();
        origin.map_err(|error| error.to_string())?;
        Ok(Self {
            scheme,
            place: place.to_owned(),
        })
    }
}

/// All lines of a header as one list. Bytes that are no text spoil only their own hop.
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

fn from_the_right(peer: IpAddr, hops: impl DoubleEndedIterator<Item = String>, trusted: &[IpNet]) -> IpAddr {
    let mut last = None;
    // Empty members of a list mean nothing (RFC 9110 §5.6.1).
    for hop in hops.rev().filter(|hop| !hop.trim().is_empty()) {
        let behind = last.unwrap_or(peer);
        match address_of(&hop) {
            Some(ip) if is_trusted(ip, trusted) => last = Some(ip),
            // The loopback of another machine is nobody's address either.
            Some(ip) if ip.is_loopback() || ip.is_unspecified() => return unknown_behind(behind),
            Some(ip) => return ip,
            None => return unknown_behind(behind),
        }
    }
    // Proxies from end to end: the first of them asks for itself.
    last.unwrap_or_else(|| unknown_behind(peer))
}

/// Whoever cannot be told apart counts as the proxy, unless that counts as nobody.
fn unknown_behind(proxy: IpAddr) -> IpAddr {
    match proxy.is_loopback() {
        true => UNKNOWN,
        false => proxy,
    }
}

/// The address of a hop, which may be quoted, bracketed, or have a port or a zone; `None` for `unknown`, `_hidden` and nonsense.
fn address_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let hop = hop
        .strip_prefix('"')
        .and_then(|hop| hop.strip_suffix('"'))
        .unwrap_or(hop)
        .trim();
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok() || port.starts_with('_');
    let host = match hop.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            let port = rest.strip_prefix(':').or(rest.is_empty().then_some(""))?;
            is_port(port).then_some(host)?
        }
        None => match hop.split_once(':') {
            // More colons are those of an address of version 6.
            Some((host, port)) if !port.contains(':') => is_port(port).then_some(host)?,
            Some(_) | None => hop,
        },
    };
    let host = host.split_once('%').map_or(host, |(address, _zone)| address);
    host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// The hops of `Forwarded`: what each element says as `for`, and something that is no address where it says nothing.
fn forwarded_for(text: &str) -> Vec<String> {
    // A quote that never ends may have swallowed what a proxy has added.
    if ends_quoted(text) {
        return vec!["unknown".to_owned()];
    }
    elements(text)
        .map(|pairs| {
            let named = pairs.into_iter().find(|(name, _)| name == "for");
            named.map_or_else(|| "unknown".to_owned(), |(_, value)| value)
        })
        .collect()
}

/// The elements of `Forwarded`, each a list of names in lower case and values without quotes. Commas and semicolons between
/// quotes separate nothing.
pub(super) fn elements(text: &str) -> impl Iterator<Item = Vec<(String, String)>> {
    let pairs = |element: &str| {
        let pairs = split(element, ';').into_iter();
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim();
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let value = inner.map_or_else(|| value.to_owned(), |inner| inner.replace('\\', ""));
            Some((name.trim().to_ascii_lowercase(), value))
        });
        pairs.collect::<Vec<_>>()
    };
    split(text, ',')
        .into_iter()
        .filter(|element| !element.trim().is_empty())
        .map(|element| pairs(&element))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Whether a text ends between quotes.
fn ends_quoted(text: &str) -> bool {
    let mut quotes = Quotes::default();
    text.chars().for_each(|letter| quotes.read(letter));
    quotes.are_open
}

fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut quotes = Quotes::default();
    for letter in text.chars() {
        if letter == separator && !quotes.are_open {
            parts.push(std::mem::take(&mut part));
            continue;
        }
        quotes.read(letter);
        part.push(letter);
    }
    parts.push(part);
    parts
}

/// Follows the quotes of a header (RFC 9110 §5.6.4).
#[derive(Default)]
struct Quotes {
    are_open: bool,
    is_escaped: bool,
}

impl Quotes {
    fn read(&mut self, letter: char) {
        self.are_open ^= letter == '"' && !self.is_escaped;
        self.is_escaped = self.are_open && letter == '\\' && !self.is_escaped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(trusted: &[&str], peer: &str, headers: &[(&str, &[u8])]) -> String {
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|text| text.parse().expect("a network"))
            .collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            map.append(
                name,
                axum::http::HeaderValue::from_bytes(value).expect("a header"),
            );
        }
        client_address(peer.parse().expect("an address"), &map, &trusted).to_string()
    }

    #[test]
    fn a_list_of_hops_is_read_from_the_right_over_trusted_ones() {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "2001:db8:ffff::/48"];
        for (list, expected) in [
            ("198.51.100.9", "198.51.100.9"),
            ("unknown, 198.51.100.9", "198.51.100.9"),
            ("192.0.2.66, 198.51.100.7, 10.1.1.1", "198.51.100.7"),
            ("nonsense, 198.51.100.7 , 10.1.1.1", "198.51.100.7"),
            ("198.51.100.9:4711", "198.51.100.9"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("fe80::1%eth0", "fe80::1"),
            ("\"198.51.100.9\"", "198.51.100.9"),
            ("\"[2001:db8::7]:80\"", "2001:db8::7"),
            ("::ffff:198.51.100.9", "198.51.100.9"),
            ("198.51.100.9,,", "198.51.100.9"),
            (", 198.51.100.9", "198.51.100.9"),
            ("198.51.100.9, 2001:db8:ffff::1", "198.51.100.9"),
            ("10.2.2.2", "10.2.2.2"),
            ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
            // Nobody is exempt for what cannot be read.
            ("unknown", "0.0.0.0"),
            ("198.51.100.9, unknown", "0.0.0.0"),
            ("198.51.100.9, _hidden", "0.0.0.0"),
            ("198.51.100.9, _hidden:80", "0.0.0.0"),
            ("198.51.100.9, localhost", "0.0.0.0"),
            ("198.51.100.9, 127.0.0.2", "0.0.0.0"),
            ("198.51.100.9, ::1", "0.0.0.0"),
            ("198.51.100.9, 0.0.0.0", "0.0.0.0"),
            ("198.51.100.9, 1.2.3", "0.0.0.0"),
            ("198.51.100.9:port", "0.0.0.0"),
            ("198.51.100.9, [::1", "0.0.0.0"),
            ("", "0.0.0.0"),
            (",, ,", "0.0.0.0"),
            ("198.51.100.9, unknown, 10.1.1.1", "10.1.1.1"),
        ] {
            let found = address(&trusted, "127.0.0.1", &[("x-forwarded-for", list.as_bytes())]);
            assert_eq!(found, expected, "{list}");
        }
        assert_eq!(address(&trusted, "::ffff:127.0.0.1", &[]), "127.0.0.1");
        // A proxy that says of itself that it is one, and not whom it serves.
        for sign in SIGNS_OF_PROXY {
            let headers: &[(&str, &[u8])] = &[(sign, b"198.51.100.9")];
            assert_eq!(address(&trusted, "127.0.0.1", headers), "0.0.0.0", "{sign}");
            assert_eq!(address(&trusted, "10.0.0.1", headers), "10.0.0.1", "{sign}");
            assert_eq!(address(&[], "127.0.0.1", headers), "127.0.0.1", "{sign}");
        }
        let two: &[(&str, &[u8])] = &[
            ("x-forwarded-for", b"\xff\xfe"),
            ("x-forwarded-for", b"198.51.100.9"),
        ];
        assert_eq!(address(&trusted, "127.0.0.1", two), "198.51.100.9");
        assert_eq!(address(&trusted, "127.0.0.1", &two[..1]), "0.0.0.0");
    }

    #[test]
    fn a_proxy_tells_how_it_was_reached() {
        let told = |headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name: HeaderName = name.parse().expect("a name");
                map.append(name, value.parse().expect("a header"));
            }
            let told = Reached::told(&map);
            let host = told.host.unwrap_or_default();
            format!("{} {host} {}", told.is_secure, told.prefix)
        };
        let own = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example:8443"),
            ("x-forwarded-prefix", "/pages/"),
        ];
        assert_eq!(told(&own), "true a.example:8443 /pages");
        assert_eq!(
            told(&[(
                "forwarded",
                "for=1.2.3.4;host=evil, for=1.2.3.5;proto=https;host=\"a.example:1\""
            )]),
            "true a.example:1 "
        );
        assert_eq!(told(&[("x-forwarded-proto", "http, wss")]), "true  ");
        assert_eq!(
            told(&[("x-forwarded-host", "a/b"), ("x-forwarded-prefix", "//evil.net")]),
            "false  "
        );
        assert_eq!(told(&[]), "false  ");
        let public = |text: &str| text.parse::<PublicUrl>().ok().map(|url| (url.scheme, url.place));
        assert_eq!(
            public("https://a.example/pages/"),
            Some(("https", "a.example/pages".to_owned()))
        );
        assert_eq!(public("http://[::1]:80"), Some(("http", "[::1]:80".to_owned())));
        for bad in [
            "a.example",
            "wss://a",
            "https://",
            "https://a?x",
            "https://u@a",
            "https://a:99999",
        ] {
            assert_eq!(public(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let headers: &[(&str, &[u8])] = &[
            ("x-forwarded-for", b"192.0.2.66, 198.51.100.7, 10.1.1.1"),
            ("forwarded", b"for=192.0.2.66"),
        ];
        let found = address(&["10.0.0.0/8"], "203.0.113.5", headers);
        assert_eq!(found, "203.0.113.5");
        let found = address(&["10.0.0.0/8"], "10.0.0.1", &headers[..1]);
        assert_eq!(found, "198.51.100.7");
    }

    #[test]
    fn forwarded_is_read_as_its_standard_says() {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8"];
        for (list, expected) in [
            ("for=198.51.100.9", "198.51.100.9"),
            (
                "For=\"[2001:db8:cafe::17]:4711\";proto=https;by=203.0.113.43",
                "2001:db8:cafe::17",
            ),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=198.51.100.17;by=10.0.0.9, for=10.0.0.1", "198.51.100.17"),
            ("for=\"a,b;for=198.51.100.9\", for=10.0.0.1", "10.0.0.1"),
            ("for=\"198.51.100.9:_port\"", "198.51.100.9"),
            ("for=198.51.100.9, for=unknown", "0.0.0.0"),
            ("for=198.51.100.9, for=_gazonk", "0.0.0.0"),
            ("for=198.51.100.9, proto=https", "0.0.0.0"),
            ("", "0.0.0.0"),
        ] {
            let found = address(&trusted, "127.0.0.1", &[("forwarded", list.as_bytes())]);
            assert_eq!(found, expected, "{list}");
        }
        let both = |listed: &'static str, forwarded: &'static str| {
            let headers = [
                ("x-forwarded-for", listed.as_bytes()),
                ("forwarded", forwarded.as_bytes()),
            ];
            address(&trusted, "127.0.0.1", &headers)
        };
        assert_eq!(both("198.51.100.9", "for=198.51.100.9"), "198.51.100.9");
        assert_eq!(both("198.51.100.9", "for=192.0.2.1"), "0.0.0.0");
    }

    #[test]
    fn a_quote_that_never_ends_hides_nothing_that_a_proxy_has_added() {
        let trusted = ["127.0.0.1/32"];
        for sent in ["for=127.0.0.1;x=\"", "for=1.2.3.4;x=\"", "for=1.2.3.4;x=\"\\"] {
            for added in ["for=198.51.100.66", "for=\"[2001:db8::7]:1\""] {
                let lines: &[(&str, &[u8])] =
                    &[("forwarded", sent.as_bytes()), ("forwarded", added.as_bytes())];
                assert_eq!(address(&trusted, "127.0.0.1", lines), "0.0.0.0", "{sent} {added}");
            }
        }
        let whole: &[(&str, &[u8])] = &[("forwarded", b"for=1.2.3.4;x=\"a\\\",b\", for=198.51.100.66")];
        assert_eq!(address(&trusted, "127.0.0.1", whole), "198.51.100.66");
    }
}
