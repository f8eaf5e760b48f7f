//! An address that webhooks are posted to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hyper::Uri;
use sha2::{Digest, Sha256};

/// Longest address, in bytes.
const MAX_BYTES: usize = 2048;

/// An address that webhooks are posted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    name: String,
}

/// Why something can be no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is not of the web.
    #[error("is no address of the web: write http://… or https://…")]
    NotOfTheWeb,
    /// Who asks there stands in a place that others see.
    #[error("has a user or a password in it: messages are signed instead")]
    UserInfo,
    /// Part of it is never sent.
    #[error("has a fragment (#…), which is never sent")]
    Fragment,
    /// Nothing is that long.
    #[error("has more than {MAX_BYTES} bytes")]
    TooLong,
    /// It leads to where nobody outside may look.
    #[error(
        "leads to a private address, which is refused: set PAGEROOM_WEBHOOK_ALLOW_PRIVATE=true if it is meant"
    )]
    Private,
}

impl Target {
    /// Checks an address.
    ///
    /// # Errors
    /// When nothing can ever be posted there.
    pub fn new(text: &str, allows_private: bool) -> Result<Self, TargetError> {
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(TargetError::TooLong);
        }
        if text.contains('#') {
            return Err(TargetError::Fragment);
        }
        let uri: Uri = text.parse().map_err(|_| TargetError::NotOfTheWeb)?;
        let authority = uri.authority().ok_or(TargetError::NotOfTheWeb)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
            return Err(TargetError::NotOfTheWeb);
        }
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        if !allows_private && is_private_host(authority.host()) {
            return Err(TargetError::Private);
        }
        let scheme = uri.scheme_str().unwrap_or_default();
        let mut name = format!("{scheme}://{authority}{}", uri.path());
        if let Some(query) = uri.query() {
            // What stands there may be a secret, and names are kept and shown.
            let digest = Sha256::digest(query.as_bytes());
            let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            name = format!("{name}?{digest}");
        }
        Ok(Self { uri, name })
    }

    /// Where to post.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What it is called in the store and to administrators: the address, with a digest in the place of its query.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is called in the log: its host alone.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn is_private_host(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let is_localhost =
        host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    is_localhost || literal.parse().is_ok_and(is_private)
}

/// Whether an address is one that not everybody on the internet reaches: of this host, of a private network, of a link (where clouds tell
/// machines their secrets), or of no host at all. An IPv4 address inside an IPv6 one counts as what it is.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        // This network, loopback, and private ones.
        (0 | 10 | 127, ..) | (172, 16..=31, _) | (192, 168, _) => true,
        // Shared by providers, and of a link.
        (100, 64..=127, _) | (169, 254, _) => true,
        // For protocols, documents, relays, and measurements.
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved, broadcast.
        (224.., ..) => true,
        _ => false,
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4_at = |at: usize| {
        let (high, low) = (segments.get(at), segments.get(at + 1));
        high.zip(low)
            .map(|(high, low)| Ipv4Addr::from((u32::from(*high) << 16) | u32::from(*low)))
    };
    let inside = match segments {
        // Mapped, compatible, and translated (RFC 6052) addresses.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            v4_at(6)
        }
        // 6to4.
        [0x2002, ..] => v4_at(1),
        _ => None,
    };
    match (inside, segments) {
        (Some(inside), _) => is_private_v4(inside),
        // What is routed globally is in 2000::/3, but for Teredo and other protocols, benchmarks, and documents.
        (None, [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..]) => true,
        (None, [0x2000..=0x3fff, ..]) => false,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_known() {
        for (text, private) in [
            ("127.0.0.1", true),
            ("127.255.255.254", true),
            ("0.0.0.0", true),
            ("10.1.2.3", true),
            ("172.15.255.255", false),
            ("172.16.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.169.254", true),
            ("100.63.255.255", false),
            ("100.64.0.1", true),
            ("192.0.2.1", true),
            ("198.18.0.1", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("8.8.8.8", false),
            ("93.184.216.34", false),
            ("::", true),
            ("::1", true),
            ("fe80::1", true),
            ("fec0::1", true),
            ("fd00:ec2::254", true),
            ("fc00::1", true),
            ("ff02::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("::ffff:8.8.8.8", false),
            ("::127.0.0.1", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::808:808", false),
            ("64:ff9b:1::a00:1", true),
            ("2002:7f00:1::", true),
            ("2002:808:808::", false),
            ("2001::1", true),
            ("2001:db8::1", true),
            ("2606:4700:4700::1111", false),
            ("2a00:1450:4001:80b::200e", false),
        ] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(is_private(address), private, "{text}");
        }
    }

    #[test]
    fn what_can_never_be_posted_to_is_refused() {
        for (text, error) in [
            ("", TargetError::NotOfTheWeb),
            ("hooks.example.com", TargetError::NotOfTheWeb),
            ("/hooks", TargetError::NotOfTheWeb),
            ("ftp://hooks.example.com/", TargetError::NotOfTheWeb),
            ("https:///hooks", TargetError::NotOfTheWeb),
            ("https://ada:secret@hooks.example.com/", TargetError::UserInfo),
            ("https://hooks.example.com/#there", TargetError::Fragment),
            ("http://localhost:8080/", TargetError::Private),
            ("http://LOCALHOST./", TargetError::Private),
            ("http://a.localhost/", TargetError::Private),
            ("http://127.0.0.1/", TargetError::Private),
            ("http://[::1]:80/", TargetError::Private),
            ("http://[::ffff:10.0.0.1]/", TargetError::Private),
            ("http://169.254.169.254/latest/meta-data", TargetError::Private),
        ] {
            assert_eq!(Target::new(text, false), Err(error), "{text}");
        }
        let long = format!("https://hooks.example.com/{}", "x".repeat(MAX_BYTES));
        assert_eq!(Target::new(&long, false), Err(TargetError::TooLong));
        assert!(Target::new("http://127.0.0.1:9/hook", true).is_ok());
    }

    #[test]
    fn a_name_shows_no_query() {
        let target =
            Target::new(" https://hooks.example.com:8443/a/b?token=hunter2 ", false).expect("a target");
        assert!(
            target.name().starts_with("https://hooks.example.com:8443/a/b?"),
            "{target:?}"
        );
        assert!(!format!("{target:?}").contains("hunter2"));
        let other = Target::new("https://hooks.example.com:8443/a/b?token=hunter3", false).expect("a target");
        assert_ne!(target.name(), other.name());
        let plain = Target::new("https://hooks.example.com/a", false).expect("a target");
        assert_eq!(
            (plain.name(), plain.host()),
            ("https://hooks.example.com/a", "hooks.example.com")
        );
    }
}
